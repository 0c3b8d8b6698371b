"""One pass over one staging root: decide of every run, take what may go, write down both."""

import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.utils import timezone

from cleanup.clears import protocol
from cleanup.clears.freed import Lately
from cleanup.clears.run_action import FREEING, Action, Asked, RunAction, fail, rehearse, skip, take
from cleanup.lab import alerts, clocks, opening
from cleanup.lab.opening import Unreachable
from cleanup.models import (
    AlertKind,
    ClearAttempt,
    Outcome,
    Requester,
    Run,
    StagingRoot,
    Sweep,
    SweepBreaker,
    SweepKind,
)
from cleanup.rules.anomalies import Anomaly, AnomalyKind, Clock, too_many_failures
from cleanup.rules.decisions import Decision, Gate, Verdict
from cleanup.rules.effective import effective_policy, limits_of, sources_as_json
from cleanup.rules.facts import Facts, Finding
from cleanup.rules.freed import Freed
from cleanup.rules.gates import evaluate
from cleanup.rules.policy import Policy, ScopedPolicy
from cleanup.rules.pressure import (
    Candidate,
    Picker,
    Pressure,
    RootFill,
    SweepBudget,
    Taken,
    budget_of,
    candidates_of,
    in_order,
    plan_of,
)
from cleanup.rules.quantities import say_count
from cleanup.rules.reasons import Reason
from cleanup.rules.shown import Shown
from cleanup.rules.states import State
from cleanup.runs import slow_twins, stored_facts
from cleanup.storage import reserve
from cleanup.sweeps import breakers, outlook, record, rehearsal
from cleanup.sweeps.anomaly_guard import Minder
from cleanup.sweeps.record import Recorder, Said

logger = logging.getLogger(__name__)

# What no look at the disk can change, in the order in which it is told.
_KNOWN = (Gate.CLOCK, Gate.RETENTION, Gate.HOLD, Gate.FREE, Gate.ATTEMPTS)


@dataclass(frozen=True)
class Problem:
    """What a pass has to say of a staging root as a whole."""

    root: str
    reason: Reason
    detail: str = ""


