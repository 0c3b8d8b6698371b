"""Anomalies stop the sweeps until an operator looks."""

import enum
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cleanup.rules.quantities import say_about, say_count

# Not more than these are never abnormal: in a small lab every sweep is a large share.
MIN_RUNS = 20
# Times the runs or bytes of the largest recent sweep.
TIMES_LARGER = 5
RECENT_SWEEPS = 10
# Less than a day, because a daily pass may be a minute early.
WINDOW = timedelta(days=1) - timedelta(minutes=1)
# In a row; or in one sweep, with their share of it.
FAILURES_IN_A_ROW = 3
MIN_FAILURES = 5
FAILURE_SHARE = 0.25
# How far two clocks may differ before one of them is not believed.
CLOCK_TOLERANCE = timedelta(minutes=5)
# A clock jump may grow by this factor between the go-on and the sweep.
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
        """A go-on covers only the runs that were shown."""
        return self in (AnomalyKind.SIZE, AnomalyKind.SHARE, AnomalyKind.POLICY)


@dataclass(frozen=True, kw_only=True)
class Anomaly:
    """One abnormal thing; bytes are logical, `seconds` is a clock's jump ahead."""

    kind: AnomalyKind
    detail: str
    runs: int = 0
    bytes: int = 0
    version: int = 0
    seconds: float = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class PlannedSweep:
    """What a sweep is about to take; bytes are logical."""

    runs: int
    bytes: int
    by_fresh_policy: int = 0  # due only by a policy that no sweep has used and that was not rehearsed
    version: int = 0
    of_runs: int = 0  # the whole plan, if `runs` is what was taken so far
    passing_runs: int = 0  # came in and were verified since the day began
    passing_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Day:
    """What sweeps took unasked in the 24 hours before, in runs and logical bytes."""

    runs: int = 0
    bytes: int = 0
    passing_runs: int = 0  # as in PlannedSweep
    passing_bytes: int = 0
    staged_runs: int | None = None  # what was there 24 hours ago; None: unknown
    staged_bytes: int | None = None
    earlier: Sequence[tuple[int, int]] = field(default=())  # runs and bytes of the latest days before with clears


@dataclass(frozen=True, kw_only=True)
class Clock:
    """A look at the clock: wall time, and seconds since boot."""

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
    """What is abnormal about a sweep, alone or with the day before.

    `recent`: runs and bytes of the latest sweeps that cleared. `staged_bytes`: of the whole root.
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
    """The time between two looks, at least zero.

    Within one boot by the seconds since boot, which no user can set: a clock set ahead ends no day.
    """
    same_boot = after.boot_id != "" and after.boot_id == before.boot_id
    if same_boot and before.boot_seconds is not None and after.boot_seconds is not None:
        passed = timedelta(seconds=after.boot_seconds - before.boot_seconds)
    else:
        passed = after.wall - before.wall
    return max(passed, timedelta(0))


def too_many_failures(outcomes: Sequence[bool]) -> Anomaly | None:
    """The anomaly if clears fail in a row or too often.

    `outcomes` without refusals: True for a failure.
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
    """Whether a go-on covers failing clears or a clock jump.

    For other kinds see `rules.breaker_question`.
    """
    return any(
        sight.kind is seen.kind and (sight.kind is AnomalyKind.FAILURES or _is_no_larger_jump(sight, seen))
        for sight in approved
    )


def _is_no_larger_jump(approved: Anomaly, seen: Anomaly) -> bool:
    if seen.kind is not AnomalyKind.CLOCK or approved.seconds * seen.seconds <= 0:
        return False
    tolerance = max((GROWTH - 1) * abs(approved.seconds), CLOCK_TOLERANCE.total_seconds())
    return abs(seen.seconds) <= abs(approved.seconds) + tolerance


def _size(planned: PlannedSweep, recent: Sequence[tuple[int, int]]) -> str:
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
    if planned.bytes <= max_share * staged_bytes:
        return ""
    size = _say(planned.runs, planned.bytes)
    return f"It would clear {size}: more than {max_share:.0%} of the {staged_bytes:,} bytes that are staged."


def _share_of_day(planned: PlannedSweep, day: Day, staged_bytes: int, max_share: float) -> str:
    if not day.runs:
        return ""  # `_share` judges this pass alone
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
    before = f"In the last 24 hours {_say_about(day.runs, day.bytes)} went unasked"
    these = "this one" if planned.runs == 1 else f"these {planned.runs:,}"
    return f"{before}; {these} ({say_about(planned.bytes)})"


def _say_about(runs: int, size: int) -> str:
    return f"{say_count(runs, 'run')} ({say_about(size)})"


def _say(runs: int, size: int) -> str:
    return f"{say_count(runs, 'run')}, {say_count(size, 'byte')}"
