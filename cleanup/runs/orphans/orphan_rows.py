"""The rows of orphans: found things are measured and written down, missing ones closed."""

import enum
import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import InterfaceError, OperationalError
from django.db.models import BigIntegerField

from cleanup.models import Orphan, OrphanKind, StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.runs.facts.future_dates import instant_if_known
from cleanup.runs.orphans.orphan_inspection import OrphanInspection, Thing
from cleanup.storage import errors
from cleanup.storage.staging.walk import DiskEntry, Measure, measure

logger = logging.getLogger(__name__)

# What was written in the last hour is no orphan: a program may be at work.
GRACE = timedelta(hours=1)
MEASURED_AGAIN = timedelta(days=1)

_SAID = ("kind", "reason", "run_id", "detail", "files", "bytes", "modified_at", "measured_at")
_WRITTEN = (*_SAID, "seen_at")
# Below SQLite's limit of variables per statement.
_AT_ONCE = 500


@dataclass(frozen=True)
class OpenRoot:
    """An open staging root at an instant."""

    root: StagingRoot
    descriptor: int
    now: datetime
    discovered_at: datetime | None


@dataclass(frozen=True)
class TimeLimit:
    """The end of measuring by the monotonic clock, None for no end; paths in `again` are always measured."""

    stop_at: float | None
    again: Collection[str]

    def is_over(self, path: str) -> bool:
        return self.stop_at is not None and time.monotonic() >= self.stop_at and path not in self.again


@dataclass(frozen=True)
class WrittenRows:
    """How many rows were closed or kept open, and things measured or postponed."""

    gone: int
    kept: int
    measured: int
    postponed: int


class _Outcome(enum.Flag):
    WRITTEN = 0
    UNCHANGED = enum.auto()
    MEASURED = enum.auto()
    POSTPONED = enum.auto()
    VANISHED = enum.auto()


def take(found: OrphanInspection, at: OpenRoot, until: TimeLimit) -> WrittenRows:
    """Bring a root's rows to what was found."""
    rows = {row.path: row for row in Orphan.objects.filter(root=at.root, gone_at=None)}
    outcomes: dict[str, _Outcome] = {}
    # Unmeasured things first, then those that waited longest.
    for thing in sorted(found.things.values(), key=lambda thing: _turn(rows.get(thing.path), at.now)):
        outcomes[thing.path] = _store_safely(thing, rows.get(thing.path), at, until)
    unchanged = [rows[path].pk for path, outcome in outcomes.items() if _Outcome.UNCHANGED in outcome]
    for start in range(0, len(unchanged), _AT_ONCE):
        Orphan.objects.filter(pk__in=unchanged[start : start + _AT_ONCE]).update(seen_at=at.now)
    there = {path for path, outcome in outcomes.items() if _Outcome.VANISHED not in outcome}
    gone, kept = _close({path: row for path, row in rows.items() if path not in there}, found, at.now)
    measured = sum(_Outcome.MEASURED in outcome for outcome in outcomes.values())
    postponed = sum(_Outcome.POSTPONED in outcome for outcome in outcomes.values())
    return WrittenRows(gone, kept, measured, postponed)


def _close(rows: Mapping[str, Orphan], found: OrphanInspection, now: datetime) -> tuple[int, int]:
    gone = [row.pk for path, row in rows.items() if not found.is_undecided(path)]
    for key in gone:
        Orphan.objects.filter(pk=key).update(gone_at=now)
    return len(gone), len(rows) - len(gone)


def _store_safely(thing: Thing, row: Orphan | None, at: OpenRoot, until: TimeLimit) -> _Outcome:
    try:
        return _store(thing, row, at, until)
    except (OperationalError, InterfaceError):
        raise
    except Exception:  # one thing must not hide the others; its row stays
        logger.exception("writing down %s on %s failed", thing.path, at.root)
        return _Outcome.WRITTEN


