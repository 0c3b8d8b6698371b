"""Retires a staging root: it is not looked at, swept or cleared any more. Runs, history and ledger stay as they are."""

import logging

from django.db import transaction

from cleanup.lab.roots import first_nights, root_lock
from cleanup.lab.roots.registration import RegistrationError
from cleanup.models import Alert, Orphan, Run, StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.runs import run_status
from cleanup.runs.moved_or_gone import reregistration
from cleanup.runs.moved_or_gone.reregistration import RegisterOrder

logger = logging.getLogger(__name__)


def retire(root: StagingRoot, order: RegisterOrder) -> int:
    """Retire a root; returns how many runs lay there when it was last looked at. Twice is harmless.

    `reregistration.reregister_root` takes it up again. Touches no disk but its locks. Raises RegistrationError for a
    clear, a removal that is not complete, or a sweep under way.
    """
    if StagingRoot.objects.exclude(retired_at=None).filter(pk=root.pk).exists():
        return _left(root)
    with reregistration.undisturbed(root, order), root_lock.claim(root) as claimed:
        if not claimed:
            raise RegistrationError(f"Automatic clearing is at work on {root.name}. Wait for its end, then try again.")
        reregistration.refuse_fences(root, root)
        _write(root, order)
    run_status.judge_stale(order.now, runs=Run.objects.filter(root=root))
    logger.info("%s is retired by %s: %s", root.name, order.actor, order.note)
    return _left(root)


def _write(root: StagingRoot, order: RegisterOrder) -> None:
    # The rows are locked, so no attempt can begin.
    with transaction.atomic():
        runs = Run.objects.filter(root=root)
        list(runs.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True))
        reregistration.refuse_active(root)
        # The problem keeps runs from being offered wherever one still shows.
        StagingRoot.objects.filter(pk=root.pk).update(retired_at=order.now, problem=Reason.ROOT_NOT_MOUNTED)
        runs.staged().doubt()
        # Nobody looks whether they last.
        Orphan.objects.filter(root=root, gone_at=None).update(gone_at=order.now)
        Alert.objects.filter(root=root, ended_at=None).update(ended_at=order.now)
        first_nights.retired(root, order.now, author=order.actor, note=order.note)


def _left(root: StagingRoot) -> int:
    return Run.objects.staged().filter(root=root).count()
