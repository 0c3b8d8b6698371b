"""Breakers: what is too abnormal for a sweep that nobody watches to go on with."""

import enum
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from cleanup.policy.units import say_count

# Fewer runs than that are never abnormal: in a small lab every sweep is a large share of all.
MIN_RUNS = 20
# A sweep is many times larger than the recent ones when it has so many times the runs or bytes of the largest of them.
TIMES_LARGER = 5
RECENT_SWEEPS = 10
# Clears that failed: so many in a row, or at least so many in a sweep that make up such a share of it.
FAILURES_IN_A_ROW = 3
MIN_FAILURES = 5
FAILURE_SHARE = 0.25
# How far two clocks may differ before one of them is not believed.
CLOCK_TOLERANCE = timedelta(minutes=5)
# A machine may have been off for so long without a person being asked whether its clock is right.
LONGEST_PAUSE = timedelta(days=30)
# What a person let go on may have grown by so much until it goes on.
GROWTH = 1.25


class Kind(enum.StrEnum):
    """What a breaker saw."""

    FAILURES = "failures"
    SIZE = "size"
    SHARE = "share"
    CLOCK = "clock"
    POLICY = "policy"


@dataclass(frozen=True, kw_only=True)
class Sight:
    """One abnormal thing, in words and in numbers; bytes are logical, `seconds` how far ahead a clock has jumped."""

    kind: Kind
    detail: str
    runs: int = 0
    bytes: int = 0
    version: int = 0
    seconds: float = 0

    def as_json(self) -> dict[str, Any]:
        """As a breaker's row keeps it."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What a sweep is about to take: runs and logical bytes, and how many of the runs are due by a fresh policy alone.

    `of_runs` is how many its plan had, where this is what it has taken of it so far. A fresh policy is one under which
    no sweep has run yet, and which was not rehearsed.
    """

    runs: int
    bytes: int
    by_fresh_policy: int = 0
    version: int = 0
    of_runs: int = 0


@dataclass(frozen=True, kw_only=True)
class Clock:
    """A look at the clock: the wall's, and the seconds since this boot, by which a change of the former shows."""

    wall: datetime
    boot_id: str = ""
    boot_seconds: float | None = None


def abnormal(
    planned: Planned, *, recent: Sequence[tuple[int, int]], staged_bytes: int, max_share: float
) -> list[Sight]:
    """What is abnormal about a sweep before it removes anything.

    `recent` are runs and bytes of the latest sweeps that cleared something; `staged_bytes` what the whole root holds.
    """
    if max(planned.runs, planned.of_runs) <= MIN_RUNS:
        return []
    size = _say(planned.runs, planned.bytes)
    found = []
    if recent:
        most_runs, most_bytes = max(runs for runs, _size in recent), max(size for _runs, size in recent)
        if planned.runs > TIMES_LARGER * most_runs or planned.bytes > TIMES_LARGER * most_bytes:
            detail = f"It would clear {size}; the largest recent sweep cleared {_say(most_runs, most_bytes)}."
            found.append(Sight(kind=Kind.SIZE, detail=detail, runs=planned.runs, bytes=planned.bytes))
    if planned.bytes > max_share * staged_bytes:
        detail = f"It would clear {size}: more than {max_share:.0%} of the {staged_bytes:,} bytes that are staged."
        found.append(Sight(kind=Kind.SHARE, detail=detail, runs=planned.runs, bytes=planned.bytes))
    if planned.by_fresh_policy > MIN_RUNS:
        detail = (
            f"{planned.by_fresh_policy} of {planned.runs} runs are due by a policy that is new since the last sweep "
            f"and was not rehearsed (version {planned.version})."
        )
        found.append(Sight(kind=Kind.POLICY, detail=detail, runs=planned.by_fresh_policy, version=planned.version))
    return found


def clock_jump(before: Clock | None, after: Clock) -> Sight | None:
    """Whether the clock has jumped between two sweeps: back, away from the time since boot, or months ahead."""
    if before is None:
        return None
    passed = after.wall - before.wall
    if passed < -CLOCK_TOLERANCE:
        detail = f"The clock stands {_words(-passed)} before the last sweep."
        return Sight(kind=Kind.CLOCK, detail=detail, seconds=passed.total_seconds())
    same_boot = after.boot_id != "" and after.boot_id == before.boot_id
    if same_boot and before.boot_seconds is not None and after.boot_seconds is not None:
        really = timedelta(seconds=after.boot_seconds - before.boot_seconds)
        if abs(passed - really) > CLOCK_TOLERANCE:
            detail = f"The clock says that {_words(passed)} have passed since the last sweep; it was {_words(really)}."
            return Sight(kind=Kind.CLOCK, detail=detail, seconds=(passed - really).total_seconds())
    elif passed > LONGEST_PAUSE:
        detail = f"The clock stands {_words(passed)} after the last sweep: is it right?"
        return Sight(kind=Kind.CLOCK, detail=detail, seconds=passed.total_seconds())
    return None


def too_many_failures(outcomes: Sequence[bool]) -> Sight | None:
    """Whether clears fail in a row, or too many of them. `outcomes` are those of one sweep, True for a failure.

    Refusals are no outcomes: they are the gates at work.
    """
    failures = sum(outcomes)
    if len(outcomes) >= FAILURES_IN_A_ROW and all(outcomes[-FAILURES_IN_A_ROW:]):
        return Sight(kind=Kind.FAILURES, detail=f"{FAILURES_IN_A_ROW} clears in a row have failed.", runs=failures)
    if failures >= MIN_FAILURES and failures >= FAILURE_SHARE * len(outcomes):
        return Sight(kind=Kind.FAILURES, detail=f"{failures} of {len(outcomes)} clears have failed.", runs=failures)
    return None


def allows(approved: Sequence[Sight], seen: Sight) -> bool:
    """Whether what a person let go on covers what is seen now: the same kind, and not much more of it."""
    for sight in approved:
        if sight.kind is not seen.kind:
            continue
        if sight.kind is Kind.FAILURES or _is_no_larger_jump(sight, seen):
            return True
        if sight.kind is Kind.CLOCK:
            continue
        if sight.kind is Kind.POLICY and seen.version != sight.version:
            continue
        if seen.runs <= GROWTH * sight.runs and seen.bytes <= GROWTH * sight.bytes:
            return True
    return False


def _is_no_larger_jump(approved: Sight, seen: Sight) -> bool:
    """Whether a clock has jumped the same way, and not much farther."""
    if seen.kind is not Kind.CLOCK or approved.seconds * seen.seconds <= 0:
        return False
    tolerance = max((GROWTH - 1) * abs(approved.seconds), CLOCK_TOLERANCE.total_seconds())
    return abs(seen.seconds) <= abs(approved.seconds) + tolerance


def _say(runs: int, size: int) -> str:
    return f"{say_count(runs, 'run')}, {say_count(size, 'byte')}"


def _words(span: timedelta) -> str:
    hours = span / timedelta(hours=1)
    return f"{hours / 24:.1f} days" if abs(hours) >= 48 else f"{hours:.1f} hours"
