"""The wizard's locks on a run's records: tried and released at once, never kept."""

import contextlib
import time

from cleanup.storage import handles, run_paths
from cleanup.storage.staging.metadata import RECORDS

# The wizard flocks a file beside the record. We never make it: where there is none, no program writes.
LOCKS = tuple(f"{name}.lock".encode() for name in RECORDS)
# The wizard holds a lock only while it reads or writes a record of some kilobytes.
PATIENCE_SECONDS = 1.0
_ASKED_EVERY_SECONDS = 0.02


def held_lock(run: int, *, patience_seconds: float = 0.0) -> bytes | None:
    """Returns a lock that another program holds, or None. Raises OSError.

    Tries again until `patience_seconds` have passed.
    """
    until = time.monotonic() + patience_seconds
    for name in LOCKS:
        while _is_held(run, run_paths.METADATA + b"/" + name):
            if time.monotonic() >= until:
                return name
            time.sleep(_ASKED_EVERY_SECONDS)
    return None


def _is_held(run: int, path: bytes) -> bool:
    # Released at once: a program that waits for our lock may make the run's folder anew after we rename it.
    with contextlib.ExitStack() as stack:
        try:
            descriptor = stack.enter_context(handles.opened(handles.open_to_lock(run, path)))
            stack.enter_context(handles.flocked(descriptor))
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
    return False
