"""After a crash: undoes what an attempt began before its commit, completes it after.

Everything here may be done twice. A run whose lock is held is left to its holder.
"""

import contextlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone

from cleanup.clears import conflicts, settlement, shell_removal
from cleanup.lab import task_queues
from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import OpenRun, Unreachable
from cleanup.models import ClearAttempt, Phase, Run, SetAside
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.runs.facts import identity
from cleanup.runs.set_aside import set_aside_recovery
from cleanup.storage import errors, handles, linux, run_paths
from cleanup.storage.staging import fences, removal, run_tree
from cleanup.storage.staging.plan import Plan, PlanError

logger = logging.getLogger(__name__)

_CHANGING = [
    "phase",
    "reason",
    "plan_sha256",
    "prepared",
    "planned_files",
    "emptied",
    "done_files",
    "done_bytes",
    *settlement.FREED,
]


@dataclass
class Recovered:
    """The result of one pass. `set_aside`: files that a crash left on their way out of a run, or back."""

    rolled_back: list[ClearAttempt] = field(default_factory=list)
    rolled_forward: list[ClearAttempt] = field(default_factory=list)
    unsettled: list[tuple[ClearAttempt, Finding]] = field(default_factory=list)
    set_aside: list[SetAside] = field(default_factory=list)


def recover(*, now: datetime, runs: Iterable[Run] | None = None) -> Recovered:
    """Settle the interrupted attempts of this host, or of some runs. A bad attempt stops no other."""
    opening.data_dir().relieve()
    attempts = ClearAttempt.objects.filter(host=settings.EXLAB_HOST)
    if runs is not None:
        runs = list(runs)
        attempts = attempts.filter(run__in=runs)
    # Sweeps and commands perform their attempts without a task: one that is still queued has lost its process.
    abandoned = Q(phase=Phase.QUEUED, task_id="", phase_at__lt=now - task_queues.LOST_AFTER)
    interrupted = Q(phase__in=[Phase.INTENT, Phase.COMMITTED, Phase.CONFLICT])
    incomplete = Q(phase=Phase.DONE, reason=Reason.REMOVAL_INCOMPLETE)
    conflicts.settle(now=now)
    result = Recovered(set_aside=set_aside_recovery.recover(now=now, runs=runs))
    for attempt in _listed(attempts.filter(interrupted | incomplete | abandoned)):
        try:
            _settle(attempt, result, now)
        except Exception:  # one bad attempt must not stop the others
            logger.exception("the attempt %s on %s cannot be settled", attempt.pk.hex, attempt.run.run_path)
    return result


# What was interrupted first, what waits last.
_TURN = {Phase.DONE: 1, Phase.QUEUED: 2}


def _listed(attempts: QuerySet[ClearAttempt]) -> list[ClearAttempt]:
    # Keys first: usually there is none, and the rows are wide.
    keys = list(attempts.values_list("pk", "phase"))
    found = ClearAttempt.objects.select_related("run__root", "proof").in_bulk([key for key, _ in keys]) if keys else {}
    return [found[key] for key, _ in sorted(keys, key=lambda one: _TURN.get(Phase(one[1]), 0)) if key in found]


def _settle(attempt: ClearAttempt, result: Recovered, now: datetime) -> None:
    with opening.data_dir().lock(str(attempt.run_id)) as free:
        if not free:
            return
        ClearAttempt.objects.filter(pk=attempt.pk).update(progress_at=timezone.now())
        settlement.settle_phase(attempt, *_CHANGING)  # another worker may have had it since
        if attempt.phase == Phase.DONE and not attempt.incomplete:
            return
        try:
            if not attempt.is_clear:
                _settle_shell(attempt, result, now)
            elif attempt.phase in (Phase.COMMITTED, Phase.DONE):
                if _roll_forward(attempt, now):
                    result.rolled_forward.append(attempt)
            elif attempt.phase in (Phase.INTENT, Phase.QUEUED, Phase.CONFLICT):
                _roll_back(attempt, now)
                result.rolled_back.append(attempt)
        except BlockingIOError:
            return  # a process with its locks in another data directory is at work
        except (Unreachable, OSError) as error:
            finding = error.finding if isinstance(error, Unreachable) else errors.way_blocked(error)
            result.unsettled.append((attempt, finding))
            settlement.tell_of_wait(attempt, finding)
            logger.warning("%s stays %s: %s", attempt.run.run_path, attempt.phase, error)


def _settle_shell(attempt: ClearAttempt, result: Recovered, now: datetime) -> None:
    forward = shell_removal.settle(attempt, now=now)
    if forward is not None:
        (result.rolled_forward if forward else result.rolled_back).append(attempt)


