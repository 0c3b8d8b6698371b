"""Which problems a user may see."""

from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Exists, F, OuterRef, Q, QuerySet, TextField, Value
from django.db.models.functions import Cast, Coalesce, Concat, StrIndex, Substr

from cleanup.lab.people import permissions
from cleanup.models import (
    Alert,
    AlertKind,
    NasBreaker,
    Orphan,
    OrphanKind,
    Run,
    RunQuerySet,
    StagingRoot,
    Status,
    SweepBreaker,
)
from cleanup.monitoring import watchdog
from cleanup.runs.orphans import orphans

VIEW_SWEEP = "cleanup.view_sweep"
# The reasons of the largest blocked runs, at most this many, are looked at.
BLOCKED_LOOKED_AT = 5_000


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
    return SweepBreaker.objects.filter(closed_at=None, root__in=permissions.roots(user).active().order_by())


def roots_in_trouble(user: User) -> QuerySet[StagingRoot]:
    return permissions.roots(user).active().exclude(problem="")


def silent_hosts(user: User, now: datetime) -> QuerySet[StagingRoot]:
    """The staging roots on hosts without a watchdog."""
    return permissions.roots(user).active().exclude(host__in=watchdog.heard_watches(now))


def nas_in_trouble(user: User, now: datetime) -> QuerySet[NasBreaker]:
    """The NAS roots that are not asked just now; a token is in no other text of a staging root."""
    roots = permissions.roots(user).active().order_by().filter(host=OuterRef("host"))
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


def blocked(user: User) -> RunQuerySet:
    """The blocked runs, by root, so that an index answers."""
    everywhere = StagingRoot.objects.order_by().values("pk")
    return permissions.runs(user).here().filter(root__in=everywhere, tone=Status.BLOCK).order_by()


def told_apart(user: User) -> RunQuerySet:
    """The blocked runs that are told as orphans or conflicts."""
    told = orphans.listed().exclude(run=None).exclude(kind=OrphanKind.SHELL).order_by().values("run")
    alerted = Alert.objects.filter(kind=AlertKind.CONFLICT, ended_at=None).exclude(run=None).order_by().values("run")
    return permissions.runs(user).here().filter(tone=Status.BLOCK, pk__in=told.union(alerted)).order_by()


def largest_blocked(user: User) -> RunQuerySet:
    """Without those told as orphans or conflicts."""
    found = permissions.runs(user).here().filter(tone=Status.BLOCK)
    largest = found.order_by("tone", Coalesce("bytes", 0).desc(), F("pk").desc())[:BLOCKED_LOOKED_AT]
    return _not_told(Run.objects.filter(pk__in=largest.values("pk")))


def _not_told(runs: RunQuerySet) -> RunQuerySet:
    told: Any = orphans.listed().filter(run=OuterRef("pk")).exclude(kind=OrphanKind.SHELL)
    alerted = Alert.objects.filter(run=OuterRef("pk"), kind=AlertKind.CONFLICT, ended_at=None)
    return runs.filter(~Exists(told), ~Exists(alerted))
