"""Counts the groups of problems that a user may see, in one question: every page asks it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import BigIntegerField, Case, CharField, Count, F, Q, QuerySet, TextField, Value, When
from django.db.models.functions import Cast, Coalesce, Concat

from cleanup.clears import batches
from cleanup.lab import readiness
from cleanup.models import ClearBatch, ProblemCase
from cleanup.monitoring.problems import seen
from cleanup.monitoring.problems.kinds import OURS, ProblemKey, ProblemKind, alert_key
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason

# The count stops here.
MOST = 1_000
_OF_BATCHES = (ProblemKind.PAUSED, ProblemKind.CALLED_OFF)
_CARED = 0  # in place of a number: this group is with a person


@dataclass(frozen=True)
class Counted:
    """The number of members by group, and the groups that have been taken or put off."""

    numbers: dict[ProblemKey, int]
    cared: frozenset[ProblemKey]

    @property
    def nobodys(self) -> int:
        """How many groups nobody has, at most `MOST`."""
        return min(sum(key not in self.cared for key in self.numbers), MOST)

    def has(self, *kinds: str) -> bool:
        return any(key.kind in kinds for key in self.numbers)


def count(user: User, now: datetime, *, hindrances: tuple[Finding, ...] | None = None) -> int:
    """The number of groups that are nobody's, at most `MOST`: the badge in the navigation."""
    return counted(user, now, hindrances=readiness.hindrances() if hindrances is None else hindrances).nobodys


def counted(user: User, now: datetime, *, hindrances: Iterable[Finding]) -> Counted:
    """One question; `hindrances` are this host's."""
    numbers: dict[ProblemKey, int] = {
        ProblemKey(ProblemKind.OF_HOST, finding.reason, place=settings.EXLAB_HOST): 1 for finding in hindrances
    }
    cared = set()
    first, *others = _parts(user, now)
    for kind, reason, root, place, number in first.union(*others, all=True)[: 2 * MOST]:
        if number == _CARED:
            cared.add(ProblemKey(kind, reason, root, place))
        else:
            key = _key(kind, reason, root, place)
            numbers[key] = numbers.get(key, 0) + number
    return Counted({key: number for key, number in numbers.items() if number > 0}, frozenset(cared))


def cared_for(now: datetime) -> Q:
    """The cases that an operator has taken, seen, or put off."""
    return ~Q(acknowledged_by="") | ~Q(assigned_to="") | Q(snoozed_until__gt=now)


def _key(kind: str, reason: str, root: int, place: str) -> ProblemKey:
    """Databases write a UUID each in its own way."""
    if kind not in OURS:
        return alert_key(kind, reason, root, place)
    return ProblemKey(kind, reason, root, place.replace("-", "") if kind in _OF_BATCHES else place)


def _parts(user: User, now: datetime) -> list[QuerySet[Any, Any]]:
    """Rows of (kind, reason, root, place, number); less than nothing where runs are told apart."""
    blocked, told = seen.blocked(user), seen.told_apart(user)
    of_alerts = Case(When(root=None, then=F("subject")), default=Value(""), output_field=CharField())
    silent = seen.silent_hosts(user, now).order_by()
    forgotten, batch = (
        ClearBatch.objects.filter(pk__in=batches.forgotten(user, now).values("pk")),
        Cast("pk", TextField()),
    )
    cared = ProblemCase.objects.filter(cared_for(now), ended_at=None)
    return [
        _rows(blocked, ProblemKind.RUNS, reason=F("reason"), root=F("root_id"), number=Count("pk")),
        _rows(told, ProblemKind.RUNS, reason=F("reason"), root=F("root_id"), number=-Count("pk")),
        _rows(seen.alerts(user), F("kind"), reason=F("reason"), root=_root(), place=of_alerts, number=Count("pk")),
        _rows(seen.breakers(user), ProblemKind.BREAKER, reason=Value(str(Reason.BREAKER_OPEN)), root=F("root_id")),
        _rows(seen.roots_in_trouble(user), ProblemKind.OF_ROOT, reason=F("problem"), root=F("pk")),
        _rows(seen.visible_orphans(user), ProblemKind.LEFT, reason=F("reason"), root=F("root_id"), number=Count("pk")),
        _rows(seen.nas_in_trouble(user, now), ProblemKind.OF_NAS, reason=F("reason"), place=nas_place()),
        _rows(silent, ProblemKind.UNWATCHED, place=F("host")).distinct(),
        _rows(forgotten.filter(stopped_at=None), ProblemKind.PAUSED, place=batch),
        _rows(forgotten.exclude(stopped_at=None), ProblemKind.CALLED_OFF, place=batch),
        _rows(cared, F("kind"), reason=F("reason"), root=_root(), place=F("place"), number=Value(_CARED)),
    ]


def nas_place() -> Concat:
    return Concat("host", Value(":"), "token", output_field=TextField())


def _root() -> Coalesce:
    return Coalesce("root_id", Value(0))


def _rows(
    found: QuerySet[Any],
    kind: str | F,
    *,
    reason: Any = None,  # noqa: ANN401
    root: Any = None,  # noqa: ANN401
    place: Any = None,  # noqa: ANN401
    number: Any = None,  # noqa: ANN401
) -> QuerySet[Any, Any]:
    """PostgreSQL joins only columns of one type."""
    asked = {
        "p_kind": kind if isinstance(kind, F) else Value(str(kind)),
        "p_reason": reason if reason is not None else Value(""),
        "p_root": root if root is not None else Value(0),
        "p_place": place if place is not None else Value(""),
    }
    types = {"p_root": BigIntegerField()}
    columns = {name: Cast(one, types.get(name, TextField())) for name, one in asked.items()}
    counted_rows: QuerySet[Any, Any] = (
        found.order_by()
        .values(**columns)
        .annotate(p_number=Cast(Value(1) if number is None else number, BigIntegerField()))
        .values_list(*asked, "p_number")
    )
    return counted_rows
