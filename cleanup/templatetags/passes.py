"""How pages say what a pass did with a run, and why."""

from datetime import datetime
from typing import Any

from django import template

from cleanup.models import Outcome, Sweep, SweepKind
from cleanup.policy.pressure import Cause
from cleanup.policy.reasons import Reason
from cleanup.templatetags.words import in_units, runs, sentence

register = template.Library()

# What became of a run, in two or three words.
ACTIONS = {
    "cleared": "cleared",
    "would_clear": "would be cleared",
    "skipped": "left alone",
    "refused": "refused",
    "partial": "cleared, removal incomplete",
    "failed": "failed",
}
# How people call a pass, by its kind.
KINDS = {
    SweepKind.TIMED: "by the schedule",
    SweepKind.TYPED: "by a person",
    SweepKind.DRY_RUN: "dry run",
}
# Why a sweep takes a run; the codes add up, as in `retention+max_bytes`.
CAUSES = {
    Cause.RETENTION: "The time that the policy keeps it was over.",
    Cause.MAX_BYTES: "The staging root held more bytes than it may.",
    Cause.MAX_RUNS: "The staging root held more runs than it may.",
    Cause.FREE_SPACE: "The staging disk had too little free space.",
}
TONES = {"cleared": "pass", "would_clear": "pass", "skipped": "rest", "refused": "wait"}
OUTCOME_TONES = {"done": "pass", "running": "rest"}


@register.filter
def action(code: str) -> str:
    """What became of a run, in words."""
    return ACTIONS.get(code, code.replace("_", " "))


@register.filter
def called(kind: str) -> str:
    """What kind of pass it is, in words."""
    return KINDS[SweepKind(kind)]


@register.filter
def came_to(sweep: Sweep) -> str:
    """What a pass came to, in a sentence or two; bytes are logical."""
    if sweep.outcome == Outcome.RUNNING:
        return "It is under way."
    freed = f"{runs(sweep.would_clear if sweep.kind == SweepKind.DRY_RUN else sweep.cleared)}, {in_units(sweep.bytes)}"
    if sweep.kind == SweepKind.DRY_RUN:
        said = [f"Would clear {freed}." if sweep.would_clear else "Would clear nothing."]
    else:
        said = [f"Cleared {freed}." if sweep.cleared else "Cleared nothing."]
        if sweep.would_clear:
            said.append(f"Rehearsed only: {runs(sweep.would_clear)} would have gone.")
    if sweep.failed:
        said.append(f"{runs(sweep.failed)} failed.")
    return " ".join(said)


@register.filter
def tone(code: str) -> str:
    """How an action is coloured."""
    return TONES.get(code, "block")


@register.filter
def outcome_tone(code: str) -> str:
    """How a pass's outcome is coloured."""
    return OUTCOME_TONES.get(code, "block")


@register.filter
def because(code: str) -> str:
    """A reason, or the causes of a clear, as sentences; a code from another version as it stands."""
    if not code:
        return ""
    if code in Reason._value2member_map_:
        return sentence(code)
    causes = code.split("+")
    if all(cause in CAUSES for cause in causes):
        return " ".join(CAUSES[Cause(cause)] for cause in causes)
    return sentence(code)


@register.filter
def pressed(pressure: dict[str, int] | None) -> str:
    """What a staging root held too much of, or its disk too little, as a pass recorded it; empty: no pressure."""
    found = pressure or {}
    parts = []
    if over := found.get("bytes_over", 0):
        parts.append(f"{in_units(over)} (logical) more than max_bytes")
    if over := found.get("runs_over", 0):
        parts.append(f"{runs(over)} more than max_runs")
    if wanted := found.get("free_wanted", 0):
        parts.append(f"{in_units(wanted)} of free space short of free_stop")
    return ", ".join(parts)


@register.filter
def shut(gates: list[dict[str, Any]]) -> int:
    """How many of the gates did not pass."""
    return sum(gate.get("verdict") != "pass" for gate in gates)


@register.filter
def parsed(text: str | None) -> datetime | None:
    """The instant that a recorded gate keeps as text."""
    return datetime.fromisoformat(text) if text else None
