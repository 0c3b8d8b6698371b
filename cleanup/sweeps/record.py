"""The record of sweeps: what each sweep saw and did with each run.

One row of `SweptRun` stands for all sweeps in a row that say the same of a run (`first` to `last`): an hourly sweep
would else write millions of rows a year.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from cleanup.clears.run_action import FREEING, Action, became
from cleanup.lab.people import os_account
from cleanup.models import ClearAttempt, Outcome, Requester, Run, StagingRoot, Sweep, SweepKind, SweptRun, Tally
from cleanup.models.aggregates import bytes_sum
from cleanup.rules.anomalies import RECENT_SWEEPS
from cleanup.rules.reasons import Reason

# Runs written at once.
_BATCH = 200
_LONGEST_DRY_RUN = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Said:
    """The columns of a `SweptRun` that make two answers differ; `policy_version` does not, `decided_by` does."""

    action: str
    reason: str = ""
    detail: str = ""
    gates: list[dict[str, Any]]
    policy_version: int = field(default=0, compare=False)
    decided_by: dict[str, Any] = field(default_factory=dict)
    files: int = 0
    bytes: int = 0


class Recorder:
    """Writes the record of one sweep of one staging root."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self._known = {} if sweep.previous_id is None else _rows_of(sweep)
        self._new: list[SweptRun] = []
        self._same: list[int] = []

    def note(self, run: Run, said: Said) -> None:
        """Note what this sweep says of a run; the next `flush` writes it."""
        known = self._known.get(run.pk)
        if known is not None and _said(known) == said and not _of_another_rehearsal(known, said):
            self._same.append(known.pk)
        else:
            sweep = self.sweep
            row = SweptRun(run=run, root=sweep.root, kind=sweep.kind, first=sweep, last=sweep, **vars(said))
            self._new.append(row)
        if len(self._new) + len(self._same) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what has been noted so far."""
        if not (self._new or self._same):
            return
        with transaction.atomic():
            SweptRun.objects.bulk_create(self._new)
            if self._same:
                # Two dry runs may go side by side: the row keeps the later one.
                SweptRun.objects.filter(pk__in=self._same, last__lt=self.sweep).update(last=self.sweep)
        self._new, self._same = [], []

    def finish(self, outcome: Outcome, **more: Any) -> None:  # noqa: ANN401
        self.flush()
        sweep, ended_at = self.sweep, timezone.now()
        fields = {
            "outcome": outcome,
            "ended_at": ended_at,
            "seconds": (ended_at - sweep.started_at) / timedelta(seconds=1),
            **tally(sweep).columns(),
            **more,
        }
        Sweep.objects.filter(pk=sweep.pk).update(**fields)
        for name, value in fields.items():
            setattr(sweep, name, value)


def begin(
    root: StagingRoot, kind: SweepKind, *, now: datetime, actor: str, policy_version: int, clock: dict[str, Any]
) -> Recorder:
    """Begins the record of a sweep and returns its recorder.

    Except for a dry run, the caller has claimed the root: a sweep that still seems to run was killed and is marked as
    interrupted. A dry run counts as killed after a day.
    """
    running = Sweep.objects.filter(root=root, outcome=Outcome.RUNNING)
    if kind == SweepKind.DRY_RUN:
        running = running.filter(kind=kind, started_at__lt=timezone.now() - _LONGEST_DRY_RUN)
    else:
        running = running.exclude(kind=SweepKind.DRY_RUN)
    for killed in running:
        interrupt(killed)
    sweep = Sweep.objects.create(
        root=root,
        kind=kind,
        previous=Sweep.objects.filter(root=root, kind=kind).order_by("-pk").first(),
        host=settings.EXLAB_HOST,
        actor=actor,
        typed_by=os_account.current(),
        now=now,
        started_at=timezone.now(),
        policy_version=policy_version,
        clock=clock,
    )
    return Recorder(sweep)


def interrupt(sweep: Sweep, *, reason: str = "", detail: str = "") -> None:
    """Records that a sweep did not end, and what it did but could not write itself.

    It reads the schedule's attempts on the host until the next sweep began: two sweeps of a root never go side by side.
    """
    done = {} if sweep.kind == SweepKind.DRY_RUN else _done_by(sweep)
    with transaction.atomic():
        known = set(rows_saying(sweep).values_list("run", flat=True))
        SweptRun.objects.bulk_create(
            SweptRun(
                run_id=run,
                root_id=sweep.root_id,
                kind=sweep.kind,
                first=sweep,
                last=sweep,
                action=action,
                reason=attempt.reason or attempt.cause,
                detail=attempt.detail,
                gates=attempt.decision,
                policy_version=sweep.policy_version,
                decided_by=attempt.decided_by,
                files=attempt.freed_files,
                bytes=attempt.freed_bytes,
            )
            for run, (attempt, action) in done.items()
            if run not in known
        )
        Sweep.objects.filter(pk=sweep.pk, outcome=Outcome.RUNNING).update(
            outcome=Outcome.INTERRUPTED,
            ended_at=timezone.now(),
            reason=reason,
            detail=detail,
            **tally(sweep).columns(),
        )


def tally(sweep: Sweep) -> Tally:
    """Returns the counts of a sweep's rows so far, running, ended or interrupted."""
    rehearsed = Q(action=Action.WOULD_CLEAR, reason=Reason.REHEARSAL)
    freeing = Q(action__in=FREEING) & ~rehearsed
    actions = {"cleared": Action.CLEARED, "partial": Action.PARTIAL, "would_clear": Action.WOULD_CLEAR}
    actions |= {"skipped": Action.SKIPPED, "failed": Action.FAILED}
    sums = rows_saying(sweep).aggregate(
        **{name: Count("pk", filter=Q(action=action)) for name, action in actions.items()},
        freed_files=bytes_sum("files", default=0, filter=freeing),
        freed_bytes=bytes_sum("bytes", default=0, filter=freeing),
        rehearsed_runs=Count("pk", filter=rehearsed),
        rehearsed_bytes=bytes_sum("bytes", default=0, filter=rehearsed),
    )
    return Tally(**{name.removeprefix("freed_"): int(value) for name, value in sums.items()})


