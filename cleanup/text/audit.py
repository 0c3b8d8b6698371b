"""How pages say what a report's values mean."""

from datetime import timedelta

from cleanup.ledger import dimensions
from cleanup.ledger.dimensions import Trigger
from cleanup.models import Dimension
from cleanup.text.values import UNKNOWN, duration, sentence, visible

TRIGGERS: dict[str, str] = {
    Trigger.CLICK: "a click on a page",
    Trigger.COMMAND: "a typed command",
    Trigger.SCHEDULE: "automatic clearing: its time was over",
    Trigger.PRESSURE: "automatic clearing: the disk was too full",
}
PROOFS = {
    "checksum": "checksum: every byte was compared",
    "size": "size: names and sizes were compared",
    "record": "record: the wizard's word was trusted",
    "accepted": "accepted: every byte was compared with bytes that an admin accepted",
    "": "no proof is kept",
}


def said(dimension: str, key: str) -> str:
    """A value of a dimension in words."""
    match dimension:
        case Dimension.TRIGGER:
            return TRIGGERS.get(key, visible(key))
        case Dimension.PROOF:
            return PROOFS.get(key, visible(key))
        case Dimension.POLICY:
            return _policy(key)
        case Dimension.REFUSAL:
            return sentence(key) if key else "no reason was written"
        case Dimension.DURATION:
            return bucket(key)
        case Dimension.PERSON if not key:
            return "automatic clearing, no person"
    return visible(key) if key else UNKNOWN


def bucket(key: str) -> str:
    """`at most 30 h`; a bucket has an upper end only."""
    if key == dimensions.UNKNOWN:
        return "not known"
    return within(dimensions.seconds_of(key))


def within(seconds: float | None) -> str:
    """`at most 30 h`; None is beyond the last bucket."""
    return "longer than two years" if seconds is None else f"at most {duration(timedelta(seconds=seconds))}"


def lengths(median: float | None, p90: float | None, *, known: bool) -> str:
    """How long runs were kept after their verification, in words; `known`: of any run."""
    if not known:
        return "not known of any run."
    return f"half of the runs {within(median)}, nine of ten {within(p90)}."


def _policy(key: str) -> str:
    if key.startswith(dimensions.NEWEST):
        newest = key.removeprefix(dimensions.NEWEST)
        return f"not recorded; version {visible(newest)} was the newest" if newest != "0" else "not recorded"
    numbers = key.split("+")
    versions = [number for number in numbers if number != "0"]
    words = f"version{'s' if len(versions) > 1 else ''} {' and '.join(versions)}" if versions else ""
    return " and ".join(part for part in (words, "the default" if "0" in numbers else "") if part)
