"""Receipts in the data directory: names, durable writes, and the digests that a tombstone holds."""

import errno
import hashlib
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, cast

from cleanup.storage import run_paths
from cleanup.storage.data_directory.datadir import LOW_WATER_BYTES, PROVEN, DataDir
from cleanup.storage.root_files import reserve
from cleanup.storage.staging import manifest

FOLDER = "receipts"
_NAME = re.compile(
    r"receipt-[0-9a-f]{32}-\d{1,6}\.json|files-[0-9a-f]{32}\.jsonl|checksums-[0-9a-f]{32}-\d{1,6}\.sha256"
    r"|key-[0-9a-f]{16}\.pem"
)
_BLOCK = 1 << 20


class DigestSource(StrEnum):
    """Whose word a digest is: bytes that this program read, the wizard's manifest, or no one's."""

    READ = "read"
    MANIFEST = "manifest"
    NONE = "none"


@dataclass(frozen=True)
class KeptFile:
    """A file in the data directory, and its name elsewhere; size in bytes, SHA-256 in hex."""

    name: str
    path: str
    size: int
    sha256: str

    def open(self) -> IO[bytes]:
        return open(self.path, "rb")


def receipt_name(attempt: str, number: int) -> str:
    return f"receipt-{attempt}-{number}.json"


def list_name(attempt: str) -> str:
    return f"files-{attempt}.jsonl"


def checksums_name(attempt: str, number: int) -> str:
    return f"checksums-{attempt}-{number}.sha256"


def key_name(fingerprint: str) -> str:
    return f"key-{fingerprint[:16]}.pem"


def path_of(data: DataDir, name: str) -> str:
    """Returns the path of a receipt's file. Raises ValueError for any other name."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name} is no file of a receipt")
    return os.path.join(data.path, FOLDER, name)


def read(data: DataDir, name: str, sha256: str) -> KeptFile:
    """Returns a file that must have this digest. Raises OSError, ValueError."""
    with open(path_of(data, name), "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    if found != sha256:
        raise ValueError(f"{name} in the data directory has changed")
    return KeptFile(name, path_of(data, name), size, found)


def checksums(data: DataDir, attempt: str, number: int) -> KeptFile:
    """Returns the file that `sha256sum -c` reads. Raises OSError."""
    name = checksums_name(attempt, number)
    with open(path_of(data, name), "rb") as file:
        content = file.read()
    return KeptFile(name, path_of(data, name), len(content), hashlib.sha256(content).hexdigest())


def write(data: DataDir, name: str, parts: Iterable[bytes]) -> KeptFile:
    """Writes a file durably: it is there whole or not at all. Raises OSError.

    It can wait, so it leaves the room that clears need: ENOSPC comes before the disk is full.
    """
    size, sha256 = 0, hashlib.sha256()

    def write_to(file: IO[bytes]) -> None:
        nonlocal size
        asked = 0
        for part in parts:
            if size >= asked:
                _expect_room(file, path)
                asked = size + _BLOCK
            size += len(part)
            sha256.update(part)
            file.write(part)

    path = path_of(data, name)
    data.keep(FOLDER, name, write_to, urgent=False)
    return KeptFile(name, path, size, sha256.hexdigest())


def _expect_room(file: IO[bytes], path: str) -> None:
    if reserve.free_bytes(file.fileno()) < LOW_WATER_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def digests(
    data: DataDir, attempt: str, *, by_manifest: DigestSource
) -> Iterator[tuple[bytes, bytes, DigestSource, bool]]:
    """Yields path, SHA-256, its source, and whether the tombstone keeps the file; later ones count more.

    `by_manifest`: the source of what the manifest lists. Raises TombstoneError.
    """
    with data.opened_tombstone(attempt) as archive:
        for member in archive:
            top, _, rest = member.name.partition("/")
            name = os.fsencode(rest)
            if not member.isfile():
                continue
            if member.name == PROVEN:
                yield from _listed(archive, member, DigestSource.READ)
            elif top == "desktop":
                yield name, _digest(archive, member), DigestSource.READ, True
            elif top == "metadata":
                if name == run_paths.MANIFEST:
                    yield from _listed(archive, member, by_manifest)
                yield run_paths.METADATA + b"/" + name, _digest(archive, member), DigestSource.READ, True


def _listed(
    archive: tarfile.TarFile, member: tarfile.TarInfo, source: DigestSource
) -> Iterator[tuple[bytes, bytes, DigestSource, bool]]:
    with cast(IO[bytes], archive.extractfile(member)) as file:
        try:
            for path, digest in manifest.stream(lambda: file.read(_BLOCK)):
                yield path, digest, source, False
        except manifest.ManifestError:
            return  # the policy `record` asks for no manifest


def _digest(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    sha256 = hashlib.sha256()
    with cast(IO[bytes], archive.extractfile(member)) as file:
        while part := file.read(_BLOCK):
            sha256.update(part)
    return sha256.digest()
