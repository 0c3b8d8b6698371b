"""The removal of a shell for the operator: plan, fence, re-scan, tombstone, commit, removal.

Before the commit the shell goes back, after it the rest is removed. The run at the path lends lock and row and does not
change.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db import Error as DjangoDatabaseError
from django.utils import timezone

from cleanup.clears import queue, settlement
from cleanup.clears.refusal import Refused
from cleanup.lab import readiness
from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import Unreachable
from cleanup.ledger import book, entries
from cleanup.models import ClearAttempt, LedgerKind, Orphan, OrphanKind, Phase
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.runs.facts import findings
from cleanup.runs.orphans.found_shells import fenced_since_ns, read_at
from cleanup.storage import errors, handles, linux, run_paths
from cleanup.storage.run_paths import show
from cleanup.storage.staging import fences, record_locks, removal, run_tree, shell_folders
from cleanup.storage.staging.plan import Plan, PlanError
from cleanup.storage.staging.shell_folders import Shell

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Place:
    """The open root, the shell's open parent folder, and its name."""

    root: int
    parent: int
    name: bytes


def request_removal(orphan: Orphan, *, actor: str, now: datetime) -> ClearAttempt:
    """Queue the removal of a listed shell: attempt and task, or neither.

    Raises AlreadyClearing, or ValueError for anything but a shell of a known run.
    """
    if orphan.kind != OrphanKind.SHELL or orphan.run is None or orphan.gone_at is not None:
        raise ValueError("no shell of a known run")
    with transaction.atomic():
        attempt = queue.new_removal(orphan.run, path=orphan.path, actor=actor, now=now)
        queue.enqueue([attempt])
    return attempt


def perform(attempt: ClearAttempt, *, now: datetime) -> ClearAttempt:
    """Perform a queued removal of this host; returns it as it ended, or as another worker has it."""
    if attempt.host != settings.EXLAB_HOST or attempt.is_clear:
        return attempt
    with opening.data_dir().lock(str(attempt.run_id)) as free:
        if free and attempt.advance([Phase.QUEUED], Phase.INTENT, now=timezone.now()):
            try:
                _remove(attempt)
            except Refused as refused:
                _end(attempt, refused.phase, refused.finding, timezone.now())
            except Unreachable as error:
                _end(attempt, Phase.REFUSED, error.finding, timezone.now())
    attempt.refresh_from_db()
    return attempt


def settle(attempt: ClearAttempt, *, now: datetime) -> bool | None:
    """Settle an interrupted removal: True: completed, False: put back, None: nothing to do.

    Call it with the run's lock held. Raises Unreachable or OSError.
    """
    if attempt.phase in (Phase.QUEUED, Phase.INTENT):
        with _placed(attempt) as place:
            _put_back(attempt, place)
        _end(attempt, Phase.ABORTED, Finding(Reason.INTERRUPTED), now)
        return False
    if attempt.phase not in (Phase.COMMITTED, Phase.DONE):
        return None
    try:
        plan = opening.data_dir().read_plan(attempt.pk.hex, attempt.plan_sha256)
    except PlanError as error:
        raise Unreachable(Finding(Reason.PLAN_MISSING, str(error))) from None
    with _placed(attempt) as place:
        _fence_again(attempt, plan, place)
        _finish(attempt, plan, place)
    return True


@contextlib.contextmanager
def _placed(attempt: ClearAttempt) -> Iterator[_Place]:
    run = attempt.run
    name = os.fsencode(str(attempt.prepared["path"]).rpartition("/")[2])
    with opening.open_root(run.root) as root, contextlib.ExitStack() as stack:
        try:
            folder = run_paths.parse_run_path(run.run_path).parent
            parent = stack.enter_context(handles.opened(handles.open_beneath(root, folder)))
        except OSError as error:
            raise Unreachable(errors.way_blocked(error)) from None
        yield _Place(root, parent, name)


