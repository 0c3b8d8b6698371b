"""The overview: how full each disk is, what may go, and why the rest stays."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Count, OuterRef, Q, Subquery
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from cleanup.lab import readiness
from cleanup.lab.people import permissions
from cleanup.lab.roots import disk_usage
from cleanup.lab.roots.disk_usage import Outlook
from cleanup.models import (
    ClearAttempt,
    ClearBatch,
    LedgerEntry,
    Phase,
    Requester,
    RetentionPolicy,
    StagingRoot,
    Status,
    Sweep,
    SweepBreaker,
    SweepKind,
)
from cleanup.models.aggregates import bytes_sum
from cleanup.monitoring import forecasts, surroundings
from cleanup.monitoring.surroundings import Surroundings
from cleanup.rules.facts import Finding
from cleanup.rules.liveness import AHEAD
from cleanup.rules.states import State
from cleanup.runs import run_status
from cleanup.runs.proving import proving_counts
from cleanup.text import first_looks, proofs_ahead
from cleanup.web.caching import wants_fragment
from cleanup.web.decorators import JUDGED_AT_ONCE, may_look
from cleanup.web.overview import alarm_line, coming
from cleanup.web.overview.alarm_line import AlarmLine
from cleanup.web.overview.disk_bar import Bar, RunSum, draw
from cleanup.web.overview.totals import add_up
from cleanup.web.requests import SignedIn
from cleanup.web.runs import run_rows
from cleanup.web.runs.forms import BY_HAND, BY_SCHEDULE, WITHIN_A_DAY

# At most this many reasons are named; the list of runs has all.
NAMED = 3
# A disk with an older measurement says so.
OUTDATED = timedelta(minutes=30)
# Below this share of the sizes the card says so.
SPARSE = 0.9


@dataclass(frozen=True, kw_only=True)
class Blocked:
    """Why some runs stay until an operator acts."""

    reason: str
    sum: RunSum
    address: str


@dataclass(frozen=True, kw_only=True)
class FreedLately:
    """What was freed on one root in a week; bytes are logical."""

    runs: int = 0
    bytes: int = 0
    by_schedule: int = 0
    by_hand: int = 0


@dataclass(frozen=True, kw_only=True)
class UnderWay:
    """A batch of clears under way."""

    batch: ClearBatch
    runs: int
    done: int
    freed_bytes: int

    @property
    def number(self) -> int:
        return min(self.done + 1, self.runs)


@dataclass(frozen=True, kw_only=True)
class Card:
    """One staging root; `mine`: the safe runs that this user may clear. On a `troubled` root safe runs count as
    blocked.
    """

    root: StagingRoot
    alarm: AlarmLine | None
    outlook: Outlook | None
    left: timedelta | None
    bar: Bar
    sums: Mapping[Status, RunSum]
    soon: RunSum
    reasons: Sequence[Blocked]
    mine: RunSum
    troubled: bool
    is_looked_at: bool  # by discovery, which is long at work
    silent: bool
    unwatched: bool
    breaker: SweepBreaker | None
    scheduled: bool
    last_sweep: Sweep | None
    next_sweep: datetime | None
    freed: FreedLately
    coming: coming.ComingText | None
    ahead: str
    whole: bool
    added_up_at: datetime
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def runs(self) -> int:
        return sum(found.runs for found in self.sums.values())

    @property
    def unknown(self) -> int:
        return sum(found.unknown for found in self.sums.values())

    @property
    def wait(self) -> RunSum:
        return self.sums.get(Status.WAIT, RunSum())

    @property
    def go(self) -> RunSum:
        return self.sums.get(Status.GO, RunSum())

    @property
    def sparse(self) -> bool:
        """Whether the disk gets back much less than the sizes of the safe runs."""
        return self.go.allocated_bytes < SPARSE * self.go.bytes

    @property
    def block(self) -> RunSum:
        return self.sums.get(Status.BLOCK, RunSum())


@require_safe
def overview(request: SignedIn) -> HttpResponse:
    """The first page after the sign-in; those who may only see what was freed are led to that."""
    if request.user.has_perm(permissions.AUDIT) and not request.user.has_perm(permissions.VIEW):
        return redirect("audit")
    return _overview(request)


@may_look
def _overview(request: SignedIn) -> HttpResponse:
    return _show(request, "cleanup/overview/overview.html")


@require_safe
@may_look
def overview_now(request: SignedIn) -> HttpResponse:
    """The overview polls the cards every 30 s."""
    if not wants_fragment(request):
        return redirect("overview")
    return _show(request, "cleanup/overview/overview.html#now")


def _show(request: SignedIn, template: str) -> HttpResponse:
    now = timezone.now()
    some_left = run_status.judge_for_page(now, limit=JUDGED_AT_ONCE)
    hindrances = readiness.hindrances()
    user = request.user
    around = surroundings.look(user, now)
    context = {
        "cards": sorted(_cards(user, around, hindrances, now), key=_urgency),
        "any_root": bool(around.roots),
        "batches": _under_way(user),
        "hindrances": hindrances,
        "unjudged": run_status.unjudged(permissions.runs(user), limit=run_rows.COUNTED) if some_left else 0,
        "outdated": now - OUTDATED,
        "now": now,
    }
    return render(request, template, context)


def _urgency(card: Card) -> tuple[Any, ...]:
    """The disk that is full first comes first, then those on which nothing is done, then the others by name."""
    if card.alarm is not None:
        return 0, card.alarm.urgency, card.root.name
    return (1 if card.troubled else 2), (), card.root.name


def _cards(user: User, around: Surroundings, hindrances: tuple[Finding, ...], now: datetime) -> Iterator[Card]:
    roots = around.mine
    policies = RetentionPolicy.objects.scoped()
    sums = add_up(user, now, policies)
    outlooks = disk_usage.outlooks(roots, now)
    sweeps = _last_sweeps(roots) if user.has_perm("cleanup.view_sweep") else {}
    freed = _freed(user, now)
    foreseen = coming.coming(user, roots, policies, now)
    places = permissions.places(user, permissions.VIEW)
    ahead = proving_counts.by_root(places.q(root="run__root", equipment="run__equipment"), now)
    for root in roots:
        troubled = bool(hindrances or root.problem)
        by_tone, reasons = _by_tone(root, sums.by_reason.get(root.pk, {}), troubled=troubled)
        outlook = outlooks.get(root.pk)
        yield Card(
            root=root,
            alarm=alarm_line.of_root(root, now),
            outlook=outlook,
            left=outlook.full_at - now if outlook and outlook.full_at else None,
            bar=draw(outlook, by_tone),
            sums=by_tone,
            soon=sums.soon.get(root.pk, RunSum()),
            reasons=reasons,
            mine=RunSum() if troubled else sums.mine.get(root.pk, RunSum()),
            troubled=troubled,
            is_looked_at=first_looks.is_looked_at(root, now),
            silent=around.queue_is_silent(root.host),
            unwatched=root.host in around.unwatched,
            breaker=around.breakers.get(root.pk),
            scheduled=forecasts.is_scheduled(root, policies),
            last_sweep=sweeps.get(root.pk),
            next_sweep=around.next_sweeps[root.host],
            freed=freed.get(root.name, FreedLately()),
            coming=foreseen.get(root.pk),
            ahead="" if troubled else proofs_ahead.of_disk(ahead.get(root.pk), sums.to_prove(root.pk)),
            added_up_at=sums.at,
            whole=places.include(root.pk, ""),
            links=_links(root),
        )


def _by_tone(
    root: StagingRoot, found: Mapping[tuple[Status, str], RunSum], *, troubled: bool
) -> tuple[dict[Status, RunSum], list[Blocked]]:
    by_tone: dict[Status, RunSum] = {}
    blocked: dict[str, RunSum] = {}
    for (judged, code), amount in found.items():
        stays = troubled and judged is Status.GO
        tone, reason = (Status.BLOCK, root.problem) if stays else (judged, code)
        by_tone[tone] = by_tone.get(tone, RunSum()) + amount
        if tone is Status.BLOCK and reason:
            blocked[reason] = blocked.get(reason, RunSum()) + amount
    commonest = sorted(blocked.items(), key=lambda item: (-item[1].runs, -item[1].bytes, item[0]))[:NAMED]
    return by_tone, [
        Blocked(reason=reason, sum=amount, address=_address(root, troubled, reason)) for reason, amount in commonest
    ]


def _address(root: StagingRoot, troubled: bool, reason: str) -> str:
    here = troubled and reason == root.problem
    return _list_of(root, verdict="block") if here else _list_of(root, verdict="block", reason=reason)


def _list_of(root: StagingRoot, **filters: str) -> str:
    return f"{reverse('run-list')}?{urlencode({'root': root.name, **filters})}"


def _links(root: StagingRoot) -> dict[str, str]:
    return {
        "all": _list_of(root),
        "go": _list_of(root, verdict="go"),
        "wait": _list_of(root, verdict="wait"),
        "soon": _list_of(root, verdict="wait", opens=WITHIN_A_DAY),
        "block": _list_of(root, verdict="block"),
        "work": _list_of(root, verdict="work"),
        "by_schedule": _list_of(root, state=State.CLEARED, freed=BY_SCHEDULE),
        "by_hand": _list_of(root, state=State.CLEARED, freed=BY_HAND),
        "clear": f"{reverse('clear-runs')}?{urlencode({'root': root.name})}",
    }


def _last_sweeps(roots: Sequence[StagingRoot]) -> dict[int, Sweep]:
    latest = Sweep.objects.filter(root=OuterRef("pk")).exclude(kind=SweepKind.DRY_RUN).order_by("-pk").values("pk")[:1]
    found = StagingRoot.objects.filter(pk__in=[root.pk for root in roots]).annotate(latest=Subquery(latest))
    return {sweep.root_id: sweep for sweep in Sweep.objects.filter(pk__in=found.order_by().values("latest"))}


def _freed(user: User, now: datetime) -> dict[str, FreedLately]:
    places = permissions.places(user, permissions.VIEW).q(root="run__root")
    entries = LedgerEntry.objects.freeing().filter(places, at__gt=now - run_rows.A_WEEK, at__lte=now + AHEAD).order_by()
    scheduled = Q(requester=Requester.SCHEDULE)
    sums = entries.values("root_name").annotate(
        runs=Count("run", distinct=True),
        freed=bytes_sum("bytes"),
        by_schedule=Count("run", distinct=True, filter=scheduled),
        by_hand=Count("run", distinct=True, filter=~scheduled),
    )
    return {
        row["root_name"]: FreedLately(
            runs=row["runs"], bytes=int(row["freed"] or 0), by_schedule=row["by_schedule"], by_hand=row["by_hand"]
        )
        for row in sums
    }


def _under_way(user: User) -> list[UnderWay]:
    active = ClearAttempt.objects.filter(phase__in=ClearAttempt.ACTIVE, batch__isnull=False)
    seen = active.filter(run__in=permissions.runs(user).order_by()).order_by().values("batch")
    batches = ClearBatch.objects.filter(pk__in=seen).annotate(
        runs=Count("attempts", filter=Q(attempts__repeated_by=None)),
        ended=Count(
            "attempts",
            filter=Q(attempts__repeated_by=None, attempts__again_after=None)
            & ~Q(attempts__phase__in=ClearAttempt.ACTIVE),
        ),
        freed=bytes_sum("attempts__freed_bytes", default=0),
        going=bytes_sum("attempts__done_bytes", filter=Q(attempts__phase=Phase.COMMITTED), default=0),
    )
    return [
        UnderWay(batch=one, runs=one.runs, done=one.ended, freed_bytes=int(one.freed + one.going)) for one in batches
    ]
