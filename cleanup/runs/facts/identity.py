"""A run's identity, and whether the directory at its path is that run."""

import uuid

from cleanup.models import Run
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage import linux
from cleanup.storage.staging import fences, records, run_tree
from cleanup.storage.staging.records import Records


def of(status: linux.FileStatus | run_tree.Scan, record: Records | None) -> str:
    """Return a directory's identity: inode, birth time and origin of its record, `-` for unknown."""
    return f"{status.ino}:{status.birth_ns or '-'}:{record.origin if record else '-'}"


def same(recorded: str, seen: str) -> bool:
    """Return whether two identities are one run's; an unknown part counts as equal.

    So does a history beside a `creation.json`: a run may get a record of the other format.
    """
    return all(
        "-" in (ours, theirs) or ours == theirs or _of_creation(ours) != _of_creation(theirs)
        for ours, theirs in zip(recorded.split(":"), seen.split(":"), strict=True)
    )


def _of_creation(part: str) -> bool:
    return part.startswith(records.OF_CREATION)


def standing_conflict(run: Run) -> Finding | None:
    """Return what blocks every clear of a run that could not be put back; else None."""
    key = run.conflict
    return conflict_of(key) if key is not None else None


def conflict_of(attempt: uuid.UUID) -> Finding:
    """Return an attempt's conflict, with the name under which its run lies."""
    return Finding(Reason.PATH_OCCUPIED, f"the run lies beside it as {fences.fence_name(attempt.hex).decode()}")
