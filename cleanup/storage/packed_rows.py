"""Many rows with a path, packed: the million files of a run in some 20 MB."""

import itertools
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, Protocol, SupportsIndex, TypeVar, overload

# Rows of one part. Fewer would compress worse, more would make more objects at once.
TOGETHER = 1024
# Parts whose rows stay for the next search: it goes folder by folder, and a folder may begin in an earlier part.
_KEPT = 4
# The kinds of columns: a truth, a number without a sign, one with a sign, a SHA-256 digest or None.
TRUTH, COUNT, NUMBER, DIGEST = "?", "Q", "q", "d"
_DIGEST_BYTES = 32
# The number of all parts together, where rows are searched in no order.
_ALL = -1
# A scan takes the last folder of a directory first, and after each folder what lies below it: so bytes are ordered the
# other way round, and the end of a name comes last.
_SLASH = ord("/")
_ORDER = bytes(255 if byte == _SLASH else 255 - byte - (byte < _SLASH) for byte in range(256))


class _Row(Protocol):
    @property
    def path(self) -> bytes: ...
    def __iter__(self) -> Iterator[Any]: ...


R = TypeVar("R", bound=_Row)


def place_of(path: bytes) -> tuple[bytes, bytes]:
    """Returns what a scan orders entries by: the folder, and the name in it."""
    folder, slash, name = path.rpartition(b"/")
    return (folder + slash).translate(_ORDER), name


class _Near(NamedTuple, Generic[R]):
    rows: Sequence[R]
    by_path: dict[bytes, R]
    folders: list[bytes]  # of the rows, as they are ordered; filled when it is asked for


class _Part(NamedTuple):
    # `numbers`: the columns after the path, one after the other; digests are apart, because they cannot be compressed.
    # `plain`: the rows themselves, where a number fits in no column.
    size: int
    paths: bytes
    numbers: bytes
    digests: tuple[bytes, ...]
    plain: tuple[Any, ...] | None = None


