"""Moved runs: a folder was renamed on staging and on the NAS, and the record continues the known history.

Nothing changes on disk; the next clear compares the bytes.
"""

import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from cleanup.lab.nas import shared_twins
from cleanup.lab.nas.nas_roots import record_places
from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import OpenRun, Unreachable
from cleanup.ledger import book, entries
from cleanup.models import Hold, HoldSource, Instrument, LedgerKind, Orphan, Project, Run, StagingRoot
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.runs.facts import findings, identity
from cleanup.runs.moved_or_gone import reregistration
from cleanup.runs.moved_or_gone.reregistration import RegisterAction, RegisterOrder, Reregistration
from cleanup.runs.orphans import stray_fences
from cleanup.storage import errors, linux, run_paths
from cleanup.storage.run_paths import RunPath
from cleanup.storage.staging import run_tree
from cleanup.storage.staging.records import Records
from cleanup.storage.staging.records import ingest_json as ingest

logger = logging.getLogger(__name__)


class NotMoved(Exception):
    """A run is not taken at its new place; the reason is a finding or a sentence."""

    def __init__(self, why: Finding | str) -> None:
        self.finding = why if isinstance(why, Finding) else None
        self.said = why if isinstance(why, str) else ""
        super().__init__(self.said or f"{self.finding}")


@dataclass(frozen=True)
class Move:
    """The content at or below `old` is now at or below `new`, both below the root."""

    old: str
    new: str

    def target(self, run: Run) -> str:
        """Return a run's new path."""
        return self.new + run.run_path.removeprefix(self.old)


@dataclass(frozen=True)
class _Found:
    identity: str
    named: RunPath


def read_move(old: str, new: str) -> Move:
    """Return a move as typed. Raises NotMoved."""
    move = Move(old.strip().rstrip("/"), new.strip().rstrip("/"))
    if not (move.old and move.new):
        raise NotMoved("Name the folder as it was, and as it is now.")
    if move.old == move.new:
        raise NotMoved("The folder is named as it was before.")
    return move


def runs_of(root: StagingRoot, move: Move) -> list[Run]:
    """Return the staged runs at or below the old path, by path."""
    below = Run.objects.staged().with_root().filter(root=root, run_path__startswith=move.old).order_by("run_path")
    return [run for run in below if run.run_path == move.old or run.run_path.startswith(f"{move.old}/")]


def guess(run: Run) -> Move | None:
    """Return the likely rename for a missing run, from the one directory elsewhere that is its own."""
    elsewhere = Run.objects.staged().filter(root=run.root_id).exclude(pk=run.pk).order_by("pk")
    same_file = elsewhere.filter(identity__startswith=f"{run.identity.partition(':')[0]}:")
    found = [other for other in same_file if identity.same(run.identity, other.identity)]
    return _between(run.run_path, found[0].run_path) if len(found) == 1 else None


def _between(old: str, new: str) -> Move:
    """Without the steps at the end that both paths share."""
    before, after = old.split("/"), new.split("/")
    while len(before) > 1 and len(after) > 1 and before[-1] == after[-1]:
        before, after = before[:-1], after[:-1]
    return Move("/".join(before), "/".join(after))


def known_elsewhere(run: Run) -> Run | None:
    """Return the run whose own directory lies at this row's path, as after a move; else None."""
    if run.events.exists() or run.record_sights.exists():
        return None
    elsewhere = Run.objects.staged().with_root().filter(root=run.root_id).exclude(pk=run.pk).order_by("pk")
    same_file = elsewhere.filter(identity__startswith=f"{run.identity.partition(':')[0]}:")
    found = [other for other in same_file if identity.same(run.identity, other.identity)]
    return found[0] if len(found) == 1 else None


def reregister_runs(runs: Iterable[Run], order: RegisterOrder) -> list[Reregistration]:
    """Register runs again as `reregistration.reregister_runs`, moved ones at their new path. Twice is harmless."""
    outcomes = []
    for run in runs:
        known = known_elsewhere(run)
        outcomes += reregistration.reregister_runs([run], order) if known is None else [_bring(known, run, order)]
    return outcomes