def latest(root: StagingRoot) -> Sweep | None:
    """Returns the latest sweep of a root that was not a dry run."""
    return Sweep.objects.filter(root=root).exclude(kind=SweepKind.DRY_RUN).order_by("-pk").first()


def is_going_on(before: Sweep | None, *, unasked: bool = False) -> bool:
    """Returns whether the sweep left free space still to be won; `unasked`: without limits in rehearsal."""
    said = before.pressure if before else {}
    left = said.get("meanwhile", said.get("left", {})) if unasked else said.get("left", {})
    return bool(left.get("free_wanted"))


def first_timed(root: StagingRoot) -> Sweep | None:
    """Returns the first timed sweep of a root."""
    return Sweep.objects.filter(root=root, kind=SweepKind.TIMED).order_by("pk").first()


def last_sound(root: StagingRoot) -> Sweep | None:
    """Returns the latest timed sweep that ended with no sight but failed clears."""
    return Sweep.objects.filter(root=root, kind=SweepKind.TIMED, clock__sound=True).order_by("-pk").first()


def recent_sizes(root: StagingRoot) -> list[tuple[int, int]]:
    """Returns (runs, bytes) of the latest sweeps of a root that cleared a run."""
    sweeps = Sweep.objects.filter(root=root, cleared__gt=0).exclude(kind=SweepKind.DRY_RUN).order_by("-pk")
    return list(sweeps.values_list("cleared", "bytes")[:RECENT_SWEEPS])


def _done_by(sweep: Sweep) -> dict[int, tuple[ClearAttempt, Action]]:
    attempts = ClearAttempt.objects.filter(
        run__root=sweep.root_id, requester=Requester.SCHEDULE, host=sweep.host, created_at__gte=sweep.started_at
    )
    following = Sweep.objects.filter(root=sweep.root_id, pk__gt=sweep.pk).exclude(kind=SweepKind.DRY_RUN)
    if (after := following.order_by("pk").first()) is not None:
        attempts = attempts.filter(created_at__lt=after.started_at)
    done = {}
    for attempt in attempts.order_by("created_at"):
        if (action := became(attempt)) is not None:
            done[attempt.run_id] = attempt, action
    return done


def rows_saying(sweep: Sweep) -> QuerySet[SweptRun]:
    """Returns what a sweep said of all its runs, new or the same as the sweep before."""
    return SweptRun.objects.filter(root=sweep.root_id, kind=sweep.kind, first__lte=sweep.pk, last__gte=sweep.pk)


def _rows_of(sweep: Sweep) -> dict[int, SweptRun]:
    rows = SweptRun.objects.filter(root=sweep.root, kind=sweep.kind, last=sweep.previous_id)
    return {row.run_id: row for row in rows}


def _of_another_rehearsal(known: SweptRun, said: Said) -> bool:
    """Only the version number tells by which policies a run was rehearsed."""
    return said.reason == Reason.REHEARSAL and said.policy_version != known.policy_version


def _said(row: SweptRun) -> Said:
    return Said(
        action=row.action,
        reason=row.reason,
        detail=row.detail,
        gates=row.gates,
        policy_version=row.policy_version,
        decided_by=row.decided_by,
        files=row.files,
        bytes=row.bytes,
    )
