"""Setting aside: a file that the manifest does not list is renamed out of its run, under the run's lock, and can be put
back.

A row is written first, so that recovery knows where to look.
"""

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from cleanup.lab import readiness
from cleanup.lab.nas.nas_roots import record_places
from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import OpenRun
from cleanup.models import AsideState, Hold, Run, SetAside
from cleanup.rules import short_texts
from cleanup.rules.facts import Finding
from cleanup.rules.gates import BY_HOLD_FILE, QUIET_PERIOD
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs.facts import findings, identity
from cleanup.runs.holds import keeping_holds
from cleanup.runs.moved_or_gone import returned
from cleanup.runs.set_aside import set_aside_recovery
from cleanup.storage import errors, handles, linux
from cleanup.storage.run_paths import show
from cleanup.storage.staging import desktop_files, manifest, near_misses, record_locks, run_tree, unexpected, writers
from cleanup.storage.staging import set_aside as disk
from cleanup.storage.staging.records import ingest_json as ingest

logger = logging.getLogger(__name__)

# The names of at most this many missing files are compared with the unlisted ones.
_MISSING_NAMED = 10_000
# The page asks again for more.
MAX_FILES = 200


class NotSetAside(Exception):
    """A file is not set aside, or not put back; earlier files of the request stay done."""

    def __init__(self, finding: Finding | str) -> None:
        said = finding if isinstance(finding, str) else finding.said
        super().__init__(said)
        self.finding = None if isinstance(finding, str) else finding


@dataclass(frozen=True)
class Extra:
    """A file that nothing lists, and that is neither a desktop's nor the wizard's."""

    path: bytes
    size: int
    modified_ns: int
    ino: int

    @property
    def shown(self) -> str:
        return show(self.path)

    @property
    def marks(self) -> str:
        return set_aside_recovery.marks_of(self.ino, self.size, self.modified_ns)


def extras(run: Run) -> list[Extra]:
    """Return the files that may be set aside, by path. Raises NotSetAside, Unreachable."""
    with opening.open_root(run.root) as root, opening.open_run(root, run.run_path) as opened:
        return _look(run, opened).extras


def digest(found: Iterable[Extra]) -> str:
    """Return a digest of a list of such files."""
    return hashlib.sha256(repr([(extra.path, extra.marks) for extra in found]).encode()).hexdigest()


def set_aside(
    run: Run, paths: Sequence[bytes] | None, *, actor: str, reason: str, now: datetime, seen: str = ""
) -> list[SetAside]:
    """Set files aside by path (None: all, if their digest is still `seen`); returns their rows.

    Raises NotSetAside for a listed file or an unfit run; Unreachable; ValueError for an empty reason.
    """
    note = short_texts.reason(reason)
    with _locked(run) as opened:
        looked = _look(run, opened)
        if paths is None and digest(looked.extras) != seen:
            raise NotSetAside("The files have changed since they were shown.")
        chosen = looked.choose(paths)
        _refuse_busy(run, opened, looked, now)
        return [_set_one(run, opened, extra, actor, note) for extra in chosen]


def put_back(row: SetAside, *, actor: str, reason: str) -> None:
    """Put a file back to its place in the run. Raises as `set_aside`."""
    note = short_texts.reason(reason)
    run = row.run = Run.objects.with_root().get(pk=row.run_id)
    with _locked(run) as opened, set_aside_recovery.folder_beside(row, opened.root) as parent:
        row.refresh_from_db(fields=["state"])
        place = set_aside_recovery.place_of(row)
        found = disk.find(parent, place)
        if row.state != AsideState.DONE or found is None or not found.is_file:
            raise NotSetAside(f"{row.path} is not set aside any more.")
        if busy := writers.find_writers(found.device, {found.ino}, [os.fsencode(row.leaf)]):
            raise NotSetAside(Finding(Reason.WRITER_ACTIVE, busy[0]))
        told = {
            "undone_by": actor,
            "undone_note": note,
            "marks": set_aside_recovery.marks_of(found.ino, found.size, found.mtime_ns),
        }
        if not row.advance(AsideState.DONE, AsideState.UNDOING, now=timezone.now(), **told):
            raise NotSetAside(f"{row.path} is not set aside any more.")
        why = _move(lambda: disk.move(parent, place, opened.run, row.name, ino=found.ino))
        set_aside_recovery.settle(row, opened.root, parent, timezone.now())
    if row.state != AsideState.UNDONE:
        raise NotSetAside(f"{row.path} was not put back: {why or 'it lies where it was'}.")


