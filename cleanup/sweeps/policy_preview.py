"""Foretells from rows alone which runs the next timed sweep takes with a policy and without it; writes nothing."""

import copy
import hashlib
import json
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from django.db.models import Count

from cleanup.clears.freed import Lately
from cleanup.models import DiskUsage, RetentionPolicy, Run, StagingRoot, SweepBreaker
from cleanup.models.aggregates import bytes_sum
from cleanup.rules.anomalies import Anomaly
from cleanup.rules.facts import Facts
from cleanup.rules.policies.effective import effective_policy, limits_of
from cleanup.rules.policies.no_retention import becomes_so
from cleanup.rules.policies.policy import Limits, Mode, Policy, Scope, ScopedPolicy, Stage
from cleanup.rules.policies.rehearsal import nights_wanted
from cleanup.rules.pressure import Candidate, Picker, RootFill, in_order
from cleanup.rules.sweep_budget import SweepBudget, budget_of
from cleanup.runs.facts import stored_facts
from cleanup.sweeps import breakers, record
from cleanup.sweeps import outlook as outlook_of
from cleanup.sweeps.anomaly_guard import AnomalyGuard
from cleanup.sweeps.day import Foretold
from cleanup.sweeps.stop_conditions import goes_on
from cleanup.sweeps.sweep_forecast import SweepForecast, size_of

# At most LOOKED_AT runs of a root are weighed gate by gate, the first verified first, and at most _SIGHTED are checked
# for their time: more than one sweep takes, and few enough that the operator does not wait long.
LOOKED_AT = 2_000
_SIGHTED = 50_000


@dataclass(frozen=True, kw_only=True)
class PolicyPreview:
    """What a drafted version would change in its scope. Bytes are logical.

    `promoted`: the first sweep after the rehearsal of the draft, as things are; None if it is not rehearsed. `stopped`:
    roots with an open breaker. `cut`: more runs exist than were weighed. `digest`: the same draft with the same digest
    does what was shown. `at_once`: the draft lets runs go as soon as they are verified, and today's policy does not.
    """

    draft: RetentionPolicy
    policy: Policy
    today: SweepForecast
    then: SweepForecast
    promoted: SweepForecast | None
    stopped: list[StagingRoot]
    seen_at: datetime | None
    cut: bool
    digest: str
    at_once: bool = False

    @property
    def rehearses(self) -> bool:
        return self.draft.rehearsal == Stage.REHEARSING

    @property
    def first(self) -> SweepForecast:
        """The first sweep that clears by the draft."""
        return self.then if self.promoted is None else self.promoted

    @property
    def nights(self) -> int:
        """The clean nights until it is promoted; 0: only an operator promotes it."""
        return nights_wanted(self.draft.rehearsal_nights)

    @property
    def nothing_by_itself(self) -> bool:
        return self.policy.mode is not Mode.SCHEDULED and not self.then.wanted

    @property
    def new(self) -> list[Run]:
        known = {run.pk for run in self.today.going}
        return [run for run in self.then.wanted if run.pk not in known]

    @property
    def kept(self) -> list[Run]:
        wanted = {run.pk for run in self.then.wanted}
        return [run for run in self.today.going if run.pk not in wanted]

    @property
    def kept_bytes(self) -> int:
        return size_of(self.kept)

    @property
    def held_up(self) -> list[Run]:
        going = {run.pk for run in self.today.going}
        return [run for run in self.then.rehearsed if run.pk in going]


@dataclass(frozen=True)
class _Stock:
    """The staged runs of one root that are weighed, how full it is, and what the sweeps before leave behind."""

    root: StagingRoot
    runs: list[tuple[Run, Facts]]
    fill: RootFill
    going_on: tuple[bool, bool]
    lately: Lately
    cut: bool
    gone_on: list[SweepBreaker]
    is_stopped: bool = False  # by an open breaker
    cursor: tuple[datetime, int] | None = None
    foretold: tuple[Foretold, ...] = ()


def preview(drafted: RetentionPolicy, now: datetime) -> PolicyPreview:
    """Returns what the next timed sweep takes with a drafted version, and without it."""
    today = RetentionPolicy.objects.scoped()
    value, then = drafted.as_value(), RetentionPolicy.objects.scoped(drafted=[drafted])
    promoted = _promoted(drafted)
    roots = [drafted.root] if drafted.root else list(StagingRoot.objects.active().order_by("name"))
    asked = [(today, SweepForecast()), (then, SweepForecast()), *([(promoted, SweepForecast())] if promoted else [])]
    cut, stopped = False, [root for root in roots if breakers.standing(root)]
    for root in roots:
        stock = _stock(root, value.scope, [policies for policies, _taken in asked], now)
        stock = replace(stock, is_stopped=root in stopped)
        cut = cut or stock.cut
        for policies, taken in asked:
            _weigh(stock, policies, value.scope, now, into=taken)
    now_taken, then_taken, *after = (taken for _policies, taken in asked)
    looked_at = [root.discovered_at for root in roots if root.discovered_at]
    return PolicyPreview(
        draft=drafted,
        policy=effective_policy(then, value.scope),
        today=now_taken,
        then=then_taken,
        promoted=after[0] if after else None,
        stopped=stopped,
        seen_at=min(looked_at, default=None),
        cut=cut,
        digest=_digest(drafted, value, [now_taken, then_taken, *after]),
        at_once=becomes_so(today, then, value.scope),
    )


