"""Readings that go on where an earlier one of the same run stopped, in the prover or in a clear."""

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Self

from cleanup.lab.roots import opening
from cleanup.models import Run
from cleanup.runs.proofs import differences
from cleanup.runs.proofs.digests import DigestsSoFar
from cleanup.runs.proofs.proofs import PROOF_MAX_AGE
from cleanup.storage.data_directory import kept_digests
from cleanup.storage.nas.client import TwinFile
from cleanup.storage.staging import tree_entries
from cleanup.storage.staging.run_tree import Entry

logger = logging.getLogger(__name__)

# A prover that gives a run to a clear looks twice a second, and ends its threads.
_GIVEN_UP_AFTER_SECONDS = 1.5
_LOOK_EVERY_SECONDS = 0.02


def lock_of(run: int) -> str:
    """The name of the lock of those that read a run, given by key, ahead or go on with such a reading."""
    return f"prove-{run}"


class RunDigests:
    """The digests that readings of a run have left, for a block.

    A clear takes them from the prover, which stops for it; it keeps digests only where there are some already. With
    `ahead`, in the prover, the caller holds the run's lock, and `began` gets the instant of the first byte and the
    share of the files that has been read already.
    """

    def __init__(
        self, run: Run, *, ahead: bool = False, began: Callable[[datetime, float], None] = lambda first, share: None
    ) -> None:
        self._run = run
        self._ahead = ahead
        self._began = began
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def resume(
        self, evidence: str, files: Sequence[Entry], twins: Mapping[bytes, TwinFile], now: datetime
    ) -> tuple[DigestsSoFar | None, datetime]:
        """As `resumption.Resumption.resume`. What cannot be kept is read as if nothing had been kept.

        After a difference no byte counts that was read before: a failing disk changes bytes and no times.
        """
        data = opening.data_dir()
        if not self._ahead and not (kept_digests.is_kept(data, self._run.pk) and self._take_lock()):
            return None, now
        paths = tree_entries.paths_of(files)
        found_at = differences.found_at(self._run)
        longest = min(PROOF_MAX_AGE, now - found_at) if found_at is not None else PROOF_MAX_AGE
        try:
            kept = self._stack.enter_context(
                kept_digests.opened(data, self._run.pk, evidence, paths, twins, now=now, longest=longest)
            )
        except OSError as error:
            logger.warning("digests of %s are not kept: %s", self._run.run_path, error)
            kept = None
        first = kept.first_byte_at if kept else now
        self._began(first, kept.loaded / (2 * len(paths)) if kept and paths else 0.0)
        return kept, first

    def _take_lock(self) -> bool:
        give_up = time.monotonic() + _GIVEN_UP_AFTER_SECONDS
        while True:
            with contextlib.ExitStack() as one:
                if one.enter_context(opening.data_dir().lock(lock_of(self._run.pk))):
                    self._stack.push(one.pop_all())
                    return True
            if time.monotonic() > give_up:
                return False
            time.sleep(_LOOK_EVERY_SECONDS)


def drop(run: int) -> None:
    """Forget what was read of a run, by its key. Raises OSError."""
    kept_digests.drop(opening.data_dir(), run)
