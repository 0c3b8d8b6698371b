"""Anomalies: what is too abnormal, in one sweep or within a day, for a sweep without a person to go on."""

import enum
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cleanup.rules.quantities import say_about, say_count

# No more runs than that are never abnormal: in a small lab every sweep is a large share of all.
MIN_RUNS = 20
# By this factor a sweep exceeds the runs or bytes of the largest of the recent ones when it is called far larger.
TIMES_LARGER = 5
RECENT_SWEEPS = 10
# What passes took by themselves is added up over so long: a day, but for the minute by which a daily pass may be early.
WINDOW = timedelta(days=1) - timedelta(minutes=1)
# The number of clears that fail in a row; or the number in one sweep, together with their share of it.
FAILURES_IN_A_ROW = 3
MIN_FAILURES = 5
FAILURE_SHARE = 0.25
# How far two clocks may differ before one of them is not believed.
CLOCK_TOLERANCE = timedelta(minutes=5)
# The jump of a clock that a person let go on may have grown by so much until it goes on.
GROWTH = 1.25


class AnomalyKind(enum.StrEnum):
    """What a breaker saw."""

    FAILURES = "failures"
    SIZE = "size"
    SHARE = "share"
    CLOCK = "clock"
    POLICY = "policy"

    @property
    def counts(self) -> bool:
        """Whether it counts runs: then a go-on covers the runs that it showed, and no others."""
        return self in (AnomalyKind.SIZE, AnomalyKind.SHARE, AnomalyKind.POLICY)


