"""Safe clearing of laboratory staging disks.

The functions of ExLab-Wizard's own cleanup module are here under their names, imported on first use: `cleanup_eligible`
and `freed_bytes_and_count` work without Django.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cleanup.former_names import Finder

if TYPE_CHECKING:
    from cleanup.clears.wizard_function import aclear_run as aclear_run
    from cleanup.clears.wizard_function import clear_run as clear_run
    from cleanup.runs.wizard_eligibility import cleanup_eligible as cleanup_eligible
    from cleanup.storage.staging.run_tree import freed_bytes_and_count as freed_bytes_and_count

_HOMES = {
    "aclear_run": "cleanup.clears.wizard_function",
    "cleanup_eligible": "cleanup.runs.wizard_eligibility",
    "clear_run": "cleanup.clears.wizard_function",
    "freed_bytes_and_count": "cleanup.storage.staging.run_tree",
}

sys.meta_path.append(Finder)

__all__ = ["aclear_run", "cleanup_eligible", "clear_run", "freed_bytes_and_count"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(_HOMES[name]), name)