def _roll_back(attempt: ClearAttempt, now: datetime) -> None:
    """Raises Unreachable where the run stays in its fence."""
    # A queued attempt tried nothing, and a conflict was counted before.
    failed = attempt.phase == Phase.INTENT
    try:
        if attempt.phase != Phase.QUEUED:
            with _alone(attempt):
                _put_back(attempt)
    except FileExistsError:
        finding = settlement.occupied(attempt)
        if attempt.phase != Phase.CONFLICT:
            settlement.finish_without_clear(attempt, Phase.CONFLICT, finding, now=now, failed=failed)
        raise Unreachable(finding) from None
    settlement.finish_without_clear(attempt, Phase.ABORTED, Finding(Reason.INTERRUPTED), now=now, failed=failed)


def _put_back(attempt: ClearAttempt) -> None:
    try:
        settlement.roll_back(attempt, attempt.run)
    except BlockingIOError as error:
        raise Unreachable(Finding(Reason.WRITER_ACTIVE, error.strerror or "")) from None


@contextlib.contextmanager
def _alone(attempt: ClearAttempt) -> Iterator[None]:
    # A clear holds this flock too. Lock files do not reach another data directory, or an emptied one.
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(opening.open_root(attempt.run.root))
        for name in (None, fences.fence_name(attempt.pk.hex)):
            with contextlib.suppress(Unreachable):
                opened = stack.enter_context(opening.open_run(root, attempt.run.run_path, name=name))
                stack.enter_context(handles.flocked(opened.run))
        yield


def _roll_forward(attempt: ClearAttempt, now: datetime) -> bool:
    run = attempt.run
    with opening.open_root(run.root) as root:
        try:
            plan = opening.data_dir().read_plan(attempt.pk.hex, attempt.plan_sha256)
        except PlanError as error:
            raise Unreachable(Finding(Reason.PLAN_MISSING, str(error))) from None
        _fence_again(root, attempt, plan)
        fence = fences.fence_name(attempt.pk.hex)
        try:
            with opening.open_run(root, run.run_path, name=fence) as opened, handles.flocked(opened.run):
                _expect_same(opened, attempt, plan)
                settlement.roll_forward(attempt, opened, plan, now=now, interrupted=True)
        except Unreachable as error:
            if error.finding.reason is not Reason.MISSING_DIRECTORY:
                raise
            _finish_gone(root, attempt, plan, now)
        return True


def _fence_again(root: int, attempt: ClearAttempt, plan: Plan) -> None:
    # A power failure may put a committed run back. Only if inode and tree equal the plan: anything else is new work.
    run = attempt.run
    with contextlib.suppress(Unreachable), opening.open_run(root, run.run_path) as opened:
        if linux.status(opened.run).ino == plan.ino:
            fences.discard_challenge(opened.run, fences.challenge_name(attempt.pk.hex))
        found = run_tree.scan(opened.run)
        if found.ino == plan.ino and not found.problems and not run_tree.differences(plan.entries, found.entries):
            fences.fence(opened.parent, run.leaf.encode(), fences.fence_name(attempt.pk.hex))


def _expect_same(opened: OpenRun, attempt: ClearAttempt, plan: Plan) -> None:
    # A disk reuses inode numbers: the time of birth tells folders apart.
    status = linux.status(opened.run)
    found = identity.of(status, None)
    if status.ino != plan.ino or not identity.same(attempt.run.identity, found):
        raise Unreachable(Finding(Reason.IDENTITY_MISMATCH, "another directory lies at the fence"))


def _finish_gone(root: int, attempt: ClearAttempt, plan: Plan, now: datetime) -> None:
    """The fence is gone: write that down, unless the run lies at its own path."""
    run_path = attempt.run.run_path
    came_back = False
    with contextlib.suppress(Unreachable), opening.open_run(root, run_path) as opened:
        found = identity.of(linux.status(opened.run), None)
        came_back = identity.same(attempt.run.identity, found)
    if came_back:
        raise Unreachable(Finding(Reason.PATH_OCCUPIED, "the cleared run lies at its own path, changed"))
    # Opened first: where this folder is missing, it may have been moved with the fence in it.
    with handles.opened(handles.open_beneath(root, run_paths.parse_run_path(run_path).parent)) as parent:
        fences.discard_prepared(parent, fences.prepared_name(attempt.pk.hex))
    settlement.finish(attempt, _gone(attempt, plan), now)


def _gone(attempt: ClearAttempt, plan: Plan) -> removal.Removal:
    # Count no more than what was surely removed.
    if attempt.phase == Phase.DONE:
        # Another program removed what was left.
        freed = run_tree.Count(attempt.freed_files, attempt.freed_bytes, attempt.freed_allocated_bytes)
        return removal.Removal(freed, left=())
    if attempt.emptied:
        return removal.Removal(plan.counted, left=())
    # Another program took the fence during the removal; the counts are from up to a second before.
    freed = run_tree.Count(attempt.done_files, attempt.done_bytes, allocated=0)
    return removal.Removal(freed, left=((b".", "another program took the rest away"),))
