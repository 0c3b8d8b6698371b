"""When a staging root is too full, how much must go, and which runs."""

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime

from cleanup.rules.policies.policy import Limits


class Cause(enum.StrEnum):
    """Why a sweep takes a run. Causes add up, as in `retention+max_bytes`."""

    RETENTION = "retention"
    MAX_BYTES = "max_bytes"
    MAX_RUNS = "max_runs"
    FREE_SPACE = "free_space"


@dataclass(frozen=True, kw_only=True)
class RootFill:
    """Staged runs of a root, their logical bytes, and free bytes of its disk."""

    staged_bytes: int
    staged_runs: int
    free_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Pressure:
    """What must still be freed."""

    bytes_over: int = 0  # logical
    runs_over: int = 0
    free_wanted: int = 0  # allocated

    @property
    def causes(self) -> tuple[Cause, ...]:
        pairs = (
            (Cause.MAX_BYTES, self.bytes_over),
            (Cause.MAX_RUNS, self.runs_over),
            (Cause.FREE_SPACE, self.free_wanted),
        )
        return tuple(cause for cause, wanted in pairs if wanted > 0)

    def after(self, *, size: int, allocated: int) -> "Pressure":
        return Pressure(
            bytes_over=max(0, self.bytes_over - size),
            runs_over=max(0, self.runs_over - 1),
            free_wanted=max(0, self.free_wanted - allocated),
        )

    @property
    def by_number(self) -> "Pressure":
        """What is left if clearing frees no space."""
        return Pressure(runs_over=self.runs_over)

    @property
    def for_space(self) -> bool:
        return bool(self.bytes_over or self.free_wanted)

    def is_eased_by(self, candidate: "Candidate") -> bool:
        """Files with other links free no space."""
        return bool(
            self.runs_over or (self.bytes_over and candidate.size) or (self.free_wanted and candidate.allocated)
        )

    def __bool__(self) -> bool:
        return bool(self.causes)


def pressure_of(limits: Limits, fill: RootFill, *, going_on: bool) -> Pressure:
    """What a sweep must free. `going_on`: the last one did not finish.

    It begins below `free_start_bytes`, and goes on until `free_stop_bytes` are free. Unknown free space is no pressure.
    """
    free_wanted = 0
    if limits.free_start_bytes is not None and limits.free_stop_bytes is not None and fill.free_bytes is not None:
        begins = fill.free_bytes < limits.free_start_bytes
        if begins or going_on:
            free_wanted = max(0, limits.free_stop_bytes - fill.free_bytes)
    return Pressure(
        bytes_over=0 if limits.max_bytes is None else max(0, fill.staged_bytes - limits.max_bytes),
        runs_over=0 if limits.max_runs is None else max(0, fill.staged_runs - limits.max_runs),
        free_wanted=free_wanted,
    )


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A verified run that the schedule might take; bytes may be old."""

    key: int  # the caller's
    verified_at: datetime
    due: bool  # its retention is over
    eligible: bool  # its time under pressure is over
    rehearsed: bool = False  # only noted, frees nothing
    size: int = 0
    allocated: int = 0
    kept_from: datetime | None = None  # if not its verification
    last: bool = False  # after all others, see `slowness.comes_last`


def in_order(candidates: Iterable[Candidate], *, after: tuple[datetime, int] | None) -> list[Candidate]:
    """Oldest verification first, after the last sweep's rest; `last` ones last.

    `after`: instant and key of the last one handled.
    """
    ordered = sorted(candidates, key=lambda candidate: (candidate.verified_at, candidate.key))
    if after is not None:
        left_over = [candidate for candidate in ordered if (candidate.verified_at, candidate.key) > after]
        ordered = left_over + ordered[: len(ordered) - len(left_over)]
    return sorted(ordered, key=lambda candidate: candidate.last)


@dataclass(frozen=True)
class Taken:
    """Whether a policy lets a run go, by time and under pressure."""

    due: bool
    eligible: bool


class Picker:
    """Which run comes next: all that are due, then no more than needed.

    The caller reports what came of each pick. Rehearsed runs lower only their own pressure. If clearing frees no space
    (`helps`), early runs go only for their number.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        pressure: Pressure,
        *,
        unasked: Pressure | None = None,
        helps: Callable[[], bool] = lambda: True,
    ) -> None:
        self._helps = helps
        self._due = [candidate for candidate in candidates if candidate.due]
        self._others = [candidate for candidate in candidates if candidate.eligible and not candidate.due]
        self._twice = {candidate.key for candidate in candidates if candidate.rehearsed}
        self._twice &= {candidate.key for candidate in candidates if not candidate.rehearsed}
        self.pressure = pressure
        # By whether a run is rehearsed.
        self._expected = {False: pressure if unasked is None else unasked, True: pressure}

    @property
    def is_met(self) -> bool:
        """Even if the disk has not given all of it back yet."""
        return not self._expected[False]

    @property
    def unasked(self) -> Pressure:
        return self._expected[False]

    def __iter__(self) -> Iterator[tuple[Candidate, tuple[Cause, ...]]]:
        had: set[int] = set()
        for candidate, causes in self._in_turn(had, put_off=self._twice):
            had.add(candidate.key)
            yield candidate, causes
        # Approved picks come first: only now it is known which of these have not gone.
        yield from self._in_turn(had, only=self._twice)

    def _in_turn(
        self, had: set[int], *, put_off: AbstractSet[int] = frozenset(), only: AbstractSet[int] | None = None
    ) -> Iterator[tuple[Candidate, tuple[Cause, ...]]]:
        for candidate in (*self._due, *self._others):
            second = candidate.rehearsed and candidate.key in put_off
            if second or (only is not None and not (candidate.rehearsed and candidate.key in only - had)):
                continue
            pressure = self._expected[candidate.rehearsed]
            if candidate.due:
                yield candidate, (Cause.RETENTION, *pressure.causes)
                continue
            if not self._helps():
                pressure = pressure.by_number
            if pressure.is_eased_by(candidate):
                yield candidate, pressure.causes

    def gone(self, candidate: Candidate, *, size: int, allocated: int, freed: int | None = None) -> None:
        """If less was `freed`, no other run goes instead: space may come later."""
        self._expect(candidate, size, allocated)
        if not candidate.rehearsed:
            self.pressure = self.pressure.after(size=size, allocated=allocated if freed is None else freed)

    def left_over(self, candidate: Candidate) -> None:
        """Its turn is later: no other run goes instead."""
        self._expect(candidate, candidate.size, candidate.allocated)

    def _expect(self, candidate: Candidate, size: int, allocated: int) -> None:
        for rehearsed in (True,) if candidate.rehearsed else (True, False):
            self._expected[rehearsed] = self._expected[rehearsed].after(size=size, allocated=allocated)


def candidates_of(candidate: Candidate, taken: "Taken", rehearsed: "Taken | None") -> list[Candidate]:
    """A run as the approved policy takes it, and as a rehearsed one would."""
    found = []
    if taken.due or taken.eligible:
        found.append(replace(candidate, due=taken.due, eligible=taken.eligible))
    if rehearsed is not None and not taken.due and (rehearsed.due or rehearsed.eligible):
        found.append(replace(candidate, due=rehearsed.due, eligible=rehearsed.eligible, rehearsed=True))
    return found
