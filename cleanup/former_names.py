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
    "answering": ("sweeps.history",),
    "append_only": ("models.triggers",),
    "batching": ("clears.batches",),
    "bookkeeping": ("ledger.entries",),
    "breaking": ("sweeps.breakers",),
    "choosing": ("clears.preview",),
    "claiming": ("lab.root_lock",),
    "clearing": ("clears.protocol", "clears.settlement", "clears.refusal", "clears.decisions", "ledger.entries"),
    "discovery": ("runs.discovery",),
    "dryruns": ("sweeps.dry_runs",),
    "gathering": (
        "runs.inspection",
        "lab.opening",
        "storage.errors",
    ),
    "holding": ("runs.holds",),
    "judging": ("runs.run_status",),
    "marking": ("runs.gone",),
    "measuring": ("lab.disk_usage",),
    "minding": ("sweeps.anomaly_guard",),
    "orphans": ("runs.orphans",),
    "passing": ("sweeps.one_root", "clears.report"),
    "policy.announcing": ("rules.announcements",),
    "policy.approval": ("rules.approval",),
    "policy.at_once": ("rules.at_once",),
    "policy.breakers": ("rules.anomalies",),
    "policy.clocks": ("rules.clocks",),
    "policy.explaining": ("rules.explanations",),
    "policy.freed": ("rules.freed",),
    "policy.gates": ("rules.gates",),
    "policy.lifecycle": ("rules.states",),
    "policy.likeness": ("rules.likeness",),
    "policy.pressure": ("rules.pressure",),
    "policy.reasons": ("rules.reasons",),
    "policy.rehearsal": ("rules.rehearsal",),
    "policy.remedies": ("rules.remedies",),
    "policy.retention": ("rules.policy",),
    "policy.shown": ("rules.shown",),
    "policy.slowness": ("rules.slowness",),
    "policy.typed": ("rules.fields",),
    "policy.units": ("rules.quantities",),
    "policy.watching": ("rules.liveness",),
    "policy.wording": ("rules.sentences",),
    "previewing": ("sweeps.policy_preview",),
    "problems": ("monitoring.problems",),
    "progress": ("clears.progress",),
    "proving": ("runs.proofs",),
    "queueing": (
        "clears.queue",
        "lab.task_queues",
    ),
    "readiness": ("lab.readiness",),
    "recording": ("sweeps.record",),
    "recovery": ("clears.recovery",),
    "registering": ("lab.roots", "lab.root_checks", "lab.root_tokens"),
    "rehearsing": ("sweeps.rehearsal", "sweeps.rehearsed_runs"),
    "reregistering": ("runs.reregistration",),
    "schedules": ("lab.task_queues",),
    "staging.datadir": ("storage.datadir",),
    "staging.hashing": ("storage.hashing",),
    "staging.holdfile": ("storage.staging.hold_file",),
    "staging.ingest": ("storage.staging.ingest",),
    "staging.kernel": ("storage.linux",),
    "staging.layout": ("storage.run_paths", "storage.handles", "storage.tokens", "storage.errors"),
    "staging.manifest": ("storage.staging.manifest",),
    "staging.nas": ("storage.nas.client", "storage.nas.reader_process", "storage.nas.protocol", "storage.nas.server"),
    "staging.plan": ("storage.staging.plan",),
    "staging.tree": (
        "storage.staging.run_tree",
        "storage.staging.fences",
        "storage.staging.removal",
        "storage.staging.unexpected",
        "storage.reserve",
        "storage.tokens",
        "storage.markers",
        "storage.handles",
    ),
    "staging.twin": ("storage.nas.record",),
    "staging.writers": ("storage.staging.writers",),
    "sweeping": ("sweeps.all_roots", "clears.at_once", "clears.report", "clears.run_action"),
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
