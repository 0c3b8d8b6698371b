"""Explorers: they disturb a clear at one point after the other and collect the violations.

Each first records the operations of a successful clear. It returns how many points it explored and the
violations. `limit` ends it after that number of violations: for a planted fault the first is enough. `every`
and `exhaustive` choose a sample, the same one every time.
"""

import contextlib
import errno
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import OperationalError, connection

from cleanup.clears import protocol, queue, recovery
from cleanup.clears.queue import ClearRequest
from cleanup.models import ClearAttempt, Requester
from tests.faults import children
from tests.faults.invariants import (
    Broken,
    Violation,
    at_every_moment,
    in_power_failure,
    violations,
    when_looked_at_again,
    when_settled,
)
from tests.faults.seam import Act, Killed, Lost, Operation, Seam, let
from tests.faults.stage import LATER, Stage, look, same

NEVER = 1_000_000
DISK_ERRORS = (errno.EIO, errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT)
_FULL = (errno.ENOSPC, errno.EDQUOT)
# A full disk still allows renames, removals and mode changes.
_NEEDS_ROOM = ("create", "write", "mkdir", "fallocate", "fsync", "link")


@dataclass
class Explored:
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


class At:
    def __init__(self, number: int) -> None:
        self.number = number
        self.hit: Operation | None = None

    def __call__(self, operation: Operation, do: Callable[[], Any]) -> Any:
        if operation.number != self.number:
            return do()
        self.hit = operation
        return self.happen(operation, do)

    def happen(self, operation: Operation, do: Callable[[], Any]) -> Any:
        raise NotImplementedError

    def __str__(self) -> str:
        return f"{self.hit}" if self.hit else "the end"


# What a worker does


def new_attempt(stage: Stage) -> ClearAttempt:
    """A queued attempt on the stage's run, so late that no proof is used again."""
    now = stage.next_attempt()
    return queue.new_attempt(stage.subject.run, ClearRequest(requester=Requester.OPERATOR, actor="ada"), now=now)


def clear(stage: Stage, act: Act = let, *, power: bool = False, may_fail: bool = False) -> Seam:
    """Let a worker clear the stage's run. It may be killed; `may_fail`: any exception is allowed."""
    attempt = new_attempt(stage)
    return _work(lambda: protocol.perform(attempt, now=stage.now), act, power=power, may_fail=may_fail)


def recover(stage: Stage, act: Act = let, *, after: Seam | None = None, may_fail: bool = False) -> Seam:
    return _work(lambda: recovery.recover(now=stage.now + LATER), act, after=after, power=False, may_fail=may_fail)


def _work(work: Callable[[], Any], act: Act, *, power: bool, may_fail: bool, after: Seam | None = None) -> Seam:
    expected: tuple[type[BaseException], ...] = (Killed, Exception) if may_fail else (Killed,)
    seam = Seam(act, power=power or after is not None)
    if after is not None:
        seam.go_on_from(after)
    with seam, contextlib.suppress(*expected):
        work()
    return seam


def rehearse(stage: Stage) -> list[Operation]:
    operations = clear(stage).operations
    assert stage.subject.state() == "cleared", stage.subject.attempts()[-1]["detail"]
    stage.fresh()
    return operations


def the_commit(operations: list[Operation]) -> int:
    return next(each.number for each in operations if (each.kind, each.function) == ("commit", "_commit"))


def settle(stage: Stage, point: str) -> list[Violation]:
    found = violations(point, at_every_moment(stage))
    recover(stage)
    return found + violations(point, when_settled(stage), when_looked_at_again(stage))


def renew(stage: Stage, found: Sequence[Violation]) -> None:
    """Keep a run that is back for the next point; replace one that is gone or damaged."""
    if found or stage.subject.state() != "sync_verified":
        stage.fresh()


def expect_hit(act: At, operation: Operation) -> None:
    """A clear must take the same steps each time, or the numbers mean nothing."""
    assert act.hit is not None and act.hit.is_like(operation), f"expected {operation}, came to {act.hit}"


# Killed


class Crash(At):
    """The worker is killed before the operation; with `half`, after half of its write."""

    def __init__(self, number: int, *, half: bool = False) -> None:
        super().__init__(number)
        self.half = half

    def happen(self, operation: Operation, do: Callable[[], Any]) -> Any:
        if self.half:
            assert operation.half is not None
            operation.half()
        raise Killed

    def __str__(self) -> str:
        return f"killed {'in the middle of' if self.half else 'before'} {super().__str__()}"


