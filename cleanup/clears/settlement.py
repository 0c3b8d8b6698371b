"""How an attempt ends: rolled back before its commit, forward after. Clears and recovery share it."""

import contextlib
import logging
import os
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from cleanup.clears import conflicts, freed, record_inside, retries
from cleanup.lab.roots import disk_usage, opening
from cleanup.lab.roots.opening import OpenRun, Unreachable
from cleanup.ledger import book, entries
from cleanup.models import (
    ClearAttempt,
    DiskUsage,
    LedgerKind,
    Phase,
    Run,
)
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.runs import work_progress
from cleanup.runs.facts import identity
from cleanup.runs.orphans.found_shells import move_shell_aside
from cleanup.runs.proofs import proofs, slow_twins
from cleanup.storage import handles, run_paths
from cleanup.storage.data_directory.datadir import TombstoneError
from cleanup.storage.freed_space import Gain
from cleanup.storage.root_files import reserve
from cleanup.storage.run_paths import show
from cleanup.storage.staging import fences, removal, run_tree, shell_folders
from cleanup.storage.staging.plan import Plan, PlanError

logger = logging.getLogger(__name__)

# A refused gate is no failure; these are: the clear was allowed but could not be done.
FAILURES = frozenset({Reason.STORAGE_ERROR, Reason.DATABASE_ERROR})
# More shells than this, made by a wizard in a row, are a conflict.
_SHELLS_PASSED = 3
# Fields that another process may have changed.
FREED = (
    "freed_files",
    "freed_bytes",
    "freed_allocated_bytes",
    "measured_bytes",
    "unmeasured",
    "disk_free_before",
)


def settle_phase(attempt: ClearAttempt, *more: str) -> None:
    """Read an attempt's phase, and `more` fields, under the row's lock.

    A PostgreSQL server goes on with a commit whose client is gone; without the lock it would look uncommitted.
    """
    with transaction.atomic(savepoint=False):
        attempt.refresh_from_db(fields=["phase", *more], from_queryset=ClearAttempt.objects.select_for_update())


def occupied(attempt: ClearAttempt) -> Finding:
    """Return the conflict at the run's path; the run is whole under its fence's name."""
    return identity.conflict_of(attempt.pk)


def tell_of_wait(attempt: ClearAttempt, finding: Finding) -> None:
    """Show on the pages what an interrupted attempt waits for."""
    said = " ".join(part for part in (finding.reason.sentence, finding.detail) if part)
    unfinished = ClearAttempt.objects.filter(pk=attempt.pk, phase__in=[Phase.INTENT, Phase.COMMITTED])
    unfinished.exclude(detail=said).update(detail=said)


def roll_back(attempt: ClearAttempt, run: Run, *, parent: int | None = None) -> None:
    """Undo an uncommitted attempt on disk: the run is at its path again. Twice is harmless.

    A shell at the path is moved aside; `attempt.shells` names it. `parent` is the run's open folder. Raises
    Unreachable; FileNotFoundError if that folder is gone; FileExistsError if the path is occupied; BlockingIOError
    while a shell there is locked. The fence then stays.
    """
    unsure = parent is None or attempt.challenging  # a crash or an error may have left a challenge
    with contextlib.ExitStack() as stack:
        if parent is None:
            root = stack.enter_context(opening.open_root(run.root))
            path = run_paths.parse_run_path(run.run_path)
            parent = stack.enter_context(handles.opened(handles.open_beneath(root, path.parent)))
        fences.discard_prepared(parent, fences.prepared_name(attempt.pk.hex))
        for name in (fences.fence_name(attempt.pk.hex), os.fsencode(run.leaf)):
            fences.discard_challenge_in(parent, name, fences.challenge_name(attempt.pk.hex))
            if unsure:
                _give_time_back(attempt, parent, name)
        try:
            _put_back(attempt, run, parent)
        except FileNotFoundError:
            os.fsync(parent)  # it is back, but perhaps not durably
        attempt.shells = tuple(show(name) for name in shell_folders.kept_aside(parent, attempt.pk.hex))
    opening.data_dir().discard(attempt.pk.hex)


def _give_time_back(attempt: ClearAttempt, parent: int, name: bytes) -> None:
    # The challenge changed the run's time; a crash may have come before it was restored.
    with contextlib.suppress(PlanError):
        plan = opening.data_dir().read_plan(attempt.pk.hex, attempt.plan_sha256)
        if plan.modified_ns is not None:
            fences.give_time_back(parent, name, plan.ino, plan.names, plan.modified_ns)