def _promoted(drafted: RetentionPolicy) -> list[ScopedPolicy] | None:
    """The policies once the draft has been rehearsed: its promotion writes the same fields as a version of its own."""
    if drafted.rehearsal != Stage.REHEARSING:
        return None
    after = copy.copy(drafted)
    after.version, after.rehearsal = drafted.version + 1, Stage.PROMOTED
    return RetentionPolicy.objects.scoped(drafted=[drafted, after])


def outlooks(
    root: StagingRoot, instants: Sequence[datetime], policies_at: Callable[[datetime], list[ScopedPolicy]]
) -> list[SweepForecast]:
    """Returns what timed sweeps of a root would take at some instants, one after the other.

    It ends with the first sweep that a breaker would stop.
    """
    if not instants:
        return []
    last = instants[-1]
    stock = _stock(root, Scope(), [policies_at(instants[0]), policies_at(last)], last)
    stock = replace(stock, gone_on=breakers.gone_on(root, now=instants[0]))
    # Time only opens gates: a run that the last sweep may not take need not be weighed for the earlier ones.
    possible = _possible_until(stock, policies_at(last), last)
    stock = replace(stock, runs=[(run, facts) for run, facts in stock.runs if run.pk in possible])
    something_goes = any(possible.values())
    found = []
    for at in instants:
        outlook, stock = SweepForecast(), replace(stock, foretold=(*stock.foretold, Foretold(at)))
        # If no sweep takes a run, only the last one has to note the rehearsed runs.
        if stock.runs and (something_goes or at == last):
            stock = _weigh(stock, policies_at(at), Scope(), at, into=outlook)
        found.append(outlook)
        if outlook.sights:
            break
        stock = _without(stock, outlook.going)
    return found


def _possible_until(stock: _Stock, policies: list[ScopedPolicy], last: datetime) -> dict[int, bool]:
    """Maps each run that may go until `last` to whether it really goes (True) or is only rehearsed.

    The pressure of now counts for every sweep: sweeps only make a root less full.
    """
    limits = limits_of(policies, stock.root.name)
    full = any(outlook_of.pressures(limits, stock.fill, going_on=stock.going_on))
    known = {of_run: effective_policy(policies, of_run) for of_run in {run.scope for run, _facts in stock.runs}}
    found: dict[int, bool] = {}
    for run, facts in stock.runs:
        for one in outlook_of.candidates_for(run, facts, known[run.scope], last, limited=bool(limits.rehearsing)):
            if one.due or full:
                found[run.pk] = found.get(run.pk, False) or not one.rehearsed
    return found


def _without(stock: _Stock, gone: list[Run]) -> _Stock:
    keys = {run.pk for run in gone}
    fill = stock.fill
    if fill.free_bytes is not None:
        allocated = sum(facts.allocated_bytes or 0 for run, facts in stock.runs if run.pk in keys)
        fill = replace(fill, free_bytes=fill.free_bytes + allocated)
    fill = replace(fill, staged_bytes=fill.staged_bytes - size_of(gone), staged_runs=fill.staged_runs - len(keys))
    return replace(stock, runs=[(run, facts) for run, facts in stock.runs if run.pk not in keys], fill=fill)


def _stock(root: StagingRoot, scope: Scope, policies: Sequence[list[ScopedPolicy]], now: datetime) -> _Stock:
    keys, cut = _possible(root, scope, policies, now)
    runs = list(Run.objects.with_root().filter(pk__in=keys))
    staged = Run.objects.staged().filter(root=root).aggregate(runs=Count("pk"), bytes=bytes_sum("bytes"))
    usage = DiskUsage.objects.filter(root=root).order_by("-at").first()
    before = record.latest(root)
    free_bytes = usage.free_bytes if usage else None
    for run in runs:
        run.root = root
    return _Stock(
        root=root,
        runs=[(run, stored_facts.facts_of(run)) for run in runs],
        fill=RootFill(
            staged_bytes=staged["bytes"] or 0,
            staged_runs=staged["runs"],
            free_bytes=free_bytes,
        ),
        going_on=outlook_of.going_on(before),
        lately=Lately.of(root, now, free_bytes=free_bytes),
        cut=cut,
        gone_on=breakers.gone_on(root, now=now),
        cursor=outlook_of.cursor_of(before),
    )


