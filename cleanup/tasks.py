"""The functions of the task queue. A task only wakes up: our tables hold the truth, and a second call is harmless."""

import logging

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.utils import timezone
from django_q.conf import Conf
from django_q.tasks import async_task

from cleanup.clears import queue, receipt_delivery, recovery, retries, shell_removal, waiting_batches
from cleanup.clears.protocol import perform
from cleanup.clears.run_action import Action
from cleanup.lab import clocks, database_clock, task_queues
from cleanup.lab.nas import kept_readers
from cleanup.lab.roots import disk_usage
from cleanup.ledger import anchors
from cleanup.ledger.receipts import writing
from cleanup.models import ByteCheck, ClearAttempt, Heartbeat, Run, StagingRoot, changes
from cleanup.monitoring import disk_alarms, evening_mail, monthly_mail
from cleanup.monitoring.problems import cases
from cleanup.monitoring.reconciliation import reconciling
from cleanup.monitoring.reconciliation.nas import Bounds
from cleanup.runs import discovery, run_status
from cleanup.runs.holds import reminders, run_reminders
from cleanup.runs.orphans import orphans
from cleanup.runs.proofs import verify_again as comparisons
from cleanup.runs.proving import prover, proving_counts, proving_rows
from cleanup.runs.root_requests import answering
from cleanup.runs.set_aside import set_aside_mails, set_aside_recovery
from cleanup.storage import linux
from cleanup.sweeps import all_roots, breakers

logger = logging.getLogger(__name__)

# Some minutes of work: the next task goes on.
JUDGED_AT_ONCE = 100_000
# Of the runs that a dry run names, so many are proven ahead.
NAMED_TO_PROVE = 500
# A week's reconciliation asks the NAS for so long in all, in tasks of a minute: clears that wait come between them.
ASKED_SECONDS = 3600.0
ASKED_AT_ONCE = 60.0


def clear(attempt_id: str) -> str:
    """Carry out an operator's clear, or the removal of a shell."""
    now = timezone.now()
    attempt = ClearAttempt.objects.select_related("run__root", "batch").get(pk=attempt_id)
    run = attempt.run
    if queue.keeps_waiting(attempt):
        return f"{run.run_path}: waits, its batch is paused or stopped"
    recovery.recover(now=now, runs=[run])
    clocks.look(breakers.read_clock(now), ask=False)  # no hold may end by a clock that jumped a moment ago
    with kept_readers.keeping_on():
        attempt = perform(attempt, now=now) if attempt.is_clear else shell_removal.perform(attempt, now=now)
    run_status.judge_runs([run.pk], timezone.now())  # first: a page waits for it
    writing.write_due(now=timezone.now(), runs=[run])
    if not queue.is_followed(attempt):
        anchors.write(now=timezone.now())
    return f"{run.run_path}: {attempt.phase} {attempt.reason}".strip()


def verify_again(key: str) -> str:
    check = comparisons.perform(ByteCheck.objects.select_related("run").get(pk=key), now=timezone.now())
    return f"{check.run.run_path}: {check.phase} {check.outcome} {check.reason}".strip()


def sweep() -> str:
    now = timezone.now()
    evening_mail.announce_all(_roots(), now)  # what was not announced yet is announced now, before the sweep
    swept = all_roots.sweep(now=now, timed=True, roots=_roots(), clock=breakers.read_clock(now))
    writing.write_due(now=timezone.now())
    anchors.write(now=timezone.now())
    said = f"scanned {swept.scanned}, candidates {swept.candidates}, cleared {swept.count(Action.CLEARED)}"
    problems = (f"{one.root}: {one.reason} {one.detail}".rstrip() for one in swept.problems)
    return "; ".join((said, *problems))


def dry_run(root_id: int, actor: str) -> str:
    root = StagingRoot.objects.get(pk=root_id)
    now = timezone.now()
    swept = all_roots.sweep(now=now, dry_run=True, roots=[root], actor=actor)
    named = [run.run_path for run in swept.freeing[:NAMED_TO_PROVE]]
    keys = Run.objects.staged().filter(root=root, run_path__in=named).values_list("pk", flat=True)
    proving_rows.ask(keys, now, known=proving_counts.rows_of(keys))
    return f"{root}: would clear {swept.count(Action.WOULD_CLEAR)} of {swept.scanned} runs"


def discover() -> str:
    """Bring the roots of this host up to date; skips one that another process looks at."""
    said = []
    for root in _roots():
        try:
            said += _discover(root)
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:  # one bad root must not stop the others
            logger.exception("looking at %s failed", root)
            said.append(f"{root}: {type(error).__name__}, see the log")
    return ", ".join(said)


def _discover(root: StagingRoot) -> list[str]:
    disk_usage.measure(root, timezone.now())
    if (done := discovery.discover(root, now=timezone.now(), wait=False, quick=True)) is None:
        return []
    inspected = orphans.inspect(root, now=timezone.now(), wait=False)
    set_aside_recovery.look(root, now=timezone.now())
    return [f"{root}: {done.found} found{_count_orphans(inspected)}"]


