"""Shells: the wizard's folders without data at the path of a fenced or removed run."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cleanup.lab.roots import opening
from cleanup.models import ClearAttempt, Phase, Run, StagingRoot
from cleanup.rules.states import State
from cleanup.storage import handles, run_paths
from cleanup.storage.data_directory.datadir import TombstoneError
from cleanup.storage.run_paths import RunPath, show
from cleanup.storage.staging import fences, run_tree, shell_folders
from cleanup.storage.staging.records import ingest_json as ingest
from cleanup.storage.staging.shell_folders import Shell

# A disk's clock is some milliseconds behind ours.
_COARSE = timedelta(seconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Left:
    """A shell on a staging disk. `run` is the one at whose path it was made, None if unknown."""

    run: Run | None
    detail: str = ""


def move_shell_aside(attempt: ClearAttempt, run: Run, parent: int) -> bytes:
    """Move the shell at a run's path aside; `parent` is the run's open folder. Raises as `shells.move_aside`."""
    path = run_paths.parse_run_path(run.run_path)
    return shell_folders.move_aside(parent, path, attempt.pk.hex, since_ns=fenced_since_ns(attempt))


def fenced_since_ns(attempt: ClearAttempt) -> int:
    """Return when the attempt's fence was made, in nanoseconds since 1970, by the filesystem's clock if known."""
    try:
        return int(opening.data_dir().read_story(attempt.pk.hex)["fenced_ns"])
    except (TombstoneError, KeyError, TypeError, ValueError):
        return (attempt.created_at - _COARSE - _EPOCH) // timedelta(microseconds=1) * 1000


def left_at(root: StagingRoot, path: RunPath, opened: opening.OpenRun) -> Left | None:
    """Return the shell at the path of a cleared or fenced run; else None. Raises OSError."""
    shell = shell_folders.read(opened.run, path, since_ns=None)
    if shell is None:
        return None
    cleared = _cleared_at(root, path)
    if cleared is not None:
        born = shell.scan.birth_ns
        if born is not None and born < fenced_since_ns(cleared):
            return None
        return Left(cleared.run)
    fence = _unknown_fence_of(path, opened.parent)
    return Left(None, f"the run itself lies beside it as {show(fence)}") if fence else None


def _cleared_at(root: StagingRoot, path: RunPath) -> ClearAttempt | None:
    gone = ClearAttempt.objects.clears().filter(
        run__root=root, run__run_path=str(path), run__state=State.CLEARED, phase__in=[Phase.COMMITTED, Phase.DONE]
    )
    return gone.select_related("run__root").order_by("-created_at").first()


def _unknown_fence_of(path: RunPath, parent: int) -> bytes | None:
    """Its record names the path, and no attempt of ours made it."""
    for name in fences.found_in(parent):
        attempt = name.removeprefix(run_paths.FENCE_PREFIX).decode("ascii", "replace")
        if not (fences.is_fence_name(name) and _names(parent, name, path)):
            continue
        if not ClearAttempt.objects.filter(pk=attempt).exists():
            return name
    return None


def _names(parent: int, fence: bytes, path: RunPath) -> bool:
    try:
        with handles.opened(handles.open_beneath(parent, fence)) as fenced:
            ingest.parse(handles.read_file(fenced, run_tree.INGEST_PATH, ingest.MAX_BYTES), path)
    except (OSError, ingest.IngestError):
        return False
    return True


def left_aside(root: StagingRoot, descriptor: int, raw: bytes) -> Left | None:
    """Return the shell moved aside at `raw`, below the open root; else None. Raises OSError."""
    folder, _, name = raw.rpartition(b"/")
    attempt = shell_folders.attempt_of(name)
    if attempt is None:
        return None
    found = ClearAttempt.objects.filter(pk=attempt, run__root=root).select_related("run__root").first()
    if found is None or run_paths.parse_run_path(found.run.run_path).parent != folder:
        return None
    with handles.opened(handles.open_beneath(descriptor, raw)) as opened:
        shell = shell_folders.read(opened, run_paths.parse_run_path(found.run.run_path), since_ns=None)
    return Left(found.run, "moved aside when the run went back to its path") if shell else None


def read_at(parent: int, name: bytes, run: Run) -> Shell | None:
    """Return a run's shell by name in the run's open folder; else None."""
    try:
        with handles.opened(handles.open_beneath(parent, name)) as opened:
            return shell_folders.read(opened, run_paths.parse_run_path(run.run_path), since_ns=None)
    except OSError:
        return None
