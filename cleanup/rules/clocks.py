"""Whether a host's clock may be believed: holds and retentions end by it.

A look is judged by the seconds since boot, which no user can set; across a reboot by other clocks. A boot counts from
its first sound look, so that small steps add up.
"""

import enum
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cleanup.rules.anomalies import CLOCK_TOLERANCE, Anomaly, AnomalyKind, Clock

# A larger difference makes this clock wrong; NAS clocks are seldom right to the minute.
MAY_DIFFER = timedelta(hours=1)
# A machine may be off this long without a doubt, if no other clock can be asked.
LONGEST_PAUSE = timedelta(days=3)
# Looks may lie hours before the shutdown, and hours after the start.
BETWEEN_LOOKS = timedelta(hours=6)
_TOLERANCE_SECONDS = CLOCK_TOLERANCE.total_seconds()


class ClockState(enum.StrEnum):
    """What a look comes to; unsettled: other clocks must be asked."""

    SOUND = "sound"
    DOUBT = "doubt"
    UNSETTLED = "unsettled"


@dataclass(frozen=True, kw_only=True)
class Other:
    """Another clock, such as "the NAS at /mnt/nas"."""

    name: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class OtherClocks:
    """Other clocks that answered; `none`: why others did not."""

    others: tuple[Other, ...] = ()
    none: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class KnownClock:
    """What is known of a clock."""

    sound: Clock  # the last sound look
    anchor: Clock  # the first sound look of that boot
    sure: Clock | None = None  # in doubt or unsettled: what was surely reached
    ahead: float = 0  # seconds by which a doubted clock stood ahead of `sure`


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a look comes to; in doubt why, and how far ahead."""

    verdict: ClockState
    known: KnownClock
    detail: str = ""
    seconds: float = 0

    @property
    def sight(self) -> Anomaly | None:
        if self.verdict is not ClockState.DOUBT:
            return None
        return Anomaly(kind=AnomalyKind.CLOCK, detail=self.detail, seconds=self.seconds)


def judge(known: KnownClock | None, now: Clock, *, asked: OtherClocks | None) -> Judged:
    """Whether a look at a clock is sound.

    `asked`: None before other clocks were asked; then a jump ahead across a reboot is unsettled.
    """
    if known is None:
        return _sound(None, now)
    expected, measured = _expected(known, now)
    jump = now.wall - expected
    if measured and abs(jump) <= CLOCK_TOLERANCE:
        return _sound(known, now)
    doubtful = measured or jump < -CLOCK_TOLERANCE or jump > LONGEST_PAUSE + BETWEEN_LOOKS or _as_doubted(known, jump)
    if asked is None and not doubtful:
        return Judged(verdict=ClockState.UNSETTLED, known=replace(known, sure=_sure(now, jump)))
    others = asked.others if asked else ()
    if wrong := [other for other in others if abs(other.at - now.wall) > MAY_DIFFER]:
        farthest = max((now.wall - other.at for other in wrong), key=abs)
        said = [_jump(jump, measured=measured), *(_against(other, now) for other in wrong)]
        return _doubt(known, now, jump, " ".join(said), farthest)
    if others or not doubtful:
        return _sound(None, now)
    return _doubt(known, now, jump, f"{_jump(jump, measured=measured)} {_none(asked)}", jump)


def confirmed(now: Clock) -> KnownClock:
    """What is known after an operator confirmed the clock."""
    return KnownClock(sound=now, anchor=now)


def _expected(known: KnownClock, now: Clock) -> tuple[datetime, bool]:
    """The least it should show, and whether it is exact."""
    if (passed := _passed(known.anchor, now)) is not None:
        return known.anchor.wall + passed, True
    base = known.sure or known.sound
    return base.wall + max(_passed(base, now) or timedelta(0), timedelta(0)), False


def _as_doubted(known: KnownClock, jump: timedelta) -> bool:
    """A reboot settles no doubt."""
    return known.sure is not None and known.ahead > 0 and jump.total_seconds() > known.ahead - _TOLERANCE_SECONDS


def _passed(before: Clock, now: Clock) -> timedelta | None:
    if not now.boot_id or now.boot_id != before.boot_id or before.boot_seconds is None or now.boot_seconds is None:
        return None
    return timedelta(seconds=now.boot_seconds - before.boot_seconds)


def _sound(known: KnownClock | None, now: Clock) -> Judged:
    return Judged(verdict=ClockState.SOUND, known=KnownClock(sound=now, anchor=known.anchor if known else now))


def _doubt(known: KnownClock, now: Clock, jump: timedelta, detail: str, ahead: timedelta) -> Judged:
    known = replace(known, sure=_sure(now, jump), ahead=jump.total_seconds())
    return Judged(verdict=ClockState.DOUBT, known=known, detail=detail, seconds=ahead.total_seconds())


def _sure(now: Clock, jump: timedelta) -> Clock:
    return replace(now, wall=now.wall - jump)


def _jump(jump: timedelta, *, measured: bool) -> str:
    if measured:
        way = "ahead of" if jump > timedelta(0) else "behind"
        return f"The clock has jumped: it stands {words(jump)} {way} what the time since boot says."
    if jump < -CLOCK_TOLERANCE:
        return f"The clock stands {words(jump)} before its last sound reading, and the machine was started since."
    return f"The clock stands {words(jump)} after its last sound reading, and the machine was started since."


def _against(other: Other, now: Clock) -> str:
    way = "ahead of" if now.wall > other.at else "behind"
    return f"It stands {words(now.wall - other.at)} {way} {other.name}."


def _none(asked: OtherClocks | None) -> str:
    if asked is None:
        return "Other clocks are asked with the next timed pass."
    return f"It cannot be compared with another clock{': ' if asked.none else ''}{'; '.join(asked.none)}. Is it right?"


def words(span: timedelta) -> str:
    """A span in words, without its sign."""
    hours = abs(span) / timedelta(hours=1)
    if hours < 1:
        return f"{hours * 60:.0f} minutes"
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"
