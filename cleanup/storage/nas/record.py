"""The end of a run's history, written to its twin's record. Besides receipts it is our only write to a run on the NAS.

It replaces only a record found to be the beginning of ours; in doubt it writes nothing.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cleanup.rules.findings import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage import errors, handles, run_paths
from cleanup.storage.errors import MetAt, UnsafePath
from cleanup.storage.run_paths import show
from cleanup.storage.staging import records
from cleanup.storage.staging.records import RecordFormat
from cleanup.storage.staging.records import ingest_json as ingest

# Not the prefix of a fence: a draft must not look like a fenced run. A crash leaves a draft, the next try removes it.
DRAFT_PREFIX = b".exlab-telling-"
_BLOCK = 1 << 20
_WITHOUT_WAITING = os.O_NOFOLLOW | os.O_NONBLOCK
# Errors of the whole mount, not of one run: then no other run needs to ask.
ILL = frozenset(
    {
        errno.EIO,
        errno.ESTALE,
        errno.ENOTCONN,
        errno.ENODEV,
        errno.ENXIO,
        errno.ETIMEDOUT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.EREMOTEIO,
    }
)


class NotTold(Exception):
    """Why the twin's record stays unchanged."""

    def __init__(self, reason: str, detail: str, *, ill: bool = False) -> None:
        super().__init__(f"{reason}: {detail}")
        self.problem = Finding(Reason(reason), detail)
        self.ill = ill


@dataclass(frozen=True)
class OpenRecord:
    """A twin's record as it was read; its descriptor stays open, so that no other file can get its inode."""

    form: RecordFormat
    descriptor: int
    data: bytes
    status: os.stat_result


def draft_name(attempt: str) -> bytes:
    """Returns the name of an attempt's new record until it replaces the old one."""
    return DRAFT_PREFIX + attempt.encode("ascii")


def tell(
    root: int, twin: str, run_path: str, history: list[dict[str, Any]], attempt: str, *, form: str = "ingest"
) -> bool:
    """Gives the twin's record this history, which ends with `cleared`; False if it has it.

    `root`: the open NAS root, its token checked; `history`: `RecordFormat.message` of our final record. Other keys are
    kept. Raises NotTold, with nothing changed:

    - `nas_missing_file`: no such run, or no record in it;
    - `ingest_disagrees`, `ingest_unreadable`, `ingest_schema_unsupported`: its record is no beginning of ours;
    - `writer_active`: the wizard, or another process of ours, uses it;
    - `nas_not_writable`, `storage_error`: no permission, or no room;
    - `unsafe_path`, `special_file`, `mount_inside`: links, mounts, no plain file;
    - `nas_io_error`: anything else; only here it may have changed, which the next try finds.
    """
    try:
        path, known = run_paths.parse_run_path(run_path), records.by_name(form)
        with folder_of(root, twin) as folder, _wizard_locked(folder, known):
            draft = draft_name(attempt)
            _take_away(folder, draft)
            with opened_record(folder, known) as record:
                data = known.told(record.data, path, history)
                if data is None:
                    os.fsync(record.descriptor)
                else:
                    _replace(folder, draft, record, data)
            sync(folder)  # also without a write: a crash may have stopped an earlier try before its sync
            return data is not None
    except UnsafePath as error:
        raise NotTold("unsafe_path", str(error)) from None
    except records.NoCopy as error:
        raise NotTold(error.reason, error.detail) from None
    except ingest.IngestError as error:
        raise NotTold(error.reason, f"on the NAS: {error.detail}") from None
    except BlockingIOError:
        raise NotTold("writer_active", "the record on the NAS is locked") from None
    except OSError as error:
        reason, detail = errors.reason_of(error, MetAt.NAS_RECORD), f"on the NAS: {errors.words_of(error)}"
        raise NotTold(reason, detail, ill=error.errno in ILL) from None


@contextlib.contextmanager
def folder_of(root: int, twin: str) -> Iterator[int]:
    """Opens the metadata folder of a twin. Raises NotTold with `nas_missing_file`, OSError."""
    with contextlib.ExitStack() as stack:
        try:
            run = stack.enter_context(handles.opened(handles.open_beneath(root, os.fsencode(twin))))
        except FileNotFoundError:
            raise NotTold("nas_missing_file", "the NAS holds no such run") from None
        try:
            folder = stack.enter_context(handles.opened(handles.open_beneath(run, run_paths.METADATA)))
        except FileNotFoundError:
            raise NotTold("nas_missing_file", f"no {show(run_paths.METADATA)} folder on the NAS") from None
        yield folder