class PackedRows(Sequence[R]):
    """A sequence that only grows. `kind` is a named tuple: a path, then one field for each of the `columns`.

    `is_ordered`: the caller gives rows in the order of `place_of`; then `get` needs no index.
    """

    def __init__(self, kind: type[R], columns: str, rows: Iterable[R] = (), *, is_ordered: bool = False) -> None:
        self._kind, self._columns, self.is_ordered = kind, columns, is_ordered
        self._parts: list[_Part] = []
        self._places: list[tuple[bytes, bytes]] = []
        self._tail: list[R] = []
        self._found: dict[int, _Near[R]] = {}
        self._latest: dict[bytes, R] = {}
        self.extend(rows)

    def extend(self, rows: Iterable[R]) -> None:
        self._found, self._latest = {}, {}
        remaining = iter(rows)
        while True:
            self._tail += itertools.islice(remaining, TOGETHER + 1 - len(self._tail))
            if len(self._tail) <= TOGETHER:
                return
            self._pack(self._tail[:TOGETHER])
            del self._tail[:TOGETHER]

    def _pack(self, rows: list[R]) -> None:
        self._places.append(place_of(rows[0].path))
        try:
            self._parts.append(_packed(self._columns, rows))
        except OverflowError:
            self._parts.append(_Part(len(rows), b"", b"", (), tuple(rows)))

    def parts(self) -> Iterator[Sequence[R]]:
        """Yields all rows, at most `TOGETHER` at a time."""
        yield from map(self._unpacked, self._parts)
        if self._tail:
            yield self._tail

    def part(self, number: int) -> Sequence[R]:
        """Returns the rows from `TOGETHER` times this number on, at most `TOGETHER`."""
        return self._tail if number == len(self._parts) else self._unpacked(self._parts[number])

    def _unpacked(self, part: _Part) -> Sequence[R]:
        if part.plain is not None:
            return part.plain
        made, kind = tuple.__new__, self._kind
        return [made(kind, row) for row in _rows(self._columns, part)]  # type: ignore[type-var]

    def __iter__(self) -> Iterator[R]:
        return itertools.chain.from_iterable(self.parts())

    def __reversed__(self) -> Iterator[R]:
        yield from reversed(self._tail)
        for part in reversed(self._parts):
            yield from reversed(self._unpacked(part))

    def __len__(self) -> int:
        return TOGETHER * len(self._parts) + len(self._tail)

    @overload
    def __getitem__(self, index: SupportsIndex) -> R: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[R]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> R | Sequence[R]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        part, place = divmod(range(len(self))[index], TOGETHER)
        return self._tail[place] if part == len(self._parts) else self._unpacked(self._parts[part])[place]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(ours == theirs for ours, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def get(self, path: bytes) -> R | None:
        """Returns the row of a path, or None. Cheap for a path that lies near the last one."""
        row = self._latest.get(path)
        if row is not None:
            return row
        if not self.is_ordered:
            number = _ALL
        elif (number := self._part_of(place_of(path))) < 0:
            return None
        self._latest = self._near(number).by_path
        return self._latest.get(path)

    def in_folder(self, folder: bytes) -> Iterator[Sequence[R]]:
        """Yields the rows directly in a folder, some hundred at a time; of ordered rows only."""
        above = (folder + b"/").translate(_ORDER) if folder else b""
        for number in range(max(self._part_of((above, b"")), 0), len(self._parts) + 1):
            rows, folders = self._near(number).rows, self._near(number).folders
            if rows and not folders:
                one = place_of(rows[0].path)[0]
                is_one = one == place_of(rows[-1].path)[0]
                folders += [one] * len(rows) if is_one else [place_of(row.path)[0] for row in rows]
            begin, end = bisect_left(folders, above), bisect_right(folders, above)
            if begin < end:
                yield rows[begin:end]
            if end < len(rows):
                return

    def _part_of(self, place: tuple[bytes, bytes]) -> int:
        if self._tail and place >= place_of(self._tail[0].path):
            return len(self._parts)
        return bisect_right(self._places, place) - 1

    def _near(self, number: int) -> _Near[R]:
        found = self._found.get(number)
        if found is None:
            if len(self._found) == _KEPT:
                del self._found[next(iter(self._found))]
            if number == _ALL:
                rows: Sequence[R] = list(self)
            else:
                rows = self._tail if number == len(self._parts) else self._unpacked(self._parts[number])
            found = self._found[number] = _Near(rows, {row.path: row for row in rows}, [])
        return found


def _packed(columns: str, rows: Sequence[Any]) -> _Part:
    paths, *values = zip(*rows, strict=True)
    numbers, digests = [], []
    for kind, column in zip(columns, values, strict=True):
        if kind == DIGEST:
            digests.append(b"".join(filter(None, column)))
            numbers.append(bytes(digest is not None for digest in column))
        else:
            numbers.append(bytes(column) if kind == TRUTH else array(kind, column).tobytes())
    together = zlib.compress(b"\0".join(paths), 1)
    return _Part(len(paths), together, zlib.compress(b"".join(numbers), 1), tuple(digests))


def _rows(columns: str, part: _Part) -> Iterator[tuple[Any, ...]]:
    paths = zlib.decompress(part.paths).split(b"\0")
    numbers, at = memoryview(zlib.decompress(part.numbers)), 0
    values: list[Iterable[Any]] = []
    digests = iter(part.digests)
    for kind in columns:
        size = part.size if kind in (TRUTH, DIGEST) else 8 * part.size
        column = numbers[at : at + size]
        at += size
        if kind == DIGEST:
            values.append(_digests(column, next(digests)))
        else:
            values.append(column.cast(kind))  # type: ignore[call-overload]
    return zip(paths, *values, strict=True)


def _digests(there: memoryview, together: bytes) -> Iterator[bytes | None]:
    at = 0
    for one in there:
        yield together[at : at + _DIGEST_BYTES] if one else None
        at += _DIGEST_BYTES * one
