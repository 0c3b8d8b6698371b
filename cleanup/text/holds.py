"""How pages say what a hold costs."""

from cleanup.text.values import UNKNOWN, in_units


def byte_days(amount: float | None) -> str:
    """`4.30 GB·days`."""
    return UNKNOWN if amount is None else f"{in_units(round(amount))}·days"


def days(number: float) -> str:
    return f"{number:.1f} days" if number < 10 else f"{number:,.0f} days"
