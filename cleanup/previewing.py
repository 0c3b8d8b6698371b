"""What a policy would change before it is written: the runs that the next timed pass would take with it, and without.

The decisions are those of the pass, made from stored facts: the pass itself looks at every run again. Nothing is read
but rows, and nothing is written.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max

from cleanup import breaking, gathering, recording
from cleanup.minding import Minder
from cleanup.models import DiskUsage, RetentionPolicy, Run, StagingRoot
from cleanup.models.policies import draft_version
from cleanup.models.sums import bytes_sum
from cleanup.policy.gates import Facts, evaluate
from cleanup.policy.pressure import Candidate, Fill, Picker, budget_of, in_order, pressure_of
from cleanup.policy.reasons import Reason
from cleanup.policy.rehearsal import nights_wanted
from cleanup.policy.retention import (
    Mode,
    Policy,
    ProofLevel,
    Scope,
    ScopedPolicy,
    Stage,
    effective_policy,
    limits_of,
    unset_since,
)

# So many runs of a staging root are weighed gate by gate, those verified first, and so many looked at for their time:
# more than some sweeps take, and no more than somebody waits for who has pressed a button.
LOOKED_AT = 2_000
_SIGHTED = 50_000


@dataclass
class Outlook:
    """What the next timed pass would do with the runs of a scope, each list in its order.

    `going` would be cleared, `rehearsed` only noted, `left_over` left to later passes by a budget. `sights` is what a
    breaker would stop the pass for before it clears anything.
    """

    going: list[Run] = field(default_factory=list)
    rehearsed: list[Run] = field(default_factory=list)
    left_over: list[Run] = field(default_factory=list)
    sights: list[str] = field(default_factory=list)

    @property
    def wanted(self) -> list[Run]:
        """What would go once nothing of it is rehearsed any more."""
        return [*self.going, *self.rehearsed]

    @property
    def going_bytes(self) -> int:
        return _size(self.going)

    @property
    def rehearsed_bytes(self) -> int:
        return _size(self.rehearsed)

    @property
    def left_over_bytes(self) -> int:
        return _size(self.left_over)

    @property
    def wanted_bytes(self) -> int:
        return _size(self.wanted)


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a drafted version would change in its scope. Bytes are logical.

    `stopped` are the roots whose sweeps have stopped and wait for a person. `cut`: there are more runs than were
    weighed. `digest` stands for all of it: the same draft with the same digest does what was shown.
    """

    draft: RetentionPolicy
    policy: Policy
    today: Outlook
    then: Outlook
    stopped: list[StagingRoot]
    seen_at: datetime | None
    cut: bool
    digest: str

    @property
    def rehearses(self) -> bool:
        return self.draft.rehearsal == Stage.REHEARSING

    @property
    def nights(self) -> int:
        """The clean nights after which it is promoted; 0: only by a person."""
        return nights_wanted(self.draft.rehearsal_nights)

    @property
    def nothing_by_itself(self) -> bool:
        return self.policy.mode is not Mode.SCHEDULED and not self.then.wanted

    @property
    def new(self) -> list[Run]:
        """What would not go as things are."""
        known = {run.pk for run in self.today.going}
        return [run for run in self.then.wanted if run.pk not in known]

    @property
    def kept(self) -> list[Run]:
        """What would go as things are, and would stay."""
        wanted = {run.pk for run in self.then.wanted}
        return [run for run in self.today.going if run.pk not in wanted]

    @property
    def kept_bytes(self) -> int:
        return _size(self.kept)

    @property
    def held_up(self) -> list[Run]:
        """What would go as things are, and waits for the end of a rehearsal."""
        going = {run.pk for run in self.today.going}
        return [run for run in self.then.rehearsed if run.pk in going]


@dataclass(frozen=True)
class _Stock:
    """What is staged on one root: the runs that are weighed, and how full it is altogether."""

    root: StagingRoot
    runs: list[tuple[Run, Facts]]
    fill: Fill
    going_on: bool
    cut: bool


