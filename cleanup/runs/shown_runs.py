"""Runs for pages: what few runs have is asked for only of these."""

import functools
from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, OuterRef, Prefetch, Subquery, prefetch_related_objects

from cleanup.models import ClearAttempt, Hold, Likeness, Run, RunQuerySet, run_annotations

# The names of annotations.
_LATEST, _HOLDS, _ALIKE = "shown_latest", "shown_has_holds", "shown_has_likenesses"
# Of these a run's own page asks besides; most runs have none of most.
_OF_A_PAGE = ("attempts", "byte_checks", "accepted_bytes", "set_aside", "proofs", "swept", "waits_in", "reminders")


@dataclass(frozen=True)
class ShownRuns:
    """Runs with all that `with_root` gives, and the latest clear of each by the run's key."""

    runs: list[Run]
    attempts: dict[int, ClearAttempt]


def read(runs: RunQuerySet) -> ShownRuns:
    """Runs and their latest clears: two queries, and up to three more where a run has holds or likenesses."""
    found = list(asked(runs))
    complete(found)
    keys = [vars(run)[_LATEST] for run in found]
    attempts = ClearAttempt.objects.in_bulk([key for key in keys if key is not None])
    return ShownRuns(found, {attempt.run_id: attempt for attempt in attempts.values()})


def asked(runs: RunQuerySet) -> RunQuerySet:
    """The same runs with root, conflict, and what `complete` needs."""
    return runs.with_conflict().annotate(**_asked())


def complete(runs: list[Run]) -> None:
    """Read holds and likenesses of the runs that have some; `runs` come from `asked`."""
    held = Prefetch("holds", queryset=Hold.objects.with_clock())
    others = Likeness.objects.standing().select_related("other").defer("other__facts")
    others_held = Prefetch("other__holds", queryset=Hold.objects.with_clock())
    alike = Prefetch("likenesses", queryset=others.prefetch_related(others_held))
    for name, related, lookup in ((_HOLDS, "holds", held), (_ALIKE, "likenesses", alike)):
        having = [run for run in runs if vars(run)[name]]
        for run in runs:
            if not vars(run)[name]:
                run_annotations.note_lacks(run, related)
        if having:
            prefetch_related_objects(having, lookup)


def for_its_page(runs: RunQuerySet) -> RunQuerySet:
    """The same runs with what `complete_for_its_page` needs."""
    return asked(runs).select_related("difference").annotate(**_asked_for_its_page())


def complete_for_its_page(run: Run) -> None:
    """As `complete`; nothing is asked of what the run has no row of. Only for pages that change nothing."""
    complete([run])
    for name in _OF_A_PAGE:
        if not vars(run)[f"shown_{name}"]:
            run_annotations.note_lacks(run, name)


@functools.cache
def _asked_for_its_page() -> dict[str, Any]:
    related = {name: Run._meta.get_field(name).related_model for name in _OF_A_PAGE}
    rows: dict[str, Any] = {name: model._default_manager for name, model in related.items()}  # type: ignore[union-attr]
    return {f"shown_{name}": Exists(of.filter(run=OuterRef("pk"))) for name, of in rows.items()}


@functools.cache
def _asked() -> dict[str, Any]:
    mine: dict[str, Any] = {"run": OuterRef("pk")}
    latest = ClearAttempt.objects.clears().filter(**mine).order_by("-created_at").values("pk")[:1]
    return {
        _LATEST: Subquery(latest),
        _HOLDS: Exists(Hold.objects.filter(**mine)),
        _ALIKE: Exists(Likeness.objects.standing().filter(**mine)),
    }
