"""Files set aside: where each lies, and how a crash in between is settled."""

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator
from datetime import datetime

from django.conf import settings
from django.db import IntegrityError, transaction

from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import Unreachable
from cleanup.ledger import book, entries
from cleanup.models import AsideState, LedgerKind, Run, SetAside, StagingRoot
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage import errors, handles, linux
from cleanup.storage.run_paths import show
from cleanup.storage.staging import set_aside as disk

logger = logging.getLogger(__name__)


def recover(*, now: datetime, runs: Iterable[Run] | None = None) -> list[SetAside]:
    """Settle what a crash left unfinished; returns the rows. Unreachable or locked ones wait for the next pass."""
    rows = SetAside.objects.under_way().filter(host=settings.EXLAB_HOST)
    if runs is not None:
        rows = rows.filter(run__in=list(runs))
    settled: list[SetAside] = []
    if not rows.exists():  # nearly always, and the rows are wide
        return settled
    for row in rows.select_related("run__root"):
        with opening.data_dir().lock(str(row.run_id)) as free:
            if not free:
                continue
            row.refresh_from_db(fields=["state"])
            row.run.refresh_from_db(fields=["run_path"])
            if row.state not in (AsideState.INTENT, AsideState.UNDOING):  # another worker was faster
                continue
            try:
                with opening.open_root(row.run.root) as root, folder_beside(row, root) as parent:
                    settle(row, root, parent, now)
            except (Unreachable, OSError) as error:
                logger.warning("%s stays %s: %s", row, row.state, error)
            except Exception:  # one bad row must not stop the others, nor the clears that are settled after them
                logger.exception("%s cannot be settled", row)
            else:
                settled.append(row)
    return settled


def look(root: StagingRoot, *, now: datetime) -> int:
    """Mark the files set aside that no longer lie on a root as taken; returns how many.

    Returned files are listed again, moved ones by their new folder. Raises Unreachable.
    """
    rows = SetAside.objects.filter(run__root=root, state__in=[AsideState.DONE, AsideState.TAKEN])
    known = list(rows.select_related("run").defer("run__facts"))
    if not known:
        return 0
    with opening.open_root(root) as descriptor:
        return sum(_look_for(row, descriptor, now) for row in known)


def _look_for(row: SetAside, root: int, now: datetime) -> bool:
    # A path that cannot be read changes nothing.
    with contextlib.suppress(Unreachable, OSError, IntegrityError), folder_beside(row, root) as parent:
        found = disk.find(parent, place_of(row))
        if row.state == AsideState.TAKEN:
            if _is_it(row, found):
                with transaction.atomic():  # fails where a file of this name was set aside since
                    row.advance(AsideState.TAKEN, AsideState.DONE, now=now)
        elif found is None:
            return row.advance(AsideState.DONE, AsideState.TAKEN, now=now)
        if found is not None and (moved := _moved_to(row, root, parent)):
            SetAside.objects.filter(pk=row.pk).update(run_path=moved)
    return False


def _moved_to(row: SetAside, root: int, parent: int) -> str:
    for folder in row.parents[1:]:
        with handles.opened(handles.open_beneath(root, folder)) as other:
            if os.path.samestat(os.fstat(other), os.fstat(parent)):
                return f"{os.fsdecode(folder)}/{row.leaf}"
    return ""


def where(row: SetAside) -> str:
    """Return a file's path below the staging root, as shown."""
    return show(row.parent + b"/" + place_of(row))


@contextlib.contextmanager
def folder_beside(row: SetAside, root: int) -> Iterator[int]:
    """Open the folder that holds a file set aside, else the first that exists. Raises Unreachable."""
    with contextlib.ExitStack() as stack:
        there: list[int] = []
        try:
            for path in row.parents:
                with contextlib.suppress(FileNotFoundError):
                    there.append(stack.enter_context(handles.opened(handles.open_beneath(root, path))))
            holding = [parent for parent in there if disk.find(parent, place_of(row)) is not None]
        except OSError as error:
            raise Unreachable(errors.way_blocked(error)) from None
        if not there:
            raise Unreachable(Finding(Reason.MISSING_DIRECTORY))
        yield (holding or there)[0]


def place_of(row: SetAside) -> bytes:
    return disk.place_of(os.fsencode(row.leaf), row.name)


def settle(row: SetAside, root: int, parent: int, now: datetime) -> None:
    """Bring an unfinished row to what the disk shows, made durable first. Raises OSError.

    A file at neither place was never moved, or was taken.
    """
    before = AsideState(row.state)
    place, home = place_of(row), os.fsencode(row.run.run_path) + b"/" + row.name
    found_aside, found_home = disk.find(parent, place), disk.find(root, home)
    is_aside, is_home = _is_it(row, found_aside), _is_it(row, found_home)
    if is_aside and is_home:  # one only looks the same
        is_aside, is_home = _has_number(row, found_aside), _has_number(row, found_home)
        if is_aside == is_home:  # the numbers do not tell, so nothing was renamed
            is_aside, is_home = before == AsideState.UNDOING, before == AsideState.INTENT
    disk.sync(parent, place)
    disk.sync(root, home)
    if is_aside:
        _end(row, before, AsideState.DONE, now)
        return
    disk.tidy(parent, place)
    if before == AsideState.INTENT:
        _end(row, before, AsideState.ABORTED, now)
    else:
        _end(row, before, AsideState.UNDONE if is_home else AsideState.TAKEN, now)


def _end(row: SetAside, before: AsideState, after: AsideState, now: datetime) -> None:
    done = {
        (AsideState.INTENT, AsideState.DONE): (LedgerKind.SET_ASIDE, row.actor, row.note),
        (AsideState.UNDOING, AsideState.UNDONE): (LedgerKind.PUT_BACK, row.undone_by, row.undone_note),
    }.get((before, after))
    with book.writing():
        if not row.advance(before, after, now=now):
            return
        Run.objects.filter(pk=row.run_id).doubt()
        if done is not None:
            kind, actor, note = done
            said = f"{row.path} ({row.size} bytes), {'to' if kind == LedgerKind.SET_ASIDE else 'from'} {where(row)}"
            entries.write_entry(
                row.run,
                kind=kind,
                actor=actor,
                now=now,
                reason=Reason.NOT_IN_MANIFEST,
                detail=f"{said}; {note}",
            )


def _is_it(row: SetAside, found: linux.FileStatus | None) -> bool:
    # By size and time, since some mounts keep no inode numbers.
    if found is None or not found.is_file:
        return False
    return marks_of(found.ino, found.size, found.mtime_ns).partition(":")[2] == row.marks.partition(":")[2]


def _has_number(row: SetAside, found: linux.FileStatus | None) -> bool:
    return found is not None and row.marks.partition(":")[0] == str(found.ino)


def marks_of(ino: int, size: int, modified_ns: int) -> str:
    return f"{ino}:{size}:{modified_ns}"
