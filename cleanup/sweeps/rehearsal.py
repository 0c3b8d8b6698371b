"""Rehearsals: what they have shown, and the versions that are let loose or sent back by it.

A version in rehearsal is known by the runs of which timed passes have said that it would clear them. What became of
those runs since is compared with that; what should not have gone is a surprise.
"""

import enum
import logging
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, partial

from django.db import transaction
from django.db.models import Max, Prefetch, QuerySet

from cleanup.lab import first_nights, typist
from cleanup.lab.first_nights import LATELY, Waiting
from cleanup.models import (
    ClearAttempt,
    Outcome,
    Phase,
    Requester,
    RetentionPolicy,
    Run,
    StagingRoot,
    Superseded,
    Surprise,
    Sweep,
    SweepKind,
    SweptRun,
)
from cleanup.rules.effective import effective_policy, limits_of
from cleanup.rules.eligibility import due_at
from cleanup.rules.facts import Finding
from cleanup.rules.policy import Policy, ScopedPolicy, Stage
from cleanup.rules.pressure import Cause
from cleanup.rules.reasons import Reason
from cleanup.rules.rehearsal import HELD, LOST_TWIN, SURPRISING, SURPRISING_AT_CLEAR, clean_nights, ready, surprise_in
from cleanup.rules.states import State
from cleanup.runs import stored_facts

logger = logging.getLogger(__name__)

# The author of versions that nobody wrote.
SCHEDULE = "schedule"
# What a row of a timed pass says of a run that only a rehearsal kept.
WOULD_CLEAR = "would_clear"


@dataclass
class Settled:
    """What one look at the rehearsals has changed."""

    surprises: list[Surprise] = field(default_factory=list)
    promoted: list[RetentionPolicy] = field(default_factory=list)
    sent_back: list[RetentionPolicy] = field(default_factory=list)
    roots: list[StagingRoot] = field(default_factory=list)


class Became(enum.StrEnum):
    """What has become of a run that a rehearsal would have cleared."""

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
class Compared:
    """One run that a rehearsal would have cleared at `said_at`, and what became of it; bytes are logical."""

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
class _Said:
    """What rehearsals said of one run: the first and the latest row of one version."""

    version: int
    first: SweptRun
    latest: SweptRun


def settle(now: datetime, root: StagingRoot | None = None) -> Settled:
    """Note the surprises of one staging root, or of all; send back and promote what has earned it. Twice is harmless.

    Called after a timed pass has recorded itself.
    """
    settled = Settled()
    for each in StagingRoot.objects.all() if root is None else [root]:
        for run, number, finding in surprises_since_rehearsal(each, now):
            note_surprise(run, [number], finding.reason, finding.detail, now)
    in_force = RetentionPolicy.objects.in_force()
    concerned = [version for version in in_force if root is None or version.root_id in (None, root.pk)]
    nights = nights_by_version([version for version in concerned if version.rehearsal == Stage.REHEARSING], now)
    for version in concerned:
        surprise = Surprise.objects.filter(policy_version=version.version).order_by("at", "pk").first()
        try:
            if version.rehearsal == Stage.PROMOTED and surprise is not None:
                settled.sent_back.append(send_back(version, author=SCHEDULE, reason=_name(surprise), now=now))
            elif (had := nights.get(version.version)) is not None and ready(version.rehearsal_nights, had):
                promoted = promote(version, SCHEDULE, now, note=_after(had))
                first_nights.leave_out(version, promoted, _begun([version])[version.version], now)
                settled.promoted.append(promoted)
        except Superseded:
            logger.info("policy version %d was changed by somebody else", version.version)
    for waiting in first_nights.waiting(now, root):
        if not _surprises_new_root(waiting, now) and waiting.ready:
            first_nights.over(waiting.root, now, author=SCHEDULE, note=_after(waiting.nights))
            settled.roots.append(waiting.root)
    return settled


def promote_root(root: StagingRoot, author: str, now: datetime, *, note: str = "") -> None:
    """End the first nights of a staging root: what is promoted covers it from now on. Raises Superseded."""
    with transaction.atomic():
        # Of two who promote it at once the second one finds nothing left to promote.
        StagingRoot.objects.select_for_update(of=("self",)).get(pk=root.pk)
        if not first_nights.waiting(now, root):
            raise Superseded(f"{root.name} is not in its first nights")
        first_nights.over(root, now, author=author, note=note)


