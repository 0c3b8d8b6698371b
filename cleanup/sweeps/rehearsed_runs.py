"""What rehearsals said of runs, and what became of them."""

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial

from django.db.models import Max, Prefetch, QuerySet

from cleanup.models import (
    ClearAttempt,
    Phase,
    Requester,
    RetentionPolicy,
    Run,
    StagingRoot,
    Surprise,
    SweepKind,
    SweptRun,
)
from cleanup.rules.due_date import due_at
from cleanup.rules.facts import Finding
from cleanup.rules.policies.effective import effective_policy, limits_of
from cleanup.rules.policies.policy import ScopedPolicy, Stage
from cleanup.rules.policies.rehearsal import HELD, LOST_TWIN, SURPRISING, surprise_in
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs.facts import stored_facts

# The action of a run that stays only because of a rehearsal.
WOULD_CLEAR = "would_clear"


class Became(enum.StrEnum):
    """What became of a run that a rehearsal would have cleared."""

    CLEARED_BY_PERSON = "cleared by a person"
    CLEARED_BY_SCHEDULE = "cleared by the schedule"
    STILL_THERE = "still there"
    HELD = "held"
    CHANGED = "changed"
    LOST_TWIN = "lost its twin"
    GONE = "gone without us"

    @property
    def surprising(self) -> bool:
        return self in (Became.HELD, Became.CHANGED, Became.LOST_TWIN)


@dataclass(frozen=True, kw_only=True)
class RehearsedRun:
    """A run that a rehearsal would have cleared at `said_at`, and what became of it. Bytes are logical."""

    run: Run
    said_at: datetime
    files: int
    bytes: int
    became: Became
    at: datetime | None = None
    by: str = ""
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True)
class SaidOfRun:
    """What rehearsals of one version said of one run: the first and the latest row."""

    version: int
    first: SweptRun
    latest: SweptRun


def surprises_since_rehearsal(root: StagingRoot, now: datetime) -> Iterator[tuple[Run, int, Finding]]:
    """Yields (run, version, why) for runs that rehearsed versions would wrongly have cleared.

    A run that the operator cleared is no surprise, nor is what cannot be checked, as without the NAS.
    """
    rehearsing = [version.version for version in RetentionPolicy.objects.in_force() if _is_rehearsed_on(version, root)]
    if not rehearsing:
        return
    rows = _rows(min(rehearsing)).filter(root=root)
    staged = rows.exclude(run__state=State.CLEARED).filter(run__gone_at=None)
    last = last_rows(staged)
    for said in _said(staged, set(rehearsing)):
        if finding := surprise(said, last[said.latest.run_id], now):
            yield said.latest.run, said.version, finding


def comparison(
    version: RetentionPolicy, now: datetime, *, same_scope: Iterable[RetentionPolicy] | None = None
) -> list[RehearsedRun]:
    """Returns what the rehearsal of a version would have cleared and what became of it, the latest first.

    `same_scope`: all versions of its scope in order, where they were read already.
    """
    rows = _rows(version.version)
    later = (one for one in same_scope or () if one.version > version.version)
    if (until := successor(version) if same_scope is None else next(later, None)) is not None:
        rows = rows.filter(policy_version__lt=until.version)
    if version.root_id is not None:
        rows = rows.filter(root=version.root_id)
    last = last_rows(rows)
    noted = {surprise.run_id: surprise for surprise in Surprise.objects.filter(policy_version=version.version)}
    ended = _attempts_done(rows)
    compared = []
    for said in _said(rows, {version.version}):
        run = said.latest.run
        compared.append(_compare(said, last[run.pk], noted.get(run.pk), ended.get(run.pk), now))
    return sorted(compared, key=lambda one: (one.said_at, one.run.pk), reverse=True)


def successor(version: RetentionPolicy) -> RetentionPolicy | None:
    """Returns the next version of the same scope, or None."""
    same = RetentionPolicy.objects.filter(
        root=version.root_id, equipment=version.equipment, project=version.project, run_kind=version.run_kind
    )
    return same.filter(version__gt=version.version).order_by("version").first()


def _is_rehearsed_on(version: RetentionPolicy, root: StagingRoot) -> bool:
    return version.rehearsal == Stage.REHEARSING and version.root_id in (None, root.pk)


