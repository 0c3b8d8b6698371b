"""What waits for an operator, as far as the user may see it.

It reads only rows, and bounded: of blocked runs only the largest.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db.models import (
    Case,
    Count,
    Exists,
    F,
    IntegerField,
    Max,
    Min,
    OuterRef,
    Q,
    QuerySet,
    TextField,
    Value,
    When,
)
from django.db.models.functions import Cast, Coalesce, Concat, StrIndex, Substr

from cleanup.clears import batches
from cleanup.lab import readiness
from cleanup.lab.nas.nas_roots import nas_roots
from cleanup.lab.people import permissions
from cleanup.models import (
    Alert,
    AlertKind,
    ClearBatch,
    HostClock,
    NasBreaker,
    Orphan,
    OrphanKind,
    Run,
    RunQuerySet,
    StagingRoot,
    Status,
    SweepBreaker,
)
from cleanup.models.aggregates import bytes_sum
from cleanup.monitoring import surroundings, watchdog
from cleanup.monitoring.surroundings import Surroundings
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.runs.orphans import orphans

VIEW_SWEEP = "cleanup.view_sweep"
# The reasons of the largest blocked runs, at most this many, are looked at.
BLOCKED_LOOKED_AT = 5_000
# Stands for one problem where others have a name: no reason and no host is called so.
_ONE = "*"
# The count stops here.
MOST = 1_000
# One page shows the most urgent alerts; the admin has them all.
SHOWN_ALERTS = 100


class ProblemKind(enum.StrEnum):
    """Problems without an alert; the others have the kind of their alert."""

    OF_HOST = "of_host"
    OF_ROOT = "of_root"
    OF_NAS = "of_nas"
    UNWATCHED = "unwatched"
    RUNS = "runs"
    PAUSED = "paused"


class Urgency(enum.IntEnum):
    NOTHING_GOES = 0
    NOBODY_WORKS = 1
    FULL = 2
    UNFINISHED = 3
    BLOCKED = 4
    STALLED = 5
    HOLDS = 6

    @property
    def title(self) -> str:
        return _TITLES[self]


_TITLES = {
    Urgency.NOTHING_GOES: "Nothing can be cleared",
    Urgency.NOBODY_WORKS: "Something does not work or is not watched",
    Urgency.FULL: "A disk is too full",
    Urgency.UNFINISHED: "Clears that did not come to a good end",
    Urgency.BLOCKED: "Runs that are blocked",
    Urgency.STALLED: "Runs that do not move on",
    Urgency.HOLDS: "Holds to think of",
}
_OF_KIND = {
    AlertKind.CLUSTER: Urgency.NOBODY_WORKS,
    AlertKind.HOST: Urgency.NOBODY_WORKS,
    AlertKind.SCHEDULE: Urgency.NOBODY_WORKS,
    AlertKind.PRESSURE: Urgency.FULL,
    AlertKind.STALLED_ATTEMPT: Urgency.UNFINISHED,
    AlertKind.CONFLICT: Urgency.UNFINISHED,
    AlertKind.ORPHAN: Urgency.BLOCKED,
    AlertKind.STALLED_RUN: Urgency.STALLED,
    AlertKind.HOLD: Urgency.HOLDS,
    AlertKind.TWIN: Urgency.BLOCKED,
}
# A clear began, or failed again and again: the operator must look at what is left.
_UNFINISHED = frozenset(
    {
        Reason.ALREADY_CLEARED,
        Reason.REMOVAL_INCOMPLETE,
        Reason.PATH_OCCUPIED,
        Reason.INTERRUPTED,
        Reason.PLAN_MISSING,
        Reason.STRAY_FENCE,
        Reason.DATABASE_ERROR,
        Reason.STORAGE_ERROR,
        Reason.PARKED,
    }
)


@dataclass(frozen=True, kw_only=True)
class OpenProblem:
    """One thing that waits for an operator.

    `runs`, `bytes` (logical) and `looked_at`: of a group of blocked runs; `until`: when a NAS is asked again.
    """

    urgency: Urgency
    reason: str
    detail: str = ""
    root: StagingRoot | None = None
    run: Run | None = None
    host: str = ""
    batch: ClearBatch | None = None
    kind: str = ""
    since: datetime | None = None
    until: datetime | None = None
    looked_at: datetime | None = None
    runs: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class ProblemGroup:
    """The problems of one urgency; `count` also counts those not shown."""

    urgency: Urgency
    problems: list[OpenProblem]
    count: int

    @property
    def left_out(self) -> int:
        return self.count - len(self.problems)


@dataclass(frozen=True)
class Checked:
    roots: list[StagingRoot]
    watched_at: datetime | None
    clocks: list[HostClock]


def listed(
    user: User, now: datetime, *, hindrances: tuple[Finding, ...], around: Surroundings | None = None
) -> list[ProblemGroup]:
    """All problems but breakers and orphans, the most urgent and then the oldest first; `hindrances` are
    this host's.
    """
    around = surroundings.look(user, now) if around is None else around
    found: list[OpenProblem] = [*map(_of_finding, hindrances), *_of_roots(around), *_of_nas(around, now)]
    found += _unwatched(around)
    alerts = _of_alerts(user)
    found += alerts
    found += [*_paused(user, now), *_blocked(user)]
    left_out = _counted_alerts(user) if len(alerts) == SHOWN_ALERTS else {}
    for problem in alerts if left_out else ():
        left_out[problem.urgency] -= 1
    groups = []
    for urgency in Urgency:
        problems = [problem for problem in found if problem.urgency is urgency]
        if problems or left_out.get(urgency):
            groups.append(ProblemGroup(urgency, problems, len(problems) + left_out.get(urgency, 0)))
    return groups


def count(user: User, now: datetime, *, hindrances: tuple[Finding, ...] | None = None) -> int:
    """The number of problems with breakers and orphans, at most `MOST`."""
    others: list[QuerySet[Any, Any]] = [
        alerts(user),
        breakers(user),
        roots_in_trouble(user),
        visible_orphans(user),
        nas_in_trouble(user, now),
        ClearBatch.objects.filter(pk__in=batches.forgotten(user, now).values("pk")),
    ]
    hosts = _silent_hosts(user, now).order_by().values_list("host", Value(1)).distinct()
    single = (part.order_by().values_list(Value(_ONE), Value(1)) for part in others)
    rows = _blocked_by_reason(user).union(_told_by_reason(user), hosts, *single, all=True)
    by_reason, found = dict[str, int](), 0
    for reason, number in rows[: 2 * MOST]:
        found += reason == _ONE
        by_reason[reason] = by_reason.get(reason, 0) + number * (reason != _ONE)
    of_host = readiness.hindrances() if hindrances is None else hindrances
    return min(found + sum(number > 0 for number in by_reason.values()), MOST) + len(of_host)


def checked(around: Surroundings) -> Checked:
    hosts = {root.host for root in around.mine}
    clocks = HostClock.objects.filter(host__in=hosts).exclude(compared={})
    watched_at = (around.watched_at.get(host) for host in hosts)
    return Checked(around.mine, max(filter(None, watched_at), default=None), list(clocks))


def alerts(user: User) -> QuerySet[Alert]:
    """The open alerts that a user may see, without those of roots and breakers, which the page shows itself."""
    shown_apart = watchdog.about_roots()
    if user.has_perm(VIEW_SWEEP):
        shown_apart |= watchdog.about_breakers()
    places = permissions.places(user, permissions.VIEW)
    of_host = Q(root=None, run=None)
    of_root = Q(run=None) & places.q("root", "")
    seen = Q() if places.everywhere else of_host | of_root | places.q("run__root", "run__equipment")
    return Alert.objects.filter(seen, ended_at=None).exclude(shown_apart)


def breakers(user: User) -> QuerySet[SweepBreaker]:
    if not user.has_perm(VIEW_SWEEP):
        return SweepBreaker.objects.none()
    return SweepBreaker.objects.filter(closed_at=None, root__in=permissions.roots(user).order_by())


def roots_in_trouble(user: User) -> QuerySet[StagingRoot]:
    return permissions.roots(user).exclude(problem="")


def nas_in_trouble(user: User, now: datetime) -> QuerySet[NasBreaker]:
    """The NAS roots that are not asked just now; a token is in no other text of a staging root."""
    roots = permissions.roots(user).order_by().filter(host=OuterRef("host"))
    told = roots.annotate(told=Cast("instrument_nas", TextField()))
    mine = told.filter((Q(nas_token=OuterRef("token")) & ~Q(nas_path="")) | Q(told__contains=OuterRef("token")))
    return NasBreaker.objects.filter(Exists(mine), open_until__gt=now).exclude(token="")


def visible_orphans(user: User, *, among: QuerySet[Orphan] | None = None) -> QuerySet[Orphan]:
    """The listed orphans, or those of a query; a path without an instrument belongs to users of the whole root."""
    found = orphans.listed() if among is None else among
    places = permissions.places(user, permissions.VIEW)
    if places.everywhere:
        return found
    first = Substr("path", 1, StrIndex(Concat("path", Value("/")), Value("/")) - 1)
    return found.alias(instrument=first).filter(places.q("root", "instrument"))


def may(user: User, permission: str, orphan: Orphan) -> bool:
    return permissions.places(user, permission).include(orphan.root_id, orphan.path.partition("/")[0])


def _of_finding(finding: Finding) -> OpenProblem:
    return OpenProblem(
        urgency=Urgency.NOTHING_GOES, reason=finding.reason, detail=finding.detail, kind=ProblemKind.OF_HOST
    )


def _of_roots(around: Surroundings) -> Iterable[OpenProblem]:
    troubled = [root for root in around.mine if root.problem]
    told = Alert.objects.filter(watchdog.about_roots(), ended_at=None).order_by().values_list("root", "since")
    since = dict(told) if troubled else {}
    for root in troubled:
        yield OpenProblem(
            urgency=Urgency.NOTHING_GOES,
            reason=root.problem,
            root=root,
            since=since.get(root.pk),
            kind=ProblemKind.OF_ROOT,
        )


def _of_nas(around: Surroundings, now: datetime) -> Iterable[OpenProblem]:
    by_nas = {(root.host, nas.token): root for root in reversed(around.mine) for nas in nas_roots(root) if nas.token}
    for breaker in NasBreaker.objects.filter(open_until__gt=now).order_by("host", "token"):
        if (breaker.host, breaker.token) not in by_nas:
            continue
        yield OpenProblem(
            urgency=Urgency.NOTHING_GOES,
            reason=breaker.reason,
            detail=breaker.detail,
            root=by_nas[breaker.host, breaker.token],
            since=breaker.since,
            until=breaker.open_until,
            kind=ProblemKind.OF_NAS,
        )


def _unwatched(around: Surroundings) -> Iterable[OpenProblem]:
    seen = {root.host for root in around.mine}
    for host in filter(seen.__contains__, around.unwatched):
        since, kind = around.watched_at.get(host), ProblemKind.UNWATCHED
        yield OpenProblem(urgency=Urgency.NOBODY_WORKS, reason="", host=host, since=since, kind=kind)


def _silent_hosts(user: User, now: datetime) -> QuerySet[StagingRoot]:
    return permissions.roots(user).exclude(host__in=watchdog.heard_watches(now))


def _of_alerts(user: User) -> list[OpenProblem]:
    order = Case(
        *(When(kind=kind, then=Value(int(urgency))) for kind, urgency in _OF_KIND.items()), output_field=IntegerField()
    )
    shown = alerts(user).select_related("root", "run").defer("run__facts").order_by(order, "since", "pk")
    return [
        OpenProblem(
            urgency=_OF_KIND[AlertKind(alert.kind)],
            reason=alert.reason,
            detail=alert.detail,
            root=alert.root,
            run=alert.run,
            host="" if alert.root or alert.run else alert.subject,
            since=alert.since,
            kind=alert.kind,
        )
        for alert in shown[:SHOWN_ALERTS]
    ]


def _counted_alerts(user: User) -> dict[Urgency, int]:
    counted = dict.fromkeys(Urgency, 0)
    for kind, number in alerts(user).order_by().values_list("kind").annotate(number=Count("pk")):
        counted[_OF_KIND[AlertKind(kind)]] += number
    return counted


def _paused(user: User, now: datetime) -> Iterable[OpenProblem]:
    for batch in batches.forgotten(user, now):
        yield OpenProblem(
            urgency=Urgency.UNFINISHED,
            reason="",
            detail=batches.say_forgotten(batch),
            batch=batch,
            since=batch.paused_at or batch.stopped_at,
            kind=ProblemKind.PAUSED,
        )


def _blocked(user: User) -> Iterable[OpenProblem]:
    by_reason = (
        _largest_blocked(user)
        .order_by()
        .values_list("reason")
        .annotate(runs=Count("pk"), size=bytes_sum("bytes"), looked_at=Max("looked_at"), since=Min("stood_since"))
    )
    told = [
        OpenProblem(
            urgency=Urgency.UNFINISHED if reason in _UNFINISHED else Urgency.BLOCKED,
            reason=reason,
            runs=runs,
            bytes=size or 0,
            since=since,
            looked_at=looked_at,
            kind=ProblemKind.RUNS,
        )
        for reason, runs, size, looked_at, since in by_reason
    ]
    return sorted(told, key=lambda problem: -problem.bytes)


def _blocked_by_reason(user: User) -> QuerySet[Any, Any]:
    """(reason, number) of the blocked runs, from an index alone."""
    blocked = permissions.runs(user).here().filter(tone=Status.BLOCK).order_by()
    return blocked.values("reason").annotate(number=Count("pk")).values_list("reason", "number")


def _told_by_reason(user: User) -> QuerySet[Any, Any]:
    """(reason, less than nothing) of those that are told apart."""
    told = orphans.listed().exclude(run=None).exclude(kind=OrphanKind.SHELL).order_by().values("run")
    alerted = Alert.objects.filter(kind=AlertKind.CONFLICT, ended_at=None).exclude(run=None).order_by().values("run")
    blocked = permissions.runs(user).here().filter(tone=Status.BLOCK, pk__in=told.union(alerted)).order_by()
    return blocked.values("reason").annotate(number=-Count("pk")).values_list("reason", "number")


def _not_told(runs: RunQuerySet) -> RunQuerySet:
    told = orphans.listed().filter(run=OuterRef("pk")).exclude(kind=OrphanKind.SHELL)
    alerted = Alert.objects.filter(run=OuterRef("pk"), kind=AlertKind.CONFLICT, ended_at=None)
    return runs.filter(~Exists(told), ~Exists(alerted))


def _largest_blocked(user: User) -> RunQuerySet:
    """Without those told as orphans or conflicts."""
    blocked = permissions.runs(user).here().filter(tone=Status.BLOCK)
    largest = blocked.order_by("tone", Coalesce("bytes", 0).desc(), F("pk").desc())[:BLOCKED_LOOKED_AT]
    return _not_told(Run.objects.filter(pk__in=largest.values("pk")))
