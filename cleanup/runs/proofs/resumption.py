"""How a reading goes on where an earlier one of the same bytes stopped."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from cleanup.runs.proofs.digests import DigestsSoFar
from cleanup.storage.nas.client import TwinFile
from cleanup.storage.staging.run_tree import Entry


class Resumption(Protocol):
    """Offers the digests of an interrupted reading, if their evidence is that of now."""

    def resume(
        self, evidence: str, files: Sequence[Entry], twins: Mapping[bytes, TwinFile], now: datetime
    ) -> tuple[DigestsSoFar | None, datetime]:
        """Return the digests and the instant of the first byte that counts; nothing kept: `now`.

        `evidence`: as `proofs.evidence`, not empty; made by `files`, the staged data files, and `twins`.
        """
        ...
