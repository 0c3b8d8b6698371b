"""Who has which group of problems: the open cases, and those that have ended."""

from collections.abc import Collection
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db.models import OuterRef, Q, QuerySet, Subquery

from cleanup.lab.people import permissions
from cleanup.models import AlertKind, CaseDeed, CaseNote, ProblemCase
from cleanup.monitoring.problems.kinds import ProblemKey, ProblemKind

# Ended cases are found for so long.
KEPT = timedelta(days=90)
# A list has at most this many of them, the latest.
LISTED = 1_000
# Cases of no staging root that all who see a host see.
_OF_A_HOST = (ProblemKind.OF_HOST, AlertKind.CLUSTER, AlertKind.HOST, AlertKind.SCHEDULE)


def key_of(case: ProblemCase) -> ProblemKey:
    return ProblemKey(case.kind, case.reason, case.root_id or 0, case.place)


def open_cases(keys: Collection[ProblemKey]) -> dict[ProblemKey, ProblemCase]:
    """The open cases of some groups, each with its latest note (`last_note`, `last_note_by`). One question."""
    if not keys:
        return {}
    rows = ProblemCase.objects.filter(slug__in=[key.slug for key in keys], ended_at=None)
    return {key_of(case): case for case in _with_last_note(rows).order_by()}


def ended(user: User, now: datetime) -> QuerySet[ProblemCase]:
    """What has ended in 90 days, the latest first: on a whole staging root that a user sees, or that the user had."""
    found = ProblemCase.objects.filter(ended_at__gte=now - KEPT, ended_at__lte=now + timedelta(minutes=5))
    places = permissions.places(user, permissions.VIEW)
    if not places.everywhere:
        whole = {root for root, instrument in places.pairs if not instrument}
        name = user.get_username()
        mine = Q(assigned_to=name) | Q(acknowledged_by=name)
        found = found.filter(Q(root__in=whole) | Q(root=None, kind__in=_OF_A_HOST) | mine)
    return _with_last_note(found).select_related("root").order_by("-ended_at", "-pk")


def notes(case: ProblemCase) -> QuerySet[CaseNote]:
    return CaseNote.objects.filter(case=case).order_by("at", "pk")


def _with_last_note(rows: QuerySet[ProblemCase]) -> QuerySet[ProblemCase]:
    latest = CaseNote.objects.filter(case=OuterRef("pk"), deed=CaseDeed.NOTED).order_by("-at", "-pk")
    return rows.annotate(
        last_note=Subquery(latest.values("text")[:1]), last_note_by=Subquery(latest.values("author")[:1])
    )
