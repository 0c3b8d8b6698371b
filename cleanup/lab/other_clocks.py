"""Clocks of NAS servers and of PostgreSQL that are shown not to be this host's.

A mount's server is another host. PostgreSQL counts under another kernel, or with a time outside the span that asking
took.
"""

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, connection, transaction

from cleanup.lab.nas.nas_breaker import reader_of
from cleanup.lab.nas.nas_roots import NasRoot, nas_roots
from cleanup.models import StagingRoot
from cleanup.rules.clocks import Other, OtherClocks
from cleanup.storage.nas import clock
from cleanup.storage.nas.client import NasError

_QUESTIONS = 3
# The server tells microseconds, rounded.
_GRAIN_SECONDS = 0.0001
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
# NAS roots named in one message.
_NAMED = 3


def ask() -> OtherClocks:
    """The other clocks that answered, and why the rest are none."""
    others: list[Other] = []
    none: list[str] = []
    for answer in (*_of_nas_roots(), _of_database()):
        if isinstance(answer, Other):
            others.append(answer)
        else:
            none.append(answer)
    return OtherClocks(others=tuple(others), none=tuple(dict.fromkeys(none)))


def _of_nas_roots() -> Iterator[Other | str]:
    here = StagingRoot.objects.active().filter(host=settings.EXLAB_HOST)
    roots = {nas: root for root in here for nas in nas_roots(root)}
    if not clock.any_mounted():
        names = [nas.path for nas in roots]
        more = ", …" if len(names) > _NAMED else ""
        yield f"times on {', '.join(names[:_NAMED])}{more} are this host's own" if names else "no NAS is registered"
        return
    for nas, root in roots.items():
        yield _of_nas(nas, root)


def _of_nas(nas: NasRoot, root: StagingRoot) -> Other | str:
    name = f"the NAS at {nas.path}"
    with contextlib.ExitStack() as stack:
        try:
            reading = reader_of(nas, root.token, stack).clock()
        except clock.NoClock as error:
            return f"{name}: {error}"
        except NasError as error:
            return f"{name}: {error.problem.detail or error.problem.reason}"
    return Other(name=name, at=_instant(reading.server_ns / 1e9))


def _of_database() -> Other | str:
    if connection.vendor != "postgresql":
        return "the database is a file of this host"
    if _by_a_socket():
        return "the PostgreSQL server runs on this host"
    outside = []
    at = 0.0
    for _ in range(_QUESTIONS):
        with connection.cursor() as cursor:
            before = time.time()
            cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
            at, after = float(cursor.fetchone()[0]), time.time()
        outside.append(max(before - at, at - after))
    if min(outside) > _GRAIN_SECONDS or _runs_under_another_kernel():
        return Other(name="the PostgreSQL server", at=_instant(at))
    return "the PostgreSQL server may run on this host"


def _by_a_socket() -> bool:
    """A socket in the filesystem: both ends have one kernel."""
    with connection.cursor():
        return str(connection.connection.info.host).startswith("/")


def _runs_under_another_kernel() -> bool:
    """Whether the server's boot id differs; only some accounts may read it."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_read_file(%s)", [_BOOT_ID])
            theirs = str(cursor.fetchone()[0]).strip()
        ours = Path(_BOOT_ID).read_text().strip()
    except (DatabaseError, OSError):
        return False
    return bool(theirs) and theirs != ours


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
