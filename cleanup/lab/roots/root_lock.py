"""One sweep at a time on a staging root, across processes and hosts."""

import contextlib
from collections.abc import Iterator

from django.db import DatabaseError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import Unreachable
from cleanup.models import StagingRoot
from cleanup.storage import handles

# First key of our advisory locks; the second is the staging root.
_SWEEPS = 0x45584C41


@contextlib.contextmanager
def claim(root: StagingRoot) -> Iterator[bool]:
    """Hold a staging root for one sweep; yields False if another process or host has it.

    The claim ends with its holder, never before: flocks on the data directory's file and on the root's directory (other
    data directories of this host) with the process, PostgreSQL's advisory lock (other hosts) with its connection. A
    root that cannot be opened is claimed without its flock: the sweep touches no run.
    """
    with contextlib.ExitStack() as stack:
        free = stack.enter_context(opening.data_dir().lock(f"sweep-{root.pk}"))
        claimed = free and _claim_directory(root, stack) and _claim_in_database(root, stack)
        # Who asks may have read its roots hours ago.
        yield claimed and StagingRoot.objects.active().filter(pk=root.pk).exists()


def _claim_directory(root: StagingRoot, stack: contextlib.ExitStack) -> bool:
    try:
        descriptor = stack.enter_context(opening.open_root(root))
        stack.enter_context(handles.flocked(descriptor))
    except BlockingIOError:
        return False
    except (Unreachable, OSError):
        pass
    return True


def _claim_in_database(root: StagingRoot, stack: contextlib.ExitStack) -> bool:
    if connection.vendor != "postgresql":
        return True  # one host, and the flocks cover it
    own: BaseDatabaseWrapper = connection.copy()  # a clear may close the other one when its commit fails
    stack.callback(own.close)
    key = [_SWEEPS, root.pk]
    with own.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", key)
        taken = bool(cursor.fetchone()[0])
    if taken:
        stack.callback(_let_go, own, key)
    return taken


def _let_go(own: BaseDatabaseWrapper, key: list[int]) -> None:
    """At once: for a closed connection the server unlocks only a moment later."""
    with contextlib.suppress(DatabaseError), own.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock(%s, %s)", key)
