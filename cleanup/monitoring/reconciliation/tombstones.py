"""Clears that the database does not know, as after a restore from an older backup, judged by their evidence.

A tombstone is written before the commit, so it alone proves no clear. It counts as one only where the run is gone from
its path, from its fence, and no record for it is prepared: an attempt that was undone lies at its path, one that was
interrupted lies in its fence, and the plan goes before the tombstone when an attempt is undone. A signed receipt proves
the clear without plan and tombstone; the disk is asked all the same. Every other state is in doubt.
"""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.conf import settings

from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import Unreachable
from cleanup.models import ClearAttempt, LedgerEntry, LedgerKind, Phase, Run, StagingRoot
from cleanup.monitoring.reconciliation import beside, receipt_records
from cleanup.monitoring.reconciliation.evidence import DoubtedClear, Evidence, Story, expect_storable, one_document
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs.facts import identity
from cleanup.storage import handles, linux, run_paths
from cleanup.storage.data_directory.datadir import TombstoneError
from cleanup.storage.errors import UnsafePath, words_of
from cleanup.storage.run_paths import RunPath
from cleanup.storage.staging import fences, records
from cleanup.storage.staging.plan import PlanError
from cleanup.storage.staging.records import Record
from cleanup.storage.staging.records import ingest_json as ingest
from cleanup.storage.staging.records.ingest_json import IngestError


@dataclass(frozen=True)
class LostClear:
    """A clear that was done and that the database does not know. `run`: its row, None where there is none either."""

    evidence: Evidence
    root: StagingRoot
    path: RunPath
    identity: str
    record: Record
    run: Run | None

    @property
    def attempt(self) -> str:
        return self.evidence.attempt

    @property
    def story(self) -> Story:
        return self.evidence.story

    @property
    def key(self) -> tuple[int, str, str]:
        """Equal for several tombstones of one run."""
        return self.root.pk, str(self.path), self.identity

    @property
    def left_ns(self) -> int:
        return _left_ns(self.story)

    @property
    def cleared_at(self) -> datetime | None:
        """The instant of the clear, as its record says it."""
        return self.record.history[-1].at if self.record.history else self.record.cleared_at


def recovered_plans() -> set[str]:
    """The plans of whose clears the ledger tells already; a plan names its attempt, so its digest is its own."""
    return set(LedgerEntry.objects.filter(kind=LedgerKind.RECOVERED).order_by().values_list("plan_sha256", flat=True))


def read_story(attempt: str) -> Story:
    """Read what a tombstone says. Raises DoubtedClear."""
    with one_document(f"tombstones/{attempt}.tar.gz"):
        try:
            story = opening.data_dir().read_story(attempt)
        except TombstoneError as error:
            raise DoubtedClear(f"it cannot be read: {error}") from None
        except (ValueError, RecursionError):
            story = {}
        if not isinstance(story, dict) or not isinstance(story.get("plan_sha256"), str):
            raise DoubtedClear("it cannot be read: it holds no story")
        expect_storable(story)
        return story


def judge(evidence: Evidence, presumed: Mapping[int, Record] | None = None) -> LostClear:
    """Return the clear of which evidence tells. Raises DoubtedClear.

    `presumed`: the final records of runs that count as cleared by other evidence, by their keys.
    """
    story = evidence.story
    place = {"root": str(story.get("staging_root") or ""), "run_path": str(story.get("run_path") or "")}
    run: Run | None = None
    try:
        with one_document(evidence.name):
            root, path = _place(story)
            planned = _planned_ino(evidence)
            record = _record(evidence, root, path)
            seen = _identity(evidence, planned, record)
            if seen == "-:-:-":
                raise DoubtedClear("neither its plan nor its archive is there to tell which folder it was")
            run = _row(root, path, seen, record, _written_at(evidence), presumed or {})
            _expect_gone(evidence.attempt, root, path, seen, _left_ns(story))
    except DoubtedClear as doubt:
        raise DoubtedClear(str(doubt), **place, run=run.pk if run else doubt.run) from None
    return LostClear(evidence, root, path, seen, record, run)


def _identity(evidence: Evidence, planned: int | None, record: Record) -> str:
    ino, birth, origin = evidence.receipt.identity.split(":") if evidence.receipt else ("-", "-", "-")
    begun = _origin(evidence, record)
    return f"{ino if planned is None else planned}:{birth}:{origin if begun == '-' else begun}"


def _left_ns(story: Story) -> int:
    """When the run's folder had left its path: a folder that is born later is another one. 0 if unknown."""
    found = story.get("fenced_ns")
    ended = ingest.parse_instant(story.get("ended_at"))
    if isinstance(found, int) or ended is None:
        return found if isinstance(found, int) else 0
    return _nanoseconds(ended)


