"""Takes the candidates of a sweep in their order, as far as budget and breakers allow."""

import time
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace

from django.utils import timezone

from cleanup.clears import decisions
from cleanup.clears.freed import Lately
from cleanup.clears.queue import ClearRequest
from cleanup.clears.run_action import FREEING, Action, RunAction, rehearse, skip, take
from cleanup.models import ClearAttempt, Requester, Run
from cleanup.rules.breaker_question import Shown
from cleanup.rules.facts import Finding
from cleanup.rules.gates import evaluate
from cleanup.rules.policies.effective import sources_as_json
from cleanup.rules.policies.policy import Limits
from cleanup.rules.pressure import Candidate, Picker, Pressure
from cleanup.rules.reasons import Reason
from cleanup.rules.sweep_budget import SweepBudget, plan_of
from cleanup.runs.proofs import slow_twins
from cleanup.sweeps import outlook
from cleanup.sweeps.journal import Journal
from cleanup.sweeps.request import SweepRequest
from cleanup.sweeps.stop_conditions import Brakes
from cleanup.sweeps.survey import DueRun, Survey, known_refusal


@dataclass(frozen=True, kw_only=True)
class Need:
    """What has to be freed: `pressure` by all limits, `approved` without those in rehearsal; `lately`: what recent
    clears freed.
    """

    pressure: Pressure
    approved: Pressure | None
    lately: Lately

    def in_vain(self, pressure: Pressure) -> Finding | None:
        """Why no run goes for free space: recent clears freed nothing."""
        nothing = self.lately.nothing if pressure.for_space else None
        return Finding(Reason.CLEARING_FREES_NOTHING, f"Lately: {nothing}") if nothing else None


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """The candidates of a sweep in their order, and what may be taken."""

    survey: Survey
    need: Need
    limits: Limits
    budget: SweepBudget
    candidates: list[Candidate]

    def picker(self, candidates: list[Candidate], pressure: Pressure) -> Picker:
        return Picker(candidates, pressure, unasked=self.need.approved, helps=self.need.lately.helps)

    def runs(self, candidates: list[Candidate], pressure: Pressure, budget: SweepBudget) -> list[tuple[Run, Candidate]]:
        """The runs that go if no gate refuses one; rehearsed runs are left out."""
        plan = plan_of(self.picker(candidates, pressure), budget)
        return [(self.survey.due[candidate.key, False].run, candidate) for candidate in plan]

    def asked_about(self, runs: list[tuple[Run, Candidate]], let_go: Container[int]) -> Shown:
        return shown(self.survey, [one for _run, one in runs if one.key not in let_go], self.limits)


def shown(survey: Survey, candidates: Iterable[Candidate], limits: Limits) -> Shown:
    """Returns candidates as a breaker's question shows them, without rehearsed ones."""
    earnest = [survey.due[one.key, False] for one in candidates if not one.rehearsed]
    return Shown({due.run.pk: outlook.shown(due.run, due.policy, due.candidate, limits) for due in earnest})