@dataclass(frozen=True)
class _Looked:
    scan: run_tree.Scan
    extras: list[Extra]

    def choose(self, paths: Sequence[bytes] | None) -> list[Extra]:
        if paths is None:
            if not self.extras:
                raise NotSetAside("The run holds no file that may be set aside.")
            return self.extras[:MAX_FILES]
        by_path = {extra.path: extra for extra in self.extras}
        for path in paths:
            if path not in by_path:
                raise NotSetAside(self._why_not(path))
        return [by_path[path] for path in dict.fromkeys(paths)]

    def _why_not(self, path: bytes) -> str:
        there = {entry.path for entry in self.scan.entries if entry.is_file}
        if path not in there:
            return f"{show(path)} is no file of the run."
        if not run_tree.is_data(path):
            return f"{show(path)} is no data file: it is cleared with the run, or holds it."
        if path in self.scan.desktop:
            return f"{show(path)} is a file of a desktop or a NAS system: it keeps no run, and goes with it."
        if desktop_files.is_open(path):
            return f"{show(path)} was deleted and is still open: close the program that has it."
        return f"{show(path)} belongs to the run: its manifest lists it. It is never set aside."


def _look(run: Run, opened: OpenRun) -> _Looked:
    """Raises NotSetAside where the run's own files are not known."""
    scan = run_tree.scan(opened.run)
    staged = {entry.path for entry in scan.data_files}
    expected, missing = _expected(run, opened, staged, scan.desktop)
    found = [
        Extra(entry.path, entry.size, entry.mtime_ns, entry.ino)
        for entry in scan.data_files
        if entry.path not in expected and not desktop_files.is_open(entry.path)
    ]
    foreign = unexpected.files(scan, int(timezone.now().timestamp()) * 1_000_000_000)
    found += [Extra(entry.path, entry.size, entry.mtime_ns, entry.ino) for entry in foreign]
    if words := near_misses.written_otherwise([extra.path for extra in found], missing):
        said = "Files are missing that the manifest lists, and those that it does not list may be these"
        raise NotSetAside(f"{said}: it writes names {words}. They belong to the run then, and none is set aside.")
    return _Looked(scan, sorted(found, key=lambda extra: extra.path))


def _expected(
    run: Run, opened: OpenRun, staged: Collection[bytes], desktop: Collection[bytes]
) -> tuple[set[bytes], list[bytes]]:
    """The listed staged files, and the listed missing ones."""
    try:
        record = returned.as_staged(run, findings.read_records(opened, *record_places(run)))
    except ingest.IngestError as error:
        raise NotSetAside(Finding(Reason(error.reason), error.detail)) from None
    if record.cleared_at is not None:
        raise NotSetAside(Finding(Reason.ALREADY_CLEARED))
    if record.main.history and record.main.current_state != State.SYNC_VERIFIED:
        raise NotSetAside(Finding(Reason.NOT_SYNC_VERIFIED))
    expected: set[bytes] = set()
    for one in (record.main, *record.beside):
        expected.update(one.listed)
    try:
        listed = manifest.read(opened.run)
    except manifest.ManifestError as error:
        if record.main.history or error.reason != Reason.MANIFEST_MISSING:
            raise NotSetAside(Finding(Reason(error.reason), error.detail)) from None
        gone = (path for path in expected if path not in staged and run_tree.is_data(path))
        return expected, [path for path in gone if not desktop_files.may_be_missing(path, expected)]
    expected.update(path for path in listed.paths() if path in staged)  # few of millions of lines may lie here
    return expected, findings.missing_files(listed, staged, desktop, named=_MISSING_NAMED)[1]


@contextlib.contextmanager
def _locked(run: Run) -> Iterator[OpenRun]:
    """Locked as for a clear. Raises NotSetAside, Unreachable."""
    with contextlib.ExitStack() as stack:
        if not stack.enter_context(opening.data_dir().lock(str(run.pk))):
            raise NotSetAside(Finding(Reason.ALREADY_CLEARING, "Or a file of it is on its way just now."))
        _refuse_unfit(run)
        opened = stack.enter_context(_opened(run))
        try:
            stack.enter_context(handles.flocked(opened.run))
        except BlockingIOError:
            raise NotSetAside(Finding(Reason.WRITER_ACTIVE, "the run's directory is locked")) from None
        if not identity.same(run.identity, identity.of(linux.status(opened.run), None)):
            raise NotSetAside(Finding(Reason.IDENTITY_MISMATCH))
        try:
            yield opened
        except OSError as error:
            # The row says what is under way, and recovery looks where the file lies.
            raise NotSetAside(f"It is not known yet what became of it: {os.strerror(error.errno or 0)}.") from error


