"""Answers from the record of sweeps why a run was not cleared at some time."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from cleanup.models import Outcome, Phase, Run, Sweep, SweepKind, SweptRun
from cleanup.rules.states import State
from cleanup.sweeps import record

# Instants outside these bounds are moved to them.
_EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)
_LATEST = datetime(9990, 1, 1, tzinfo=UTC)
# A run's record keeps instants in whole seconds.
_CUT = timedelta(seconds=1)


@dataclass(frozen=True)
class SweepAnswer:
    """What the latest sweep of one kind before an instant said of a run.

    `sweep` is None if none had begun by then, `said` if it said nothing of this run.
    """

    kind: SweepKind
    sweep: Sweep | None = None
    said: SweptRun | None = None


@dataclass(frozen=True, kw_only=True)
class Gone:
    """How a cleared run went: files and logical bytes, on staging and freed.

    The freed counts are None if another program cleared it.
    """

    at: datetime | None
    by: str
    files: int | None
    bytes: int | None
    freed_files: int | None = None
    freed_bytes: int | None = None
    attempt: str = ""


def gone(run: Run) -> Gone | None:
    """Returns how a cleared run went; None if it is not cleared."""
    if run.state != State.CLEARED:
        return None
    done = run.attempts.clears().filter(phase__in=(Phase.COMMITTED, Phase.DONE)).order_by("-created_at").first()
    if done is None:
        return Gone(at=run.cleared_at, by=run.cleared_by or "another program", files=run.files, bytes=run.bytes)
    return Gone(
        at=run.cleared_at,
        by=done.actor or done.requester,
        files=done.planned_files,
        bytes=done.planned_bytes,
        freed_files=done.freed_files,
        freed_bytes=done.freed_bytes,
        attempt=str(done.pk),
    )


def answer(run: Run, at: datetime) -> list[SweepAnswer]:
    """Returns, for each kind, the latest sweep of the run's root begun by an instant, and what it said.

    `at` is compared with the real start: a dry run may decide by another `now`.
    """
    latest = Q()
    for kind in SweepKind:
        of_kind = Sweep.objects.filter(root=run.root_id, kind=kind, started_at__lte=at).order_by("-pk")
        latest |= Q(pk=Subquery(of_kind.values("pk")[:1]))
    said = SweptRun.objects.filter(run=run, kind=OuterRef("kind"), first__lte=OuterRef("pk"), last__gte=OuterRef("pk"))
    sweeps = Sweep.objects.filter(latest).annotate(said=Subquery(said.order_by("-pk").values("pk")[:1]))
    by_kind = {sweep.kind: (sweep, sweep.said) for sweep in sweeps}
    rows = SweptRun.objects.select_related("first", "last").in_bulk([pk for _, pk in by_kind.values() if pk])
    answers = []
    for kind in SweepKind:
        sweep, pk = by_kind.get(kind, (None, None))
        answers.append(SweepAnswer(kind, sweep, rows.get(pk) if pk else None))
    return answers


def all_said(run: Run, until: datetime) -> "QuerySet[SweptRun]":
    """Returns all that sweeps said of a run by an instant, the latest first."""
    rows = SweptRun.objects.filter(run=run, first__started_at__lte=until)
    return rows.select_related("first", "last").order_by("-last_id", "-pk")


def said_by(sweep: Sweep) -> "QuerySet[SweptRun]":
    """Returns what one sweep said of all its runs."""
    return record.rows_saying(sweep).select_related("run")


def silence(run: Run, sweep: Sweep) -> str:
    """Returns in a sentence why a sweep said nothing of a run."""
    if run.first_seen_at > sweep.started_at:
        return "The run was not known yet."
    if _cleared_before(run, sweep):
        return "The run had been cleared before."
    if run.gone_at and run.gone_at <= sweep.started_at:
        return "The run had been declared gone before."
    if sweep.outcome == Outcome.RUNNING:
        return "The pass has not come to this run, or not yet."
    if sweep.outcome == Outcome.INTERRUPTED:
        return "The pass was interrupted before it came to this run."
    return "The pass did not come to this run."


def _cleared_before(run: Run, sweep: Sweep) -> bool:
    """`cleared_at` has whole seconds only; the attempt is more exact."""
    if run.cleared_at is None or run.cleared_at > sweep.started_at:
        return False
    gone = run.attempts.clears().filter(phase__in=(Phase.COMMITTED, Phase.DONE))
    return run.cleared_at + _CUT <= sweep.started_at or not gone.filter(created_at__gte=sweep.started_at).exists()


def moment_of(day: str, clock: str = "") -> datetime | None:
    """Returns the instant of a typed date or instant; None if it is neither.

    Without a zone it is in the zone of the pages. A date alone means the end of that day.
    """
    day, clock = day.strip(), clock.strip()
    try:
        if len(day) <= len("2026-04-17"):
            that_day = date.fromisoformat(day)
            moment = datetime.combine(that_day, time.fromisoformat(clock) if clock else time.max)
        else:
            moment = datetime.fromisoformat(day)
    except ValueError:
        return None
    if moment.year < _EARLIEST.year or moment.year > _LATEST.year:
        return _EARLIEST if moment.year < _EARLIEST.year else _LATEST
    if moment.tzinfo is None:
        moment = timezone.make_aware(moment)
    return min(max(moment.astimezone(UTC), _EARLIEST), _LATEST)
