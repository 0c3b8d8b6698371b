"""What a night without a surprise is, and what a surprise is.

A new policy first only records. A person or clean nights promote it; a surprise sends it back.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from cleanup.rules.facts import Facts, Finding
from cleanup.rules.gates import BY_HOLD_FILE, BY_RECORD, QUIET_PERIOD
from cleanup.rules.policies.policy import DEFAULT_REHEARSAL_NIGHTS
from cleanup.rules.reasons import Reason

NIGHT = timedelta(days=1)

# The three kinds of surprise.
HELD = frozenset({Reason.HELD})
CHANGED = frozenset(
    {
        Reason.NOT_IN_MANIFEST,
        Reason.MISSING_FILE,
        Reason.CHANGED_SINCE_VERIFICATION,
        Reason.SYNC_STATE_DIFFERS,
        Reason.NOT_QUIET,
        Reason.FUTURE_DATED,
        Reason.WRITER_ACTIVE,
    }
)
LOST_TWIN = frozenset({Reason.NAS_MISSING_FILE, Reason.NAS_SIZE_MISMATCH, Reason.NAS_CHECKSUM_MISMATCH})
# A NAS that does not answer, a root that is not mounted and the like say nothing of the run.
SURPRISING = HELD | CHANGED | LOST_TWIN
# Only the clear itself finds these.
SURPRISING_AT_CLEAR = frozenset({Reason.NAS_CHECKSUM_MISMATCH, Reason.CHANGED_SINCE_VERIFICATION, Reason.PATH_OCCUPIED})


def nights_wanted(nights: int | None) -> int:
    """The clean nights before a promotion; 0: only by a person."""
    return DEFAULT_REHEARSAL_NIGHTS if nights is None else nights


def clean_nights(since: datetime, passes: Iterable[datetime], now: datetime) -> int:
    """The number of nights in which the policy was really tried.

    A night is 24 hours, from `since` (creation or last surprise), with at least one of the `passes`.
    """
    if now <= since:
        return 0
    over = (now - since) // NIGHT
    return len({night for at in passes if at >= since and (night := (at - since) // NIGHT) < over})


def ready(wanted: int | None, nights: int) -> bool:
    """Whether a version has its clean nights; never if 0 are wanted."""
    wanted = nights_wanted(wanted)
    return bool(wanted) and nights >= wanted


def surprise_in(facts: Facts, said_at: datetime, now: datetime) -> Finding | None:
    """Why a run must stay that a rehearsal would clear at `said_at`, or None.

    Holds count as of now; what discovery saw only if it looked later.
    """
    if facts.hold_file is not None and facts.gathered_at > said_at:
        return Finding(Reason.HELD, f"{BY_HOLD_FILE} in the run")
    if facts.kept_local and facts.gathered_at > said_at:
        return Finding(Reason.HELD, f"{BY_RECORD} {facts.kept_local}")
    for hold in facts.holds:
        if hold.lasts(now):
            return Finding(Reason.HELD, hold.said)
    if facts.gathered_at <= said_at:
        return None
    proof_findings = facts.proof.findings if facts.proof else ()
    for finding in (*facts.tree_findings, *proof_findings):
        if finding.reason in CHANGED | LOST_TWIN:
            return finding
    written_at = facts.newest_data_at
    if facts.future is not None:  # the times say nothing, only when they were first seen
        written_at = max(filter(None, [facts.future.others_at, facts.future.since]))
    if written_at is not None and written_at > said_at:
        reason = Reason.NOT_QUIET if now - written_at < QUIET_PERIOD else Reason.CHANGED_SINCE_VERIFICATION
        return Finding(reason, "data was written after the rehearsal")
    return None
