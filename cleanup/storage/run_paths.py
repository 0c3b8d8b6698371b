"""The grammar of names: where a run lies beneath a staging root, and what files of ours are called."""

import os
import re
from dataclasses import dataclass

from cleanup.storage.errors import UnsafePath

METADATA = b".exlab-wizard"
INGEST = b"ingest.json"
INGEST_LOCK = b"ingest.json.lock"
SYNC_STATE = b"sync_state.json"
CREATION = b"creation.json"
MANIFEST = b"checksums.sha256"
FENCE_PREFIX = b".exlab-clearing-"
PREPARED_SUFFIX = b".ingest.json"
CHALLENGE_PREFIX = b".exlab-challenge-"

_LEAF = re.compile(r"(?P<kind>Run|TestRun)_\d{4}-\d{2}-\d{2}T\d{2}-\d{2}(-\d{2})?", re.ASCII)
KIND_FOLDERS = {"Runs": "Run", "TestRuns": "TestRun"}
_KINDS = {"Run": "experimental", "TestRun": "test"}
# The wizard takes any name with one of these beginnings for a run's, below its kind's folder or in the project itself.
_POSSIBLE_LEAF = re.compile(r"(?P<kind>Run|TestRun)_.+")
# Characters of a leaf that the database keeps.
_MAX_LEAF = 64


@dataclass(frozen=True)
class RunPath:
    """The steps from a staging root to a run; `folder` is empty for a run in its project's own folder."""

    equipment: str
    project: str
    folder: str
    leaf: str

    @property
    def run_kind(self) -> str:
        """`experimental` or `test`, as the leaf says."""
        return _KINDS[self.leaf.partition("_")[0]]

    @property
    def parent(self) -> bytes:
        return os.fsencode(str(self).rpartition("/")[0])

    @property
    def is_usual(self) -> bool:
        """Whether the path alone makes it a run; elsewhere its record must name the path."""
        return self.folder in KIND_FOLDERS and is_leaf_name(self.leaf, self.folder)

    def __str__(self) -> str:
        return "/".join(step for step in (self.equipment, self.project, self.folder, self.leaf) if step)


def is_folder_name(name: str) -> bool:
    """Whether an equipment or a project may be called so: printable, not hidden, no separator."""
    return (
        name.isprintable()
        and 0 < len(name.encode()) <= 255
        and name == name.strip()
        and not name.startswith(".")
        and "/" not in name
    )


def is_leaf_name(name: str, folder: str) -> bool:
    """Whether a name below `Runs` or `TestRuns` is a run's: kind and date."""
    match = _LEAF.fullmatch(name)
    return match is not None and match["kind"] == KIND_FOLDERS[folder]


def is_possible_leaf(name: str, folder: str) -> bool:
    """Whether a directory below `Runs` or `TestRuns`, or in a project (`folder` empty), may be a run.

    Any text may follow `Run_` or `TestRun_`; see `RunPath.is_usual` for what makes it one.
    """
    match = _POSSIBLE_LEAF.fullmatch(name)
    if match is None or len(name) > _MAX_LEAF or not is_folder_name(name):
        return False
    return not folder or match["kind"] == KIND_FOLDERS[folder]


def parse_run_path(text: str) -> RunPath:
    """Read `<EQUIPMENT>/<PROJECT>/{Runs,TestRuns}/<leaf>` or `<EQUIPMENT>/<PROJECT>/<leaf>`. Raises UnsafePath.

    A leaf is `Run_` or `TestRun_` with any text.
    """
    equipment, project, folder, leaf = _steps(text)
    if not (is_folder_name(equipment) and is_folder_name(project)):
        raise UnsafePath(f"{_show_text(text)} is not EQUIPMENT/PROJECT/Runs/Run_DATE")
    if not is_possible_leaf(leaf, folder):
        raise UnsafePath(f"{_show_text(leaf)} is not the name of a run below {folder or 'a project'}")
    return RunPath(equipment, project, folder, leaf)


def _steps(text: str) -> tuple[str, str, str, str]:
    """The four steps of a run path, the third of them empty where the run lies in its project. Raises UnsafePath."""
    parts = text.split("/")
    if len(parts) == 4 and parts[2] in KIND_FOLDERS:
        return parts[0], parts[1], parts[2], parts[3]
    # `Runs` in a project's place is a folder of runs whose project is missing.
    if len(parts) == 3 and parts[1] not in KIND_FOLDERS:
        return parts[0], parts[1], "", parts[2]
    raise UnsafePath(f"{_show_text(text)} is not EQUIPMENT/PROJECT/Runs/Run_DATE")


def is_usual(text: str) -> bool:
    """Whether a text is the path of a run that needs no record to be one."""
    try:
        return parse_run_path(text).is_usual
    except UnsafePath:
        return False


def show(name: bytes) -> str:
    r"""A name as a person can read it: undecodable bytes as \xNN, control characters escaped."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def _show_text(text: str) -> str:
    """As `show`, for text that came from anywhere and may hold what no name can."""
    return show(text.encode("utf-8", "backslashreplace"))