def _remove(attempt: ClearAttempt) -> None:
    """Raises Refused or Unreachable with the shell at its place again."""
    if hindrances := readiness.hindrances():
        raise Refused(hindrances[0])
    if missing := linux.missing_calls():
        raise Refused(Finding(Reason.CLEARING_UNSUPPORTED, f"missing: {', '.join(missing)}"))
    with _placed(attempt) as place, contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(handles.opened(handles.open_beneath(place.parent, place.name)))
            stack.enter_context(handles.flocked(folder))
        except BlockingIOError:
            raise Refused(Finding(Reason.WRITER_ACTIVE, "the folder is locked")) from None
        except OSError as error:
            raise Refused(errors.way_blocked(error)) from None
        plan = _plan(attempt, _expect_shell(attempt, folder, place.name))
        _fence(attempt, plan, place, folder)
        _commit(attempt, place)
        _finish(attempt, plan, place)


def _expect_shell(attempt: ClearAttempt, folder: int, name: bytes) -> Shell:
    """No program may be at work in it. Raises Refused."""
    path = run_paths.parse_run_path(attempt.run.run_path)
    try:
        held = record_locks.held_lock(folder, patience_seconds=record_locks.PATIENCE_SECONDS)
        shell = shell_folders.read(folder, path, since_ns=_since_ns(attempt))
    except OSError as error:
        raise Refused(errors.way_blocked(error)) from None
    if held is not None:
        raise Refused(Finding(Reason.WRITER_ACTIVE, f"a program holds {show(held)}"))
    if shell is None or not shell.complete:
        raise Refused(Finding(Reason.NOT_A_SHELL))
    if busy := findings.find_writers(shell.scan, [name, fences.fence_name(attempt.pk.hex)]):
        raise Refused(busy[0])
    return shell


def _since_ns(attempt: ClearAttempt) -> int | None:
    # A shell moved aside was checked before.
    path = attempt.run.run_path
    if attempt.prepared["path"] != path:
        return None
    made = ClearAttempt.objects.clears().filter(run=attempt.run, phase__in=[Phase.COMMITTED, Phase.DONE])
    clear = made.order_by("-created_at").first()
    return fenced_since_ns(clear) if clear is not None else None


def _plan(attempt: ClearAttempt, shell: Shell) -> Plan:
    name = attempt.pk.hex
    plan = Plan(name, str(attempt.prepared["path"]), shell.scan.ino, shell.scan.entries)
    try:
        sha256 = opening.data_dir().write_plan(name, plan)
    except OSError as error:
        _forget(attempt)
        raise Refused(Finding(Reason.STORAGE_ERROR, os.strerror(error.errno or 0))) from None
    fields: dict[str, Any] = {
        "plan_sha256": sha256,
        "planned_files": plan.counted.files,
        "planned_bytes": plan.counted.bytes,
        "prepared": {**attempt.prepared, "record": shell.record},
    }
    if not attempt.advance([Phase.INTENT], Phase.INTENT, now=timezone.now(), **fields):
        _forget(attempt)
        raise Refused(Finding(Reason.INTERRUPTED))
    return plan


def _fence(attempt: ClearAttempt, plan: Plan, place: _Place, folder: int) -> None:
    """Raises Refused with the shell put back."""
    fence = fences.fence_name(plan.attempt)
    try:
        fences.fence(place.parent, place.name, fence)
        if linux.status(place.parent, fence).ino != plan.ino:
            raise Refused(Finding(Reason.IDENTITY_MISMATCH, "another folder lies there"))
        _keep(attempt, folder)
        shell = _expect_shell(attempt, folder, place.name)
        if changes := run_tree.differences(plan.entries, shell.scan.entries, strict=True):
            raise Refused(Finding(Reason.NOT_A_SHELL, "; ".join(changes[:3])))
    except OSError as error:
        _put_back(attempt, place)
        raise Refused(Finding(Reason.STORAGE_ERROR, os.strerror(error.errno or 0))) from None
    except Refused:
        _put_back(attempt, place)
        raise


def _keep(attempt: ClearAttempt, folder: int) -> None:
    story = {
        "attempt": attempt.pk.hex,
        "kind": attempt.kind,
        "run_path": attempt.run.run_path,
        "path": attempt.prepared["path"],
        "staging_root": attempt.run.root.name,
        "host": settings.EXLAB_HOST,
        "actor": attempt.actor,
        "plan_sha256": attempt.plan_sha256,
        "files": attempt.planned_files,
        "bytes": attempt.planned_bytes,
    }
    opening.data_dir().write_tombstone(attempt.pk.hex, folder, story, b"")


