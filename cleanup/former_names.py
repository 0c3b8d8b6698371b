"""Former module names: scripts that import them go on, with a DeprecationWarning.

A former module has no code: it looks each name up where it stands now.
"""

import importlib
import importlib.machinery
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

# former module and name: its module and name now
RENAMED: dict[str, str] = {
    "alerting.Trouble": "lab.alerts.AlertState",
    "answering.Answer": "sweeps.history.SweepAnswer",
    "batching.Changed": "clears.batches.RunsChanged",
    "breaking.Answer": "sweeps.breakers.GoOnAnswer",
    "choosing.Asked": "clears.preview.RequestedRuns",
    "choosing.Group": "clears.preview.StayingGroup",
    "choosing.Preview": "clears.preview.ClearPreview",
    "gathering.identity": "runs.facts.identity.of",
    "gathering.same_identity": "runs.facts.identity.same",
    "gathering.stored_accepted": "runs.facts.stored_facts.accepted",
    "gathering.stored_allocated_bytes": "runs.facts.stored_facts.allocated_bytes",
    "gathering.stored_decision": "runs.facts.stored_facts.decision",
    "gathering.stored_facts": "runs.facts.stored_facts.facts_of",
    "gathering.stored_only_here": "runs.facts.stored_facts.only_here_of",
    "judging.Judgement": "runs.run_status.RunStatus",
    "minding.Minder": "sweeps.anomaly_guard.AnomalyGuard",
    "passing.Due": "sweeps.survey.DueRun",
    "passing.Pass": "sweeps.one_root.RootSweep",
    "passing.Problem": "clears.report.RootProblem",
    "passing.Swept": "clears.report.ClearReport",
    "passing.Wish": "sweeps.request.SweepRequest",
    "policy.announcing.Amount": "rules.announcements.AnnouncedAmount",
    "policy.breakers.Kind": "rules.anomalies.AnomalyKind",
    "policy.breakers.Planned": "rules.anomalies.PlannedSweep",
    "policy.breakers.Sight": "rules.anomalies.Anomaly",
    "policy.clocks.Asked": "rules.clocks.OtherClocks",
    "policy.clocks.Known": "rules.clocks.KnownClock",
    "policy.pressure.Budget": "rules.sweep_budget.SweepBudget",
    "policy.pressure.Fill": "rules.pressure.RootFill",
    "previewing.Preview": "sweeps.policy_preview.PolicyPreview",
    "problems.Group": "monitoring.problems.ProblemGroup",
    "problems.Kind": "monitoring.problems.ProblemKind",
    "problems.Problem": "monitoring.problems.OpenProblem",
    "rehearsing.Compared": "sweeps.rehearsed_runs.RehearsedRun",
    "reregistering.Action": "runs.moved_or_gone.reregistration.RegisterAction",
    "reregistering.Order": "runs.moved_or_gone.reregistration.RegisterOrder",
    "staging.kernel.Project": "storage.linux.QuotaProject",
    "staging.layout.Problem": "rules.facts.Finding",
    "staging.tree.fences": "storage.staging.fences.found_in",
    "staging.tree.unexpected_files": "storage.staging.unexpected.files",
    "staging.tree.unexpected_metadata": "storage.staging.unexpected.problems",
    "sweeping.Swept": "clears.report.ClearReport",
    "sweeping.clear": "clears.clear_now.clear",
    "taking.Asked": "clears.queue.ClearRequest",
    "walking.Sight": "storage.staging.walk.DiskEntry",
}
# former name: the modules that have its names now; none: a package of such modules
FORMER: dict[str, tuple[str, ...]] = {
    "access": ("lab.people.permissions",),
    "alerting": ("lab.alerts",),
    "answering": ("sweeps.history",),
    "append_only": ("models.triggers",),
    "batching": ("clears.batches",),
    "bookkeeping": ("ledger.entries",),
    "breaking": ("sweeps.breakers",),
    "choosing": ("clears.preview",),
    "claiming": ("lab.roots.root_lock",),
    "clearing": (
        "clears.protocol",
        "clears.settlement",
        "clears.refusal",
        "ledger.entries",
        "clears.preparation",
        "clears.decisions",
    ),
    "discovery": (
        "runs.discovery",
        "runs.orphans.stray_fences",
        "runs.rows",
    ),
    "dryruns": ("sweeps.dry_runs",),
    "gathering": (
        "runs.facts.inspection",
        "lab.roots.opening",
        "runs.facts.stored_facts",
        "runs.facts.findings",
        "runs.facts.identity",
        "runs.facts.shown_facts",
        "storage.errors",
    ),
    "holding": (
        "runs.holds.holds",
        "runs.holds.in_force",
        "runs.holds.reminders",
    ),
    "judging": ("runs.run_status",),
    "marking": ("runs.moved_or_gone.gone",),
    "measuring": ("lab.roots.disk_usage",),
    "minding": ("sweeps.anomaly_guard",),
    "orphans": (
        "runs.orphans.orphans",
        "runs.orphans.orphan_rows",
        "runs.orphans.orphan_inspection",
    ),
    "passing": (
        "sweeps.one_root",
        "sweeps.ending",
    ),
    "policy.announcing": ("rules.announcements",),
    "policy.approval": ("rules.policies.approval",),
    "policy.at_once": ("rules.policies.no_retention",),
    "policy.breakers": ("rules.anomalies",),
    "policy.clocks": (
        "rules.clocks",
        "rules.decisions",
    ),
    "policy.explaining": (
        "rules.policies.sentences",
        "rules.policies.fields",
    ),
    "policy.freed": ("rules.freed",),
    "policy.gates": (
        "rules.gates",
        "rules.facts",
        "rules.decisions",
    ),
    "policy.lifecycle": ("rules.states",),
    "policy.likeness": ("rules.likeness",),
    "policy.pressure": ("rules.pressure", "rules.sweep_budget"),
    "policy.reasons": ("rules.reasons",),
    "policy.rehearsal": ("rules.policies.rehearsal",),
    "policy.remedies": ("rules.remedies",),
    "policy.retention": (
        "rules.policies.policy",
        "rules.policies.fields",
        "rules.policies.effective",
        "rules.due_date",
        "rules.policies.versions",
    ),
    "policy.shown": ("rules.breaker_question",),
    "policy.slowness": ("rules.silent_twins",),
    "policy.typed": ("rules.policies.fields",),
    "policy.units": ("rules.quantities",),
    "policy.watching": ("rules.liveness",),
    "policy.wording": (
        "rules.policies.sentences",
        "rules.policies.fields",
    ),
    "previewing": (
        "sweeps.policy_preview",
        "lab.roots.disk_usage",
    ),
    "problems": tuple(f"monitoring.problems.{each}" for each in ("kinds", "seen", "counting", "group", "listing")),
    "progress": ("clears.progress",),
    "proving": ("runs.proofs.proofs",),
    "queueing": (
        "clears.queue",
        "lab.task_queues",
    ),
    "readiness": ("lab.readiness",),
    "recording": ("sweeps.record",),
    "recovery": ("clears.recovery",),
    "registering": (
        "lab.roots.registration",
        "lab.roots.root_tokens",
        "lab.roots.root_checks",
    ),
    "rehearsing": (
        "sweeps.rehearsal",
        "sweeps.rehearsed_runs",
        "models.policies",
    ),
    "reregistering": (
        "runs.moved_or_gone.reregistration",
        "runs.proofs.full_comparison",
    ),
    "schedules": ("lab.task_queues",),
    "staging.datadir": ("storage.data_directory.datadir",),
    "staging.hashing": ("storage.hashing",),
    "staging.holdfile": ("storage.staging.hold_file",),
    "staging.ingest": ("storage.staging.records.ingest_json",),
    "staging.kernel": (
        "storage.linux",
        "models.runs",
    ),
    "staging.layout": (
        "storage.run_paths",
        "storage.handles",
        "storage.root_files.tokens",
        "storage.errors",
    ),
    "staging.manifest": ("storage.staging.manifest",),
    "staging.nas": (
        "storage.nas.client",
        "storage.nas.protocol",
        "storage.nas.reader_process",
        "storage.nas.server",
        "lab.nas.nas_roots",
        "lab.nas.nas_breaker",
        "lab.nas.nas_transport",
    ),
    "staging.plan": ("storage.staging.plan",),
    "staging.tree": (
        "storage.staging.run_tree",
        "storage.staging.fences",
        "storage.root_files.reserve",
        "storage.staging.removal",
        "storage.root_files.markers",
        "storage.root_files.tokens",
        "storage.staging.unexpected",
    ),
    "staging.twin": ("storage.nas.record",),
    "staging.writers": ("storage.staging.writers",),
    "sweeping": ("sweeps.all_roots",),
    "taking": ("clears.run_action",),
    "telling": ("clears.nas_history",),
    "walking": ("storage.staging.walk",),
    "watching": ("monitoring.watchdog",),
    "policy": (),
    "staging": (),
}


class _FormerModule(ModuleType):
    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        former = self.__name__.removeprefix("cleanup.")
        if there := RENAMED.get(f"{former}.{name}"):
            place, _, new = there.rpartition(".")
            return getattr(importlib.import_module(f"cleanup.{place}"), new)
        if not name.startswith("__"):
            for now in FORMER[former]:
                module = importlib.import_module(f"cleanup.{now}")
                if hasattr(module, name):
                    return getattr(module, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class Loader:
    @staticmethod
    def create_module(spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _FormerModule(spec.name)

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        now = FORMER[module.__name__.removeprefix("cleanup.")]
        if now:
            places = " and ".join(f"cleanup.{name}" for name in now)
            warnings.warn(f"{module.__name__} stands in {places} now", DeprecationWarning, stacklevel=2)


class Finder:
    """`importlib` asks it last."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        former = name.removeprefix("cleanup.")
        if former == name or former not in FORMER:
            return None
        return importlib.machinery.ModuleSpec(name, Loader(), is_package=not FORMER[former])  # type: ignore[arg-type]