@contextlib.contextmanager
def _wizard_locked(folder: int, form: RecordFormat) -> Iterator[None]:
    # Where there is no lock file, no program writes.
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(FileNotFoundError):
            descriptor = stack.enter_context(handles.opened(handles.open_to_lock(folder, form.lock)))
            _expect_plain(descriptor, form.lock)
            stack.enter_context(handles.flocked(descriptor))
        yield


def _expect_plain(descriptor: int, name: bytes) -> os.stat_result:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise NotTold("special_file", f"{show(name)} on the NAS is no plain file")
    return status


@contextlib.contextmanager
def opened_record(folder: int, form: RecordFormat) -> Iterator[OpenRecord]:
    """Reads the record in an open metadata folder. Raises NotTold, OSError."""
    try:
        descriptor = handles.open_beneath(folder, form.file, os.O_RDONLY | _WITHOUT_WAITING)
    except FileNotFoundError:
        raise NotTold("nas_missing_file", f"no {show(form.file)} on the NAS") from None
    with handles.opened(descriptor):
        status = _expect_plain(descriptor, form.file)
        yield OpenRecord(form, descriptor, _read(descriptor, form.max_bytes), status)


def _read(descriptor: int, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while size <= max_bytes:
        part = os.pread(descriptor, min(max_bytes + 1 - size, _BLOCK), size)
        if not part:
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _take_away(folder: int, draft: bytes) -> None:
    # Removes the draft of an earlier try; BlockingIOError while that try still holds it.
    try:
        descriptor = handles.open_to_lock(folder, draft)
    except FileNotFoundError:
        return
    with handles.opened(descriptor), handles.flocked(descriptor):
        if _expect_plain(descriptor, draft).st_nlink > 1:
            raise NotTold("unsafe_path", f"{show(draft)} on the NAS is not our own")
        if _lies_at(folder, draft, descriptor):
            os.unlink(draft, dir_fd=folder)


def _lies_at(folder: int, name: bytes, descriptor: int) -> bool:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(descriptor))


def _replace(folder: int, draft: bytes, record: OpenRecord, data: bytes) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with handles.opened(os.open(draft, flags, 0o600, dir_fd=folder)) as descriptor:
        try:
            with handles.flocked(descriptor):
                # Only the holder of its lock moves or removes a draft. Before we held it, another try may have.
                if not _lies_at(folder, draft, descriptor):
                    raise BlockingIOError
                handles.write_all(descriptor, data)
                _make_alike(descriptor, record.status)
                os.fsync(descriptor)
                _expect_unchanged(folder, record)
                os.rename(draft, record.form.file, src_dir_fd=folder, dst_dir_fd=folder)
        except BlockingIOError:
            raise
        except (OSError, NotTold):
            with contextlib.suppress(OSError):
                os.unlink(draft, dir_fd=folder)
            raise


def _make_alike(descriptor: int, like: os.stat_result) -> None:
    # Same owner, group and mode, so that the exchange changes no permission.
    found = os.fstat(descriptor)
    if (found.st_uid, found.st_gid) != (like.st_uid, like.st_gid):
        os.fchown(descriptor, like.st_uid, like.st_gid)
    if stat.S_IMODE(found.st_mode) != stat.S_IMODE(like.st_mode):
        os.fchmod(descriptor, stat.S_IMODE(like.st_mode))
    found = os.fstat(descriptor)
    if (found.st_uid, found.st_gid, found.st_mode) != (like.st_uid, like.st_gid, like.st_mode):
        raise NotTold("nas_not_writable", "owner and mode of the record on the NAS cannot be kept")


def _expect_unchanged(folder: int, record: OpenRecord) -> None:
    found = os.stat(record.form.file, dir_fd=folder, follow_symlinks=False)
    if _marks(found) != _marks(record.status) or _read(record.descriptor, record.form.max_bytes) != record.data:
        raise NotTold("writer_active", "the record on the NAS was changed at this moment")


def _marks(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def sync(folder: int) -> None:
    """Makes the names in a folder durable. Raises OSError."""
    # Some network filesystems cannot sync a folder; there the server makes the exchange durable.
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
