"""How pages say what a hold costs."""

from cleanup.text.values import UNKNOWN, in_units


def byte_days(amount: float | None) -> str:
    """`4.30 GB·days`: bytes times the days that they were held."""
    return UNKNOWN if amount is None else f"{in_units(round(amount))}·days"


def days(number: float) -> str:
    """`0.2 days`, `12 days`: how long a hold has lasted."""
    return f"{number:.1f} days" if number < 10 else f"{number:,.0f} days"
