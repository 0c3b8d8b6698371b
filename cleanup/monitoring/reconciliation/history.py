"""Ledger, attempts and histories of one host against one another: rows alone."""

from typing import Any

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet

from cleanup.models import ClearAttempt, IngestEvent, LedgerEntry, LedgerKind, Phase, Run
from cleanup.models.aggregates import bytes_sum
from cleanup.monitoring.reconciliation.findings import Mismatch, Mismatches, MismatchKind
from cleanup.rules.states import State

_FREEING = Q(ledger__kind__in=[LedgerKind.COMPLETED, LedgerKind.PARTIAL])
# Columns of an attempt, and those of the ledger's rows that must add up to them.
_COUNTS = (("freed_files", "files"), ("freed_bytes", "bytes"), ("freed_allocated_bytes", "allocated_bytes"))
# Rows that let a run go, or tell later that it went.
_LETTING_GO = (LedgerKind.AUTHORISED, LedgerKind.RECOVERED)


def look(host: str, into: Mismatches) -> None:
    """Compare the rows of the runs of one host. Reads only."""
    _ends(host, into)
    _runs(host, into)


def _ends(host: str, into: Mismatches) -> None:
    done = ClearAttempt.objects.clears().filter(host=host, phase=Phase.DONE).order_by()
    # Named columns only: the rows are wide, and are grouped by all that is named.
    named: Any = done.values("pk", "run_id", "run__run_path", "run__root__name", *(ours for ours, _ in _COUNTS))
    sums = {f"told_{column}": bytes_sum(f"ledger__{column}", filter=_FREEING, default=0) for _, column in _COUNTS}
    told = named.annotate(ends=Count("ledger", filter=_FREEING), **sums)
    for row in told.filter(ends=0).iterator():
        into.add(_of(row, MismatchKind.END_MISSING, f"the attempt {row['pk'].hex}"))
    same = {f"told_{column}": F(ours) for ours, column in _COUNTS}
    for row in told.filter(ends__gt=0).exclude(**same).iterator():
        freed = f"{row['freed_files']:,} files and {row['freed_bytes']:,} bytes"
        said = f"{row['told_files']:,} files and {row['told_bytes']:,} bytes"
        into.add(_of(row, MismatchKind.LEDGER_DIFFERS, f"the clear freed {freed}, the ledger says {said}"))


def _of(row: dict[str, Any], kind: MismatchKind, detail: str) -> Mismatch:
    return Mismatch(kind, row["run__root__name"], row["run__run_path"], row["run_id"], detail)


def _runs(host: str, into: Mismatches) -> None:
    runs = Run.objects.filter(root__host=host).order_by("pk")
    let_go = Exists(LedgerEntry.objects.filter(run=OuterRef("pk"), kind__in=_LETTING_GO))
    ends_so = Exists(IngestEvent.objects.filter(run=OuterRef("pk"), state=State.CLEARED))
    # What another program cleared has no row of ours, and may have no history.
    ours = runs.filter(state=State.CLEARED, cleared_by="")
    others = runs.exclude(state=State.CLEARED)
    _tell(ours.filter(~let_go), MismatchKind.LEDGER_MISSING, into)
    _tell(ours.filter(~ends_so), MismatchKind.HISTORY_MISSING, into, "its history has no clear")
    _tell(others.filter(let_go), MismatchKind.HISTORY_MISSING, into, "its state is not cleared")
    _tell(others.filter(ends_so), MismatchKind.HISTORY_ALONE, into)


def _tell(found: QuerySet[Run], kind: MismatchKind, into: Mismatches, detail: str = "") -> None:
    rows = found.values_list("pk", "root__name", "run_path")
    for key, root, path in rows.iterator():
        into.add(Mismatch(kind, root, path, key, detail))
