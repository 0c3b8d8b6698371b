"""Data files dated in the future: a clock was wrong, so only an unchanged earlier look tells their age."""

import hashlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from cleanup.rules.facts import FutureFiles
from cleanup.storage.run_paths import show
from cleanup.storage.staging import run_tree

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# With a zone's offset the year 9999 would overflow.
_LATEST = datetime(9990, 1, 1, tzinfo=UTC)
_NAMES_SHOWN = 3


def future_files(
    files: Iterable[run_tree.Entry], stored: Callable[[], FutureFiles | None], now: datetime
) -> FutureFiles | None:
    """Return the data files dated later than `now`; None for none.

    `stored` gives the earlier look; unchanged files are known since then.
    """
    past: int | None = None
    future: list[run_tree.Entry] = []
    for entry in files:
        if instant(entry.mtime_ns) > now:
            future.append(entry)
        else:
            past = entry.mtime_ns if past is None else max(past, entry.mtime_ns)
    if not future:
        return None
    digest, before = _digest(future), stored()
    known = before is not None and before.digest == digest and before.since <= now
    return FutureFiles(
        count=len(future),
        names=tuple(show(entry.path) for entry in future[:_NAMES_SHOWN]),
        newest_at=instant(max(entry.mtime_ns for entry in future)),
        others_at=instant_if_known(past),
        digest=digest,
        since=before.since if known and before is not None else now,
    )


def _digest(files: list[run_tree.Entry]) -> str:
    seen = hashlib.sha256()
    for entry in sorted(files, key=lambda entry: entry.path):
        seen.update(repr((entry.path, entry.size, entry.mtime_ns, entry.ctime_ns)).encode())
    return seen.hexdigest()


def instant(nanoseconds: int) -> datetime:
    """Return a file time as an instant, cut to what every zone can show."""
    return _EPOCH + min(timedelta(microseconds=max(nanoseconds, 0) // 1000), _LATEST - _EPOCH)


def instant_if_known(nanoseconds: int | None) -> datetime | None:
    """Return `instant`, or None for an unknown time."""
    return None if nanoseconds is None else instant(nanoseconds)
