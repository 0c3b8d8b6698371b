"""What a query of runs brings along, so that a decision on each needs no further question."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from django.apps import apps
from django.db import models
from django.db.models import Count, Exists, OuterRef, Prefetch, Q, Subquery
from django.db.models.functions import Coalesce, JSONObject

from cleanup.models.aggregates import JsonList

if TYPE_CHECKING:
    import uuid

    from cleanup.models.runs import IngestEvent, Run

# Annotation: the key of the attempt whose conflict stands.
CONFLICT = "standing_conflict"
# The one that says whether `read_with_root` had to ask for more.
HAS_MORE = "may_have_more"
# The one that holds its known history.
HISTORY = "known_history"
# The one that says whether a comparison of its bytes has found a difference.
DIFFERS = "may_have_difference"


def _model(name: str) -> Any:  # noqa: ANN401
    # They are defined after the runs to which they belong.
    return apps.get_model("cleanup", name)


def key_of_conflict() -> Subquery:
    attempts = _model("ClearAttempt")
    return Subquery(attempts.objects.filter(run=OuterRef("pk"), phase="conflict").values("pk")[:1])


def _holds(lookup: str) -> "Prefetch[Any, Any, Any]":
    holds = _model("Hold")
    return Prefetch(lookup, queryset=holds.objects.with_clock())


def what_few_have() -> "tuple[Prefetch[Any, Any, Any], Prefetch[Any, Any, Any]]":
    alike = _model("Likeness").objects.standing()
    alike = alike.select_related("other").defer("other__facts").prefetch_related(_holds("other__holds"))
    return _holds("holds"), Prefetch("likenesses", queryset=alike)


def _has_more(*phases: str) -> Q:
    attempts = _model("ClearAttempt")
    holds = _model("Hold")
    alike = _model("Likeness")
    mine: dict[str, Any] = {"run": OuterRef("pk")}
    return (
        Q(Exists(attempts.objects.filter(phase__in=[*phases, "conflict"], **mine)))
        | Q(Exists(holds.objects.filter(**mine)))
        | Q(Exists(alike.objects.standing().filter(**mine)))
    )


@dataclass(frozen=True, order=True)
class KnownEntry:
    """What a look asks of an entry of a run's known history."""

    position: int
    state: str
    digest: str
    first_seen_at: datetime


def _known_history() -> Subquery:
    events = _model("IngestEvent").objects.filter(run=OuterRef("pk")).order_by().values("run")
    names = [field.name for field in fields(KnownEntry)]
    return Subquery(events.annotate(known=JsonList(JSONObject(**{name: name for name in names}))).values("known"))


def count_of_events() -> Coalesce:
    """How many entries the known history of a query's run has."""
    events = _model("IngestEvent").objects.filter(run=OuterRef("pk")).order_by().values("run")
    return Coalesce(Subquery(events.annotate(known=Count("pk")).values("known")), 0)


def in_order(known: "Iterable[dict[str, Any]]") -> list[KnownEntry]:
    instants = [datetime.fromisoformat(entry["first_seen_at"]) for entry in known]
    # SQLite keeps instants in UTC and does not say so.
    sure = [at if at.tzinfo else at.replace(tzinfo=UTC) for at in instants]
    return sorted(KnownEntry(**{**entry, "first_seen_at": at}) for entry, at in zip(known, sure, strict=True))


# Built once: building the expressions takes longer than the query.
@functools.cache
def nothing() -> "dict[str, models.QuerySet[Any]]":
    # Read already: asking a `none()` for its rows would build its statement first.
    models_of = {"holds": "Hold", "likenesses": "Likeness"}
    found = {name: _model(of)._base_manager.none() for name, of in models_of.items()}
    for none in found.values():
        none._result_cache = []
    return found


def known_of(events: "Iterable[IngestEvent]") -> list[KnownEntry]:
    return [KnownEntry(each.position, each.state, each.digest, each.first_seen_at) for each in events]


@functools.cache
def asked_of_few() -> dict[str, Any]:
    active = _model("ClearAttempt").ACTIVE
    return {HAS_MORE: _has_more(*active), HISTORY: _known_history()}


@functools.cache
def asked_by_a_clear() -> dict[str, Any]:
    # A run has one active attempt at most, and the clear is that one.
    differences = _model("Difference")
    differs = Exists(differences.objects.filter(run=OuterRef("pk")))
    return {HAS_MORE: _has_more(), HISTORY: _known_history(), DIFFERS: differs}


def may_differ(run: "Run") -> bool:
    """Return whether a difference of a run's bytes may be known; only `read_by_clear` rules it out."""
    return bool(vars(run).get(DIFFERS, True))


def conflict_of(run: "Run") -> "uuid.UUID | None":
    """Return the key of the attempt that could not put the run back, as a query has brought it along or tells now."""
    if CONFLICT in vars(run):
        return cast("uuid.UUID | None", vars(run)[CONFLICT])
    return run.attempts.filter(phase="conflict").values_list("pk", flat=True).first()


def history_of(run: "Run") -> list[KnownEntry]:
    """Return the known history, in order, as a query has brought it along or tells now."""
    if HISTORY in vars(run):
        return list(vars(run)[HISTORY])
    known = run.events.order_by("position").values_list("position", "state", "digest", "first_seen_at")
    return [KnownEntry(*entry) for entry in known]


def note_lacks(run: "Run", name: str) -> None:
    """Remember that a run has no row of a related kind, such as `holds`."""
    vars(run).setdefault("_prefetched_objects_cache", {})[name] = getattr(run, name).none()
