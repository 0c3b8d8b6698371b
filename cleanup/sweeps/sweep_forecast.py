"""What one timed sweep to come does with the runs of a root."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from cleanup.models import Run


@dataclass
class SweepForecast:
    """The runs that a timed sweep clears (`going`), only notes (`rehearsed`) and leaves by a budget, each in its order.

    `stopped`: those of `going` that a breaker keeps, by its `sights` or as one that is open. `minutes`: after so many
    it ends, however many are left; None: no bound.
    """

    going: list[Run] = field(default_factory=list)
    rehearsed: list[Run] = field(default_factory=list)
    left_over: list[Run] = field(default_factory=list)
    stopped: list[Run] = field(default_factory=list)
    sights: list[str] = field(default_factory=list)
    minutes: float | None = None

    @property
    def wanted(self) -> list[Run]:
        return [*self.going, *self.rehearsed]

    @property
    def cleared(self) -> list[Run]:
        stopped = {run.pk for run in self.stopped}
        return [run for run in self.going if run.pk not in stopped]

    @property
    def cleared_bytes(self) -> int:
        return size_of(self.cleared)

    @property
    def stopped_bytes(self) -> int:
        return size_of(self.stopped)

    @property
    def rehearsed_bytes(self) -> int:
        return size_of(self.rehearsed)

    @property
    def left_over_bytes(self) -> int:
        return size_of(self.left_over)

    @property
    def wanted_bytes(self) -> int:
        return size_of(self.wanted)


def size_of(runs: Iterable[Run]) -> int:
    """Logical bytes; unknown sizes count nothing."""
    return sum(run.bytes or 0 for run in runs)
