"""Tombstones of clears that the database does not know, as after a restore from an older backup.

A tombstone is written before the commit, so it alone proves no clear. It counts as one only where the run is gone from
its path, from its fence, and no record for it is prepared: an attempt that was undone lies at its path, one that was
interrupted lies in its fence, and the plan goes before the tombstone when an attempt is undone. Every other state is
in doubt.
"""

import contextlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.conf import settings

from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import Unreachable
from cleanup.models import ClearAttempt, LedgerEntry, LedgerKind, Phase, Run, StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs.facts import identity
from cleanup.storage import handles, linux, run_paths
from cleanup.storage.data_directory.datadir import TombstoneError
from cleanup.storage.errors import UnsafePath, words_of
from cleanup.storage.run_paths import RunPath, show
from cleanup.storage.staging import fences, records
from cleanup.storage.staging.plan import PlanError
from cleanup.storage.staging.records import Record
from cleanup.storage.staging.records.ingest_json import IngestError


class DoubtedClear(Exception):
    """Why a tombstone is not taken for a clear. `root`, `run_path`: what it says of the place, as far as known."""

    def __init__(self, said: str, *, root: str = "", run_path: str = "", run: int | None = None) -> None:
        super().__init__(said)
        self.root, self.run_path, self.run = root, run_path, run


@dataclass(frozen=True)
class LostClear:
    """A clear that was done and that the database does not know. `run`: its row, None where there is none either."""

    attempt: str
    root: StagingRoot
    path: RunPath
    identity: str
    story: dict[str, Any]
    record: Record
    run: Run | None

    @property
    def key(self) -> tuple[int, str, str]:
        """Equal for several tombstones of one run."""
        return self.root.pk, str(self.path), self.identity

    @property
    def fenced_ns(self) -> int:
        return _fenced_ns(self.story)

    def says_the_same_as(self, other: "LostClear") -> bool:
        """Whether both records end with the same clear."""
        if self.record.history and other.record.history:
            return self.record.history[-1].digest == other.record.history[-1].digest
        return self.record.cleared_at is not None and self.record.cleared_at == other.record.cleared_at

    @property
    def cleared_at(self) -> datetime | None:
        """The instant of the clear, as its record says it."""
        return self.record.history[-1].at if self.record.history else self.record.cleared_at


def recovered_plans() -> set[str]:
    """The plans of whose clears the ledger tells already; a plan names its attempt, so its digest is its own."""
    return set(LedgerEntry.objects.filter(kind=LedgerKind.RECOVERED).order_by().values_list("plan_sha256", flat=True))


def read_story(attempt: str) -> dict[str, Any]:
    """Read what a tombstone says. Raises DoubtedClear."""
    try:
        story = opening.data_dir().read_story(attempt)
    except TombstoneError as error:
        raise DoubtedClear(f"it cannot be read: {error}") from None
    except ValueError:
        story = {}
    if not isinstance(story, dict) or not isinstance(story.get("plan_sha256"), str):
        raise DoubtedClear("it cannot be read: it holds no story")
    return story


def judge(attempt: str, story: dict[str, Any]) -> LostClear:
    """Return the clear of which an unknown tombstone tells. Raises DoubtedClear."""
    place = {"root": str(story.get("staging_root") or ""), "run_path": str(story.get("run_path") or "")}
    run: Run | None = None
    try:
        root, path = _place(story)
        ino = _planned_ino(attempt, str(story.get("plan_sha256") or ""))
        record = _record(attempt, root, path)
        seen = f"{ino}:-:{_origin(attempt, record)}"
        run = _row(root, path, seen, record, _written_at(attempt))
        _expect_gone(attempt, root, path, ino, _fenced_ns(story))
    except DoubtedClear as doubt:
        raise DoubtedClear(str(doubt), **place, run=run.pk if run else doubt.run) from None
    return LostClear(attempt, root, path, seen, story, record, run)


def _fenced_ns(story: dict[str, Any]) -> int:
    found = story.get("fenced_ns")
    return found if isinstance(found, int) else 0


def _place(story: dict[str, Any]) -> tuple[StagingRoot, RunPath]:
    if story.get("kind") == "shell":
        raise DoubtedClear("it tells of an empty folder that was removed, not of a run")
    if story.get("host") != settings.EXLAB_HOST:
        raise DoubtedClear(f"it is of the host {story.get('host')}")
    root = StagingRoot.objects.filter(name=story.get("staging_root"), host=settings.EXLAB_HOST).first()
    if root is None:
        raise DoubtedClear(f"its staging root {story.get('staging_root')} is not registered on this host")
    try:
        return root, run_paths.parse_run_path(str(story.get("run_path")))
    except UnsafePath as error:
        raise DoubtedClear(str(error)) from None


def _planned_ino(attempt: str, sha256: str) -> int:
    # When an attempt is undone, the plan goes first: without it the tombstone is half undone.
    try:
        return opening.data_dir().read_plan(attempt, sha256).ino
    except PlanError as error:
        raise DoubtedClear(f"{error}, so the attempt may have been undone") from None


