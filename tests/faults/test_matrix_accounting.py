"""The fault matrix: a clear claims what is gone, each inode once, however many names it has."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cleanup import clear_run
from cleanup.clears import recovery
from cleanup.models import ClearAttempt, IngestEvent, LedgerEntry, Run
from cleanup.rules.reasons import Reason
from cleanup.storage.staging import fences
from tests.faults import means
from tests.faults.cases import (
    MANIFEST,
    RECORD,
    TILE,
    VERIFIED_AT,
    Answer,
    Case,
    Stage,
    click,
    matrix,
)
from tests.faults.scene import inodes
from tests.tools.lab import METADATA, census, manifest_of, touch

pytestmark = pytest.mark.one_engine


OTHER_TILE = "tiles/t_0002.tif"
OLD = VERIFIED_AT - timedelta(hours=1)


def list_everything(run: Path) -> None:
    data = {
        str(path.relative_to(run)): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and METADATA not in path.parts
    }
    (run / MANIFEST).write_bytes(manifest_of(data))
    for path in run.rglob("*"):
        touch(path, OLD)


def link_within(stage: Stage) -> None:
    (stage.path / OTHER_TILE).unlink()
    os.link(stage.path / TILE, stage.path / OTHER_TILE)
    shutil.copy2(stage.twin / TILE, stage.twin / OTHER_TILE)
    list_everything(stage.path)


def link_out(stage: Stage) -> None:
    """A file of the run has a name elsewhere: it stays, and its blocks are not freed."""
    os.link(stage.path / TILE, stage.outside / "kept.tif")


def link_three_times(stage: Stage) -> None:
    link_within(stage)
    link_out(stage)


def expected(stage: Stage, *, missing: tuple[str, ...] = ()) -> tuple[int, int, int]:
    """Files, logical and allocated bytes that a clear will free, counted without the product, each inode once."""
    seen: dict[int, os.stat_result] = {}
    names: dict[int, int] = {}
    for path in stage.path.rglob("*"):
        status = path.lstat()
        if path.is_file() and str(path.relative_to(stage.path)) not in missing:
            seen[status.st_ino] = status
            names[status.st_ino] = names.get(status.st_ino, 0) + 1
    allocated = sum(status.st_blocks * 512 for ino, status in seen.items() if names[ino] == status.st_nlink)
    return len(seen), sum(status.st_size for status in seen.values()), allocated


def counting(act: Callable[[Stage], Answer] = click, **which: Any) -> Callable[[Stage], Answer]:
    def count_and_act(stage: Stage) -> Answer:
        counted = expected(stage, **which)
        answer = act(stage)
        attempt = stage.run.attempts.get()
        assert (attempt.freed_files, attempt.freed_bytes) == counted[:2]
        totals = LedgerEntry.objects.filter(run=stage.run).totals()
        assert (totals["files"], totals["bytes"]) == counted[:2]
        # The record that goes last is another file than the counted one, with other blocks.
        assert abs(totals["allocated_bytes"] - counted[2]) <= 4096
        assert attempt.freed_allocated_bytes == totals["allocated_bytes"]
        return answer

    return count_and_act


def gone(stage: Stage) -> None:
    assert not stage.path.exists()
    assert stage.scene.leftovers() == []
    assert stage.scene.kinds() == ["authorised", "completed"]
    stage.assert_unchanged(without_the_run=True)


def counts(make: Callable[[Stage], Any], **more: Any) -> Case:
    return Case(None, make, "cleared", gone, act=counting(), **more)


def again(stage: Stage) -> Answer:
    """Twice more: by the present row, and by one that was read before the clear."""
    assert clear_run(stage.run, now=stage.now) == (stage.scene.files, stage.scene.bytes)
    rows = LedgerEntry.objects.count(), ClearAttempt.objects.count(), IngestEvent.objects.count()
    assert clear_run(stage.run, now=stage.now) == (0, 0)
    stale = Run.objects.with_root().get(pk=stage.scene.run.pk)
    stale.state = "sync_verified"
    assert clear_run(stale, now=stage.now) == (0, 0)
    assert (LedgerEntry.objects.count(), ClearAttempt.objects.count(), IngestEvent.objects.count()) == rows
    answer = replace(click(stage), shown="")  # the page speaks of the clear
    assert (LedgerEntry.objects.count(), ClearAttempt.objects.count(), IngestEvent.objects.count()) == rows
    return answer


def gone_already(stage: Stage) -> Answer:
    """The directory was removed by others: nothing was freed, and nothing is called cleared."""
    stage.path.rename(stage.outside / "kept")
    stage.note()
    assert clear_run(stage.run, now=stage.now) == (0, 0)
    attempt = stage.run.attempts.get()
    return Answer(attempt.phase, attempt.reason, Reason.MISSING_DIRECTORY.sentence)


def one_stays(stage: Stage) -> Any:
    return means.after(
        stage.monkeypatch, fences, "publish", lambda: means.change_keeping_size_and_time(stage.fence / TILE)
    )


def the_rest_is_counted_once(stage: Stage) -> None:
    """What stays is never claimed: not when recovery tries again, not when a person takes it away."""
    freed = stage.run.attempts.get().freed_files, stage.run.attempts.get().freed_bytes
    left = census(stage.fence)
    assert freed[0] + left[0] == stage.scene.files
    fence = stage.fence
    recovery.recover(now=stage.now)
    stage.scene.assert_freed(*freed)
    kept = inodes(fence)
    fence.rename(stage.outside / "rescued")
    recovery.recover(now=stage.now)
    stage.scene.assert_freed(*freed)
    assert inodes(stage.outside / "rescued") == kept


def sparse_on_both(stage: Stage) -> None:
    for place in (stage.path, stage.twin):
        (place / "sparse.raw").touch()
        os.truncate(place / "sparse.raw", 16 << 20)
    list_everything(stage.path)


CASES = {
    "as it is": counts(lambda stage: None),
    "two names within": counts(link_within),
    "a name elsewhere": counts(link_out),
    "two names within and one elsewhere": counts(link_three_times),
    "empty files": counts(lambda stage: None, built={"files": {f"{number}": b"" for number in range(5)}}),
    "a sparse file": counts(sparse_on_both),
    "a second clear": Case(Reason.ALREADY_CLEARED, action="skipped", then=gone, act=again),
    "a run that is gone": Case(
        Reason.MISSING_DIRECTORY, action="refused", then=lambda stage: stage.assert_unchanged(), act=gone_already
    ),
    "a part of it": Case(
        Reason.REMOVAL_INCOMPLETE,
        one_stays,
        "partial",
        the_rest_is_counted_once,
        act=counting(missing=(TILE, RECORD)),
    ),
    "a part of it, by hand or by the schedule": Case(
        Reason.REMOVAL_INCOMPLETE, one_stays, "partial", the_rest_is_counted_once
    ),
}


@matrix("accounting", CASES)
def test_accounting(play: Callable[..., None], case: Case, asker: str) -> None:
    play(case, asker)