def _bring(known: Run, found: Run, order: RegisterOrder) -> Reregistration:
    path = found.run_path
    try:
        with reregistration.undisturbed(known.root, order), opening.open_root(known.root) as root:
            _expect_as_seen(known, path, root)
            return _settle(known, path, root, order)
    except NotMoved as error:
        return Reregistration(known, RegisterAction.REFUSED, error.finding, said=error.said, moved_to=path)
    except Unreachable as error:
        return Reregistration(known, RegisterAction.REFUSED, error.finding, moved_to=path)


def _expect_as_seen(known: Run, path: str, root: int) -> None:
    with opening.open_run(root, path) as opened:
        try:
            scanned = run_tree.scan(opened.run)
        except OSError as error:
            raise NotMoved(errors.way_blocked(error)) from None
    if not identity.same(known.identity, identity.of(scanned, None)):
        raise NotMoved(Finding(Reason.IDENTITY_MISMATCH, f"another directory than that of {known.run_path}"))
    # More bytes are harmless (logs and locks of the wizard); fewer are not.
    size = run_tree.count(scanned.entries).bytes
    if known.bytes is not None and size < known.bytes:
        raise NotMoved(
            f"It holds {size} bytes, and {known.bytes} were seen of {known.run_path} last. Find out what is missing; "
            "if it is right so, say with reregister --moved OLD NEW that its folder was renamed."
        )


def move_runs(root: StagingRoot, move: Move, order: RegisterOrder) -> list[Reregistration]:
    """Take the runs below the new path for those below the old one. Twice is harmless.

    Raises NotMoved for no known run, Unreachable.
    """
    runs = runs_of(root, move)
    if not runs:
        raise NotMoved(f"No staged run is known at or below {move.old}.")
    with reregistration.undisturbed(root, order), opening.open_root(root) as descriptor:
        return [_settle(run, move.target(run), descriptor, order) for run in runs]


def _settle(run: Run, target: str, root: int, order: RegisterOrder) -> Reregistration:
    # A rehearsal takes no lock.
    with contextlib.ExitStack() as stack:
        try:
            path = _parsed(target)
            other = Run.objects.staged().filter(root=run.root_id, run_path=target).first()
            for row in (run, other) if other else (run,):
                if not order.dry_run and not stack.enter_context(opening.data_dir().lock(str(row.pk))):
                    raise NotMoved(Finding(Reason.ALREADY_CLEARING))
            if (finding := reregistration.unfit(run)) is not None:
                raise NotMoved(finding)
            _expect_gone(run, root)
            found = _find(run, path, root)
            if other is not None:
                _expect_duplicate(run, other, found, order)
            if order.dry_run:
                return Reregistration(run, RegisterAction.WOULD_REREGISTER, moved_to=target)
            before = run.run_path
            if not _write(run, path, found, other, order):
                raise NotMoved(Finding(Reason.ALREADY_CLEARING))
            logger.info("reregistered %s as %s by %s", before, target, order.actor)
            return Reregistration(run, RegisterAction.REREGISTERED, moved_from=before, moved_to=target)
        except NotMoved as error:
            return Reregistration(run, RegisterAction.REFUSED, error.finding, said=error.said, moved_to=target)


def _parsed(target: str) -> RunPath:
    try:
        return run_paths.parse_run_path(target)
    except errors.UnsafePath as error:
        raise NotMoved(Finding(Reason.UNSAFE_PATH, str(error))) from None


def _expect_gone(run: Run, root: int) -> None:
    # Another directory may lie at the old path.
    if (fence := stray_fences.fence_of(run, root)) is not None:
        raise NotMoved(Finding(Reason.PATH_OCCUPIED, f"it lies beside its old path as {fence}"))
    try:
        with opening.open_run(root, run.run_path) as opened:
            seen = identity.of(linux.status(opened.run), None)
    except Unreachable as error:
        if error.finding.reason is not Reason.MISSING_DIRECTORY:
            raise NotMoved(error.finding) from None
        return
    if identity.same(run.identity, seen):
        raise NotMoved("It still lies at its old path.")


def _find(run: Run, path: RunPath, root: int) -> _Found:
    try:
        with opening.open_run(root, str(path)) as opened:
            if (fence := reregistration.own_fence(run, opened)) is not None:
                raise NotMoved(Finding(Reason.PATH_OCCUPIED, f"it lies beside its new path as {fence}"))
            return _compare(run, path, opened)
    except Unreachable as error:
        raise NotMoved(error.finding) from None
    except OSError as error:
        raise NotMoved(errors.way_blocked(error)) from None


