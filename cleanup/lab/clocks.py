"""This host's clock: judged at each look, stored, mended after it went back.

Only a sound look replaces the last sound one. A doubt ends by the clock itself, other clocks, or an operator.
"""

import logging
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from cleanup.lab import other_clocks, task_queues
from cleanup.lab.nas.nas_breaker import BREAKER_PAUSE
from cleanup.models import Hold, HostClock, NasBreaker, Outcome, Run, Sweep, SweepKind
from cleanup.rules import silent_twins
from cleanup.rules.anomalies import CLOCK_TOLERANCE, Clock
from cleanup.rules.clocks import ClockState, Judged, KnownClock, OtherClocks, confirmed, judge

logger = logging.getLogger(__name__)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def read_clock(now: datetime) -> Clock:
    """This host's clock; no user can set its `boot_seconds` (CLOCK_BOOTTIME)."""
    try:
        boot_id = _BOOT_ID.read_text().strip()
    except OSError:
        boot_id = ""
    return Clock(wall=now, boot_id=boot_id, boot_seconds=time.clock_gettime(time.CLOCK_BOOTTIME))


def as_json(clock: Clock) -> dict[str, Any]:
    """A clock as plain values, as rows store it."""
    return {"wall": clock.wall.isoformat(), "boot_id": clock.boot_id, "boot_seconds": clock.boot_seconds}


def from_json(kept: dict[str, Any]) -> Clock:
    """The inverse of `as_json`."""
    wall = datetime.fromisoformat(kept["wall"])
    return Clock(wall=wall, boot_id=kept["boot_id"], boot_seconds=kept["boot_seconds"])


def look(clock: Clock, *, ask: bool, write: bool = True) -> Judged:
    """Judge a look at this host's clock and store it.

    `ask`: ask other clocks if needed. That touches the NAS, so the watchdog does not. Without `ask` the first look of
    all is not stored.
    """
    known = _known(HostClock.objects.filter(host=settings.EXLAB_HOST).first())
    judged = judge(known, clock, asked=None)
    asked = other_clocks.ask() if ask and judged.verdict is not ClockState.SOUND else None
    if not write or (known is None and not ask):
        return judge(known, clock, asked=asked)
    with transaction.atomic():
        # Another process may have judged or confirmed the clock meanwhile.
        row = _locked(clock)
        judged = judge(_known(row), clock, asked=asked)
        _keep(row, clock, judged, asked)
    return judged


def reached(now: datetime) -> datetime:
    """An instant that has surely been reached, at least `now`.

    After the clock went back, new runs get this date: with the clock's date they would look old once it is right.
    """
    known = _known(HostClock.objects.filter(host=settings.EXLAB_HOST).first())
    sure = judge(known, read_clock(now), asked=None).known.sure
    return max(now, sure.wall) if sure else now


def confirm(clock: Clock, *, why: str) -> None:
    """Store a look as sound because an operator says so."""
    with transaction.atomic():
        said = Judged(verdict=ClockState.SOUND, known=confirmed(clock))
        _keep(_locked(clock), clock, said, None)
    logger.warning("the clock of %s is right, as a person says: %s", settings.EXLAB_HOST, why)


def tend(now: datetime) -> None:
    """Look without asking other clocks, and mend."""
    look(read_clock(now), ask=False)
    mend(now)


def mend(now: datetime) -> str:
    """Restart what a clock that was ahead has put off here.

    Returns what was done, in words; empty if nothing.
    """
    host = settings.EXLAB_HOST
    names = task_queues.mend(host, now)
    nas = NasBreaker.objects.filter(host=host, open_until__gt=now + BREAKER_PAUSE + CLOCK_TOLERANCE)
    twins = Run.objects.filter(root__host=host, nas_retry_at__gt=now + silent_twins.LONGEST_PAUSE + CLOCK_TOLERANCE)
    done = [f"{name} is started again" for name in names]
    if nas.update(open_until=None, since=None, failures=0):
        done.append("the NAS is asked again")
    if twins.exists():
        Run.objects.filter(pk__in=list(twins.values_list("pk", flat=True))).doubt()
        twins.update(nas_retry_at=now)
        done.append("slow copies are asked for again")
    if not done:
        return ""
    said = "; ".join(done)
    logger.warning("the clock of %s went back, and what waited for a future that was none is mended: %s", host, said)
    told = {"mended_at": now, "mended": said}
    HostClock.objects.update_or_create(host=host, defaults=told, create_defaults={**told, "seen_at": now})
    return said


def _locked(clock: Clock) -> HostClock:
    """This host's row; made here where it has none, for two processes may look for the first time."""
    rows = HostClock.objects.select_for_update().filter(host=settings.EXLAB_HOST)
    if (row := rows.first()) is not None:
        return row
    HostClock.objects.get_or_create(host=settings.EXLAB_HOST, defaults={"seen_at": clock.wall})
    return rows.get()


def _keep(row: HostClock, clock: Clock, judged: Judged, asked: OtherClocks | None) -> None:
    before, seen_at = row.sure_at, row.seen_at
    row.sure_at = None if judged.known.sure is None else judged.known.sure.wall
    row.seen_at, row.known = clock.wall, _known_as_json(judged.known)
    if asked is not None:
        names, none = [other.name for other in asked.others], list(asked.none)
        row.compared = {"at": clock.wall.isoformat(), "others": names, "none": none}
    if judged.verdict is ClockState.SOUND:
        if row.doubted_since is not None:
            logger.warning("the clock of %s is right again", row.host)
        row.doubted_since, row.detail, row.seconds = None, "", 0
    elif judged.verdict is ClockState.DOUBT:
        if row.doubted_since is None:
            logger.warning("the clock of %s is in doubt: %s", row.host, judged.detail)
        if row.doubted_since is None or asked is not None:
            row.detail, row.seconds = judged.detail, judged.seconds
        row.doubted_since = row.doubted_since or clock.wall
    row.save()
    if before != row.sure_at:
        ends = [end for end in (before, row.sure_at) if end is not None]
        _judge_again(row.host, min(ends), max(*ends, clock.wall, seen_at))


def _judge_again(host: str, after: datetime, until: datetime) -> None:
    ending = Hold.objects.filter(run__root__host=host, released_at=None, until__gt=after, until__lte=until)
    Run.objects.filter(pk__in=ending.values("run")).doubt()


def _known(row: HostClock | None) -> KnownClock | None:
    if row is not None and row.known:
        kept = row.known
        sure = from_json(kept["sure"]) if kept["sure"] else None
        return KnownClock(
            sound=from_json(kept["sound"]), anchor=from_json(kept["anchor"]), sure=sure, ahead=kept["ahead"]
        )
    # Earlier versions of this program stored looks in the rows of sweeps.
    timed = Sweep.objects.filter(host=settings.EXLAB_HOST, kind=SweepKind.TIMED).exclude(outcome=Outcome.RUNNING)
    found = timed.filter(clock__sound=True).order_by("-pk").first() or timed.order_by("pk").first()
    return confirmed(from_json(found.clock)) if found is not None and found.clock else None


def _known_as_json(known: KnownClock) -> dict[str, Any]:
    sure = as_json(known.sure) if known.sure else None
    return {"sound": as_json(known.sound), "anchor": as_json(known.anchor), "sure": sure, "ahead": known.ahead}
