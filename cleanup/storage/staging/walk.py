"""The walk over a staging root: its runs and everything among them. Reads only, through no link or mount."""

import contextlib
import enum
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from cleanup.rules.findings import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage import errors, handles, linux, run_paths
from cleanup.storage.errors import UnsafePath
from cleanup.storage.root_files.reserve import RESERVE
from cleanup.storage.root_files.tokens import TOKEN
from cleanup.storage.run_paths import FENCE_PREFIX, KIND_FOLDERS, RunPath, show
from cleanup.storage.staging import desktop_files, named_places, passed_over, run_tree, set_aside

_EQUIPMENT, _PROJECT, _FOLDER, _LEAF = range(4)
# Limits of the search for runs in a folder that is no part of the layout.
_SEARCH_DEPTH = 3
_SEARCH_NAMES = 10_000
# The wizard writes one for each project.
_PROJECTS_OWN = b"README.md"


class Shape(enum.StrEnum):
    """The kind of an entry on a staging disk, by its name and place."""

    RUN = "run"
    FENCE = "fence"
    LEFTOVER = "leftover"
    MISPLACED = "misplaced"
    STRAY = "stray"
    ASIDE = "aside"
    PASSED_OVER = "passed_over"
    BLOCKED = "blocked"


@dataclass(frozen=True)
class DiskEntry:
    """One entry on the walk, relative to the root.

    `problem` keeps the walk out; behind a `blocked` entry anything may lie. `within`: run-shaped directories inside.
    """

    shape: Shape
    raw: bytes
    problem: Finding | None = None
    modified_ns: int | None = None
    size: int = 0
    is_directory: bool = False
    within: tuple[bytes, ...] = ()

    @property
    def path(self) -> str:
        return show(self.raw)


# Which names in an open folder of runs are wanted: the folder, its path, its names by name. Raises OSError.
Wanted = Callable[[int, bytes, list[bytes]], list[bytes]]


def walk(
    root: int, *, strays: bool = True, known: Collection[str] = (), wanted: Wanted | None = None
) -> Iterator[DiskEntry]:
    """Yields everything on an open staging root down to the runs, by name.

    Without `strays` only runs, the way to them and our own names. `known`: paths of runs in unusual places. Of the
    names in `Runs` and `TestRuns` only the `wanted` ones are looked at.
    """
    budget = passed_over.SearchBudget(passed_over.MOST_NAMES)
    yield from _walk(root, b"", _EQUIPMENT, _Asked(strays, frozenset(known), budget, wanted))


def _is_expected(name: bytes, level: int, size: int) -> bool:
    of_desktop = desktop_files.is_named(name) and size <= desktop_files.MAX_FILE_BYTES
    return of_desktop or (level == _FOLDER and name == _PROJECTS_OWN)


@dataclass(frozen=True)
class _Asked:
    strays: bool
    known: frozenset[str]
    budget: passed_over.SearchBudget
    wanted: Wanted | None = None


def is_run_shaped(name: str) -> bool:
    """Whether a name is that of a run of either kind."""
    return any(run_paths.is_leaf_name(name, folder) for folder in KIND_FOLDERS)


