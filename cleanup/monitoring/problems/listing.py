"""The groups of problems with their members, and one group alone. It reads only rows, and bounded."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Case, CharField, Count, F, Max, Min, QuerySet, Value, When, Window
from django.db.models.functions import RowNumber

from cleanup.clears import batches
from cleanup.lab.nas.nas_roots import nas_roots
from cleanup.models import Alert, HostClock, NasBreaker, Orphan
from cleanup.models.aggregates import bytes_sum
from cleanup.monitoring import surroundings, watchdog
from cleanup.monitoring.problems import counting, seen
from cleanup.monitoring.problems.case_rows import open_cases
from cleanup.monitoring.problems.counting import Counted
from cleanup.monitoring.problems.group import SHOWN_OF_GROUP, Checked, ProblemGroup, by_key
from cleanup.monitoring.problems.kinds import OURS, OpenProblem, ProblemKey, ProblemKind, alert_key, place_of_alert
from cleanup.monitoring.surroundings import Surroundings
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason

# One page shows so many members in all.
_SHOWN = 300


def listed(
    user: User,
    now: datetime,
    *,
    hindrances: tuple[Finding, ...],
    around: Surroundings | None = None,
    found: Counted | None = None,
) -> list[ProblemGroup]:
    """All groups with some of their members, the most urgent and then the oldest first; `hindrances` are this host's.

    `found`: what `counted` has just said of them.
    """
    around = surroundings.look(user, now) if around is None else around
    found = counting.counted(user, now, hindrances=hindrances) if found is None else found
    members = by_key(list(_members(user, now, hindrances, around, found)))
    cases = open_cases(found.numbers)
    groups = [
        ProblemGroup(key=key, number=number, problems=members.get(key, []), case=cases.get(key))
        for key, number in found.numbers.items()
    ]
    return sorted(groups, key=lambda group: (group.urgency, *_within(group)))


def checked(around: Surroundings) -> Checked:
    hosts = {root.host for root in around.mine}
    clocks = HostClock.objects.filter(host__in=hosts).exclude(compared={})
    watched_at = (around.watched_at.get(host) for host in hosts)
    return Checked(around.mine, max(filter(None, watched_at), default=None), list(clocks))


def members_of(user: User, key: ProblemKey) -> "QuerySet[Any] | None":
    """All members of a group that can have many, in their order: alerts or orphans; None for the others."""
    if key.kind == ProblemKind.LEFT:
        return _of_left(seen.visible_orphans(user).filter(root=key.root, reason=key.reason))
    if key.kind in OURS:
        return None
    found = seen.alerts(user).filter(kind=key.kind, reason=key.reason)
    if not key.root:
        names = [subject for subject in _subjects(found) if place_of_alert(subject) == key.place]
        return _of_alerts(found.filter(root=None, subject__in=names))
    return _of_alerts(found.filter(root=key.root))


def problem_of(row: Alert | Orphan) -> OpenProblem:
    return _problem_of_orphan(row) if isinstance(row, Orphan) else _problem_of_alert(row)


def _within(group: ProblemGroup) -> tuple[Any, ...]:
    """What an admin must decide comes first; of blocked runs the largest."""
    escalated = any(problem.orphan is not None and problem.orphan.escalated_at for problem in group.problems)
    largest = -sum(problem.bytes for problem in group.problems)
    oldest = group.since
    return not escalated, largest, oldest is None, oldest.timestamp() if oldest else 0.0, group.key


def _members(
    user: User, now: datetime, hindrances: Iterable[Finding], around: Surroundings, found: Counted
) -> Iterator[OpenProblem]:
    """What no group has is not asked for."""
    for finding in hindrances:
        key = ProblemKey(ProblemKind.OF_HOST, finding.reason, place=settings.EXLAB_HOST)
        yield OpenProblem(key=key, detail=finding.detail)
    yield from _of_roots(around)
    if found.has(ProblemKind.OF_NAS):
        yield from _of_nas(around, now)
    yield from _unwatched(around)
    if found.has(ProblemKind.BREAKER) or any(key.kind not in OURS for key in found.numbers):
        yield from map(_problem_of_alert, _few(_of_alerts(seen.alerts(user)), "kind", "reason", "root", "named"))
    if found.has(ProblemKind.LEFT):
        yield from map(_problem_of_orphan, _few(_of_left(seen.visible_orphans(user)), "reason", "root"))
    if around.breakers:
        for breaker in seen.breakers(user).select_related("root", "sweep"):
            key = ProblemKey(ProblemKind.BREAKER, Reason.BREAKER_OPEN, breaker.root_id)
            yield OpenProblem(
                key=key, detail=breaker.detail, root=breaker.root, breaker=breaker, since=breaker.opened_at
            )
    if found.has(ProblemKind.PAUSED, ProblemKind.CALLED_OFF):
        yield from _forgotten(user, now)
    if found.has(ProblemKind.RUNS):
        yield from _blocked(user, around)


def _few(found: "QuerySet[Any]", *alike: str) -> list[Any]:
    """The first ones of each group."""
    order: Any = list(found.query.order_by)
    number = Window(RowNumber(), partition_by=[F(name) for name in alike], order_by=order)
    return list(found.annotate(number=number).filter(number__lte=SHOWN_OF_GROUP)[:_SHOWN])


def _of_alerts(found: "QuerySet[Alert]") -> "QuerySet[Alert]":
    named = Case(When(root=None, then=F("subject")), default=Value(""), output_field=CharField())
    return found.annotate(named=named).select_related("root", "run").defer("run__facts").order_by("since", "pk")


def _of_left(found: "QuerySet[Orphan]") -> "QuerySet[Orphan]":
    ordered = F("escalated_at").asc(nulls_last=True), F("bytes").desc(nulls_last=True), F("pk").asc()
    return found.select_related("root", "run").defer("run__facts").order_by(*ordered)


def _subjects(found: "QuerySet[Alert]") -> list[str]:
    return list(found.filter(root=None).order_by("subject").values_list("subject", flat=True)[: counting.MOST])


def _problem_of_alert(alert: Alert) -> OpenProblem:
    return OpenProblem(
        key=alert_key(alert.kind, alert.reason, alert.root_id, alert.subject),
        detail=alert.detail,
        root=alert.root,
        run=alert.run,
        host="" if alert.root or alert.run else alert.subject,
        since=alert.since,
    )


def _problem_of_orphan(orphan: Orphan) -> OpenProblem:
    return OpenProblem(
        key=ProblemKey(ProblemKind.LEFT, orphan.reason, orphan.root_id),
        detail=orphan.detail,
        root=orphan.root,
        orphan=orphan,
        since=orphan.first_seen_at,
    )


def _of_roots(around: Surroundings) -> Iterator[OpenProblem]:
    troubled = [root for root in around.mine if root.problem]
    told = Alert.objects.filter(watchdog.about_roots(), ended_at=None).order_by().values_list("root", "since")
    since = dict(told) if troubled else {}
    for root in troubled:
        key = ProblemKey(ProblemKind.OF_ROOT, root.problem, root.pk)
        yield OpenProblem(key=key, root=root, since=since.get(root.pk))


def _of_nas(around: Surroundings, now: datetime) -> Iterator[OpenProblem]:
    by_nas = {(root.host, nas.token): root for root in reversed(around.mine) for nas in nas_roots(root) if nas.token}
    for breaker in NasBreaker.objects.filter(open_until__gt=now).order_by("host", "token"):
        if (breaker.host, breaker.token) not in by_nas:
            continue
        yield OpenProblem(
            key=ProblemKey(ProblemKind.OF_NAS, breaker.reason, place=f"{breaker.host}:{breaker.token}"),
            detail=breaker.detail,
            root=by_nas[breaker.host, breaker.token],
            since=breaker.since,
            until=breaker.open_until,
        )


def _unwatched(around: Surroundings) -> Iterator[OpenProblem]:
    mine = {root.host for root in around.mine}
    for host in filter(mine.__contains__, around.unwatched):
        key = ProblemKey(ProblemKind.UNWATCHED, place=host)
        yield OpenProblem(key=key, host=host, since=around.watched_at.get(host))


def _forgotten(user: User, now: datetime) -> Iterator[OpenProblem]:
    for batch in batches.forgotten(user, now):
        kind = ProblemKind.CALLED_OFF if batch.is_called_off_by_itself else ProblemKind.PAUSED
        yield OpenProblem(
            key=ProblemKey(kind, place=batch.pk.hex),
            detail=batches.say_forgotten(batch),
            batch=batch,
            since=batch.paused_at or batch.stopped_at,
        )


def _blocked(user: User, around: Surroundings) -> Iterator[OpenProblem]:
    by_reason = (
        seen.largest_blocked(user)
        .order_by()
        .values_list("root", "reason")
        .annotate(runs=Count("pk"), size=bytes_sum("bytes"), looked_at=Max("looked_at"), since=Min("stood_since"))
    )
    roots = {root.pk: root for root in around.roots}
    for root, reason, runs, size, looked_at, since in by_reason:
        yield OpenProblem(
            key=ProblemKey(ProblemKind.RUNS, reason, root),
            root=roots.get(root),
            runs=runs,
            bytes=size or 0,
            since=since,
            looked_at=looked_at,
        )
