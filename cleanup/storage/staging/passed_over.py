"""Folders that a walk passes over for their names, though runs may lie in them."""

import itertools
import os
from dataclasses import dataclass

from cleanup.storage import handles, run_paths
from cleanup.storage.staging import desktop_files

# Names that one walk looks at: in all such folders together, in one of them, and in one directory within.
MOST_NAMES = 10_000
MOST_NAMES_OF_ONE = 3_000
_MOST_NAMES_OF_DIRECTORY = 1_000
_OURS = b".exlab"
_RECORDS = (run_paths.INGEST, run_paths.SYNC_STATE, run_paths.CREATION)
# These hold older states of everything, and a look into some of them mounts them.
_SNAPSHOTS = frozenset({b".zfs", b".snapshot", b".snapshots", b"#snapshot", b"~snapshot", b"@recently-snapshot"})
# The steps from a staging root to a run: EQUIPMENT/PROJECT/Runs/LEAF, or without the folder of its kind.
_STEPS = (3, 4)


@dataclass
class SearchBudget:
    """The number of names that may still be looked at."""

    names: int


def is_passed_over(name: bytes) -> bool:
    """Whether a walk passes over a folder of this name that is not ours."""
    hidden = name.startswith(b".") or desktop_files.is_system_folder(name)
    return hidden and not name.startswith(_OURS) and name.lower() not in _SNAPSHOTS


def why(name: bytes) -> str:
    """Says why a name is passed over."""
    if name.startswith(b"."):
        return "its name begins with a dot"
    return "its name is one that filesystems, Windows or NAS systems give their own folders"


def find_run(parent: int, name: bytes, level: int, budget: SearchBudget) -> bytes | None:
    """Returns the path of the first run in a folder, or None.

    `parent` is the open folder above; `level` 0: staging root, 1: instrument, 2: project, 3: kind.
    """
    pending = [name]
    mine = SearchBudget(min(budget.names, MOST_NAMES_OF_ONE))
    budget.names -= mine.names
    found = None
    while pending and found is None:
        path = pending.pop()
        steps = level + 1 + path.count(b"/")
        try:
            with handles.opened(handles.open_beneath(parent, path)) as descriptor:
                if steps in _STEPS and _has_record(descriptor):
                    found = path
                elif steps < max(_STEPS):
                    pending += [path + b"/" + below for below in _folders(descriptor, mine)]
        except OSError:
            continue  # a folder that is not ours to read
    budget.names += mine.names
    return found


# A wizard's record is the sign of a run.
def _has_record(directory: int) -> bool:
    return any(_is_file(directory, run_paths.METADATA + b"/" + name) for name in _RECORDS)


def _is_file(directory: int, path: bytes) -> bool:
    try:
        with handles.opened_file(directory, path):
            return True
    except OSError:
        return False


def _folders(directory: int, budget: SearchBudget) -> list[bytes]:
    # The first by name comes last, because the search takes from the end.
    found = []
    most = min(budget.names, _MOST_NAMES_OF_DIRECTORY)
    with os.scandir(directory) as entries:
        for entry in itertools.islice(entries, most):
            budget.names -= 1
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(_OURS.decode()):
                found.append(os.fsencode(entry.name))
    return sorted(found, reverse=True)
