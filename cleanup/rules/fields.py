"""What people type of a policy, on the command line or in a form: how each field is read, and names that are near."""

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType

from cleanup.rules.quantities import parse_bytes, parse_count, parse_hours, parse_minutes, parse_share

# A field of a version, and what reads it: raises ValueError with a sentence.
READERS: Mapping[str, Callable[[str], float]] = MappingProxyType(
    {
        "retain_hours": parse_hours,
        "min_retain_hours": parse_hours,
        "stalled_after_hours": parse_hours,
        "max_bytes": parse_bytes,
        "max_runs": parse_count,
        "free_start_bytes": parse_bytes,
        "free_stop_bytes": parse_bytes,
        "budget_runs": parse_count,
        "budget_bytes": parse_bytes,
        "budget_minutes": parse_minutes,
        "max_share": parse_share,
        "rehearsal_nights": parse_count,
    }
)


def names_near(name: str, known: Iterable[str]) -> list[str]:
    """The known names that resemble one that nobody knows; if none does, the first of them."""
    names = list(known)
    return get_close_matches(name, names) or names[:5]
