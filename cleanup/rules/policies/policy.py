"""What a policy is: fields, versions, and the limits of a root."""

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
    """What a clear needs: the wizard's record, names and sizes, or every byte."""

    RECORD = "record"
    SIZE = "size"
    CHECKSUM = "checksum"

    @property
    def strength(self) -> int:
        return list(ProofLevel).index(self)


class Beyond(enum.StrEnum):
    """For attributes, access lists and empty folders that the NAS lacks."""

    TELL = "tell"
    BLOCK = "block"


class Stage(enum.StrEnum):
    """How far a policy version has come: rehearsed, promoted, or never rehearsed."""

    REHEARSING = "rehearsing"
    PROMOTED = "promoted"
    OFF = "off"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What applies to one run."""

    mode: Mode = Mode.MANUAL
    retain_hours: float = DEFAULT_RETAIN_HOURS
    proof: ProofLevel = ProofLevel.CHECKSUM
    version: int = 0  # the newest that was looked at
    min_retain_hours: float = DEFAULT_RETAIN_HOURS  # kept at least, under pressure
    stalled_after_hours: float = DEFAULT_STALLED_AFTER_HOURS
    only_here: Beyond = Beyond.TELL
    rehearsing: tuple[int, ...] = ()  # versions that are rehearsed: then the schedule takes runs by `meanwhile`
    promoted: tuple[int, ...] = ()  # versions that were rehearsed
    unrehearsed: tuple[int, ...] = ()  # versions that never were
    meanwhile: "Policy | None" = None
    # The version behind each field.
    decided_by: "Mapping[str, ScopedPolicy]" = field(default_factory=dict, compare=False, repr=False)

    @property
    def unasked(self) -> "Policy":
        """The schedule takes runs by this one."""
        if self.rehearsing and self.meanwhile is None:
            return replace(self.in_earnest(), mode=Mode.MANUAL)
        return self.meanwhile or self

    def under_pressure(self) -> "Policy":
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
        """As if nothing were rehearsed: a person's sweep acts by it."""
        return replace(self, rehearsing=(), meanwhile=None)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What applies to a staging root; None: no limit. Bytes are logical."""

    max_bytes: int | None = None
    max_runs: int | None = None
    free_start_bytes: int | None = None  # free space: pressure begins below, and ends at `free_stop_bytes`
    free_stop_bytes: int | None = None
    budget_runs: int | None = DEFAULT_BUDGET_RUNS  # budgets bound one sweep
    budget_bytes: int | None = None
    budget_minutes: float | None = None
    max_share: float = DEFAULT_MAX_SHARE
    rehearsing: tuple[int, ...] = ()  # as in Policy, for the versions that set pressure
    promoted: tuple[int, ...] = ()
    unrehearsed: tuple[int, ...] = ()
    meanwhile: "Limits | None" = None

    @property
    def unasked(self) -> "Limits":
        return self.meanwhile or self


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Where a policy applies; None: everywhere. `root` is a name."""

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
    """The versions that must all take a run while the newest is not approved."""

    versions: "tuple[ScopedPolicy, ...]" = ()  # the last approved one and all since
    absent: bool = False  # none is approved: wider scopes must take it too
    stopped: bool = False  # the approval was taken back: nothing goes by this scope

    @property
    def approved(self) -> bool:
        return len(self.versions) == 1 and not self.absent and not self.stopped


@dataclass(frozen=True, kw_only=True)
class ScopedPolicy:
    """The newest version of one scope; None leaves a field to wider scopes."""

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
    surprised: bool = field(default=False, compare=False, repr=False)  # a run that it was to take was needed or unsafe
    # What its approval covers; None: nothing of a rehearsed version, all of any other.
    layers: Layers | None = field(default=None, compare=False, repr=False)
    # By root name, where that differs.
    layers_on: Mapping[str, Layers] = field(default_factory=dict, compare=False, repr=False)

    def approval_on(self, root: str | None) -> Layers:
        default = Layers(versions=(self,), stopped=self.stage is Stage.REHEARSING)
        return self.layers_on.get(root or "", self.layers or default)

    @property
    def approvals(self) -> tuple[Layers, ...]:
        return (self.approval_on(None), *self.layers_on.values())
