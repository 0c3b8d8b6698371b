"""Digests of a reading that may be interrupted: a file for each run in the data directory, which outlives a crash.

A header names what was read by its evidence, and the instant of the first byte. A record is one file of one side. A
record that does not match its checksum ends the file: what follows was torn. A record of the NAS has the marks of the
file that was read: another one may have lain at its path for a while, and then no longer.
"""

import contextlib
import hashlib
import os
import struct
import threading
import time
import zlib
from array import array
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cleanup.storage import handles
from cleanup.storage.data_directory.datadir import DataDir
from cleanup.storage.nas.listed_twins import TwinFile
from cleanup.storage.packed_rows import COUNT, TOGETHER, PackedRows, place_of
from cleanup.storage.staging.tree_entries import Paths

_FOLDER = "proving"
_MAGIC = b"EXLABD03"
# Evidence, microseconds since 1970, number of files, checksum of these.
_HEADER = struct.Struct("<8s32sqII")
# Twice the file's place in the order of a scan, plus the side; digest; marks on the NAS; checksum of these, begun with
# the header's.
_RECORD = struct.Struct("<I32s8sI")
_KEY = struct.Struct("<I32s8s")
_UNMARKED = bytes(8)
_STAGED, _NAS = 0, 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WRITE_SECONDS = 0.2
_SYNC_SECONDS = 3.0
_BUFFERED = 64 << 10
_READ_AT_ONCE = _RECORD.size * 20_000


class _Numbered(NamedTuple):
    path: bytes
    number: int  # in the order of a scan


def _numbered(paths: Collection[bytes]) -> PackedRows[_Numbered]:
    is_ordered = isinstance(paths, Paths) and paths.is_ordered
    in_order = paths if is_ordered else sorted(paths, key=place_of)
    return PackedRows(_Numbered, COUNT, (_Numbered(path, at) for at, path in enumerate(in_order)), is_ordered=True)


