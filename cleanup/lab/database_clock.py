"""The database's clock: one clock for all hosts that share it."""

from datetime import UTC, datetime

from django.db import connection


def read() -> datetime:
    """Return the present instant by the database."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT statement_timestamp()")
            return _aware(cursor.fetchone()[0])
        cursor.execute("SELECT strftime('%%Y-%%m-%%dT%%H:%%M:%%f', 'now')", [])
        return _aware(datetime.fromisoformat(cursor.fetchone()[0]))


def _aware(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