def _nanoseconds(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def _place(story: Story) -> tuple[StagingRoot, RunPath]:
    if story.get("kind") == "shell":
        raise DoubtedClear("it tells of an empty folder that was removed, not of a run")
    if story.get("host") != settings.EXLAB_HOST:
        raise DoubtedClear(f"it is of the host {story.get('host')}")
    # A root may have another name since; only a receipt tells the token.
    named = {"token": story["root_token"]} if story.get("root_token") else {"name": story.get("staging_root")}
    root = StagingRoot.objects.filter(**named, host=settings.EXLAB_HOST).first()
    if root is None:
        raise DoubtedClear(f"its staging root {story.get('staging_root')} is not registered on this host")
    try:
        return root, run_paths.parse_run_path(str(story.get("run_path")))
    except UnsafePath as error:
        raise DoubtedClear(str(error)) from None


def _planned_ino(evidence: Evidence) -> int | None:
    # When an attempt is undone, the plan goes first: without it the tombstone is half undone.
    try:
        return opening.data_dir().read_plan(evidence.attempt, evidence.plan_sha256).ino
    except PlanError as error:
        if evidence.receipt is None:
            raise DoubtedClear(f"{error}, so the attempt may have been undone") from None
        if not evidence.receipt.complete:
            raise DoubtedClear(f"files of it were left, and {error}") from None
    return None


def _record(evidence: Evidence, root: StagingRoot, path: RunPath) -> Record:
    if evidence.archive is not None:
        try:
            return _archived_record(evidence.attempt, root, path)
        except DoubtedClear:
            if evidence.receipt is None:
                raise
    if evidence.receipt is None:
        raise DoubtedClear(evidence.unread or "nothing is left that tells of it")
    return receipt_records.record_of(evidence.receipt, root, path)


def _archived_record(attempt: str, root: StagingRoot, path: RunPath) -> Record:
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


def _origin(evidence: Evidence, record: Record) -> str:
    if record.history:
        return record.history[0].digest[:32]
    with contextlib.suppress(TombstoneError, IngestError):
        return records.origin_in(opening.data_dir().read_record(evidence.attempt, file="metadata/creation.json"))
    return "-"


def _written_at(evidence: Evidence) -> datetime:
    ended = ingest.parse_instant(evidence.story.get("ended_at"))
    if ended is not None:
        return ended
    try:
        return datetime.fromtimestamp(os.stat(opening.data_dir().tombstone_path(evidence.attempt)).st_mtime, UTC)
    except OSError as error:
        raise DoubtedClear(f"it cannot be read: {words_of(error)}") from None


def _expect_gone(attempt: str, root: StagingRoot, path: RunPath, seen: str, left_ns: int) -> None:
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
            if said := beside.own_folder(parent, path, seen, left_ns):
                raise DoubtedClear(said)
    except Unreachable as error:
        raise DoubtedClear(error.finding.said) from None
    except OSError as error:  # with this folder missing, the fence may have been moved with it
        raise DoubtedClear(f"the folder in which it lay cannot be opened: {words_of(error)}") from None


def _row(
    root: StagingRoot,
    path: RunPath,
    seen: str,
    record: Record,
    written_at: datetime,
    presumed: Mapping[int, Record],
) -> Run | None:
    """The row that the clear belongs to, None for none. Raises DoubtedClear where rows tell another story."""
    rows = list(Run.objects.filter(root=root, run_path=str(path)).order_by("pk").defer("facts"))
    here = (run for run in rows if run.state != State.CLEARED and run.gone_at is None and run.pk not in presumed)
    staged = next(here, None)
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
        if _came_after(run, written_at):
            raise DoubtedClear("the run came to its path after that attempt, as a copy does", run=run.pk)
        seen_at = run.unchanged_at or run.looked_at
        if seen_at and seen_at > written_at and run.problem != Reason.MISSING_DIRECTORY:
            raise DoubtedClear("the run was seen on the disk after that attempt", run=run.pk)
    elif not _is_that_clear(run, record, presumed.get(run.pk)):
        raise DoubtedClear("the run was cleared by another clear", run=run.pk)
    return run


def _came_after(run: Run, written_at: datetime) -> bool:
    # A receipt alone does not tell which folder was cleared, and a copy has the same record.
    born = run.identity.split(":")[1]
    return run.first_seen_at > written_at or (born != "-" and int(born) > _nanoseconds(written_at))


def _expect_continued(run: Run, record: Record) -> None:
    known, written = [event.digest for event in run.history], [entry.digest for entry in record.history]
    if written[: len(known)] != known or (written and len(known) >= len(written)):
        raise DoubtedClear("its record does not continue the run's history", run=run.pk)


def _is_that_clear(run: Run, record: Record, presumed: Record | None) -> bool:
    # Discovery takes a missing run as cleared by another program where the NAS was told of our clear. A run that came
    # back may have been cleared twice, in a folder of the same number.
    if presumed is not None:
        return same_end(presumed, record)
    if not (run.cleared_by or run.ledger.filter(kind=LedgerKind.RECOVERED).exists()):
        return False
    if record.history:
        return [event.digest for event in run.history] == [entry.digest for entry in record.history]
    return run.cleared_at is not None and run.cleared_at == record.cleared_at


def same_end(one: Record, other: Record) -> bool:
    """Whether two records end with the same clear."""
    if one.history and other.history:
        return one.history[-1].digest == other.history[-1].digest
    return one.cleared_at is not None and one.cleared_at == other.cleared_at
