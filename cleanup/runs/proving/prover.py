"""Proves runs ahead of a click, so that the click need not wait.

It decides nothing and changes neither side. Others who need the disk or the NAS come first. Its failures are counted
apart from those of clears.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from cleanup.lab.nas import proving_leases
from cleanup.lab.nas.proving_leases import NasLease
from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import Unreachable
from cleanup.models import Run, StagingRoot
from cleanup.rules.states import State
from cleanup.runs.proving import due_proofs, one_proof, proving_rows, resuming, waits
from cleanup.runs.proving.beats import ReadingBeat
from cleanup.runs.proving.due_proofs import RunToProve
from cleanup.runs.proving.one_proof import ProofTry
from cleanup.runs.proving.waits import DiskWatch, Stopped, Wait
from cleanup.storage.data_directory import kept_digests

logger = logging.getLogger(__name__)

# One call works no longer; a reading that it interrupts goes on in the next.
WORKS_FOR = timedelta(minutes=4)
# Kept between two tasks of one worker: a look at a disk compares with the last one.
_WATCHED: dict[int, DiskWatch] = {}


def prove_due(*, seconds: float = WORKS_FOR.total_seconds(), alive: Callable[[], None] = lambda: None) -> list[str]:
    """Prove this host's runs until none is due, for at most `seconds`; returns what was done, in words.

    A NAS root on which another process makes proofs is left out. `alive` is called now and then.
    """
    until = time.monotonic() + seconds
    tidy()
    done: list[str] = []
    for nas, wanted in due_proofs.to_prove(settings.EXLAB_HOST, timezone.now()).items():
        with proving_leases.taken(nas) as lease:
            if lease is not None:
                proving_rows.plan(lease, wanted, timezone.now())
                done += _NasWork(lease, until, alive).prove(wanted[: proving_rows.PLANNED])
    return done


def tidy() -> None:
    """Remove the digests of runs that are gone, cleared or proven."""
    kept = kept_digests.kept_runs(opening.data_dir())
    if not kept:
        return
    staged = Run.objects.here().filter(pk__in=kept, state=State.SYNC_VERIFIED)
    going_on = set(staged.exclude(proving__phase="proven").values_list("pk", flat=True))
    for key in kept:
        if key not in going_on:
            with one_proof.locked(key) as free:
                if free:
                    resuming.drop(key)


class _NasWork:
    """The proofs of one task on one NAS."""

    def __init__(self, lease: NasLease, until: float, alive: Callable[[], None]) -> None:
        self._lease = lease
        self._until = until
        self._alive = alive
        self._roots = waits.roots_on(lease.nas)
        self._disks: dict[int, DiskWatch] = {}
        self._resting: set[int] = set()  # staging roots on which nothing is read for the rest of the task

    def prove(self, wanted: Sequence[RunToProve]) -> list[str]:
        done = []
        for each in wanted:
            if each.root in self._resting:
                continue
            if time.monotonic() > self._until or not self._lease.renew():
                break
            run = Run.objects.with_root().filter(pk=each.run, state=State.SYNC_VERIFIED, gone_at=None).first()
            if run is None:
                continue
            tried = self._try(run, each)
            logger.info("proof ahead: %s", tried.said)
            done.append(tried.said)
            if tried.away is not None:
                self._lease.step_back(tried.away)
                proving_rows.put_off_all(self._lease, tried.away.reason, None)
                break
        return done

    def _try(self, run: Run, wanted: RunToProve) -> ProofTry:
        try:
            if wanted.root not in self._disks:
                self._disks[wanted.root] = _disk_of(run.root)
            roots = sorted({*self._roots, wanted.root})
            disk = self._disks[wanted.root]
            tried = one_proof.prove(run, wanted, ReadingBeat(run, self._lease, roots, disk, self._until, self._alive))
        except Stopped as stopped:
            self._rest(run, stopped.wait)
            return ProofTry(f"{run.run_path}: {stopped.wait}")
        except Unreachable as error:
            self._resting.add(wanted.root)
            proving_rows.put_off(run, error.finding, timezone.now())
            return ProofTry(f"{run.run_path}: {error.finding.reason}")
        if tried.away is None:
            self._lease.succeeded()
        return tried

    def _rest(self, run: Run, wait: Wait) -> None:
        now = timezone.now()
        proving_rows.interrupt(run, wait, now)
        if wait in (Wait.TAKEN_OVER, Wait.FRESH):
            return
        self._resting.add(run.root_id)
        if wait not in (Wait.TIME, Wait.LEASE):
            until = waits.opens_at(run.root, now) if wait is Wait.HOURS else None
            proving_rows.put_off_all(self._lease, wait, until, root=run.root_id)


def _disk_of(root: StagingRoot) -> DiskWatch:
    """The watch over a root's disk. Raises Stopped if there is a reason to wait, and Unreachable."""
    now = timezone.now()
    if not waits.is_open(root, now):
        raise Stopped(Wait.HOURS)
    if waits.is_written(root, now):
        raise Stopped(Wait.INSTRUMENT)
    if waits.is_stalled() and waits.stalled_percent(1.0) > waits.STALLED_PERCENT:
        raise Stopped(Wait.PRESSURE)
    with opening.open_root(root) as descriptor:
        device = os.fstat(descriptor).st_dev
    disk = _WATCHED.setdefault(device, DiskWatch(device))
    if disk.is_written_to():
        raise Stopped(Wait.INSTRUMENT)
    return disk