def _compare(run: Run, path: RunPath, opened: OpenRun) -> _Found:
    # A record that names the new path must lie in the run's own directory: two runs may have the same short history.
    record, named = _read(opened, *record_places(run), path)
    seen = identity.of(linux.status(opened.run), record)
    objection = reregistration.objection_to(run, record, seen)
    if objection is not None:
        raise NotMoved(objection)
    if named == path and not identity.same(run.identity, seen):
        raise NotMoved(Finding(Reason.INGEST_DISAGREES, f"its record does not name {run.run_path}"))
    return _Found(seen, named)


def _read(opened: OpenRun, *places: RunPath) -> tuple[Records, RunPath]:
    first: ingest.IngestError | None = None
    for place in places:
        try:
            return findings.read_records(opened, place), place
        except ingest.IngestError as error:
            first = first or error
    assert first is not None  # noqa: S101
    raise NotMoved(Finding(Reason(first.reason), first.detail))


def _expect_duplicate(run: Run, other: Run, found: _Found, order: RegisterOrder) -> None:
    """The row at the new path must be of the same directory and have no hold or clear of its own."""
    if other.active_attempt:
        raise NotMoved(Finding(Reason.ALREADY_CLEARING))
    if other.attempts.exists():
        raise NotMoved("Another run is known at the new path, and a clear of it was tried.")
    if Hold.objects.in_force(order.now).filter(run=other, source=HoldSource.PERSON).exists():
        raise NotMoved(Finding(Reason.HELD, "the run that was found at the new path; release that hold first"))
    if not identity.same(other.identity, found.identity):
        raise NotMoved(Finding(Reason.IDENTITY_MISMATCH, "another run is known at the new path"))
    if other.events.exists() and not identity.same(run.identity, found.identity):
        raise NotMoved("Another run with a history of its own is known at the new path.")


def _write(run: Run, path: RunPath, found: _Found, other: Run | None, order: RegisterOrder) -> bool:
    before = run.run_path
    with book.writing():
        wanted = {row.pk: row.identity for row in (run, other) if row is not None}
        locked = Run.objects.select_for_update(no_key=True).staged().filter(pk__in=wanted).order_by("pk")
        if {row.pk: row.identity for row in locked} != wanted or any(row.active_attempt for row in locked):
            return False
        if other is not None:
            _declare_duplicate(other, before, order)
        _take_path(run, path, found)
        detail = f"moved from {before}; {_described(run, found)}"
        run.identity = found.identity
        entries.write_entry(
            run,
            kind=LedgerKind.REREGISTERED,
            actor=order.actor,
            now=order.now,
            reason="",
            detail=f"{detail}; {order.note}" if order.note else detail,
        )
        Orphan.objects.filter(run=run, gone_at=None).update(gone_at=order.now)
        Run.objects.filter(pk=run.pk).doubt()
    return True


def _take_path(run: Run, path: RunPath, found: _Found) -> None:
    # The facts are of the old path; the next discovery looks again.
    run.run_path, run.leaf = str(path), path.leaf
    run.equipment, run.project, run.run_kind = path.equipment, path.project, path.run_kind
    Run.objects.filter(pk=run.pk).update(
        run_path=run.run_path,
        leaf=run.leaf,
        equipment=run.equipment,
        project=run.project,
        run_kind=run.run_kind,
        record_path="" if found.named == path else str(found.named),
        identity=found.identity,
        facts={},
        problem="",
        failures=0,
    )
    shared_twins.note_place(run)
    Instrument.objects.get_or_create(root=run.root, equipment=run.equipment)
    Project.objects.get_or_create(code=run.project)


def _described(run: Run, found: _Found) -> str:
    same = identity.same(run.identity, found.identity)
    directory = "the same directory" if same else f"another directory: {run.identity} became {found.identity}"
    return f"{directory}; its record names {found.named}"


def _declare_duplicate(other: Run, before: str, order: RegisterOrder) -> None:
    Run.objects.filter(pk=other.pk).update(gone_at=order.now)
    Run.objects.filter(pk=other.pk).doubt()
    Orphan.objects.filter(run=other, gone_at=None).update(gone_at=order.now)
    entries.write_entry(
        other,
        kind=LedgerKind.REREGISTERED,
        actor=order.actor,
        now=order.now,
        reason=Reason.IDENTITY_MISMATCH,
        detail=f"declared gone: what was found here is the run that was at {before}",
    )
