"""Selected runs as a table, for a file."""

from collections.abc import Iterable

from cleanup.ledger.tables import Column, Kind, Table
from cleanup.models import Run, Status

# Columns keep their names and meaning; new ones come at the end (docs/exports.md).
COLUMNS = (
    Column("root", "Staging root"),
    Column("run_path", "Run path"),
    Column("equipment", "Instrument"),
    Column("project", "Project"),
    Column("project_name", "Title"),
    Column("run_kind", "Kind"),
    Column("people", "People in its record"),
    Column("state", "State"),
    Column("status", "How it stands"),
    Column("reason", "Why"),
    Column("files", "Files", Kind.COUNT),
    Column("logical_bytes", "Logical bytes", Kind.BYTES),
    Column("allocated_bytes", "Allocated bytes", Kind.BYTES),
    Column("verified_at", "Verified", Kind.INSTANT),
    Column("looked_at", "Looked at", Kind.INSTANT),
    Column("opens_at", "May go from", Kind.INSTANT),
)


def table(runs: Iterable[Run]) -> Table:
    """The runs in their order; each has its root."""
    return Table("selected-runs", "Selected runs", COLUMNS, (_row(run) for run in runs))


def _row(run: Run) -> tuple[object, ...]:
    return (
        run.root.name,
        run.run_path,
        run.equipment,
        run.project,
        run.project_name,
        run.run_kind,
        "; ".join(run.people or ()),
        run.state,
        Status(run.tone).code,
        run.reason,
        run.files,
        run.bytes,
        run.allocated_bytes,
        run.verified_at,
        run.looked_at,
        run.opens_at,
    )