def _put_back(attempt: ClearAttempt, run: Run, parent: int) -> None:
    fence = fences.fence_name(attempt.pk.hex)
    for _ in range(_SHELLS_PASSED):
        with contextlib.suppress(FileExistsError):
            return fences.put_back(parent, fence, os.fsencode(run.leaf))
        move_shell_aside(attempt, run, parent)
    return fences.put_back(parent, fence, os.fsencode(run.leaf))


def roll_forward(
    attempt: ClearAttempt, opened: OpenRun, plan: Plan, *, now: datetime, interrupted: bool = False
) -> None:
    """Publish, remove and finish a committed attempt whose fence is `opened.run`. Twice is harmless.

    `interrupted`: a part may be gone already. Raises Unreachable, with nothing removed, where the record is missing.
    """
    name = attempt.pk.hex
    fence = fences.fence_name(name)
    fences.discard_challenge(opened.run, fences.challenge_name(name))  # a power failure may have brought it back
    record_inside.publish(attempt, opened)
    if not removal.may_be_emptied(opened.run, attempt.prepared):
        raise Unreachable(Finding(Reason.INGEST_DISAGREES, "the record of the clear is not in its place"))
    with freed.watching(attempt, opened, plan, interrupted=interrupted) as watch:
        removed = removal.remove(
            opened.parent,
            fence,
            opened.run,
            plan.entries,
            record=attempt.prepared,
            proven=_proven(attempt),
            progress=watch.beside(work_progress.of_removal(attempt)),
            before_the_record=lambda: _mark_emptied(attempt, plan),
        )
        os.fsync(opened.parent)
        gain = watch.gain(removed)
    reserve.renew_reserve(opened.root)
    finish(attempt, removed, now, gain, usage=disk_usage.look(attempt.run.root, opened.root, timezone.now()))


def _mark_emptied(attempt: ClearAttempt, plan: Plan) -> None:
    # Durable before the record goes: without it recovery cannot tell our removal from a fence that was taken away.
    done = {"done_files": plan.counted.files, "done_bytes": plan.counted.bytes, "progress_at": timezone.now()}
    ClearAttempt.objects.filter(pk=attempt.pk).update(**done, emptied=True)


def _proven(attempt: ClearAttempt) -> removal.Proven:
    digests: dict[bytes, bytes] = {}

    def proven(path: bytes) -> bytes | None:
        if not digests:
            with contextlib.suppress(TombstoneError):
                digests.update(opening.data_dir().read_digests(attempt.pk.hex))
        return digests.get(path, b"")  # without a readable proof a changed file stays

    return proven


def finish(
    attempt: ClearAttempt,
    removed: removal.Removal,
    now: datetime,
    gain: Gain = freed.INTERRUPTED,
    *,
    usage: DiskUsage | None = None,
) -> None:
    """Record what a removal freed, in one transaction: `completed`, or `partial` with what is left.

    A ledger row counts its own step, so that rows add up. Nothing is written where another worker has finished or
    counted more, but for `usage`: how full the disk now is.
    """
    with book.writing():
        # A committed attempt has freed nothing yet. Its phase is compared as it is set; where another worker was
        # faster, what that one counted is read under the row's lock.
        ended = attempt.phase == Phase.COMMITTED and _end(attempt, removed, now, gain)
        if not ended:
            settle_phase(attempt, "reason", *FREED)
            ended = _end(attempt, removed, now, gain)
        if usage is not None:
            disk_usage.keep(usage)
    if not ended:
        return
    logger.info(
        "cleared %s: %d files, %d bytes freed by %s%s",
        attempt.run.run_path,
        removed.freed.files,
        removed.freed.bytes,
        attempt.actor or attempt.requester,
        f", {attempt.detail}" if removed.left else "",
    )


def _end(attempt: ClearAttempt, removed: removal.Removal, now: datetime, gain: Gain) -> bool:
    """False where there is nothing to record, or another worker has recorded it."""
    step = run_tree.Count(
        files=removed.freed.files - attempt.freed_files,
        bytes=removed.freed.bytes - attempt.freed_bytes,
        allocated=removed.freed.allocated - attempt.freed_allocated_bytes,
    )
    if _says_nothing_new(attempt, step, complete=not removed.left):
        return False
    remaining = attempt.planned_files - removed.freed.files
    detail = f"{remaining} of {attempt.planned_files} files left ({_name_left(removed)})" if removed.left else ""
    return _write_end(attempt, removed, step, now, gain, detail)


