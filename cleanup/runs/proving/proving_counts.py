"""How many runs of each disk are proven ahead, and how far the rest is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Max, Q

from cleanup.models import ProvingRun, RunQuerySet, Status
from cleanup.models.aggregates import bytes_sum
from cleanup.rules.policies.effective import effective_policy
from cleanup.rules.policies.policy import ProofLevel, Scope, ScopedPolicy
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


def without_need(runs: RunQuerySet, policies: Sequence[ScopedPolicy]) -> dict[int, int]:
    """How many of some runs may go and need no proof of their bytes, by root key.

    One query, and none where no policy is content with less than every byte.
    """
    if all(policy.proof in (None, ProofLevel.CHECKSUM) for policy in policies):
        return {}
    columns = ("root", "root__name", "equipment", "project", "run_kind")
    rows = runs.filter(tone=Status.GO).order_by().values_list(*columns).annotate(number=Count("pk"))
    found: dict[int, int] = {}
    for root, name, equipment, project, kind, number in rows:
        scope = Scope(root=name, equipment=equipment, project=project, run_kind=kind)
        if effective_policy(policies, scope).proof is not ProofLevel.CHECKSUM:
            found[root] = found.get(root, 0) + number
    return found
