"""What stops a sweep on its way: an open breaker, an abnormal sight, clears that fail one after the other."""

from collections.abc import Container, Iterable

from cleanup.clears.run_action import Action, RunAction
from cleanup.models import Sweep, SweepBreaker
from cleanup.rules.anomalies import Anomaly, AnomalyKind, too_many_failures
from cleanup.rules.breaker_question import Shown
from cleanup.rules.facts import Finding
from cleanup.rules.pressure import Candidate
from cleanup.rules.reasons import Reason
from cleanup.sweeps import breakers
from cleanup.sweeps.anomaly_guard import AnomalyGuard
from cleanup.sweeps.request import SweepRequest


def goes_on(key: int, seen: Iterable[Anomaly], let_go: Container[int]) -> bool:
    """Whether a run goes though its sweep has stopped: a go-on covers it, and the sights only count the others."""
    return key in let_go and all(sight.kind.counts for sight in seen)


class Brakes:
    """Whether a sweep still takes runs: `stopped` says why not. A go-on covers the runs in `let_go`."""

    def __init__(self, request: SweepRequest, sweep: Sweep, standing: SweepBreaker | None) -> None:
        self._request, self._sweep = request, sweep
        stops = standing is not None and breakers.stops(standing, request.kind_in_earnest)
        self.stopped = standing.finding if standing is not None and stops else None
        self.guard: AnomalyGuard | None = None
        self.let_go: dict[int, SweepBreaker] = {}
        self._seen: list[Anomaly] = []
        self._outcomes: list[bool] = []

    def stop(self, sights: list[Anomaly], shown: Shown) -> None:
        """Take nothing more if there are sights; a dry run only shows that it would stop here."""
        self._seen += sights
        if not sights:
            return
        if self._request.dry_run:
            self.stopped = Finding(Reason.BREAKER_OPEN, " ".join(sight.detail for sight in sights))
        else:
            opened = breakers.open_breaker(self._sweep, sights, now=self._request.now, shown=shown)
            self.stopped = opened.finding

    def watch_failures(self, taken: RunAction) -> None:
        """Stop when too many clears fail; a refusal is no failure."""
        if self._request.dry_run or taken.action not in (Action.CLEARED, Action.PARTIAL, Action.FAILED):
            return
        self._outcomes.append(taken.action is not Action.CLEARED)
        if sight := too_many_failures(self._outcomes):
            self.stop([sight], Shown())

    def stops(self, candidate: Candidate) -> bool:
        """Whether a candidate stays; a run of a go-on goes if only the number of the others has stopped the sweep."""
        if self.stopped is None:
            return False
        return self.guard is None or not goes_on(candidate.key, self._seen, self.let_go)

    def was_sound(self, hindrances: tuple[Finding, ...]) -> bool:
        """Whether the next timed sweep may be compared with this one; failed clears do not matter."""
        asked = self.guard is not None and not hindrances
        return asked and all(sight.kind is AnomalyKind.FAILURES for sight in self._seen)
