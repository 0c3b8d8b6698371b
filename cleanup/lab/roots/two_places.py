"""Whether a NAS root is a second place, by its mounts now: they change."""

from collections.abc import Iterator
from dataclasses import dataclass

from cleanup.lab.nas.nas_roots import nas_roots
from cleanup.models import StagingRoot
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage import handles
from cleanup.storage.mounts import places, same_storage
from cleanup.storage.mounts.nas_mount_kinds import Acceptance, judge
from cleanup.storage.mounts.places import Place
from cleanup.storage.nas import way_to_twin
from cleanup.storage.root_files import markers


def findings(root: StagingRoot, staging: int, nas: Place) -> Iterator[Finding]:
    """What speaks against a NAS as a second place, under its root's flags.

    `nas`: from the reader process. No flag accepts a NAS that shows the staging directory: a run would prove itself.
    """
    try:
        here = places.describe(staging)
    except OSError as error:
        yield Finding(Reason.STAGING_IO_ERROR, f"its mount cannot be told: {error.strerror}")
        return
    if detail := same_storage.overlap(here, nas):
        yield Finding(Reason.NAS_SAME_FILESYSTEM, detail)
    elif not root.allow_same_filesystem and (detail := same_storage.same_storage(here, nas)):
        yield Finding(Reason.NAS_SAME_FILESYSTEM, f"{detail}: --allow-same-filesystem accepts that for a trial")
    problem = acceptance(root, nas).problem
    if problem is not None:
        yield Finding(Reason(problem.reason), problem.detail)


def acceptance(root: StagingRoot, nas: Place) -> Acceptance:
    """What `mount_kinds` says of a NAS, under its root's flags."""
    return judge(nas, allow_union=root.allow_union_nas, writes_through=root.nas_writes_through)


@dataclass(frozen=True)
class Remarks:
    """Sentences on NAS mounts; with any `problems`, no run can be cleared."""

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def remarks(root: StagingRoot) -> Remarks:
    """How a root's NAS roots are mounted. Touches the NAS in this process."""
    problems: list[str] = []
    warnings: list[str] = []
    for nas in nas_roots(root):
        try:
            with (
                handles.opened(handles.open_root(root.path)) as here,
                handles.opened(handles.open_root(nas.path)) as there,
            ):
                place = places.describe(there)
                found = [*_markers_seen(nas.path, there), *findings(root, here, place)]
        except OSError:
            continue
        problems += [_as_sentence(finding) for finding in found]
        if not found:
            warnings += filter(None, [acceptance(root, place).warning])
    return Remarks(tuple(problems), tuple(warnings))


def _markers_seen(path: str, there: int) -> Iterator[Finding]:
    try:
        way_to_twin.Ways(path).ask(there, b".", recent=False)
    except markers.IsStaging as error:
        yield Finding(Reason.NAS_IS_STAGING, error.problem.detail)


def _as_sentence(finding: Finding) -> str:
    return f"No run can be cleared as it is: {finding.reason.sentence} {finding.detail}."
