"""Orphans: what lies on a staging disk and is no known run, and runs that are known and lie there no more.

They are listed with size, age and a safe next step. None is ever removed by itself, however old or large: past a
ceiling the admin is told. The disk is only read.
"""

import enum
import functools
import hashlib
import logging
import os
import time
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import InterfaceError, OperationalError
from django.db.models import BigIntegerField, QuerySet

from cleanup.lab import alerts, opening
from cleanup.lab.opening import Unreachable
from cleanup.models import AlertKind, ClearAttempt, Orphan, OrphanKind, Run, SetAside, StagingRoot
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs import discovery, fences, proofs, shells
from cleanup.storage import errors, run_paths
from cleanup.storage.staging import run_tree, set_aside
from cleanup.storage.staging.walk import Measure, Shape, Sight, measure, walk

logger = logging.getLogger(__name__)

# Nothing that was written in the last hour is called an orphan: somebody may be at it.
GRACE = timedelta(hours=1)
MEASURED_AGAIN = timedelta(days=1)
# So long one timed pass begins to measure things; what is left is measured by the next.
SECONDS = 20.0
MAX_AGE = timedelta(days=30)
MAX_SHARE_PERCENT = 10
MAX_BYTES = 100_000_000_000

# So many stray files of one folder are listed one by one, the others together.
MAX_STRAY_FILES = 1000

_MAX_PATH = 4096
_SAID = ("kind", "reason", "run_id", "detail", "files", "bytes", "modified_at", "measured_at")
_WRITTEN = (*_SAID, "seen_at")
# Fewer than the number of variables that SQLite takes in one statement.
_AT_ONCE = 500
# The end of the calendar as far as file times are concerned: with a zone's offset 9999 would overflow.
_LATEST_SECONDS = datetime(9990, 1, 1, tzinfo=UTC).timestamp()


@dataclass
class Inspected:
    """What one pass over one staging root found. `waiting` are those that may yet turn out to be no orphans.

    `problem` says why the root could not be looked at; then no row was changed. `postponed` were not measured for lack
    of time, `kept` could not be asked about, because something on the way to them cannot be entered.
    """

    root: StagingRoot
    listed: int = 0
    waiting: int = 0
    gone: int = 0
    kept: int = 0
    measured: int = 0
    postponed: int = 0
    escalated: int = 0
    problem: Finding | None = None


@dataclass(frozen=True)
class _Thing:
    """One thing that may be an orphan. `sight` is None for a run that is not there, and for what is `summed` up."""

    path: str
    kind: OrphanKind
    reason: Reason
    detail: str = ""
    sight: Sight | None = None
    run: Run | None = None
    summed: Measure | None = None


class NextStep(enum.StrEnum):
    """What a person can safely do about an orphan here; what is to be done on the disk, the reason's advice says."""

    ADOPT = "adopt"
    LOOK_AGAIN = "look_again"
    MARK_GONE = "mark_gone"
    REMOVE_SHELL = "remove_shell"


def next_step(orphan: Orphan) -> NextStep:
    """The next step for one orphan. None of them removes any data."""
    if orphan.kind == OrphanKind.MISSING:
        return NextStep.MARK_GONE
    if orphan.kind == OrphanKind.SHELL and orphan.run_id is not None:
        return NextStep.REMOVE_SHELL
    if orphan.kind in (OrphanKind.NO_RECORD, OrphanKind.UNKNOWN):
        return NextStep.ADOPT
    return NextStep.LOOK_AGAIN


def listed() -> QuerySet[Orphan]:
    """The orphans that are there now: known for longer than the grace, and not gone."""
    return Orphan.objects.filter(gone_at=None, measured_at__isnull=False)


