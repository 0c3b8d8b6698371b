"""Planted faults: each takes one safeguard out of the product, and the explorers must notice it.

None of these shows in an undisturbed clear: there they all end in a cleared run.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

from django.utils import timezone

from cleanup.clears import last_checks, protocol, recovery, settlement
from cleanup.models import ClearAttempt, Difference
from cleanup.runs.facts import inspection, stored_facts
from cleanup.storage import handles, run_paths
from cleanup.storage.data_directory import datadir
from cleanup.storage.mounts import same_storage
from cleanup.storage.nas import client, way_to_twin
from cleanup.storage.root_files import markers, reserve, tokens
from cleanup.storage.staging import fences, removal, run_tree
from tests.faults import explorer, lying, meddling
from tests.faults.explorer import Explored
from tests.faults.lying import Lie, Setting
from tests.faults.seam import Lost
from tests.faults.stage import Stage

Plant = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Mutant:
    """A fault, how to plant it, the shortest exploration that finds it, and the promise it breaks."""

    name: str
    plant: Plant
    explore: Callable[[Stage], Explored]
    breaks: int

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Sign:
    """A sign that staging and NAS are two places, how to leave it out, and a setting that only it detects.

    `name` is its name in the promises. `after`: the lie begins when this function is done.
    """

    name: str
    leave_out: Plant
    setting: Setting
    after: str = ""

    def __str__(self) -> str:
        return self.name


# Where it shows

ADDED = "a file is added"
GROWN = "a file grows"
REMOVED = "a twin is removed"
DAMAGED = "a twin is damaged in its own size and time"


def killed_since(function: str) -> Callable[[Stage], Explored]:
    return partial(explorer.crashes, since=function, limit=1)


power_lost = partial(explorer.crashes, lost=Lost(), since="_commit", limit=1)
power_lost_in_recovery = partial(explorer.crashes_twice, lost=Lost(), since="fence", limit=1)
power_lost_while_removing_again = partial(explorer.crashes_twice, lost=Lost(), since="_commit", limit=1)
frozen = partial(explorer.freezes, limit=1)


def changed_early(name: str) -> Callable[[Stage], Explored]:
    return partial(meddling.meddle, only=name, late=False, limit=1)


def changed_late(name: str) -> Callable[[Stage], Explored]:
    return partial(meddling.meddle, only=name, late=True, limit=1)


# How it is planted


class _Without:
    def __init__(self, module: Any, function: str, is_left_out: Callable[..., bool]) -> None:
        self._module = module
        self._function = function
        self._is_left_out = is_left_out

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._module, name)  # asked anew each time: the seam changes it
        if name != self._function:
            return real
        return lambda *args, **kwargs: None if self._is_left_out(*args) else real(*args, **kwargs)


@contextlib.contextmanager
def _without(
    module: Any, function: str, *owners: Any, when: Callable[..., bool] = lambda *args: True
) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for owner in owners:
            stub = _Without(module, function, when)
            stack.enter_context(mock.patch.object(owner, module.__name__, stub))
        yield


# The modules that make what a clear does durable.
_SYNCING = (fences, removal, reserve, tokens, markers, datadir, settlement)


def _no_fsync_of(wanted: Callable[[str], bool]) -> Plant:
    def is_it(descriptor: int) -> bool:
        return wanted(os.readlink(f"/proc/self/fd/{descriptor}"))

    return lambda: _without(os, "fsync", *_SYNCING, when=is_it)


def _no_fsync_in(function: str) -> Plant:
    at_work: list[str] = []
    real = getattr(fences, function)

    def noted(*args: Any, **kwargs: Any) -> Any:
        at_work.append(function)
        try:
            return real(*args, **kwargs)
        finally:
            at_work.pop()

    @contextlib.contextmanager
    def plant() -> Iterator[None]:
        with (
            mock.patch.object(fences, function, noted),
            _without(os, "fsync", fences, when=lambda *args: bool(at_work)),
        ):
            yield

    return plant


def _around(owner: Any, name: str, change: Callable[..., Any]) -> Plant:
    return lambda: mock.patch.object(owner, name, partial(change, getattr(owner, name)))


def _remove_first(real: Callable[..., Any], attempt: ClearAttempt, run: Any, opened: Any, *rest: Any) -> Any:
    """Remove the data files before the commit, where that needs no change of modes."""
    prepared = real(attempt, run, opened, *rest)
    for entry in prepared.plan.entries:
        if entry.is_file and not run_tree.is_metadata(entry.path) and not entry.path.startswith(b"locked/"):
            os.unlink(entry.path, dir_fd=opened.run)
    return prepared


def _advance_anyway(attempt: ClearAttempt, before: Any, after: str, *, now: Any, **fields: Any) -> bool:
    changes = {"phase": after, "phase_at": now, **fields}
    ClearAttempt.objects.filter(pk=attempt.pk).update(**changes)
    for name, value in changes.items():
        setattr(attempt, name, value)
    return True


def _remove_the_tree(
    real: Callable[..., Any], parent: int, name: bytes, fenced: int, planned: Any, **kwargs: Any
) -> removal.Removal:
    for entry in planned:
        if not entry.is_file:
            os.chmod(entry.path, 0o700, dir_fd=fenced)
    shutil.rmtree(name, dir_fd=parent)
    return removal.Removal(run_tree.count(planned), ())


def _nothing_against_it(real: Callable[..., Any], facts: Any, policy: Any, now: Any) -> Any:
    return real(replace(facts, proof=replace(facts.proof, findings=())) if facts.proof else facts, policy, now)


def _claim_the_plan(real: Callable[..., Any], entries: Any, left: Any) -> run_tree.Count:
    count: run_tree.Count = real(entries, frozenset())
    return count


@contextlib.contextmanager
def _proof_ignored() -> Iterator[None]:
    with (
        _around(inspection, "evaluate", _nothing_against_it)(),
        _around(stored_facts, "evaluate", _nothing_against_it)(),
        _left_out(last_checks, "expect_twin")(),
        # The commit asks once more whether the NAS was found to differ.
        mock.patch.object(protocol, "Difference", SimpleNamespace(objects=Difference.objects.none())),
    ):
        yield


@contextlib.contextmanager
def _record_published_late() -> Iterator[None]:
    publish, later = fences.publish, list[tuple[Any, ...]]()

    def publish_and_remove(real: Callable[..., Any], *args: Any) -> Any:
        publish(*later[-1])
        return real(*args)

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(fences, "publish", lambda *args: later.append(args)))
        stack.enter_context(mock.patch.object(removal, "may_be_emptied", return_value=True))
        stack.enter_context(_around(removal, "_remove_record_last", publish_and_remove)())
        yield


def _left_out(owner: Any, name: str) -> Plant:
    return lambda: mock.patch.object(owner, name, lambda *args, **kwargs: None)


def _undo(real: Callable[..., Any], attempt: ClearAttempt, now: Any) -> bool:
    settlement.roll_back(attempt, attempt.run)
    ClearAttempt.objects.filter(pk=attempt.pk).update(phase="aborted", phase_at=timezone.now())
    return False


def _publish_once(parent: int, name: bytes, fenced: int, file: bytes) -> None:
    """Skip the sync of a record that is moved already, although its mover may have died before the sync."""
    with contextlib.suppress(FileNotFoundError):
        with handles.opened(handles.open_beneath(fenced, run_paths.METADATA)) as metadata:
            os.rename(name, file, src_dir_fd=parent, dst_dir_fd=metadata)
            os.fsync(metadata)
        os.fsync(parent)


def _is_in(folder: str) -> Callable[[str], bool]:
    return lambda path: f"/{folder}/" in path


def _asked_without(name: str, nothing: object) -> Plant:
    """Do not look on the NAS for one of the names that a clear has just made on staging."""
    real = client.NasReader.challenge
    return lambda: mock.patch.object(
        client.NasReader, "challenge", lambda reader, twin, **names: real(reader, twin, **{**names, name: nothing})
    )


@contextlib.contextmanager
def _no_look_beneath() -> Iterator[None]:
    with _around(same_storage, "same_storage", _nothing_seen)(), _around(same_storage, "overlap", _nothing_seen)():
        yield


def _nothing_seen(real: Callable[..., Any], *places: Any) -> str:
    return ""


def _of_one_disk(*lies: Lie) -> Setting:
    return replace(lying.DIRECT, lies=lies, one_disk=True)


SIGNS = (
    Sign("markers by name", _left_out(way_to_twin, "expect_none"), _of_one_disk(lying.SNAPSHOT), after="lay_marker"),
    Sign("the fence's name", _asked_without("beside", ()), _of_one_disk(lying.COPY_AND_FOLDER)),
    Sign(
        "a challenge in the fence",
        _asked_without("within", b""),
        replace(lying.SERVED, lies=(lying.RUN_LINK,)),
    ),
    Sign("every twin file opened anew", _left_out(client.NasReader, "reopen"), lying.REMEMBERED),
    Sign("what lies beneath the mounts", _no_look_beneath, replace(lying.DIRECT, lies=(lying.COPY,))),
)

CORE = (
    Mutant("no fsync at all", lambda: _without(os, "fsync", *_SYNCING), power_lost, breaks=12),
    Mutant("no fsync of the plan", _no_fsync_of(_is_in("plans")), power_lost, breaks=12),
    Mutant("no fsync of the plan's folder", _no_fsync_of(lambda path: path.endswith("/plans")), power_lost, breaks=12),
    Mutant("no fsync of the fence's folder", _no_fsync_of(lambda path: path.endswith("/Runs")), power_lost, breaks=12),
    Mutant("no fsync of the record", _no_fsync_in("prepare_record"), power_lost, breaks=12),
    Mutant("no fsync of the tombstone", _no_fsync_of(_is_in("tombstones")), power_lost, breaks=12),
    Mutant("no fsync of the published record", _no_fsync_in("publish"), power_lost, breaks=12),
    Mutant(
        "removal before the commit",
        _around(protocol, "_fence_and_prepare", _remove_first),
        killed_since("_commit"),
        breaks=2,
    ),
    Mutant("no lock", lambda: _without(fcntl, "flock", datadir, handles), frozen, breaks=8),
    Mutant(
        "no compare-and-set",
        lambda: mock.patch.object(ClearAttempt, "advance_alone", _advance_anyway),
        frozen,
        breaks=5,
    ),
    Mutant(
        "the whole tree instead of the plan",
        _around(removal, "remove", _remove_the_tree),
        changed_late(ADDED),
        breaks=1,
    ),
    Mutant("the proof is ignored", _proof_ignored, changed_early(DAMAGED), breaks=1),
    Mutant(
        "the plan is claimed, not what went", _around(run_tree, "freed", _claim_the_plan), changed_late(ADDED), breaks=9
    ),
)

MORE = (
    Mutant(
        "a record that is in its place already is not synced",
        lambda: mock.patch.object(fences, "publish", _publish_once),
        power_lost_while_removing_again,
        breaks=12,
    ),
    Mutant("no fsync of a run that is put back", _no_fsync_in("put_back"), power_lost_in_recovery, breaks=12),
    Mutant(
        "no fsync of the tombstone's folder",
        _no_fsync_of(lambda path: path.endswith("/tombstones")),
        power_lost,
        breaks=12,
    ),
    Mutant("no second look at the run", _left_out(last_checks, "expect_planned"), changed_early(ADDED), breaks=11),
    Mutant("no second look at the NAS", _left_out(last_checks, "expect_twin"), changed_early(REMOVED), breaks=11),
    Mutant("the record is published late", _record_published_late, killed_since("_commit"), breaks=2),
    Mutant("a run is not put back", _left_out(fences, "put_back"), killed_since("fence"), breaks=11),
    Mutant(
        "a prepared record is not taken away",
        _left_out(fences, "discard_prepared"),
        killed_since("prepare_record"),
        breaks=5,
    ),
    Mutant(
        "a challenge is left in a run that is put back",
        _left_out(fences, "discard_challenge_in"),
        killed_since("lay_challenge"),
        breaks=11,
    ),
    Mutant("a committed clear is undone", _around(recovery, "_roll_forward", _undo), killed_since("_commit"), breaks=5),
    Mutant(
        "a plan is carried out without a look",
        _around(run_tree.Entry, "is_unchanged", lambda *args: True),
        changed_late(GROWN),
        breaks=1,
    ),
)
