"""The locks that the wizard holds while it reads and writes a run's records: asked for, never kept.

A program that waits for a lock stands still while we hold it, and may make the run's folder anew after we rename it. So
each lock is let go at once.
"""

import contextlib
import time

from cleanup.storage import handles, run_paths
from cleanup.storage.staging.metadata import RECORDS

# By an flock on a file beside the record, which is only ever opened: where there is none, no program writes.
LOCKS = tuple(f"{name}.lock".encode() for name in RECORDS)
# The wizard holds a lock for as long as it takes to read or write a record of some kilobytes.
PATIENCE_SECONDS = 1.0
_ASKED_EVERY_SECONDS = 0.02


def held_lock(run: int, *, patience_seconds: float = 0.0) -> bytes | None:
    """The name of a lock that another program holds in the run open as `run`; None where all are free. Raises OSError.

    A held one is asked for again until `patience_seconds` have passed.
    """
    until = time.monotonic() + patience_seconds
    for name in LOCKS:
        while _is_held(run, run_paths.METADATA + b"/" + name):
            if time.monotonic() >= until:
                return name
            time.sleep(_ASKED_EVERY_SECONDS)
    return None


def _is_held(run: int, path: bytes) -> bool:
    with contextlib.ExitStack() as stack:
        try:
            descriptor = stack.enter_context(handles.opened(handles.open_to_lock(run, path)))
            stack.enter_context(handles.flocked(descriptor))
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
    return False
