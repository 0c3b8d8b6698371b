"""The closed list of reasons: a stable code, one sentence, and what a person may do, the same wherever it is shown."""

import enum


class Reason(enum.StrEnum):
    """Why a gate does not pass. The value is the code; `sentence` says it to a person, `advice` what to do next."""

    sentence: str
    advice: str

    def __new__(cls, code: str, sentence: str = "", advice: str = "") -> "Reason":
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        member.advice = advice
        return member

    # state
    NOT_SYNC_VERIFIED = (
        "not_sync_verified",
        "The data wizard has not verified this run on the NAS yet.",
        "Wait for the wizard; if the run stays so for long, look at the wizard's own queue.",
    )
    INGEST_UNREADABLE = (
        "ingest_unreadable",
        "The run's ingest.json cannot be read.",
        "Look at the file on the staging disk; the wizard can write it anew, this program never does.",
    )
    INGEST_SCHEMA_UNSUPPORTED = (
        "ingest_schema_unsupported",
        "The run's ingest.json was written by a version of the wizard that is not known here.",
        "Update this program; until then such runs stay.",
    )
    INGEST_DISAGREES = (
        "ingest_disagrees",
        "The run's ingest.json contradicts itself, the place it lies in, or what was recorded before.",
        "Find out who wrote the record: nothing is cleared on a history that was changed.",
    )
    ALREADY_CLEARED = (
        "already_cleared",
        "This run has been cleared.",
        "Nothing is to be done here. If files are still there, compare them with the NAS before you remove them.",
    )
    # clock
    NO_VERIFIED_TIMESTAMP = (
        "no_verified_timestamp",
        "The verification carries no usable time.",
        "Let the wizard verify the run again.",
    )
    CLOCK_UNTRUSTED = (
        "clock_untrusted",
        "The recorded verification lies in the future: a clock is wrong.",
        "Set the clock of the lab PC and of this host; then it opens by itself.",
    )
    # retention
    POLICY_MANUAL = (
        "policy_manual",
        "The policy is manual: an operator decides.",
        "Clear it by a click, or let the policy be scheduled.",
    )
    RETENTION_NOT_ELAPSED = (
        "retention_not_elapsed",
        "The time that the policy keeps a run is not over yet.",
        "Wait, or clear it by a click.",
    )
    REHEARSAL = (
        "rehearsal",
        "The policy is being rehearsed: the schedule only records what it would do.",
        "Compare what it would have done with what people did, and promote the policy; or clear the run by a click.",
    )
    # hold
    HELD = (
        "held",
        "Somebody has put a hold on this run.",
        "Ask the owner of the hold. It can be released; one that a file lays ends when the file is taken away.",
    )
    # path
    ROOT_NOT_MOUNTED = (
        "root_not_mounted",
        "The staging root does not carry its token: is the disk mounted?",
        "Mount the staging disk. If the disk was replaced, an admin registers the root again (reregister).",
    )
    UNSAFE_PATH = (
        "unsafe_path",
        "A symbolic link or an impossible name lies on the way to the run or inside it.",
        "Replace the link by what it points to, or take it out of the run; then let the wizard verify it again.",
    )
    MISSING_DIRECTORY = (
        "missing_directory",
        "The run's directory is not on the staging disk.",
        "If somebody moved the run, move it back; this program has not removed it.",
    )
    IDENTITY_MISMATCH = (
        "identity_mismatch",
        "Another directory lies where this run was seen before.",
        "If it is the same run, restored or copied, an admin says so with reregister.",
    )
    MOUNT_INSIDE = (
        "mount_inside",
        "Another filesystem is mounted on the way to the run or inside it.",
        "Unmount what is mounted there.",
    )
    SPECIAL_FILE = (
        "special_file",
        "The run holds something that is neither a file nor a directory.",
        "Take the pipe, socket or device out of the run.",
    )
    PERMISSION_DENIED = (
        "permission_denied",
        "Something in the run may not be read or removed by this program.",
        "Let the account that runs this program read and remove the run: owner, mode, or chattr -i.",
    )
    TREE_TOO_DEEP = (
        "tree_too_deep",
        "The run is nested too deeply to be handled safely.",
        "Move the deepest folders up, or remove this run by hand after comparing it with the NAS.",
    )
    STAGING_IO_ERROR = (
        "staging_io_error",
        "The staging disk reported an error.",
        "Check the staging disk (dmesg, SMART) before it loses data.",
    )
    STRAY_FENCE = (
        "stray_fence",
        "A folder that a clear has put aside belongs to no clear that is under way here.",
        "Look into it: a whole run may lie there. Rename it back to its run's name if it does.",
    )
    LOOK_FAILED = (
        "look_failed",
        "Looking at this run failed unexpectedly; the log says how.",
        "Read the log; this is a fault of this program or of the disk.",
    )
    NOT_LOOKED_AT = (
        "not_looked_at",
        "Nobody has looked at this run's directory yet.",
        "Wait for discovery, which looks every five minutes, or run discover.",
    )
    CLEARING_UNSUPPORTED = (
        "clearing_unsupported",
        "This kernel or filesystem lacks the calls that a safe clear needs.",
        "Linux 5.6 or newer is needed; in a container its seccomp profile must let openat2 through.",
    )
    DATABASE_NOT_DURABLE = (
        "database_not_durable",
        "The database may lose what it has committed, so nothing is cleared.",
        "Set SQLite to WAL and FULL; in PostgreSQL turn on fsync, synchronous_commit and full_page_writes.",
    )
    # unchanged
    NOT_IN_MANIFEST = (
        "not_in_manifest",
        "The run holds files that the verified manifest does not list.",
        "Let the wizard copy and verify the run again, so that the new files get to the NAS.",
    )
    MISSING_FILE = (
        "missing_file",
        "The manifest lists files that are not in the run.",
        "Find out who removed them, and copy them back from the NAS.",
    )
    CHANGED_SINCE_VERIFICATION = (
        "changed_since_verification",
        "Files have changed since the verification, or are newer than it.",
        "Clear it with every byte compared, or let the wizard verify the run again.",
    )
    NOT_QUIET = (
        "not_quiet",
        "Something was written in the run a moment ago.",
        "Wait; it opens ten minutes after the last write.",
    )
    WRITER_ACTIVE = (
        "writer_active",
        "A program is writing in the run.",
        "Close the program, or wait until it has finished.",
    )
    UNEXPECTED_METADATA = (
        "unexpected_metadata",
        "The run's .exlab-wizard folder holds something unknown.",
        "Take what does not belong there out of the folder; only the wizard's own files are kept.",
    )
    MANIFEST_MISSING = (
        "manifest_missing",
        "The run has no manifest of checksums.",
        "Let the wizard verify the run again: it writes the manifest.",
    )
    MANIFEST_EMPTY = (
        "manifest_empty",
        "The run's manifest lists no file.",
        "Let the wizard verify the run again.",
    )
    MANIFEST_UNREADABLE = (
        "manifest_unreadable",
        "The run's manifest of checksums cannot be read.",
        "Let the wizard verify the run again: it writes the manifest anew.",
    )
    # proof
    NAS_NOT_CONFIGURED = (
        "nas_not_configured",
        "No NAS root is registered for this staging root.",
        "An admin registers the NAS root (add_staging_root NAME PATH --nas-root PATH).",
    )
    NAS_NOT_MOUNTED = (
        "nas_not_mounted",
        "The NAS root does not carry its token: is the NAS mounted?",
        "Mount the NAS on this host.",
    )
    NAS_IDENTITY_MISMATCH = (
        "nas_identity_mismatch",
        "Another NAS is mounted than the one registered.",
        "Mount the right NAS; if it was replaced, an admin registers it again (reregister).",
    )
    NAS_SAME_FILESYSTEM = (
        "nas_same_filesystem",
        "The NAS copy lies on the same filesystem: that is no second copy.",
        "Copy the run to another disk. Only for a trial may a root be registered with one disk for both.",
    )
    NAS_TIMEOUT = (
        "nas_timeout",
        "The NAS did not answer in time.",
        "Check the NAS and the network; it is asked again by itself.",
    )
    NAS_IO_ERROR = (
        "nas_io_error",
        "The NAS reported an error.",
        "Check the NAS, the network and the rights of the account that runs this program.",
    )
    NAS_MISSING_FILE = (
        "nas_missing_file",
        "The NAS does not hold all files of the run.",
        "Let the wizard copy and verify the run again.",
    )
    NAS_SIZE_MISMATCH = (
        "nas_size_mismatch",
        "Files on the NAS have another size.",
        "Let the wizard copy and verify the run again, and find out who changed the copy.",
    )
    NAS_CHECKSUM_MISMATCH = (
        "nas_checksum_mismatch",
        "Files differ from the verified checksums.",
        "Keep both copies and find out which one is right; then let the wizard copy and verify it again.",
    )
    NOT_COMPARED = (
        "not_compared",
        "The run has not been compared with the NAS as the policy asks.",
        "Try again; a clear compares as far as the policy asks.",
    )
    # free
    ALREADY_CLEARING = (
        "already_clearing",
        "This run is being cleared.",
        "Wait for it to end; its progress is shown.",
    )
    # attempts
    PARKED = (
        "parked",
        "Three attempts in a row have failed: the schedule waits until something changes.",
        "See why the last attempt failed, mend that, and try again by a click.",
    )
    # budget
    BUDGET_EXHAUSTED = (
        "budget_exhausted",
        "The sweep had taken as much as one sweep may.",
        "Wait: it comes first in the next sweep. An admin may set a larger budget.",
    )
    # breaker
    BREAKER_OPEN = (
        "breaker_open",
        "Something abnormal has stopped the sweeps of this staging root.",
        "See what it was, and let the sweeps go on once it is understood.",
    )
    # a sweep as a whole
    SWEEP_RUNNING = (
        "sweep_running",
        "Another sweep of this staging root is under way.",
        "Wait for it to end.",
    )
    SWEEP_FAILED = (
        "sweep_failed",
        "The sweep of this staging root has failed unexpectedly; the log says how.",
        "Read the log; the next sweep tries again.",
    )
    LIMIT_EXCEEDED = (
        "limit_exceeded",
        "The staging root is beyond its limit, and nothing more may go by itself.",
        "Clear runs by a click, see why the others are blocked, or make more room.",
    )
    # what lies on a staging disk and is no known run
    UNKNOWN_DIRECTORY = (
        "unknown_directory",
        "The directory looks like a run, and the database does not know it.",
        "Let it be looked at again; discovery adopts a run whose record can be read.",
    )
    MISPLACED_RUN = (
        "misplaced_run",
        "The directory looks like a run, and lies where no run can lie.",
        "Find out where it belongs and move it there; it is not removed by itself, however old it gets.",
    )
    STRAY_FILE = (
        "stray_file",
        "It lies among the runs and belongs to none.",
        "Move it into the run that it belongs to, or take it away by hand; this program never removes it.",
    )
    ORPHANS_ESCALATED = (
        "orphans_escalated",
        "What belongs to no known run has grown too old or too large to be left alone.",
        "An admin decides what becomes of it: adopt it, move it, or remove it by hand.",
    )
    # the watchdog's
    STALLED = (
        "stalled",
        "The run has stood in one state for longer than its instrument's runs should.",
        "Look at the data wizard on the lab PC: see that it runs and that its queue moves.",
    )
    NO_PROGRESS = (
        "no_progress",
        "A clear holds its lock and makes no progress.",
        "Check the disks it works on. If its process hangs, end it: recovery settles the clear.",
    )
    SCHEDULE_MISSED = (
        "schedule_missed",
        "A timed task has not run when it should have.",
        "Check that the task clusters run; migrate, up and worker put right what is missing or due too late.",
    )
    CLUSTER_SILENT = (
        "cluster_silent",
        "A task cluster has given no sign of life.",
        "Start it again (up, or worker); what it was doing is settled by recovery.",
    )
    HOST_UNSERVED = (
        "host_unserved",
        "Nobody serves the staging roots of this host.",
        "Start this program on that host (up, or worker).",
    )
    HOLD_ENDING = (
        "hold_ending",
        "A hold ends soon.",
        "Its owner lays another one, or lets the run go.",
    )
    HOLD_OLD = (
        "hold_old",
        "A hold by a file has lasted for long.",
        "Take the file .exlab-hold out of the run if it is needed no more.",
    )
    # outcomes of an attempt, no gate's
    INTERRUPTED = (
        "interrupted",
        "The attempt was interrupted before anything was removed; the run is back in its place.",
        "Try again.",
    )
    WITHDRAWN = (
        "withdrawn",
        "Somebody stopped the batch before this clear had begun; nothing was touched.",
        "Ask for it again if it should go after all.",
    )
    PATH_OCCUPIED = (
        "path_occupied",
        "Something else lies at the run's path, so the run could not be put back.",
        "Compare the two folders: the run lies whole under its hidden name. Move one away, then run recover.",
    )
    REMOVAL_INCOMPLETE = (
        "removal_incomplete",
        "Cleared, but some files could not be removed.",
        "Let the account that runs this program remove what is left; it is tried again every minute.",
    )
    PLAN_MISSING = (
        "plan_missing",
        "The plan of this attempt cannot be found, so nothing more is removed.",
        "Restore the data directory from its backup, or compare what is left with the NAS and remove it by hand.",
    )
    DATABASE_ERROR = (
        "database_error",
        "The database could not record the clear.",
        "Check the database and its disk, then try again.",
    )
    STORAGE_ERROR = (
        "storage_error",
        "Something that has to be written or renamed could not be.",
        "See the detail: make room on that disk, or check it, then try again.",
    )
    # telling the NAS, after a clear
    NAS_NOT_WRITABLE = (
        "nas_not_writable",
        "This program may not write the run's record on the NAS.",
        "The clear is complete. For the history to travel, let this program's account write the folder there.",
    )
    TOMBSTONE_MISSING = (
        "tombstone_missing",
        "What was kept of the cleared run cannot be read.",
        "The clear is complete. Restore the data directory from its backup if the tombstones matter to you.",
    )
