"""Guard of the timed sweep, which no operator watches: it stops a plan or clears that are abnormal.

It counts what sweeps took within 24 hours without a go-on. It compares with the latest sound timed sweep: one that was
killed or stopped shows nothing.
"""

from collections.abc import Container, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from cleanup.models import RetentionPolicy, Run, StagingRoot, Sweep
from cleanup.rules.anomalies import RECENT_SWEEPS, Anomaly, Clock, PlannedSweep, abnormal
from cleanup.rules.due_date import due_at
from cleanup.rules.policies.effective import effective_policy, limits_of
from cleanup.rules.policies.fields import ROOT_FIELDS
from cleanup.rules.policies.policy import Mode, Policy, ScopedPolicy, Stage
from cleanup.rules.policies.versions import loosens
from cleanup.rules.pressure import Candidate
from cleanup.sweeps import breakers, record
from cleanup.sweeps.day import Foretold, Recently

# Without any sound sweep, a policy is new if it was younger than this at the first sweep.
_FRESH = timedelta(days=1)


class AnomalyGuard:
    """Looks at one timed sweep of a staging root, before it takes anything and before each run."""

    def __init__(
        self,
        root: StagingRoot,
        policies: list[ScopedPolicy],
        *,
        now: datetime,
        staged_bytes: int,
        clock: Clock | None = None,
        doubt: Anomaly | None = None,
        sweep: Sweep | None = None,
        let_go: Container[int] = (),
        foretold: Sequence[Foretold] = (),
    ) -> None:
        """`doubt`: what speaks against the clock; `foretold`: the sweeps before a sweep to come."""
        self._root, self._policies, self._now = root, policies, now
        self._doubt = [doubt] if doubt else []
        self._staged_bytes, self._let_go = staged_bytes, let_go
        self._recently = Recently(root, clock or Clock(wall=now), but=sweep, foretold=foretold)
        self._day = self._recently.look()
        self._limits = limits_of(policies, root.name)
        sizes = [one.size for one in reversed(foretold) if one.takes]
        self._recent = [*sizes, *record.recent_sizes(root)][:RECENT_SWEEPS]
        self._sound = record.last_sound(root)
        self._version_before = self._sound.policy_version if self._sound else self._version_at_first()
        if foretold:  # by then a sound sweep has seen these policies
            self._version_before = max((policy.version for policy in policies), default=0)
        self._old = RetentionPolicy.objects.scoped(as_of=self._version_before)
        self._unheard_of = self._new_and_looser()
        old_limits = limits_of(self._old, root.name)
        self._same_limits = all(getattr(old_limits, name) == getattr(self._limits, name) for name in ROOT_FIELDS)
        self.taken = PlannedSweep(runs=0, bytes=0, version=max((policy.version for policy in policies), default=0))

    def _new_and_looser(self) -> list[ScopedPolicy]:
        """Policies written since, never rehearsed, that may take more than their scope's version of then."""
        of_then = {policy.scope: policy for policy in self._old}
        return [
            policy
            for policy in self._policies
            if policy.version > self._version_before
            and policy.stage is Stage.OFF
            and loosens(of_then.get(policy.scope, ScopedPolicy(scope=policy.scope, version=0)), policy)
        ]

    def look_at_plan(self, plan: list[tuple[Run, Candidate]]) -> list[Anomaly]:
        planned = self.taken
        asked = [(run, candidate) for run, candidate in plan if candidate.key not in self._let_go]
        for run, candidate in asked:
            planned = self._with(planned, run, candidate)
        self.taken = replace(self.taken, of_runs=len(asked))
        return self._not_allowed([*self._doubt, *self._judge(planned)])

    def look_at_next(self, run: Run, candidate: Candidate) -> list[Anomaly]:
        """The runs taken so far and one more: refusals may have brought other runs than the plan."""
        if candidate.key in self._let_go:
            return []
        return self._not_allowed(self._judge(self._with(self.taken, run, candidate)))

    def took(self, run: Run, candidate: Candidate) -> None:
        if candidate.key not in self._let_go:
            self.taken = self._with(self.taken, run, candidate)

    def _judge(self, planned: PlannedSweep) -> list[Anomaly]:
        return abnormal(
            planned,
            recent=self._recent,
            staged_bytes=self._staged_bytes,
            max_share=self._limits.unasked.max_share,
            day=self._day,
        )

    def _not_allowed(self, sights: list[Anomaly]) -> list[Anomaly]:
        return breakers.not_allowed(self._root, sights, now=self._now) if sights else []

    def _version_at_first(self) -> int:
        first = record.first_timed(self._root)
        older = RetentionPolicy.objects.filter(created_at__lt=(first.now if first else self._now) - _FRESH)
        return older.order_by("-version").values_list("version", flat=True).first() or 0

    def _with(self, planned: PlannedSweep, run: Run, candidate: Candidate) -> PlannedSweep:
        passing = self._recently.is_passing(run.first_seen_at, run.verified_at)
        return replace(
            planned,
            runs=planned.runs + 1,
            bytes=planned.bytes + candidate.size,
            by_fresh_policy=planned.by_fresh_policy + self._is_fresh(run, candidate),
            passing_runs=planned.passing_runs + passing,
            passing_bytes=planned.passing_bytes + candidate.size * passing,
        )

    def _is_fresh(self, run: Run, candidate: Candidate) -> bool:
        """Whether a run goes only because of a new version that was never rehearsed."""
        scope = run.scope
        if not any(policy.scope.covers(scope) for policy in self._unheard_of):
            return False
        old = effective_policy(self._old, scope)
        if self._is_over(candidate, old):
            return False
        by_pressure = not candidate.due and self._same_limits and self._is_over(candidate, old.under_pressure())
        return not by_pressure

    def _is_over(self, candidate: Candidate, policy: Policy) -> bool:
        if policy.mode is not Mode.SCHEDULED:
            return False
        opened = due_at(candidate.kept_from or candidate.verified_at, policy)
        return opened is not None and opened <= self._now