def crashes(
    stage: Stage, *, lost: Lost | None = None, since: str = "", every: int = 1, skip: int = 0, limit: int = NEVER
) -> Explored:
    """Kill a clear before each operation, in the middle of each write, and after the last.

    `lost`: the machine loses power there. `since`: begin at the first operation of this function. `skip`: let
    this many go by before the first.
    """
    explored = Explored("killed" if lost is None else "power lost", limit=limit)
    for operation in [*_since(rehearse(stage), since)[skip::every], None]:
        for half in (False, True) if operation and operation.half else (False,):
            act = Crash(operation.number if operation else NEVER, half=half)
            seam = clear(stage, act, power=lost is not None)
            if lost is not None:
                seam.lose_power(lost)
            if operation is not None:
                expect_hit(act, operation)
            found = settle(stage, str(act))
            explored.add(in_power_failure(found) if lost else found)
            if explored.enough:
                return explored
            renew(stage, found)
    return explored


def _since(operations: list[Operation], function: str) -> list[Operation]:
    first = next(each.number for each in operations if each.function == function) if function else 1
    return operations[first - 1 :]


def crashes_twice(
    stage: Stage,
    *,
    lost: Lost | None = None,
    since: str = "",
    every: int = 1,
    skip: int = 0,
    exhaustive: bool = True,
    limit: int = NEVER,
) -> Explored:
    """Kill the worker, and recovery too, at each of its operations or at one that varies.

    With `lost`, recovery ends by a loss of power.
    """
    explored = Explored("killed twice" if lost is None else "killed, power lost", limit=limit)
    for operation in _since(rehearse(stage), since)[skip::every]:
        second = 1 if exhaustive else 1 + operation.number % 11
        while True:
            first = clear(stage, Crash(operation.number), power=lost is not None)
            again = Crash(second)
            seam = recover(stage, again, after=first if lost else None)
            if lost is not None:
                seam.lose_power(lost)
            found = settle(stage, f"killed before {operation}, and in recovery {again}")
            explored.add(in_power_failure(found) if lost else found)
            if explored.enough:
                return explored
            renew(stage, found)
            if again.hit is None or not exhaustive:
                break
            second += 1
    return explored


# Failing


class DiskFails(At):
    def __init__(self, number: int, code: int, *, lasting: bool) -> None:
        super().__init__(number)
        self.code = code
        self.lasting = lasting

    def __call__(self, operation: Operation, do: Callable[[], Any]) -> Any:
        if self.lasting and operation.number > self.number and self.concerns(operation):
            return self.happen(operation, do)
        return super().__call__(operation, do)

    def concerns(self, operation: Operation) -> bool:
        return (
            operation.kind != "ask"
            and not operation.is_database
            and (self.code not in _FULL or operation.kind in _NEEDS_ROOM)
        )

    def happen(self, operation: Operation, do: Callable[[], Any]) -> Any:
        raise OSError(self.code, os.strerror(self.code), operation.name)

    def __str__(self) -> str:
        return f"{errno.errorcode[self.code]} {'from' if self.lasting else 'at'} {super().__str__()}"


class DatabaseFails(At):
    """The database fails before the operation, or after it (`lost`), or stays away (`gone`)."""

    HOW = ("refused", "lost", "gone")

    def __init__(self, number: int, how: str) -> None:
        super().__init__(number)
        self.how = how
        self.database_is_gone = False

    def happen(self, operation: Operation, do: Callable[[], Any]) -> Any:
        if self.how == "lost":
            do()
        self.database_is_gone = self.how == "gone"
        raise OperationalError("the connection was lost")

    def __call__(self, operation: Operation, do: Callable[[], Any]) -> Any:
        if self.database_is_gone and operation.is_database:
            raise OperationalError("the database is gone")
        return super().__call__(operation, do)

    def __str__(self) -> str:
        return f"database {self.how} at {super().__str__()}"


def faults(stage: Stage, *, every: int = 1, skip: int = 0, exhaustive: bool = True, limit: int = NEVER) -> Explored:
    explored = Explored("failed", limit=limit)
    for operation in rehearse(stage)[skip::every]:
        acts = _database_faults(operation) if operation.is_database else _disk_faults(operation)
        for act in acts if exhaustive else acts[operation.number % max(len(acts), 1) :][:1]:
            clear(stage, act, may_fail=True)
            expect_hit(act, operation)
            found = settle(stage, str(act))
            explored.add(found)
            if explored.enough:
                return explored
            renew(stage, found)
    return explored


def _database_faults(operation: Operation) -> list[At]:
    return [DatabaseFails(operation.number, how) for how in DatabaseFails.HOW]


def _disk_faults(operation: Operation) -> list[At]:
    both = [DiskFails(operation.number, code, lasting=lasting) for code in DISK_ERRORS for lasting in (False, True)]
    return [act for act in both if act.concerns(operation)]