class KeptDigests:
    """The digests of one run's files so far, durable every few seconds. A million files take 20 MB of memory.

    Threads may note at once. A disk that takes no more ends the keeping, never the reading.
    """

    def __init__(self, descriptor: int, paths: Collection[bytes], seed: int, first_byte_at: datetime) -> None:
        self.first_byte_at = first_byte_at
        self.loaded = 0
        self._file = descriptor
        self._files = _numbered(paths)
        self._near: tuple[int, list[bytes]] = -1, []
        self._seed = seed
        self._places = array("I", [0]) * (2 * len(self._files))  # number of the record, from one on
        self._number = 0
        self._unwritten = bytearray()
        self._written = self._synced = time.monotonic()
        self._lock = threading.Lock()
        self._broken = False

    def of(self, path: bytes) -> tuple[bytes | None, bytes | None]:
        """Return the digests staged and on the NAS; None: not read yet."""
        with self._lock:
            at = self._index(path)
            return (None, None) if at is None else (self._read(2 * at + _STAGED), self._read(2 * at + _NAS))

    def note_staged(self, path: bytes, digest: bytes) -> None:
        self._note(path, _STAGED, digest, _UNMARKED)

    def note_nas(self, path: bytes, twin: TwinFile) -> None:
        if twin.digest is not None:
            self._note(path, _NAS, twin.digest, _marks(twin))

    def flush(self) -> None:
        """Hands everything to the kernel, where another process sees it."""
        with self._lock:
            self._write()

    def load(self, twins: Mapping[bytes, TwinFile]) -> None:
        """Takes over the records of the file, and cuts it where the first is torn. Raises OSError.

        Of the NAS only those of files that are still as `twins` has them.
        """
        at = _HEADER.size
        while part := os.pread(self._file, _READ_AT_ONCE, at):
            whole = len(part) - len(part) % _RECORD.size
            for key, digest, marks, check in _RECORD.iter_unpack(part[:whole]):
                if key >= len(self._places) or check != _check(self._seed, key, digest, marks):
                    break
                self._number += 1
                at += _RECORD.size
                if self._is_of(key, marks, twins):
                    self.loaded += not self._places[key]
                    self._places[key] = self._number
            else:
                if whole == len(part):
                    continue
            break
        os.ftruncate(self._file, at)
        os.lseek(self._file, at, os.SEEK_SET)

    def _is_of(self, key: int, marks: bytes, twins: Mapping[bytes, TwinFile]) -> bool:
        if key % 2 == _STAGED:
            return True
        twin = twins.get(self._path_of(key // 2))
        return twin is not None and marks == _marks(twin)

    def _note(self, path: bytes, side: int, digest: bytes, marks: bytes) -> None:
        with self._lock:
            at = self._index(path)
            if at is None or self._broken or self._places[2 * at + side]:
                return
            key = 2 * at + side
            self._unwritten += _RECORD.pack(key, digest, marks, _check(self._seed, key, digest, marks))
            self._number += 1
            self._places[key] = self._number
            now = time.monotonic()
            if now - self._written > _WRITE_SECONDS or len(self._unwritten) > _BUFFERED:
                self._write()
                self._written = now
            if now - self._synced > _SYNC_SECONDS:
                self._sync()

    def _path_of(self, number: int) -> bytes:
        # Records come nearly in the order of the files.
        part, at = divmod(number, TOGETHER)
        if part != self._near[0]:
            self._near = part, [file.path for file in self._files.part(part)]
        return self._near[1][at]

    def _index(self, path: bytes) -> int | None:
        found = self._files.get(path)
        return None if found is None else found.number

    def _read(self, key: int) -> bytes | None:
        number = self._places[key]
        if not number:
            return None
        if self._unwritten:
            self._write()
        record = os.pread(self._file, _RECORD.size, _HEADER.size + (number - 1) * _RECORD.size)
        if len(record) != _RECORD.size:
            return None
        of, digest, marks, check = _RECORD.unpack(record)
        found: bytes = digest
        return found if of == key and check == _check(self._seed, key, digest, marks) else None

    def _write(self) -> None:
        try:
            if not self._broken:
                handles.write_all(self._file, bytes(self._unwritten))
        except OSError:
            self._broken = True
        self._unwritten.clear()

    def _sync(self) -> None:
        self._synced = time.monotonic()
        try:
            os.fdatasync(self._file)
        except OSError:
            self._broken = True


@contextlib.contextmanager
def opened(
    data: DataDir,
    run: int,
    evidence: str,
    paths: Collection[bytes],
    twins: Mapping[bytes, TwinFile],
    *,
    now: datetime,
    longest: timedelta,
) -> Iterator[KeptDigests]:
    """The digests of a run for a block: those kept with this evidence at most `longest` ago, else none, from `now` on.

    `paths`: of the data files. `twins`: the files on the NAS by which the evidence was made. Digests with
    another evidence are dropped. Raises OSError. Hold the run's lock.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    with handles.opened(os.open(data.kept_digests(str(run)), flags, 0o600)) as file:
        since = _first_byte(file, evidence, len(paths))
        usable = since is not None and now - longest < since <= now
        header = _header(evidence, since if since is not None and usable else now, len(paths))
        if not usable:
            os.ftruncate(file, 0)
            handles.write_all(file, header)
            os.fsync(file)
        kept = KeptDigests(file, paths, zlib.crc32(header), since if since is not None and usable else now)
        kept.load(twins)
        try:
            yield kept
        finally:
            kept.flush()


def is_kept(data: DataDir, run: int) -> bool:
    """Whether there are digests of a run; makes no folder."""
    return os.path.exists(os.path.join(data.path, _FOLDER, str(run)))


def kept_runs(data: DataDir) -> list[int]:
    """The runs of which there are digests."""
    try:
        names = os.listdir(os.path.join(data.path, _FOLDER))
    except FileNotFoundError:
        return []
    return sorted(int(name) for name in names if name.isdecimal())


def drop(data: DataDir, run: int) -> None:
    """Removes the digests of a run, if there are any. Raises OSError."""
    if is_kept(data, run):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(data.kept_digests(str(run)))


def _first_byte(file: int, evidence: str, number: int) -> datetime | None:
    found = os.pread(file, _HEADER.size, 0)
    if len(found) != _HEADER.size:
        return None
    magic, of, since, files, _check = _HEADER.unpack(found)
    if (magic, of, files) != (_MAGIC, bytes.fromhex(evidence), number):
        return None
    at: datetime = _EPOCH + timedelta(microseconds=since)
    return at if found == _header(evidence, at, number) else None


def _header(evidence: str, since: datetime, number: int) -> bytes:
    microseconds = (since - _EPOCH) // timedelta(microseconds=1)
    whole = _HEADER.pack(_MAGIC, bytes.fromhex(evidence), microseconds, number, 0)
    return whole[:-4] + struct.pack("<I", zlib.crc32(whole[:-4]))


def _marks(twin: TwinFile) -> bytes:
    # What the evidence asks of it.
    asked = twin.ino, twin.size, twin.mtime_ns, twin.ctime_ns
    return hashlib.blake2b(repr(asked).encode(), digest_size=len(_UNMARKED)).digest()


def _check(seed: int, key: int, digest: bytes, marks: bytes) -> int:
    return zlib.crc32(_KEY.pack(key, digest, marks), seed)
