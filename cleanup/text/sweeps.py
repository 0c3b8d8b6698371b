"""How pages say what a pass did."""

from datetime import datetime
from typing import Any

from cleanup.models import Outcome, Sweep, SweepKind, Tally
from cleanup.rules.breaker_question import Shown, say_shown
from cleanup.rules.freed import say_freed
from cleanup.rules.policies.policy import Scope
from cleanup.rules.policies.sentences import name_scope, say_field
from cleanup.rules.pressure import Cause
from cleanup.rules.reasons import Reason
from cleanup.text.values import in_units, runs, sentence, visible

# What became of a run.
ACTIONS = {
    "cleared": "cleared",
    "would_clear": "would be cleared",
    "skipped": "left alone",
    "refused": "refused",
    "partial": "cleared, removal incomplete",
    "failed": "failed",
}
# What pages call a pass.
KINDS = {
    SweepKind.TIMED: "by the schedule",
    SweepKind.TYPED: "by a person",
    SweepKind.DRY_RUN: "dry run",
}
# Why a sweep takes a run; codes are joined as in `retention+max_bytes`.
CAUSES = {
    Cause.RETENTION: "The time that the policy keeps it was over.",
    Cause.MAX_BYTES: "The staging root held more bytes than it may.",
    Cause.MAX_RUNS: "The staging root held more runs than it may.",
    Cause.FREE_SPACE: "The staging disk had too little free space.",
}
# What a policy decides of a run, as pages call it.
_CALLED = {"mode": "mode", "retain_hours": "hours", "proof": "proof"}
TONES = {"cleared": "pass", "would_clear": "pass", "skipped": "rest", "refused": "wait"}
OUTCOME_TONES = {"done": "pass", "running": "rest"}


def lets_go(shown: Shown) -> str:
    """`30 runs (60.0 GB) by policy version 3`."""
    return say_shown(shown)


def scope_name(scope: Scope) -> str:
    return visible(name_scope(scope))


def action(code: str) -> str:
    return ACTIONS.get(code, code.replace("_", " "))


def called(kind: str) -> str:
    return KINDS[SweepKind(kind)]


def came_to(sweep: Sweep, tally: Tally | None = None) -> str:
    """Bytes are logical."""
    if sweep.outcome == Outcome.RUNNING:
        return "It is under way."
    found = tally.columns() if tally is not None else vars(sweep)
    dry_run = sweep.kind == SweepKind.DRY_RUN
    number, would_clear, partial = found["cleared"], found["would_clear"], found["partial"]
    freed = f"{runs(would_clear if dry_run else number)}, {in_units(found['bytes'])}"
    if dry_run:
        said = [f"Would clear {freed}." if would_clear else "Would clear nothing."]
        if rehearsed := sweep.pressure.get("rehearsed"):
            said.append(f"By the schedule rehearsed only: {runs(rehearsed['runs'])} would have gone.")
    else:
        said = [f"Cleared {freed}." if number else "Cleared nothing."]
        if partial:
            said.append(f"Files are left of {runs(partial)}.")
        if would_clear:
            said.append(f"Rehearsed only: {runs(would_clear)} would have gone.")
    if failed := found["failed"] - partial:
        said.append(f"{runs(failed)} failed.")
    return " ".join(said)


def tone(code: str) -> str:
    return TONES.get(code, "block")


def outcome_tone(code: str) -> str:
    return OUTCOME_TONES.get(code, "block")


def because(code: str) -> str:
    """A code of another version stays as it is."""
    if not code:
        return ""
    if code in Reason._value2member_map_:
        return sentence(code)
    causes = code.split("+")
    if all(cause in CAUSES for cause in causes):
        return " ".join(CAUSES[Cause(cause)] for cause in causes)
    return sentence(code)


def pressed(pressure: dict[str, int] | None) -> str:
    found = pressure or {}
    parts = []
    if over := found.get("bytes_over", 0):
        parts.append(f"{in_units(over)} (logical) more than the limit")
    if over := found.get("runs_over", 0):
        parts.append(f"{runs(over)} more than the limit")
    if wanted := found.get("free_wanted", 0):
        parts.append(f"{in_units(wanted)} of free space missing")
    return ", ".join(parts)


def given_back_by_pass(freed: dict[str, int] | None) -> str:
    return say_freed(freed["allocated"], freed["measured"]) if freed else ""


def shut(gates: list[dict[str, Any]]) -> int:
    return sum(gate.get("verdict") != "pass" for gate in gates)


def parsed(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def deciders(by: dict[str, Any], newest: int | None = None) -> str:
    """Older rows know only the newest version."""
    if not by:
        return f"version {newest}, the newest at the time" if newest else "none was written: the defaults"
    told = [(what, said) for what, _value, said in decided(by)]
    if len({said for _what, said in told}) == 1:
        (_what, said), *_others = told
        return said
    return "; ".join(f"{what} by {said}" for what, said in told)


def decided(by: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(name, value, policy version)."""
    # In our own order: a database may change it.
    known = [(name, by[name]) for name in _CALLED if name in by]
    return [(_CALLED[name], say_field(name, source.get("value")), _decider(source)) for name, source in known]


def _decider(source: dict[str, Any]) -> str:
    scope = source.get("scope")
    if not scope:
        return "the default"
    return f"version {source.get('version')} ({name_scope(Scope(**scope))})"
