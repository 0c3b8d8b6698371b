"""The folders of one staging root that are listened to: the way to the runs, and the record of each run."""

import contextlib
import enum
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from cleanup.models import Run, StagingRoot
from cleanup.rules.states import State
from cleanup.storage import handles, run_paths
from cleanup.storage.errors import UnsafePath
from cleanup.storage.mounts import mountinfo, nas_mount_kinds
from cleanup.storage.run_paths import KIND_FOLDERS, METADATA

_RECORDS = (run_paths.INGEST, run_paths.SYNC_STATE)


class FolderKind(enum.Enum):
    """What lies in a folder: ways, runs, one run that has no record yet, or a run's records."""

    WAYS = "ways"
    RUNS = "runs"
    RUN = "run"
    RECORDS = "records"


@dataclass(frozen=True)
class WatchedFolder:
    """A folder below a staging root, by the root's key; `run_path` is empty for ways and folders of runs."""

    root: int
    path: bytes
    kind: FolderKind
    run_path: str = ""


@dataclass
class WatchedRoot:
    """What is known of one root's folders. `polled`: the kernel tells nothing there, or has no watches left."""

    key: int
    polled: bool = False
    folders: dict[bytes, WatchedFolder] = field(default_factory=dict)
    runs: set[str] | None = None
    signs: dict[bytes, object] = field(default_factory=dict)

    def survey(self, root: int) -> set[str]:
        """List the folders of an open root anew; returns the run paths that came or went since the last time."""
        found = {folder.path: folder for folder in _folders(self.key, root)}
        runs = {folder.run_path for folder in found.values() if folder.run_path}
        known = self.runs if self.runs is not None else set(_known(self.key))
        came_or_went = runs ^ known
        came_or_went |= {
            folder.run_path for path, folder in found.items() if folder.run_path and self._is_new(path) and folder.path
        }
        self.folders, self.runs = found, runs
        return came_or_went

    def _is_new(self, path: bytes) -> bool:
        # What was written before the folder was listened to was not heard.
        return self.runs is not None and path not in self.folders

    def poll(self, root: int) -> Iterator[WatchedFolder]:
        """Yield the folders of an open root that have changed since the last call."""
        quiet = set(_verified(self.key))
        for path, folder in self.folders.items():
            if folder.run_path in quiet:
                continue
            sign = _sign(root, folder)
            if self.signs.setdefault(path, sign) != sign:
                self.signs[path] = sign
                yield folder


def hears(root: int) -> bool:
    """Whether the kernel tells of every change below an open root: not where another host may write."""
    try:
        return mountinfo.mount_of(root).fstype in (*nas_mount_kinds.LOCAL, "overlay")
    except mountinfo.UnknownMount:
        return False


def _folders(key: int, root: int) -> Iterator[WatchedFolder]:
    yield WatchedFolder(key, b"", FolderKind.WAYS)
    for equipment in _names(root, b""):
        yield WatchedFolder(key, equipment, FolderKind.WAYS)
        for project in _names(root, equipment):
            yield WatchedFolder(key, project, FolderKind.WAYS)
            for folder in _names(root, project):
                if os.fsdecode(os.path.basename(folder)) in KIND_FOLDERS:
                    yield WatchedFolder(key, folder, FolderKind.RUNS)
                    yield from _run_folders(key, root, folder)


def _run_folders(key: int, root: int, folder: bytes) -> Iterator[WatchedFolder]:
    for path in _names(root, folder):
        if not (run_path := run_path_of(path)):
            continue
        record = path + b"/" + METADATA
        try:
            os.close(handles.open_beneath(root, record))
        except OSError:
            yield WatchedFolder(key, path, FolderKind.RUN, run_path)
        else:
            yield WatchedFolder(key, record, FolderKind.RECORDS, run_path)


def run_path_of(path: bytes) -> str:
    """Return a path as that of a run, empty if it cannot be one."""
    try:
        return str(run_paths.parse_run_path(os.fsdecode(path)))
    except (UnsafePath, UnicodeError):
        return ""


def _names(root: int, folder: bytes) -> list[bytes]:
    # The folders in a folder, as paths, without those under a dot.
    with contextlib.suppress(OSError), handles.opened(handles.open_beneath(root, folder or b".")) as descriptor:
        with os.scandir(descriptor) as entries:
            names = [os.fsencode(entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)]
        return [folder + b"/" + name if folder else name for name in sorted(names) if not name.startswith(b".")]
    return []


def _sign(root: int, folder: WatchedFolder) -> object:
    try:
        with handles.opened(handles.open_beneath(root, folder.path or b".")) as descriptor:
            signs = [os.fstat(descriptor).st_mtime_ns]
            for name in _RECORDS if folder.kind is FolderKind.RECORDS else ():
                with contextlib.suppress(FileNotFoundError):
                    status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    signs += [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
            return signs
    except OSError as error:
        return error.errno


def _known(key: int) -> Iterator[str]:
    yield from Run.objects.staged().filter(root=key).values_list("run_path", flat=True)


def _verified(key: int) -> Iterator[str]:
    # Their records are written no more; the timed discovery notices the exception.
    yield from Run.objects.filter(root=key, here=True, state=State.SYNC_VERIFIED).values_list("run_path", flat=True)


def of_this_host(host: str) -> list[StagingRoot]:
    """Return the roots of a host."""
    return list(StagingRoot.objects.active().filter(host=host).exclude(token=""))
