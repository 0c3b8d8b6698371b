"""Whether the record in a directory says that it is the run at a path.

A dated name below `Runs` or `TestRuns` is a run by itself. Other names (`Run_calibration`, a run in its project's
folder) are runs only where their own record names the place: a copy beside a run carries that run's record.
"""

from cleanup.storage import handles
from cleanup.storage.run_paths import RunPath
from cleanup.storage.staging import ingest, run_tree


def names_place(run: int, path: RunPath) -> bool:
    """Whether a record in an open directory names `path`; an unreadable one does not. Reads at most 4 MiB of each."""
    return any(names(run, path) for names in RECORDS)


def _ingest_names(run: int, path: RunPath) -> bool:
    """`ingest.json` names the path, the instrument and the kind of its run."""
    try:
        ingest.parse(handles.read_file(run, run_tree.INGEST_PATH, ingest.MAX_BYTES), path)
    except (OSError, ingest.IngestError):
        return False
    return True


# One for each kind of record that can name a place.
RECORDS = (_ingest_names,)
