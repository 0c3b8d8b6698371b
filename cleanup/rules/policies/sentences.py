"""Policies in sentences."""

from dataclasses import dataclass
from typing import Any

from cleanup.rules.policies.fields import FIELD, LABELS, NAMES, FieldKind
from cleanup.rules.policies.policy import Beyond, Mode, Policy, ProofLevel, Scope, ScopedPolicy, Stage
from cleanup.rules.policies.rehearsal import nights_wanted
from cleanup.rules.quantities import AT_ONCE, say_bytes, say_count, say_hours, say_kept

KEPT = ("retain_hours", "min_retain_hours")
ONLY_HERE = {Beyond.TELL: "told before a clear", Beyond.BLOCK: "blocks a clear"}
PROVEN = {
    ProofLevel.RECORD: "on the wizard's word alone",
    ProofLevel.SIZE: "proven by names and sizes",
    ProofLevel.CHECKSUM: "proven by checksum",
}
STAGES = {
    Stage.REHEARSING: "rehearsed first",
    Stage.PROMOTED: "over, it is in force",
    Stage.OFF: "never",
}


def name_scope(scope: Scope) -> str:
    """`the whole lab`, `FLOW_01, test runs`, `PROJ-0042 on CONFOCAL_01, staging root lab`."""
    where = scope.equipment or ""
    if scope.project:
        where = f"{scope.project} on {where}" if where else scope.project
    kind = f"{scope.run_kind} runs" if scope.run_kind else ""
    root = f"staging root {scope.root}" if scope.root else ""
    return ", ".join(part for part in (where, kind, root) if part) or "the whole lab"


def describe(version: ScopedPolicy, policy: Policy, *, nights: int | None) -> str:
    """A version as a sentence; instrument names stand in it unescaped.

    `policy`: with the wider scopes; `nights`: its own.
    """
    return f"{name_scope(version.scope)}: {'; '.join([_taking(version, policy, nights), *_bounds(version)])}"


def describe_stage(version: ScopedPolicy, *, nights: int | None) -> str:
    """How far a version's rehearsal has come, in words."""
    if version.stage is Stage.PROMOTED:
        return "in force"
    if version.stage is Stage.OFF:
        return "in force, never rehearsed"
    wanted = nights_wanted(nights)
    return f"rehearsed first for {_nights(wanted)}" if wanted else "rehearsed until a person promotes it"


def say_field(name: str, value: Any) -> str:  # noqa: ANN401
    """A field's value in words."""
    return AT_ONCE if name in KEPT and value == 0 else say_typed(name, value)


def say_typed(name: str, value: Any) -> str:  # noqa: ANN401
    """A field's value in words that can be typed again."""
    if value is None:
        return "unset"
    kind = FIELD[name].kind if name in FIELD else None
    if kind is FieldKind.HOURS:
        return say_hours(value)
    if kind is FieldKind.BYTES:
        return say_bytes(value)
    if kind is FieldKind.MINUTES:
        return say_hours(value / 60)
    if kind is FieldKind.SHARE:
        return f"{value * 100:g} %"
    return str(value)


def _taking(version: ScopedPolicy, policy: Policy, nights: int | None) -> str:
    proven = f"proven by {policy.proof}"
    if policy.mode is not Mode.SCHEDULED:
        return f"manual, cleared by an operator alone, {proven}"
    kept = f"{_kept(policy)} after verification" if policy.retain_hours else _kept(policy)
    if policy.min_retain_hours < policy.retain_hours:
        floor = say_kept(policy.min_retain_hours)
        kept += f" ({floor}{'' if policy.min_retain_hours else ','} where the disk is too full)"
    return f"scheduled, {kept}, {proven}; {_rehearsed(version, policy, nights)}"


def _kept(policy: Policy) -> str:
    return f"kept {say_hours(policy.retain_hours)}" if policy.retain_hours else f"cleared {AT_ONCE}"


