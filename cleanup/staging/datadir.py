"""What the product keeps for itself on this host: locks, plans and tombstones, all in the data directory."""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cleanup.staging import layout, manifest, tree
from cleanup.staging.plan import Plan, PlanError, decode

# With less than this free, the next commit may already fail on a database that lies here.
LOW_WATER_BYTES = 2 * tree.RESERVE_BYTES


class TombstoneError(Exception):
    """A tombstone that is gone or cannot be read."""


@dataclass(frozen=True)
class DataDir:
    """The data directory of this host. Attempts are named by their id in hex, runs by their number."""

    path: str

    @contextlib.contextmanager
    def lock(self, name: str, *, wait: bool = False) -> Iterator[bool]:
        """Hold a lock for the length of a block; yields False where another holder has it and `wait` is off.

        It is an flock, so it dies with its process however that ends, and it cannot expire under a live one.
        """
        descriptor = os.open(self._in("locks", name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with layout.opened(descriptor):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True

    def write_plan(self, attempt: str, data: bytes) -> None:
        """Keep a plan, durably. Raises OSError."""
        self._keep("plans", attempt, lambda file: file.write(data))

    def read_plan(self, attempt: str, sha256: str) -> Plan:
        """The plan that an attempt names. Raises PlanError if it is gone or another one."""
        try:
            with open(self._in("plans", attempt), "rb") as file:
                return decode(file.read(), sha256)
        except FileNotFoundError:
            raise PlanError("the plan is gone") from None
        except OSError as error:
            raise PlanError(f"the plan cannot be read: {os.strerror(error.errno or 0)}") from None

    def write_tombstone(self, attempt: str, run: int, story: dict[str, Any], record: bytes) -> None:
        """Keep all metadata of the run open as `run` and its final `ingest.json`, durably. Raises OSError.

        `tombstones/<attempt>.tar.gz` holds `tombstone.json` (`story`), `ingest.json` (`record`) and `metadata/` with
        every file of the run's `.exlab-wizard` as it was.
        """

        def write(file: io.BufferedWriter) -> None:
            with tarfile.open(fileobj=file, mode="w:gz") as archive:
                _add(archive, "tombstone.json", json.dumps(story, indent=1, sort_keys=True).encode())
                _add(archive, "ingest.json", record)
                _add_metadata(archive, run)

        self._keep("tombstones", f"{attempt}.tar.gz", write)

    def read_record(self, attempt: str) -> bytes:
        """The final `ingest.json` that an attempt's tombstone holds. Raises TombstoneError."""
        with self._tombstone(attempt) as archive:
            return _member(archive, "ingest.json")

    def read_digests(self, attempt: str) -> dict[bytes, bytes]:
        """SHA-256 of every file of a cleared run by its path, from its tombstone: what its bytes were proven to be.

        Data files as the verified manifest lists them, metadata files as they were kept. Raises TombstoneError.
        """
        folder = layout.METADATA + b"/"
        digests: dict[bytes, bytes] = {}
        with self._tombstone(attempt) as archive:
            for member in archive.getmembers():
                top, _, name = member.name.partition("/")
                if top == "metadata" and member.isfile():
                    content = _member(archive, member.name)
                    digests[folder + os.fsencode(name)] = hashlib.sha256(content).digest()
                    if os.fsencode(name) == layout.MANIFEST:
                        digests |= _listed(content)
        return digests

    @contextlib.contextmanager
    def _tombstone(self, attempt: str) -> Iterator[tarfile.TarFile]:
        try:
            with tarfile.open(self.tombstone_path(attempt), "r:gz") as archive:
                yield archive
        except (OSError, EOFError, KeyError, zlib.error, tarfile.TarError) as error:
            raise TombstoneError(f"{type(error).__name__}: {error}") from None

    def tombstone_path(self, attempt: str) -> str:
        """Where an attempt's tombstone lies, or would."""
        return self._in("tombstones", f"{attempt}.tar.gz")

    def discard(self, attempt: str) -> None:
        """Forget plan and tombstone of an attempt that removed nothing."""
        for path in (self._in("plans", attempt), self.tombstone_path(attempt)):
            for name in (path, f"{path}.part"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)

    def lay_reserve(self) -> None:
        """Keep 1 MiB here too, for the day when this disk is full; without room for it now, the next write lays it."""
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        with self._opened() as directory:
            tree.renew_reserve(directory, spare=LOW_WATER_BYTES)

    def relieve(self) -> bool:
        """Give up the reserve if this disk is nearly full, so that a database that lies here can still commit.

        Call it before the first write of a clear or a recovery; `lay_reserve` takes it again. Whether it was given up.
        """
        with contextlib.suppress(OSError), self._opened() as directory:
            if tree.free_bytes(directory) < LOW_WATER_BYTES:
                return tree.release_reserve(directory)
        return False

    def _opened(self) -> contextlib.AbstractContextManager[int]:
        # The admin named this directory, and may have put it behind a link.
        return layout.opened(os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def _in(self, folder: str, name: str) -> str:
        directory = os.path.join(self.path, folder)
        if not os.path.isdir(directory):
            os.makedirs(directory, mode=0o700, exist_ok=True)
            with self._opened() as above:
                os.fsync(above)  # or a power cut takes the new folder away with the first plan in it
        return os.path.join(directory, name)

    def _keep(self, folder: str, name: str, write: Callable[[io.BufferedWriter], object]) -> None:
        """Write a file so that it is there whole and for good when this returns, or not at all."""
        with self._opened() as directory:
            tree.with_reserve(directory, lambda: _write_durably(self._in(folder, name), write), spare=LOW_WATER_BYTES)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(name)
    with file:
        return file.read()


def _listed(content: bytes) -> dict[bytes, bytes]:
    """What a manifest lists; nothing for one that cannot be read (`record` asks for none)."""
    try:
        return manifest.parse(content).entries
    except manifest.ManifestError:
        return {}


def _write_durably(path: str, write: Callable[[io.BufferedWriter], object]) -> None:
    try:
        with open(f"{path}.part", "wb", opener=_private) as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(f"{path}.part", path)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}.part")
        raise
    with layout.opened(os.open(os.path.dirname(path), layout.DIRECTORY)) as directory:
        os.fsync(directory)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def _add_metadata(archive: tarfile.TarFile, run: int) -> None:
    """Every file at the top of the run's `.exlab-wizard`, with mode, owner and time."""
    with layout.opened(layout.open_beneath(run, layout.METADATA)) as metadata:
        for name in sorted(os.listdir(metadata)):
            descriptor = layout.open_beneath(metadata, os.fsencode(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                archive.addfile(archive.gettarinfo(arcname=f"metadata/{name}", fileobj=file), file)
