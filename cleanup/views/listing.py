"""The list of runs: which, in what order, how each stands, and what they come to."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import Q

from cleanup import breaking, judging, readiness
from cleanup.forms import UNREADABLE
from cleanup.models import ClearAttempt, Phase, RetentionPolicy, Run, RunQuerySet, SweepBreaker, Tone
from cleanup.policy.gates import MAX_FAILURES, Finding
from cleanup.policy.lifecycle import State
from cleanup.policy.reasons import Reason
from cleanup.policy.retention import ScopedPolicy
from cleanup.templatetags.words import visible
from cleanup.views.standing import Standing, stand

PAGE_SIZE = 50


@dataclass(frozen=True)
class Row:
    """One run of the list. A row whose latest attempt is under way is `live`: it asks again until that has settled."""

    run: Run
    standing: Standing
    attempt: ClearAttempt | None

    @property
    def live(self) -> bool:
        return self.attempt is not None and self.attempt.is_active


@dataclass(frozen=True)
class Total:
    """What the runs of one tone come to; runs of unknown size count as nothing."""

    tone: Tone
    words: str
    runs: int
    bytes: int


def latest_attempt(run: Run) -> ClearAttempt | None:
    return ClearAttempt.objects.filter(run=run).select_related("proof").order_by("-created_at").first()


def row_of(run: Run, now: datetime) -> Row:
    policies, breakers = RetentionPolicy.objects.scoped(), open_breakers()
    return _row(run, latest_attempt(run), policies, readiness.hindrances(), breakers, now)


def open_breakers() -> dict[int, Finding]:
    """What has stopped the sweeps, by the key of the staging root."""
    return {breaker.root_id: breaking.finding_of(breaker) for breaker in SweepBreaker.objects.filter(closed_at=None)}


def staged_rows(chosen: dict[str, str], hindrances: tuple[Finding, ...], now: datetime) -> list[Row]:
    """The staged runs of the chosen state, instrument and project: what moves first, then what may go."""
    rows = _rows(_chosen(_here(), chosen), hindrances, now)
    order = list(Tone)
    return sorted(rows, key=lambda row: (order.index(row.standing.tone), -(row.run.bytes or 0), row.run.run_path))


def totals(rows: Sequence[Row]) -> list[Total]:
    """The sums above the list."""
    return [
        _total(rows, Tone.GO, "Safe to clear now"),
        _total(rows, Tone.WAIT, "Waiting"),
        _total(rows, Tone.BLOCK, "Blocked"),
    ]


def staged_page(rows: Sequence[Row], verdict: str, number: str) -> "Page[Row]":
    shown = [row for row in rows if not verdict or row.standing.tone.code == verdict]
    return Paginator(shown, PAGE_SIZE).get_page(number)


def cleared_page(chosen: dict[str, str], number: str, now: datetime) -> "Page[Row]":
    """Cleared runs, the latest first."""
    runs = _chosen(Run.objects.filter(state=State.CLEARED), chosen).order_by("-cleared_at", "-pk")
    paginator: Paginator[Any] = Paginator(runs, PAGE_SIZE)
    page = paginator.get_page(number)
    shown = runs[page.start_index() - 1 : page.end_index()] if paginator.count else runs
    return Page(_rows(shown, (), now), page.number, paginator)


def parked() -> int:
    """How many staged runs the schedule has given up on, until something changes."""
    return Run.objects.staged().filter(failures__gte=MAX_FAILURES).count()


def equipment_choices() -> list[str]:
    return list(Run.objects.order_by("equipment").values_list("equipment", flat=True).distinct())


def project_choices() -> list[tuple[str, str]]:
    """Each project once, with the name that it was given last."""
    pairs = Run.objects.order_by("project", "project_name").values_list("project", "project_name").distinct()
    names: dict[str, str] = {}
    for project, name in pairs:
        names[project] = name or names.get(project, "")
    return [(project, visible(f"{project} · {name}" if name else project)) for project, name in names.items()]


def _here() -> RunQuerySet:
    """Staged runs, those whose files are going at this moment, and those that are called cleared and are not."""
    leaving = ClearAttempt.objects.filter(phase=Phase.COMMITTED).values("run")
    here = ~Q(state=State.CLEARED) & Q(gone_at=None)
    return Run.objects.filter(here | Q(pk__in=leaving) | Q(problem=Reason.ALREADY_CLEARED))


def _chosen(runs: RunQuerySet, chosen: dict[str, str]) -> RunQuerySet:
    wanted = Q()
    if state := chosen.get("state"):
        wanted &= Q(state="") if state == UNREADABLE else Q(state=state)
    for name in ("equipment", "project"):
        if value := chosen.get(name):
            wanted &= Q(**{name: value})
    return runs.filter(wanted)


def _rows(runs: RunQuerySet, hindrances: tuple[Finding, ...], now: datetime) -> list[Row]:
    policies, breakers = RetentionPolicy.objects.scoped(), open_breakers()
    attempts = judging.latest_attempts(runs)
    return [_row(run, attempts.get(run.pk), policies, hindrances, breakers, now) for run in runs.with_root()]


def _row(
    run: Run,
    attempt: ClearAttempt | None,
    policies: Sequence[ScopedPolicy],
    hindrances: tuple[Finding, ...],
    breakers: dict[int, Finding],
    now: datetime,
) -> Row:
    standing, _decision = stand(run, attempt, policies, hindrances, now, breaker=breakers.get(run.root_id))
    return Row(run, standing, attempt)


def _total(rows: Sequence[Row], tone: Tone, words: str) -> Total:
    sizes = [row.run.bytes or 0 for row in rows if row.standing.tone is tone]
    return Total(tone, words, len(sizes), sum(sizes))
