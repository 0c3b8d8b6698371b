"""Safe clearing of laboratory staging disks.

The three functions that ExLab-Wizard's own cleanup module offers are found here under their own names.
They are imported on first use, so that the disk modules can be used without Django.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cleanup.clearing import clear_run as clear_run
    from cleanup.policy.retention import cleanup_eligible as cleanup_eligible
    from cleanup.staging.tree import freed_bytes_and_count as freed_bytes_and_count

_HOMES = {
    "cleanup_eligible": "cleanup.policy.retention",
    "clear_run": "cleanup.clearing",
    "freed_bytes_and_count": "cleanup.staging.tree",
}

__all__ = ["cleanup_eligible", "clear_run", "freed_bytes_and_count"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(_HOMES[name]), name)
