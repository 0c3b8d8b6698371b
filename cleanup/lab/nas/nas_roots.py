"""The NAS roots of a staging root: where twins lie, and which process reads them."""

import hashlib
from dataclasses import dataclass, replace

from cleanup.models import Run, StagingRoot
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage import errors, run_paths
from cleanup.storage.nas.extras import mount_below
from cleanup.storage.run_paths import RunPath
from cleanup.storage.twin_paths import as_one_name, twin_path


@dataclass(frozen=True)
class NasRoot:
    """One NAS root; `path` is empty if none is registered."""

    path: str
    token: str


@dataclass(frozen=True)
class Twin:
    """Where a run's twin lies: NAS root and relative path."""

    root: NasRoot
    path: str

    @property
    def full_path(self) -> str:
        return f"{self.root.path}/{self.path}" if self.root.path else ""

    @property
    def key(self) -> str:
        """Equal, on any host, for what may be one twin."""
        return _digest(self.root.token, self.path) if self.root.token else ""

    def place(self, host: str) -> str:
        """Equal also where NAS roots lie in one another."""
        return _digest(host, self.full_path) if self.root.path else ""


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(map(as_one_name, parts)).encode()).hexdigest()


def nas_root_of(root: StagingRoot, equipment: str) -> NasRoot:
    """The NAS root that holds the twins of an instrument's runs."""
    own = root.instrument_nas.get(equipment)
    return NasRoot(own["path"], own["token"]) if own else NasRoot(root.nas_path, root.nas_token)


def nas_roots(root: StagingRoot) -> list[NasRoot]:
    """All NAS roots of a staging root, its own first, without duplicates."""
    found = [NasRoot(root.nas_path, root.nas_token)] if root.nas_path else []
    found += [NasRoot(own["path"], own["token"]) for own in root.instrument_nas.values()]
    return list(dict.fromkeys(found))


def twin_of(run: Run, *, nas_layout: str | None = None) -> Twin:
    """Where a run's twin lies, by its root's layout or `nas_layout`.

    Asks neither database nor disk. An instrument's share on the way holds the twin at the same path.
    """
    root = nas_root_of(run.root, run.equipment)
    try:
        path = run_paths.parse_run_path(run.run_path)
    except errors.UnsafePath:  # a damaged row takes no page down; no such path is ever opened
        return Twin(root, run.run_path)
    place = twin_path(nas_layout or run.root.nas_layout, path)
    return Twin(
        root, f"{run.root.nas_path}/{place}".removeprefix(f"{root.path}/") if _is_on_the_way(run, place) else place
    )


def twin_then(run: Run, recorded: str) -> Twin:
    """Where a run's twin lay by the full path that a clear recorded: the layout may have changed since.

    Where that path lies beneath no NAS root of the run any more, where the twin would lie now.
    """
    twin = twin_of(run)
    above = f"{twin.root.path}/"
    return replace(twin, path=recorded.removeprefix(above)) if recorded.startswith(above) else twin


def _is_on_the_way(run: Run, place: str) -> bool:
    above, own = run.root.nas_path, nas_root_of(run.root, run.equipment).path
    return bool(above) and own.startswith(f"{above}/") and f"{above}/{place}".startswith(f"{own}/")


def with_way_out(run: Run, problem: Finding) -> Finding:
    """The problem; for a share on the way with the command to register it."""
    if problem.reason != Reason.NAS_MOUNT_BELOW:
        return problem
    if problem.detail != mount_below(run.equipment.encode()).detail:
        return replace(problem, detail=f"{problem.detail}; only the share of a whole instrument can be registered")
    share = f"{run.equipment}={twin_of(run).root.path}/{run.equipment}"
    command = f"add_staging_root {run.root.name} {run.root.path} --nas-root {share}"
    return replace(problem, detail=f"{problem.detail}: register it ({command})")


def record_places(run: Run) -> tuple[RunPath, ...]:
    """The paths that a run's record may name."""
    paths = dict.fromkeys(path for path in (run.run_path, run.record_path) if path)
    return tuple(run_paths.parse_run_path(path) for path in paths)


def nas_flags(root: StagingRoot) -> str:
    """The flags in force, as `allow_union_nas`."""
    names = ("allow_same_filesystem", "allow_union_nas", "nas_writes_through")
    return ", ".join(name for name in names if getattr(root, name))
