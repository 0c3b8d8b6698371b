"""The entries of a run: which are data, what they count, and how two looks differ. A run may have a million."""

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, SupportsIndex, overload

from cleanup.storage.packed_rows import COUNT, NUMBER, TOGETHER, TRUTH, PackedRows
from cleanup.storage.run_paths import METADATA, show
from cleanup.storage.staging import hold_file, metadata

_IN_METADATA = METADATA + b"/"
_COLUMNS = TRUTH + 4 * COUNT + 2 * NUMBER
# So many entries are sorted faster than folder by folder, and take 10 MB.
_SORTED_AT_ONCE = 32 * TOGETHER
# Names at a run's top that may be no data begin like this.
_OURS = b".exlab-"


class Entry(NamedTuple):
    """One file or directory of a run: path and identity. Sizes in bytes."""

    path: bytes
    is_file: bool
    ino: int
    nlink: int
    size: int
    allocated: int
    mtime_ns: int
    ctime_ns: int

    def is_unchanged(self, other: "Entry") -> bool:
        """As `same_as`, and no link of it has come or gone."""
        return self.same_as(other) and (not self.is_file or self.ctime_ns == other.ctime_ns)

    def same_as(self, other: "Entry") -> bool:
        """Whether `other` is this entry, unchanged."""
        if self.is_file != other.is_file or self.ino != other.ino:
            return False
        if not self.is_file:
            return True  # removals in a directory change its times
        # The ctime of a file with several links changes when another link goes.
        return (
            self.size == other.size
            and self.mtime_ns == other.mtime_ns
            and (self.nlink > 1 or self.ctime_ns == other.ctime_ns)
        )


@dataclass(frozen=True)
class Count:
    """Files and bytes, each inode once; `allocated`: only blocks that become free."""

    files: int = 0
    bytes: int = 0
    allocated: int = 0


@dataclass(frozen=True)
class Totals:
    """What one pass over a run's entries tells. `newest_ns`: of the data files; `metadata`: everything in that folder.

    `whole` and `data` count each inode once, `data_bytes` each file.
    """

    whole: Count
    data: Count
    data_files: int = 0
    data_bytes: int = 0
    newest_ns: int | None = None
    desktop_bytes: int = 0
    locks: int = 0
    metadata: tuple[Entry, ...] = ()


def packed(entries: Iterable[Entry] = (), *, is_ordered: bool = False) -> PackedRows[Entry]:
    """Returns entries in little memory; `is_ordered`: they come as a scan finds them."""
    return PackedRows(Entry, _COLUMNS, entries, is_ordered=is_ordered)


def parts_of(entries: Iterable[Entry]) -> Iterator[Sequence[Entry]]:
    """Yields entries some hundred at a time."""
    if isinstance(entries, PackedRows | ChosenEntries):
        yield from entries.parts()
    else:
        yield entries if isinstance(entries, Sequence) else list(entries)


class ChosenEntries(Sequence[Entry]):
    """Some of the entries, chosen anew at each use: they take no memory."""

    def __init__(
        self, entries: Iterable[Entry], choose: Callable[[Sequence[Entry]], Sequence[Entry]], length: int | None = None
    ) -> None:
        self._entries = entries if isinstance(entries, PackedRows) else packed(entries)
        self._choose, self._length = choose, length

    def parts(self) -> Iterator[Sequence[Entry]]:
        """Yields the chosen, some hundred at a time."""
        return filter(None, map(self._choose, self._entries.parts()))

    def get(self, path: bytes) -> Entry | None:
        """Returns the chosen entry of a path, or None. Cheap for a path that lies near the last one."""
        entry = self._entries.get(path)
        return entry if entry is not None and self._choose((entry,)) else None

    @property
    def is_ordered(self) -> bool:
        """Whether they come as a scan finds them."""
        return self._entries.is_ordered

    def by_path(self) -> Iterator[Entry]:
        """Yields the chosen sorted by their whole paths."""
        return itertools.chain.from_iterable(map(self._choose, by_path(self._entries)))

    @property
    def paths(self) -> "Paths":
        """Returns the paths of the chosen."""
        return Paths(self)

    def __iter__(self) -> Iterator[Entry]:
        for part in self.parts():
            yield from part

    def __len__(self) -> int:
        if self._length is None:
            self._length = sum(map(len, self.parts()))
        return self._length

    @overload
    def __getitem__(self, index: SupportsIndex) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Entry]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Entry | Sequence[Entry]:
        if isinstance(index, slice):
            return list(self)[index]
        number = range(len(self))[index]
        for part in self.parts():
            if number < len(part):
                return part[number]
            number -= len(part)
        raise IndexError(index)