def _count_orphans(inspected: orphans.Inspected | None) -> str:
    return f" and {inspected.listed} orphans" if inspected and inspected.listed else ""


def answer_root_request(key: str) -> str:
    """Look at a path, register, move or retire a staging root, as an admin has asked in the browser."""
    return answering.answer(key)


def recover() -> str:
    now = timezone.now()
    settled = recovery.recover(now=now)
    comparisons.settle_lost(host=settings.EXLAB_HOST, now=now)
    requeued = queue.enqueue_lost(host=settings.EXLAB_HOST, now=now)
    tried = retries.ask(now=timezone.now())
    told = receipt_delivery.tell_and_deliver(
        now=timezone.now()
    )  # last, and by its own clock: a recovery may take hours
    return (
        f"rolled back {len(settled.rolled_back)}, rolled forward {len(settled.rolled_forward)}, "
        f"unsettled {len(settled.unsettled)}, queued again {requeued}, {f'tried again {tried}, ' if tried else ''}"
        f"told the NAS of {told}"
    )


def begin_batches() -> str:
    """Begin the batches that waited for their time; call off those that could not begin."""
    now = database_clock.read()
    late = waiting_batches.call_off_late(now)
    return f"{waiting_batches.begin_due(now)} batches begun, {late} called off"


def judge() -> str:
    changes.forget_old(timezone.now())
    return f"{run_status.judge_stale(timezone.now(), limit=JUDGED_AT_ONCE)} runs judged"


def remind() -> str:
    now = timezone.now()
    told = f"{len(reminders.remind(now=now))} holds to think of"
    return f"{told}, {run_reminders.mail_due(now)} reminders and {set_aside_mails.tell(now)} mails of files set aside"


def announce() -> str:
    return f"{evening_mail.announce_all(_roots(), timezone.now())} announcements"


def watch_disks() -> str:
    """Measure the disks of this host, foresee when they are full, and tell people."""
    return f"{disk_alarms.look_at_all(_roots(), timezone.now())} disks nearly full"


def note_problems() -> str:
    """Keep when each problem began and ended, and bring back what was put off and has grown."""
    return f"{cases.note(timezone.now())} problems"


def anchor() -> str:
    return f"the ledger's head written down in {anchors.write(now=timezone.now(), daily=True)} places"


def summarise() -> str:
    """Send the summary of the last month, once."""
    return f"{monthly_mail.send_last_month(timezone.now())} summaries"


def reconcile() -> str:
    """Compare database, disks, data directory and, as long as there is time, the NAS. Changes none of them."""
    bounds = Bounds.of(seconds=min(ASKED_AT_ONCE, ASKED_SECONDS))
    return _ask_later(reconciling.reconcile(_roots(), now=timezone.now(), bounds=bounds), ASKED_SECONDS - ASKED_AT_ONCE)


def reconcile_further(seconds: float) -> str:
    """Ask for the copies for which `reconcile` had no time, for at most so long."""
    done = reconciling.ask_further(_roots(), Bounds.of(seconds=min(ASKED_AT_ONCE, seconds)))
    return _ask_later(done, seconds - ASKED_AT_ONCE)


def _ask_later(done: reconciling.Reconciled | None, seconds: float) -> str:
    if done is None:
        return "another reconciliation is under way"
    if done.waiting and seconds > 0:
        queue_of_host = task_queues.queue_for(settings.EXLAB_HOST)
        async_task("cleanup.tasks.reconcile_further", seconds, cluster=queue_of_host, task_name="reconcile further")
    found = done.found.counts.total()
    return f"{found} mismatches, {done.runs} runs, {done.asked} copies asked for, {done.waiting} waiting"


def prove() -> str:
    """Make proofs ahead of clicks, for some minutes; the next task goes on."""
    if not settings.EXLAB_PROVE:
        proving_rows.forget_all(timezone.now())
        return "proofs are not made ahead (EXLAB_PROVE)"
    if _cluster() == settings.EXLAB_PROVE_CLUSTER:  # no other work of this process has to wait
        linux.come_last()
    done = prover.prove_due(alive=heartbeat)
    # While each worker was busy with a NAS, a task a minute has come.
    queue_of_host = task_queues.queue_of(settings.EXLAB_PROVE_CLUSTER, settings.EXLAB_HOST)
    task_queues.forget_waiting("cleanup.tasks.prove", queue_of_host, timezone.now())
    return "; ".join(done) or "nothing to prove"


def heartbeat() -> None:
    """Write this cluster's heartbeat: it really runs tasks."""
    cluster = _cluster()
    Heartbeat.objects.update_or_create(cluster=cluster, host=settings.EXLAB_HOST, defaults={"at": timezone.now()})


def _cluster() -> str:
    return str(Conf.CLUSTER_NAME.partition("@")[0])


def _roots() -> list[StagingRoot]:
    return list(StagingRoot.objects.active().filter(host=settings.EXLAB_HOST))
