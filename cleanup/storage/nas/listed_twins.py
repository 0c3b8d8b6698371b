"""The files of a twin by path, packed: a listing of a million files."""

from collections.abc import Iterable, Iterator, MutableMapping
from typing import NamedTuple

from cleanup.storage.packed_rows import COUNT, DIGEST, NUMBER, PackedRows, place_of


class TwinFile(NamedTuple):
    """One file of the twin; `digest` is None unless its bytes were read."""

    size: int
    mtime_ns: int
    ino: int
    digest: bytes | None
    ctime_ns: int = 0


class _TwinRow(NamedTuple):
    path: bytes
    size: int
    mtime_ns: int
    ino: int
    digest: bytes | None
    ctime_ns: int


_COLUMNS = NUMBER + NUMBER + COUNT + DIGEST + NUMBER


class ListedTwins(MutableMapping[bytes, TwinFile]):
    """Files by path. They take little memory where `extend` gets them in the order of a scan, each once."""

    def __init__(self) -> None:
        self._rows = PackedRows(_TwinRow, _COLUMNS, is_ordered=True)
        self._last = (b"", b"")
        # What comes in another order, or is set later.
        self._apart: dict[bytes, TwinFile] = {}
        self._covered = 0  # of them, those that also have a row

    def extend(self, files: Iterable[tuple[bytes, TwinFile]]) -> None:
        """Adds files that are new."""
        batch = list(files)
        if not batch:
            return
        paths = [path for path, _ in batch]
        if self._follows(paths):
            self._rows.extend([_TwinRow(path, *file) for path, file in batch])
            self._last = place_of(paths[-1])
        else:
            for path, file in batch:
                self[path] = file

    def _follows(self, paths: list[bytes]) -> bool:
        first, last = place_of(paths[0]), place_of(paths[-1])
        if not self._last < first <= last:
            return False
        depth = paths[0].count(b"/")
        # Between two names of a folder only its names lie, if all paths have as many steps.
        if first[0] == last[0] and b"\0".join(paths).count(b"/") == depth * len(paths):
            return paths == sorted(set(paths))
        places = list(map(place_of, paths))
        return places == sorted(set(places))

    def get(self, path: bytes, default: TwinFile | None = None) -> TwinFile | None:  # type: ignore[override]
        if self._apart and (found := self._apart.get(path)) is not None:
            return found
        row = self._rows.get(path)
        return default if row is None else TwinFile._make(row[1:])

    def __getitem__(self, path: bytes) -> TwinFile:
        found = self.get(path)
        if found is None:
            raise KeyError(path)
        return found

    def __contains__(self, path: object) -> bool:
        return isinstance(path, bytes) and (path in self._apart or self._rows.get(path) is not None)

    def __setitem__(self, path: bytes, file: TwinFile) -> None:
        if path not in self._apart and self._rows.get(path) is not None:
            self._covered += 1
        self._apart[path] = file

    def __delitem__(self, path: bytes) -> None:
        raise TypeError("a listing loses no file")

    def __iter__(self) -> Iterator[bytes]:
        yield from (row.path for row in self._rows if not self._covered or row.path not in self._apart)
        yield from self._apart

    def __len__(self) -> int:
        return len(self._rows) + len(self._apart) - self._covered
