"""What a policy is: its fields, the versions behind it, the limits of a root."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

DEFAULT_RETAIN_HOURS = 168.0
# Ten years; every date stays within datetime.
MAX_RETAIN_HOURS = 87_660.0
# Bytes and minutes have no default budget.
DEFAULT_BUDGET_RUNS = 500
MAX_BUDGET_MINUTES = 7 * 24 * 60.0
# Of a root's staged bytes; sweeps that would take more within a day stop and ask.
DEFAULT_MAX_SHARE = 0.5
# In one state before its verification.
DEFAULT_STALLED_AFTER_HOURS = 24.0
# Nights without a surprise before a promotion; 0: only by a person.
DEFAULT_REHEARSAL_NIGHTS = 3


class Mode(enum.StrEnum):
    """Who decides when a run goes: an operator's click, or time as well."""

    MANUAL = "manual"
    SCHEDULED = "scheduled"


class ProofLevel(enum.StrEnum):
    """What a clear needs of the NAS copy: the wizard's record, names and sizes, or every byte."""

    RECORD = "record"
    SIZE = "size"
    CHECKSUM = "checksum"

    @property
    def strength(self) -> int:
        return list(ProofLevel).index(self)


class Beyond(enum.StrEnum):
    """For attributes, access lists and empty folders that the NAS lacks: tell, or block."""

    TELL = "tell"
    BLOCK = "block"


class Stage(enum.StrEnum):
    """How far a policy version has come: rehearsed, let loose, or never rehearsed."""

    REHEARSING = "rehearsing"
    PROMOTED = "promoted"
    OFF = "off"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What applies to one run; `version`: the newest policy version looked at.

    `min_retain_hours`: kept at least, under pressure. `decided_by`: the version behind each field. `promoted`,
    `unrehearsed`, `rehearsing`: versions by stage; while some are rehearsed, the schedule takes runs by `meanwhile`.
    """

    mode: Mode = Mode.MANUAL
    retain_hours: float = DEFAULT_RETAIN_HOURS
    proof: ProofLevel = ProofLevel.CHECKSUM
    version: int = 0
    min_retain_hours: float = DEFAULT_RETAIN_HOURS
    stalled_after_hours: float = DEFAULT_STALLED_AFTER_HOURS
    only_here: Beyond = Beyond.TELL
    rehearsing: tuple[int, ...] = ()
    promoted: tuple[int, ...] = ()
    unrehearsed: tuple[int, ...] = ()
    meanwhile: "Policy | None" = None
    decided_by: "Mapping[str, ScopedPolicy]" = field(default_factory=dict, compare=False, repr=False)

    @property
    def unasked(self) -> "Policy":
        """The policy by which the schedule takes runs."""
        if self.rehearsing and self.meanwhile is None:
            return replace(self.in_earnest(), mode=Mode.MANUAL)
        return self.meanwhile or self

    def under_pressure(self) -> "Policy":
        """Kept for `min_retain_hours` only."""
        by = dict(self.decided_by)
        if self.min_retain_hours < self.retain_hours and "min_retain_hours" in by:
            by["retain_hours"] = by["min_retain_hours"]
        meanwhile = self.meanwhile and self.meanwhile.under_pressure()
        return replace(self, retain_hours=self.min_retain_hours, decided_by=by, meanwhile=meanwhile)

    def with_proof_of(self, other: "Policy") -> "Policy":
        others = {"proof": other.decided_by["proof"]} if "proof" in other.decided_by else {}
        by = {name: version for name, version in self.decided_by.items() if name != "proof"}
        return replace(self, proof=other.proof, decided_by={**by, **others})

    def in_earnest(self) -> "Policy":
        """As if nothing were rehearsed: for a person's own sweep."""
        return replace(self, rehearsing=(), meanwhile=None)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What applies to a staging root; None: no limit. Bytes are logical, `free_*` free space.

    Pressure begins above `max_*`, or below `free_start_bytes` until `free_stop_bytes` are free. Budgets bound one
    sweep. The rest as in `Policy`.
    """

    max_bytes: int | None = None
    max_runs: int | None = None
    free_start_bytes: int | None = None
    free_stop_bytes: int | None = None
    budget_runs: int | None = DEFAULT_BUDGET_RUNS
    budget_bytes: int | None = None
    budget_minutes: float | None = None
    max_share: float = DEFAULT_MAX_SHARE
    rehearsing: tuple[int, ...] = ()
    promoted: tuple[int, ...] = ()
    unrehearsed: tuple[int, ...] = ()
    meanwhile: "Limits | None" = None

    @property
    def unasked(self) -> "Limits":
        return self.meanwhile or self


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Where a policy applies; None means everywhere. `root`: a staging root's name."""

    root: str | None = None
    equipment: str | None = None
    project: str | None = None
    run_kind: str | None = None

    def covers(self, run: "Scope") -> bool:
        """`run`: a scope with every field set."""
        return (
            self.root in (None, run.root)
            and self.equipment in (None, run.equipment)
            and self.project in (None, run.project)
            and self.run_kind in (None, run.run_kind)
        )

    def meets(self, other: "Scope") -> bool:
        return all(None in (one, another) or one == another for one, another in self._beside(other))

    def contains(self, other: "Scope") -> bool:
        return all(one in (None, another) for one, another in self._beside(other))

    def _beside(self, other: "Scope") -> list[tuple[str | None, str | None]]:
        return [(getattr(self, name), getattr(other, name)) for name in ("root", "equipment", "project", "run_kind")]

    @property
    def rank(self) -> int:
        """Lab < root < equipment < project < run kind, and sums of these."""
        return (
            (self.root is not None)
            + 2 * (self.equipment is not None)
            + 4 * (self.project is not None)
            + 8 * (self.run_kind is not None)
        )