@dataclass(frozen=True, kw_only=True)
class Anomaly:
    """One abnormal thing, in words and numbers; bytes are logical, `seconds` a clock's jump ahead."""

    kind: AnomalyKind
    detail: str
    runs: int = 0
    bytes: int = 0
    version: int = 0
    seconds: float = 0

    def as_json(self) -> dict[str, Any]:
        """As a breaker's row keeps it."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class PlannedSweep:
    """What a sweep is about to take: runs, logical bytes, and how many runs are due by a fresh policy alone.

    A policy is fresh if no sweep has run under it and it was not rehearsed. `of_runs`: how many the whole plan had,
    where this is what was taken so far. `passing_*` came in and were verified after the day that is looked at had
    begun.
    """

    runs: int
    bytes: int
    by_fresh_policy: int = 0
    version: int = 0
    of_runs: int = 0
    passing_runs: int = 0
    passing_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Day:
    """What sweeps took by themselves in the 24 hours before this one, in runs and logical bytes.

    What a person asked for, or let go on, does not count. `passing_*` as of what is planned. `staged_*`: what was there
    24 hours ago, None if unknown. `earlier`: runs and bytes of the latest days before that on which sweeps cleared
    something.
    """

    runs: int = 0
    bytes: int = 0
    passing_runs: int = 0
    passing_bytes: int = 0
    staged_runs: int | None = None
    staged_bytes: int | None = None
    earlier: Sequence[tuple[int, int]] = field(default=())


@dataclass(frozen=True, kw_only=True)
class Clock:
    """A look at the clock: wall time, and seconds since this boot."""

    wall: datetime
    boot_id: str = ""
    boot_seconds: float | None = None


NO_DAY = Day()


def abnormal(
    planned: PlannedSweep,
    *,
    recent: Sequence[tuple[int, int]],
    staged_bytes: int,
    max_share: float,
    day: Day = NO_DAY,
) -> list[Anomaly]:
    """What is abnormal about a sweep before it removes anything, alone or together with the day before it.

    `recent`: runs and bytes of the latest sweeps that cleared something. `staged_bytes`: what the whole root holds.
    """
    crowd = max(planned.runs, planned.of_runs) > MIN_RUNS
    size = _size_of_day(planned, day) or (_size(planned, recent) if crowd else "")
    share = _share_of_day(planned, day, staged_bytes, max_share)
    share = share or (_share(planned, staged_bytes, max_share) if crowd else "")
    found = [
        Anomaly(kind=kind, detail=detail, runs=planned.runs, bytes=planned.bytes)
        for kind, detail in ((AnomalyKind.SIZE, size), (AnomalyKind.SHARE, share))
        if detail
    ]
    if crowd and planned.by_fresh_policy > MIN_RUNS:
        detail = (
            f"{planned.by_fresh_policy} of {planned.runs} runs are due by a policy that is new since the last pass "
            f"and was not rehearsed (version {planned.version})."
        )
        found.append(
            Anomaly(kind=AnomalyKind.POLICY, detail=detail, runs=planned.by_fresh_policy, version=planned.version)
        )
    return found


def elapsed(before: Clock, after: Clock) -> timedelta:
    """How much time has passed between two looks at the clock; never less than none.

    Within one boot it is the time since boot, which no person can set: a clock that is set ahead ends no day.
    """
    same_boot = after.boot_id != "" and after.boot_id == before.boot_id
    if same_boot and before.boot_seconds is not None and after.boot_seconds is not None:
        passed = timedelta(seconds=after.boot_seconds - before.boot_seconds)
    else:
        passed = after.wall - before.wall
    return max(passed, timedelta(0))


def too_many_failures(outcomes: Sequence[bool]) -> Anomaly | None:
    """Whether clears fail in a row, or too many of them. `outcomes` are those of one sweep, True for a failure.

    Refusals are no outcomes.
    """
    failures = sum(outcomes)
    if len(outcomes) >= FAILURES_IN_A_ROW and all(outcomes[-FAILURES_IN_A_ROW:]):
        return Anomaly(
            kind=AnomalyKind.FAILURES, detail=f"{FAILURES_IN_A_ROW} clears in a row have failed.", runs=failures
        )
    if failures >= MIN_FAILURES and failures >= FAILURE_SHARE * len(outcomes):
        return Anomaly(
            kind=AnomalyKind.FAILURES, detail=f"{failures} of {len(outcomes)} clears have failed.", runs=failures
        )
    return None


def allows(approved: Sequence[Anomaly], seen: Anomaly) -> bool:
    """Whether a go-on of a person covers a condition that is seen now: clears that fail, or a jump of the clock.

    Conditions that count runs are covered by the runs that were shown, see `rules.shown`.
    """
    return any(
        sight.kind is seen.kind and (sight.kind is AnomalyKind.FAILURES or _is_no_larger_jump(sight, seen))
        for sight in approved
    )


def _is_no_larger_jump(approved: Anomaly, seen: Anomaly) -> bool:
    """Whether a clock has jumped the same way, and not much farther."""
    if seen.kind is not AnomalyKind.CLOCK or approved.seconds * seen.seconds <= 0:
        return False
    tolerance = max((GROWTH - 1) * abs(approved.seconds), CLOCK_TOLERANCE.total_seconds())
    return abs(seen.seconds) <= abs(approved.seconds) + tolerance


def _size(planned: PlannedSweep, recent: Sequence[tuple[int, int]]) -> str:
    """Why one sweep is many times larger than the recent ones; empty if it is not."""
    if not recent:
        return ""
    most_runs, most_bytes = _largest(recent)
    if planned.runs <= TIMES_LARGER * most_runs and planned.bytes <= TIMES_LARGER * most_bytes:
        return ""
    size, most = _say(planned.runs, planned.bytes), _say(most_runs, most_bytes)
    return f"It would clear {size}; the largest recent pass cleared {most}."


def _size_of_day(planned: PlannedSweep, day: Day) -> str:
    runs, size = day.runs + planned.runs, day.bytes + planned.bytes
    if not (day.runs and day.earlier) or runs <= MIN_RUNS:
        return ""
    most_runs, most_bytes = _largest(day.earlier)
    if runs <= TIMES_LARGER * most_runs and size <= TIMES_LARGER * most_bytes:
        return ""
    most = _say_about(most_runs, most_bytes)
    return f"{_say_day(planned, day)} would make {_say_about(runs, size)}; the largest recent day had {most}."


def _share(planned: PlannedSweep, staged_bytes: int, max_share: float) -> str:
    """Why one sweep takes too large a share of what is staged; empty if it does not."""
    if planned.bytes <= max_share * staged_bytes:
        return ""
    size = _say(planned.runs, planned.bytes)
    return f"It would clear {size}: more than {max_share:.0%} of the {staged_bytes:,} bytes that are staged."


def _share_of_day(planned: PlannedSweep, day: Day, staged_bytes: int, max_share: float) -> str:
    """The same of a day, measured by what was there when it began."""
    if not day.runs:
        return ""  # it is of this pass alone
    runs = day.runs - day.passing_runs + planned.runs - planned.passing_runs
    size = day.bytes - day.passing_bytes + planned.bytes - planned.passing_bytes
    there = staged_bytes + day.bytes if day.staged_bytes is None else day.staged_bytes
    if runs <= MIN_RUNS or size <= max_share * there:
        return ""
    of_runs = "" if day.staged_runs is None else f" of {day.staged_runs:,}"
    return (
        f"{_say_day(planned, day)} would make {runs:,}{of_runs} ({say_about(size)} of {say_about(there)}), "
        f"more than {max_share:.0%} of the bytes."
    )


def _largest(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return max(runs for runs, _size in sizes), max(size for _runs, size in sizes)


def _say_day(planned: PlannedSweep, day: Day) -> str:
    """How the sentence about a day begins: what went in it, and what is about to."""
    before = f"In the last 24 hours {_say_about(day.runs, day.bytes)} went unasked"
    these = "this one" if planned.runs == 1 else f"these {planned.runs:,}"
    return f"{before}; {these} ({say_about(planned.bytes)})"


def _say_about(runs: int, size: int) -> str:
    return f"{say_count(runs, 'run')} ({say_about(size)})"


def _say(runs: int, size: int) -> str:
    return f"{say_count(runs, 'run')}, {say_count(size, 'byte')}"
