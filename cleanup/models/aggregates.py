"""Sums of bytes that do not overflow."""

from typing import Any

from django.db.models import BigIntegerField, Expression, ExpressionWrapper, F, Q, Sum

_HALF = 32


def bytes_sum(
    column: str | Expression, *, filter: Q | None = None, default: int | None = None
) -> "ExpressionWrapper[Any]":
    """The sum of a column of bytes; None, or the default, without rows.

    Sparse files may claim exabytes, and SQLite fails beyond 63 bits: halves are added up apart.
    """
    value: Any = F(column) if isinstance(column, str) else column
    upper = Sum(value.bitrightshift(_HALF), filter=filter, default=default, output_field=BigIntegerField())
    lower = Sum(value.bitand((1 << _HALF) - 1), filter=filter, default=default, output_field=BigIntegerField())
    return ExpressionWrapper(upper * (1 << _HALF) + lower, output_field=BigIntegerField())
