"""The data directory: locks, plans and tombstones, each written durably."""

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, cast

from cleanup.storage import handles, run_paths
from cleanup.storage.data_directory import data_place
from cleanup.storage.root_files import reserve
from cleanup.storage.staging import desktop_files, manifest
from cleanup.storage.staging.metadata import RECEIPTS, is_link_folder, may_be_lock
from cleanup.storage.staging.plan import Plan, PlanError, encoded, read, streamed
from cleanup.storage.staging.tree_entries import Entry

# With less than this free, the next commit may already fail on a database that lies here.
LOW_WATER_BYTES = 2 * reserve.RESERVE_BYTES
_TO_KEEP = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
PROVEN = "checksums.sha256"
_Write = Callable[[io.BufferedWriter], object]


# With these errors there is no tombstone, now and later; with any other system error a later read may succeed.
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)


class TombstoneError(Exception):
    """A tombstone is gone or unreadable; `may_pass`: a later try may succeed."""

    def __init__(self, detail: str, *, may_pass: bool = False) -> None:
        super().__init__(detail)
        self.may_pass = may_pass


@dataclass(frozen=True)
class DataDir:
    """The data directory of this host. `attempt` is an attempt's id in hex; tombstone reads raise TombstoneError."""

    path: str

    @contextlib.contextmanager
    def lock(self, name: str, *, wait: bool = False) -> Iterator[bool]:
        """Holds a lock for a block, or until the process dies; yields False if it is taken, unless `wait`."""
        descriptor = os.open(self._in("locks", name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with handles.opened(descriptor):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True

    def write_plan(self, attempt: str, plan: Plan | bytes) -> str:
        """Keeps a plan, or its bytes; returns the SHA-256 in hex. Raises OSError."""
        tries: list[str] = []
        self.keep("plans", attempt, lambda file: tries.append(_write_plan(file, plan)))
        return tries[-1]

    def planned(self, attempt: str, sha256: str) -> Iterator[Entry]:
        """Yields the entries of a plan without reading it whole. Raises PlanError as `read_plan`, OSError."""
        try:
            with open(self._in("plans", attempt), "rb") as file:
                yield from streamed(file, sha256)
        except FileNotFoundError:
            raise PlanError("the plan is gone") from None

    def read_plan(self, attempt: str, sha256: str) -> Plan:
        """Raises PlanError if the plan is gone, unreadable or another one."""
        try:
            with open(self._in("plans", attempt), "rb") as file:
                return read(file, sha256)
        except FileNotFoundError:
            raise PlanError("the plan is gone") from None
        except OSError as error:
            raise PlanError(f"the plan cannot be read: {os.strerror(error.errno or 0)}") from None

    def write_tombstone(
        self,
        attempt: str,
        run: int,
        story: dict[str, Any],
        record: bytes,
        *,
        file: str = "ingest.json",
        digests: Mapping[bytes, bytes] | None = None,
        desktop: Collection[bytes] = (),
    ) -> None:
        """Keeps metadata and final record of the run open as `run`. Raises OSError.

        `tombstones/<attempt>.tar.gz` holds `tombstone.json` (`story`), `record` under the name `file`, `metadata/` (the
        run's `.exlab-wizard`), `desktop/` (these paths) and, with `digests`, `checksums.sha256`: the proven SHA-256 of
        each data file.
        """

        def write(kept: io.BufferedWriter) -> None:
            with tarfile.open(fileobj=kept, mode="w:gz") as archive:
                _add(archive, "tombstone.json", json.dumps(story, indent=1, sort_keys=True).encode())
                _add(archive, file, record)
                if digests:
                    _add(archive, PROVEN, manifest.encode(digests))
                _add_metadata(archive, run, desktop)
                for path in sorted(desktop):
                    _add_file(archive, run, path, f"desktop/{os.fsdecode(path)}")

        self.keep("tombstones", f"{attempt}.tar.gz", write)

    def read_record(self, attempt: str, *, file: str = "ingest.json") -> bytes:
        with self.opened_tombstone(attempt) as archive:
            return _member(archive, file)

    def read_story(self, attempt: str) -> dict[str, Any]:
        with self.opened_tombstone(attempt) as archive:
            story: dict[str, Any] = json.loads(_member(archive, "tombstone.json"))
        return story

    def read_digests(self, attempt: str) -> dict[bytes, bytes]:
        """Returns the proven SHA-256 of a cleared run's files by path."""
        with self.opened_tombstone(attempt) as archive:
            return _digests(archive)

    @contextlib.contextmanager
    def opened_tombstone(self, attempt: str) -> Iterator[tarfile.TarFile]:
        """Opens an attempt's archive for a block."""
        try:
            with tarfile.open(self.tombstone_path(attempt), "r:gz") as archive:
                yield archive
        except (OSError, EOFError, KeyError, zlib.error, tarfile.TarError) as error:
            may_pass = isinstance(error, OSError) and error.errno is not None and error.errno not in _NO_FILE
            raise TombstoneError(f"{type(error).__name__}: {error}", may_pass=may_pass) from None

    def removals(self, name: str) -> str:
        """Returns the path of a filesystem's removal count."""
        return self._in("removals", name)

    def kept_digests(self, run: str) -> str:
        return self._in("proving", run)

    def tombstone_path(self, attempt: str) -> str:
        return self._in("tombstones", f"{attempt}.tar.gz")

    def put_in_place(self, name: str, new: str) -> None:
        """Lets a file of the data directory take another's place, durably. Raises OSError."""
        os.rename(self._in("", name), self._in("", new))
        with self._opened() as directory:
            os.fsync(directory)

    def discard(self, attempt: str) -> None:
        """Removes plan and tombstone of an attempt that removed nothing."""
        for path in (self._in("plans", attempt), self.tombstone_path(attempt)):
            for name in (path, f"{path}.part"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)

    def lay_reserve(self) -> None:
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        with self._opened() as directory:
            reserve.renew_reserve(directory, spare=LOW_WATER_BYTES)  # without room now, the next write lays it

    def relieve(self) -> bool:
        """Releases the reserve if this disk is nearly full; returns whether it did."""
        # Before the first write of a clear or a recovery, so that a database on this disk can still commit.
        with contextlib.suppress(OSError), self._opened() as directory:
            if reserve.free_bytes(directory) < LOW_WATER_BYTES:
                return reserve.release_reserve(directory)
        return False

    def _opened(self) -> contextlib.AbstractContextManager[int]:
        # Links are followed: the admin chose this path.
        return handles.opened(os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def _in(self, folder: str, name: str) -> str:
        data_place.expect_same(self.path)
        directory = os.path.join(self.path, folder)
        if not os.path.isdir(directory):
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory, mode=0o700)  # never makes the data directory itself: it may have been taken away
            with self._opened() as above:
                os.fsync(above)  # else a power cut loses the new folder with the first plan in it
        return os.path.join(directory, name)

    def keep(self, folder: str, name: str, write: _Write, *, urgent: bool = True) -> None:
        """Writes a file durably, whole or not at all. `urgent`: the reserve makes room for it. Raises OSError."""
        with self._opened() as directory:
            act = partial(_write_durably, self._in(folder, name), write)
            reserve.with_reserve(directory, act, spare=LOW_WATER_BYTES) if urgent else act()


def _write_plan(file: io.BufferedWriter, plan: Plan | bytes) -> str:
    seen = hashlib.sha256()
    for part in encoded(plan) if isinstance(plan, Plan) else (plan,):
        seen.update(part)
        file.write(part)
    return seen.hexdigest()


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(name)
    with file:
        return file.read()


def _digest(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    with cast("IO[bytes]", archive.extractfile(member)) as file:
        return hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]


def _digests(archive: tarfile.TarFile) -> dict[bytes, bytes]:
    folder = run_paths.METADATA + b"/"
    digests: dict[bytes, bytes] = {}
    proven: dict[bytes, bytes] = {}  # measured, so they come before the manifest's
    for member in archive.getmembers():
        top, _, name = member.name.partition("/")
        if member.name == PROVEN:
            proven = _listed(_member(archive, PROVEN))
        elif top == "desktop" and member.isfile():
            digests[os.fsencode(name)] = _digest(archive, member)
        elif top == "metadata" and member.isfile():
            digests[folder + os.fsencode(name)] = _digest(archive, member)
            if os.fsencode(name) == run_paths.MANIFEST:
                digests |= _listed(_member(archive, member.name))
    return digests | proven


def _listed(content: bytes) -> dict[bytes, bytes]:
    # A manifest that cannot be read lists nothing: the policy `record` asks for none.
    try:
        return manifest.parse(content).entries
    except manifest.ManifestError:
        return {}


def _write_durably(path: str, write: _Write) -> None:
    try:
        with open(f"{path}.part", "wb", opener=_private) as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(f"{path}.part", path)
    except Exception:  # also what `write` raises
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}.part")
        raise
    with handles.opened(os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as directory:
        os.fsync(directory)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def _add_metadata(archive: tarfile.TarFile, run: int, desktop: Collection[bytes]) -> None:
    with handles.opened(handles.open_beneath(run, run_paths.METADATA)) as metadata:
        for name in sorted(os.listdir(metadata)):
            raw = os.fsencode(name)
            if is_link_folder(raw):
                continue  # it holds only another name of an empty lock
            if raw == RECEIPTS:
                _add_receipts(archive, metadata, desktop)
                continue
            if desktop_files.is_folder(raw) or run_paths.METADATA + b"/" + raw in desktop:
                continue
            try:
                _add_file(archive, metadata, raw, f"metadata/{name}")
            except FileNotFoundError:
                if not may_be_lock(raw):
                    raise


def _add_receipts(archive: tarfile.TarFile, metadata: int, desktop: Collection[bytes]) -> None:
    with handles.opened(handles.open_beneath(metadata, RECEIPTS)) as folder:
        for name in sorted(map(os.fsencode, os.listdir(folder))):
            path = RECEIPTS + b"/" + name
            if not (desktop_files.is_folder(name) or run_paths.METADATA + b"/" + path in desktop):
                _add_file(archive, folder, name, f"metadata/{os.fsdecode(path)}")


def _add_file(archive: tarfile.TarFile, directory: int, path: bytes, name: str) -> None:
    with os.fdopen(handles.open_beneath(directory, path, _TO_KEEP), "rb") as file:
        archive.addfile(archive.gettarinfo(arcname=name, fileobj=file), file)
