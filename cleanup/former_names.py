"""Module names from before the rooms: a lab's own scripts that import them go on, with a DeprecationWarning.

A former module is made when it is asked for. It has no code: each of its names is looked up where it stands now.
"""

import importlib
import importlib.machinery
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

# former name: the modules in which its names stand now; none: a package of such modules
FORMER: dict[str, tuple[str, ...]] = {
    "access": ("lab.permissions",),
    "alerting": ("lab.alerts",),
    "answering": (
        "sweeps.history",
        "storage.nas.server",
    ),
    "append_only": ("models.triggers",),
    "batching": (
        "clears.batches",
        "storage.nas.challenge",
    ),
    "bookkeeping": ("ledger.entries",),
    "breaking": (
        "sweeps.breakers",
        "storage.nas.server",
    ),
    "choosing": ("clears.preview",),
    "claiming": ("lab.root_lock",),
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
        "runs.stray_fences",
        "runs.rows",
    ),
    "dryruns": ("sweeps.dry_runs",),
    "gathering": (
        "runs.inspection",
        "lab.opening",
        "runs.stored_facts",
        "runs.findings",
        "runs.identity",
        "runs.shown_facts",
        "storage.errors",
    ),
    "holding": ("runs.holds",),
    "judging": ("runs.run_status",),
    "marking": ("runs.gone",),
    "measuring": ("lab.disk_usage",),
    "minding": ("sweeps.anomaly_guard",),
    "orphans": (
        "runs.orphans",
        "runs.orphan_rows",
        "runs.orphan_inspection",
    ),
    "passing": (
        "sweeps.one_root",
        "sweeps.ending",
    ),
    "policy.announcing": ("rules.announcements",),
    "policy.approval": ("rules.approval",),
    "policy.at_once": ("rules.at_once",),
    "policy.breakers": (
        "rules.anomalies",
        "demo",
        "storage.mount_kinds",
    ),
    "policy.clocks": (
        "rules.clocks",
        "rules.decisions",
    ),
    "policy.explaining": (
        "rules.sentences",
        "rules.fields",
    ),
    "policy.freed": ("rules.freed",),
    "policy.gates": (
        "rules.gates",
        "rules.facts",
        "rules.decisions",
    ),
    "policy.lifecycle": ("rules.states",),
    "policy.likeness": ("rules.likeness",),
    "policy.pressure": (
        "rules.pressure",
        "storage.freed_space",
        "storage.passed_over",
    ),
    "policy.reasons": ("rules.reasons",),
    "policy.rehearsal": ("rules.rehearsal",),
    "policy.remedies": ("rules.remedies",),
    "policy.retention": (
        "rules.policy",
        "rules.fields",
        "rules.effective",
        "rules.eligibility",
        "rules.versions",
    ),
    "policy.shown": ("rules.shown",),
    "policy.slowness": ("rules.slowness",),
    "policy.typed": ("rules.fields",),
    "policy.units": ("rules.quantities",),
    "policy.watching": ("rules.liveness",),
    "policy.wording": (
        "rules.sentences",
        "rules.fields",
    ),
    "previewing": (
        "sweeps.policy_preview",
        "lab.disk_usage",
    ),
    "problems": (
        "monitoring.problems",
        "storage.mount_kinds",
    ),
    "progress": ("clears.progress",),
    "proving": ("runs.proofs",),
    "queueing": (
        "clears.queue",
        "lab.task_queues",
    ),
    "readiness": ("lab.readiness",),
    "recording": ("sweeps.record",),
    "recovery": ("clears.recovery",),
    "registering": (
        "lab.roots",
        "lab.root_tokens",
        "lab.root_checks",
    ),
    "rehearsing": (
        "sweeps.rehearsal",
        "sweeps.rehearsed_runs",
        "models.policies",
        "runs.proofs",
    ),
    "reregistering": (
        "runs.reregistration",
        "runs.comparing",
        "clears.run_action",
    ),
    "schedules": ("lab.task_queues",),
    "staging.datadir": ("storage.datadir",),
    "staging.hashing": ("storage.hashing",),
    "staging.holdfile": ("storage.staging.hold_file",),
    "staging.ingest": ("storage.staging.ingest",),
    "staging.kernel": (
        "storage.linux",
        "models.runs",
    ),
    "staging.layout": (
        "storage.run_paths",
        "storage.handles",
        "storage.tokens",
        "storage.errors",
    ),
    "staging.manifest": ("storage.staging.manifest",),
    "staging.nas": (
        "storage.nas.client",
        "storage.nas.protocol",
        "storage.nas.reader_process",
        "storage.nas.server",
    ),
    "staging.plan": ("storage.staging.plan",),
    "staging.tree": (
        "storage.staging.run_tree",
        "storage.staging.fences",
        "storage.reserve",
        "storage.staging.removal",
        "storage.markers",
        "storage.tokens",
        "storage.staging.unexpected",
    ),
    "staging.twin": ("storage.nas.record",),
    "staging.writers": ("storage.staging.writers",),
    "sweeping": (
        "sweeps.all_roots",
        "tasks",
    ),
    "taking": ("clears.run_action",),
    "telling": ("clears.nas_history",),
    "walking": ("storage.staging.walk",),
    "watching": ("monitoring.watchdog",),
    "policy": (),
    "staging": (),
}


class _FormerModule(ModuleType):
    """Looks its names up where they stand now."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if not name.startswith("__"):
            for now in FORMER[self.__name__.removeprefix("cleanup.")]:
                module = importlib.import_module(f"cleanup.{now}")
                if hasattr(module, name):
                    return getattr(module, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class Loader:
    """Makes a former module; `importlib` calls it."""

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
    """The last of the finders: asked only for modules that are nowhere else."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        former = name.removeprefix("cleanup.")
        if former == name or former not in FORMER:
            return None
        return importlib.machinery.ModuleSpec(name, Loader(), is_package=not FORMER[former])  # type: ignore[arg-type]