def _rehearsed(version: ScopedPolicy, policy: Policy, nights: int | None) -> str:
    others = [number for number in policy.rehearsing if number != version.version]
    if version.stage is Stage.REHEARSING or not others:
        meanwhile = policy.meanwhile if version.version in policy.rehearsing else None
        goes = meanwhile is not None and meanwhile.mode is Mode.SCHEDULED
        kept = f", until then {_kept(meanwhile)}" if meanwhile and goes else ""
        return describe_stage(version, nights=nights) + kept
    return f"still rehearsed with version {', '.join(map(str, others))}"


def _bounds(version: ScopedPolicy) -> list[str]:
    bounds = []
    if version.max_bytes is not None:
        bounds.append(f"too full above {say_bytes(version.max_bytes)}")
    if version.max_runs is not None:
        bounds.append(f"too full above {say_count(version.max_runs, 'run')}")
    if version.free_start_bytes is not None and version.free_stop_bytes is not None:
        start, stop = say_bytes(version.free_start_bytes), say_bytes(version.free_stop_bytes)
        bounds.append(f"too full below {start} free, until {stop} are free")
    budget = [
        say_count(version.budget_runs, "run") if version.budget_runs is not None else "",
        say_bytes(version.budget_bytes) if version.budget_bytes is not None else "",
        say_hours(version.budget_minutes / 60) if version.budget_minutes is not None else "",
    ]
    if any(budget):
        bounds.append(f"a pass takes at most {', '.join(part for part in budget if part)}")
    if version.max_share is not None:
        bounds.append(
            f"passes that would take more than {version.max_share * 100:g} % of the staged bytes in a day stop and ask"
        )
    if version.only_here is not None:
        bounds.append(f"what the NAS lacks besides bytes: {ONLY_HERE[version.only_here]}")
    if version.stalled_after_hours is not None:
        bounds.append(f"stalled after {say_hours(version.stalled_after_hours)}")
    return bounds


def _nights(number: int) -> str:
    return "1 night" if number == 1 else f"{number} nights"


@dataclass(frozen=True)
class PolicyChange:
    """One changed field, in words; `before`: empty for a first version."""

    label: str
    before: str
    after: str


def explain(runs: str, policy: Policy) -> str:
    """What a policy does with some runs: `FLOW_01's test runs are cleared 6 h after verification, …`."""
    proven = PROVEN[policy.proof]
    if policy.mode is not Mode.SCHEDULED:
        return f"{runs} are kept until an operator clears them, {proven}."
    said = f"{runs} are cleared {_after(policy)}, {proven}"
    if policy.min_retain_hours < policy.retain_hours:
        floor = f"{say_hours(policy.min_retain_hours)} after it" if policy.min_retain_hours else AT_ONCE
        said += f"; where the disk is too full, {floor}"
    if policy.rehearsing:
        numbers = ", ".join(map(str, policy.rehearsing))
        said += f". Not yet: version {numbers} is still rehearsed, and {_meanwhile(policy.unasked)}"
    return f"{said}."


def _meanwhile(policy: Policy) -> str:
    if policy.mode is not Mode.SCHEDULED:
        return "nothing goes by itself"
    return f"until then runs are cleared {_after(policy)}, {PROVEN[policy.proof]}"


def _after(policy: Policy) -> str:
    return f"{say_hours(policy.retain_hours)} after verification" if policy.retain_hours else AT_ONCE


def differences(before: ScopedPolicy | None, after: ScopedPolicy) -> list[PolicyChange]:
    """What a version changes from the one before, field by field."""
    told = []
    for name in NAMES:
        old, new = getattr(before, name, None), getattr(after, name)
        if old != new:
            told.append(PolicyChange(LABELS[name], _say(name, old) if before else "", _say(name, new)))
    if before is None or before.stage is not after.stage:
        told.append(PolicyChange("Rehearsal", STAGES[before.stage] if before else "", STAGES[after.stage]))
    return told


def _say(name: str, value: object) -> str:
    return "left to wider scopes" if value is None else say_field(name, value)
