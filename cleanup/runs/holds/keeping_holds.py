"""The holds on a run and on other rows that may be this run, as after a rename or a copy."""

from django.db.models import Q, QuerySet

from cleanup.models import Hold, HoldQuerySet, HoldSource, Likeness, Run, RunQuerySet
from cleanup.rules.facts import Held
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State


def holds_of(run: Run) -> tuple[Held, ...]:
    """Return the unreleased holds on a run; the gate says which are over.

    Needs no query after `with_root`.
    """
    own = [_held(hold) for hold in _of_people(run)]
    return (*own, *(_held(hold, alike) for alike in alike_runs(run) for hold in _of_people(alike.other)))


def alike_runs(run: Run) -> list[Likeness]:
    """Return a run's likenesses that were not denied."""
    return [alike for alike in run.likenesses.all() if alike.denied_at is None] if run.pk else []


def holding(run: Run, holds: HoldQuerySet) -> HoldQuerySet:
    """Return which of the holds keep a run, straight from the rows."""
    others = Likeness.objects.standing().filter(run=run).order_by()
    return holds.filter(Q(run=run) | Q(run__in=others.values("other")), source=HoldSource.PERSON)


def kept_by_holds_of(run: int) -> RunQuerySet:
    """Return the runs that a hold on this key keeps."""
    others = Likeness.objects.standing().filter(other=run).order_by()
    return Run.objects.filter(Q(pk=run) | Q(pk__in=others.values("run")))


def elsewhere() -> QuerySet[Likeness]:
    """Return likenesses to rows that lie on a staging disk."""
    staged = Q(other__gone_at=None) & ~Q(other__state=State.CLEARED) & ~Q(other__problem=Reason.MISSING_DIRECTORY)
    return Likeness.objects.standing().filter(staged)


def is_there(run: Run) -> bool:
    """Return whether discovery last saw a run at its path."""
    return run.gone_at is None and run.state != State.CLEARED and run.problem != Reason.MISSING_DIRECTORY


def said(hold: Hold, run: Run) -> str:
    """Return a hold's owner and reason as the gate says them."""
    alike = None if hold.run_id == run.pk else Likeness.objects.standing().filter(run=run, other=hold.run_id).first()
    return _held(hold, alike).said


def _of_people(run: Run) -> list[Hold]:
    laid = [hold for hold in run.holds.all() if hold.until is not None and hold.released_at is None]
    if laid and not hasattr(laid[0], "sure_at"):  # read without its holds
        laid = list(run.holds.with_clock().filter(pk__in=[hold.pk for hold in laid]))
    return laid


def _held(hold: Hold, alike: Likeness | None = None) -> Held:
    assert hold.until is not None  # noqa: S101
    laid_on, because = (alike.other.run_path, alike.evidence) if alike else ("", "")
    return Held(
        owner=hold.owner,
        until=hold.until,
        reason=hold.reason,
        sure_at=getattr(hold, "sure_at", None),
        laid_on=laid_on,
        because=because,
    )
