"""Receipts beside a twin's record. A file is laid whole or not at all, under a name that was not there."""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cleanup.storage import errors, handles, linux, run_paths
from cleanup.storage.errors import MetAt, UnsafePath
from cleanup.storage.nas import record
from cleanup.storage.nas.record import ILL, NotTold
from cleanup.storage.run_paths import show
from cleanup.storage.staging import records
from cleanup.storage.staging.metadata import RECEIPTS
from cleanup.storage.staging.records import ingest_json as ingest

# A crash leaves a draft; the next try begins it anew.
DRAFT_PREFIX = b".exlab-receipt-"
# These filesystems cannot rename without replacing, but most of them can link.
_CANNOT_RENAME = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


@dataclass(frozen=True)
class Part:
    """Some bytes of a file, from the offset `at`; sizes in bytes, `sha256` in hex of the whole file."""

    name: bytes
    at: int
    data: bytes
    size: int
    sha256: str

    @property
    def is_last(self) -> bool:
        return self.at + len(self.data) == self.size


def lay(root: int, twin: str, run_path: str, history: list[dict[str, Any]], part: Part, *, form: str) -> int:
    """Lays one part of a receipt in the twin's `receipts/`; returns how many bytes of the file are there.

    Parts come in order; the last one gives the file its name. A file that is there whole already is left alone.
    `root` and `history` as for `record.tell`, which must have told this history before. Raises NotTold:

    - `nas_missing_file`, `ingest_disagrees`, …: as `record.tell`; the twin's record is not that of this clear;
    - `nas_checksum_mismatch`: another file has this name, or other bytes arrived;
    - `nas_not_writable`, `storage_error`, `unsafe_path`, `nas_io_error`: as `record.tell`.
    """
    try:
        with record.folder_of(root, twin) as folder:
            mode = _expect_told(folder, run_path, history, form)
            with _receipts_in(folder) as receipts:
                return _lay(receipts, part, mode)
    except UnsafePath as error:
        raise NotTold("unsafe_path", str(error)) from None
    except records.NoCopy as error:
        raise NotTold(error.reason, error.detail) from None
    except ingest.IngestError as error:
        raise NotTold(error.reason, f"on the NAS: {error.detail}") from None
    except OSError as error:
        reason, detail = errors.reason_of(error, MetAt.NAS_RECORD), f"receipts on the NAS: {errors.words_of(error)}"
        raise NotTold(reason, detail, ill=error.errno in ILL) from None


def _expect_told(folder: int, run_path: str, history: list[dict[str, Any]], form: str) -> int:
    # Returns the mode of the record: who may read that may read the receipt.
    path, known = run_paths.parse_run_path(run_path), records.by_name(form)
    with record.opened_record(folder, known) as found:
        if known.told(found.data, path, history) is not None:
            raise NotTold("ingest_disagrees", "the record on the NAS does not say that the run was cleared")
        return stat.S_IMODE(found.status.st_mode) & 0o666


@contextlib.contextmanager
def _receipts_in(folder: int) -> Iterator[int]:
    with contextlib.suppress(FileExistsError):
        os.mkdir(RECEIPTS, dir_fd=folder)
    with handles.opened(handles.open_beneath(folder, RECEIPTS)) as receipts:
        mode = stat.S_IMODE(os.fstat(folder).st_mode)
        if stat.S_IMODE(os.fstat(receipts).st_mode) != mode:
            os.fchmod(receipts, mode)  # who may read the copy may read its receipts
        record.sync(folder)
        yield receipts


def _lay(receipts: int, part: Part, mode: int) -> int:
    if not part.at and (there := _size_if_same(receipts, part)):
        record.sync(receipts)  # a crash may have stopped an earlier try before its sync
        return there
    draft = DRAFT_PREFIX + part.name
    with handles.opened(_open_draft(receipts, draft, begin=not part.at)) as descriptor:
        if os.fstat(descriptor).st_size != part.at:
            raise NotTold("nas_checksum_mismatch", f"another program writes {show(draft)} on the NAS")
        handles.write_all(descriptor, part.data)
        if part.is_last:
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
            if _sha256(descriptor) != part.sha256:
                raise NotTold("nas_checksum_mismatch", f"other bytes of {show(part.name)} arrived on the NAS")
            _name(receipts, draft, part.name)
            record.sync(receipts)
    return part.at + len(part.data)


def _size_if_same(receipts: int, part: Part) -> int:
    try:
        with handles.opened_file(receipts, part.name) as descriptor:
            if _sha256(descriptor) != part.sha256:
                raise NotTold("nas_checksum_mismatch", f"another file {show(part.name)} lies on the NAS")
            return part.size
    except FileNotFoundError:
        return 0


def _open_draft(receipts: int, draft: bytes, *, begin: bool) -> int:
    if not begin:
        return handles.open_beneath(receipts, draft, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(draft, dir_fd=receipts)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(draft, flags, 0o600, dir_fd=receipts)


def _sha256(descriptor: int) -> str:
    sha256, at = hashlib.sha256(), 0
    while part := os.pread(descriptor, 1 << 20, at):
        sha256.update(part)
        at += len(part)
    return sha256.hexdigest()


def _name(receipts: int, draft: bytes, name: bytes) -> None:
    try:
        linux.rename_noreplace(receipts, draft, receipts, name)
    except OSError as error:
        if error.errno not in _CANNOT_RENAME:
            raise
        os.link(draft, name, src_dir_fd=receipts, dst_dir_fd=receipts, follow_symlinks=False)
        os.unlink(draft, dir_fd=receipts)
