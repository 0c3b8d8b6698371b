"""SHA-256 digests that are written one after the other and read once: many lie in a file without a name."""

import tempfile
from collections.abc import Iterator
from typing import IO

_DIGEST = 32
# Fewer bytes stay in memory.
IN_MEMORY = 4 << 20


class SpilledDigests:
    """Digests in their order. Where the disk takes no more, the others stay in memory."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._spilled = 0  # bytes
        self._is_full = False
        self._rest = bytearray()

    def add(self, digest: bytes) -> None:
        self._rest += digest
        if len(self._rest) >= IN_MEMORY and not self._is_full:
            self._spill()

    def _spill(self) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
            view = memoryview(self._rest)
            while view:
                view = view[self._file.write(view) :]
        except OSError:
            self._is_full = True
            return
        self._spilled += len(self._rest)
        self._rest = bytearray()

    def __iter__(self) -> Iterator[bytes]:
        """Yields them all; raises OSError."""
        at = 0
        while self._file is not None and at < self._spilled:
            self._file.seek(at)
            part = self._file.read(min(_DIGEST << 10, self._spilled - at))
            if len(part) % _DIGEST or not part:
                raise OSError("what was written aside cannot be read again")
            yield from _each(part)
            at += len(part)
        yield from _each(bytes(self._rest))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _each(together: bytes) -> Iterator[bytes]:
    return (together[at : at + _DIGEST] for at in range(0, len(together), _DIGEST))
