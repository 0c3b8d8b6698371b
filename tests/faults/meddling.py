"""Another program or person changes the run or its twin during a clear.

Before the commit every change stops the clear, and the run comes back as changed. After the commit the
changed file stays, and the ledger does not claim it.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cleanup.models import Difference
from tests.faults.explorer import NEVER, At, Crash, Explored, clear, recover, rehearse, the_commit
from tests.faults.invariants import (
    RECORD,
    Violation,
    claims_what_went,
    in_power_failure,
    violations,
    what_went,
    when_looked_at_again,
    when_settled,
)
from tests.faults.seam import Act, Lost, Operation
from tests.faults.stage import Stage, look, same

_FILE = "plate.raw"
_FOLDER = "wells"
_IN_FOLDER = ("a1.raw", "a1-again.raw", ".DS_Store")


@dataclass(frozen=True)
class Change:
    """One change. It returns how to undo it, or None if there was nothing to change.

    `where` is `staging`, `nas`, or the `record`, which is the lab's own only before the commit. A `quiet`
    change shows only in the bytes, which are read once.
    """

    name: str
    do: Callable[[Stage], Callable[[], None] | None]
    where: str = "staging"
    quiet: bool = False


def _add(stage: Stage) -> Callable[[], None]:
    (stage.place() / "late.raw").write_bytes(b"written late")
    return lambda: (stage.place() / "late.raw").unlink()


def _hold(stage: Stage) -> Callable[[], None]:
    (stage.place() / ".exlab-hold").write_bytes(b"please keep")
    return lambda: (stage.place() / ".exlab-hold").unlink()


def _grow(stage: Stage) -> Callable[[], None] | None:
    return _rewrite_with(stage.place, lambda data: data + b"more", keep_time=False)


def _rewrite(stage: Stage) -> Callable[[], None] | None:
    return _rewrite_with(stage.place, bytes.swapcase, keep_time=True)


def _rewrite_the_record(stage: Stage) -> Callable[[], None] | None:
    return _rewrite_with(stage.place, bytes.swapcase, keep_time=True, name=RECORD)


def _damage(stage: Stage) -> Callable[[], None] | None:
    return _rewrite_with(lambda: stage.subject.twin, bytes.swapcase, keep_time=False)


def _damage_quietly(stage: Stage) -> Callable[[], None] | None:
    return _rewrite_with(lambda: stage.subject.twin, bytes.swapcase, keep_time=True)


def _rewrite_with(
    place: Callable[[], Path], change: Callable[[bytes], bytes], *, keep_time: bool, name: str = _FILE
) -> Callable[[], None] | None:
    path = place() / name
    if not path.exists():
        return None
    before, status = path.read_bytes(), path.stat()
    times = (status.st_atime_ns, status.st_mtime_ns)
    path.write_bytes(change(before))
    if keep_time:
        os.utime(path, ns=times)

    def undo() -> None:
        (place() / name).write_bytes(before)
        os.utime(place() / name, ns=times)

    return undo


def _swap_for_a_link(stage: Stage) -> Callable[[], None] | None:
    folder = stage.place() / _FOLDER
    aside = stage.canary / f"{_FOLDER}-{len(list(stage.canary.iterdir()))}"  # those of earlier changes lie there still
    if folder.is_symlink() or not folder.exists():
        return None
    folder.rename(aside)
    folder.symlink_to(aside)

    def undo() -> None:
        (stage.place() / _FOLDER).unlink()
        aside.rename(stage.place() / _FOLDER)

    return undo


def _replace(stage: Stage) -> Callable[[], None]:
    """Move the run away and put other work under its present name."""
    name, aside = stage.place(), stage.canary / "saved"
    name.rename(aside)
    name.mkdir()
    (name / "other.raw").write_bytes(b"other work")

    def undo() -> None:
        shutil.rmtree(stage.subject.path)
        aside.rename(stage.subject.path)

    return undo


def _remove_twin(stage: Stage) -> Callable[[], None]:
    return _move(stage.subject.twin / _FILE, stage.base / "away")


def _unmount(stage: Stage) -> Callable[[], None]:
    return _move(stage.lab.nas, stage.base / "away")


def _move(path: Path, aside: Path) -> Callable[[], None]:
    path.rename(aside)

    def undo() -> None:
        aside.rename(path)

    return undo


REPLACE = Change("the run is replaced", _replace)
SWAP_FOR_A_LINK = Change("a folder becomes a link", _swap_for_a_link)
CHANGES = (
    Change("a file is added", _add),
    Change("a hold file is laid", _hold),
    Change("a file grows", _grow),
    Change("a file is rewritten in its own size and time", _rewrite),
    SWAP_FOR_A_LINK,
    REPLACE,
    Change("the record is rewritten", _rewrite_the_record, where="record"),
    Change("the NAS is gone", _unmount, where="nas"),
    Change("a twin is damaged", _damage, where="nas"),
    Change("a twin is damaged in its own size and time", _damage_quietly, where="nas", quiet=True),
    Change("a twin is removed", _remove_twin, where="nas"),
)


class Meddle(At):
    def __init__(self, number: int, stage: Stage, change: Change) -> None:
        super().__init__(number)
        self.stage = stage
        self.change = change
        self.undo: Callable[[], None] | None = None

    def happen(self, operation: Operation, do: Callable[[], Any]) -> Any:
        self.undo = self.change.do(self.stage) if self.stage.place().exists() else None
        if self.undo is not None:
            subject = self.stage.subject
            name = subject.path if self.change is REPLACE and subject.path.exists() else _name_of(self.stage)
            there = look(name)
            # What a clear lays for a moment to see whether the NAS shows it is no file of the run's.
            subject.expected = {
                path: thing for path, thing in there.items() if not path.startswith(".exlab-challenge-")
            }
            self.stage.around = self.stage.surroundings()
        return do()

    def __str__(self) -> str:
        return f"{self.change.name} before {super().__str__()}"


def _name_of(stage: Stage) -> Path:
    return stage.subject.path if stage.subject.path.exists() else next(path for path in stage.ours() if path.is_dir())


def meddle(
    stage: Stage,
    *,
    every: int = 1,
    skip: int = 0,
    exhaustive: bool = True,
    only: str = "",
    late: bool | None = None,
    limit: int = NEVER,
) -> Explored:
    """Make every change, or one in turn, before each operation that must notice it.

    `only` names the one change to make; `late`: make it after the commit, not before.
    """
    explored = Explored("meddled with", limit=limit)
    operations = rehearse(stage)
    for operation in operations[skip::every]:
        committed = _is_committed(operation, operations)
        if late not in (None, committed):
            continue
        changes = [change for change in CHANGES if _must_be_noticed(change, operation, operations)]
        changes = [change for change in changes if only in ("", change.name)]
        for change in changes if exhaustive else changes[operation.number % max(len(changes), 1) :][:1]:
            found = _explore(stage, operation, change, committed=committed)
            if found is not None:
                explored.add(found)
            if explored.enough:
                return explored
    return explored


def _is_committed(operation: Operation, operations: list[Operation]) -> bool:
    return operation.number >= the_commit(operations)


def _must_be_noticed(change: Change, operation: Operation, operations: list[Operation]) -> bool:
    """NAS: before the last look there, or before the bytes are read if the change is quiet. Staging: always.

    Not between the last look at a file and its removal: no program can make these one step.
    """
    if change.quiet:
        claim = next(each.number for each in operations if each.kind == "commit")
        return operation.number <= claim
    if not _is_committed(operation, operations):
        return True
    concerned = (_FILE, _FOLDER, *(_IN_FOLDER if change is SWAP_FOR_A_LINK else ()))
    removed_here = operation.kind in ("unlink", "rmdir") and operation.name in concerned
    return change.where == "staging" and change is not REPLACE and not removed_here


def _explore(stage: Stage, operation: Operation, change: Change, *, committed: bool) -> list[Violation] | None:
    act = Meddle(operation.number, stage, change)
    clear(stage, act, may_fail=True)
    assert act.hit is not None and act.hit.is_like(operation), f"expected {operation}, came to {act.hit}"
    if act.undo is None:
        stage.fresh()
        return None
    recover(stage)
    point = str(act)
    found = violations(point, when_settled(stage, may_leave=committed), when_looked_at_again(stage))
    if (stage.subject.state() == "cleared") is not committed:
        found.append(Violation(11, point, f"the run is {stage.subject.state()}"))
    if found:
        stage.fresh()
    elif committed:
        found += violations(point, _when_the_rest_is_taken_away(stage))
        stage.fresh()
    else:
        found += violations(point, _when_undone(stage, act.undo))
        if stage.accepted or Difference.objects.exists():
            # A change makes an acceptance void, and taking it back does not make it good. After a difference a clear
            # takes other steps.
            stage.fresh()
    return found


def _when_undone(stage: Stage, undo: Callable[[], None]) -> Iterator[tuple[int, str]]:
    undo()
    subject = stage.subject
    subject.expected = subject.before
    if not same(subject.before, look(subject.path)):
        yield 11, "not all of the run came back"
    stage.around = stage.surroundings()


def _when_the_rest_is_taken_away(stage: Stage) -> Iterator[tuple[int, str]]:
    went = what_went(stage)
    for path in stage.ours():
        shutil.rmtree(path)
    recover(stage)
    yield from claims_what_went(stage, went)


def crashes_of_a_refusal(stage: Stage, *, lost: Lost | None = None, every: int = 1, limit: int = NEVER) -> Explored:
    explored = Explored("killed, refusing" if lost is None else "power lost, refusing", limit=limit)
    fence = next(each.number for each in rehearse(stage) if each.function == "fence")
    changed = fence + 2  # renamed and synced: from here on the fence's name is durable
    crash: Crash | None = None
    number = changed
    while crash is None or crash.hit is not None:
        meddle, crash = Meddle(changed, stage, CHANGES[0]), Crash(number)
        seam = clear(stage, _both(meddle, crash), power=lost is not None)
        if lost is not None:
            seam.lose_power(lost)
        recover(stage)
        point = f"{meddle}, and {crash}"
        found = violations(point, when_settled(stage), when_looked_at_again(stage))
        explored.add(in_power_failure(found) if lost else found)
        if explored.enough:
            return explored
        stage.fresh()
        number += every
    return explored


def _both(first: At, second: At) -> Act:
    return lambda operation, do: first(operation, lambda: second(operation, do))
