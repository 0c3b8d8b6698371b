"""The grammar of names: where a run lies beneath a staging root, and our own files' names."""

import os
import re
from dataclasses import dataclass

from cleanup.storage.errors import UnsafePath

METADATA = b".exlab-wizard"
INGEST = b"ingest.json"
SYNC_STATE = b"sync_state.json"
CREATION = b"creation.json"
MANIFEST = b"checksums.sha256"
FENCE_PREFIX = b".exlab-clearing-"
PREPARED_SUFFIX = b".ingest.json"
CHALLENGE_PREFIX = b".exlab-challenge-"

_LEAF = re.compile(r"(?P<kind>Run|TestRun)_\d{4}-\d{2}-\d{2}T\d{2}-\d{2}(-\d{2})?", re.ASCII)
KIND_FOLDERS = {"Runs": "Run", "TestRuns": "TestRun"}
_KINDS = {"Run": "experimental", "TestRun": "test"}
# The wizard takes any name with such a beginning for a run, below its kind's folder or directly in the project.
_POSSIBLE_LEAF = re.compile(r"(?P<kind>Run|TestRun)_.+")
# The database keeps at most this number of characters.
_MAX_LEAF = 64


@dataclass(frozen=True)
class RunPath:
    """The steps from a staging root to a run; `folder` is empty directly in a project."""

    equipment: str
    project: str
    folder: str
    leaf: str

    @property
    def run_kind(self) -> str:
        return _KINDS[self.leaf.partition("_")[0]]

    @property
    def parent(self) -> bytes:
        return os.fsencode(str(self).rpartition("/")[0])

    @property
    def is_usual(self) -> bool:
        """Whether the path alone makes it a run; else its record must name the path."""
        return self.folder in KIND_FOLDERS and is_leaf_name(self.leaf, self.folder)

    def __str__(self) -> str:
        return "/".join(step for step in (self.equipment, self.project, self.folder, self.leaf) if step)


def is_folder_name(name: str) -> bool:
    """Whether an equipment or a project may have this name."""
    return (
        name.isprintable()
        and 0 < len(name.encode()) <= 255
        and name == name.strip()
        and not name.startswith(".")
        and "/" not in name
    )


def is_leaf_name(name: str, folder: str) -> bool:
    """Whether a name below `Runs` or `TestRuns` is kind and date."""
    match = _LEAF.fullmatch(name)
    return match is not None and match["kind"] == KIND_FOLDERS[folder]


def is_possible_leaf(name: str, folder: str) -> bool:
    """Whether a directory below `folder`, or in a project if empty, may be a run."""
    match = _POSSIBLE_LEAF.fullmatch(name)
    if match is None or len(name) > _MAX_LEAF or not is_folder_name(name):
        return False
    return not folder or match["kind"] == KIND_FOLDERS[folder]


def parse_run_path(text: str) -> RunPath:
    """Reads `<EQUIPMENT>/<PROJECT>/[{Runs,TestRuns}/]<leaf>`. Raises UnsafePath.

    A leaf is `Run_` or `TestRun_` with any text.
    """
    equipment, project, folder, leaf = _steps(text)
    if not (is_folder_name(equipment) and is_folder_name(project)):
        raise UnsafePath(f"{_show_text(text)} is not EQUIPMENT/PROJECT/Runs/Run_DATE")
    if not is_possible_leaf(leaf, folder):
        raise UnsafePath(f"{_show_text(leaf)} is not the name of a run below {folder or 'a project'}")
    return RunPath(equipment, project, folder, leaf)


def _steps(text: str) -> tuple[str, str, str, str]:
    parts = text.split("/")
    if len(parts) == 4 and parts[2] in KIND_FOLDERS:
        return parts[0], parts[1], parts[2], parts[3]
    # `Runs` in the place of a project is a folder of runs without a project.
    if len(parts) == 3 and parts[1] not in KIND_FOLDERS:
        return parts[0], parts[1], "", parts[2]
    raise UnsafePath(f"{_show_text(text)} is not EQUIPMENT/PROJECT/Runs/Run_DATE")


def is_usual(text: str) -> bool:
    """Whether a text is the path of a run that needs no record."""
    try:
        return parse_run_path(text).is_usual
    except UnsafePath:
        return False


def show(name: bytes) -> str:
    r"""Returns a readable name: undecodable bytes as \xNN, control characters escaped."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def _show_text(text: str) -> str:
    # The text may hold characters that no file name can.
    return show(text.encode("utf-8", "backslashreplace"))