class Paths(Collection[bytes]):
    """The paths of chosen entries; they take no memory."""

    def __init__(self, chosen: ChosenEntries) -> None:
        self._chosen = chosen

    @property
    def is_ordered(self) -> bool:
        """Whether they come as a scan finds them."""
        return self._chosen.is_ordered

    def __contains__(self, path: object) -> bool:
        return isinstance(path, bytes) and self._chosen.get(path) is not None

    def __iter__(self) -> Iterator[bytes]:
        return (entry.path for entry in self._chosen)

    def __len__(self) -> int:
        return len(self._chosen)


def paths_of(files: Sequence[Entry]) -> Collection[bytes]:
    """Returns the paths of files, in no memory where those take none."""
    return files.paths if isinstance(files, ChosenEntries) else [file.path for file in files]


def is_metadata(path: bytes) -> bool:
    """Whether a path lies in the top-level `.exlab-wizard`; nested folders are data."""
    return path.startswith(_IN_METADATA)


def is_data(path: bytes) -> bool:
    """Whether a path is neither metadata nor the hold file."""
    return not path.startswith(_IN_METADATA) and not hold_file.is_hold(path)


def is_lock(entry: Entry) -> bool:
    """Whether an entry is a lock of the wizard's."""
    return is_metadata(entry.path) and metadata.is_lock(entry.path.removeprefix(_IN_METADATA), entry)


def is_linked_lock(entry: Entry) -> bool:
    return is_metadata(entry.path) and metadata.is_linked_lock(entry.path.removeprefix(_IN_METADATA), entry)


def data_of(entries: Sequence[Entry], desktop: Collection[bytes] = ()) -> Sequence[Entry]:
    """Returns the files without metadata, hold file and the paths in `desktop`."""
    files = [
        entry for entry in entries if entry.is_file and not (entry.path.startswith(_OURS) and not is_data(entry.path))
    ]
    return [entry for entry in files if entry.path not in desktop] if desktop else files


