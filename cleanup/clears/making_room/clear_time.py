"""How long a clear of some runs will take, by the past clears on their disks."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from cleanup.clears.preview import ClearPreview, Fate, Item, whole_proofs
from cleanup.models import LedgerEntry, RetentionPolicy, Run
from cleanup.rules.clear_pace import ClearPace, ClearWork, PastClear, pace_of
from cleanup.rules.policies.effective import effective_policy
from cleanup.rules.policies.policy import ProofLevel, Scope

# The latest clears of all staging roots that are looked at; older ones say little of a disk.
LOOKED_AT = 500


def paces() -> dict[str, ClearPace]:
    """The pace of each staging root by its name, by the ledger; one query."""
    latest = LedgerEntry.objects.freeing().exclude(attempt=None).order_by("-at", "-id")
    rows = latest.values_list(
        *("at", "host", "root_name", "bytes"),
        *("attempt__created_at", "attempt__progress_at", "attempt__compared_bytes"),
    )[:LOOKED_AT]
    # The row has the instant at which the removal began, the attempt that of its last file.
    ends = [(max(at, progress or at), *rest, compared) for at, *rest, progress, compared in rows]
    past: defaultdict[str, list[PastClear]] = defaultdict(list)
    free_since: dict[str, datetime] = {}
    for ended, host, name, size, asked, compared in sorted(ends):
        # A run that waited in the queue began when the one before it had ended.
        began = min(max(asked, free_since.get(host, asked)), ended)
        free_since[host] = ended
        past[name].append(PastClear(seconds=(ended - began).total_seconds(), bytes=size, compared=compared > 0))
    return {name: pace_of(clears) for name, clears in past.items()}


def time_of_preview(shown: ClearPreview, known: Mapping[str, ClearPace]) -> timedelta | None:
    """How long the runs that go will take; None if not known yet. Hosts work side by side."""
    works: defaultdict[tuple[str, str], ClearWork] = defaultdict(ClearWork)
    for item in shown.going:
        works[item.run.root.host, item.run.root.name] += _work(item.run, compared=_is_compared(item))
    by_host: defaultdict[str, float] = defaultdict(float)
    for (host, name), work in works.items():
        seconds = known.get(name, ClearPace()).seconds_for(work)
        if seconds is None:
            return None
        by_host[host] += seconds
    return timedelta(seconds=max(by_host.values(), default=0.0))


def time_of_runs(runs: Iterable[Run], pace: ClearPace, now: datetime) -> timedelta | None:
    """As `time_of_preview`, for safe runs of one staging root, by policies and proofs."""
    runs = list(runs)
    proven = whole_proofs([run.pk for run in runs], now) if runs else {}
    policies = RetentionPolicy.objects.scoped() if runs else []
    levels: dict[Scope, ProofLevel] = {}
    work = ClearWork()
    for run in runs:
        if (scope := run.scope) not in levels:
            levels[scope] = effective_policy(policies, scope).proof
        by_record = levels[scope] is not ProofLevel.CHECKSUM and run.returned_at is None
        work += _work(run, compared=not by_record and run.pk not in proven)
    seconds = pace.seconds_for(work)
    return None if seconds is None else timedelta(seconds=seconds)


def _is_compared(item: Item) -> bool:
    if item.fate is Fate.FULL or item.accepted is not None:
        return True
    return item.policy.proof is ProofLevel.CHECKSUM and item.proof is None


def _work(run: Run, *, compared: bool) -> ClearWork:
    size = run.bytes or 0
    if compared:
        return ClearWork(compared_runs=1, compared_bytes=size)
    return ClearWork(ready_runs=1, ready_bytes=size)