def _surprises_new_root(waiting: Waiting, now: datetime) -> bool:
    """Note the runs that the first nights of a root would have taken and should not have; whether there was one."""
    said = SweptRun.objects.filter(kind=SweepKind.TIMED, action=WOULD_CLEAR, reason=Reason.REHEARSAL)
    rows = said.filter(root=waiting.root, last__started_at__gte=waiting.since).order_by("pk")
    staged = rows.exclude(run__state=State.CLEARED).filter(run__gone_at=None)
    last, found = _last_rows(staged), False
    of_runs = Prefetch("run", queryset=Run.objects.with_root())
    latest = {row.run_id: row for row in staged.select_related("first", "last").prefetch_related(of_runs)}
    for row in latest.values():
        if finding := _surprise(_Said(0, row, row), last[row.run_id], now):
            first_nights.surprised(row.run, now, note=f"{row.run.run_path}: {finding.reason} {finding.detail}".rstrip())
            found = True
    return found


def _after(nights: int) -> str:
    return f"after {nights} clean {'night' if nights == 1 else 'nights'}"


def note_surprise(run: Run, versions: Iterable[int], reason: str, detail: str, now: datetime) -> bool:
    """Write down that a run was about to go under these versions and should not have; whether that was new."""
    new = False
    for version in versions:
        _surprise, made = Surprise.objects.get_or_create(
            policy_version=version, run=run, defaults={"at": now, "reason": reason, "detail": detail}
        )
        new = new or made
    return new


def note_refusal(attempt: ClearAttempt, policy: Policy, now: datetime) -> bool:
    """Note the surprise, if it is one, of an attempt that the timed pass made and that did not clear its run.

    Every gate had been open to names and sizes; that the bytes are not what they should be, or that the run changed
    while it was cleared, is what a rehearsal could not see. What is known of a run already surprises nobody again.
    A run that went by pressure alone sends the limits back, too. Returns whether it was new.
    """
    refused = attempt.phase == Phase.REFUSED and attempt.reason in SURPRISING_AT_CLEAR
    if not refused and attempt.phase != Phase.CONFLICT:
        return False
    if Surprise.objects.filter(run=attempt.run_id, reason=attempt.reason).exists():
        return False
    # What is rehearsed meanwhile takes at least what has gone by the approved version.
    versions = {*policy.unasked.promoted, *(policy.rehearsing if policy.meanwhile else ())}
    return note_surprise(
        attempt.run, sorted({*versions, *_pressed_by(attempt, policy)}), attempt.reason, attempt.detail, now
    )


def _pressed_by(attempt: ClearAttempt, policy: Policy) -> tuple[int, ...]:
    """The promoted versions whose limits alone let the schedule take a run; none if it was due by time."""
    causes = attempt.cause.split("+") if attempt.cause else []
    if not causes or Cause.RETENTION in causes:
        return ()
    policies = RetentionPolicy.objects.scoped(as_of=policy.version)
    return limits_of(policies, attempt.run.root.name).promoted


def surprises_since_rehearsal(root: StagingRoot, now: datetime) -> Iterator[tuple[Run, int, Finding]]:
    """The runs of a root that versions still rehearsed would have cleared and should not have: run, version, why.

    Runs that a person has cleared meanwhile prove a version right. What nobody can tell, as with a NAS that does not
    answer, is no surprise.
    """
    rehearsing = [version.version for version in RetentionPolicy.objects.in_force() if _is_rehearsed_on(version, root)]
    if not rehearsing:
        return
    rows = _rows(min(rehearsing)).filter(root=root)
    staged = rows.exclude(run__state=State.CLEARED).filter(run__gone_at=None)
    last = _last_rows(staged)
    for said in _said(staged, set(rehearsing)):
        if finding := _surprise(said, last[said.latest.run_id], now):
            yield said.latest.run, said.version, finding