def files_of(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Returns the files of every kind."""
    return [entry for entry in entries if entry.is_file]


def without_locks(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Returns the entries that show a change of the run."""
    return [entry for entry in entries if not (entry.path.startswith(_IN_METADATA) and is_lock(entry))]


def by_path(entries: PackedRows[Entry]) -> Iterator[Sequence[Entry]]:
    """Yields the entries of a scan sorted by their whole paths, some at a time."""
    if entries.is_ordered and len(entries) > _SORTED_AT_ONCE:
        yield from _by_path(entries, b"")
    else:
        yield sorted(entries, key=lambda entry: entry.path)


def _by_path(entries: PackedRows[Entry], folder: bytes) -> Iterator[Sequence[Entry]]:
    # What lies in a folder comes after all names beside it that are smaller than its own with a slash: `a-b`, `a/x`.
    pending: list[bytes] = []
    for some in entries.in_folder(folder):
        if not pending and all(entry.is_file for entry in some):
            yield some
            continue
        for entry in some:
            while pending and pending[-1] + b"/" < entry.path:
                yield from _by_path(entries, pending.pop())
            yield (entry,)
            if not entry.is_file:
                pending.append(entry.path)
    while pending:
        yield from _by_path(entries, pending.pop())


class _Counter:
    # Files with one link need no memory: only the others may be met again.

    def __init__(self) -> None:
        self._files = self._size = self._allocated = 0
        self._linked: dict[int, list[Entry]] = {}
        self._remaining: set[int] = set()

    def add(self, part: Iterable[Entry], left: Collection[bytes] = frozenset()) -> None:
        for entry in part:
            path, is_file, ino, nlink, size, allocated, _, _ = entry
            if not is_file:
                continue
            is_left = bool(left) and path in left
            if nlink > 1:
                self._linked.setdefault(ino, []).append(entry)
                if is_left:
                    self._remaining.add(ino)
            elif not is_left:
                self._files += 1
                self._size += size
                self._allocated += allocated

    def counted(self) -> Count:
        # An inode is gone when none of its planned names is left; its blocks are free if it had no other name.
        gone = [names for ino, names in self._linked.items() if ino not in self._remaining]
        free = sum(names[-1].allocated for names in gone if names[-1].nlink <= len(names))
        size = sum(names[-1].size for names in gone)
        return Count(self._files + len(gone), self._size + size, self._allocated + free)


def totals(entries: Sequence[Entry], desktop: Collection[bytes] = ()) -> Totals:
    """Returns what a run's entries count; `desktop`: paths that are no data."""
    whole, data = _Counter(), _Counter()
    files = size = of_desktop = locks = 0
    times: list[int] = []
    inside: list[Entry] = []
    for part in parts_of(entries):
        chosen = data_of(part, desktop)
        whole.add(part)
        data.add(chosen)
        files += len(chosen)
        size += sum(entry.size for entry in chosen)
        newest = max((entry.mtime_ns for entry in chosen), default=None)
        times += [] if newest is None else [newest]
        if len(chosen) < len(part):
            of_desktop += sum(entry.size for entry in part if entry.path in desktop)
            inside += [entry for entry in part if is_metadata(entry.path)]
            locks += len(part) - len(without_locks(part))
    return Totals(
        whole.counted(), data.counted(), files, size, max(times, default=None), of_desktop, locks, tuple(inside)
    )


def count(entries: Iterable[Entry]) -> Count:
    """Counts regular files and bytes, each inode once."""
    return freed(entries, left=frozenset())


def freed(entries: Iterable[Entry], left: Collection[bytes]) -> Count:
    """Counts the planned entries that are gone when `left` remains."""
    counter = _Counter()
    for part in parts_of(entries):
        counter.add(part, left)
    return counter.counted()


def differences(planned: Iterable[Entry], found: Iterable[Entry], *, strict: bool = False) -> list[str]:
    """Says how two scans of one run differ, without locks.

    `strict`: files with several links must have kept their ctime.
    """
    same = Entry.is_unchanged if strict else Entry.same_as
    before, after = ChosenEntries(planned, without_locks), ChosenEntries(found, without_locks)
    # Two scans have one order: what is in only one of them stands here until the end.
    only_before: dict[bytes, Entry] = {}
    only_after: dict[bytes, Entry] = {}
    words: list[str] = []

    def compare(one: Entry, other: Entry) -> None:
        if not same(one, other):
            words.append(f"{show(one.path)} has changed")

    for one, other in itertools.zip_longest(before, after):
        if one == other:
            continue
        if one is not None and other is not None and one.path == other.path:
            compare(one, other)
            continue
        if one is not None and (later := only_after.pop(one.path, None)) is None:
            only_before[one.path] = one
        elif one is not None and later is not None:
            compare(one, later)
        if other is not None and (earlier := only_before.pop(other.path, None)) is None:
            only_after[other.path] = other
        elif other is not None and earlier is not None:
            compare(earlier, other)
    words += [f"{show(path)} is gone" for path in only_before]
    words += [f"{show(path)} is new" for path in only_after]
    return sorted(words)