def inspect(
    root: StagingRoot,
    *,
    now: datetime,
    wait: bool = True,
    seconds: float | None = SECONDS,
    again: Collection[str] = (),
) -> Inspected | None:
    """Bring the orphans of one staging root of this host up to date. Reads the disk and changes nothing there.

    After `seconds` no further thing is measured (None: all are); those whose paths are in `again` are measured in any
    case. A root without its token changes no row. Returns None where another pass is at it and `wait` is off.
    """
    with opening.data_dir().lock(f"orphans-{root.pk}", wait=wait) as free:
        if not free:
            return None
        result = Inspected(root)
        try:
            with opening.open_root(root) as descriptor:
                _Pass(root, descriptor, now, seconds, again, result).run()
        except Unreachable as error:
            result.problem = error.finding
        return result


def look_again(orphan: Orphan, *, now: datetime) -> Orphan | None:
    """Look at one orphan now: discovery takes it if it is a run with a record, and it is measured again.

    Returns the orphan as it is after that, even if it is none any more; None where another pass is at its root, which
    looks at it anyway. Raises Unreachable where the root is not there.
    """
    try:
        path = run_paths.parse_run_path(orphan.path)
    except run_paths.UnsafePath:
        pass
    else:
        if discovery.look_at_path(orphan.root, path, now=now) is None:
            return None
    inspected = inspect(orphan.root, now=now, wait=False, seconds=0, again=[orphan.path])
    if inspected is None:
        return None
    if inspected.problem is not None:
        raise Unreachable(inspected.problem)
    orphan.refresh_from_db()
    return orphan


def adopt(orphan: Orphan, *, now: datetime) -> Run | None:
    """Let discovery take an unknown directory whose record can be read by now; the run that it became, or None.

    Raises as `look_again`.
    """
    looked_at = look_again(orphan, now=now)
    if looked_at is None or looked_at.gone_at is None:
        return None
    return Run.objects.staged().with_root().filter(root=orphan.root, run_path=orphan.path).first()


