"""Whether the record in a directory says that it is the run that lies at a path.

A name with a date below `Runs` or `TestRuns` is a run by itself. The wizard makes others too: `Run_calibration`, a date
without a time, a run in its project's folder. Those are runs only where their own record names the place, since a copy
that a person made beside a run carries the record of that run.
"""

from cleanup.storage import handles
from cleanup.storage.run_paths import RunPath
from cleanup.storage.staging import ingest, run_tree


def names_place(run: int, path: RunPath) -> bool:
    """Whether one of the records in an open directory names `path`. Reads at most 4 MiB of each, and raises nothing.

    A record that cannot be read names no place.
    """
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
