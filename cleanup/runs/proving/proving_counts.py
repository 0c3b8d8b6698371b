"""How many runs of each disk are proven ahead, and how far the rest is."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Max, Q

from cleanup.models import ProvingRun, Status
from cleanup.models.aggregates import bytes_sum
from cleanup.runs.proofs.proofs import PROOF_MAX_AGE

Phase = ProvingRun.Phase


@dataclass(frozen=True, kw_only=True)
class DiskProofs:
    """The runs of one staging root that may go: proven within a day, and being read. `waits`: why others are not."""

    proven: int = 0
    reading: int = 0
    read_bytes: int = 0
    planned_bytes: int = 0
    waits: str = ""


def rows_of(runs: Iterable[int]) -> dict[int, ProvingRun]:
    """The rows of runs, by their keys; one query."""
    return ProvingRun.objects.in_bulk(list(runs))


def by_root(seen: Q, now: datetime) -> dict[int, DiskProofs]:
    """What stands ahead on each staging root, by its key; one query. `seen`: the rows that count."""
    reading = Q(phase=Phase.READING)
    proven = Q(phase=Phase.PROVEN, proven_at__gt=now - PROOF_MAX_AGE)
    waiting = Q(phase=Phase.WAITING)
    rows = (
        ProvingRun.objects.filter(seen, proven | reading | waiting, run__here=True, run__tone=Status.GO)
        .order_by()
        .values("run__root")
        .annotate(
            proven=Count("pk", filter=proven),
            reading=Count("pk", filter=reading),
            read=bytes_sum("read_bytes", filter=reading, default=0),
            planned=bytes_sum("planned_bytes", filter=reading, default=0),
            waits=Max("reason", filter=waiting),
        )
    )
    return {
        row["run__root"]: DiskProofs(
            proven=row["proven"],
            reading=row["reading"],
            read_bytes=int(row["read"]),
            planned_bytes=int(row["planned"]),
            waits=row["waits"] or "",
        )
        for row in rows
    }
