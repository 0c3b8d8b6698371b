"""The checks of a clear under the names that people read. Codes stay in JSON and in small letters."""

from cleanup.rules.decisions import SCHEDULE_ONLY, Gate, Verdict
from cleanup.rules.reasons import Reason
from cleanup.text.values import visible

NAMES = {
    Gate.STATE: "Verification",
    Gate.CLOCK: "Time of verification",
    Gate.RETENTION: "Time to keep",
    Gate.HOLD: "Hold",
    Gate.PATH: "Place on the disk",
    Gate.UNCHANGED: "Unchanged files",
    Gate.PROOF: "Copy on the NAS",
    Gate.FREE: "Other clears",
    Gate.ATTEMPTS: "Earlier attempts",
    Gate.BUDGET: "Limit of a pass",
    Gate.BREAKER: "Safety stop",
}
RESULTS = {Verdict.PASS: "passed", Verdict.WAIT: "waits", Verdict.BLOCK: "blocked"}
BY_A_CLICK = "only by a click"
# Reasons that leave a run to a person: nothing is wrong with it.
BY_HAND = frozenset({Reason.POLICY_MANUAL, Reason.ACCEPTED_BYTES})


def check_name(code: object) -> str:
    """The name of a check; a code of another version stays as it is."""
    try:
        return NAMES[Gate(str(code))]
    except ValueError:
        return visible(code)


def result_word(verdict: object) -> str:
    """The result of a check in a word; a code of another version stays as it is."""
    try:
        return RESULTS[Verdict(str(verdict))]
    except ValueError:
        return visible(verdict)


def result_of(gate: object, verdict: object, reason: object = "") -> str:
    """The result as a page says it: a run that is left to a person is not called blocked."""
    left = binds_schedule_only(gate, verdict) and reason in BY_HAND
    return BY_A_CLICK if left else result_word(verdict)


def binds_schedule_only(gate: object, verdict: object) -> bool:
    """Whether a check has not passed and an operator's click passes it."""
    return gate in SCHEDULE_ONLY and verdict != Verdict.PASS
