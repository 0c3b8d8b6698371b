"""The closed list of ExLab-Wizard's files at the top of `.exlab-wizard`, which a clear may remove."""

import re
from typing import Protocol

# Names of records; the wizard replaces each by `<name>.<random>.tmp`, under the lock `<name>.lock`.
RECORDS = ("ingest.json", "sync_state.json", "creation.json", "readme_fields.json")
# Files that the wizard always leaves in a verified run; for test labs, demonstration and samples.
LEFT_BY_THE_WIZARD = (
    "ingest.json",
    "ingest.json.lock",
    "creation.json",
    "creation.json.lock",
    "checksums.sha256",
)
# A writer may still use a younger draft.
STALE_DRAFT_SECONDS = 3600

# The tombstone keeps each of these files whole before it goes.
_RECORD = "|".join(re.escape(name) for name in RECORDS)
_KNOWN = re.compile(rf"(?:{_RECORD})(?:\.lock)?|checksums\.sha256|wizard\.[^/]*\.log(?:\.\d{{1,3}})?".encode())
_DRAFT = re.compile(rb"(?:[^/]+\.json|checksums\.sha256)\.[A-Za-z0-9_]{4,16}\.tmp")
# What this program lays on the NAS beside the copy's record comes back with a run that is copied back.
RECEIPTS = b"receipts"
_RECEIPT = re.compile(rb"receipts/[^/]+")
_LARGE_RECEIPT = re.compile(rb"receipts/(?:receipt-[0-9a-f]{32}-\d+\.json|files-[0-9a-f]{32}\.jsonl)")
_LOCK = re.compile(rb"[^/]+\.json\.lock")
# Where others may write `.exlab-wizard`, `filelock` 4.3 links a lock into
# `.filelock-<process>/<random>/<random>/lock.db` and removes that afterwards; a crash leaves it behind.
_LINK_FOLDER = re.compile(rb"\.filelock-[A-Za-z0-9_-]+(?:/[0-9a-f]{16}){0,2}")
_LINKED_LOCK = re.compile(rb"\.filelock-[A-Za-z0-9_-]+(?:/[0-9a-f]{16}){2}/lock\.db")


class _File(Protocol):
    @property
    def is_file(self) -> bool: ...

    @property
    def size(self) -> int: ...


def is_known(name: bytes) -> bool:
    """Whether a file of this name belongs at the top of `.exlab-wizard`."""
    return _KNOWN.fullmatch(name) is not None


def is_receipt(name: bytes, file: _File) -> bool:
    """Whether this is the folder of receipts, or a plain file directly in it."""
    return _RECEIPT.fullmatch(name) is not None if file.is_file else name == RECEIPTS


def grows_with_the_run(name: bytes) -> bool:
    """Whether a receipt's file is as long as the list of the run's files, or as its history."""
    return _LARGE_RECEIPT.fullmatch(name) is not None


def is_draft(name: bytes) -> bool:
    """Whether this names a draft `<name>.<random>.tmp`, which a crash leaves."""
    return _DRAFT.fullmatch(name) is not None


def is_link_folder(name: bytes) -> bool:
    """Whether a folder of this name holds only the second name of a lock."""
    return _LINK_FOLDER.fullmatch(name) is not None


def may_be_left(name: bytes, file: _File) -> bool:
    """Whether a crash of the wizard leaves this entry."""
    if not file.is_file:
        return is_link_folder(name)
    return is_draft(name) or is_linked_lock(name, file)


def is_linked_lock(name: bytes, file: _File) -> bool:
    """Whether this is a lock's second name: empty, in such a folder."""
    return file.is_file and file.size == 0 and _LINKED_LOCK.fullmatch(name) is not None


def may_be_lock(name: bytes) -> bool:
    """Whether a lock of the wizard's `filelock` library has this name."""
    return _LOCK.fullmatch(name) is not None


def is_lock(name: bytes, file: _File) -> bool:
    """Whether a file at the top of `.exlab-wizard` is a wizard's lock."""
    # `filelock` touches a lock at every take (3.16) or deletes it at every release (3.20 to 3.25): until the commit it
    # may come, go or change, so no comparison counts it, and it goes as it is found.
    return file.is_file and file.size == 0 and may_be_lock(name)
