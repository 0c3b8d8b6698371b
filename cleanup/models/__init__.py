"""What exists: staging roots, runs with their ingest history, policies, attempts, the ledger, sweeps, what is wrong."""

from cleanup.models.access import Access
from cleanup.models.base import AppendOnly, RunKind
from cleanup.models.clears import (
    ClearAttempt,
    ClearBatch,
    LedgerEntry,
    LedgerKind,
    LedgerQuerySet,
    Phase,
    Proof,
    Requester,
)
from cleanup.models.holds import Hold, HoldQuerySet, HoldSource
from cleanup.models.policies import RetentionPolicy, Surprise
from cleanup.models.roots import DiskUsage, Heartbeat, Instrument, NasBreaker, Project, StagingRoot
from cleanup.models.runs import IngestEvent, Run, RunQuerySet, Tone
from cleanup.models.sweeps import Outcome, Sweep, SweepBreaker, SweepKind, SweptRun
from cleanup.models.troubles import Alert, AlertKind, Orphan, OrphanKind

__all__ = [
    "Access",
    "Alert",
    "AlertKind",
    "AppendOnly",
    "ClearAttempt",
    "ClearBatch",
    "DiskUsage",
    "Heartbeat",
    "Hold",
    "HoldQuerySet",
    "HoldSource",
    "IngestEvent",
    "Instrument",
    "LedgerEntry",
    "LedgerKind",
    "LedgerQuerySet",
    "NasBreaker",
    "Orphan",
    "OrphanKind",
    "Outcome",
    "Phase",
    "Project",
    "Proof",
    "Requester",
    "RetentionPolicy",
    "Run",
    "RunKind",
    "RunQuerySet",
    "StagingRoot",
    "Surprise",
    "Sweep",
    "SweepBreaker",
    "SweepKind",
    "SweptRun",
    "Tone",
]
