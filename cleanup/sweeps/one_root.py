"""One sweep of one staging root, from the plan to the record."""

import contextlib
import time
from dataclasses import replace
from datetime import datetime

from cleanup.clears.freed import Lately
from cleanup.clears.report import ClearReport
from cleanup.clears.run_action import fail
from cleanup.lab import clocks
from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import Unreachable
from cleanup.models import ClearAttempt, Run, StagingRoot
from cleanup.rules.anomalies import Anomaly
from cleanup.rules.facts import Finding
from cleanup.rules.policies.effective import limits_of, sources_as_json
from cleanup.rules.policies.policy import ScopedPolicy
from cleanup.rules.pressure import RootFill, in_order
from cleanup.rules.sweep_budget import SweepBudget, budget_of
from cleanup.storage.root_files import reserve
from cleanup.sweeps import breakers, ending, journal, outlook, record, survey
from cleanup.sweeps.anomaly_guard import AnomalyGuard
from cleanup.sweeps.request import SweepRequest
from cleanup.sweeps.stop_conditions import Brakes
from cleanup.sweeps.survey import DueRun, Grounds, Survey
from cleanup.sweeps.taking import Need, SweepPlan, Taking, shown


class RootSweep:
    """One sweep of one staging root, which the caller has claimed."""

    def __init__(
        self,
        root: StagingRoot,
        request: SweepRequest,
        policies: list[ScopedPolicy],
        hindrances: tuple[Finding, ...],
        report: ClearReport,
    ) -> None:
        self.root, self.request, self.report = root, request, report
        self.policies, self.hindrances = policies, hindrances
        self.limits = limits_of(policies, root.name)
        self.before = record.latest(root)
        self.began = time.monotonic()

    def go(self) -> None:
        self.journal = journal.begin(self.root, self.request, self.policies, self.report)
        doubt = self._doubt_of_clock()  # before any hold is asked whether it has ended
        self.journal.remember(self._cursor())  # at once: a sweep that dies while it decides must keep the place
        self.brakes = Brakes(self.request, self.journal.sweep, breakers.standing(self.root))
        plan = self._plan(doubt)
        self.journal.count(scanned=plan.survey.scanned, staged_bytes=plan.survey.staged_bytes)
        taking = Taking(plan, self.request, self.journal, self.brakes, began=self.began)
        taking.go()
        ending.finish(self.root, taking, hindrances=self.hindrances)
        # A night under a doubtful clock does not count.
        if self.request.timed and not self.request.dry_run and doubt is None:
            ending.learn(self.root, taking)

    def _doubt_of_clock(self) -> Anomaly | None:
        """What speaks against this host's clock, unless a go-on says that it is right."""
        request = self.request
        if request.clock is None:
            return None
        sight = clocks.look(request.clock, ask=not request.dry_run, write=not request.dry_run).sight
        if sight is None or breakers.not_allowed(self.root, [sight], now=request.now):
            return sight
        if request.timed and not request.dry_run:
            clocks.confirm(request.clock, why=sight.detail)
        return None

    # Planning

    def _plan(self, doubt: Anomaly | None) -> SweepPlan:
        found = self._survey()
        need = self._pressure(found)
        candidates = in_order((due.candidate for due in found.due.values()), after=self._cursor())
        guarded = self.brakes.stopped is None and self.request.timed
        if guarded:
            question = shown(found, candidates, self.limits)
            let_go = breakers.let_go(self.root, question.runs, now=self.request.now)
            # These go first: a go-on is for one sweep, and the budget may not suffice for the others too.
            candidates.sort(key=lambda candidate: candidate.key not in let_go)
            self.brakes.let_go = let_go
        plan = SweepPlan(survey=found, need=need, limits=self.limits, budget=self._budget(), candidates=candidates)
        if guarded:
            self._guard(plan, doubt)
        return plan

    def _survey(self) -> Survey:
        grounds = Grounds(
            policies=self.policies,
            limits=self.limits,
            hindrances=self.hindrances,
            stopped=self.brakes.stopped,
            now=self.request.now,
            timed=self.request.timed,
        )
        runs = Run.objects.staged().with_root().filter(root=self.root).order_by("verified_at", "pk")
        active = ClearAttempt.objects.filter(run__root=self.root, phase__in=ClearAttempt.ACTIVE)
        busy = set(active.values_list("run", flat=True))
        found = Survey()
        for run in runs:
            found.scanned += 1
            found.staged_bytes += run.bytes or 0
            try:
                due = self._decide_of(run, grounds, busy=run.pk in busy)
            except Exception as error:  # one bad run must not stop the clears of the others
                self.journal.note(run, fail(run, error))
            else:
                found.due |= {(run.pk, one.candidate.rehearsed): one for one in due}
        return found

    def _decide_of(self, run: Run, grounds: Grounds, *, busy: bool) -> tuple[DueRun, ...]:
        policy, noted = grounds.policy_for(run)
        self.journal.decided_by[run.pk] = sources_as_json(policy.unasked)
        decided = survey.decide(run, policy, grounds, busy=busy, noted=noted)
        if decided.left is not None:
            self.journal.note(run, decided.left, listed=decided.listed)
        return decided.due

    def _pressure(self, found: Survey) -> Need:
        free_bytes = self._free_bytes() if self.limits.free_start_bytes is not None else None
        fill = RootFill(staged_bytes=found.staged_bytes, staged_runs=found.scanned, free_bytes=free_bytes)
        pressure, unasked = outlook.pressures(self.limits, fill, going_on=outlook.going_on(self.before))
        lately = Lately()
        if pressure.for_space:
            lately = Lately.of(self.root, self.request.now, free_bytes=self._free_bytes())
        meanwhile = self.request.timed and self.limits.meanwhile
        return Need(pressure=pressure, approved=unasked if meanwhile else None, lately=lately)

    def _free_bytes(self) -> int | None:
        with contextlib.suppress(Unreachable, OSError), opening.open_root(self.root) as root:
            return reserve.free_bytes(root)
        return None

    def _budget(self) -> SweepBudget:
        """The operator's limit counts over all staging roots together."""
        limits = self.limits.unasked if self.request.timed else self.limits
        taken = 0 if self.request.limit is None else len(self.report.freeing)
        return replace(budget_of(limits, limit=self.request.limit), taken_runs=taken)

    def _guard(self, plan: SweepPlan, doubt: Anomaly | None) -> None:
        brakes = self.brakes
        brakes.guard = AnomalyGuard(
            self.root,
            self.policies,
            now=self.request.now,
            clock=self.request.clock,
            doubt=doubt,
            staged_bytes=plan.survey.staged_bytes,
            sweep=self.journal.sweep,
            let_go=brakes.let_go,
        )
        runs = plan.runs(plan.candidates, plan.need.pressure, plan.budget)
        if sights := brakes.guard.look_at_plan(runs):
            brakes.stop(sights, plan.asked_about(runs, brakes.let_go))

    def _cursor(self) -> tuple[datetime, int] | None:
        return outlook.cursor_of(self.before)
