"""Keeps when each group of problems began and ended, and what people do with it.

A task notes it each minute; an open group is never read from here alone, so a page is never late.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Count, Max, Min

from cleanup.lab import readiness
from cleanup.models import CaseDeed, CaseNote, ProblemCase
from cleanup.monitoring import surroundings
from cleanup.monitoring.problems import counting, listing, seen
from cleanup.monitoring.problems.case_rows import KEPT, key_of
from cleanup.monitoring.problems.kinds import ProblemKey, ProblemKind, alert_key
from cleanup.rules.quantities import say_count

# Nothing is written of a case that is as it was, but this: pages that poll would be told of news.
_SEEN_AGAIN = timedelta(minutes=5)
# A NAS that does not answer is asked again every five minutes, and is in no trouble for a moment.
_NAS_GRACE = timedelta(minutes=15)
# Only its own host can tell that this is over.
_HOST_GRACE = timedelta(hours=1)


@dataclass(frozen=True)
class _Span:
    """The oldest and the newest member, and whether an admin must decide."""

    since: datetime | None = None
    newest: datetime | None = None
    escalated: bool = False


def note(now: datetime) -> int:
    """Open, refresh and end cases; returns how many groups there are. Another host may do the same meanwhile."""
    everyone = User(is_superuser=True)
    hindrances = readiness.hindrances()
    around = surroundings.look(everyone, now)
    found = counting.counted(everyone, now, hindrances=hindrances)
    spans = dict(_spans(everyone))
    groups = listing.listed(everyone, now, hindrances=hindrances, around=around, found=found)
    for group in groups:
        _note(group.key, group.number, spans.get(group.key) or _Span(group.since, group.since), now)
    _end_others(frozenset(found.numbers), now)
    _forget(now)
    return len(groups)


def case_of(key: ProblemKey, now: datetime) -> ProblemCase | None:
    """The open case of a group, noted just now; None if there is no such group any more."""
    note(now)
    return ProblemCase.objects.filter(slug=key.slug, ended_at=None).first()


def acknowledge(case: ProblemCase, *, actor: str, now: datetime) -> None:
    _do(case, CaseDeed.ACKNOWLEDGED, actor, now, acknowledged_by=actor, acknowledged_at=now)


def assign(case: ProblemCase, *, to: str, actor: str, now: datetime) -> None:
    """The caller has asked whether `to` may see the group."""
    _do(case, CaseDeed.ASSIGNED, actor, now, text=to, assigned_to=to, assigned_at=now, **_NOT_PUT_OFF)


def give_back(case: ProblemCase, *, actor: str, now: datetime) -> None:
    """From now on the group is nobody's."""
    nobody: dict[str, Any] = {"assigned_to": "", "assigned_at": None, "acknowledged_by": "", "acknowledged_at": None}
    _do(case, CaseDeed.GIVEN_BACK, actor, now, **nobody, **_NOT_PUT_OFF)


def put_off(case: ProblemCase, *, until: datetime, said: str, actor: str, now: datetime) -> None:
    """The group comes back then, or when it has grown. `said`: the end in words."""
    as_it_is = {"number": case.number, "newest_at": case.newest_at, "escalated": case.escalated}
    fields = {f"snoozed_{name}": value for name, value in as_it_is.items()}
    _do(case, CaseDeed.PUT_OFF, actor, now, text=said, snoozed_by=actor, snoozed_until=until, **fields)


def add_note(case: ProblemCase, *, text: str, actor: str, now: datetime) -> None:
    _do(case, CaseDeed.NOTED, actor, now, text=text)


_NOT_PUT_OFF: dict[str, Any] = {"snoozed_until": None, "snoozed_by": ""}


def _do(case: ProblemCase, deed: CaseDeed, actor: str, now: datetime, *, text: str = "", **fields: Any) -> None:  # noqa: ANN401
    with transaction.atomic():
        if fields:
            ProblemCase.objects.filter(pk=case.pk).update(**fields)
        CaseNote.objects.create(case=case, at=now, author=actor, deed=deed, text=text)


def _note(key: ProblemKey, number: int, span: _Span, now: datetime) -> None:
    known = {"number": number, "newest_at": span.newest, "escalated": span.escalated}
    case = ProblemCase.objects.filter(slug=key.slug, ended_at=None).first()
    if case is None:
        since = min(span.since or now, now)
        named = {"kind": key.kind, "reason": key.reason, "root_id": key.root or None, "place": key.place}
        try:
            with transaction.atomic():
                ProblemCase.objects.create(slug=key.slug, since=since, seen_at=now, **named, **known)
        except IntegrityError:  # another host was faster
            return
        return
    if any(getattr(case, name) != value for name, value in known.items()) or now - case.seen_at >= _SEEN_AGAIN:
        ProblemCase.objects.filter(pk=case.pk).update(seen_at=now, **known)
        case.number, case.newest_at, case.escalated = number, span.newest, span.escalated
        if case.is_put_off(now) and case.has_grown:
            more = case.number - case.snoozed_number
            why = f"{say_count(more, 'more problem')}" if more > 0 else "it is not the same as before"
            nobody: dict[str, Any] = {"acknowledged_by": "", "acknowledged_at": None}
            _do(case, CaseDeed.CAME_BACK, "", now, text=why, **nobody, **_NOT_PUT_OFF)


def _end_others(there: frozenset[ProblemKey], now: datetime) -> None:
    for case in ProblemCase.objects.filter(ended_at=None):
        if key_of(case) in there:
            continue
        of_another = case.kind == ProblemKind.OF_HOST and case.place != settings.EXLAB_HOST
        grace = _HOST_GRACE if of_another else _NAS_GRACE if case.kind == ProblemKind.OF_NAS else timedelta(0)
        if not grace:
            ProblemCase.objects.filter(pk=case.pk, ended_at=None).update(ended_at=now)
        elif now - case.seen_at > grace:
            ProblemCase.objects.filter(pk=case.pk, ended_at=None).update(ended_at=case.seen_at)


def _forget(now: datetime) -> None:
    old = ProblemCase.objects.filter(ended_at__lt=now - KEPT)
    if old.exists():
        CaseNote.objects.filter(case__in=old).delete()
        old.delete()


def _spans(user: User) -> Iterator[tuple[ProblemKey, _Span]]:
    """Of the groups that can have many members; hosts have few."""
    of_roots = seen.alerts(user).exclude(root=None).order_by().values_list("kind", "reason", "root")
    for kind, reason, root, since, newest in of_roots.annotate(oldest=Min("since"), newest=Max("since")):
        yield alert_key(kind, reason, root, ""), _Span(since, newest)
    left = seen.visible_orphans(user).order_by().values_list("reason", "root")
    for reason, root, since, newest, escalated in left.annotate(
        oldest=Min("first_seen_at"), newest=Max("first_seen_at"), escalated=Count("escalated_at")
    ):
        yield ProblemKey(ProblemKind.LEFT, reason, root), _Span(since, newest, bool(escalated))
    runs = seen.largest_blocked(user).order_by().values_list("reason", "root")
    for reason, root, since, newest in runs.annotate(oldest=Min("stood_since"), newest=Max("stood_since")):
        yield ProblemKey(ProblemKind.RUNS, reason, root), _Span(since, newest)
