"""Alike problems together, as a page shows them."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from cleanup.models import HostClock, ProblemCase, StagingRoot
from cleanup.monitoring.problems.kinds import OpenProblem, ProblemKey, Urgency

# A list shows at most this many of each group; a group's page has them all.
SHOWN_OF_GROUP = 10


@dataclass(frozen=True, kw_only=True)
class ProblemGroup:
    """Alike problems: `problems` are some of them, `number` counts all. `case`: who has it, if that was ever noted."""

    key: ProblemKey
    number: int
    problems: list[OpenProblem] = field(default_factory=list)
    case: ProblemCase | None = None

    @property
    def urgency(self) -> Urgency:
        return self.key.urgency

    @property
    def first(self) -> OpenProblem | None:
        return self.problems[0] if self.problems else None

    @property
    def left_out(self) -> int:
        """How many are not shown. Of blocked runs one line stands for all."""
        return 0 if any(problem.runs for problem in self.problems) else max(self.number - len(self.problems), 0)

    @property
    def since(self) -> datetime | None:
        return min((problem.since for problem in self.problems if problem.since), default=None)

    def is_nobodys(self, now: datetime) -> bool:
        return self.case is None or self.case.is_nobodys(now)

    def is_put_off(self, now: datetime) -> bool:
        return self.case is not None and self.case.is_put_off(now)


@dataclass(frozen=True)
class Checked:
    roots: list[StagingRoot]
    watched_at: datetime | None
    clocks: list[HostClock]


def by_key(problems: Collection[OpenProblem]) -> dict[ProblemKey, list[OpenProblem]]:
    found: dict[ProblemKey, list[OpenProblem]] = {}
    for problem in problems:
        found.setdefault(problem.key, []).append(problem)
    return found
