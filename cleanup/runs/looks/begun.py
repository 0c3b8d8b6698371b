"""A look at one run that has begun: its folder is open and its record is read."""

import contextlib
import os
from dataclasses import dataclass

from django.db.models import Case, F, When

from cleanup.lab.nas.nas_roots import record_places
from cleanup.lab.roots import opening
from cleanup.models import Run, StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs import at_path
from cleanup.runs.at_path import AtPath
from cleanup.runs.facts import findings, identity
from cleanup.runs.looks import unchanged
from cleanup.runs.looks.discovered import Pass
from cleanup.runs.orphans import found_shells
from cleanup.runs.rows import Told
from cleanup.storage import linux
from cleanup.storage.run_paths import RunPath
from cleanup.storage.staging import named_places, run_tree
from cleanup.storage.staging.records import Records
from cleanup.storage.staging.records import ingest_json as ingest


@dataclass(frozen=True)
class BegunLook:
    """An open run. `seen`: its record, None for a bad one, and its tree, where the record asks for it.

    `tree`: as `unchanged.digest_of`; `identity`: as `identity.of`; `found`: the rows at its path; `told`: what the
    record says.
    """

    path: RunPath
    opened: opening.OpenRun
    identity: str
    found: AtPath
    told: Told | None
    seen: tuple[Records, run_tree.Scan | None] | None
    tree: str

    @property
    def people(self) -> tuple[str, ...] | None:
        """Whom the record names; None if that was not read."""
        return self.told.record.people if self.told else None

    def lies_there(self) -> bool:
        """Whether the opened directory still has the run's name."""
        try:
            named = linux.status(self.opened.parent, os.fsencode(self.path.leaf))
        except FileNotFoundError:
            return False
        return named.ino == linux.status(self.opened.run).ino


def begin(at: Pass, path: RunPath, opened: opening.OpenRun, known: AtPath | None = None) -> BegunLook | None:
    """Begin the look at an open run; None, and counted, for what gets no row. `known`: the rows, if read already."""
    tree = unchanged.digest_of(at.root, opened, path)  # before anything is read
    record = _read_record(at.root, path, opened)
    if not path.is_usual and not _is_run(at.root, path, opened):
        at.result.unchanged += 1
        return None
    scanned = run_tree.scan(opened.run) if record is not None and record.asks_the_tree else None
    seen_identity = identity.of(linux.status(opened.run), record)
    found = at_path.read(at.root, str(path)) if known is None else known
    if _is_none(at, path, opened, found.staged, seen_identity):
        return None
    seen = None if record is None else (record, scanned)
    return BegunLook(path, opened, seen_identity, found, Told.of(record, scanned), seen, tree)


def _read_record(root: StagingRoot, path: RunPath, opened: opening.OpenRun) -> Records | None:
    # None for a bad record, which the quick look explains. The record of a moved run may name the former path.
    with contextlib.suppress(ingest.IngestError):
        return findings.read_records(opened, path)
    known = Run.objects.filter(root=root, run_path=str(path), gone_at=None).exclude(record_path="")
    moved = known.staged().first() or known.order_by("-cleared_at").first()  # cleared: it may have come back
    if moved is not None:
        with contextlib.suppress(ingest.IngestError):
            return findings.read_records(opened, *record_places(moved))
    return None


def _is_run(root: StagingRoot, path: RunPath, opened: opening.OpenRun) -> bool:
    known = Run.objects.filter(root=root, run_path=str(path), gone_at=None).exclude(state=State.CLEARED, problem="")
    return named_places.names_place(opened.run, path) or known.exists()


def _is_none(at: Pass, path: RunPath, opened: opening.OpenRun, staged: Run | None, seen: str) -> bool:
    # A shell, or a folder in the place of a run that could not be put back, gets no row. A row that an earlier version
    # made of a shell is marked.
    reason, detail = None, ""
    if staged is not None and (conflict := identity.standing_conflict(staged)) is not None:
        if not identity.same(staged.identity, seen):
            reason, detail = conflict.reason, conflict.detail
    elif (shell := found_shells.left_at(at.root, path, opened)) is not None:
        reason, detail = Reason.SHELL_LEFT, shell.detail
    if reason is None:
        return False
    at.result.problems.append((str(path), reason, detail))
    at.result.unchanged += 1
    doubts = F("doubts") + Case(When(problem=reason, then=0), default=1)
    marked = Run.objects.staged().filter(root=at.root, run_path=str(path))
    marked.update(problem=reason, looked_at=at.now, doubts=doubts)
    return True
