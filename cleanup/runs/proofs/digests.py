"""What a reading of both sides takes over from one that was interrupted, and what it leaves."""

from typing import Protocol


class DigestsSoFar(Protocol):
    """Digests that an interrupted reading of the same bytes has left, and a place for those read now."""

    def of(self, path: bytes) -> tuple[bytes | None, bytes | None]:
        """The digests staged and on the NAS; None: not read yet."""
        ...

    def note_staged(self, path: bytes, digest: bytes) -> None:
        """Called as soon as a file has been read."""
        ...

    def note_nas(self, path: bytes, digest: bytes) -> None:
        """Called as soon as a file has been read."""
        ...
