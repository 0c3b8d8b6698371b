"""All rows of one run path, read at once."""

from dataclasses import dataclass

from cleanup.models import Run, StagingRoot
from cleanup.rules.states import State


@dataclass(frozen=True)
class AtPath:
    """All rows of a run path, by their keys."""

    rows: tuple[Run, ...]

    @property
    def staged(self) -> Run | None:
        """The staged run there: at most one."""
        return next((run for run in self.rows if run.gone_at is None and run.state != State.CLEARED), None)

    @property
    def cleared(self) -> list[Run]:
        """The runs that were cleared there, the latest first."""
        found = [run for run in self.rows if run.gone_at is None and run.state == State.CLEARED]
        return sorted(found, key=lambda run: (run.cleared_at is not None, run.cleared_at, run.pk), reverse=True)

    @property
    def last(self) -> Run | None:
        """The run that was last met there."""
        return self.rows[-1] if self.rows else None


def read(root: StagingRoot, run_path: str, *, lock: bool = False) -> AtPath:
    """The rows of a run path; `lock`: until the end of the transaction."""
    runs = Run.objects.filter(root=root, run_path=run_path).order_by("pk")
    if lock:
        runs = runs.select_for_update(of=("self",))
    return AtPath(tuple(runs.read_with_root()))


def is_busy(run: Run) -> bool:
    """Whether an attempt on the run is under way."""
    return run.has_more and run.active_attempt is not None