@dataclass
class Swept:
    """One pass: `scanned` staged runs, of which `candidates` were due by state, policy and time, or by pressure.

    The runs that are not verified yet are only counted: `runs` lists all others.
    """

    dry_run: bool
    now: datetime
    scanned: int = 0
    candidates: int = 0
    not_verified: int = 0
    runs: list[RunAction] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def count(self, *actions: Action) -> int:
        return sum(run.action in actions for run in self.runs)

    @property
    def freeing(self) -> list[RunAction]:
        """The runs that were cleared, or in a dry run would be. What is rehearsed frees nothing."""
        return [run for run in self.runs if run.action in FREEING and run.reason != Reason.REHEARSAL]

    @property
    def only_rehearsed(self) -> list[RunAction]:
        """The runs that would have gone by the schedule, if their policy were not rehearsed."""
        return [run for run in self.runs if run.reason == Reason.REHEARSAL or run.rehearsed]

    def rehearsed_as_json(self) -> dict[str, int]:
        """How many those are of a dry run, and their logical bytes, for the record; empty for none."""
        runs = self.only_rehearsed if self.dry_run else []
        return {"runs": len(runs), "bytes": sum(run.bytes for run in runs)} if runs else {}

    @property
    def files(self) -> int:
        return sum(run.files for run in self.freeing)

    @property
    def bytes_freed(self) -> int:
        return sum(run.bytes for run in self.freeing)

    @property
    def allocated_bytes(self) -> int:
        return sum(run.allocated for run in self.freeing)

    @property
    def measured(self) -> Freed | None:
        """What disks gave back, of the runs of which that could be measured; None if of none."""
        known = [(run.allocated, run.measured) for run in self.freeing if run.measured is not None]
        return Freed(sum(one for one, _ in known), sum(one for _, one in known)) if known else None

    def freed_as_json(self) -> dict[str, int]:
        """The same for the record; empty where nothing could be measured."""
        return vars(self.measured) if self.measured else {}

    @property
    def failed(self) -> int:
        broken = sum(problem.reason is Reason.SWEEP_FAILED for problem in self.problems)
        return self.count(Action.FAILED, Action.PARTIAL) + broken


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is asked of a pass. `timed`: nobody watches, so rehearsal and breakers bind it."""

    now: datetime
    dry_run: bool = False
    timed: bool = False
    limit: int | None = None
    actor: str = ""
    clock: Clock | None = None

    @property
    def kind(self) -> SweepKind:
        if self.dry_run:
            return SweepKind.DRY_RUN
        return SweepKind.TIMED if self.timed else SweepKind.TYPED


@dataclass(frozen=True)
class Due:
    """A candidate with what was known of it when the pass began."""

    run: Run
    facts: Facts
    policy: Policy
    candidate: Candidate

    @property
    def takes_by(self) -> Policy:
        """The policy by which the pass would take it, or note it if that is only rehearsed."""
        policy = self.policy if self.candidate.rehearsed else self.policy.unasked
        return policy if self.candidate.due else policy.under_pressure()

    def decide(self, now: datetime, **findings: Finding) -> Decision:
        """Its gates as far as they are known, with what the pass itself has against it."""
        policy = self.policy if self.candidate.rehearsed else self.policy.unasked
        return evaluate(replace(self.facts, **findings), policy, now)  # type: ignore[arg-type]


class Pass:
    """One pass over one staging root, which the caller has claimed for it."""

    def __init__(
        self,
        root: StagingRoot,
        wish: Wish,
        policies: list[ScopedPolicy],
        hindrances: tuple[Finding, ...],
        result: Swept,
    ) -> None:
        self.root, self.wish, self.policies, self.hindrances, self.result = root, wish, policies, hindrances, result
        self.now = wish.now
        self.limits = limits_of(policies, root.name)
        self.before = record.latest(root)
        self.began = time.monotonic()
        self.scanned = 0
        self.staged_bytes = 0
        self.candidates = 0
        self.due: dict[tuple[int, bool], Due] = {}
        self.decided_by: dict[int, dict[str, Any]] = {}
        self.rehearsing: set[int] = set()
        self.outcomes: list[bool] = []
        self.attempts: dict[int, ClearAttempt] = {}
        self.stopped: Finding | None = None
        self.sights: list[Anomaly] = []
        self.minder: Minder | None = None
        self.doubt: Anomaly | None = None
        self.let_go: dict[int, SweepBreaker] = {}
        self.left_over = False
        self.lately = Lately()
        self.unasked: Pressure | None = None
        self.picker: Picker | None = None
        self.recorder: Recorder
        self.sweep: Sweep

    def go(self) -> None:
        """Decide of every run, take what may go, and write down both."""
        wish = self.wish
        self.recorder = record.begin(
            self.root,
            wish.kind,
            now=self.now,
            actor=wish.actor,
            policy_version=max((policy.version for policy in self.policies), default=0),
            clock=clocks.as_json(wish.clock or Clock(wall=wish.now)) if not wish.dry_run else {},
        )
        self.sweep = self.recorder.sweep
        self.doubt = self._doubt_of_clock()  # before any hold is asked whether it is over
        self._remember(self._cursor())  # at once: a pass that dies while it decides must not lose the place
        standing = breakers.standing(self.root)
        self._decide(breakers.finding_of(standing) if standing and breakers.stops(standing, self._kind) else None)
        pressure = self._pressure()
        candidates = in_order((due.candidate for due in self.due.values()), after=self._cursor())
        if self.stopped is None and wish.timed:
            self.let_go = breakers.let_go(self.root, self._shown(candidates).runs, now=self.now)
            # First: a go-on is for one pass, and its budget may not suffice for the others as well.
            candidates.sort(key=lambda candidate: candidate.key not in self.let_go)
        picker = self.picker = self._picker(candidates, pressure)
        if self.stopped is None and wish.timed:
            self.minder = Minder(
                self.root,
                self.policies,
                now=self.now,
                clock=wish.clock,
                doubt=self.doubt,
                staged_bytes=self.staged_bytes,
                sweep=self.sweep,
                let_go=self.let_go,
            )
            # Before anything is removed: is the pass, as it is planned, abnormal, and has no person let it go on?
            plan = self._plan(candidates, pressure, self._budget())
            self._stop(self.minder.look_at_plan(plan), [candidate for _run, candidate in plan])
        self.recorder.flush()
        # At once: of a pass that dies it must be known to how many runs it did not come.
        Sweep.objects.filter(pk=self.sweep.pk).update(scanned=self.scanned, staged_bytes=self.staged_bytes)
        self._take(picker, candidates)
        warning = self._in_vain(pressure) or self._unmet(picker)
        self._warn(picker.pressure, warning)
        self._finish(pressure, picker.pressure, warning)
        if wish.timed and not wish.dry_run and self.doubt is None:  # nights that such a clock has passed are none
            self._learn()

    @property
    def _kind(self) -> SweepKind:
        return SweepKind.TIMED if self.wish.timed else SweepKind.TYPED

    def _doubt_of_clock(self) -> Anomaly | None:
        """What speaks against this host's clock, as far as no person has said that it is right."""
        wish = self.wish
        if wish.clock is None:
            return None
        sight = clocks.look(wish.clock, ask=not wish.dry_run, write=not wish.dry_run).sight
        if sight is None or breakers.not_allowed(self.root, [sight], now=self.now):
            return sight
        if wish.timed and not wish.dry_run:
            clocks.confirm(wish.clock, why=sight.detail)
        return None

    # Deciding

    def _decide(self, stopped: Finding | None) -> None:
        """What every staged run comes to by what is known of it: waiting, not to be taken, or a candidate."""
        self.stopped = stopped
        runs = Run.objects.staged().with_root().filter(root=self.root).order_by("verified_at", "pk")
        active = ClearAttempt.objects.filter(run__root=self.root, phase__in=ClearAttempt.ACTIVE)
        busy = set(active.values_list("run", flat=True))
        for run in runs:
            self.scanned += 1
            self.staged_bytes += run.bytes or 0
            try:
                self._decide_of(run, busy=run.pk in busy)
            except Exception as error:  # one bad run must not keep the others from being cleared
                self._note(run, fail(run, error))

    def _decide_of(self, run: Run, *, busy: bool) -> None:
        policy = effective_policy(self.policies, run.scope)
        if not self.wish.timed:
            self.rehearsing |= {run.pk} if policy.rehearsing else set()
            policy = policy.in_earnest()
        self.decided_by[run.pk] = sources_as_json(policy.unasked)
        facts = stored_facts.facts_of(run, other_attempt=busy, hindrances=self.hindrances, breaker=self.stopped)
        decision = evaluate(facts, policy, self.now)
        if decision.gate(Gate.STATE).verdict is Verdict.WAIT:
            self._note(run, skip(run, Finding(Reason.NOT_SYNC_VERIFIED), decision), listed=False)
            return
        rehearses = bool(policy.rehearsing or (self.wish.timed and self.limits.rehearsing))
        candidates = (
            []
            if run.verified_at is None
            else candidates_of(
                outlook.undecided(run, run.verified_at, facts, self.now),
                self._lets_go(run, facts, policy.unasked),
                self._lets_go(run, facts, policy.in_earnest()) if rehearses else None,
            )
        )
        refusal = next(iter(self.hindrances), None)
        if refusal is None and not candidates:
            known = _known_refusal(run, evaluate(facts, policy.in_earnest(), self.now))
            refusal = known or Finding(Reason.NO_VERIFIED_TIMESTAMP)
        if refusal is not None:
            self._note(run, skip(run, refusal, decision))
            return
        for candidate in candidates:
            self.due[run.pk, candidate.rehearsed] = Due(run, facts, policy, candidate)

    def _lets_go(self, run: Run, facts: Facts, policy: Policy) -> Taken:
        """Whether a policy lets a run go, as far as no fresh look is needed for that."""
        due, eligible = (
            _known_refusal(run, evaluate(facts, each, self.now)) is None for each in (policy, policy.under_pressure())
        )
        return Taken(due=due, eligible=eligible)

    def _pressure(self) -> Pressure:
        free_bytes = self._free_bytes() if self.limits.free_start_bytes is not None else None
        fill = RootFill(staged_bytes=self.staged_bytes, staged_runs=self.scanned, free_bytes=free_bytes)
        pressure, unasked = outlook.pressures(self.limits, fill, going_on=outlook.going_on(self.before))
        if self.wish.timed and self.limits.meanwhile:
            self.unasked = unasked
        if pressure.for_space:
            self.lately = Lately.of(self.root, self.now, free_bytes=self._free_bytes())
        return pressure

    def _picker(self, candidates: Sequence[Candidate], pressure: Pressure) -> Picker:
        return Picker(candidates, pressure, unasked=self.unasked, helps=self.lately.helps)

    def _free_bytes(self) -> int | None:
        with contextlib.suppress(Unreachable, OSError), opening.open_root(self.root) as root:
            return reserve.free_bytes(root)
        return None

    def _plan(
        self, candidates: Sequence[Candidate], pressure: Pressure, budget: SweepBudget
    ) -> list[tuple[Run, Candidate]]:
        """The runs that go if every one of them may; what is only rehearsed is none of them."""
        plan = plan_of(self._picker(candidates, pressure), budget)
        return [(self.due[candidate.key, False].run, candidate) for candidate in plan]

    def _shown(self, candidates: Sequence[Candidate]) -> Shown:
        """Candidates as the question of a breaker shows them; what is only rehearsed is none of them."""
        earnest = [self.due[candidate.key, False] for candidate in candidates if not candidate.rehearsed]
        return Shown({due.run.pk: outlook.shown(due.run, due.policy, due.candidate, self.limits) for due in earnest})

    # Doing

    def _take(self, picker: Picker, candidates: Sequence[Candidate]) -> None:
        """Take the candidates in their order, as far as budget and breakers let it; the others are left over."""
        handled: set[int] = set()
        budget = self._budget()
        exhausted = ""
        for candidate, causes in picker:
            due = self.due[candidate.key, candidate.rehearsed]
            self.candidates += 1
            if not exhausted and not candidate.rehearsed:
                # The first one has its turn however long it took to decide, or a small budget would never clear any.
                exhausted = budget.exhausted_by(candidate.size, minutes=self._minutes() if handled else 0)
            if self.minder and not (exhausted or self.stopped or candidate.rehearsed):
                rest = [each for each in candidates if each.key not in handled]
                sights = self.minder.look_at_next(due.run, candidate)
                plan = self._plan(rest, picker.pressure, budget) if sights else []
                self._stop(sights, [each for _run, each in plan])
            handled.add(candidate.key)
            if self.stopped is not None and not self._goes_all_the_same(candidate):
                self._leave(due, breaker_finding=self.stopped)
                picker.left_over(candidate)
                continue
            if exhausted and not candidate.rehearsed:
                self.left_over = True
                self._leave(due, budget_finding=Finding(Reason.BUDGET_EXHAUSTED, exhausted))
                picker.left_over(candidate)
                continue
            if not exhausted:  # what is only noted leaves the turn to those that a budget has left over
                self._remember((candidate.verified_at, candidate.key))
            taken = self._take_one(due, cause="+".join(causes))
            if taken.action in FREEING:
                allocated = candidate.allocated if candidate.rehearsed else taken.allocated
                self.lately.add(taken.attempt)
                picker.gone(candidate, size=taken.bytes, allocated=allocated, freed=taken.freed)
            if taken.action in FREEING and not candidate.rehearsed:
                budget = budget.less(taken.bytes)
            if self.minder and taken.action in (*FREEING, Action.FAILED) and not candidate.rehearsed:
                self.minder.took(due.run, candidate)  # one that failed may be gone for all that
            if not candidate.rehearsed:
                self._watch_failures(taken)
        if not self.left_over and self.stopped is None:
            self._remember(None)
        in_vain = self._in_vain(picker.pressure)
        for candidate in {candidate.key: candidate for candidate in candidates}.values():
            if candidate.key not in handled:  # only pressure would have taken it, and there is none (any more)
                self._leave_to_time(self.due[candidate.key, candidate.rehearsed], in_vain)

    def _take_one(self, due: Due, *, cause: str) -> RunAction:
        run, policy = due.run, due.takes_by
        self.decided_by[run.pk] = sources_as_json(policy)
        if due.candidate.rehearsed:
            taken = rehearse(run, policy, self.now, cause=cause)
            if taken.gates is None:
                taken = replace(taken, gates=protocol.decision_as_json(evaluate(due.facts, policy, self.now)))
        else:
            asked = Asked(
                requester=Requester.SCHEDULE,
                actor=self.wish.actor,
                cause=cause,
                sweep=self.sweep,
                let_go=self.let_go.get(run.pk),
            )
            taken = take(run, policy, self.now, asked=asked, dry_run=self.wish.dry_run)
            taken = replace(taken, rehearsed=taken.action is Action.WOULD_CLEAR and run.pk in self.rehearsing)
        if taken.attempt is not None:
            self.attempts[run.pk] = taken.attempt
        elif not self.wish.dry_run:
            slow_twins.note(run, taken.reason, taken.detail, now=timezone.now())
        self._note(run, taken)
        self.recorder.flush()
        return taken

    def _watch_failures(self, taken: RunAction) -> None:
        """Stop when too many clears fail; refusals are the gates at work, and no failures."""
        if self.wish.dry_run or taken.action not in (Action.CLEARED, Action.PARTIAL, Action.FAILED):
            return
        self.outcomes.append(taken.action is not Action.CLEARED)
        if sight := too_many_failures(self.outcomes):
            self._stop([sight])

    def _goes_all_the_same(self, candidate: Candidate) -> bool:
        """Whether a person has let this run go, and what has stopped the pass since is about the number of others."""
        counted = self.minder is not None and all(sight.kind.counts for sight in self.sights)
        return counted and candidate.key in self.let_go

    def _stop(self, sights: list[Anomaly], plan: Sequence[Candidate] = ()) -> None:
        """Take nothing more if anything was seen; a dry run only shows that it would stop here.

        The question shows the runs of the plan that no person has let go so far.
        """
        self.sights += sights
        if not sights:
            return
        if self.wish.dry_run:
            self.stopped = Finding(Reason.BREAKER_OPEN, " ".join(sight.detail for sight in sights))
        else:
            shown = self._shown([candidate for candidate in plan if candidate.key not in self.let_go])
            opened = breakers.open_breaker(self.sweep, sights, now=self.now, shown=shown)
            self.stopped = breakers.finding_of(opened)

    def _leave(self, due: Due, **findings: Finding) -> None:
        (finding,) = findings.values()
        self._note(due.run, skip(due.run, finding, due.decide(self.now, **findings)))

    def _in_vain(self, pressure: Pressure) -> Finding | None:
        """Why no run goes for the sake of space, where that is wanted."""
        nothing = self.lately.nothing if pressure.for_space else None
        return Finding(Reason.CLEARING_FREES_NOTHING, f"Lately: {nothing}") if nothing else None

    def _leave_to_time(self, due: Due, in_vain: Finding | None) -> None:
        decision = due.decide(self.now)
        before_time = in_vain if due.candidate.eligible else None
        refusal = before_time or _known_refusal(due.run, decision) or Finding(Reason.RETENTION_NOT_ELAPSED)
        self._note(due.run, skip(due.run, refusal, decision))

    def _cursor(self) -> tuple[datetime, int] | None:
        """The last candidate that was handled by a pass before this one that did not come to its end."""
        return outlook.cursor_of(self.before)

    def _remember(self, cursor: tuple[datetime, int] | None) -> None:
        """Where the next pass begins, if this one does not come to its end: after the one that is taken now.

        Also if this process dies of it: a run that kills every sweep must not keep the others from their turn.
        """
        if not self.wish.dry_run:
            at, key = cursor or (None, None)
            place = {"cursor_verified_at": at, "cursor_run": key, "candidates": self.candidates}
            Sweep.objects.filter(pk=self.sweep.pk).update(**place)

    def _learn(self) -> None:
        """What this pass has shown of the policies: those that surprise go back to rehearsal, others are promoted."""
        try:
            for due in self.due.values():
                if due.run.pk in self.attempts:
                    rehearsal.note_refusal(self.attempts[due.run.pk], due.policy, self.now)
            rehearsal.settle(self.now, self.root)
        except Exception:  # the sweep itself is done, and the next one tries this again
            logger.exception("the rehearsals on %s could not be settled", self.root)

    # Telling

    def _note(self, run: Run, action: RunAction, *, listed: bool = True) -> None:
        action = replace(action, decided_by=self.decided_by.pop(run.pk, {}))
        if listed:
            self.result.runs.append(action)
        else:
            self.result.not_verified += 1
        version = self.sweep.policy_version
        self.recorder.note(
            run,
            Said(
                action=action.action,
                reason=action.reason,
                detail=action.detail,
                gates=action.gates or [],
                policy_version=version,
                decided_by=action.decided_by,
                files=action.files,
                bytes=action.bytes,
            ),
        )

    def _unmet(self, picker: Picker) -> Finding | None:
        """A root that stays beyond its limits is a person's affair; one that the next sweep goes on with is not yet."""
        if not picker.pressure or picker.is_met or self.left_over or self.stopped is not None:
            return None
        return Finding(Reason.LIMIT_EXCEEDED, _describe(picker.pressure))

    def _warn(self, pressure: Pressure, warning: Finding | None) -> None:
        if warning:
            self.result.problems.append(Problem(self.root.name, warning.reason, warning.detail))
        if self.stopped:
            self.result.problems.append(Problem(self.root.name, self.stopped.reason, self.stopped.detail))
        if self.wish.dry_run:
            return
        kind, subject = AlertKind.PRESSURE, f"root:{self.root.pk}"
        if warning:
            reason, detail = warning.reason, warning.detail
            alerts.open_alert(kind, subject, reason=reason, now=self.now, detail=detail, root=self.root)
        elif not pressure:
            alerts.end_alert(kind, subject, now=self.now)

    def _finish(self, before: Pressure, after: Pressure, warning: Finding | None) -> None:
        self.result.scanned += self.scanned
        self.result.candidates += self.candidates
        mine = replace(self.result, runs=[one for one in self.result.runs if one.root == self.root.name])
        finding = self.stopped or self._not_there() or warning
        self.recorder.finish(
            Outcome.STOPPED if self.stopped else Outcome.DONE,
            scanned=self.scanned,
            candidates=self.candidates,
            reason=finding.reason if finding else "",
            detail=finding.detail if finding else "",
            pressure={
                "wanted": vars(before),
                "left": vars(after),
                "freed": mine.freed_as_json(),
                "rehearsed": mine.rehearsed_as_json(),
                **self._meanwhile(),
            },
            clock={**self.sweep.clock, "sound": self._was_sound()},
        )
        if self.minder is not None and not self.wish.dry_run:
            breakers.use_up(self.sweep, now=self.now)

    def _not_there(self) -> Finding | None:
        """Why nothing could be looked at on this root; a pass that could not look has shown nothing of any policy."""
        try:
            with opening.open_root(self.root):
                return None
        except Unreachable as error:
            return error.finding

    def _meanwhile(self) -> dict[str, Any]:
        """What is left of the pressure for which runs go, where another one is rehearsed."""
        return {} if self.picker is None or self.unasked is None else {"meanwhile": vars(self.picker.unasked)}

    def _was_sound(self) -> bool:
        """Whether the next timed pass may be compared with this one; clears that failed say nothing against that."""
        asked = self.minder is not None and not self.hindrances
        return asked and all(sight.kind is AnomalyKind.FAILURES for sight in self.sights)

    def _budget(self) -> SweepBudget:
        """What is left to take; a person's limit counts over all staging roots together."""
        limits = self.limits.unasked if self.wish.timed else self.limits
        budget = budget_of(limits, limit=self.wish.limit)
        taken = 0 if self.wish.limit is None else len(self.result.freeing)
        return replace(budget, taken_runs=taken)

    def _minutes(self) -> float:
        return (time.monotonic() - self.began) / 60


def _known_refusal(run: Run, decision: Decision) -> Finding | None:
    """Why a run is not worth a fresh look: what no look at the disk can change."""
    verified = run.state == State.SYNC_VERIFIED
    for gate in _KNOWN if verified else [Gate.STATE]:
        result = decision.gate(gate)
        if gate is Gate.HOLD and result.verdict is Verdict.BLOCK:
            continue  # a file holds it, and may have been taken away since
        if result.verdict is not Verdict.PASS and result.reason is not None:
            return Finding(result.reason, result.detail)
    return None


def _describe(pressure: Pressure) -> str:
    parts = (
        (pressure.bytes_over, f"{say_count(pressure.bytes_over, 'byte')} above max_bytes"),
        (pressure.runs_over, f"{say_count(pressure.runs_over, 'run')} above max_runs"),
        (pressure.free_wanted, f"{say_count(pressure.free_wanted, 'byte')} of free space short of free_stop"),
    )
    return ", ".join(words for wanted, words in parts if wanted)