class Fails(At):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        code = DISK_ERRORS[number % len(DISK_ERRORS)]
        self.disk = DiskFails(number, code, lasting=number % 2 == 0)
        self.database = DatabaseFails(number, DatabaseFails.HOW[number % len(DatabaseFails.HOW)])

    @property
    def database_is_gone(self) -> bool:
        return self.database.database_is_gone

    def __call__(self, operation: Operation, do: Callable[[], Any]) -> Any:
        if operation.number == self.number:
            self.hit = operation
        return (self.database if operation.is_database else self.disk)(operation, do)

    def __str__(self) -> str:
        return str(self.database if self.hit and self.hit.is_database else self.disk)


def failing_recoveries(
    stage: Stage, *, every: int = 1, skip: int = 0, exhaustive: bool = True, limit: int = NEVER
) -> Explored:
    explored = Explored("killed, failed", limit=limit)
    for operation in rehearse(stage)[skip::every]:
        second = 1 if exhaustive else 1 + operation.number % 7
        while True:
            clear(stage, Crash(operation.number))
            act = Fails(second)
            recover(stage, act, may_fail=True)
            found = settle(stage, f"killed before {operation}, and in recovery {act}")
            explored.add(found)
            if explored.enough:
                return explored
            renew(stage, found)
            if act.hit is None or not exhaustive:
                break
            second += 1
    return explored


# Frozen


class Frozen(At):
    def __init__(self, number: int, meanwhile: Callable[[], None]) -> None:
        super().__init__(number)
        self.meanwhile = meanwhile

    def happen(self, operation: Operation, do: Callable[[], Any]) -> Any:
        self.meanwhile()
        return do()

    def __str__(self) -> str:
        return f"frozen before {super().__str__()}"


def freezes(stage: Stage, *, every: int = 1, swept: bool = False, limit: int = NEVER) -> Explored:
    """The worker stands still longer than all timeouts while recovery passes.

    Recovery leaves what is locked to the worker, and ends the rest for good. `swept`: the lock files were
    taken away, so recovery works too; then nothing may break.
    """
    explored = Explored("frozen, locks swept" if swept else "frozen", limit=limit)
    operations = rehearse(stage)
    assert operations[0].function == "lock", operations[0]
    for operation in [operation for operation in operations if not operation.in_transaction][::every]:
        is_held = operation is not operations[0]
        watched = Watched(stage, swept=swept)
        act = Frozen(operation.number, watched.recover)
        clear(stage, act, may_fail=swept)
        expect_hit(act, operation)
        found = settle(stage, str(act))
        if not swept:
            found += violations(str(act), watched.as_expected(is_held=is_held))
        explored.add(found)
        if explored.enough:
            return explored
        renew(stage, found)
    return explored


# Where a clear holds the ledger's head: when it commits, and when it ends.
HEAD_HELD = ("cleanup.ledger.chain:content_digest:before:1", "cleanup.ledger.chain:content_digest:before:2")


def freezes_at_the_head(stage: Stage, env: dict[str, str], write: Callable[[], Any]) -> tuple[Explored, list[float]]:
    """A real worker is stopped while it holds the ledger's head, and `write` wants that too.

    Also returns after how many seconds `write` came through. The worker goes on afterwards, and finds its session
    ended.
    """
    explored, waited = Explored("frozen with the head"), []
    for place in HEAD_HELD:
        attempt = new_attempt(stage)
        worker = children.pause_at(place, env, "clear", stage.now, attempt.pk.hex)
        os.kill(worker.pid, signal.SIGSTOP)
        try:
            waited.append(_seconds_until(write))
        finally:
            os.kill(worker.pid, signal.SIGCONT)
            with worker:
                worker.communicate("go\n", timeout=60)
        found = settle(stage, f"frozen at {place}")
        explored.add(found)
        stage.fresh()
    return explored, waited


def _seconds_until(write: Callable[[], Any]) -> float:
    begun = time.monotonic()
    while time.monotonic() - begun < 120:
        with contextlib.suppress(OperationalError):
            write()
            break
        connection.close()
    return time.monotonic() - begun


class Watched:
    def __init__(self, stage: Stage, *, swept: bool) -> None:
        self.stage = stage
        self.swept = swept
        self.has_changed = False

    def recover(self) -> None:
        before = self._seen()
        if self.swept:
            for lock in (self.stage.data / "locks").iterdir():
                lock.unlink()
        recovery.recover(now=self.stage.now + LATER)
        after = self._seen()
        self.has_changed = not same(before[0], after[0]) or before[1:] != after[1:]

    def as_expected(self, *, is_held: bool) -> Broken:
        if is_held and self.has_changed:
            yield 8, "recovery meddled with what a live worker holds"
        wanted = "cleared" if is_held else "sync_verified"
        if self.stage.subject.state() != wanted:
            yield 5, f"the run is {self.stage.subject.state()}, not {wanted}"

    def _seen(self) -> tuple[Any, ...]:
        subject = self.stage.subject
        return look(self.stage.lab.staging), subject.attempts(), subject.ledger()