def _store(thing: Thing, row: Orphan | None, at: OpenRoot, until: TimeLimit) -> _Outcome:
    if row is not None and (row.kind == OrphanKind.MISSING) != (thing.kind == OrphanKind.MISSING):
        Orphan.objects.filter(pk=row.pk).update(gone_at=at.now)  # it has its own grace
        row = None
    orphan = row or Orphan(root=at.root, path=thing.path, first_seen_at=at.now)
    before = _values(orphan)
    orphan.kind, orphan.reason, orphan.run = thing.kind, thing.reason, thing.run
    if before[:2] != (orphan.kind, orphan.reason):
        orphan.detail = thing.detail
    outcome = _fill(orphan, thing, at, until)
    if _Outcome.VANISHED in outcome:
        return outcome
    if row is not None and _values(orphan) == before:
        return outcome | _Outcome.UNCHANGED
    orphan.seen_at = at.now
    # The operator may have closed the row meanwhile.
    orphan.save(update_fields=_WRITTEN if row is not None else None)
    return outcome


def _fill(orphan: Orphan, thing: Thing, at: OpenRoot, until: TimeLimit) -> _Outcome:
    if thing.summed is not None:
        _take_measure(orphan, thing, thing.summed, at)
    elif thing.sight is None:
        if thing.run is not None:
            orphan.files, orphan.bytes = thing.run.files, thing.run.bytes
        if orphan.measured_at is None and _grace_ends(orphan, at.now) <= at.now:
            orphan.measured_at = at.now
    elif _must_measure(orphan, thing.sight, at.now, until.again):
        if until.is_over(thing.path):
            return _Outcome.POSTPONED
        found = _measure(thing, thing.sight, at)
        if found is None:
            return _Outcome.VANISHED
        _take_measure(orphan, thing, found, at)
        return _Outcome.MEASURED
    return _Outcome.WRITTEN


def _must_measure(orphan: Orphan, sight: DiskEntry, now: datetime, again: Collection[str]) -> bool:
    if orphan.path in again:
        return True
    if orphan.measured_at is None:
        return orphan.modified_at is None or _grace_ends(orphan, now) <= now
    written = instant_if_known(sight.modified_ns)
    newer = written is not None and (orphan.modified_at is None or written > orphan.modified_at)
    return newer or abs(now - orphan.measured_at) >= MEASURED_AGAIN


def _measure(thing: Thing, sight: DiskEntry, at: OpenRoot) -> Measure | None:
    """None where it is gone, or holds only what is listed separately."""
    try:
        found = measure(at.descriptor, sight.raw, without=sight.within)
    except FileNotFoundError:
        return None
    except OSError as error:
        found = Measure(None, None, sight.modified_ns, errors.way_blocked(error).detail)
    except Exception:  # one thing must not hide the others
        logger.exception("measuring %s on %s failed", thing.path, at.root)
        found = Measure(None, None, sight.modified_ns, "it could not be measured; the log says why")
    return None if sight.within and found.files == 0 else found


def _take_measure(orphan: Orphan, thing: Thing, found: Measure, at: OpenRoot) -> None:
    found = _countable(found)
    orphan.files, orphan.bytes = found.files, found.bytes
    orphan.modified_at = instant_if_known(found.modified_ns)
    orphan.detail = "; ".join(dict.fromkeys(part for part in (thing.detail, found.detail) if part))
    settled = _grace_ends(orphan, at.now) <= at.now and not _may_be_taken(orphan, at.discovered_at)
    orphan.measured_at = at.now if settled else None


def _may_be_taken(orphan: Orphan, discovered_at: datetime | None) -> bool:
    # Discovery has had no chance to take it yet.
    if orphan.kind != OrphanKind.UNKNOWN or discovered_at is None:
        return False
    return orphan.first_seen_at >= discovered_at


def _countable(found: Measure) -> Measure:
    # A few sparse files may exceed the column.
    if found.bytes is None or found.bytes <= BigIntegerField.MAX_BIGINT:
        return found
    detail = "; ".join(
        part for part in (found.detail, "its files say that they are larger than can be counted") if part
    )
    return replace(found, bytes=None, detail=detail)


def _values(orphan: Orphan) -> tuple[Any, ...]:
    return tuple(getattr(orphan, name) for name in _SAID)


def _turn(row: Orphan | None, now: datetime) -> tuple[bool, datetime]:
    if row is None:
        return False, now
    return (False, row.first_seen_at) if row.measured_at is None else (True, row.measured_at)


def _grace_ends(orphan: Orphan, now: datetime) -> datetime:
    # An unknown or future time does not count.
    if orphan.reason == Reason.PASSED_OVER:
        return orphan.first_seen_at  # an instrument that keeps writing would delay it for ever
    if orphan.modified_at is None or orphan.modified_at > now:
        return orphan.first_seen_at + GRACE
    return orphan.modified_at + GRACE