@contextlib.contextmanager
def _opened(run: Run) -> Iterator[OpenRun]:
    with opening.open_root(run.root) as root, opening.open_run(root, run.run_path) as opened:
        yield opened


def _refuse_unfit(run: Run) -> None:
    run.refresh_from_db(fields=["state", "gone_at", "identity", "run_path"])
    if run.state == State.CLEARED:
        raise NotSetAside(Finding(Reason.ALREADY_CLEARED))
    if run.gone_at is not None:
        raise NotSetAside(Finding(Reason.MISSING_DIRECTORY, "it was marked as gone"))
    if run.active_attempt:
        raise NotSetAside(Finding(Reason.ALREADY_CLEARING))
    if conflict := identity.standing_conflict(run):
        raise NotSetAside(conflict)
    if hindrances := readiness.hindrances():
        raise NotSetAside(hindrances[0])


def _refuse_busy(run: Run, opened: OpenRun, looked: _Looked, now: datetime) -> None:
    if looked.scan.is_held:
        raise NotSetAside(Finding(Reason.HELD, BY_HOLD_FILE))
    if hold := keeping_holds.holding(run, Hold.objects.in_force(now)).first():
        raise NotSetAside(Finding(Reason.HELD, keeping_holds.said(hold, run)))
    try:
        lock = record_locks.held_lock(opened.run, patience_seconds=record_locks.PATIENCE_SECONDS)
    except OSError as error:
        raise NotSetAside(errors.way_blocked(error)) from None
    if lock is not None:
        raise NotSetAside(Finding(Reason.WRITER_ACTIVE, f"a program holds {show(lock)}"))
    if busy := findings.find_writers(looked.scan, [os.fsencode(run.leaf)]):
        raise NotSetAside(busy[0])
    # A time in the far future is a wrong clock, not a new write.
    written = {entry.path: entry.mtime_ns for entry in looked.scan.data_files}
    written |= {extra.path: extra.modified_ns for extra in looked.extras}
    late = [path for path, modified_ns in written.items() if abs(_ago(modified_ns, now)) < QUIET_PERIOD]
    if late:
        raise NotSetAside(Finding(Reason.NOT_QUIET, show(late[0])))


def _ago(modified_ns: int, now: datetime) -> timedelta:
    seconds = now.astimezone(UTC).timestamp() - modified_ns / 1e9
    return timedelta(seconds=max(min(seconds, 1e9), -1e9))


def _set_one(run: Run, opened: OpenRun, extra: Extra, actor: str, note: str) -> SetAside:
    place = disk.place_of(os.fsencode(run.leaf), extra.path)
    try:
        taken = disk.find(opened.parent, place) is not None
    except OSError as error:  # a link or a file in the folder's place
        raise NotSetAside(f"{extra.shown} stays where it is: {show(place)}: {os.strerror(error.errno or 0)}.") from None
    if taken:
        raise NotSetAside(f"{extra.shown} stays where it is: {show(place)} lies there already. Take that away first.")
    row = _intend(run, extra, actor, note)
    with set_aside_recovery.folder_beside(row, opened.root) as parent:
        why = _move(lambda: disk.move(opened.run, extra.path, parent, place, ino=extra.ino))
        set_aside_recovery.settle(row, opened.root, parent, timezone.now())
    if row.state != AsideState.DONE:
        raise NotSetAside(f"{row.path} stays where it is: {why or 'it was replaced'}.")
    logger.info("set aside %s of %s by %s: %s", row.path, run.run_path, actor, note)
    return row


def _intend(run: Run, extra: Extra, actor: str, note: str) -> SetAside:
    now = timezone.now()
    row = SetAside(
        run=run,
        run_path=run.run_path,
        path=extra.shown,
        raw=extra.path,
        key=hashlib.sha256(extra.path).hexdigest(),
        size=extra.size,
        marks=extra.marks,
        host=settings.EXLAB_HOST,
        actor=actor,
        note=note,
        at=now,
        state_at=now,
    )
    try:
        # Durable, so that after a crash the file is known to be ours.
        with transaction.atomic(durable=True):
            row.save()
    except IntegrityError:
        raise NotSetAside(f"{extra.shown}: a file of this name is set aside already.") from None
    return row


def _move(act: Callable[[], None]) -> str:
    # The disk tells afterwards where the file lies.
    try:
        act()
    except FileExistsError:
        return "a file of this name lies there"
    except OSError as error:
        return os.strerror(error.errno or 0)
    return ""
