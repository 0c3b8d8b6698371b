"""Explores files that are set aside and put back: the worker is killed, or loses power, at every operation.

The file always lies in one of two places. After recovery its row says in which, and nothing else has changed.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils import timezone

from cleanup.models import SetAside
from cleanup.runs.set_aside import set_aside
from tests.faults.explorer import NEVER, Act, At, Crash, DiskFails, Explored, _work, expect_hit, recover
from tests.faults.invariants import Broken, Violation, violations
from tests.faults.seam import Lost, Operation, Seam, let
from tests.faults.stage import Stage, Thing, Things, look, select

EXTRA = "wells/a1.screenshot.png"
_CONTENT = b"a screenshot"
_AGE = timedelta(days=3)
_DONE = {"done": True, "aborted": False, "undone": False}


@dataclass
class Aside:
    stage: Stage
    extra: Thing
    run: Things
    row: SetAside | None = None

    @property
    def beside(self) -> str:
        return f".exlab-set-aside/{self.stage.subject.path.name}/{EXTRA}"

    def work(self) -> None:
        if self.row is None:
            run = self.stage.subject.run
            set_aside.set_aside(run, [os.fsencode(EXTRA)], actor="ada", reason="why", now=timezone.now())
        else:
            set_aside.put_back(self.row, actor="ada", reason="why")


def lay(stage: Stage, *, moved: bool) -> Aside:
    earlier = stage.folder / ".exlab-set-aside"
    if earlier.exists():  # each one makes it anew
        earlier.rename(stage.base / f"aside-{stage.subject.path.name}")
    subject = stage.fresh()
    file = subject.path / EXTRA
    file.write_bytes(_CONTENT)
    old = (timezone.now() - _AGE).timestamp()
    os.utime(file, (old, old))
    things = look(subject.path)
    aside = Aside(stage, things[EXTRA], things)
    stage.next_attempt()
    if moved:
        aside.work()
        aside.row = SetAside.objects.get(run=subject.run)
    subject.ledger_before = subject.ledger()
    return aside


def explore(
    stage: Stage, *, moved: bool, lost: Lost | None = None, twice: bool = False, every: int = 1, limit: int = NEVER
) -> Explored:
    """Kill the worker before each operation and after the last; `lost` is what a loss of power takes.

    `twice`: recovery is killed too, at an operation that varies.
    """
    explored = Explored(f"{'put back' if moved else 'set aside'}, {'power lost' if lost else 'killed'}", limit=limit)
    operations = _rehearse(stage, moved=moved)
    for operation in [*operations[::every], None]:
        aside = lay(stage, moved=moved)
        act = Crash(operation.number if operation else NEVER)
        seam = _work(aside.work, act, power=lost is not None, may_fail=False)
        if operation is not None:
            expect_hit(act, operation)
        point = str(act)
        if twice:
            again = recover(stage, Crash(1 + (operation.number if operation else 0) % 7), after=seam if lost else None)
            seam, point = (again if lost else seam), f"{point}, and in recovery"
        if lost is not None:
            seam.lose_power(lost)
        explored.add(_settle(aside, point))
        if explored.enough:
            break
    return explored


def faults(stage: Stage, *, moved: bool, every: int = 1) -> Explored:
    explored = Explored(f"{'put back' if moved else 'set aside'}, failed")
    for operation in _rehearse(stage, moved=moved)[::every]:
        act: At = DiskFails(operation.number, 5, lasting=False)
        if operation.is_database:
            continue
        aside = lay(stage, moved=moved)
        _work(aside.work, act, power=False, may_fail=True)
        explored.add(_settle(aside, str(act)))
    return explored


def _rehearse(stage: Stage, *, moved: bool) -> list[Operation]:
    aside = lay(stage, moved=moved)
    operations = _watch(aside.work).operations
    assert _row(aside)["state"] == ("undone" if moved else "done")
    assert not list(_in_order(aside)), list(_in_order(aside))
    return operations


def _watch(work: Callable[[], Any], act: Act = let) -> Seam:
    return _work(work, act, power=False, may_fail=False)


def _settle(aside: Aside, point: str) -> list[Violation]:
    found = violations(point, _kept(aside))
    recover(aside.stage)
    found += violations(point, _in_order(aside))
    before = _row(aside), aside.stage.subject.ledger(), look(aside.stage.folder)
    recover(aside.stage)
    after = _row(aside), aside.stage.subject.ledger(), look(aside.stage.folder)
    if before[:2] != after[:2] or before[2].keys() != after[2].keys():
        found += violations(point, [(5, "a second recovery changed something")])
    return found


def _row(aside: Aside) -> dict[str, Any]:
    rows = select("SELECT * FROM cleanup_setaside WHERE run_id = %s ORDER BY id", [aside.stage.subject.run.pk])
    return rows[-1] if rows else {"state": "aborted"}


def _kept(aside: Aside) -> Broken:
    here, there = look(aside.stage.subject.path), look(aside.stage.folder).get(aside.beside)
    places = [thing for thing in (here.get(EXTRA), there) if thing is not None]
    if len(places) != 1 or not places[0].same_as(aside.extra):
        yield 1, f"the file lies in {len(places)} places"
    for name, thing in aside.run.items():
        if name != EXTRA and not thing.same_as(here.get(name)):
            yield 6, f"{name} has changed"
    if extra := here.keys() - aside.run.keys():
        yield 6, f"new in the run: {', '.join(sorted(extra))}"
    yield from _contained(aside)


def _contained(aside: Aside) -> Iterator[tuple[int, str]]:
    top = f"staging/{aside.stage.folder.relative_to(aside.stage.lab.staging)}/.exlab-set-aside"
    mine = f"{top}/{aside.stage.subject.path.name}"
    before, after = (
        {name for name in things if name != top and not name.startswith(mine)}
        for things in (aside.stage.around, aside.stage.surroundings())
    )
    if before != after:
        yield 6, f"changed: {', '.join(sorted(before ^ after))}"


def _in_order(aside: Aside) -> Broken:
    yield from _kept(aside)
    state = _row(aside)["state"]
    is_there = aside.beside in look(aside.stage.folder)
    if state not in _DONE or _DONE[state] != is_there:
        yield 5, f"the row says {state}, and the file is {'' if is_there else 'not '}set aside"
    kinds = [row["kind"] for row in aside.stage.subject.ledger()]
    expected = {"done": ["set_aside"], "undone": ["set_aside", "put_back"], "aborted": []}[state]
    if kinds != expected:
        yield 9, f"the ledger says {kinds} of a file that is {state}"
    if not is_there and any(name.startswith(aside.beside.rpartition("/")[0]) for name in look(aside.stage.folder)):
        yield 5, "an empty folder is left beside the run"
