"""Two removers at work: wherever they are killed or fail, in whatever order they come, every promise holds."""

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from cleanup.runs import discovery
from cleanup.storage import linux
from cleanup.storage.staging import removal, run_tree
from tests.faults import children, explorer
from tests.faults.child import REMOVERS
from tests.faults.scene import Scene, scene_of
from tests.faults.seam import Lost
from tests.faults.stage import LATER, Stage, staged
from tests.faults.test_explorer import expect_none, skip
from tests.faults.turns import Turns
from tests.tools.lab import METADATA, RUN_PATH, Lab, Seen, snapshot

pytestmark = pytest.mark.django_db(transaction=True)

# The first operation of a removal: its count in the data directory.
REMOVAL_BEGINS = "counted"


@pytest.fixture
def stage(tmp_path: Path, now: datetime) -> Iterator[Stage]:
    with staged(tmp_path / "stage", now) as stage:
        yield stage


def until_the_removal(stage: Stage) -> int:
    operations = explorer.rehearse(stage)
    return next(each.number for each in operations if each.function == REMOVAL_BEGINS) - 1


@pytest.mark.one_engine(by="function")
def test_a_seed_decides_who_comes_when(stage: Stage) -> None:
    orders = []
    for seed in (1, 1, 2):
        turns = Turns(seed)
        with turns.planted():
            orders.append([(each.kind, each.name, each.function) for each in explorer.rehearse(stage)])
        assert turns.switches >= 2
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])


def test_killed_anywhere(stage: Stage) -> None:
    """Takes 1 s: every fourth step of a removal."""
    with Turns(seed=3).planted():
        expect_none(explorer.crashes(stage, since=REMOVAL_BEGINS, every=4, skip=skip()), at_least=6)


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_killed_everywhere_in_many_orders(stage: Stage) -> None:
    for seed in range(5):
        with Turns(seed).planted():
            expect_none(explorer.crashes(stage, since=REMOVAL_BEGINS), at_least=25)


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_without_power_in_many_orders(stage: Stage) -> None:
    for seed in range(2):
        with Turns(seed).planted():
            expect_none(explorer.crashes(stage, lost=Lost(), since=REMOVAL_BEGINS, every=2, skip=skip()), at_least=12)


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_killed_twice_in_many_orders(stage: Stage) -> None:
    """Recovery has two removers as well."""
    for seed in range(2):
        with Turns(seed).planted():
            explored = explorer.crashes_twice(stage, since=REMOVAL_BEGINS, every=2, skip=skip(), exhaustive=False)
            expect_none(explored, at_least=12)


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_failing_in_many_orders(stage: Stage) -> None:
    for seed in range(2):
        with Turns(seed).planted():
            begins = until_the_removal(stage)
            expect_none(explorer.faults(stage, every=2, skip=begins + skip(), exhaustive=False), at_least=12)


@pytest.mark.exhaustive
def test_a_record_that_does_not_wait_for_all_is_noticed(stage: Stage) -> None:
    """A planted fault: the removers take the record too, so recovery finds files without it."""

    def with_the_record(real: Callable[..., Any], fenced: int, files: Any, *rest: Any) -> Any:
        record = run_tree.entry_of(run_tree.INGEST_PATH, linux.status(fenced, run_tree.INGEST_PATH))
        return real(fenced, itertools.chain([record], files), *rest)

    with (
        Turns(seed=1).planted(),
        mock.patch.object(removal, "_unlink_files", partial(with_the_record, removal._unlink_files)),
    ):
        explored = explorer.crashes(stage, since=REMOVAL_BEGINS, limit=1)
    assert 5 in {violation.promise for violation in explored.violations}


# In a process of its own

FOLDERS, FILES = 6, 20
# With some of the files under a second name, in another folder.
LINKED = range(0, FILES, 4)
RECORD = f"{METADATA}/ingest.json"


@pytest.fixture
def scene(lab: Lab, root: Any, now: datetime) -> Scene:
    run = lab.run(files={f"w{folder}/f{file:02}": b"%d" % file for folder in range(FOLDERS) for file in range(FILES)})
    for file in LINKED:
        (run / f"w1/f{file:02}").unlink()
        os.link(run / f"w0/f{file:02}", run / f"w1/f{file:02}")
    discovery.discover(root, now=now)
    scene = scene_of(lab, root, now, RUN_PATH, run)
    twice = sum((run / f"w1/f{file:02}").stat().st_size for file in LINKED)
    return replace(scene, files=scene.files - len(LINKED), bytes=scene.bytes - twice)


def files_of(seen: dict[str, Seen]) -> dict[str, Seen]:
    return {name: each for name, each in seen.items() if each.kind == "-"}


def kill_and_recover(scene: Scene, env: dict[str, str], unlinked: int) -> None:
    env, attempt = {**env, REMOVERS: "2"}, scene.attempt()
    place = f"cleanup.storage.staging.removal:_unlink:before:{unlinked}"
    children.kill_at(place, env, "clear", scene.now, str(attempt.pk))
    (fence,) = scene.leftovers()
    left, planned = files_of(snapshot(scene.path.with_name(fence))), files_of(scene.entries)
    assert left.pop(RECORD).kind == planned.pop(RECORD).kind
    assert left.items() <= planned.items()
    # Each thread was perhaps in the middle of one.
    assert abs(len(planned) - len(left) - (unlinked - 1)) <= 2
    assert scene.kinds()[-1] == "authorised"
    assert children.run(env, "recover", scene.now + LATER) == [0, 1, 0]
    scene.assert_cleared()


def test_killed_for_real(scene: Scene, subprocess_env: dict[str, str]) -> None:
    """Takes 3 s: two processes."""
    kill_and_recover(scene, subprocess_env, unlinked=60)


@pytest.mark.exhaustive
@pytest.mark.parametrize("unlinked", [1, 2, 3, 20, 40, 80, 100, 120, 126])
def test_killed_for_real_anywhere(scene: Scene, subprocess_env: dict[str, str], unlinked: int) -> None:
    kill_and_recover(scene, subprocess_env, unlinked)
