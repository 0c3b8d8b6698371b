"""Policies as people in the lab ask for them: what happens to these runs, and what does a version change?"""

from dataclasses import dataclass

from cleanup.rules.policy import Mode, Policy, ProofLevel, ScopedPolicy, Stage
from cleanup.rules.quantities import AT_ONCE, say_hours
from cleanup.rules.sentences import FIELDS, say_field

PROVEN = {
    ProofLevel.RECORD: "on the wizard's word alone",
    ProofLevel.SIZE: "proven by names and sizes",
    ProofLevel.CHECKSUM: "proven by checksum",
}
# What the fields of a version are called where people read them.
LABELS = {
    "mode": "Mode",
    "retain_hours": "Kept after the verification",
    "proof": "Proof",
    "only_here": "Attributes and empty folders that the NAS lacks",
    "min_retain_hours": "Kept at least, where the disk is too full",
    "stalled_after_hours": "Called stalled after",
    "max_bytes": "Too full above this size of staged runs",
    "max_runs": "Too full above so many staged runs",
    "free_start_bytes": "Too full with less free space than",
    "free_stop_bytes": "and until so much is free",
    "budget_runs": "Runs that one pass takes at most",
    "budget_bytes": "Bytes that one pass takes at most",
    "budget_minutes": "One pass begins nothing more after",
    "max_share": "Stops and asks above this share of the staged bytes in a day",
}
STAGES = {
    Stage.REHEARSING: "rehearsed first",
    Stage.PROMOTED: "over, it is in force",
    Stage.OFF: "never",
}


@dataclass(frozen=True)
class Change:
    """One field that a version changes, in words; `before` is empty for the first version of a scope."""

    label: str
    before: str
    after: str


def explain(runs: str, policy: Policy) -> str:
    """What a policy does with some runs, in a sentence: `FLOW_01's test runs are cleared 6 h after verification, …`."""
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
    """What goes by itself while a version is rehearsed."""
    if policy.mode is not Mode.SCHEDULED:
        return "nothing goes by itself"
    return f"until then runs are cleared {_after(policy)}, {PROVEN[policy.proof]}"


def _after(policy: Policy) -> str:
    return f"{say_hours(policy.retain_hours)} after verification" if policy.retain_hours else AT_ONCE


def differences(before: ScopedPolicy | None, after: ScopedPolicy) -> list[Change]:
    """What a version says else than the one before it in its scope, field by field."""
    told = []
    for name in FIELDS:
        old, new = getattr(before, name, None), getattr(after, name)
        if old != new:
            told.append(Change(LABELS[name], _say(name, old) if before else "", _say(name, new)))
    if before is None or before.stage is not after.stage:
        told.append(Change("Rehearsal", STAGES[before.stage] if before else "", STAGES[after.stage]))
    return told


def _say(name: str, value: object) -> str:
    return "left to wider scopes" if value is None else say_field(name, value)
