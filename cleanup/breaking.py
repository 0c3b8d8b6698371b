"""Breakers of the sweep: opened by what is abnormal, closed by a person who says "go on"."""

import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from cleanup.models import StagingRoot, Sweep, SweepBreaker, SweepKind
from cleanup.policy.breakers import Clock, Kind, Sight, allows
from cleanup.policy.gates import Finding
from cleanup.policy.reasons import Reason

# A go-on that no sweep has made use of for so long says nothing about today.
GO_ON_LASTS = timedelta(days=2)


def read_clock(now: datetime) -> Clock:
    """This host's clock, beside the time since it was started, which nobody can set."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot_id = file.read().strip()
    except OSError:
        boot_id = ""
    return Clock(wall=now, boot_id=boot_id, boot_seconds=time.clock_gettime(time.CLOCK_BOOTTIME))


def clock_as_json(clock: Clock) -> dict[str, str | float | None]:
    """A look at the clock as a sweep's row keeps it."""
    return {"wall": clock.wall.isoformat(), "boot_id": clock.boot_id, "boot_seconds": clock.boot_seconds}


def clock_of(sweep: Sweep) -> Clock | None:
    """The look at the clock that a sweep took; None if it took none."""
    if not sweep.clock:
        return None
    return Clock(
        wall=datetime.fromisoformat(sweep.clock["wall"]),
        boot_id=sweep.clock["boot_id"],
        boot_seconds=sweep.clock["boot_seconds"],
    )


def standing(root: StagingRoot) -> SweepBreaker | None:
    """The breaker that stops the sweeps of a root; None if they may go."""
    return SweepBreaker.objects.filter(root=root, closed_at=None).first()


def stops(breaker: SweepBreaker, kind: SweepKind) -> bool:
    """Whether an open breaker stops a sweep of this kind: one that a person typed stops for failures alone."""
    return kind != SweepKind.TYPED or any(sight.kind is Kind.FAILURES for sight in sights_of(breaker))


def finding_of(breaker: SweepBreaker) -> Finding:
    """An open breaker as the gate of every run on its root says it."""
    return Finding(Reason.BREAKER_OPEN, breaker.detail)


def open_breaker(sweep: Sweep, sights: Sequence[Sight], *, now: datetime) -> SweepBreaker:
    """Open the breaker of a sweep's root, with everything that was seen; to one that is open already it is added."""
    saw = {"sights": [sight.as_json() for sight in sights]}
    detail = " ".join(sight.detail for sight in sights)
    fields = {"sweep": sweep, "kind": sights[0].kind, "detail": detail, "saw": saw, "opened_at": now}
    try:
        with transaction.atomic():
            return SweepBreaker.objects.create(root=sweep.root, **fields)
    except IntegrityError:
        return _add(SweepBreaker.objects.get(root=sweep.root, closed_at=None), sights)


def _add(breaker: SweepBreaker, sights: Sequence[Sight]) -> SweepBreaker:
    """Let an open breaker say what else was seen, so that a go-on is said to all of it."""
    known = {sight.kind for sight in sights_of(breaker)}
    if new := [sight for sight in sights if sight.kind not in known]:
        breaker.saw = {"sights": [*breaker.saw.get("sights", []), *(sight.as_json() for sight in new)]}
        breaker.detail = " ".join([breaker.detail, *(sight.detail for sight in new)])
        breaker.save(update_fields=["saw", "detail"])
    return breaker


def go_on(breaker: SweepBreaker, *, actor: str, note: str, now: datetime) -> bool:
    """A person's "go on": the next sweep may do what this breaker has stopped, and not much more.

    False if somebody had said so already.
    """
    unclosed = SweepBreaker.objects.filter(pk=breaker.pk, closed_at=None)
    return bool(unclosed.update(closed_at=now, closed_by=actor, note=note))


def not_allowed(root: StagingRoot, sights: Iterable[Sight], *, now: datetime) -> list[Sight]:
    """Those of the sights that no go-on covers."""
    approved = [sight for breaker in _gone_on(root, now) for sight in sights_of(breaker)]
    return [sight for sight in sights if not allows(approved, sight)]


def use_up(sweep: Sweep, *, now: datetime) -> None:
    """A sweep has made use of what people let go on: the next one asks again."""
    _gone_on(sweep.root, now).update(used=sweep)


def sights_of(breaker: SweepBreaker) -> list[Sight]:
    """What a breaker saw, as values."""
    return [Sight(**{**sight, "kind": Kind(sight["kind"])}) for sight in breaker.saw.get("sights", [])]


def _gone_on(root: StagingRoot, now: datetime) -> QuerySet[SweepBreaker]:
    return SweepBreaker.objects.filter(root=root, used=None, closed_at__gt=now - GO_ON_LASTS)
