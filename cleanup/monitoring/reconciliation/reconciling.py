"""One pass over all: disks, rows, data directory, then the NAS. It removes and renames nothing.

It takes no lock that a clear takes. Its own lock keeps a second pass of this host out.
"""

import contextlib
import logging
import time
from collections.abc import Collection, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import Unreachable
from cleanup.models import Reconciliation, Run, StagingRoot
from cleanup.monitoring.reconciliation import data_directory, disk, findings, history, nas, recovering
from cleanup.monitoring.reconciliation.evidence import DoubtedClear
from cleanup.monitoring.reconciliation.findings import Mismatches, MismatchKind
from cleanup.monitoring.reconciliation.nas import Asked, Bounds
from cleanup.monitoring.reconciliation.tombstones import LostClear
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason

logger = logging.getLogger(__name__)

_LOCK = "reconciliation"
_OF_NAS = (MismatchKind.NAS_MISSING, MismatchKind.NAS_DIFFERS)
_PROGRESS_SECONDS = 1.0


@dataclass
class Reconciled:
    """The result of a pass. `recovered`: runs whose clears were brought back. `after`: where the next pass goes on."""

    host: str
    started_at: datetime
    found: Mismatches = field(default_factory=Mismatches)
    runs: int = 0
    asked: int = 0
    not_asked: int = 0
    waiting: int = 0
    problems: list[dict[str, str]] = field(default_factory=list)
    recovered: list[Run] = field(default_factory=list)
    after: dict[str, int] = field(default_factory=dict)

    def tell(self, root: StagingRoot | None, finding: Finding) -> None:
        told = {"root": root.name if root else "", "reason": str(finding.reason), "detail": finding.detail}
        if told not in self.problems:
            self.problems.append(told)


def reconcile(
    roots: Collection[StagingRoot],
    *,
    now: datetime,
    bounds: Bounds | None,
    apply: bool = False,
    shown: bool = True,
) -> Reconciled | None:
    """Compare the roots of this host; None where another pass is under way.

    `bounds` of what the NAS is asked; None: it is not asked. `apply` brings lost clears back. `shown`: the page shows
    the result; a pass over some roots only would hide the others.
    """
    with opening.data_dir().lock(_LOCK) as free:
        if not free:
            return None
        result = _begun(now, bounds)
        keep = _Keeper(result, shown=shown)
        keep.note("data directory")
        with _safely(result, None):
            _look_at_data_directory(result, now=now, apply=apply)
        keep.note("ledger and history")
        history.look(result.host, result.found)
        for root in roots:
            keep.note(f"staging root {root.name}")
            with _safely(result, root):
                _look_at_disk(root, result, now)
        if bounds is not None:
            _ask(roots, result, bounds, keep)
        keep.end()
        return result


def ask_further(roots: Collection[StagingRoot], bounds: Bounds) -> Reconciled | None:
    """Ask the NAS for the copies for which the last pass had no time, and add to its result.

    None where there is no such pass, or another one is under way.
    """
    with opening.data_dir().lock(_LOCK) as free:
        row = Reconciliation.objects.filter(host=settings.EXLAB_HOST).first() if free else None
        if row is None:
            return None
        result = Reconciled(
            row.host,
            row.started_at,
            findings.from_json(row.counts, row.found),
            runs=row.runs,
            asked=row.asked,
            not_asked=row.not_asked,
            problems=row.problems,
            after=row.after,
        )
        keep = _Keeper(result)
        _ask([root for root in roots if str(root.pk) in result.after], result, bounds, keep)
        keep.end()
        return result


def _begun(now: datetime, bounds: Bounds | None) -> Reconciled:
    # Where the last pass had no time for all copies, this one goes on after them, with what was found of those before.
    result = Reconciled(settings.EXLAB_HOST, now)
    before = last(result.host)
    if before is None or (bounds is not None and (bounds.is_endless or not before.after)):
        return result
    of_nas = [each for each in before.found if each.get("kind") in _OF_NAS]
    counts = {kind: count for kind, count in before.counts.items() if kind in _OF_NAS}
    result.found, result.after = findings.from_json(counts, of_nas), before.after
    if bounds is None:
        result.asked, result.not_asked, result.waiting = before.asked, before.not_asked, before.waiting
    return result


