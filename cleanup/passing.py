"""One pass over one staging root: decide of every run, take what may go, write down both."""

import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from cleanup import alerting, breaking, clearing, gathering, recording, rehearsing
from cleanup.gathering import Unreachable
from cleanup.minding import Minder
from cleanup.models import (
    AlertKind,
    ClearAttempt,
    Outcome,
    Requester,
    Run,
    StagingRoot,
    Sweep,
    SweepKind,
)
from cleanup.policy.breakers import Clock, Kind, Sight, too_many_failures
from cleanup.policy.gates import Decision, Facts, Finding, Gate, Verdict, evaluate
from cleanup.policy.lifecycle import State
from cleanup.policy.pressure import (
    Budget,
    Candidate,
    Fill,
    Picker,
    Pressure,
    budget_of,
    in_order,
    pressure_of,
)
from cleanup.policy.reasons import Reason
from cleanup.policy.retention import (
    Policy,
    ScopedPolicy,
    effective_policy,
    limits_of,
)
from cleanup.policy.units import say_count
from cleanup.recording import Recorder, Said
from cleanup.staging import tree
from cleanup.taking import FREEING, Action, Asked, RunAction, fail, rehearse, skip, take

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
    """One pass: `scanned` staged runs, of which `candidates` were due by state, policy and time, or by pressure."""

    dry_run: bool
    now: datetime
    scanned: int = 0
    candidates: int = 0
    runs: list[RunAction] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def count(self, *actions: Action) -> int:
        return sum(run.action in actions for run in self.runs)

    @property
    def freeing(self) -> list[RunAction]:
        """The runs that were cleared, or in a dry run would be. What is rehearsed frees nothing."""
        return [run for run in self.runs if run.action in FREEING and run.reason != Reason.REHEARSAL]

    @property
    def files(self) -> int:
        return sum(run.files for run in self.freeing)

    @property
    def bytes_freed(self) -> int:
        return sum(run.bytes for run in self.freeing)

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

    def decide(self, now: datetime, **findings: Finding) -> Decision:
        """Its gates as far as they are known, with what the pass itself has against it."""
        return evaluate(replace(self.facts, **findings), self.policy, now)  # type: ignore[arg-type]


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
        self.before = recording.latest(root)
        self.began = time.monotonic()
        self.actions: list[RunAction] = []
        self.scanned = 0
        self.staged_bytes = 0
        self.candidates = 0
        self.due: dict[int, Due] = {}
        self.outcomes: list[bool] = []
        self.attempts: dict[int, ClearAttempt] = {}
        self.stopped: Finding | None = None
        self.sights: list[Sight] = []
        self.minder: Minder | None = None
        self.left_over = False
        self.recorder: Recorder
        self.sweep: Sweep

    def go(self) -> None:
        """Decide of every run, take what may go, and write down both."""
        wish = self.wish
        self.recorder = recording.begin(
            self.root,
            wish.kind,
            now=self.now,
            actor=wish.actor,
            policy_version=max((policy.version for policy in self.policies), default=0),
            clock=breaking.clock_as_json(wish.clock or Clock(wall=wish.now)) if not wish.dry_run else {},
        )
        self.sweep = self.recorder.sweep
        self._remember(self._cursor())  # at once: a pass that dies while it decides must not lose the place
        standing = breaking.standing(self.root)
        self._decide(breaking.finding_of(standing) if standing and breaking.stops(standing, self._kind) else None)
        pressure = self._pressure()
        candidates = in_order((due.candidate for due in self.due.values()), after=self._cursor())
        picker = Picker(candidates, pressure)
        if self.stopped is None and wish.timed:
            self.minder = Minder(
                self.root, self.policies, now=self.now, clock=wish.clock, staged_bytes=self.staged_bytes
            )
            # Before anything is removed: is the pass, as it is planned, abnormal, and has no person let it go on?
            self._stop(self.minder.look_at_plan(self._plan(candidates, pressure)))
        self.recorder.flush()
        self._take(picker, candidates)
        self._warn(picker.pressure)
        self._finish(pressure, picker.pressure)
        if wish.timed and not wish.dry_run:
            self._learn()

    @property
    def _kind(self) -> SweepKind:
        return SweepKind.TIMED if self.wish.timed else SweepKind.TYPED

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
            policy = policy.in_earnest()
        facts = gathering.stored_facts(run, other_attempt=busy, hindrances=self.hindrances, breaker=self.stopped)
        decision = evaluate(facts, policy, self.now)
        if decision.gate(Gate.STATE).verdict is Verdict.WAIT:
            self._note(run, skip(run, Finding(Reason.NOT_SYNC_VERIFIED), decision), listed=False)
            return
        known = evaluate(facts, policy.in_earnest(), self.now)
        due = _known_refusal(run, known) is None
        pressed = evaluate(facts, policy.in_earnest().under_pressure(), self.now)
        eligible = _known_refusal(run, pressed) is None
        refusal = next(iter(self.hindrances), None) or (None if due or eligible else _known_refusal(run, known))
        if refusal is not None or run.verified_at is None:
            self._note(run, skip(run, refusal or Finding(Reason.NO_VERIFIED_TIMESTAMP), decision))
            return
        rehearsed = bool(policy.rehearsing or (not due and self.wish.timed and self.limits.rehearsing))
        self.due[run.pk] = Due(
            run,
            facts,
            policy,
            Candidate(
                key=run.pk,
                verified_at=run.verified_at,
                due=due,
                eligible=eligible,
                rehearsed=rehearsed,
                size=run.bytes or 0,
                allocated=facts.allocated_bytes or 0,
            ),
        )

    def _pressure(self) -> Pressure:
        free_bytes = None
        if self.limits.free_start_bytes is not None:
            with contextlib.suppress(Unreachable, OSError), gathering.open_root(self.root) as root:
                free_bytes = tree.free_bytes(root)
        going_on = bool(self.before and self.before.pressure.get("left", {}).get("free_wanted"))
        fill = Fill(staged_bytes=self.staged_bytes, staged_runs=self.scanned, free_bytes=free_bytes)
        return pressure_of(self.limits, fill, going_on=going_on)

    def _plan(self, candidates: Sequence[Candidate], pressure: Pressure) -> list[tuple[Run, Candidate]]:
        """The runs that go if every one of them may; what is only rehearsed is none of them."""
        budget, picker = self._budget(), Picker(candidates, pressure)
        plan = []
        for candidate, _causes in picker:
            if not candidate.rehearsed:
                if budget.exhausted_by(candidate.size, minutes=0):
                    break
                budget = budget.less(candidate.size)
                plan.append((self.due[candidate.key].run, candidate))
            picker.gone(candidate, size=candidate.size, allocated=candidate.allocated)
        return plan

    # Doing

    def _take(self, picker: Picker, candidates: Sequence[Candidate]) -> None:
        """Take the candidates in their order, as far as budget and breakers let it; the others are left over."""
        handled: set[int] = set()
        budget = self._budget()
        exhausted = ""
        for candidate, causes in picker:
            due = self.due[candidate.key]
            self.candidates += 1
            if not exhausted and not candidate.rehearsed:
                # The first one has its turn however long it took to decide, or a small budget would never clear any.
                exhausted = budget.exhausted_by(candidate.size, minutes=self._minutes() if handled else 0)
            handled.add(candidate.key)
            if self.minder and not (exhausted or self.stopped or candidate.rehearsed):
                self._stop(self.minder.look_at_next(due.run, candidate))
            if self.stopped is not None:
                self._leave(due, breaker_finding=self.stopped)
                picker.left_over(candidate)
                continue
            if exhausted and not candidate.rehearsed:
                self.left_over = True
                self._leave(due, budget_finding=Finding(Reason.BUDGET_EXHAUSTED, exhausted))
                picker.left_over(candidate)
                continue
            self._remember((candidate.verified_at, candidate.key))
            taken = self._take_one(due, cause="+".join(causes))
            if taken.action in FREEING:
                allocated = candidate.allocated if candidate.rehearsed else taken.allocated
                picker.gone(candidate, size=taken.bytes, allocated=allocated)
            if taken.action in FREEING and not candidate.rehearsed:
                budget = budget.less(taken.bytes)
                if self.minder:
                    self.minder.took(due.run, candidate)
            if not candidate.rehearsed:
                self._watch_failures(taken)
        if not self.left_over and self.stopped is None:
            self._remember(None)
        for candidate in candidates:
            if candidate.key not in handled:  # only pressure would have taken it, and there is none (any more)
                self._leave_to_time(self.due[candidate.key])

    def _take_one(self, due: Due, *, cause: str) -> RunAction:
        run, policy = due.run, due.policy if due.candidate.due else due.policy.under_pressure()
        if due.candidate.rehearsed:
            taken = rehearse(run, policy, self.now, cause=cause)
            if taken.gates is None:
                taken = replace(taken, gates=clearing.decision_as_json(evaluate(due.facts, policy, self.now)))
        else:
            asked = Asked(requester=Requester.SCHEDULE, actor=self.wish.actor, cause=cause)
            taken = take(run, policy, self.now, asked=asked, dry_run=self.wish.dry_run)
        if taken.attempt is not None:
            self.attempts[run.pk] = taken.attempt
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

    def _stop(self, sights: list[Sight]) -> None:
        """Take nothing more if anything was seen; a dry run only shows that it would stop here."""
        self.sights += sights
        if not sights:
            return
        if self.wish.dry_run:
            self.stopped = Finding(Reason.BREAKER_OPEN, " ".join(sight.detail for sight in sights))
        else:
            self.stopped = breaking.finding_of(breaking.open_breaker(self.sweep, sights, now=self.now))

    def _leave(self, due: Due, **findings: Finding) -> None:
        (finding,) = findings.values()
        self._note(due.run, skip(due.run, finding, due.decide(self.now, **findings)))

    def _leave_to_time(self, due: Due) -> None:
        decision = due.decide(self.now)
        refusal = _known_refusal(due.run, decision) or Finding(Reason.RETENTION_NOT_ELAPSED)
        self._note(due.run, skip(due.run, refusal, decision))

    def _cursor(self) -> tuple[datetime, int] | None:
        """The last candidate that was handled by a pass before this one that did not come to its end."""
        before = self.before
        if before is None or before.cursor_verified_at is None or before.cursor_run is None:
            return None
        return before.cursor_verified_at, before.cursor_run

    def _remember(self, cursor: tuple[datetime, int] | None) -> None:
        """Where the next pass begins, if this one does not come to its end: after the one that is taken now.

        Also if this process dies of it: a run that kills every sweep must not keep the others from their turn.
        """
        if not self.wish.dry_run:
            at, key = cursor or (None, None)
            Sweep.objects.filter(pk=self.sweep.pk).update(cursor_verified_at=at, cursor_run=key)

    def _learn(self) -> None:
        """What this pass has shown of the policies: those that surprise go back to rehearsal, others are promoted."""
        try:
            for due in self.due.values():
                if due.run.pk in self.attempts:
                    rehearsing.note_refusal(self.attempts[due.run.pk], due.policy, self.now)
            rehearsing.settle(self.now, self.root)
        except Exception:  # the sweep itself is done, and the next one tries this again
            logger.exception("the rehearsals on %s could not be settled", self.root)

    # Telling

    def _note(self, run: Run, action: RunAction, *, listed: bool = True) -> None:
        if listed:
            self.actions.append(action)
            self.result.runs.append(action)
        version = self.sweep.policy_version
        self.recorder.note(
            run,
            Said(
                action=action.action,
                reason=action.reason,
                detail=action.detail,
                gates=action.gates or [],
                policy_version=version,
                files=action.files,
                bytes=action.bytes,
            ),
        )

    def _warn(self, pressure: Pressure) -> None:
        """A root that stays beyond its limits is a person's affair; one that the next sweep goes on with is not yet."""
        unmet = bool(pressure) and not self.left_over and self.stopped is None
        subject = f"root:{self.root.pk}"
        detail = _describe(pressure)
        if unmet:
            self.result.problems.append(Problem(self.root.name, Reason.LIMIT_EXCEEDED, detail))
        if self.stopped:
            self.result.problems.append(Problem(self.root.name, self.stopped.reason, self.stopped.detail))
        if self.wish.dry_run:
            return
        if unmet:
            reason = Reason.LIMIT_EXCEEDED
            alerting.open_alert(AlertKind.PRESSURE, subject, reason=reason, now=self.now, detail=detail, root=self.root)
        elif not pressure:
            alerting.end_alert(AlertKind.PRESSURE, subject, now=self.now)

    def _finish(self, before: Pressure, after: Pressure) -> None:
        self.result.scanned += self.scanned
        self.result.candidates += self.candidates
        mine = Swept(self.wish.dry_run, self.now, runs=self.actions)
        warning = Finding(Reason.LIMIT_EXCEEDED, _describe(after)) if after and not self.left_over else None
        finding = self.stopped or self._not_there() or warning
        self.recorder.finish(
            Outcome.STOPPED if self.stopped else Outcome.DONE,
            scanned=self.scanned,
            candidates=self.candidates,
            cleared=mine.count(Action.CLEARED, Action.PARTIAL),
            would_clear=mine.count(Action.WOULD_CLEAR),
            skipped=mine.count(Action.SKIPPED),
            failed=mine.failed,
            files=mine.files,
            bytes=mine.bytes_freed,
            reason=finding.reason if finding else "",
            detail=finding.detail if finding else "",
            pressure={"wanted": vars(before), "left": vars(after)},
            clock={**self.sweep.clock, "sound": self._was_sound()},
        )
        if self.minder is not None and not self.wish.dry_run:
            breaking.use_up(self.sweep, now=self.now)

    def _not_there(self) -> Finding | None:
        """Why nothing could be looked at on this root; a pass that could not look has shown nothing of any policy."""
        try:
            with gathering.open_root(self.root):
                return None
        except Unreachable as error:
            return error.finding

    def _was_sound(self) -> bool:
        """Whether the next timed pass may be compared with this one; clears that failed say nothing against that."""
        asked = self.minder is not None and not self.hindrances
        return asked and all(sight.kind is Kind.FAILURES for sight in self.sights)

    def _budget(self) -> Budget:
        """What is left to take; a person's limit counts over all staging roots together."""
        budget = budget_of(self.limits, limit=self.wish.limit)
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
