"""A run that is storage of its own: a subvolume, or a folder in its own quota project."""

from cleanup.rules.findings import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage import handles, linux, run_paths
from cleanup.storage.linux import QuotaProject
from cleanup.storage.run_paths import show

# A file beside such a run cannot be renamed into it, nor the run within its folder.
_REASON = Reason.OWN_STORAGE
_NONE = QuotaProject(0, inherits=False)


def objection(parent: int, run: int) -> Finding | None:
    """Returns the finding against renames of and into a run, or None. Raises OSError."""
    if linux.status(run).device != linux.status(parent).device:
        return Finding(_REASON, "it is a subvolume, or another device than the folder that holds it")
    above, own = (linux.project(descriptor) or _NONE for descriptor in (parent, run))
    if own.number != above.number:
        return Finding(_REASON, f"its quota project is {own.number}, that of its folder {above.number}")
    try:
        with handles.opened(handles.open_beneath(run, run_paths.METADATA)) as folder:
            within = linux.project(folder) or _NONE
    except OSError:
        return None  # the read of its record reports this
    born = above.number if above.inherits else 0
    if within.number != above.number or (within.inherits and within.number != born):
        name = show(run_paths.METADATA)
        return Finding(_REASON, f"the quota project of its {name} is {within.number}, that of its folder {born}")
    return None