def last(host: str) -> Reconciliation | None:
    """The last result of a host."""
    return Reconciliation.objects.filter(host=host).first()


@contextlib.contextmanager
def _safely(result: Reconciled, root: StagingRoot | None) -> Iterator[None]:
    """One bad root must not hide the others; the log has the trace."""
    try:
        yield
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:
        logger.exception("comparing %s failed", root or "the data directory")
        result.tell(root, Finding(Reason.LOOK_FAILED, type(error).__name__))


def _look_at_data_directory(result: Reconciled, *, now: datetime, apply: bool) -> None:
    # Once more after each recovery: what is told is what is left.
    before, refused = deepcopy(result.found), dict[str, DoubtedClear]()
    while True:
        result.found = deepcopy(before)
        lost = data_directory.look(result.host, result.found, now=now, refused=refused)
        if not (apply and lost):
            return
        _recover(lost, result, refused)


def _recover(lost: Collection[LostClear], result: Reconciled, refused: dict[str, DoubtedClear]) -> None:
    """Bring each back in a transaction of its own, or add it to the refused."""
    for each in lost:
        try:
            run = recovering.recover(each, now=timezone.now())
        except DoubtedClear as doubt:
            logger.warning("%s: its clear is not recovered from %s: %s", each.path, each.evidence.name, doubt)
            refused[each.attempt] = doubt
            continue
        logger.info("%s: its clear was recovered from %s", run.run_path, each.evidence.name)
        result.recovered.append(run)


def _look_at_disk(root: StagingRoot, result: Reconciled, now: datetime) -> None:
    try:
        with opening.open_root(root) as descriptor:
            result.runs += disk.look(root, descriptor, result.found, now=now)
    except Unreachable as error:
        result.tell(root, error.finding)


def _ask(roots: Collection[StagingRoot], result: Reconciled, bounds: Bounds, keep: "_Keeper") -> None:
    result.waiting = 0
    for root in roots:
        base = replace(result)

        def count(asked: Asked, root: StagingRoot = root, base: Reconciled = base) -> None:
            result.asked, result.not_asked = base.asked + asked.asked, base.not_asked + asked.not_asked
            result.waiting = base.waiting + asked.waiting
            result.after[str(root.pk)] = asked.after
            keep.note(f"copies of {root.name} on the NAS", rarely=True)

        with _safely(result, root), opening.reader_for(root) as readers:
            after = int(result.after.get(str(root.pk), 0))
            asked = nas.look(root, readers, result.found, bounds, after=after, progress=count)
            count(asked)
            if not asked.waiting:
                del result.after[str(root.pk)]
            for problem in asked.problems:
                result.tell(root, problem)


class _Keeper:
    """Keeps the row of a pass while it works; also what it found so far, in case it is ended."""

    def __init__(self, result: Reconciled, *, shown: bool = True) -> None:
        self._result = result
        self._shown = shown
        self._last = 0.0
        self._told = -1

    def note(self, step: str, *, rarely: bool = False) -> None:
        if rarely and time.monotonic() - self._last < _PROGRESS_SECONDS:
            return
        self._last = time.monotonic()
        self._save(step=step[:80], ended_at=None)

    def end(self) -> None:
        self._save(step="", ended_at=timezone.now())

    def _save(self, **more: Any) -> None:  # noqa: ANN401
        if not self._shown:
            return
        result = self._result
        values: dict[str, Any] = {
            "started_at": result.started_at,
            "progress_at": timezone.now(),
            "runs": result.runs,
            "asked": result.asked,
            "not_asked": result.not_asked,
            "waiting": result.waiting,
            "after": result.after,
            "counts": dict(result.found.counts),
            "problems": result.problems,
            **more,
        }
        told = result.found.counts.total()
        if told != self._told or more["ended_at"]:  # it may be long, and this is written every second
            values["found"], self._told = [each.as_json() for each in result.found.in_order], told
        Reconciliation.objects.update_or_create(host=result.host, defaults=values)
