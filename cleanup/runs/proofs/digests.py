"""Digests of a reading that was interrupted, so that the next one of the same bytes goes on from there."""

from typing import Protocol

from cleanup.storage.nas.client import TwinFile


class DigestsSoFar(Protocol):
    """Digests that an interrupted reading of the same bytes has left, and a place for those read now."""

    def of(self, path: bytes) -> tuple[bytes | None, bytes | None]:
        """Return the digests read so far: staged, and on the NAS; None: not read yet."""
        ...

    def note_staged(self, path: bytes, digest: bytes) -> None:
        """Note a staged file as soon as it has been read; only one that is as the scan saw it."""
        ...

    def note_nas(self, path: bytes, twin: TwinFile) -> None:
        """Note a file of the NAS, with its digest, as soon as it has been read."""
        ...
