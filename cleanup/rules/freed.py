"""What removals gave back to the disk, in words."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from cleanup.rules.quantities import say_about

# Less than this share of what was removed is next to nothing.
NEXT_TO_NOTHING = 0.1
# Directories and metadata count on one side only.
EVERYTHING = 0.9
# Fewer removed bytes say nothing of the disk.
TELLING_BYTES = 100_000_000


class Unmeasured(enum.StrEnum):
    """Why it is unknown what a removal gave back."""

    sentence: str

    def __new__(cls, code: str, sentence: str = "") -> "Unmeasured":
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        return member

    OVERLAPPED = "overlapped", "another run was removed on this disk at the same time"
    FELL = "fell", "free space fell meanwhile, so other files were written"
    MORE = "more", "more space came free than this run held, so other files were removed"
    SMALL = "small", "too little was removed to tell it from what other programs write"
    SLOW = "slow", "the disk was still writing when it had been waited for long enough"
    INTERRUPTED = "interrupted", "the removal was interrupted, and only a part of it could be watched"
    UNKNOWN = "unknown", "the disk could not be asked how full it is"


@dataclass(frozen=True)
class Freed:
    """Allocated bytes removed, and how many the disk gave back."""

    allocated: int
    measured: int

    @property
    def is_next_to_nothing(self) -> bool:
        return self.measured < NEXT_TO_NOTHING * self.allocated

    def __str__(self) -> str:
        return f"{say_about(self.allocated)} removed, {say_about(self.measured)} freed"


def say_freed(allocated: int, measured: int | None, why: str = "") -> str:
    """`104.9 MB removed, 0 B freed: a snapshot may still hold them`; empty if unknown. `why`: an `Unmeasured` code."""
    if measured is None:
        known = why in set(Unmeasured)
        return f"What the disk gave back is not measurable: {Unmeasured(why).sentence}" if known else ""
    freed = Freed(allocated, measured)
    if measured >= EVERYTHING * allocated:
        return str(freed)
    if freed.is_next_to_nothing:
        return f"{freed}: a snapshot may still hold them"
    return f"{freed}: the rest may be compressed, shared with copies or held by a snapshot"


def say_fill(size: int | None, free_before: int | None, free_after: int | None) -> str:
    """`100 % → 34 %`: how full a disk was before and after; empty if unknown."""
    if not size or free_before is None or free_after is None:
        return ""
    before, after = (round(100 * max(size - free, 0) / size) for free in (free_before, free_after))
    return f"{before} % → {after} %"


def frees_nothing(clears: Iterable[Freed]) -> Freed | None:
    """What the latest clears removed, if next to nothing was freed.

    `clears`: the latest first. None if clearing frees space, or below 100 MB.
    """
    allocated = measured = 0
    for one in clears:
        allocated += one.allocated
        measured += one.measured
        if allocated >= TELLING_BYTES:
            total = Freed(allocated, measured)
            return total if total.is_next_to_nothing else None
    return None
