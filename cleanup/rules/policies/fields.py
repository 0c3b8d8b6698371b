"""The fields of a policy, in one table."""

import enum
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from cleanup.rules.policies.policy import (
    DEFAULT_BUDGET_RUNS,
    DEFAULT_MAX_SHARE,
    DEFAULT_RETAIN_HOURS,
    Beyond,
    Mode,
    ProofLevel,
)
from cleanup.rules.quantities import parse_bytes, parse_count, parse_hours, parse_minutes, parse_share


class FieldKind(enum.Enum):
    """What a field's value is; all but a choice are numbers."""

    CHOICE = enum.auto()
    HOURS = enum.auto()
    MINUTES = enum.auto()
    BYTES = enum.auto()
    COUNT = enum.auto()
    SHARE = enum.auto()


class Level(enum.Enum):
    """A field is set for runs, for a root, or for sweeps (also lab-wide)."""

    RUN = enum.auto()
    ROOT = enum.auto()
    SWEEP = enum.auto()


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of a policy version; None leaves it to wider scopes."""

    name: str
    kind: FieldKind
    level: Level
    label: str
    takes: bool = False  # it may change what the schedule takes: a looser value is rehearsed first
    choices: tuple[Any, ...] = ()  # the loosest first; of numbers a larger one keeps more, unless `less_keeps_more`
    less_keeps_more: bool = False
    default: Any = None
    unset_keeps: float = math.inf  # how much None keeps without a `default`
    keeps_all: Any = None  # no value is stricter than this one

    def keeps(self, value: Any) -> float:  # noqa: ANN401
        """Larger if the value keeps more."""
        value = self.default if value is None else value
        if value is None:
            return self.unset_keeps
        if self.choices:
            return self.choices.index(value)
        number: float = value
        return -number if self.less_keeps_more else number

    def is_stricter(self, before: Any, after: Any) -> bool:  # noqa: ANN401
        """Whether `after` can only keep more. Unset is unknown; a root's unset limit is none."""
        if after is None:
            return self.level is Level.ROOT
        if self.keeps_all is not None and after == self.keeps_all:
            return True
        return before is not None and self.keeps(after) >= self.keeps(before)


FIELDS = (
    Field(
        name="mode",
        kind=FieldKind.CHOICE,
        level=Level.RUN,
        label="Mode",
        takes=True,
        choices=(Mode.SCHEDULED, Mode.MANUAL),
        default=Mode.MANUAL,
        keeps_all=Mode.MANUAL,
    ),
    Field(
        name="retain_hours",
        kind=FieldKind.HOURS,
        level=Level.RUN,
        label="Kept after the verification",
        takes=True,
        default=DEFAULT_RETAIN_HOURS,
    ),
    Field(
        name="proof",
        kind=FieldKind.CHOICE,
        level=Level.RUN,
        label="Proof",
        takes=True,
        choices=tuple(ProofLevel),
        default=ProofLevel.CHECKSUM,
    ),
    Field(
        name="only_here",
        kind=FieldKind.CHOICE,
        level=Level.RUN,
        label="Attributes and empty folders that the NAS lacks",
        takes=True,
        choices=(Beyond.TELL, Beyond.BLOCK),
        default=Beyond.TELL,
        keeps_all=Beyond.BLOCK,
    ),
    # Unset, a run is kept under pressure for as long as otherwise.
    Field(
        name="min_retain_hours",
        kind=FieldKind.HOURS,
        level=Level.RUN,
        label="Kept at least, where the disk is too full",
        takes=True,
    ),
    Field(
        name="stalled_after_hours",
        kind=FieldKind.HOURS,
        level=Level.RUN,
        label="Called stalled after",
        unset_keeps=0.0,
    ),
    Field(
        name="max_bytes",
        kind=FieldKind.BYTES,
        level=Level.ROOT,
        label="Too full above this size of staged runs",
        takes=True,
    ),
    Field(
        name="max_runs",
        kind=FieldKind.COUNT,
        level=Level.ROOT,
        label="Too full above this number of staged runs",
        takes=True,
    ),
    Field(
        name="free_start_bytes",
        kind=FieldKind.BYTES,
        level=Level.ROOT,
        label="Too full with less free space than",
        takes=True,
        less_keeps_more=True,
    ),
    Field(
        name="free_stop_bytes",
        kind=FieldKind.BYTES,
        level=Level.ROOT,
        label="and until this size is free",
        takes=True,
        less_keeps_more=True,
    ),
    Field(
        name="budget_runs",
        kind=FieldKind.COUNT,
        level=Level.SWEEP,
        label="Runs that one pass takes at most",
        less_keeps_more=True,
        default=DEFAULT_BUDGET_RUNS,
    ),
    Field(
        name="budget_bytes",
        kind=FieldKind.BYTES,
        level=Level.SWEEP,
        label="Bytes that one pass takes at most",
        less_keeps_more=True,
        unset_keeps=-math.inf,
    ),
    Field(
        name="budget_minutes",
        kind=FieldKind.MINUTES,
        level=Level.SWEEP,
        label="One pass begins nothing more after",
        less_keeps_more=True,
        unset_keeps=-math.inf,
    ),
    Field(
        name="max_share",
        kind=FieldKind.SHARE,
        level=Level.SWEEP,
        label="Stops and asks above this share of the staged bytes in a day",
        less_keeps_more=True,
        default=DEFAULT_MAX_SHARE,
    ),
)

FIELD: Mapping[str, Field] = MappingProxyType({field.name: field for field in FIELDS})
# In display order.
NAMES = tuple(FIELD)
LABELS: Mapping[str, str] = MappingProxyType({field.name: field.label for field in FIELDS})
RUN_FIELDS = tuple(field.name for field in FIELDS if field.level is Level.RUN)
ROOT_FIELDS = tuple(field.name for field in FIELDS if field.level is Level.ROOT)
SWEEP_FIELDS = tuple(field.name for field in FIELDS if field.level is Level.SWEEP)
# Why a narrower scope has none of these.
NOT_SO_NARROW = "The limits of a pass are set for a staging root, or for the whole lab."
# Changes of other fields need no rehearsal.
TAKING_FIELDS = tuple(field.name for field in FIELDS if field.takes)
CHOSEN = tuple(field.name for field in FIELDS if field.kind is FieldKind.CHOICE)
# Attempts, ledger and sweeps store who decided these.
TOLD_FIELDS = ("mode", "retain_hours", "proof")
# Each raises ValueError with a sentence.
_READERS: dict[FieldKind, Callable[[str], float]] = {
    FieldKind.HOURS: parse_hours,
    FieldKind.MINUTES: parse_minutes,
    FieldKind.BYTES: parse_bytes,
    FieldKind.COUNT: parse_count,
    FieldKind.SHARE: parse_share,
}
# `rehearsal_nights` belongs to a version, not to a policy.
READERS: Mapping[str, Callable[[str], float]] = MappingProxyType(
    {field.name: _READERS[field.kind] for field in FIELDS if field.kind in _READERS} | {"rehearsal_nights": parse_count}
)


def names_near(name: str, known: Iterable[str]) -> list[str]:
    """Known names that resemble an unknown one, else the first five."""
    names = list(known)
    return get_close_matches(name, names) or names[:5]
