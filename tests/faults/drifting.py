"""A NAS with other inode numbers at each listing, as sshfs gives them when it forgets names."""

import itertools
from dataclasses import replace
from typing import Any

from cleanup.storage.nas import client
from tests.faults.means import ReaderHere

_NUMBERS = itertools.count(1 << 40)


class Drifting(ReaderHere):
    def read(self, twin: str, **how: Any) -> client.Listing:
        found = super().read(twin, **how)
        renumbered = {path: file._replace(ino=next(_NUMBERS)) for path, file in found.files.items()}
        return replace(found, files=renumbered)