def _rows(version: int) -> QuerySet[SweptRun]:
    """The rows of rehearsals since a version was written; a row does not name the version that kept its run."""
    rows = SweptRun.objects.filter(
        kind=SweepKind.TIMED, action=WOULD_CLEAR, reason=Reason.REHEARSAL, policy_version__gte=version
    )
    return rows.order_by("pk")


def _said(rows: QuerySet[SweptRun], versions: set[int]) -> Iterable[SaidOfRun]:
    scoped_as_of = cache(lambda version: RetentionPolicy.objects.scoped(as_of=version))
    of_runs = Prefetch("run", queryset=Run.objects.with_root())
    told = rows.select_related("first", "last").prefetch_related(of_runs).defer("gates")
    said: dict[tuple[int, int], SaidOfRun] = {}
    for row in told:
        for version in versions & _kept_by(row, scoped_as_of(row.policy_version)):
            key = (version, row.run_id)
            said[key] = SaidOfRun(version, said[key].first if key in said else row, row)
    return said.values()


def _kept_by(row: SweptRun, policies: list[ScopedPolicy]) -> set[int]:
    """The rehearsed versions of a run's policy, and those of the limits unless it was due by time."""
    policy = effective_policy(policies, row.run.scope)
    kept_from = stored_facts.facts_of(row.run).kept_from or row.run.verified_at
    due = due_at(kept_from, policy) if kept_from else None
    by_time = due is not None and due <= row.last.now
    return {*policy.rehearsing, *(() if by_time else limits_of(policies, row.run.root.name).rehearsing)}


def last_rows(rows: QuerySet[SweptRun]) -> dict[int, SweptRun]:
    """Returns the latest row of any timed sweep for each run, by run."""
    every = SweptRun.objects.filter(kind=SweepKind.TIMED, run__in=rows.order_by().values("run"))
    # Two queries: as one, PostgreSQL without statistics searches the newest rows again for each row.
    newest = every.order_by().values("run").annotate(newest=Max("pk")).values_list("newest", flat=True)
    found = SweptRun.objects.defer("gates").in_bulk(list(newest))
    return {row.run_id: row for row in found.values()}


def surprise(said: SaidOfRun, last: SweptRun, now: datetime) -> Finding | None:
    """Returns why a run should not have gone, by what sweep and discovery saw since."""
    if last.pk > said.latest.pk and last.reason in SURPRISING:
        return Finding(Reason(last.reason), last.detail)
    return surprise_in(stored_facts.facts_of(said.latest.run), said.latest.last.now, now)


def _attempts_done(rows: QuerySet[SweptRun]) -> dict[int, ClearAttempt]:
    done = (
        ClearAttempt.objects.clears()
        .filter(phase__in=[Phase.COMMITTED, Phase.DONE], run__in=rows.order_by().values("run"))
        .order_by("created_at")
    )
    return {attempt.run_id: attempt for attempt in done.defer("decision")}


def _compare(
    said: SaidOfRun, last: SweptRun, noted: Surprise | None, cleared_by: ClearAttempt | None, now: datetime
) -> RehearsedRun:
    run = said.latest.run
    one = partial(RehearsedRun, run=run, said_at=said.first.first.now, files=said.latest.files, bytes=said.latest.bytes)
    if noted is not None:
        return one(became=_class_of(noted.reason), at=noted.at, reason=noted.reason, detail=noted.detail)
    if run.state == State.CLEARED and cleared_by is not None:
        person = cleared_by.requester == Requester.OPERATOR or bool(cleared_by.actor)
        became = Became.CLEARED_BY_PERSON if person else Became.CLEARED_BY_SCHEDULE
        return one(became=became, at=run.cleared_at, by=cleared_by.actor)
    if run.state == State.CLEARED or run.gone_at is not None or run.problem == Reason.MISSING_DIRECTORY:
        return one(became=Became.GONE, at=run.cleared_at or run.gone_at or run.looked_at)
    if finding := surprise(said, last, now):
        return one(became=_class_of(finding.reason), reason=finding.reason, detail=finding.detail)
    return one(became=Became.STILL_THERE)


def _class_of(reason: str) -> Became:
    if reason in HELD:
        return Became.HELD
    return Became.LOST_TWIN if reason in LOST_TWIN else Became.CHANGED