def _walk(descriptor: int, above: bytes, level: int, asked: _Asked) -> Iterator[DiskEntry]:
    try:
        names = _names_wanted(descriptor, above, level, asked)
    except OSError as error:
        yield DiskEntry(Shape.BLOCKED, above, errors.way_blocked(error), is_directory=True)
        return
    for name in names:
        if name == set_aside.FOLDER and asked.strays:
            yield from _aside(descriptor, above)
            continue
        ours = _is_ours(name, level)
        raw = above + b"/" + name if above else name
        if (name.startswith(b".") and not ours) or desktop_files.is_system_folder(name):
            yield from _passed_over(descriptor, raw, name, level, asked.budget)
            continue
        # In an unusual place a directory is a run if its record names the place, or its path is in `known`.
        belongs = _belongs(os.fsdecode(name), above, level) or os.fsdecode(raw) in asked.known
        unusual = None if belongs or ours else _unusual(os.fsdecode(raw))
        if not (asked.strays or belongs or ours or unusual):
            continue
        try:
            status = linux.status(descriptor, name)
            if unusual is not None and status.is_directory:
                belongs = _is_named(descriptor, name, unusual)
            if not asked.strays and not (belongs or ours):
                continue
            if status.is_file and _is_expected(name, level, status.size):
                continue
            if ours:
                yield _sight(Shape.FENCE if name.startswith(FENCE_PREFIX) else Shape.LEFTOVER, raw, status)
            elif belongs and status.is_directory and _problem_with_name(name, level) is None:
                yield from _enter(descriptor, raw, name, status, level, asked)
            else:
                yield _out_of_place(descriptor, raw, name, status, level, belongs=belongs)
        except FileNotFoundError:
            continue  # it went meanwhile
        except OSError as error:
            if belongs:
                yield DiskEntry(Shape.BLOCKED, raw, errors.way_blocked(error), is_directory=True)


def _names_wanted(descriptor: int, above: bytes, level: int, asked: _Asked) -> list[bytes]:
    names = run_tree.sorted_names(descriptor)
    return asked.wanted(descriptor, above, names) if asked.wanted is not None and level == _LEAF else names


def _aside(parent: int, above: bytes) -> Iterator[DiskEntry]:
    with contextlib.suppress(OSError), handles.opened(handles.open_beneath(parent, set_aside.FOLDER)) as folder:
        for name in sorted(os.fsencode(name) for name in os.listdir(folder)):
            raw = b"/".join((*filter(None, [above]), set_aside.FOLDER, name))
            yield _sight(Shape.ASIDE, raw, linux.status(folder, name))


def _passed_over(
    parent: int, raw: bytes, name: bytes, level: int, budget: passed_over.SearchBudget
) -> Iterator[DiskEntry]:
    if not passed_over.is_passed_over(name):
        return
    with contextlib.suppress(OSError):
        status = linux.status(parent, name)
        if status.is_directory and (run := passed_over.find_run(parent, name, level, budget)):
            said = f"{passed_over.why(name)}; in it lies {show(run)}"
            yield _sight(Shape.PASSED_OVER, raw, status, Finding(Reason.PASSED_OVER, said))


def _enter(
    descriptor: int, raw: bytes, name: bytes, status: linux.FileStatus, level: int, asked: _Asked
) -> Iterator[DiskEntry]:
    with handles.opened(handles.open_beneath(descriptor, name)) as below:
        if level == _LEAF or (level == _FOLDER and os.fsdecode(name) not in KIND_FOLDERS):
            yield _sight(Shape.RUN, raw, status)
            return
        if is_run_shaped(os.fsdecode(name)):
            yield _sight(Shape.MISPLACED, raw, status)
        yield from _walk(below, raw, level + 1, asked)


def _out_of_place(
    descriptor: int, raw: bytes, name: bytes, status: linux.FileStatus, level: int, *, belongs: bool
) -> DiskEntry:
    if status.is_symlink:
        return _sight(Shape.STRAY, raw, status, Finding(Reason.UNSAFE_PATH, "a symbolic link") if belongs else None)
    if not status.is_directory:
        return _sight(Shape.STRAY, raw, status)
    if not belongs and is_run_shaped(os.fsdecode(name)):
        return _sight(Shape.MISPLACED, raw, status)
    return _sight(
        Shape.STRAY,
        raw,
        status,
        _problem_with_name(name, level) if belongs else None,
        tuple(_runs_within(descriptor, name, raw)),
    )


def _sight(
    shape: Shape, raw: bytes, status: linux.FileStatus, problem: Finding | None = None, within: tuple[bytes, ...] = ()
) -> DiskEntry:
    size = status.size if status.is_file else 0
    return DiskEntry(shape, raw, problem, status.mtime_ns, size, status.is_directory, within)


