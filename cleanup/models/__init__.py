"""The tables: roots, runs, policies, attempts, ledger, sweeps, alerts."""

from cleanup.models.access import Access
from cleanup.models.accounts import AccountEvent, AccountNote, FirstAdminToken
from cleanup.models.alerts import Alert, AlertKind
from cleanup.models.anchors import AnchorPlace, LedgerAnchor
from cleanup.models.announcements import Announcement, Forecast, MonthlyMail
from cleanup.models.base import AppendOnly, RunKind
from cleanup.models.chain import LedgerHead, LedgerLink
from cleanup.models.changes import NotedChange
from cleanup.models.checks_here import AcceptedBytes, ByteCheck
from cleanup.models.clears import (
    AttemptKind,
    ClearAttempt,
    ClearBatch,
    Phase,
    Proof,
    Requester,
)
from cleanup.models.day_sums import DaySum, Dimension
from cleanup.models.differences import Difference
from cleanup.models.first_nights import RootEvent, RootNote
from cleanup.models.holds import Hold, HoldQuerySet, HoldSource
from cleanup.models.hosts import Heartbeat, HostClock, NasBreaker
from cleanup.models.ledger import LedgerEntry, LedgerKind, LedgerQuerySet
from cleanup.models.likeness import Likeness, LikenessQuerySet
from cleanup.models.orphans import Orphan, OrphanKind
from cleanup.models.people import AccountName, Person, RunPerson, fold_name
from cleanup.models.policies import RetentionPolicy, Surprise
from cleanup.models.problem_cases import CaseDeed, CaseNote, ProblemCase
from cleanup.models.proving import ProvingLease, ProvingRun
from cleanup.models.receipts import Receipt
from cleanup.models.reconciliation import Reconciliation
from cleanup.models.root_requests import RootRequest, RootRequestKind, RootRequestPhase
from cleanup.models.roots import DiskForecast, DiskUsage, Instrument, Project, StagingRoot, StagingRootQuerySet
from cleanup.models.run_annotations import count_of_events, may_differ
from cleanup.models.run_reminders import RunReminder
from cleanup.models.runs import IngestEvent, RecordSight, Run, RunQuerySet, Status
from cleanup.models.search_words import RunWord
from cleanup.models.selections import KeptSelection
from cleanup.models.set_aside import AsideState, SetAside
from cleanup.models.sweeps import Outcome, Sweep, SweepBreaker, SweepKind, SweptRun, Tally
from cleanup.models.waiting_runs import WaitingRun

__all__ = [
    "AcceptedBytes",
    "Access",
    "AccountEvent",
    "AccountName",
    "AccountNote",
    "Alert",
    "AlertKind",
    "AnchorPlace",
    "Announcement",
    "AppendOnly",
    "AsideState",
    "AttemptKind",
    "ByteCheck",
    "CaseDeed",
    "CaseNote",
    "ClearAttempt",
    "ClearBatch",
    "DaySum",
    "Difference",
    "Dimension",
    "DiskForecast",
    "DiskUsage",
    "FirstAdminToken",
    "Forecast",
    "Heartbeat",
    "Hold",
    "HoldQuerySet",
    "HoldSource",
    "HostClock",
    "IngestEvent",
    "Instrument",
    "KeptSelection",
    "LedgerAnchor",
    "LedgerEntry",
    "LedgerHead",
    "LedgerKind",
    "LedgerLink",
    "LedgerQuerySet",
    "Likeness",
    "LikenessQuerySet",
    "MonthlyMail",
    "NasBreaker",
    "NotedChange",
    "Orphan",
    "OrphanKind",
    "Outcome",
    "Person",
    "Phase",
    "ProblemCase",
    "Project",
    "Proof",
    "ProvingLease",
    "ProvingRun",
    "Receipt",
    "Reconciliation",
    "RecordSight",
    "Requester",
    "RetentionPolicy",
    "RootEvent",
    "RootNote",
    "RootRequest",
    "RootRequestKind",
    "RootRequestPhase",
    "Run",
    "RunKind",
    "RunPerson",
    "RunQuerySet",
    "RunReminder",
    "RunWord",
    "SetAside",
    "StagingRoot",
    "StagingRootQuerySet",
    "Status",
    "Surprise",
    "Sweep",
    "SweepBreaker",
    "SweepKind",
    "SweptRun",
    "Tally",
    "WaitingRun",
    "count_of_events",
    "fold_name",
    "may_differ",
]
