"""Facts only for pages: a run's largest files, and what the NAS holds."""

import heapq
from collections.abc import Sequence

from cleanup.rules.facts import LargeFile, TwinFacts
from cleanup.rules.reasons import Reason
from cleanup.runs.facts.future_dates import instant_if_known
from cleanup.runs.proofs import proofs
from cleanup.storage.nas import client
from cleanup.storage.run_paths import show
from cleanup.storage.staging import desktop_files, run_tree, tree_entries

# The number kept, and the characters of each path.
LARGEST_SHOWN = 10
_LONGEST_PATH = 300


def largest(files: Sequence[run_tree.Entry], listing: client.Listing | None) -> tuple[LargeFile, ...]:
    """Return the largest data files with the sizes of their twins."""
    found = []
    for entry in _largest(files):
        twin = listing.files.get(entry.path) if listing is not None else None
        found.append(
            LargeFile(
                path=_cut(show(entry.path)),
                bytes=entry.size,
                modified_at=instant_if_known(entry.mtime_ns),
                nas_bytes=twin.size if twin is not None else None,
            )
        )
    return tuple(found)


def _largest(files: Sequence[run_tree.Entry]) -> list[run_tree.Entry]:
    largest: list[run_tree.Entry] = []
    for part in tree_entries.parts_of(files):
        # Sizes first: sorting whole entries costs far more.
        least = largest[-1].size if len(largest) == LARGEST_SHOWN else 0
        large = [entry for entry in part if entry.size >= least]
        largest = heapq.nsmallest(LARGEST_SHOWN, largest + large, key=lambda entry: (-entry.size, entry.path))
    return largest


def _cut(name: str) -> str:
    # The end of a path tells most.
    half = _LONGEST_PATH // 2
    return name if len(name) <= _LONGEST_PATH else f"{name[: half - 1]}…{name[-half:]}"


def describe_twin(staged: int, compared: proofs.Compared) -> TwinFacts | None:
    """Return what the NAS holds of a run with `staged` data files; None if not compared."""
    if compared.listing is None:
        nothing_there = any(finding.reason is Reason.NAS_MISSING_FILE for finding in compared.proof.findings)
        return TwinFacts(files=0, bytes=0, missing=staged) if nothing_there else None
    # Desktop files that only the NAS has are not counted. A file beside another may be anything there.
    files = size = 0
    newest: int | None = None
    for path, twin in compared.listing.files.items():
        if not desktop_files.is_named(path):
            files, size = files + 1, size + twin.size
            newest = twin.mtime_ns if newest is None else max(newest, twin.mtime_ns)
    return TwinFacts(
        files=files,
        bytes=size,
        newest_at=instant_if_known(newest),
        missing=compared.missing,
        other_size=compared.other_size,
        more=files - (staged - compared.missing),
    )