def comparison(version: RetentionPolicy, now: datetime) -> list[Compared]:
    """What the rehearsal of a version would have cleared, and what became of it: the latest first."""
    rows = _rows(version.version)
    if (until := _successor(version)) is not None:
        rows = rows.filter(policy_version__lt=until.version)
    if version.root_id is not None:
        rows = rows.filter(root=version.root_id)
    last = _last_rows(rows)
    noted = {surprise.run_id: surprise for surprise in Surprise.objects.filter(policy_version=version.version)}
    ended = _attempts_done(rows)
    compared = []
    for said in _said(rows, {version.version}):
        run = said.latest.run
        compared.append(_compare(said, last[run.pk], noted.get(run.pk), ended.get(run.pk), now))
    return sorted(compared, key=lambda one: (one.said_at, one.run.pk), reverse=True)


def nights_of(version: RetentionPolicy, now: datetime) -> int:
    """The clean nights that the rehearsal of a version has had so far: see `nights_by_version`."""
    return nights_by_version([version], now)[version.version]


def nights_by_version(versions: Collection[RetentionPolicy], now: datetime) -> dict[int, int]:
    """The clean nights that each version has had so far: on the root that has had the fewest, of late.

    Else a lab-wide version would go live on a root where nobody has seen what it would do. A pass over a disk that was
    not there has shown nothing. Asks no more queries for many versions than for one.
    """
    if not versions:
        return {}
    since = _begun(versions)
    passes: dict[int, list[datetime]] = {}
    done = Sweep.objects.filter(kind=SweepKind.TIMED, outcome=Outcome.DONE)
    done = done.filter(started_at__gte=max(min(since.values()), now - LATELY))
    for root, at in done.exclude(reason=Reason.ROOT_NOT_MOUNTED).order_by().values_list("root", "started_at"):
        passes.setdefault(root, []).append(at)
    staged = list(Run.objects.staged().order_by().values_list("root", flat=True).distinct())
    nights = {}
    for version in versions:
        begun = since[version.version]
        roots = staged if version.root_id is None else [version.root_id]
        nights[version.version] = min((clean_nights(begun, passes.get(root, ()), now) for root in roots), default=0)
    return nights


def _begun(versions: Collection[RetentionPolicy]) -> dict[int, datetime]:
    """Since when the nights of each version count: its creation, or its last surprise."""
    surprised = Surprise.objects.filter(policy_version__in=[version.version for version in versions])
    latest = dict(surprised.order_by().values_list("policy_version").annotate(at=Max("at")))
    return {each.version: max(each.created_at, latest.get(each.version, each.created_at)) for each in versions}


def promote(version: RetentionPolicy, author: str, now: datetime, *, note: str = "") -> RetentionPolicy:
    """Let a version loose that was rehearsed: a new version with the same fields. Raises Superseded."""
    return _restage(version, Stage.REHEARSING, Stage.PROMOTED, author, note, now)


def send_back(version: RetentionPolicy, author: str, reason: str, now: datetime) -> RetentionPolicy:
    """Rehearse a version again: a new version with the same fields, and why. Raises Superseded."""
    return _restage(version, None, Stage.REHEARSING, author, reason, now)


def _restage(
    version: RetentionPolicy, before: Stage | None, after: Stage, author: str, note: str, now: datetime
) -> RetentionPolicy:
    """A new version that differs in its stage alone; only while the one given is in force, and at stage `before`."""
    if version.rehearsal == after or (before is not None and version.rehearsal != before):
        raise Superseded(f"version {version.version} is {version.rehearsal}")
    scope = {name: getattr(version, name) for name in ("equipment", "project", "run_kind")}
    return RetentionPolicy.objects.replace_version(
        expected=version.version,
        root=version.root,
        author=author,
        typed_by=typist.current(),
        now=now,
        stage=after,
        note=note[:500],
        **scope,
    )


def _successor(version: RetentionPolicy) -> RetentionPolicy | None:
    """The version that took the place of this one in its scope."""
    same = RetentionPolicy.objects.filter(
        root=version.root_id, equipment=version.equipment, project=version.project, run_kind=version.run_kind
    )
    return same.filter(version__gt=version.version).order_by("version").first()


def _is_rehearsed_on(version: RetentionPolicy, root: StagingRoot) -> bool:
    return version.rehearsal == Stage.REHEARSING and version.root_id in (None, root.pk)