class _Pass:
    """One pass over one staging root: what is there, what the rows say, and what becomes of both."""

    def __init__(
        self,
        root: StagingRoot,
        descriptor: int,
        now: datetime,
        seconds: float | None,
        again: Collection[str],
        result: Inspected,
    ) -> None:
        self.root = root
        self.descriptor = descriptor
        self.now = now
        self.again = again
        self.result = result
        self.stop_at = None if seconds is None else time.monotonic() + seconds
        self.discovered_at = StagingRoot.objects.values_list("discovered_at", flat=True).get(pk=root.pk)
        self.things: dict[str, _Thing] = {}
        # What is under way, or cannot be entered: the rows of such paths say what they said before.
        self.open_questions: set[str] = set()
        self.unchanged: list[int] = []

    def run(self) -> None:
        self.find()
        rows = {row.path: row for row in Orphan.objects.filter(root=self.root, gone_at=None)}
        # Those that nobody has measured yet come first, and those the longest that have waited the longest.
        for thing in sorted(self.things.values(), key=lambda thing: _turn(rows.get(thing.path), self.now)):
            self.store_safely(thing, rows.get(thing.path))
        for start in range(0, len(self.unchanged), _AT_ONCE):
            Orphan.objects.filter(pk__in=self.unchanged[start : start + _AT_ONCE]).update(seen_at=self.now)
        self.close(rows)
        self.escalate()

    def find(self) -> None:
        # As the walk goes on runs come and go; a run that is known and not seen is asked for afterwards.
        known = discovery.known_in_unusual_places(self.root)
        sights, further = _without_crowds(list(walk(self.descriptor, known=known)))
        self.things |= {thing.path: thing for thing in further}
        # Where the wizard cleared a run by itself, its record stays: that is known, and no orphan.
        rows = Run.objects.filter(root=self.root, gone_at=None).defer("facts")
        there = rows.exclude(state=State.CLEARED, problem="", cleared_by="")
        # Staged ones last: what was called cleared and is still there may have a new row beside it.
        runs = {run.run_path: run for run in sorted(there, key=lambda run: run.state != State.CLEARED)}
        active = set(
            ClearAttempt.objects.filter(run__root=self.root, phase__in=ClearAttempt.ACTIVE).values_list(
                "run__run_path", flat=True
            )
        )
        self.open_questions |= {_fit(path) for path in active}
        misplaced: list[bytes] = []
        for sight in sights:
            if any(sight.raw.startswith(above + b"/") for above in misplaced):
                continue  # it belongs to what is listed as a whole
            if sight.shape is Shape.MISPLACED:
                misplaced.append(sight.raw)
            if sight.shape is Shape.BLOCKED:
                self.open_questions.add(_fit(sight.path))
            if sight.path in active:
                continue
            for thing in self.judge(sight, runs):
                self.add(thing)
        self.find_missing(sights, [run for run in runs.values() if run.run_path not in active])

    def judge(self, sight: Sight, runs: dict[str, Run]) -> list[_Thing]:
        """What a sight is, if it is an orphan at all, with what is misplaced inside of it."""
        path, run = _fit(sight.path), runs.get(sight.path)
        if sight.shape is Shape.RUN or (sight.shape is Shape.BLOCKED and _is_run_path(sight.path)):
            if (run is None or run.problem == Reason.SHELL_LEFT) and (shell := self.shell_at(path, sight)):
                return [shell]
            if run is None:
                said = sight.problem.detail if sight.problem else ""
                return [_Thing(path, OrphanKind.UNKNOWN, Reason.UNKNOWN_DIRECTORY, said, sight)]
            if run.problem == Reason.INGEST_UNREADABLE and sight.shape is Shape.RUN:
                return [_Thing(path, OrphanKind.NO_RECORD, Reason.INGEST_UNREADABLE, _why_unreadable(run), sight, run)]
            return []
        if sight.shape is Shape.FENCE:
            if (left := fences.left_aside(self.root, self.descriptor, sight)) is not None:
                return [_Thing(path, OrphanKind.SHELL, Reason.SHELL_LEFT, left.detail, sight, left.run)]
            if not fences.is_stray_fence(self.root, self.descriptor, sight):
                return []
            return [_Thing(path, OrphanKind.LEFTOVER, Reason.STRAY_FENCE, "", sight)]
        if sight.shape is Shape.LEFTOVER:
            return [
                _Thing(path, OrphanKind.LEFTOVER, Reason.STRAY_FILE, "a reserve is laid at a root's top only", sight)
            ]
        if sight.shape is Shape.PASSED_OVER:
            said = sight.problem.detail if sight.problem else ""
            return [_Thing(path, OrphanKind.MISPLACED, Reason.PASSED_OVER, said, sight)]
        if sight.shape is Shape.MISPLACED:
            return [_Thing(path, OrphanKind.MISPLACED, Reason.MISPLACED_RUN, "", sight)]
        if sight.shape is Shape.ASIDE and (names := self.unknown_aside(sight)):
            said = f"files that were set aside, of which the database knows nothing: {proofs.name_some(names)}"
            return [_Thing(path, OrphanKind.STRAY, Reason.STRAY_FILE, said, sight)]
        if sight.shape is Shape.STRAY and run is None:
            said = sight.problem.detail if sight.problem else ""
            inside = [Sight(Shape.MISPLACED, raw, is_directory=True) for raw in sight.within]
            return [
                _Thing(path, OrphanKind.STRAY, Reason.STRAY_FILE, said, sight),
                *(_Thing(_fit(at.path), OrphanKind.MISPLACED, Reason.MISPLACED_RUN, "", at) for at in inside),
            ]
        return []

    def unknown_aside(self, sight: Sight) -> list[str]:
        """What lies in a folder of files set aside, and is in no row that says of it that it lies there."""
        try:
            with run_paths.opened(run_paths.open_beneath(self.descriptor, sight.raw)) as folder:
                found = run_tree.scan(folder)
        except OSError as error:
            return [os.strerror(error.errno or 0)]
        files = (entry.path for entry in found.entries if entry.is_file)
        unknown = [run_paths.show(path) for path in files if sight.raw + b"/" + path not in self.asides]
        return sorted(unknown) + [problem.detail for problem in found.problems]

    @functools.cached_property
    def asides(self) -> frozenset[bytes]:
        """Where files lie that were set aside, or are on their way, relative to the staging root."""
        rows = (SetAside.objects.there() | SetAside.objects.under_way()).filter(run__root=self.root)
        known = rows.select_related("run").defer("run__facts")
        places = ((row.parents, set_aside.place_of(os.fsencode(row.leaf), row.name)) for row in known)
        return frozenset(b"/".join((parent, place)) for parents, place in places for parent in parents)

    def shell_at(self, path: str, sight: Sight) -> _Thing | None:
        """The shell that lies at a run path, if it is one."""
        try:
            run_path = run_paths.parse_run_path(sight.path)
            with opening.open_run(self.descriptor, sight.path) as opened:
                left = shells.left_at(self.root, run_path, opened)
        except (OSError, Unreachable):
            return None
        return _Thing(path, OrphanKind.SHELL, Reason.SHELL_LEFT, left.detail, sight, left.run) if left else None

    def find_missing(self, sights: list[Sight], runs: list[Run]) -> None:
        """Staged runs of which the disk says, asked for each, that there is no such directory."""
        seen = {sight.path for sight in sights}
        for run in runs:
            if run.state == State.CLEARED or run.run_path in seen or self.is_open(run.run_path):
                continue
            try:
                with opening.open_run(self.descriptor, run.run_path):
                    continue  # it came back a moment ago
            except Unreachable as error:
                if error.finding.reason is not Reason.MISSING_DIRECTORY:
                    self.open_questions.add(_fit(run.run_path))
                    continue
            if fences.fence_of(run, self.descriptor) is None:
                thing = _Thing(_fit(run.run_path), OrphanKind.MISSING, Reason.MISSING_DIRECTORY, "", None, run)
                self.add(thing)

    def add(self, thing: _Thing) -> None:
        """Take one thing in. Two names that a person reads alike are told apart by their digest."""
        if thing.path in self.things and thing.sight is not None:
            thing = replace(thing, path=_fit(f"{thing.path} ({hashlib.sha256(thing.sight.raw).hexdigest()[:12]})"))
        self.things.setdefault(thing.path, thing)

    def is_open(self, path: str) -> bool:
        """Whether there is no telling about a path, because it, or what it lies in, cannot be entered."""
        if "" in self.open_questions:
            return True
        parts = path.split("/")
        return any("/".join(parts[:number]) in self.open_questions for number in range(1, len(parts) + 1))

    def store_safely(self, thing: _Thing, row: Orphan | None) -> None:
        try:
            self.store(thing, row)
        except (OperationalError, InterfaceError):
            raise
        except Exception:  # one thing that cannot be written down must not hide the others; its row stays as it was
            logger.exception("writing down %s on %s failed", thing.path, self.root)

    def store(self, thing: _Thing, row: Orphan | None) -> None:
        """Write down one thing, measured if need be."""
        if row is not None and (row.kind == OrphanKind.MISSING) != (thing.kind == OrphanKind.MISSING):
            Orphan.objects.filter(pk=row.pk).update(gone_at=self.now)  # what came or went has a grace of its own
            row = None
        orphan = row or Orphan(root=self.root, path=thing.path, first_seen_at=self.now)
        before = _values(orphan)
        orphan.kind, orphan.reason, orphan.run = thing.kind, thing.reason, thing.run
        if before[:2] != (orphan.kind, orphan.reason):
            orphan.detail = thing.detail
        if thing.summed is not None:
            self.take(orphan, thing, thing.summed)
        elif thing.sight is None:
            if thing.run is not None:
                orphan.files, orphan.bytes = thing.run.files, thing.run.bytes
            if orphan.measured_at is None and _grace_ends(orphan, self.now) <= self.now:
                orphan.measured_at = self.now
        elif self.must_measure(orphan, thing.sight):
            if self.stop_at is not None and time.monotonic() >= self.stop_at and thing.path not in self.again:
                self.result.postponed += 1
            elif not self.measure(orphan, thing, thing.sight):
                del self.things[thing.path]  # gone, or nothing but what is listed by itself
                return
        if row is not None and _values(orphan) == before:
            self.unchanged.append(orphan.pk)
        else:
            orphan.seen_at = self.now
            # That it is gone may have been written down meanwhile, by whoever marked its run as gone.
            orphan.save(update_fields=_WRITTEN if row is not None else None)

    def must_measure(self, orphan: Orphan, sight: Sight) -> bool:
        if orphan.path in self.again:
            return True
        if orphan.measured_at is None:
            return orphan.modified_at is None or _grace_ends(orphan, self.now) <= self.now
        written = _instant(sight.modified_ns)
        newer = written is not None and (orphan.modified_at is None or written > orphan.modified_at)
        return newer or abs(self.now - orphan.measured_at) >= MEASURED_AGAIN

    def measure(self, orphan: Orphan, thing: _Thing, sight: Sight) -> bool:
        """Measure one thing; whether there is anything of its own."""
        try:
            found = measure(self.descriptor, sight.raw, without=sight.within)
        except FileNotFoundError:
            return False
        except OSError as error:
            found = Measure(None, None, sight.modified_ns, errors.way_blocked(error).detail)
        except Exception:  # one thing that cannot be measured must not hide the others
            logger.exception("measuring %s on %s failed", thing.path, self.root)
            found = Measure(None, None, sight.modified_ns, "it could not be measured; the log says why")
        if sight.within and found.files == 0:
            return False
        self.result.measured += 1
        self.take(orphan, thing, found)
        return True

    def take(self, orphan: Orphan, thing: _Thing, found: Measure) -> None:
        """Write a measure into a row. It counts when the grace is over, and the row is listed then."""
        found = _countable(found)
        orphan.files, orphan.bytes = found.files, found.bytes
        orphan.modified_at = _instant(found.modified_ns)
        orphan.detail = "; ".join(dict.fromkeys(part for part in (thing.detail, found.detail) if part))
        settled = _grace_ends(orphan, self.now) <= self.now and not self.may_be_taken(orphan)
        orphan.measured_at = self.now if settled else None

    def may_be_taken(self, orphan: Orphan) -> bool:
        """Whether an unknown directory may be one that discovery has had no chance to take yet."""
        if orphan.kind != OrphanKind.UNKNOWN or self.discovered_at is None:
            return False
        return orphan.first_seen_at >= self.discovered_at

    def close(self, rows: dict[str, Orphan]) -> None:
        """Say of what is gone, or is no orphan any more, that it is so; where there is no telling, say nothing."""
        for path, row in rows.items():
            if path in self.things:
                continue
            if self.is_open(path):
                self.result.kept += 1
                continue
            Orphan.objects.filter(pk=row.pk).update(gone_at=self.now)
            self.result.gone += 1

    def escalate(self) -> None:
        """Tell the admin what has grown too old or too large, for as long as it is so."""
        there = list(listed().filter(root=self.root))
        self.result.listed = len(there)
        self.result.waiting = Orphan.objects.filter(root=self.root, gone_at=None, measured_at=None).count()
        on_disk = [orphan for orphan in there if orphan.kind != OrphanKind.MISSING]
        size = sum(orphan.bytes or 0 for orphan in on_disk)
        limit = ceiling(self.descriptor)
        old = {orphan.pk for orphan in there if self.now - orphan.first_seen_at > MAX_AGE}
        large = {orphan.pk for orphan in on_disk} if size > limit else set()
        for orphan in there:
            over = orphan.pk in old | large
            if over != (orphan.escalated_at is not None):
                Orphan.objects.filter(pk=orphan.pk).update(escalated_at=self.now if over else None)
        self.result.escalated = len(old | large)
        self.tell(len(old), size if large else None, limit)

    def tell(self, old: int, size: int | None, limit: int) -> None:
        subject = f"orphans:{self.root.pk}"
        if not old and size is None:
            alerts.end_alert(AlertKind.ORPHAN, subject, now=self.now)
            return
        parts = [f"{old} known for more than {MAX_AGE.days} days"] if old else []
        if size is not None:
            parts.append(f"{_gigabytes(size)} together, more than {_gigabytes(limit)}")
        alerts.open_alert(
            AlertKind.ORPHAN,
            subject,
            reason=Reason.ORPHANS_ESCALATED,
            now=self.now,
            detail="; ".join(parts),
            root=self.root,
        )


