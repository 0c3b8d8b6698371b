"""Explorers: they lead a clear into every trouble of one kind, one point after the other, and collect what breaks.

Each returns how many points it has explored and the violations that it found. `limit` ends it at so many violations:
for a planted fault the first is enough.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from cleanup import clearing, queueing, recovery
from cleanup.models import ClearAttempt, Requester
from tests.faults.invariants import (
    Violation,
    at_every_moment,
    in_power_failure,
    violations,
    when_looked_at_again,
    when_settled,
)
from tests.faults.seam import Act, Killed, Lost, Operation, Seam, let
from tests.faults.stage import LATER, Stage

NEVER = 1_000_000


@dataclass
class Explored:
    """How many points of one kind were explored, and what was found there."""

    kind: str
    points: int = 0
    violations: list[Violation] = field(default_factory=list)
    limit: int = NEVER

    def add(self, found: list[Violation]) -> None:
        self.points += 1
        self.violations += found

    @property
    def enough(self) -> bool:
        return len(self.violations) >= self.limit


def new_attempt(stage: Stage) -> ClearAttempt:
    """A queued attempt on the stage's run, so late that it reads every byte anew."""
    now = stage.next_attempt()
    return queueing.new_attempt(stage.subject.run, requester=Requester.OPERATOR, actor="ada", now=now)


def clear(stage: Stage, act: Act = let, *, power: bool = False) -> Seam:
    """Let a worker clear the stage's run; it may be killed, and it may fail."""
    attempt = new_attempt(stage)
    return _work(lambda: clearing.perform(attempt, now=stage.now), act, power=power)


def recover(stage: Stage, act: Act = let, *, power: bool = False) -> Seam:
    """Let recovery pass once."""
    return _work(lambda: recovery.recover(now=stage.now + LATER), act, power=power)


def _work(work: Callable[[], Any], act: Act, *, power: bool) -> Seam:
    with Seam(act, power=power) as seam, contextlib.suppress(Killed):
        work()
    return seam


class CrashAt:
    """Kill the worker just before its operation of this number; with `half`, when half of what it writes is written."""

    def __init__(self, number: int, *, half: bool = False) -> None:
        self.number = number
        self.half = half
        self.hit: Operation | None = None

    def __call__(self, operation: Operation, do: Callable[[], Any]) -> Any:
        if operation.number != self.number:
            return do()
        self.hit = operation
        if self.half and operation.half is not None:
            operation.half()
        raise Killed

    def __str__(self) -> str:
        return f"{'half of' if self.half else 'before'} {self.hit}" if self.hit else "after the end"


def crashes(stage: Stage, *, lost: Lost | None = None, limit: int = NEVER) -> Explored:
    """A clear is killed before each of its operations, in the middle of each write, and after the last.

    With `lost` the machine loses its power there.
    """
    explored = Explored("crash" if lost is None else "power", limit=limit)
    for act in _each_crash():
        seam = clear(stage, act, power=lost is not None)
        if lost is not None:
            seam.lose_power(lost)
        found = settle(stage, str(act))
        explored.add(in_power_failure(found) if lost else found)
        if not act.hit and stage.subject.state() != "cleared":
            explored.violations.append(Violation(5, str(act), f"no clear: {stage.subject.attempts()[-1]['detail']}"))
        if explored.enough or not act.hit:
            return explored
        renew(stage, found)
    return explored


def _each_crash() -> Iterator[CrashAt]:
    """Ends with the first number that no operation has."""
    for number in count(1):
        whole = CrashAt(number)
        yield whole
        if whole.hit is not None and whole.hit.half is not None:
            yield CrashAt(number, half=True)


def settle(stage: Stage, point: str) -> list[Violation]:
    """The checks after an accident: at once, after recovery, and after another look."""
    found = violations(point, at_every_moment(stage))
    recover(stage)
    return found + violations(point, when_settled(stage), when_looked_at_again(stage))


def renew(stage: Stage, found: list[Violation]) -> None:
    """A run that is back serves again; one that is gone or in disorder does not."""
    if found or stage.subject.state() != "sync_verified":
        stage.fresh()
