"""The watchdog: one look at what should move and does not.

It reads only rows and lock files, so no disk and no NAS can make it hang; it writes only alerts.
"""

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.db.models import Min, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from cleanup.clears import conflicts
from cleanup.lab import alerts as lab_alerts
from cleanup.lab import task_queues
from cleanup.lab.alerts import AlertState
from cleanup.lab.roots import opening
from cleanup.models import (
    Alert,
    AlertKind,
    ClearAttempt,
    Heartbeat,
    HostClock,
    IngestEvent,
    Phase,
    RecordSight,
    RetentionPolicy,
    Run,
    StagingRoot,
    SweepBreaker,
)
from cleanup.rules import liveness as rules
from cleanup.rules.policies.effective import effective_policy
from cleanup.rules.policies.policy import Policy, Scope
from cleanup.rules.reasons import Reason
from cleanup.runs.holds import reminders, run_reminders

logger = logging.getLogger(__name__)

# The name of the watchdog's own heartbeats, beside those of the clusters.
WATCH = "watch"
# Subjects of alerts that pages also show in another way; the key of the root follows.
_BREAKER, _ROOT = "breaker:", "root:"
_CLOCK = "clock:"
# A stuck attempt is looked at twice: recovery holds its lock for a moment every minute.
_SECOND_LOOK_SECONDS = 1.0
_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class Watched:
    """The open alerts, the oldest first, and the rules that failed."""

    now: datetime
    alerts: list[Alert]
    failed: list[str]


def watch(*, now: datetime, listening_since: datetime | None = None) -> Watched:
    """Look once: open, refresh and end alerts, and write this host's heartbeat.

    `listening_since`: when it began to look without a break; silence before is no fault. A rule that fails does not
    stop the others. Raises OperationalError or InterfaceError if the database is away.
    """
    Heartbeat.objects.update_or_create(cluster=WATCH, host=settings.EXLAB_HOST, defaults={"at": now})
    failed = []
    for rule in (_runs, _attempts, _conflicts, _schedules, _clusters, _hosts, _clocks, _breakers, _holds):
        try:
            rule(now, listening_since)
        except (OperationalError, InterfaceError):
            raise
        except Exception:  # one bad rule must not stop the others
            logger.exception("the watchdog could not look at %s", rule.__name__.strip("_"))
            failed.append(rule.__name__.strip("_"))
    return Watched(now=now, alerts=open_alerts(), failed=failed)


def open_alerts() -> list[Alert]:
    return list(Alert.objects.filter(ended_at=None).select_related("root", "run").order_by("since", "pk"))


def about_breakers() -> Q:
    """The alerts of open breakers, for pages that show the breaker itself."""
    return Q(kind=AlertKind.SCHEDULE, subject__startswith=_BREAKER)


def about_roots() -> Q:
    """The alerts of missing roots, for pages that show the root itself."""
    return Q(kind=AlertKind.HOST, subject__startswith=_ROOT)


def silent_watches(now: datetime) -> list[str]:
    """The hosts with staging roots whose watchdog has given no sign of life for two minutes."""
    unwatched = StagingRoot.objects.active().exclude(host__in=heard_watches(now)).order_by("host")
    return list(unwatched.values_list("host", flat=True).distinct())


def heard_watches(now: datetime) -> QuerySet[Heartbeat, Any]:
    """The hosts whose watchdog has given a sign of life in the last two minutes, for a query to ask."""
    lately = {"at__gt": now - rules.WATCH_SILENT_AFTER, "at__lte": now + rules.AHEAD}
    return Heartbeat.objects.filter(cluster=WATCH, **lately).values("host")


def beating_hosts(now: datetime) -> set[str]:
    """The hosts whose clearing cluster works; on others a clear only waits."""
    lately = {"at__gt": now - rules.SILENT_AFTER, "at__lte": now + rules.AHEAD}
    beats = Heartbeat.objects.filter(cluster=settings.EXLAB_CLEAR_CLUSTER, **lately)
    return set(beats.values_list("host", flat=True))


def clusters() -> tuple[str, str, str]:
    return str(settings.Q_CLUSTER["name"]), settings.EXLAB_CLEAR_CLUSTER, settings.EXLAB_PROVE_CLUSTER


def lock_holders(data_dir: Path) -> set[int]:
    """The visible processes that hold one of our locks: they are at work."""
    ours, holders = set(), set()
    with contextlib.suppress(FileNotFoundError), os.scandir(data_dir / "locks") as entries:
        ours = {entry.inode() for entry in entries}
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()  # number: FLOCK ADVISORY WRITE pid major:minor:inode start end
        if len(fields) >= 6 and fields[1] == "FLOCK" and int(fields[5].rpartition(":")[2]) in ours:
            holders.add(int(fields[4]))
    return holders


# Runs


