"""What a page says of all staging roots and their hosts, in one question to the database."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.db.models import BooleanField, Exists, ExpressionWrapper, OuterRef, Q, Subquery, Value

from cleanup.lab import task_queues
from cleanup.lab.people import permissions
from cleanup.models import Heartbeat, StagingRoot, SweepBreaker
from cleanup.monitoring import watchdog
from cleanup.rules import liveness as rules
from cleanup.rules.facts import Finding


@dataclass(frozen=True)
class Surroundings:
    """The staging roots by name; `mine` are those that the user may view.

    `beating`: the hosts of roots whose clearing cluster works; `any_beats`: whether one works, also on a host without
    roots. `unwatched`: the hosts without a watchdog; `watched_at`: when one looked last. `breakers`: open ones by the
    root's key, with no more than when and why. `next_sweeps`: the next timed one by host.
    """

    roots: list[StagingRoot]
    mine: list[StagingRoot]
    beating: frozenset[str]
    any_beats: bool
    unwatched: list[str]
    watched_at: dict[str, datetime | None]
    breakers: dict[int, SweepBreaker]
    next_sweeps: dict[str, datetime | None]

    @property
    def findings(self) -> dict[int, Finding]:
        """The open breakers as findings of every run on their root."""
        return {key: breaker.finding for key, breaker in self.breakers.items()}

    def queue_is_silent(self, host: str | None = None) -> bool:
        """Whether a clear would only wait, on one host or on all."""
        if host is None:
            return bool(self.roots) and not self.any_beats
        return host not in self.beating

    def troubled(self, hindrances: tuple[Finding, ...]) -> list[int]:
        """The keys of the roots on which no run may be offered for a clear."""
        return [root.pk for root in self.roots if hindrances or root.problem]


def look(user: User | AnonymousUser, now: datetime) -> Surroundings:
    """One question."""
    found = StagingRoot.objects.active().select_related("disk_forecast").annotate(**_asked(user, now))
    rows: list[Any] = list(found.order_by("name"))
    return Surroundings(
        roots=rows,
        mine=[row for row in rows if row.seen],
        beating=frozenset(row.host for row in rows if row.beats),
        any_beats=any(row.any_beats for row in rows),
        unwatched=sorted({row.host for row in rows if not _is_watched(row.watched_at, now)}),
        next_sweeps={row.host: row.next_sweep for row in rows} | _of_long_hosts(rows),
        watched_at={row.host: row.watched_at for row in rows},
        breakers={
            row.pk: SweepBreaker(root=row, detail=row.stopped_by, opened_at=row.stopped_at)
            for row in rows
            if row.stopped_at is not None
        },
    )


def _of_long_hosts(roots: list[StagingRoot]) -> dict[str, datetime | None]:
    long = [root.host for root in roots if task_queues.is_long(root.host)]
    return dict(zip(long, map(task_queues.next_sweeps(), long), strict=True)) if long else {}


def _asked(user: User | AnonymousUser, now: datetime) -> dict[str, Any]:
    beats = Heartbeat.objects.filter(host=OuterRef("host"))
    breakers = SweepBreaker.objects.filter(root=OuterRef("pk"), closed_at=None).order_by()
    lately = {"at__gt": now - rules.SILENT_AFTER, "at__lte": now + rules.AHEAD}
    return {
        "beats": Exists(beats.filter(cluster=settings.EXLAB_CLEAR_CLUSTER, **lately)),
        "any_beats": Exists(Heartbeat.objects.filter(cluster=settings.EXLAB_CLEAR_CLUSTER, **lately)),
        "watched_at": Subquery(beats.filter(cluster=watchdog.WATCH).values("at")[:1]),
        "stopped_by": Subquery(breakers.values("detail")[:1]),
        "stopped_at": Subquery(breakers.values("opened_at")[:1]),
        "next_sweep": task_queues.next_sweep_on("host"),
        "seen": _seen(user),
    }


def _is_watched(at: datetime | None, now: datetime) -> bool:
    return at is not None and now - rules.WATCH_SILENT_AFTER < at <= now + rules.AHEAD


def _seen(user: User | AnonymousUser) -> Any:  # noqa: ANN401
    if permissions.places(user, permissions.VIEW).everywhere:
        return Value(True)
    mine = Q(pk__in=permissions.roots(user).order_by().values("pk"))
    return ExpressionWrapper(mine, output_field=BooleanField())
