"""Where each reason is settled: by a button, or why there is none."""

import enum
from dataclasses import dataclass

from cleanup.rules.reasons import Reason


class Where(enum.StrEnum):
    """Where a person settles a reason."""

    RUN = "On the run's page"
    HOLDS = "On the page Holds, or on the run's"
    PROBLEMS = "On the page Problems"
    POLICIES = "On the page Policies"
    SWEEPS = "On the page Automatic clearing"
    BATCH = "On the batch's page, or on the run's"
    COMMAND = "By a command on the host: it names paths of the host, and a browser must never name one"
    WIZARD = "In the data wizard, which alone writes its records"
    DISK = "On the staging disk, by hand: this program removes nothing there that it has not proven"
    HOST = "On the host, by its administrator: a browser must not mount, start or repair anything there"
    NAS = "On the NAS or its network, by its administrator: this program changes no data there"
    ITSELF = "Nowhere: it ends by itself"

    @property
    def is_page(self) -> bool:
        return self in (Where.RUN, Where.HOLDS, Where.PROBLEMS, Where.POLICIES, Where.SWEEPS, Where.BATCH)


@dataclass(frozen=True)
class Remedy:
    """Where a reason is settled, and by which buttons."""

    where: Where
    buttons: tuple[str, ...] = ()


def _at(where: Where, *buttons: str) -> Remedy:
    return Remedy(where, buttons)


_CLEAR, _RETRY, _COMPARE = "Clear now", "Try again", "Compare every byte and clear"
_LOOK = "Look again"
_ROOM = "Make room"
_SAME, _ANOTHER = "It is the same run", "It is another run"
_VERIFY, _ACCEPT = "Verify again here", "Accept these bytes"
_MARK_GONE, _RENAMED = "Mark as gone", "Its folder was renamed"

