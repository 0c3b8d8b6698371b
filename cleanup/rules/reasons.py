"""The closed list of reasons: a stable code, a sentence, and advice."""

import enum


class Reason(enum.StrEnum):
    """Why a gate does not pass; `sentence` and `advice` are for people."""

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
        "The run's record (ingest.json or sync_state.json) cannot be read.",
        "Look at the file on the staging disk. If it is damaged, restore it from a backup: the wizard does not mend "
        "it, and this program never writes it before a clear.",
    )
    INGEST_SCHEMA_UNSUPPORTED = (
        "ingest_schema_unsupported",
        "The run's record was written by a version of the wizard that is not known here.",
        "Update this program; until then such runs stay.",
    )
    INGEST_DISAGREES = (
        "ingest_disagrees",
        "The run's record contradicts itself, the place it lies in, or what was recorded before.",
        "Find out who wrote the record: a run with a changed history is not cleared. If the run's folder was "
        "renamed on both sides, an admin says so on the run's page (“It is the same run”), or for all runs of a folder "
        "with reregister --moved OLD NEW.",
    )
    ALREADY_CLEARED = (
        "already_cleared",
        "This run has been cleared.",
        "You need to do nothing. What is copied back from the NAS is a run that came back, and can be "
        "cleared again. Files that another program left here stay: compare them with the NAS, then remove by hand.",
    )
    # clock
    NO_VERIFIED_TIMESTAMP = (
        "no_verified_timestamp",
        "The verification carries no usable time.",
        "Restore the record from a backup if it was damaged. The wizard verifies a run once, and this program makes up "
        "no time; without one the run stays. “Verify again here” shows whether both sides are the same.",
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
        "Compare what it would have cleared with what people cleared, and promote the policy; or clear the run by a "
        "click.",
    )
    ACCEPTED_BYTES = (
        "accepted_bytes",
        "An admin has accepted the bytes of this run in place of its manifest, so only a person clears it.",
        "Clear it by a click; every byte is read again then, on both sides.",
    )
    # hold
    HELD = (
        "held",
        "This run is on hold.",
        "Ask the owner of the hold. It can be released; one that a file lays ends when the file is taken away.",
    )
    # path
    ROOT_NOT_MOUNTED = (
        "root_not_mounted",
        "The staging disk does not carry the file that names it: is it mounted?",
        "Mount the staging disk. If the disk was replaced, an admin registers the root again (reregister).",
    )
    UNSAFE_PATH = (
        "unsafe_path",
        "A symbolic link or an impossible name lies on the way to the run or inside it.",
        "Put the file that it points to in the place of the link, as it was when the run was verified.",
    )
    MISSING_DIRECTORY = (
        "missing_directory",
        "The run's directory is not on the staging disk.",
        "If the run was moved, move it back; this program has not removed it. If its folder was renamed on the NAS "
        "too, an admin says so with reregister --moved OLD NEW.",
    )
    IDENTITY_MISMATCH = (
        "identity_mismatch",
        "Another directory lies where this run was seen before.",
        "If it is the same run, restored or copied, an admin says so on the run's page (“It is the same run”), or with "
        "reregister.",
    )
    MOUNT_INSIDE = (
        "mount_inside",
        "Another filesystem is mounted on the way to the run or inside it.",
        "Unmount what is mounted there.",
    )
    OWN_STORAGE = (
        "own_storage",
        "The run's folder is storage of its own: a subvolume, or a folder with a quota project of its own.",
        "An admin copies the run into a plain folder of the same name, or takes the quota project off the run and its "
        ".exlab-wizard (chattr -p 0). A folder that was copied is the same run after reregister.",
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
        "This program cannot clear it. Compare the run with the NAS, and remove it by hand. Do not move its folders: "
        "then it is no more what was verified.",
    )
    STAGING_IO_ERROR = (
        "staging_io_error",
        "The staging disk reported an error.",
        "Check the staging disk (dmesg, SMART) before it loses data.",
    )
    MARKER_NOT_SEEN = (
        "marker_not_seen",
        "The marker of this staging root was laid and is not seen there, so nothing tells the disk from the NAS.",
        "Check the staging disk and how it is mounted: a new empty file at its top must be seen there at once.",
    )
    MARKER_MALFORMED = (
        "marker_malformed",
        "A name on the NAS begins like the marker of a staging disk and holds no UUID, so it is ignored.",
        "Rename or delete it there, if it was not made on purpose.",
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
        "This run's directory was not looked at yet.",
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
        "If they belong to the run, copy them to the NAS too and “Verify again here”: what is the same on both sides "
        "an admin may accept. If not, an admin sets them aside: they are moved beside the run; nothing is removed.",
    )
    MISSING_FILE = (
        "missing_file",
        "The manifest lists files that are not in the run.",
        "Find out who removed them, and copy them back from the NAS. If they are rightly gone: “Verify again here”, "
        "and an admin may accept what is the same on both sides.",
    )
    CHANGED_SINCE_VERIFICATION = (
        "changed_since_verification",
        "Files have changed since the verification, or are newer than it.",
        "Clear it with every byte compared: what is the same on both sides may go. If it is not, “Verify again here” "
        "names the files.",
    )
    SYNC_STATE_DIFFERS = (
        "sync_state_differs",
        "The wizard's sync_state.json does not vouch for every file as it is.",
        "See on the lab PC why the wizard has not copied and verified these files; it does so file by file.",
    )
    NOT_QUIET = (
        "not_quiet",
        "Something was written in the run a moment ago.",
        "Wait; it opens ten minutes after the last write.",
    )
    FUTURE_DATED = (
        "future_dated",
        "Files of the run are dated in the future, so a clock is wrong and their times tell nothing.",
        "Wait for ten minutes: if nothing changes meanwhile, the run can be cleared with every byte compared. Set the "
        "clock of the instrument's computer, or that of this host, whichever is wrong.",
    )
    WRITER_ACTIVE = (
        "writer_active",
        "A program is writing in the run.",
        "Close the program, or wait until it has finished. A file called .nfs… or .fuse_hidden… was deleted while a "
        "program has it open; it goes by itself when that ends.",
    )
    UNEXPECTED_METADATA = (
        "unexpected_metadata",
        "The run's .exlab-wizard folder holds something unknown.",
        "An admin sets an unknown file aside (“Set files aside”). A folder in it is taken out by hand.",
    )
    MANIFEST_MISSING = (
        "manifest_missing",
        "The run has no manifest of checksums.",
        "Press “Verify again here”, which compares every byte of both sides; if they are the same, an admin may accept "
        "them in place of the manifest.",
    )
    MANIFEST_EMPTY = (
        "manifest_empty",
        "The run's manifest lists no file.",
        "Press “Verify again here”, which compares every byte of both sides; if they are the same, an admin may accept "
        "them in place of the manifest.",
    )
    MANIFEST_UNREADABLE = (
        "manifest_unreadable",
        "The run's manifest of checksums cannot be read.",
        "Press “Verify again here”, which compares every byte of both sides; if they are the same, an admin may accept "
        "them in place of the manifest.",
    )
    # proof
    NAS_NOT_CONFIGURED = (
        "nas_not_configured",
        "No NAS root is registered for this staging root.",
        "An admin registers the NAS root (add_staging_root NAME PATH --nas-root PATH).",
    )
    NAS_NOT_MOUNTED = (
        "nas_not_mounted",
        "The NAS does not carry the file that names it: is it mounted?",
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
    NAS_MOUNT_NOT_ACCEPTED = (
        "nas_mount_not_accepted",
        "The NAS is mounted in a way that is not accepted as a second place.",
        "Mount the NAS itself (NFS, SMB, sshfs), or let an admin accept this kind of mount; docs/mounts.md says which.",
    )
    NAS_IS_STAGING = (
        "nas_is_staging",
        "The NAS shows a staging disk: what lies there may be the run itself, and no second copy.",
        "Mount the NAS alone, without the staging disk in it. If a mirror copied the marker, delete it on the NAS.",
    )
    NAS_TIMEOUT = (
        "nas_timeout",
        "The NAS did not answer in time.",
        "Check the NAS and the network. Automatic clearing, and for a day also batches, ask it again by themselves.",
    )
    NAS_SLOW = (
        "nas_slow",
        "The NAS answers, but not in time for this run's copy.",
        "It is asked again by itself, after all other runs. If it stays so, see whether the copy lies on tape, in a "
        "cloud, or on a failing disk.",
    )
    NAS_IO_ERROR = (
        "nas_io_error",
        "The NAS reported an error.",
        "Check the NAS, the network and the rights of the account that runs this program.",
    )
    NAS_MOUNT_BELOW = (
        "nas_mount_below",
        "Another filesystem is mounted on the way to the run's copy on the NAS.",
        "An admin registers it as the instrument's NAS root (add_staging_root NAME PATH --nas-root EQUIPMENT=PATH); "
        "the detail names it. What is mounted in a copy itself has to be unmounted.",
    )
    AMBIGUOUS_TWIN = (
        "ambiguous_twin",
        "The place of this run's copy on the NAS is also that of another run.",
        "Compare both runs with the NAS by hand. An admin may choose a layout that keeps them apart.",
    )
    TWIN_UNNAMED = (
        "twin_unnamed",
        "The copy on the NAS does not say that it is this run's.",
        "Let the policy ask for the proof by checksum: then the bytes themselves are compared.",
    )
    TWIN_OVERWRITTEN = (
        "twin_overwritten",
        "The copy of a cleared run on the NAS was overwritten by another run's.",
        "Restore the cleared run's data from a backup of the NAS. An admin chooses a layout that keeps runs apart.",
    )
    NAS_MISSING_FILE = (
        "nas_missing_file",
        "The NAS does not hold all files of the run.",
        "Copy the missing files from the staging disk to the run's folder on the NAS; they are compared from then on. "
        "The wizard does not copy a verified run again.",
    )
    NAS_SIZE_MISMATCH = (
        "nas_size_mismatch",
        "Files on the NAS have another size.",
        "Keep both copies. “Verify again here” says which side is as the manifest says: put that in the place of the "
        "other, and find out who changed it.",
    )
    NAS_CHECKSUM_MISMATCH = (
        "nas_checksum_mismatch",
        "Files differ from the verified checksums.",
        "Keep both copies. “Verify again here” names the files and says which side is as the manifest says: put that "
        "in the place of the other. If both sides are the same, an admin may accept them.",
    )
    ACCEPTANCE_VOID = (
        "acceptance_void",
        "The bytes here or on the NAS are not those that an admin has accepted.",
        "Find out what changed them, then verify again here (“Verify again here”); an admin decides anew.",
    )
    ONLY_HERE = (
        "only_here",
        "The run has attributes, access lists or empty folders that the NAS lacks.",
        "Copy them to the NAS with a program that keeps them. Or an admin lets the policy tell of them instead of "
        "blocking; on the command line clear --accept-loss takes the run all the same.",
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
        "The pass had taken as much as one pass may.",
        "Wait: it comes first in the next pass. An admin may set a larger budget.",
    )
    # breaker
    BREAKER_OPEN = (
        "breaker_open",
        "Something abnormal has stopped automatic clearing on this staging root.",
        "See what it was, and let automatic clearing go on once it is understood.",
    )
    # a sweep as a whole
    SWEEP_RUNNING = (
        "sweep_running",
        "Another pass over this staging root is under way.",
        "Wait for it to end.",
    )
    SWEEP_FAILED = (
        "sweep_failed",
        "The pass over this staging root has failed unexpectedly; the log says how.",
        "Read the log; the next pass tries again.",
    )
    CLEARING_FREES_NOTHING = (
        "clearing_frees_nothing",
        "The latest clears on this disk gave back next to no space, so no run goes before its time.",
        "Find out what holds the space: a snapshot (btrfs, ZFS, LVM), copies that share blocks, or a program that has "
        "removed files open. When space comes free, or a clear by hand frees some, automatic clearing goes on by "
        "itself. Runs whose time is over go as always.",
    )
    LIMIT_EXCEEDED = (
        "limit_exceeded",
        "The staging root is beyond its limit, and nothing more may go by itself.",
        "Clear runs by a click, see why the others are blocked, or make more room.",
    )
    DISK_NEARLY_FULL = (
        "disk_nearly_full",
        "A staging disk is nearly full, or soon will be.",
        "Make room: clear runs that are safe. If too few are, see what the others wait for, or move other files away.",
    )
    # what lies on a staging disk and is no known run
    UNKNOWN_DIRECTORY = (
        "unknown_directory",
        "The directory looks like a run, and the database does not know it.",
        "Let it be looked at again; discovery adopts a run whose record can be read.",
    )
    MISPLACED_RUN = (
        "misplaced_run",
        "The directory looks like a run, and lies where its record does not place it.",
        "Find out where it belongs and move it there; it is not removed by itself, however old it gets. A run "
        "outside of Runs and TestRuns, or with another name, is found as soon as its own record names the place.",
    )
    PASSED_OVER = (
        "passed_over",
        "The folder looks like an instrument's, with runs in it, but is passed over because of its name.",
        "Nothing in it is discovered, counted or cleared. If an instrument writes here, give it another name in the "
        "data wizard, one that begins with no dot; if the folder was put away, as into a bin, move it off this disk.",
    )
    STRAY_FILE = (
        "stray_file",
        "It lies among the runs and belongs to none.",
        "Move it into the run that it belongs to, or take it away by hand; this program never removes it.",
    )
    SHELL_LEFT = (
        "shell_left",
        "The data wizard has made an empty folder where a run was taken away.",
        "It holds no data. Remove it by a click; what is in it is kept in the data directory. "
        "If the run's own folder lies beside it under a hidden name, move the empty one away by hand first.",
    )
    NOT_A_SHELL = (
        "not_a_shell",
        "The folder is not, or no longer, the empty one that the data wizard made, so it stays.",
        "Look into it. If the wizard has begun a new run there, discovery takes it as a run.",
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
        "No worker serves the staging roots of this host.",
        "Start this program on that host (up, or worker).",
    )
    CLOCK_IN_DOUBT = (
        "clock_in_doubt",
        "The clock of a host is in doubt: no hold ends by it, and timed passes that would use it stop.",
        "Compare it with another clock. If it is wrong, set it; if it is right, say “Go on” at the safety stop.",
    )
    CLOCK_WENT_BACK = (
        "clock_went_back",
        "The clock of a host was ahead and was set back; timed tasks that waited for a wrong time were started again.",
        "Find out why it was wrong: perhaps an empty battery, or a wrong time server. This message ends after a day.",
    )
    HOLD_ENDING = (
        "hold_ending",
        "A hold ends soon.",
        "Extend it if the run has to stay, or let it end.",
    )
    HOLD_OLD = (
        "hold_old",
        "A hold by a file has lasted for long.",
        "Take the file .exlab-hold out of the run if it is needed no more.",
    )
    REMINDER_DUE = (
        "reminder_due",
        "A person wanted to be reminded of this run now.",
        "Look at the run, then say “Done” on its page.",
    )
    # outcomes of an attempt, no gate's
    INTERRUPTED = (
        "interrupted",
        "The attempt was interrupted before anything was removed; the run is back in its place.",
        "Wait first: what was asked for by a click is tried again by itself, up to three times. "
        "If it stays, see why in the log, and try again.",
    )
    WITHDRAWN = (
        "withdrawn",
        "The clear was withdrawn before it had begun, as when its batch is stopped; nothing was touched.",
        "Ask for it again if it should go after all.",
    )
    PATH_OCCUPIED = (
        "path_occupied",
        "Something else lies at the run's path, so the run could not be put back.",
        "Compare the two folders: the run lies whole under its hidden name. Move one away; "
        "within a minute, or when you run recover, the run is put back. Until then it cannot be cleared.",
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
        "Check the database and its disk. What was asked for by a click is tried again by itself, up to three times.",
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
        "The clear is complete. If you need what was kept of the run, restore the data directory from its backup.",
    )