def _runs(now: datetime, listening_since: datetime | None) -> None:
    last = IngestEvent.objects.filter(run=OuterRef("pk")).order_by("-position")
    # A record without a history moves on with each of its contents.
    sight = RecordSight.objects.filter(run=OuterRef("pk")).order_by("-first_seen_at", "-pk").values("first_seen_at")
    waiting = (
        Run.objects.staged()
        .filter(state__in=rules.WAITING, root__retired_at=None)
        .exclude(problem__in=[Reason.MISSING_DIRECTORY, Reason.SHELL_LEFT])  # told among the orphans
        .select_related("root")
        .defer("facts")
        .annotate(
            entry_at=Subquery(last.values("at")[:1]),
            entry_seen_at=Coalesce(Subquery(last.values("first_seen_at")[:1]), Subquery(sight[:1])),
        )
    )
    scoped = RetentionPolicy.objects.scoped()
    policies: dict[Scope, Policy] = {}
    troubles = []
    for run in cast("Iterator[Any]", waiting.iterator(chunk_size=_AT_ONCE)):
        if (policy := policies.get(run.scope)) is None:
            policy = policies[run.scope] = effective_policy(scoped, run.scope)
        since = rules.waiting_since(run.entry_at, run.entry_seen_at, run.first_seen_at)
        if rules.is_stalled(since, policy, now):
            words = f"{run.state} since {_instant(since)}, and {policy.stalled_after_hours:g} h is the limit here"
            troubles.append(
                AlertState(subject=f"run:{run.pk}", reason=Reason.STALLED, detail=words, root=run.root, run=run)
            )
    lab_alerts.settle(AlertKind.STALLED_RUN, _still_waiting(troubles), now=now)


def _still_waiting(troubles: list[AlertState]) -> list[AlertState]:
    """The alerts whose run has not moved on meanwhile: reading many runs takes a while."""
    states: dict[int, str] = {}
    runs = [trouble.run for trouble in troubles if trouble.run]
    for start in range(0, len(runs), _AT_ONCE):
        some = [run.pk for run in runs[start : start + _AT_ONCE]]
        states.update(Run.objects.staged().filter(pk__in=some).values_list("pk", "state"))
    return [trouble for trouble in troubles if trouble.run and states.get(trouble.run.pk) == trouble.run.state]


# Attempts


def _attempts(now: datetime, listening_since: datetime | None) -> None:
    host = settings.EXLAB_HOST
    under_way = ClearAttempt.objects.filter(host=host, phase__in=[Phase.INTENT, Phase.COMMITTED])
    if stuck := _stuck(under_way, now):
        time.sleep(_SECOND_LOOK_SECONDS)
        stuck = _stuck(under_way.filter(pk__in=[attempt.pk for attempt in stuck]), now)
    troubles = [
        AlertState(
            subject=f"{host}:{attempt.pk.hex}",
            reason=Reason.NO_PROGRESS,
            detail=f"{attempt.phase}, no progress since {_instant(_moved_at(attempt))}",
            root=attempt.run.root,
            run=attempt.run,
        )
        for attempt in stuck
    ]
    lab_alerts.settle(AlertKind.STALLED_ATTEMPT, troubles, now=now, prefix=f"{host}:")


def _conflicts(now: datetime, listening_since: datetime | None) -> None:
    conflicts.settle(now=now)


def _stuck(attempts: QuerySet[ClearAttempt], now: datetime) -> list[ClearAttempt]:
    """Attempts without progress whose lock a worker holds; recovery settles the others."""
    nas_timeout = timedelta(seconds=settings.EXLAB_NAS_TIMEOUT)
    return [
        attempt
        for attempt in attempts.select_related("run__root")
        if rules.has_no_progress(_moved_at(attempt), now, nas_timeout=nas_timeout) and _is_held(attempt)
    ]


def _moved_at(attempt: ClearAttempt) -> datetime:
    return max(filter(None, (attempt.phase_at, attempt.progress_at)))


def _is_held(attempt: ClearAttempt) -> bool:
    """Asks the lock itself: the worker may live in another container."""
    with opening.data_dir().lock(str(attempt.run_id)) as free:
        return not free


# Timed tasks, clusters, hosts


def _schedules(now: datetime, listening_since: datetime | None) -> None:
    host = settings.EXLAB_HOST
    rows = {row.name: row for row in task_queues.rows_of(host)}
    troubles, doubtful = [], []
    for name, _func, minutes, _cluster in task_queues.SCHEDULES:
        row, key = rows.get(name), f"{host}:{name}"
        every = timedelta(minutes=minutes)
        timed = rules.Timed(next_run=row.next_run, every=every, repeats=row.repeats) if row else None
        if not (words := rules.missed(timed, now)):
            continue
        if rules.missed(timed, now, listening_since=listening_since):
            words = f"{name} on {host}: {words}"
            troubles.append(AlertState(subject=key, reason=Reason.SCHEDULE_MISSED, detail=words))
        else:
            doubtful.append(key)
    lab_alerts.settle(AlertKind.SCHEDULE, troubles, now=now, prefix=f"{host}:", doubtful=doubtful)