class Taking:
    """Takes the candidates of one sweep.

    Afterwards `attempts` has the attempts by run, `picker` the pressure that is left, and `left_over` is True if a
    budget left runs to a later sweep.
    """

    def __init__(
        self, plan: SweepPlan, request: SweepRequest, journal: Journal, brakes: Brakes, *, began: float
    ) -> None:
        """`began`: monotonic seconds at which the sweep began."""
        self.plan, self.request, self.journal, self.brakes, self.began = plan, request, journal, brakes, began
        self.picker = plan.picker(plan.candidates, plan.need.pressure)
        self.attempts: dict[int, ClearAttempt] = {}
        self.left_over = False
        self._budget = plan.budget
        self._exhausted = ""
        self._handled: set[int] = set()

    def go(self) -> None:
        for candidate, causes in self.picker:
            due = self.plan.survey.of(candidate)
            self.journal.candidates += 1
            self._expect_budget(candidate)
            self._look_at_next(due)
            self._handled.add(candidate.key)
            if refusal := self._refusal(candidate):
                self._leave(due, **refusal)
                self.picker.left_over(candidate)
            else:
                self._take(due, "+".join(causes))
        if not self.left_over and self.brakes.stopped is None:
            self.journal.remember(None)
        in_vain = self.plan.need.in_vain(self.picker.pressure)
        for candidate in {candidate.key: candidate for candidate in self.plan.candidates}.values():
            if candidate.key not in self._handled:  # only pressure would take it, and none is left
                self._leave_to_time(self.plan.survey.of(candidate), in_vain)

    def _expect_budget(self, candidate: Candidate) -> None:
        if not self._exhausted and not candidate.rehearsed:
            # The first one always has its turn: after a long survey a small budget would else never clear a run.
            minutes = self._minutes() if self._handled else 0
            self._exhausted = self._budget.exhausted_by(candidate.size, minutes=minutes)

    def _look_at_next(self, due: DueRun) -> None:
        """Stop if this run makes the sweep abnormal: refusals may have brought other runs than the plan."""
        brakes, candidate = self.brakes, due.candidate
        if brakes.guard is None or self._exhausted or brakes.stopped or candidate.rehearsed:
            return
        if sights := brakes.guard.look_at_next(due.run, candidate):
            rest = [one for one in self.plan.candidates if one.key not in self._handled]
            runs = self.plan.runs(rest, self.picker.pressure, self._budget)
            brakes.stop(sights, self.plan.asked_about(runs, brakes.let_go))

    def _refusal(self, candidate: Candidate) -> dict[str, Finding] | None:
        if self.brakes.stopped is not None and self.brakes.stops(candidate):
            return {"breaker_finding": self.brakes.stopped}
        if self._exhausted and not candidate.rehearsed:
            self.left_over = True
            return {"budget_finding": Finding(Reason.BUDGET_EXHAUSTED, self._exhausted)}
        return None

    def _take(self, due: DueRun, cause: str) -> None:
        candidate = due.candidate
        if not self._exhausted:  # then only rehearsed runs follow: the next sweep begins with the runs left over
            self.journal.remember((candidate.verified_at, candidate.key))
        taken = self._take_one(due, cause=cause)
        if taken.action in FREEING:
            allocated = candidate.allocated if candidate.rehearsed else taken.allocated
            self.plan.need.lately.add(taken.attempt)
            self.picker.gone(candidate, size=taken.bytes, allocated=allocated, freed=taken.freed)
        if candidate.rehearsed:
            return
        if taken.action in FREEING:
            self._budget = self._budget.less(taken.bytes)
        if self.brakes.guard and taken.action in (*FREEING, Action.FAILED):
            self.brakes.guard.took(due.run, candidate)  # a failed clear may still have removed the run
        self.brakes.watch_failures(taken)

    def _take_one(self, due: DueRun, *, cause: str) -> RunAction:
        run, policy, now = due.run, due.takes_by, self.request.now
        self.journal.decided_by[run.pk] = sources_as_json(policy)
        if due.candidate.rehearsed:
            taken = rehearse(run, policy, now, cause=cause)
            if taken.gates is None:
                taken = replace(taken, gates=decisions.decision_as_json(evaluate(due.facts, policy, now)))
        else:
            request = ClearRequest(
                requester=Requester.SCHEDULE,
                actor=self.request.actor,
                cause=cause,
                sweep=self.journal.sweep,
                let_go=self.brakes.let_go.get(run.pk),
            )
            taken = take(run, policy, now, request=request, dry_run=self.request.dry_run)
            taken = replace(taken, rehearsed=taken.action is Action.WOULD_CLEAR and due.noted)
        if taken.attempt is not None:
            self.attempts[run.pk] = taken.attempt
        elif not self.request.dry_run:
            slow_twins.note(run, taken.reason, taken.detail, now=timezone.now())
        self.journal.note(run, taken)
        self.journal.recorder.flush()
        return taken

    def _leave(self, due: DueRun, **findings: Finding) -> None:
        (finding,) = findings.values()
        self.journal.note(due.run, skip(due.run, finding, due.decide(self.request.now, **findings)))

    def _leave_to_time(self, due: DueRun, in_vain: Finding | None) -> None:
        decision = due.decide(self.request.now)
        before_time = in_vain if due.candidate.eligible else None
        refusal = before_time or known_refusal(due.run, decision) or Finding(Reason.RETENTION_NOT_ELAPSED)
        self.journal.note(due.run, skip(due.run, refusal, decision))

    def _minutes(self) -> float:
        return (time.monotonic() - self.began) / 60
