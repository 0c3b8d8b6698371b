"""Holds of many runs: laid and released together, each run by itself."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from cleanup.models import Hold, HoldSource, Run
from cleanup.runs.holds import holds, keeping_holds
from cleanup.runs.holds.holds import HoldRefused


@dataclass(frozen=True)
class DoneWithRun:
    """What was done with one run, in words; `is_done`: what was asked for."""

    run: Run
    is_done: bool
    said: str


def hold_all(runs: Iterable[Run], *, owner: str, reason: str, until: datetime, now: datetime) -> list[DoneWithRun]:
    """Hold each run until an instant, in the order given; a refusal stops no other."""
    done = []
    for run in runs:
        try:
            holds.hold(run, owner=owner, reason=reason, until=until, now=now)
        except HoldRefused as refused:
            done.append(DoneWithRun(run, False, str(refused)))
        else:
            done.append(DoneWithRun(run, True, ""))
    return done


def release_all(
    runs: Iterable[Run], *, actor: str, now: datetime, only_own: bool, may: Callable[[Run], bool]
) -> list[DoneWithRun]:
    """Release the holds of people on each run, or only those of the actor; says what holds it still.

    Also those of rows that may be a run and have nothing at their path, if the actor `may` hold them.
    """
    return [_release(run, actor, now, only_own=only_own, may=may) for run in runs]


def _release(run: Run, actor: str, now: datetime, *, only_own: bool, may: Callable[[Run], bool]) -> DoneWithRun:
    laid = keeping_holds.holding(run, Hold.objects.in_force(now)).select_related("run__root").order_by("pk")
    mine = [hold for hold in laid if hold.run_id == run.pk or (not keeping_holds.is_there(hold.run) and may(hold.run))]
    asked = [hold for hold in mine if hold.owner == actor] if only_own else mine
    released = [hold for hold in asked if holds.release(hold, actor=actor, now=now)]
    still = [*holds.still_held(run, now=now), *_by_file(run)]
    kept = f"still held {'; '.join(still)}" if still else ""
    if not released:
        return DoneWithRun(run, False, kept or "not held")
    owners = ", ".join(dict.fromkeys(hold.owner for hold in released))
    return DoneWithRun(run, True, f"the hold of {owners}" + (f"; {kept}" if kept else ""))


def _by_file(run: Run) -> list[str]:
    # As discovery saw it last; only a worker may look at the disk.
    laid = Hold.objects.filter(run=run, source=HoldSource.FILE, released_at=None)
    return [f"by the file .exlab-hold of {owner}" for owner in laid.values_list("owner", flat=True)]