def draft(
    before: RetentionPolicy | None,
    *,
    root: StagingRoot | None,
    author: str,
    now: datetime,
    rehearse: bool | None,
    note: str = "",
    **fields: Any,  # noqa: ANN401
) -> RetentionPolicy:
    """The version that `add_version` would write after `before`, not saved. Raises ValidationError."""
    newest = RetentionPolicy.objects.aggregate(version=Max("version"))["version"] or 0
    return draft_version(
        before, version=newest + 1, root=root, author=author, now=now, rehearse=rehearse, note=note, **fields
    )


def preview(drafted: RetentionPolicy, now: datetime) -> Preview:
    """What the next timed pass would take with a drafted version in force, and what it takes as things are."""
    today = RetentionPolicy.objects.scoped()
    value = drafted.as_value()
    value = replace(value, unset=unset_since(_settled(drafted), value))
    then = [policy for policy in today if policy.scope != value.scope] + [value]
    roots = [drafted.root] if drafted.root else list(StagingRoot.objects.order_by("name"))
    now_taken, then_taken, cut = Outlook(), Outlook(), False
    for root in roots:
        stock = _stock(root, value.scope, [today, then], now)
        cut = cut or stock.cut
        _weigh(stock, today, value.scope, now, into=now_taken, mind=False)
        _weigh(stock, then, value.scope, now, into=then_taken, mind=True)
    looked_at = [root.discovered_at for root in roots if root.discovered_at]
    return Preview(
        draft=drafted,
        policy=effective_policy(then, value.scope),
        today=now_taken,
        then=then_taken,
        stopped=[root for root in roots if breaking.standing(root)],
        seen_at=min(looked_at, default=None),
        cut=cut,
        digest=_digest(drafted, value, now_taken, then_taken),
    )


def _settled(drafted: RetentionPolicy) -> ScopedPolicy | None:
    """The newest version of the same scope that was not in rehearsal."""
    same = RetentionPolicy.objects.filter(
        root=drafted.root, equipment=drafted.equipment, project=drafted.project, run_kind=drafted.run_kind
    )
    newest = same.exclude(rehearsal=Stage.REHEARSING).order_by("-version").first()
    return newest.as_value() if newest else None


def _stock(root: StagingRoot, scope: Scope, policies: Sequence[list[ScopedPolicy]], now: datetime) -> _Stock:
    keys, cut = _possible(root, scope, policies, now)
    runs = list(Run.objects.filter(pk__in=keys).prefetch_related("holds"))
    staged = Run.objects.here().filter(root=root).aggregate(runs=Count("pk"), bytes=bytes_sum("bytes"))
    usage = DiskUsage.objects.filter(root=root).order_by("-at").first()
    before = recording.latest(root)
    for run in runs:
        run.root = root
    return _Stock(
        root=root,
        runs=[(run, gathering.stored_facts(run)) for run in runs],
        fill=Fill(
            staged_bytes=staged["bytes"] or 0,
            staged_runs=staged["runs"],
            free_bytes=usage.free_bytes if usage else None,
        ),
        going_on=bool(before and before.pressure.get("left", {}).get("free_wanted")),
        cut=cut,
    )


def _possible(
    root: StagingRoot, scope: Scope, policies: Sequence[list[ScopedPolicy]], now: datetime
) -> tuple[list[int], bool]:
    """The runs of a root, the oldest first, that any of the policies could let go by their time, and if there are more.

    Where they are too many to be weighed, those of the scope have the precedence.
    """
    verified = Run.objects.staged().verified().filter(root=root).order_by("verified_at", "pk")
    columns = ("equipment", "project", "run_kind")
    until: dict[tuple[str, ...], datetime | None] = {}
    found: list[tuple[int, bool]] = []
    rows = list(verified.values_list("pk", "verified_at", *columns)[: _SIGHTED + 1])
    for key, verified_at, *names in rows[:_SIGHTED]:
        kind = tuple(names)
        of_run = Scope(root=root.name, **dict(zip(columns, kind, strict=True)))
        if kind not in until:
            until[kind] = _latest_possible([effective_policy(each, of_run) for each in policies], now)
        latest = until[kind]
        if latest is not None and verified_at is not None and verified_at <= latest:
            found.append((key, scope.covers(of_run)))
    if len(found) > LOOKED_AT:
        found = [(key, covered) for key, covered in found if covered]
    return [key for key, _covered in found[:LOOKED_AT]], len(found) > LOOKED_AT or len(rows) > _SIGHTED


