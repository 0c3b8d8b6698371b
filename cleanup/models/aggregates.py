"""Sums of bytes that no size on a disk can break."""

from typing import Any

from django.db.models import BigIntegerField, Expression, ExpressionWrapper, F, Q, Sum

_HALF = 32


def bytes_sum(
    column: str | Expression, *, filter: Q | None = None, default: int | None = None
) -> "ExpressionWrapper[Any]":
    """The sum of a column of byte counts; None, or the default, where there are no rows.

    A sparse file may claim exabytes, and SQLite fails where the sum of two such leaves 63 bits. So the upper and the
    lower half of the numbers are added up apart: exact up to 9 EB, about right beyond, and never a failure.
    """
    value: Any = F(column) if isinstance(column, str) else column
    upper = Sum(value.bitrightshift(_HALF), filter=filter, default=default, output_field=BigIntegerField())
    lower = Sum(value.bitand((1 << _HALF) - 1), filter=filter, default=default, output_field=BigIntegerField())
    return ExpressionWrapper(upper * (1 << _HALF) + lower, output_field=BigIntegerField())
