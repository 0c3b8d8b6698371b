"""Why a run was not cleared last Tuesday: answers from the record of sweeps."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from cleanup.models import Outcome, Phase, Run, Sweep, SweepKind, SweptRun
from cleanup.rules.states import State
from cleanup.sweeps import record

# Instants outside are answered as if these had been asked for; nothing was ever swept before the one.
_EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)
_LATEST = datetime(9990, 1, 1, tzinfo=UTC)
# What a run's record keeps of an instant: the second in which it lies.
_CUT = timedelta(seconds=1)


@dataclass(frozen=True)
class SweepAnswer:
    """What the latest sweep of one kind said of a run by some instant.

    `sweep` is None where no such sweep had begun by then, `said` where that sweep said nothing of this run.
    """

    kind: SweepKind
    sweep: Sweep | None = None
    said: SweptRun | None = None


@dataclass(frozen=True, kw_only=True)
class Gone:
    """What was on staging of a run that was cleared, and how it went: files and logical bytes, there and freed.

    `by` is a person or a program; the counts are None where another program cleared it.
    """

    at: datetime | None
    by: str
    files: int | None
    bytes: int | None
    freed_files: int | None = None
    freed_bytes: int | None = None
    attempt: str = ""


def gone(run: Run) -> Gone | None:
    """How a cleared run went; None for one that is not cleared."""
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
    """For each kind of sweep the latest that had begun on the run's staging root by an instant, and what it said.

    `at` is compared with the clock: a dry run may decide by another `now`.
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
    """Everything that passes had said of a run by an instant, the latest first."""
    rows = SweptRun.objects.filter(run=run, first__started_at__lte=until)
    return rows.select_related("first", "last").order_by("-last_id", "-pk")


def said_by(sweep: Sweep) -> "QuerySet[SweptRun]":
    """What one sweep said of all the runs that it came to."""
    return record.rows_saying(sweep).select_related("run")


def silence(run: Run, sweep: Sweep) -> str:
    """Why a sweep said nothing of a run, in a sentence."""
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
    """Whether a run had gone when a sweep began. `cleared_at` is cut to whole seconds; the attempt knows it better."""
    if run.cleared_at is None or run.cleared_at > sweep.started_at:
        return False
    gone = run.attempts.clears().filter(phase__in=(Phase.COMMITTED, Phase.DONE))
    return run.cleared_at + _CUT <= sweep.started_at or not gone.filter(created_at__gte=sweep.started_at).exists()


def moment_of(day: str, clock: str = "") -> datetime | None:
    """The instant that a person means by a date or an instant; None if it is none.

    Without a zone it is the pages' own. A date alone means its end, when all sweeps of that day had begun.
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