def _record(attempt: str, root: StagingRoot, path: RunPath) -> Record:
    moved = (
        Run.objects.filter(root=root, run_path=str(path)).exclude(record_path="").values_list("record_path", flat=True)
    )
    places = [path, *map(run_paths.parse_run_path, moved)]
    for form in records.FORMATS:
        try:
            record = form.parse(opening.data_dir().read_record(attempt, file=form.file.decode()), *places)
        except TombstoneError:
            continue
        except IngestError as error:
            raise DoubtedClear(f"its record cannot be read: {error.detail}") from None
        if record.current_state != State.CLEARED and record.cleared_at is None:
            raise DoubtedClear("its record does not say cleared")
        return record
    raise DoubtedClear("it holds no record")


def _origin(attempt: str, record: Record) -> str:
    if record.history:
        return record.history[0].digest[:32]
    with contextlib.suppress(TombstoneError, IngestError):
        return records.origin_in(opening.data_dir().read_record(attempt, file="metadata/creation.json"))
    return "-"


def _written_at(attempt: str) -> datetime:
    try:
        return datetime.fromtimestamp(os.stat(opening.data_dir().tombstone_path(attempt)).st_mtime, UTC)
    except OSError as error:
        raise DoubtedClear(f"it cannot be read: {words_of(error)}") from None


def _expect_gone(attempt: str, root: StagingRoot, path: RunPath, ino: int, fenced_ns: int) -> None:
    """Raises DoubtedClear unless path and fence are free, and the run lies nowhere in the folder that it was in."""
    names = {
        os.fsencode(path.leaf): "something lies at the run's path",
        fences.fence_name(attempt): "the run lies in its fence, as an interrupted clear leaves it",
        fences.prepared_name(attempt): "the record of an interrupted clear lies beside its path",
    }
    try:
        with opening.open_root(root) as top, handles.opened(handles.open_beneath(top, path.parent)) as parent:
            for name, said in names.items():
                with contextlib.suppress(FileNotFoundError):
                    linux.status(parent, name)
                    raise DoubtedClear(said)
            if name := _elsewhere(parent, ino, fenced_ns):
                raise DoubtedClear(f"the run's own folder lies beside its path as {show(name)}")
    except Unreachable as error:
        raise DoubtedClear(error.finding.said) from None
    except OSError as error:  # with this folder missing, the fence may have been moved with it
        raise DoubtedClear(f"the folder in which it lay cannot be opened: {words_of(error)}") from None


def _elsewhere(parent: int, ino: int, fenced_ns: int) -> bytes:
    # Renamed, or moved to the fence of a later attempt. A disk gives a free inode number to a new folder: that is
    # younger than the fence.
    with os.scandir(parent) as entries:
        names = [os.fsencode(entry.name) for entry in entries if entry.inode() == ino]
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            born = linux.status(parent, name).birth_ns
            if born is None or born < fenced_ns:
                return name
    return b""


def _row(root: StagingRoot, path: RunPath, seen: str, record: Record, written_at: datetime) -> Run | None:
    """The row that the clear belongs to, None for none. Raises DoubtedClear where rows tell another story."""
    rows = list(Run.objects.filter(root=root, run_path=str(path)).order_by("pk").defer("facts"))
    staged = next((run for run in rows if run.state != State.CLEARED and run.gone_at is None), None)
    same = [run for run in rows if identity.same(run.identity, seen)]
    if staged is not None and staged not in same:
        raise DoubtedClear("the database knows another run at its path", run=staged.pk)
    if any(run.gone_at is not None for run in same):
        raise DoubtedClear("a person has marked the run as gone since", run=same[-1].pk)
    run = staged or next(iter(same), None)
    if run is None:
        return None
    busy = [*ClearAttempt.ACTIVE, Phase.CONFLICT]
    if run.attempts.filter(phase__in=busy).exists():
        raise DoubtedClear("another attempt on the run is not settled", run=run.pk)
    if run is staged:
        _expect_continued(run, record)
        if run.looked_at and run.looked_at > written_at and run.problem != Reason.MISSING_DIRECTORY:
            raise DoubtedClear("the run was seen on the disk after that attempt", run=run.pk)
    elif not _is_that_clear(run, record):
        raise DoubtedClear("the run was cleared by another clear", run=run.pk)
    return run


def _expect_continued(run: Run, record: Record) -> None:
    known, written = [event.digest for event in run.history], [entry.digest for entry in record.history]
    if written[: len(known)] != known or (written and len(known) >= len(written)):
        raise DoubtedClear("its record does not continue the run's history", run=run.pk)


def _is_that_clear(run: Run, record: Record) -> bool:
    # Discovery takes a missing run as cleared by another program where the NAS was told of our clear. A run that came
    # back may have been cleared twice, in a folder of the same number.
    if not (run.cleared_by or run.ledger.filter(kind=LedgerKind.RECOVERED).exists()):
        return False
    if record.history:
        return [event.digest for event in run.history] == [entry.digest for entry in record.history]
    return run.cleared_at is not None and run.cleared_at == record.cleared_at
