"""Marking as gone: the operator says that a missing run need not be searched for. Nothing counts as freed."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import Unreachable
from cleanup.ledger import book, entries
from cleanup.models import LedgerKind, Orphan, Run, StagingRoot
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs.orphans import stray_fences

logger = logging.getLogger(__name__)


class NotGone(Exception):
    """A run is not marked as gone; `finding` says why, None where its directory is there."""

    def __init__(self, finding: Finding | None) -> None:
        said = finding.said if finding else "The run's directory is there."
        super().__init__(said)
        self.finding = finding


def mark_gone(run: Run, *, actor: str, reason: str, now: datetime) -> None:
    """Mark a staged run as gone, with the operator's reason.

    Raises NotGone unless the disk says now that run and fence are missing; ValueError for an empty reason. A directory
    that comes back is a new run under the same holds.
    """
    if not reason.strip():
        raise ValueError("a reason must be given")
    with opening.data_dir().lock(str(run.pk)) as free:
        if not free:
            raise NotGone(Finding(Reason.ALREADY_CLEARING))
        _refuse_unfit(run)
        _refuse_if_there(run)
        _write(run, actor=actor, reason=reason.strip(), now=now)
    logger.info("marked_gone %s by %s: %s", run.run_path, actor, reason.strip())


@dataclass(frozen=True)
class Marked:
    """One run of many; `refused` says why it is not marked."""

    run: Run
    refused: NotGone | None = None


def mark_all(runs: Iterable[Run], *, actor: str, reason: str, now: datetime, dry_run: bool = False) -> list[Marked]:
    """Mark each run as `mark_gone`; a dry run only asks. Raises ValueError for an empty reason."""
    marked = []
    for run in runs:
        try:
            if dry_run:
                _refuse_unfit(run)
                _refuse_if_there(run)
            else:
                mark_gone(run, actor=actor, reason=reason, now=now)
        except NotGone as error:
            marked.append(Marked(run, error))
        else:
            marked.append(Marked(run))
    return marked


def missing_runs(root: StagingRoot, *, equipment: str = "", project: str = "") -> list[Run]:
    """Return a root's staged runs that discovery did not find, of one instrument or project if given."""
    runs = Run.objects.staged().with_root().filter(root=root, problem=Reason.MISSING_DIRECTORY)
    wanted = {"equipment": equipment, "project": project}
    return list(runs.filter(**{name: value for name, value in wanted.items() if value}).order_by("run_path"))


def _refuse_unfit(run: Run) -> None:
    run.refresh_from_db(fields=["state", "gone_at", "identity"])
    if run.state == State.CLEARED:
        raise NotGone(Finding(Reason.ALREADY_CLEARED))
    if run.gone_at is not None:
        raise NotGone(Finding(Reason.MISSING_DIRECTORY, f"It was marked as gone on {run.gone_at:%Y-%m-%d}."))
    if run.active_attempt:
        raise NotGone(Finding(Reason.ALREADY_CLEARING))


def _refuse_if_there(run: Run) -> None:
    # Only "no such file" means gone: an unreadable path may hold the run.
    try:
        with opening.open_root(run.root) as root:
            try:
                with opening.open_run(root, run.run_path):
                    raise NotGone(None)
            except Unreachable as error:
                if error.finding.reason is not Reason.MISSING_DIRECTORY:
                    raise
            fence = stray_fences.fence_of(run, root)
    except Unreachable as error:
        raise NotGone(error.finding) from None
    if fence is not None:
        raise NotGone(Finding(Reason.STRAY_FENCE, f"It lies beside its path as {fence}."))


def _write(run: Run, *, actor: str, reason: str, now: datetime) -> None:
    with book.writing():
        mine = Run.objects.select_for_update(no_key=True).staged().filter(pk=run.pk, identity=run.identity)
        if not mine or run.active_attempt or not Run.objects.filter(pk=run.pk).update(gone_at=now):
            raise NotGone(Finding(Reason.ALREADY_CLEARING))
        Run.objects.filter(pk=run.pk).doubt()
        Orphan.objects.filter(run=run, gone_at=None).update(gone_at=now)
        entries.write_entry(
            run,
            kind=LedgerKind.MARKED_GONE,
            actor=actor,
            now=now,
            reason=Reason.MISSING_DIRECTORY,
            detail=f"marked as gone: {run.identity}; {reason}",
        )
    run.gone_at = now