def _write_end(
    attempt: ClearAttempt, removed: removal.Removal, step: run_tree.Count, now: datetime, gain: Gain, detail: str
) -> bool:
    complete, reason = (False, Reason.REMOVAL_INCOMPLETE) if removed.left else (True, "")
    # A fence that a failing disk brought back is removed once more, and only what that changes is counted. What has not
    # ended before has no row `completed`: that is written with the phase `done`.
    ended = attempt.phase == Phase.DONE
    first_end = complete and not (ended and attempt.ledger.filter(kind=LedgerKind.COMPLETED).exists())
    written = first_end or step.files or not complete  # a row of the ledger, and a receipt that names it
    due: dict[str, Any] = {} if ended else {"tell_after": now}
    due |= {"receipt_after": now, "receipt_tries": 0} if written else {}
    if not attempt.advance(
        [attempt.phase],
        Phase.DONE,
        now=now,
        reason=reason,
        detail=detail,
        freed_files=removed.freed.files,
        freed_bytes=removed.freed.bytes,
        freed_allocated_bytes=removed.freed.allocated,
        done_files=removed.freed.files,
        done_bytes=removed.freed.bytes,
        **freed.of_attempt(attempt, step, gain),
        **due,
    ):
        return False
    if written:
        entries.write_ledger(
            attempt,
            LedgerKind.COMPLETED if first_end else LedgerKind.PARTIAL,
            now,
            is_first_freed=not ended,
            files=step.files,
            bytes=step.bytes,
            allocated_bytes=step.allocated,
            **freed.of_step(step, gain),
            reason=reason,
            detail=detail,
        )
    return True


def _says_nothing_new(attempt: ClearAttempt, step: run_tree.Count, *, complete: bool) -> bool:
    # Another worker, or an earlier try that left as much, has recorded this end.
    if attempt.phase not in (Phase.COMMITTED, Phase.DONE) or step.files < 0:
        return True
    if attempt.phase == Phase.DONE and not attempt.incomplete:
        return True
    return not (complete or step.files) and attempt.ledger.freeing().exists()


def finish_without_clear(
    attempt: ClearAttempt,
    phase: Phase,
    finding: Finding,
    *,
    now: datetime,
    failed: bool | None = None,
    fields: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """End an uncommitted attempt as `refused`, `aborted` or `conflict`.

    `failed`: whether it counts towards parking the run, by default read from phase and reason. `fields`: what else is
    to be written of it.
    """
    if failed is None:
        failed = finding.reason != Reason.WITHDRAWN and (phase != Phase.REFUSED or finding.reason in FAILURES)
    kinds = {
        Phase.REFUSED: LedgerKind.REFUSED,
        Phase.ABORTED: LedgerKind.ABORTED,
        Phase.CONFLICT: LedgerKind.CONFLICT,
    }
    aside = f"An empty folder that the data wizard had made at its path lies beside it as {', '.join(attempt.shells)}."
    detail = " ".join(part for part in (finding.detail, aside if attempt.shells else "") if part)
    of_conflict = Phase.CONFLICT in (attempt.phase, phase)
    with book.writing():
        said = {"reason": finding.reason, "detail": detail}
        once_more = {"again_after": retries.due_after(attempt, finding, now)}
        before = [Phase.QUEUED, Phase.INTENT, Phase.CONFLICT]
        if attempt.advance(before, phase, now=now, **said, **once_more, **fields):
            entries.write_ledger(attempt, kinds[phase], now, **said)
            slow_twins.learn(attempt, finding.reason, finding.detail, now=now)
            if failed:
                Run.objects.filter(pk=attempt.run_id).update(failures=F("failures") + 1)
    if of_conflict:
        conflicts.settle(now=now)
    logger.info("not cleared %s: %s %s", attempt.run.run_path, finding.reason, detail)


def _name_left(removed: removal.Removal) -> str:
    # What stays only because of other entries comes last.
    left = sorted(removed.left, key=lambda entry: entry[1] in (removal.KEPT_LAST, "ENOTEMPTY"))
    return proofs.name_some([f"{show(path)}: {why}" for path, why in left])