def _latest_possible(found: Iterable[Policy], now: datetime) -> datetime | None:
    """Until when a run must have been verified to go by the time of one of the policies; None if it never does."""
    hours = [policy.min_retain_hours for policy in found if policy.mode is Mode.SCHEDULED]
    return now - timedelta(hours=min(hours)) if hours else None


def _weigh(
    stock: _Stock, policies: list[ScopedPolicy], scope: Scope, now: datetime, *, into: Outlook, mind: bool
) -> None:
    """What a pass over one root would take, as it plans it; only the runs of the scope are told."""
    limits = limits_of(policies, stock.root.name)
    runs, candidates = {}, []
    known: dict[Scope, Policy] = {}
    for run, facts in stock.runs:
        of_run = run.scope
        if (policy := known.get(of_run)) is None:
            policy = known[of_run] = effective_policy(policies, of_run)
        if (candidate := _candidate(run, facts, policy, now, limited=bool(limits.rehearsing))) is not None:
            runs[run.pk] = run
            candidates.append(candidate)
    ordered = in_order(candidates, after=None)
    budget = budget_of(limits, limit=None)
    picker = Picker(ordered, pressure_of(limits, stock.fill, going_on=stock.going_on))
    plan, exhausted = [], False
    for candidate, _causes in picker:
        run = runs[candidate.key]
        told = scope.covers(run.scope)
        if candidate.rehearsed:
            into.rehearsed += [run] * told
        elif exhausted or budget.exhausted_by(candidate.size, minutes=0):
            exhausted = True
            into.left_over += [run] * told
            picker.left_over(candidate)
            continue
        else:
            budget = budget.less(candidate.size)
            plan.append((run, candidate))
            into.going += [run] * told
        picker.gone(candidate, size=candidate.size, allocated=candidate.allocated)
    if mind and plan:
        minder = Minder(stock.root, policies, now=now, clock=None, staged_bytes=stock.fill.staged_bytes)
        into.sights += [f"{stock.root.name}: {sight.detail}" for sight in minder.look_at_plan(plan)]


def _candidate(run: Run, facts: Facts, policy: Policy, now: datetime, *, limited: bool) -> Candidate | None:
    """A run that the pass might take, by its time or under pressure; None of one that it would leave alone."""
    if policy.mode is not Mode.SCHEDULED or run.verified_at is None:
        return None
    earnest = policy.in_earnest()
    due = _may_go(facts, earnest, now)
    if not due and not _may_go(facts, earnest.under_pressure(), now):
        return None
    return Candidate(
        key=run.pk,
        verified_at=run.verified_at,
        due=due,
        eligible=True,
        rehearsed=bool(policy.rehearsing or (not due and limited)),
        size=run.bytes or 0,
        allocated=facts.allocated_bytes or 0,
    )


def _may_go(facts: Facts, policy: Policy, now: datetime) -> bool:
    """Whether every gate is open to the schedule, or only touched files stand in the way, which a full look settles."""
    refusals = evaluate(facts, policy, now).refusals(operator=False)
    touched = [refusal.reason for refusal in refusals] == [Reason.CHANGED_SINCE_VERIFICATION]
    return not refusals or (touched and policy.proof is ProofLevel.CHECKSUM)


def _digest(drafted: RetentionPolicy, value: ScopedPolicy, today: Outlook, then: Outlook) -> str:
    said = {**asdict(value), "version": 0, "nights": drafted.rehearsal_nights}
    taken = [
        [sorted(run.pk for run in runs) for runs in (outlook.going, outlook.rehearsed, outlook.left_over)]
        for outlook in (today, then)
    ]
    text = json.dumps([said, taken, bool(then.sights)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _size(runs: Iterable[Run]) -> int:
    return sum(run.bytes or 0 for run in runs)