def ceiling(root: int) -> int:
    """How many bytes orphans may fill together on the disk of an open root, before the admin is told."""
    found = os.fstatvfs(root)
    return min(MAX_BYTES, found.f_blocks * found.f_frsize * MAX_SHARE_PERCENT // 100)


def _without_crowds(sights: list[Sight]) -> tuple[list[Sight], list[_Thing]]:
    """The sights but for those stray files of which there are too many in one folder: these are one thing together."""
    kept, crowds = [], defaultdict(list)
    for sight in sights:
        if sight.shape is Shape.STRAY and not sight.is_directory and sight.problem is None:
            crowds[sight.raw.rpartition(b"/")[0]].append(sight)
        else:
            kept.append(sight)
    things = []
    for folder, files in crowds.items():
        kept += files[:MAX_STRAY_FILES]
        if more := files[MAX_STRAY_FILES:]:
            newest = max(file.modified_ns or 0 for file in more)
            summed = Measure(len(more), sum(file.size for file in more), newest)
            path = _fit(f"{run_paths.show(folder)}/…" if folder else "…")
            said = f"{len(more):,} more files of this folder"
            things.append(_Thing(path, OrphanKind.STRAY, Reason.STRAY_FILE, said, summed=summed))
    return kept, things


def _countable(found: Measure) -> Measure:
    """The measure as a column can keep it: a few files of nothing but holes add up to more than any disk holds."""
    if found.bytes is None or found.bytes <= BigIntegerField.MAX_BIGINT:
        return found
    detail = "; ".join(
        part for part in (found.detail, "its files say that they are larger than can be counted") if part
    )
    return replace(found, bytes=None, detail=detail)


def _values(orphan: Orphan) -> tuple[Any, ...]:
    """What a row says, its age apart."""
    return tuple(getattr(orphan, name) for name in _SAID)


def _turn(row: Orphan | None, now: datetime) -> tuple[bool, datetime]:
    if row is None:
        return False, now
    return (False, row.first_seen_at) if row.measured_at is None else (True, row.measured_at)


def _grace_ends(orphan: Orphan, now: datetime) -> datetime:
    """When an hour has passed since the newest modification; a time that is not known, or to come, says nothing."""
    if orphan.reason == Reason.PASSED_OVER:
        return orphan.first_seen_at  # an instrument that goes on writing into it would never be told of
    if orphan.modified_at is None or orphan.modified_at > now:
        return orphan.first_seen_at + GRACE
    return orphan.modified_at + GRACE


def _why_unreadable(run: Run) -> str:
    """What discovery said of a record that it could not read."""
    found = run.facts.get("ingest_findings") or [{}]
    return str(found[0].get("detail", ""))


def _is_run_path(path: str) -> bool:
    try:
        run_paths.parse_run_path(path)
    except run_paths.UnsafePath:
        return False
    return True


def _fit(path: str) -> str:
    """The path as it is stored: one that is too long is told apart by its digest."""
    if len(path) <= _MAX_PATH:
        return path
    digest = hashlib.sha256(path.encode()).hexdigest()[:32]
    return f"{path[: _MAX_PATH - len(digest) - 1]}…{digest}"


def _instant(nanoseconds: int | None) -> datetime | None:
    """A file time as an instant. Forged ones stay far ahead, but where every zone can show them."""
    if nanoseconds is None:
        return None
    return datetime.fromtimestamp(min(max(nanoseconds / 1e9, 0), _LATEST_SECONDS), tz=UTC)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
