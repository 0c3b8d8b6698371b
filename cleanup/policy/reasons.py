"""The closed list of reasons: a stable code and one sentence each, the same on page, log, ledger and JSON."""

import enum


class Reason(enum.StrEnum):
    """Why a gate does not pass. The value is the code; `sentence` says it to a person."""

    sentence: str

    def __new__(cls, code: str, sentence: str = "") -> "Reason":
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        return member

    # state
    NOT_SYNC_VERIFIED = "not_sync_verified", "The data wizard has not verified this run on the NAS yet."
    INGEST_UNREADABLE = "ingest_unreadable", "The run's ingest.json cannot be read."
    INGEST_SCHEMA_UNSUPPORTED = (
        "ingest_schema_unsupported",
        "The run's ingest.json was written by a version of the wizard that is not known here.",
    )
    INGEST_DISAGREES = (
        "ingest_disagrees",
        "The run's ingest.json contradicts itself, the place it lies in, or what was recorded before.",
    )
    ALREADY_CLEARED = "already_cleared", "This run has been cleared."
    # clock
    NO_VERIFIED_TIMESTAMP = "no_verified_timestamp", "The verification carries no usable time."
    CLOCK_UNTRUSTED = "clock_untrusted", "The recorded verification lies in the future: a clock is wrong."
    # retention
    POLICY_MANUAL = "policy_manual", "The policy is manual: an operator decides."
    RETENTION_NOT_ELAPSED = "retention_not_elapsed", "The time that the policy keeps a run is not over yet."
    # path
    ROOT_NOT_MOUNTED = "root_not_mounted", "The staging root does not carry its token: is the disk mounted?"
    UNSAFE_PATH = "unsafe_path", "A symbolic link or an impossible name lies on the way to the run or inside it."
    MISSING_DIRECTORY = "missing_directory", "The run's directory is not on the staging disk."
    IDENTITY_MISMATCH = "identity_mismatch", "Another directory lies where this run was seen before."
    MOUNT_INSIDE = "mount_inside", "Another filesystem is mounted on the way to the run or inside it."
    SPECIAL_FILE = "special_file", "The run holds something that is neither a file nor a directory."
    PERMISSION_DENIED = "permission_denied", "Something in the run may not be read or removed by this program."
    TREE_TOO_DEEP = "tree_too_deep", "The run is nested too deeply to be handled safely."
    STAGING_IO_ERROR = "staging_io_error", "The staging disk reported an error."
    STRAY_FENCE = "stray_fence", "A folder that a clear has put aside belongs to no clear that is under way here."
    LOOK_FAILED = "look_failed", "Looking at this run failed unexpectedly; the log says how."
    NOT_LOOKED_AT = "not_looked_at", "Nobody has looked at this run's directory yet."
    CLEARING_UNSUPPORTED = (
        "clearing_unsupported",
        "This kernel or filesystem lacks the calls that a safe clear needs.",
    )
    DATABASE_NOT_DURABLE = (
        "database_not_durable",
        "The database may lose what it has committed, so nothing is cleared.",
    )
    # unchanged
    NOT_IN_MANIFEST = "not_in_manifest", "The run holds files that the verified manifest does not list."
    MISSING_FILE = "missing_file", "The manifest lists files that are not in the run."
    CHANGED_SINCE_VERIFICATION = "changed_since_verification", "Files are newer than the verification."
    NOT_QUIET = "not_quiet", "Something was written in the run a moment ago."
    WRITER_ACTIVE = "writer_active", "A program is writing in the run."
    UNEXPECTED_METADATA = "unexpected_metadata", "The run's .exlab-wizard folder holds something unknown."
    MANIFEST_MISSING = "manifest_missing", "The run has no manifest of checksums."
    MANIFEST_EMPTY = "manifest_empty", "The run's manifest lists no file."
    MANIFEST_UNREADABLE = "manifest_unreadable", "The run's manifest of checksums cannot be read."
    # proof
    NAS_NOT_CONFIGURED = "nas_not_configured", "No NAS root is registered for this staging root."
    NAS_NOT_MOUNTED = "nas_not_mounted", "The NAS root does not carry its token: is the NAS mounted?"
    NAS_IDENTITY_MISMATCH = "nas_identity_mismatch", "Another NAS is mounted than the one registered."
    NAS_SAME_FILESYSTEM = (
        "nas_same_filesystem",
        "The NAS copy lies on the same filesystem: that is no second copy.",
    )
    NAS_TIMEOUT = "nas_timeout", "The NAS did not answer in time."
    NAS_IO_ERROR = "nas_io_error", "The NAS reported an error."
    NAS_MISSING_FILE = "nas_missing_file", "The NAS does not hold all files of the run."
    NAS_SIZE_MISMATCH = "nas_size_mismatch", "Files on the NAS have another size."
    NAS_CHECKSUM_MISMATCH = "nas_checksum_mismatch", "Files differ from the verified checksums."
    NOT_COMPARED = "not_compared", "The run has not been compared with the NAS as the policy asks."
    # free
    ALREADY_CLEARING = "already_clearing", "This run is being cleared."
    # attempts
    PARKED = "parked", "Three attempts in a row have failed: the schedule waits until something changes."
    # outcomes of an attempt, no gate's
    INTERRUPTED = (
        "interrupted",
        "The attempt was interrupted before anything was removed; the run is back in its place.",
    )
    PATH_OCCUPIED = "path_occupied", "Something else lies at the run's path, so the run could not be put back."
    REMOVAL_INCOMPLETE = "removal_incomplete", "Cleared, but some files could not be removed."
    PLAN_MISSING = "plan_missing", "The plan of this attempt cannot be found, so nothing more is removed."
    DATABASE_ERROR = "database_error", "The database could not record the clear."
    STORAGE_ERROR = "storage_error", "The plan or the record of the clear could not be written."