REMEDIES: dict[Reason, Remedy] = {
    # state
    Reason.NOT_SYNC_VERIFIED: _at(Where.WIZARD),
    Reason.INGEST_UNREADABLE: _at(Where.DISK, _LOOK),
    Reason.INGEST_SCHEMA_UNSUPPORTED: _at(Where.HOST),
    Reason.INGEST_DISAGREES: _at(Where.RUN, _SAME, _RENAMED),
    Reason.ALREADY_CLEARED: _at(Where.ITSELF),
    # clock
    Reason.NO_VERIFIED_TIMESTAMP: _at(Where.DISK, _VERIFY),
    Reason.CLOCK_UNTRUSTED: _at(Where.HOST),
    # retention
    Reason.POLICY_MANUAL: _at(Where.RUN, _CLEAR),
    Reason.RETENTION_NOT_ELAPSED: _at(Where.RUN, _CLEAR),
    Reason.REHEARSAL: _at(Where.POLICIES, "Promote"),
    Reason.ACCEPTED_BYTES: _at(Where.RUN, _CLEAR),
    # hold
    Reason.HELD: _at(Where.HOLDS, "Release", "It is not the held run"),
    # path
    Reason.ROOT_NOT_MOUNTED: _at(Where.HOST),
    Reason.UNSAFE_PATH: _at(Where.DISK, _LOOK),
    Reason.MISSING_DIRECTORY: _at(Where.RUN, _MARK_GONE, _RENAMED),
    Reason.IDENTITY_MISMATCH: _at(Where.RUN, _SAME, _ANOTHER),
    Reason.MOUNT_INSIDE: _at(Where.HOST, _LOOK),
    Reason.OWN_STORAGE: _at(Where.HOST, _LOOK),
    Reason.SPECIAL_FILE: _at(Where.DISK, _LOOK),
    Reason.PERMISSION_DENIED: _at(Where.HOST, _LOOK),
    Reason.TREE_TOO_DEEP: _at(Where.DISK),
    Reason.STAGING_IO_ERROR: _at(Where.HOST, _LOOK),
    Reason.MARKER_NOT_SEEN: _at(Where.HOST, _LOOK),
    Reason.MARKER_MALFORMED: _at(Where.NAS),
    Reason.STRAY_FENCE: _at(Where.DISK),
    Reason.LOOK_FAILED: _at(Where.HOST, _LOOK),
    Reason.NOT_LOOKED_AT: _at(Where.ITSELF, _LOOK),
    Reason.CLEARING_UNSUPPORTED: _at(Where.HOST),
    Reason.DATABASE_NOT_DURABLE: _at(Where.HOST),
    # unchanged
    Reason.NOT_IN_MANIFEST: _at(Where.RUN, "Set files aside", _VERIFY, _ACCEPT, _LOOK),
    Reason.MISSING_FILE: _at(Where.RUN, _LOOK, _VERIFY, _ACCEPT),
    Reason.CHANGED_SINCE_VERIFICATION: _at(Where.RUN, _COMPARE, _VERIFY),
    Reason.SYNC_STATE_DIFFERS: _at(Where.WIZARD, _LOOK),
    Reason.NOT_QUIET: _at(Where.ITSELF, _LOOK),
    Reason.FUTURE_DATED: _at(Where.ITSELF, _LOOK),
    Reason.WRITER_ACTIVE: _at(Where.HOST, _LOOK),
    Reason.UNEXPECTED_METADATA: _at(Where.RUN, "Set files aside", _LOOK),
    Reason.MANIFEST_MISSING: _at(Where.RUN, _VERIFY, _ACCEPT),
    Reason.MANIFEST_EMPTY: _at(Where.RUN, _VERIFY, _ACCEPT),
    Reason.MANIFEST_UNREADABLE: _at(Where.RUN, _VERIFY, _ACCEPT),
    # proof
    Reason.NAS_NOT_CONFIGURED: _at(Where.COMMAND),
    Reason.NAS_NOT_MOUNTED: _at(Where.HOST, _LOOK),
    Reason.NAS_IDENTITY_MISMATCH: _at(Where.HOST, _LOOK),
    Reason.NAS_SAME_FILESYSTEM: _at(Where.HOST, _LOOK),
    Reason.NAS_MOUNT_NOT_ACCEPTED: _at(Where.COMMAND),
    Reason.NAS_IS_STAGING: _at(Where.NAS, _LOOK),
    Reason.NAS_TIMEOUT: _at(Where.NAS, _LOOK),
    Reason.NAS_SLOW: _at(Where.ITSELF, _CLEAR),
    Reason.NAS_IO_ERROR: _at(Where.NAS, _LOOK),
    Reason.NAS_MOUNT_BELOW: _at(Where.COMMAND),
    Reason.AMBIGUOUS_TWIN: _at(Where.COMMAND),
    Reason.TWIN_UNNAMED: _at(Where.POLICIES, "Save as a new version"),
    Reason.TWIN_OVERWRITTEN: _at(Where.NAS),
    Reason.ONLY_HERE: _at(Where.POLICIES, "Save as a new version"),
    Reason.NAS_MISSING_FILE: _at(Where.NAS, _LOOK, _VERIFY),
    Reason.NAS_SIZE_MISMATCH: _at(Where.NAS, _LOOK, _VERIFY),
    Reason.NAS_CHECKSUM_MISMATCH: _at(Where.RUN, _VERIFY, _ACCEPT, _COMPARE),
    Reason.ACCEPTANCE_VOID: _at(Where.RUN, _VERIFY, _ACCEPT),
    Reason.NOT_COMPARED: _at(Where.RUN, _RETRY),
    # free
    Reason.ALREADY_CLEARING: _at(Where.ITSELF),
    # attempts
    Reason.PARKED: _at(Where.RUN, _RETRY),
    # budget
    Reason.BUDGET_EXHAUSTED: _at(Where.ITSELF, _CLEAR),
    # breaker
    Reason.BREAKER_OPEN: _at(Where.SWEEPS, "Go on"),
    # a sweep as a whole
    Reason.SWEEP_RUNNING: _at(Where.ITSELF),
    Reason.SWEEP_FAILED: _at(Where.HOST),
    Reason.CLEARING_FREES_NOTHING: _at(Where.HOST, _CLEAR),
    Reason.LIMIT_EXCEEDED: _at(Where.RUN, _CLEAR),
    Reason.DISK_NEARLY_FULL: _at(Where.PROBLEMS, _ROOM),
    # what lies on a staging disk and is no known run
    Reason.UNKNOWN_DIRECTORY: _at(Where.PROBLEMS, _LOOK),
    Reason.MISPLACED_RUN: _at(Where.DISK, _LOOK),
    Reason.PASSED_OVER: _at(Where.DISK, _LOOK),
    Reason.STRAY_FILE: _at(Where.DISK),
    Reason.SHELL_LEFT: _at(Where.PROBLEMS, "Remove it"),
    Reason.NOT_A_SHELL: _at(Where.DISK),
    Reason.ORPHANS_ESCALATED: _at(Where.PROBLEMS, _LOOK),
    # the watchdog's
    Reason.STALLED: _at(Where.WIZARD),
    Reason.NO_PROGRESS: _at(Where.HOST),
    Reason.SCHEDULE_MISSED: _at(Where.HOST),
    Reason.CLUSTER_SILENT: _at(Where.HOST),
    Reason.HOST_UNSERVED: _at(Where.HOST),
    Reason.CLOCK_IN_DOUBT: _at(Where.SWEEPS, "Go on"),
    Reason.CLOCK_WENT_BACK: _at(Where.HOST),
    Reason.HOLD_ENDING: _at(Where.HOLDS, "Extend"),
    Reason.HOLD_OLD: _at(Where.DISK),
    Reason.REMINDER_DUE: _at(Where.RUN, "Done"),
    # outcomes of an attempt, no gate's
    Reason.INTERRUPTED: _at(Where.RUN, _RETRY),
    Reason.WITHDRAWN: _at(Where.RUN, _CLEAR),
    Reason.PATH_OCCUPIED: _at(Where.DISK),
    Reason.REMOVAL_INCOMPLETE: _at(Where.HOST),
    Reason.PLAN_MISSING: _at(Where.HOST),
    Reason.DATABASE_ERROR: _at(Where.HOST, _RETRY),
    Reason.STORAGE_ERROR: _at(Where.HOST, _RETRY),
    # telling the NAS, after a clear
    Reason.NAS_NOT_WRITABLE: _at(Where.NAS),
    Reason.TOMBSTONE_MISSING: _at(Where.HOST),
}
