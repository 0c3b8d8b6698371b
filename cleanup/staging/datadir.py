"""What the product keeps for itself on this host: locks, plans and tombstones, all in the data directory."""

import contextlib
import fcntl
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cleanup.staging import layout, tree
from cleanup.staging.plan import Plan, PlanError, decode


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
            tree.renew_reserve(directory)

    def _opened(self) -> contextlib.AbstractContextManager[int]:
        # The admin named this directory, and may have put it behind a link.
        return layout.opened(os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def _in(self, folder: str, name: str) -> str:
        directory = os.path.join(self.path, folder)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        return os.path.join(directory, name)

    def _keep(self, folder: str, name: str, write: Callable[[io.BufferedWriter], object]) -> None:
        """Write a file so that it is there whole and for good when this returns, or not at all."""
        with self._opened() as directory:
            tree.with_reserve(directory, lambda: _write_durably(self._in(folder, name), write))


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