def _belongs(name: str, above: bytes, level: int) -> bool:
    if level == _FOLDER:
        return name in KIND_FOLDERS
    if level == _LEAF:
        return run_paths.is_leaf_name(name, os.fsdecode(above.rpartition(b"/")[2]))
    return True


def _unusual(path: str) -> RunPath | None:
    try:
        found = run_paths.parse_run_path(path)
    except UnsafePath:
        return None
    return None if found.is_usual else found


def _is_named(parent: int, name: bytes, path: RunPath) -> bool:
    try:
        with handles.opened(handles.open_beneath(parent, name)) as run:
            return named_places.names_place(run, path)
    except FileNotFoundError:
        raise
    except OSError:
        return False


def _is_ours(name: bytes, level: int) -> bool:
    # The root's own token and reserve are no traces of a clear or a registration.
    if level == _EQUIPMENT and name in (TOKEN, RESERVE):
        return False
    return name.startswith((FENCE_PREFIX, RESERVE))


def _problem_with_name(name: bytes, level: int) -> Finding | None:
    if level < _FOLDER and not run_paths.is_folder_name(os.fsdecode(name)):
        return Finding(Reason.UNSAFE_PATH, "a name that no equipment or project can have")
    return None


def _runs_within(parent: int, name: bytes, raw: bytes) -> list[bytes]:
    found: list[bytes] = []
    looked_at = 0
    pending = [(name, raw, _SEARCH_DEPTH)]
    while pending and looked_at < _SEARCH_NAMES:
        way, path, depth = pending.pop()
        try:
            with handles.opened(handles.open_beneath(parent, way)) as descriptor, os.scandir(descriptor) as entries:
                for entry in entries:
                    looked_at += 1
                    below = os.fsencode(entry.name)
                    if looked_at > _SEARCH_NAMES or not entry.is_dir(follow_symlinks=False):
                        continue
                    if is_run_shaped(entry.name):
                        found.append(path + b"/" + below)
                    elif depth > 1:
                        pending.append((way + b"/" + below, path + b"/" + below, depth - 1))
        except OSError:
            continue  # the measure of the whole folder reports it
    return sorted(found)


@dataclass(frozen=True)
class Measure:
    """Files and logical bytes, None if not all is visible; the newest time.

    `detail`: the obstacle.
    """

    files: int | None
    bytes: int | None
    modified_ns: int | None
    detail: str = ""


def measure(root: int, raw: bytes, *, without: tuple[bytes, ...] = ()) -> Measure:
    """Measures a path below an open root, except paths in `without`. Raises OSError."""
    above, _, name = raw.rpartition(b"/")
    with handles.opened(handles.open_beneath(root, above or b".")) as parent:
        status = linux.status(parent, name)
        if not status.is_directory:
            return Measure(int(status.is_file), status.size if status.is_file else 0, status.mtime_ns)
        try:
            descriptor = handles.open_beneath(parent, name)
        except FileNotFoundError:
            raise
        except OSError as error:
            return Measure(None, None, status.mtime_ns, errors.way_blocked(error).detail)
        with handles.opened(descriptor):
            scanned = run_tree.scan(descriptor)
    skipped = tuple(path.removeprefix(raw + b"/") for path in without)
    entries = [entry for entry in scanned.entries if not _lies_in(entry.path, skipped)]
    newest = max((status.mtime_ns, *(entry.mtime_ns for entry in entries)))
    if scanned.unseen:
        return Measure(None, None, newest, scanned.unseen[0].detail)
    counted = run_tree.count(entries)
    return Measure(counted.files, counted.bytes, newest)


def _lies_in(path: bytes, folders: tuple[bytes, ...]) -> bool:
    return any(path == folder or path.startswith(folder + b"/") for folder in folders)