def _rows(version: int) -> QuerySet[SweptRun]:
    """What rehearsals said since a version was written; which version it was that kept the run, they do not say."""
    rows = SweptRun.objects.filter(
        kind=SweepKind.TIMED, action=WOULD_CLEAR, reason=Reason.REHEARSAL, policy_version__gte=version
    )
    return rows.order_by("pk")


def _said(rows: QuerySet[SweptRun], versions: set[int]) -> Iterable[_Said]:
    """The rows by version and run, as far as these versions were behind them."""
    scoped_as_of = cache(lambda version: RetentionPolicy.objects.scoped(as_of=version))
    of_runs = Prefetch("run", queryset=Run.objects.with_root())
    told = rows.select_related("first", "last").prefetch_related(of_runs).defer("gates")
    said: dict[tuple[int, int], _Said] = {}
    for row in told:
        for version in versions & _kept_by(row, scoped_as_of(row.policy_version)):
            key = (version, row.run_id)
            said[key] = _Said(version, said[key].first if key in said else row, row)
    return said.values()


def _kept_by(row: SweptRun, policies: list[ScopedPolicy]) -> set[int]:
    """The versions whose rehearsal alone kept a run: those behind its policy, and behind the limits if they took it."""
    policy = effective_policy(policies, row.run.scope)
    kept_from = stored_facts.facts_of(row.run).kept_from or row.run.verified_at
    due = due_at(kept_from, policy) if kept_from else None
    by_time = due is not None and due <= row.last.now
    return {*policy.rehearsing, *(() if by_time else limits_of(policies, row.run.root.name).rehearsing)}


def _last_rows(rows: QuerySet[SweptRun]) -> dict[int, SweptRun]:
    """The latest word of any timed pass on each run, by run."""
    every = SweptRun.objects.filter(kind=SweepKind.TIMED, run__in=rows.order_by().values("run"))
    newest = every.order_by().values("run").annotate(newest=Max("pk")).values("newest")
    return {row.run_id: row for row in SweptRun.objects.filter(pk__in=newest).defer("gates")}


def _surprise(said: _Said, last: SweptRun, now: datetime) -> Finding | None:
    """Why a run should not have gone after all, by what the latest pass and discovery saw since it was said."""
    if last.pk > said.latest.pk and last.reason in SURPRISING:
        return Finding(Reason(last.reason), last.detail)
    return surprise_in(stored_facts.facts_of(said.latest.run), said.latest.last.now, now)


def _attempts_done(rows: QuerySet[SweptRun]) -> dict[int, ClearAttempt]:
    """The clear of each run that was cleared, by run."""
    done = (
        ClearAttempt.objects.clears()
        .filter(phase__in=[Phase.COMMITTED, Phase.DONE], run__in=rows.order_by().values("run"))
        .order_by("created_at")
    )
    return {attempt.run_id: attempt for attempt in done.defer("decision")}


def _compare(
    said: _Said, last: SweptRun, noted: Surprise | None, cleared_by: ClearAttempt | None, now: datetime
) -> Compared:
    run = said.latest.run
    one = partial(Compared, run=run, said_at=said.first.first.now, files=said.latest.files, bytes=said.latest.bytes)
    if noted is not None:
        return one(became=_class_of(noted.reason), at=noted.at, reason=noted.reason, detail=noted.detail)
    if run.state == State.CLEARED and cleared_by is not None:
        person = cleared_by.requester == Requester.OPERATOR or bool(cleared_by.actor)
        became = Became.CLEARED_BY_PERSON if person else Became.CLEARED_BY_SCHEDULE
        return one(became=became, at=run.cleared_at, by=cleared_by.actor)
    if run.state == State.CLEARED or run.gone_at is not None or run.problem == Reason.MISSING_DIRECTORY:
        return one(became=Became.GONE, at=run.cleared_at or run.gone_at or run.looked_at)
    if finding := _surprise(said, last, now):
        return one(became=_class_of(finding.reason), reason=finding.reason, detail=finding.detail)
    return one(became=Became.STILL_THERE)


def _class_of(reason: str) -> Became:
    if reason in HELD:
        return Became.HELD
    return Became.LOST_TWIN if reason in LOST_TWIN else Became.CHANGED


def _name(surprise: Surprise) -> str:
    return f"{surprise.run.run_path}: {surprise.reason} {surprise.detail}".rstrip()