def _clusters(now: datetime, listening_since: datetime | None) -> None:
    """Another host's watchdog tells of its own clusters."""
    host = settings.EXLAB_HOST
    beats = dict(Heartbeat.objects.filter(host=host).values_list("cluster", "at"))
    troubles, doubtful = [], []
    for cluster in clusters() if StagingRoot.objects.active().filter(host=host).exists() else ():
        beat, key = beats.get(cluster), f"{host}:{cluster}"
        if not rules.is_silent(beat, now, rules.SILENT_AFTER):
            continue
        if not rules.is_silent(beat, now, rules.SILENT_AFTER, listening_since=listening_since) or _is_at_work(cluster):
            doubtful.append(key)
            continue
        words = f"{cluster} on {host}: {_heard(beat, now)}"
        troubles.append(AlertState(subject=key, reason=Reason.CLUSTER_SILENT, detail=words))
    lab_alerts.settle(AlertKind.CLUSTER, troubles, now=now, prefix=f"{host}:", doubtful=doubtful)


def _is_at_work(cluster: str) -> bool:
    """A cluster's heartbeat waits behind long work."""
    return any(_cluster_of(pid) == cluster for pid in lock_holders(settings.EXLAB_DATA_DIR))


def _cluster_of(pid: int) -> str:
    process = Path(f"/proc/{pid}")
    with contextlib.suppress(OSError):
        if b"qcluster" in (process / "cmdline").read_bytes().split(b"\0"):
            given = (process / "environ").read_bytes().split(b"\0")
            named = [os.fsdecode(one.partition(b"=")[2]) for one in given if one.startswith(b"Q_CLUSTER_NAME=")]
            return named[0].partition("@")[0] if named and named[0] else clusters()[0]
    return ""


def _hosts(now: datetime, listening_since: datetime | None) -> None:
    beats: dict[str, list[datetime]] = {}
    for host, at in Heartbeat.objects.values_list("host", "at"):
        beats.setdefault(host, []).append(at)
    troubles, doubtful = [], []
    active = StagingRoot.objects.active()
    for host, known_since in active.values_list("host").annotate(Min("created_at")).order_by("host"):
        heard = beats.get(host, [])
        if not rules.unserved(heard, now, known_since=known_since):
            continue
        if not rules.unserved(heard, now, known_since=known_since, listening_since=listening_since):
            doubtful.append(host)
            continue
        last = _heard(max(heard, default=None), now)
        roots = ", ".join(active.filter(host=host).values_list("name", flat=True))
        troubles.append(
            AlertState(subject=host, reason=Reason.HOST_UNSERVED, detail=f"{host}: {last}; staging roots: {roots}")
        )
    for root in active.filter(problem__in=list(Reason)):
        words = f"{root.name} on {root.host}"
        troubles.append(AlertState(subject=f"{_ROOT}{root.pk}", reason=Reason(root.problem), detail=words, root=root))
    lab_alerts.settle(AlertKind.HOST, troubles, now=now, doubtful=doubtful)


def _heard(beat: datetime | None, now: datetime) -> str:
    if beat is None:
        return "never heard"
    return f"last heard at {_instant(beat)}{', by a clock that was ahead' if rules.is_ahead(beat, now) else ''}"


def _clocks(now: datetime, listening_since: datetime | None) -> None:
    host = settings.EXLAB_HOST
    subject, clock, troubles = f"{_CLOCK}{host}:", HostClock.objects.filter(host=host).first(), []
    if clock is not None and clock.doubted_since is not None:
        words = f"{host}: {clock.detail}"
        troubles.append(AlertState(subject=f"{subject}doubt", reason=Reason.CLOCK_IN_DOUBT, detail=words))
    if clock is not None and clock.mended_at is not None and abs(now - clock.mended_at) <= rules.TOLD_FOR:
        words = f"{host}, {_instant(clock.mended_at)}: {clock.mended}"
        troubles.append(AlertState(subject=f"{subject}back", reason=Reason.CLOCK_WENT_BACK, detail=words))
    lab_alerts.settle(AlertKind.SCHEDULE, troubles, now=now, prefix=subject)


def _breakers(now: datetime, listening_since: datetime | None) -> None:
    troubles = [
        AlertState(
            subject=f"{_BREAKER}{breaker.root_id}", reason=Reason.BREAKER_OPEN, detail=breaker.detail, root=breaker.root
        )
        for breaker in SweepBreaker.objects.filter(closed_at=None, root__retired_at=None).select_related("root")
    ]
    lab_alerts.settle(AlertKind.SCHEDULE, troubles, now=now, prefix=_BREAKER)


def _holds(now: datetime, listening_since: datetime | None) -> None:
    """Only for the pages: a task sends the mails, since a mail server can hang."""
    troubles = [
        AlertState(subject=one.subject, reason=one.reason, detail=one.detail, root=one.run.root, run=one.run)
        for one in reminders.reminders(now)
    ]
    asked = run_reminders.due(now).select_related("user", "run__root").defer("run__facts")
    troubles += [
        AlertState(
            subject=f"reminder:{one.pk}",
            reason=Reason.REMINDER_DUE,
            detail=run_reminders.said(one),
            root=one.run.root,
            run=one.run,
        )
        for one in asked[: run_reminders.SHOWN]
    ]
    lab_alerts.settle(AlertKind.HOLD, troubles, now=now)


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
