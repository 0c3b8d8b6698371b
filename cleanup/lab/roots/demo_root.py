"""Which staging root is the demo's."""

from pathlib import PurePath

from cleanup.models import StagingRoot

NAME = "demo"
# Below the data directory of its host.
PLACE = ("demo", "staging")


def is_demo(root: StagingRoot) -> bool:
    """Whether `up --demo` has made a root."""
    return root.name == NAME and PurePath(root.path).parts[-2:] == PLACE
