"""What exists: staging roots, runs with their ingest history, policies, attempts, the ledger, sweeps, what is wrong."""

from cleanup.models.base import AppendOnly, RunKind
from cleanup.models.clears import ClearAttempt, LedgerEntry, LedgerKind, LedgerQuerySet, Phase, Proof, Requester
from cleanup.models.holds import Hold, HoldQuerySet, HoldSource
from cleanup.models.policies import RetentionPolicy, Surprise
from cleanup.models.roots import Heartbeat, NasBreaker, StagingRoot
from cleanup.models.runs import IngestEvent, Run, RunQuerySet
from cleanup.models.sweeps import Outcome, Sweep, SweepBreaker, SweepKind, SweptRun
from cleanup.models.troubles import Alert, AlertKind, Orphan, OrphanKind

__all__ = [
    "Alert",
    "AlertKind",
    "AppendOnly",
    "ClearAttempt",
    "Heartbeat",
    "Hold",
    "HoldQuerySet",
    "HoldSource",
    "IngestEvent",
    "LedgerEntry",
    "LedgerKind",
    "LedgerQuerySet",
    "NasBreaker",
    "Orphan",
    "OrphanKind",
    "Outcome",
    "Phase",
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
]
