"""Asks the NAS, with the run fenced, whether the twin is another place than the run.

The run now has another name, and for a moment a new file: a NAS that shows either is the staging disk. Opening every
twin file again finds a NAS that keeps names of removed files.
"""

import itertools
import os
import secrets
import time
from collections.abc import Callable, Sequence

from django.utils import timezone

from cleanup.lab.nas.nas_roots import Twin, twin_of
from cleanup.lab.nas.nas_transport import Reader
from cleanup.lab.roots.opening import OpenRun
from cleanup.models import ClearAttempt
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage import hashing, run_paths
from cleanup.storage.nas import client
from cleanup.storage.nas.challenge import Ends
from cleanup.storage.root_files import reserve
from cleanup.storage.run_paths import show
from cleanup.storage.staging import fences, run_tree

# The `ClearAttempt.step` while the twin's files are opened again.
REOPENING = "reopening"
# Files per request; seconds between two notes of the count.
_BATCH_FILES = 256
_PROGRESS_SECONDS = 1.0
# Files with other inode numbers are compared in blocks at places that no other program can know: at most 1 GiB in all
# and 16 MiB per file.
_BLOCK = 64 << 10
_ALL_BLOCKS = 1 << 30
_MOST_OF_A_FILE = 16 << 20


class _StagedUnreadable(Exception):
    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.detail)
        self.finding = finding


def ask(attempt: ClearAttempt, opened: OpenRun, reader: Reader, files: Sequence[run_tree.Entry]) -> Finding | None:
    """Return what speaks against the twin being another place; None: nothing.

    Lays a file in the fenced run and removes it; `roll_back` does so after an error. Raises OSError where it cannot be
    laid.
    """
    twin = twin_of(attempt.run)
    try:
        if not _challenge(attempt, opened, reader, twin):
            _reopen(attempt, opened, reader, twin, files)
    except client.NasError as error:
        return Finding(Reason(error.problem.reason), error.problem.detail)
    except _StagedUnreadable as error:
        return error.finding
    return None


def _challenge(attempt: ClearAttempt, opened: OpenRun, reader: Reader, twin: Twin) -> bool:
    # On a plain and local NAS no file must be opened again.
    name = attempt.pk.hex
    folder = run_paths.parse_run_path(attempt.run.run_path).parent
    beside = [fences.fence_name(name), fences.prepared_name(name)]
    challenge = fences.challenge_name(name) if run_tree.may_write(opened.run) else b""
    if challenge:
        attempt.challenging = True
        reserve.with_reserve(opened.root, lambda: fences.lay_challenge(opened.run, challenge))
    plain_local = reader.challenge(twin.path, folder=folder, beside=beside, within=challenge)
    if challenge:
        fences.discard_challenge(opened.run, challenge)
        attempt.challenging = False
    return plain_local


def compare_blocks(
    attempt: ClearAttempt, opened: OpenRun, reader: Reader, files: Sequence[run_tree.Entry]
) -> Finding | None:
    """Compare the twins with the fenced files in random blocks, small files whole; return a difference."""
    share = max(_BLOCK, min(_MOST_OF_A_FILE, _ALL_BLOCKS // max(len(files), 1)))
    try:
        _reopen(attempt, opened, reader, twin_of(attempt.run), files, lambda size: _blocks_of(size, share))
    except client.NasError as error:
        return Finding(Reason(error.problem.reason), error.problem.detail)
    except _StagedUnreadable as error:
        return error.finding
    return None


def _blocks_of(size: int, share: int) -> tuple[tuple[int, int], ...]:
    if size <= share:
        return ((0, size),)
    count = -(-size // _BLOCK)
    chosen = {0, count - 1} | {secrets.randbelow(count) for _ in range(share // _BLOCK - 2)}
    return tuple((number * _BLOCK, min(_BLOCK, size - number * _BLOCK)) for number in sorted(chosen))


def _reopen(
    attempt: ClearAttempt,
    opened: OpenRun,
    reader: Reader,
    twin: Twin,
    files: Sequence[run_tree.Entry],
    pieces: Callable[[int], tuple[tuple[int, int], ...]] = lambda size: (),
) -> None:
    _note(attempt, 0)
    noted = time.monotonic()
    remaining, asked = iter(files), 0
    while batch := list(itertools.islice(remaining, _BATCH_FILES)):
        reader.reopen(twin.path, [_ends(opened.run, entry, pieces(entry.size)) for entry in batch])
        asked += len(batch)
        if time.monotonic() - noted >= _PROGRESS_SECONDS:
            _note(attempt, asked)
            noted = time.monotonic()


def _ends(run: int, entry: run_tree.Entry, pieces: tuple[tuple[int, int], ...]) -> Ends:
    try:
        return Ends(entry.path, *hashing.ends(run, entry.path, pieces=pieces), pieces)
    except OSError as error:
        detail = f"{show(entry.path)}: {os.strerror(error.errno or 0)}"
        raise _StagedUnreadable(Finding(Reason.STAGING_IO_ERROR, detail)) from None


def _note(attempt: ClearAttempt, files: int) -> None:
    now = timezone.now()
    ClearAttempt.objects.filter(pk=attempt.pk).update(step=REOPENING, checked_files=files, progress_at=now)
