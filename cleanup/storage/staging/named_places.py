"""Whether the record in a directory names the run's path."""

from cleanup.storage import handles
from cleanup.storage.run_paths import RunPath
from cleanup.storage.staging import run_tree
from cleanup.storage.staging.records import ingest_json as ingest


def names_place(run: int, path: RunPath) -> bool:
    """Whether a readable record in an open directory names `path`."""
    return any(names(run, path) for names in RECORDS)


def _ingest_names(run: int, path: RunPath) -> bool:
    try:
        ingest.parse(handles.read_file(run, run_tree.INGEST_PATH, ingest.MAX_BYTES), path)
    except (OSError, ingest.IngestError):
        return False
    return True


# A name other than a dated one below `Runs` or `TestRuns` needs this: a copy beside a run carries that run's record.
# One function for each kind of record that names its place; each reads at most 4 MiB.
RECORDS = (_ingest_names,)
