"""The record of sweeps: what each pass saw and did, run by run, so that "why not last Tuesday?" has an answer.

Of most runs most passes say the same, so a row of `SweptRun` stands for as many passes in a row as do, by the first and
the last of them. Without that, an hourly sweep over a few thousand runs would write millions of rows a year.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from cleanup.models import Outcome, Run, StagingRoot, Sweep, SweepKind, SweptRun
from cleanup.policy.breakers import RECENT_SWEEPS

# So many runs are written at once.
_BATCH = 200
_LONGEST_DRY_RUN = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Said:
    """What one pass says of one run: the columns of a `SweptRun` that tell one answer from another."""

    action: str
    reason: str = ""
    detail: str = ""
    gates: list[dict[str, Any]]
    policy_version: int = 0
    files: int = 0
    bytes: int = 0


class Recorder:
    """Writes down one pass over one staging root, from its beginning to its end."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self._known = {} if sweep.previous_id is None else _rows_of(sweep)
        self._new: list[SweptRun] = []
        self._same: list[int] = []

    def note(self, run: Run, said: Said) -> None:
        """What this pass says of a run; written with the next `flush`, or once enough has come together."""
        known = self._known.get(run.pk)
        if known is not None and _said(known) == said:
            self._same.append(known.pk)
        else:
            sweep = self.sweep
            row = SweptRun(run=run, root=sweep.root, kind=sweep.kind, first=sweep, last=sweep, **vars(said))
            self._new.append(row)
        if len(self._new) + len(self._same) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what has been noted so far."""
        with transaction.atomic():
            SweptRun.objects.bulk_create(self._new)
            if self._same:
                # Two dry runs may go side by side: the later one has the last word.
                SweptRun.objects.filter(pk__in=self._same, last__lt=self.sweep).update(last=self.sweep)
        self._new, self._same = [], []

    def finish(self, outcome: Outcome, **counts: Any) -> None:  # noqa: ANN401
        """Write what is left, and how the pass ended."""
        self.flush()
        sweep, ended_at = self.sweep, timezone.now()
        fields = {
            "outcome": outcome,
            "ended_at": ended_at,
            "seconds": (ended_at - sweep.started_at) / timedelta(seconds=1),
            **counts,
        }
        Sweep.objects.filter(pk=sweep.pk).update(**fields)
        for name, value in fields.items():
            setattr(sweep, name, value)


def begin(
    root: StagingRoot, kind: SweepKind, *, now: datetime, actor: str, policy_version: int, clock: dict[str, Any]
) -> Recorder:
    """Begin the record of a pass, which the caller has claimed the root for unless it is a dry run.

    A pass of this root that still seems to run was killed, for the claim died with it; of a dry run, which claims
    nothing, a day tells.
    """
    running = Sweep.objects.filter(root=root, outcome=Outcome.RUNNING)
    if kind == SweepKind.DRY_RUN:
        running = running.filter(kind=kind, started_at__lt=timezone.now() - _LONGEST_DRY_RUN)
    else:
        running = running.exclude(kind=SweepKind.DRY_RUN)
    running.update(outcome=Outcome.INTERRUPTED, ended_at=timezone.now())
    sweep = Sweep.objects.create(
        root=root,
        kind=kind,
        previous=Sweep.objects.filter(root=root, kind=kind).order_by("-pk").first(),
        host=settings.EXLAB_HOST,
        actor=actor,
        now=now,
        started_at=timezone.now(),
        policy_version=policy_version,
        clock=clock,
    )
    return Recorder(sweep)


def latest(root: StagingRoot) -> Sweep | None:
    """The latest pass over a root that was no dry run."""
    return Sweep.objects.filter(root=root).exclude(kind=SweepKind.DRY_RUN).order_by("-pk").first()


def first_timed(root: StagingRoot) -> Sweep | None:
    """The first timed pass over a root."""
    return Sweep.objects.filter(root=root, kind=SweepKind.TIMED).order_by("pk").first()


def last_sound(root: StagingRoot) -> Sweep | None:
    """The latest timed pass over a root that came to its end with nothing abnormal about it but clears that failed."""
    return Sweep.objects.filter(root=root, kind=SweepKind.TIMED, clock__sound=True).order_by("-pk").first()


def recent_sizes(root: StagingRoot) -> list[tuple[int, int]]:
    """Runs and bytes of the latest passes over a root that cleared something."""
    sweeps = Sweep.objects.filter(root=root, cleared__gt=0).exclude(kind=SweepKind.DRY_RUN).order_by("-pk")
    return list(sweeps.values_list("cleared", "bytes")[:RECENT_SWEEPS])


def _rows_of(sweep: Sweep) -> dict[int, SweptRun]:
    """What the pass before this one said, by run."""
    rows = SweptRun.objects.filter(root=sweep.root, kind=sweep.kind, last=sweep.previous_id)
    return {row.run_id: row for row in rows}


def _said(row: SweptRun) -> Said:
    return Said(
        action=row.action,
        reason=row.reason,
        detail=row.detail,
        gates=row.gates,
        policy_version=row.policy_version,
        files=row.files,
        bytes=row.bytes,
    )