def _possible(
    root: StagingRoot, scope: Scope, policies: Sequence[list[ScopedPolicy]], now: datetime
) -> tuple[list[int], bool]:
    """The keys of the runs that a policy could let go by time, the oldest first; and whether there are more.

    If they are too many to weigh, only those of the scope stay.
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
    hours = [policy.min_retain_hours for policy in found if policy.mode is Mode.SCHEDULED]
    return now - timedelta(hours=min(hours)) if hours else None


def _weigh(stock: _Stock, policies: list[ScopedPolicy], scope: Scope, now: datetime, *, into: SweepForecast) -> _Stock:
    """Adds to `into` what a sweep of one root takes from the scope; the returned stock still has these runs."""
    limits = limits_of(policies, stock.root.name)
    runs, candidates = {}, []
    known: dict[Scope, Policy] = {}
    for run, facts in stock.runs:
        of_run = run.scope
        if (policy := known.get(of_run)) is None:
            policy = known[of_run] = effective_policy(policies, of_run)
        runs[run.pk] = run
        candidates += outlook_of.candidates_for(run, facts, policy, now, limited=bool(limits.rehearsing))
    let_go = _let_go(stock, runs, candidates, known, limits)
    ordered = sorted(in_order(candidates, after=stock.cursor), key=lambda candidate: candidate.key not in let_go)
    pressure, unasked = outlook_of.pressures(limits, stock.fill, going_on=stock.going_on)
    picker = Picker(ordered, pressure, unasked=unasked, helps=stock.lately.helps)
    budget = budget_of(limits.unasked, limit=None)
    into.minutes = min(filter(None, (into.minutes, budget.minutes)), default=None)
    plan, cursor = _take(picker, runs, budget, scope, into)
    before = stock.foretold[:-1]
    if plan:
        guard = AnomalyGuard(
            stock.root, policies, now=now, staged_bytes=stock.fill.staged_bytes, let_go=let_go, foretold=before
        )
        _brake(stock, plan, guard.look_at_plan(plan), let_go, scope, into)
    takes = Foretold(now, [(run, candidate.size, candidate.key in let_go) for run, candidate in plan])
    return replace(
        stock,
        going_on=(
            bool(picker.pressure.free_wanted),
            bool((picker.unasked if limits.meanwhile else picker.pressure).free_wanted),
        ),
        cursor=cursor,
        foretold=(*before, takes),
    )


def _brake(
    stock: _Stock,
    plan: Iterable[tuple[Run, Candidate]],
    sights: list[Anomaly],
    let_go: Container[int],
    scope: Scope,
    into: SweepForecast,
) -> None:
    """Adds what stops the sweep, and the runs that stay for it."""
    into.sights += [f"{stock.root.name}: {sight.detail}" for sight in sights]
    for run, candidate in plan:
        stays = stock.is_stopped or (bool(sights) and not goes_on(candidate.key, sights, let_go))
        into.stopped += [run] * (stays and scope.covers(run.scope))


def _take(
    picker: Picker, runs: Mapping[int, Run], budget: SweepBudget, scope: Scope, into: SweepForecast
) -> tuple[list[tuple[Run, Candidate]], tuple[datetime, int] | None]:
    """The runs that go if no gate refuses one, and the last run before the budget ended."""
    plan: list[tuple[Run, Candidate]] = []
    exhausted, cursor = False, None
    for candidate, _causes in picker:
        run = runs[candidate.key]
        told = scope.covers(run.scope)
        if not exhausted and not candidate.rehearsed:
            exhausted = bool(budget.exhausted_by(candidate.size, minutes=0))
        if exhausted and not candidate.rehearsed:
            into.left_over += [run] * told
            picker.left_over(candidate)
            continue
        if not exhausted:
            cursor = candidate.verified_at, candidate.key
        if candidate.rehearsed:
            into.rehearsed += [run] * told
        else:
            budget = budget.less(candidate.size)
            plan.append((run, candidate))
            into.going += [run] * told
        picker.gone(candidate, size=candidate.size, allocated=candidate.allocated)
    return plan, cursor if exhausted else None


def _let_go(
    stock: _Stock,
    runs: Mapping[int, Run],
    candidates: Iterable[Candidate],
    policies: Mapping[Scope, Policy],
    limits: Limits,
) -> Container[int]:
    """The runs that a go-on covers: it is for the next sweep alone."""
    if len(stock.foretold) > 1 or not stock.gone_on:
        return ()
    shown = {
        one.key: outlook_of.shown(runs[one.key], policies[runs[one.key].scope], one, limits)
        for one in candidates
        if not one.rehearsed
    }
    return breakers.let_go_by(stock.gone_on, shown)


def _digest(drafted: RetentionPolicy, value: ScopedPolicy, foretold: Iterable[SweepForecast]) -> str:
    said = {**asdict(value), "version": 0, "nights": drafted.rehearsal_nights}
    taken = [
        [sorted(run.pk for run in runs) for runs in (one.going, one.rehearsed, one.left_over, one.stopped)]
        for one in foretold
    ]
    text = json.dumps([said, taken], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
