"""All rows of one run path, read at once."""

from collections.abc import Iterable
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
    def written(self) -> Run | None:
        """The row that a look may write to: the staged run, else the latest cleared one."""
        return self.staged or next(iter(self.cleared), None)

    @property
    def last(self) -> Run | None:
        """The run that was last met there."""
        return self.rows[-1] if self.rows else None


NONE = AtPath(())


def read(root: StagingRoot, run_path: str) -> AtPath:
    """The rows of a run path."""
    return AtPath(tuple(Run.objects.filter(root=root, run_path=run_path).order_by("pk").read_with_root()))


def read_all(root: StagingRoot, run_paths: Iterable[str]) -> dict[str, AtPath]:
    """The rows of some hundred run paths, in one query."""
    rows: dict[str, list[Run]] = {path: [] for path in run_paths}
    for run in Run.objects.filter(root=root, run_path__in=rows).order_by("pk").read_with_root():
        rows[run.run_path].append(run)
    return {path: AtPath(tuple(found)) for path, found in rows.items()}


def lock(root: StagingRoot, run_path: str, seen: AtPath) -> AtPath:
    """The rows of a run path as they are once the one that may be written to is locked.

    `seen`: the rows as they were. One row alone is locked, because other transactions lock rows in another order. The
    rows are read by a later statement: in the statement that waits for the lock, PostgreSQL answers subqueries from
    before the wait.
    """
    locked: set[int] = set()
    while True:
        if seen.written is not None and seen.written.pk not in locked:
            locked.add(seen.written.pk)
            Run.objects.select_for_update(no_key=True).filter(pk=seen.written.pk).values_list("pk").first()
        seen = read(root, run_path)
        if seen.written is None or seen.written.pk in locked:
            return seen


def is_busy(run: Run) -> bool:
    """Whether an attempt on the run is under way."""
    return run.has_more and run.active_attempt is not None