def _commit(attempt: ClearAttempt, place: _Place) -> None:
    """The point of no return. Raises Refused with the shell put back."""
    try:
        with book.writing():
            now = timezone.now()
            if not attempt.advance([Phase.INTENT], Phase.COMMITTED, now=now):
                raise DatabaseError("the attempt was changed by another worker")
            counts = {"files": attempt.planned_files, "bytes": attempt.planned_bytes}
            entries.write_ledger(attempt, LedgerKind.SHELL, now, detail=str(attempt.prepared["path"]), **counts)
    except DjangoDatabaseError as error:
        # As in `protocol`: a new connection tells; if that fails too, recovery decides.
        connection.close()
        settlement.settle_phase(attempt)
        if attempt.phase != Phase.COMMITTED:
            _put_back(attempt, place)
            raise Refused(Finding(Reason.DATABASE_ERROR, type(error).__name__)) from error


def _fence_again(attempt: ClearAttempt, plan: Plan, place: _Place) -> None:
    # A power failure may put a committed shell back.
    shell = read_at(place.parent, place.name, attempt.run)
    if shell is not None and shell.scan.ino == plan.ino and not run_tree.differences(plan.entries, shell.scan.entries):
        fences.fence(place.parent, place.name, fences.fence_name(plan.attempt))


def _finish(attempt: ClearAttempt, plan: Plan, place: _Place) -> None:
    """Remove what the plan holds; the rest stays under a name aside. Twice is harmless."""
    fence = fences.fence_name(plan.attempt)
    try:
        folder = handles.open_beneath(place.parent, fence)
    except FileNotFoundError:
        os.fsync(place.parent)
        _end(attempt, Phase.DONE, None, timezone.now())
        return
    with handles.opened(folder):
        if linux.status(folder).ino != plan.ino:
            raise Unreachable(Finding(Reason.IDENTITY_MISMATCH, "another folder lies at the fence"))
        record = attempt.prepared.get("record", {})
        removed = removal.remove(place.parent, fence, folder, plan.entries, record=record)
    os.fsync(place.parent)
    if not removed.left:
        _end(attempt, Phase.DONE, None, timezone.now())
        return
    aside = _set_aside(attempt, place)
    left = ", ".join(f"{show(path)}: {why}" for path, why in removed.left[:3])
    _end(attempt, Phase.DONE, Finding(Reason.NOT_A_SHELL, f"{show(aside)} keeps what is left ({left})"), timezone.now())


def _put_back(attempt: ClearAttempt, place: _Place) -> None:
    # Where the place is occupied, the shell is kept under a name aside.
    try:
        fences.put_back(place.parent, fences.fence_name(attempt.pk.hex), place.name)
    except FileNotFoundError:
        os.fsync(place.parent)
    except FileExistsError:
        _set_aside(attempt, place)
    _forget(attempt)


def _set_aside(attempt: ClearAttempt, place: _Place) -> bytes:
    return shell_folders.rename_aside(place.parent, fences.fence_name(attempt.pk.hex), attempt.pk.hex)


def _forget(attempt: ClearAttempt) -> None:
    with contextlib.suppress(OSError):
        opening.data_dir().discard(attempt.pk.hex)


def _end(attempt: ClearAttempt, phase: Phase, finding: Finding | None, now: datetime) -> None:
    # A committed removal has its ledger row already.
    reason, detail = (finding.reason, finding.detail) if finding else ("", "")
    before = [Phase.COMMITTED, Phase.DONE] if phase == Phase.DONE else [Phase.QUEUED, Phase.INTENT]
    freed = {"freed_files": attempt.planned_files, "freed_bytes": attempt.planned_bytes} if finding is None else {}
    with book.writing():
        # What is left is no shell of ours: without a reason the removal is not tried again.
        told = {"reason": "" if phase == Phase.DONE else reason, "detail": detail}
        if not attempt.advance(before, phase, now=now, **told, **freed):
            return
        if finding is not None:
            entries.write_ledger(attempt, LedgerKind.SHELL, now, reason=reason, detail=detail)
        if phase == Phase.DONE:
            Orphan.objects.filter(
                root=attempt.run.root_id, path=str(attempt.prepared["path"]), kind=OrphanKind.SHELL, gone_at=None
            ).update(gone_at=now)
    logger.info("shell %s of %s: %s %s", attempt.prepared["path"], attempt.run.run_path, phase, detail or reason)
