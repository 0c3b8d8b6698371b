"""Sums of bytes that do not overflow."""

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import (
    Aggregate,
    BigIntegerField,
    Expression,
    ExpressionWrapper,
    F,
    Field,
    Func,
    JSONField,
    Q,
    Sum,
)
from django.db.models.sql.compiler import SQLCompiler

_HALF = 32


def bytes_sum(
    column: str | Expression, *, filter: Q | None = None, default: int | None = None
) -> "ExpressionWrapper[Any]":
    """The sum of a column of bytes; None, or the default, without rows.

    Sparse files may claim exabytes, and SQLite fails beyond 63 bits: halves are added up apart. There a larger sum is
    rounded: see `exact_bytes_sum`.
    """
    upper, lower = _halves(column, filter, default)
    return ExpressionWrapper(upper * (1 << _HALF) + lower, output_field=BigIntegerField())


def exact_bytes_sum(column: str | Expression, *, filter: Q | None = None, default: int | None = None) -> "Func":
    """The same, exact at any size; the database can neither compare nor sort it."""
    return _JoinedHalves(*_halves(column, filter, default))


def _halves(column: str | Expression, filter: Q | None, default: int | None) -> tuple[Any, Any]:
    value: Any = F(column) if isinstance(column, str) else column
    upper = Sum(value.bitrightshift(_HALF), filter=filter, default=default, output_field=BigIntegerField())
    lower = Sum(value.bitand((1 << _HALF) - 1), filter=filter, default=default, output_field=BigIntegerField())
    return upper, lower


class _Halves(Field):  # type: ignore[type-arg]
    """Reads what `_JoinedHalves` gives."""

    def from_db_value(self, value: Any, *_of: Any) -> int | None:  # noqa: ANN401
        if isinstance(value, str):
            upper, lower = value.split()
            return (int(upper) << _HALF) + int(lower)
        return None if value is None else int(value)


class _JoinedHalves(Func):
    """PostgreSQL's sums are exact; SQLite hands out both halves, and Python joins them."""

    template = "(%(expressions)s)"
    arg_joiner = f" * {1 << _HALF} + "
    output_field = _Halves()

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **more: Any) -> Any:  # noqa: ANN401
        """Both halves as text."""
        return self.as_sql(compiler, connection, arg_joiner=" || ' ' || ", **more)


class JsonList(Aggregate):
    """The values of many rows as one list, in any order; an instant in it is text as the database writes it."""

    function = "JSON_GROUP_ARRAY"
    output_field = JSONField()

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **more: Any) -> Any:  # noqa: ANN401
        """The function by its name there."""
        return self.as_sql(compiler, connection, function="JSONB_AGG", **more)