@dataclass(frozen=True, kw_only=True)
class Layers:
    """The versions that must all take a run while a scope's newest is not approved.

    `versions`: the last approved one and all since. `absent`: none is approved, wider scopes must take it too.
    `stopped`: the approval was taken back, nothing goes by this scope.
    """

    versions: "tuple[ScopedPolicy, ...]" = ()
    absent: bool = False
    stopped: bool = False

    @property
    def approved(self) -> bool:
        return len(self.versions) == 1 and not self.absent and not self.stopped


@dataclass(frozen=True, kw_only=True)
class ScopedPolicy:
    """The newest version of one scope; None leaves a field to wider scopes.

    `layers`: what its approval covers; `layers_on`: by root name, where different. Without them only a rehearsed
    version is unapproved. `surprised`: it was to take a run that was needed or unsafe.
    """

    scope: Scope
    version: int
    mode: Mode | None = None
    retain_hours: float | None = None
    proof: ProofLevel | None = None
    min_retain_hours: float | None = None
    stalled_after_hours: float | None = None
    only_here: Beyond | None = None
    max_bytes: int | None = None
    max_runs: int | None = None
    free_start_bytes: int | None = None
    free_stop_bytes: int | None = None
    budget_runs: int | None = None
    budget_bytes: int | None = None
    budget_minutes: float | None = None
    max_share: float | None = None
    stage: Stage = Stage.OFF
    surprised: bool = field(default=False, compare=False, repr=False)
    layers: Layers | None = field(default=None, compare=False, repr=False)
    layers_on: Mapping[str, Layers] = field(default_factory=dict, compare=False, repr=False)

    def approval_on(self, root: str | None) -> Layers:
        default = Layers(versions=(self,), stopped=self.stage is Stage.REHEARSING)
        return self.layers_on.get(root or "", self.layers or default)

    @property
    def approvals(self) -> tuple[Layers, ...]:
        return (self.approval_on(None), *self.layers_on.values())
