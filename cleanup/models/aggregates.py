"""Sums of bytes that do not overflow."""

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Aggregate, BigIntegerField, Expression, ExpressionWrapper, F, JSONField, Q, Sum
from django.db.models.sql.compiler import SQLCompiler

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


class JsonList(Aggregate):
    """The values of many rows as one list, in any order; an instant in it is text as the database writes it."""

    function = "JSON_GROUP_ARRAY"
    output_field = JSONField()

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **more: Any) -> Any:  # noqa: ANN401
        """The function by its name there."""
        return self.as_sql(compiler, connection, function="JSONB_AGG", **more)
