"""The rows of proofs that are made ahead: whose turn comes when, what was asked for, how each try ended."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import OperationalError
from django.db.models import Q, QuerySet

from cleanup.lab.nas.proving_leases import NasLease, pause_after
from cleanup.models import ProvingRun, Run
from cleanup.rules.facts import Finding
from cleanup.runs.proving.due_proofs import SOON, RunToProve
from cleanup.runs.proving.waits import Wait

Phase = ProvingRun.Phase

# So many get an instant at which they will be proven.
PLANNED = 200
# A request is written down at most so often.
ASKED_AGAIN_AFTER = timedelta(hours=1)
# Until a NAS has been read once.
_BYTES_PER_SECOND = 100_000_000
# An expected instant that moves by less is left as it is.
_ABOUT = timedelta(minutes=10)
_AT_ONCE = 500
_MOST_DETAIL = 400


def ask(runs: Iterable[int], now: datetime, *, known: Mapping[int, ProvingRun]) -> None:
    """Note that runs, given by key, were looked at by a person who may clear them, or named by a dry run.

    `known`: their rows. It is written at most once an hour. A request that a busy database refuses is forgotten.
    """
    rows = [
        ProvingRun(run_id=key, phase=Phase.ASKED, phase_at=now, asked_at=now)
        for key in runs
        if not _was_just_asked(known.get(key), now)
    ]
    if rows:
        with contextlib.suppress(OperationalError):
            ProvingRun.objects.bulk_create(
                rows, batch_size=_AT_ONCE, update_conflicts=True, unique_fields=["run"], update_fields=["asked_at"]
            )


def _was_just_asked(row: ProvingRun | None, now: datetime) -> bool:
    return row is not None and row.asked_at is not None and row.asked_at > now - ASKED_AGAIN_AFTER


def plan(lease: NasLease, wanted: Sequence[RunToProve], now: datetime) -> None:
    """Write down whose turn comes when on a NAS; its lease is held, so nothing else is being read there."""
    speed = lease.bytes_per_second or _BYTES_PER_SECOND
    first = wanted[:PLANNED]
    known = {row.pk: row for row in ProvingRun.objects.filter(pk__in=[each.run for each in first])}
    rows, before = [], 0
    for each in first:
        expected = now + timedelta(seconds=(before + 2 * each.bytes) / speed)
        before += 2 * each.bytes
        if not _stands(known.get(each.run), lease.nas, expected):
            rows.append(_waiting(each, expected, now))
    fields = ["host", "nas", "phase", "phase_at", "expected_at", "reason", "detail"]
    ProvingRun.objects.bulk_create(
        rows, batch_size=_AT_ONCE, update_conflicts=True, unique_fields=["run"], update_fields=fields
    )
    _forget_others(lease.nas, {each.run for each in first}, now)


def put_off_all(lease: NasLease, reason: str, until: datetime | None, *, root: int | None = None) -> None:
    """Say of the runs that wait, of a staging root by its key or of all, why none is read; `until`: if it is known."""
    waiting = ProvingRun.objects.filter(nas=lease.nas, host=settings.EXLAB_HOST, phase=Phase.WAITING)
    of_root = waiting if root is None else waiting.filter(run__root=root)
    of_root.update(reason=reason, expected_at=until)


def begin(run: Run, planned: int, now: datetime) -> None:
    _write(run, now, phase=Phase.READING, planned_bytes=planned, read_bytes=0, progress_at=now, reason="", detail="")
    _show(run)


def began_at(run: Run, first: datetime, read: int) -> None:
    """Note the instant of the first byte, and the bytes that an interrupted reading has left."""
    ProvingRun.objects.filter(pk=run.pk).update(first_byte_at=first, read_bytes=read)


def interrupt(run: Run, wait: str, now: datetime) -> None:
    """Its digests are kept, and its turn comes again."""
    _write(run, now, phase=Phase.WAITING, reason=wait, detail="")


def proven(run: Run, at: datetime, seen: str, now: datetime) -> None:
    _write(run, now, phase=Phase.PROVEN, proven_at=at, seen=seen, reason="", detail="", tries=0, again_after=None)
    _show(run)


def differs(run: Run, finding: Finding, again_after: datetime, now: datetime) -> None:
    _write(run, now, phase=Phase.DIFFERS, **_why(finding), again_after=again_after)


def put_off(run: Run, why: Finding | Wait, now: datetime, *, until: datetime | None = None) -> None:
    """Leave one run alone, for longer after each vain try."""
    tries = (ProvingRun.objects.filter(pk=run.pk).values_list("tries", flat=True).first() or 0) + 1
    again = until or now + pause_after(tries)
    _write(run, now, phase=Phase.PUT_OFF, **_why(why), tries=min(tries, 1000), again_after=again)


def _show(run: Run) -> None:
    """Lists ask only for rows that have changed."""
    Run.objects.filter(pk=run.pk).doubt()


def _why(finding: Finding | Wait) -> dict[str, str]:
    if isinstance(finding, Wait):
        return {"reason": finding, "detail": ""}
    return {"reason": str(finding.reason), "detail": finding.detail[:_MOST_DETAIL]}


def _write(run: Run, now: datetime, **fields: object) -> None:
    ProvingRun.objects.filter(pk=run.pk).update(phase_at=now, **fields)


def _stands(row: ProvingRun | None, nas: str, expected: datetime) -> bool:
    if row is None or (row.phase, row.nas, row.host, row.reason) != (Phase.WAITING, nas, settings.EXLAB_HOST, ""):
        return False
    return row.expected_at is not None and abs(row.expected_at - expected) < _ABOUT


def _waiting(each: RunToProve, expected: datetime, now: datetime) -> ProvingRun:
    return ProvingRun(
        run_id=each.run,
        host=settings.EXLAB_HOST,
        nas=each.nas,
        phase=Phase.WAITING,
        phase_at=now,
        expected_at=expected,
    )


def _forget_others(nas: str, planned: set[int], now: datetime) -> None:
    """A run that is not wanted any more does not wait; what was asked for within a day is remembered."""
    waiting = Q(phase__in=[Phase.WAITING, Phase.READING], nas=nas, host=settings.EXLAB_HOST)
    _forget(ProvingRun.objects.filter(waiting).exclude(pk__in=planned), now)


def forget_all(now: datetime) -> None:
    """No run of this host waits any more, for no proof is made ahead. What is proven stays."""
    unproven = [Phase.WAITING, Phase.READING, Phase.PUT_OFF]
    _forget(ProvingRun.objects.filter(host=settings.EXLAB_HOST, phase__in=unproven), now)


def _forget(rows: "QuerySet[ProvingRun]", now: datetime) -> None:
    rows.filter(asked_at__gt=now - SOON).update(phase=Phase.ASKED, expected_at=None, reason="", detail="")
    rows.filter(Q(asked_at=None) | Q(asked_at__lte=now - SOON)).delete()
