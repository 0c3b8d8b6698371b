"""Durations, sizes, shares and counts as people type them, and in words.

Parsers raise ValueError with a sentence. The words can be typed again.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from cleanup.rules.policies.policy import MAX_BUDGET_MINUTES, MAX_RETAIN_HOURS

# What keeping a run for 0 h means.
AT_ONCE = "at once, as soon as verified"

# Bounded: a number of a megabyte would be read for minutes.
_NUMBER = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?) ?([A-Za-z%]*)")
_SECONDS = {"s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86_400)}
_SECONDS |= {"min": _SECONDS["m"], "day": _SECONDS["d"], "days": _SECONDS["d"]}
_BYTES = {
    "": Decimal(1),
    "b": Decimal(1),
    **{f"{prefix}b": Decimal(1000**power) for power, prefix in enumerate("kmgtp", 1)},
    **{f"{prefix}ib": Decimal(1024**power) for power, prefix in enumerate("kmgtp", 1)},
}
_SAID_BYTES = (("PB", 10**15), ("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3), ("B", 1))
# More fits no column.
MAX_BYTES = 10**18
MAX_COUNT = 10**9


def parse_hours(text: str) -> float:
    """A duration in hours: plain, or 30d, 24h, 60m, 3600s."""
    return _duration(text, "h", Decimal(MAX_RETAIN_HOURS), f"between 0 and {MAX_RETAIN_HOURS:.0f} hours")


def parse_minutes(text: str) -> float:
    """A duration in minutes above 0: plain, or with a unit."""
    minutes = _duration(text, "m", Decimal(MAX_BUDGET_MINUTES), f"above 0 and up to {MAX_BUDGET_MINUTES:.0f} minutes")
    if not minutes:
        raise ValueError(f"{text} is no duration above 0")
    return minutes


def parse_bytes(text: str) -> int:
    """A size in bytes: 500GB, 1.5TB, 200GiB, or plain."""
    number, factor = _parts(text, _BYTES)
    size = None if number is None else number * factor
    if size is None or size != size.to_integral_value() or size > MAX_BYTES:
        raise ValueError(f"{text} is no size such as 500GB, 1.5TB or 200GiB")
    return int(size)


def parse_share(text: str) -> float:
    """A share above 0 and up to 1: 0.5 or 50%."""
    number, factor = _parts(text, {"": Decimal(1), "%": Decimal("0.01")})
    share = Decimal(0) if number is None else number * factor
    if not 0 < share <= 1:
        raise ValueError(f"{text} is no share above 0 and up to 1, such as 0.5 or 50%")
    return float(share)


def parse_count(text: str) -> int:
    """A whole number, 0 included."""
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > MAX_COUNT:
        raise ValueError(f"{text} is no whole number up to {MAX_COUNT}")
    return int(text)


def say_hours(hours: float) -> str:
    """`7 days`, `36 h`, `90 min`, `45 s`: the largest whole unit, else hours."""
    seconds = round(Decimal(str(hours)) * 3600, 6)  # as a float, a third of an hour fits no unit
    for word, least in (("days", 2), ("h", 1), ("min", 1), ("s", 1)):
        number = seconds / _SECONDS[word]
        if number >= least and number == int(number):
            return f"{int(number)} {word}"
    return f"{hours:g} h"


def say_kept(hours: float) -> str:
    """As `say_hours`, but 0 is at once."""
    return say_hours(hours) if hours else AT_ONCE


def say_bytes(size: int) -> str:
    """`500 GB`, `1.5 TB`: the largest unit that is exact with two decimals."""
    for unit, factor in _SAID_BYTES:
        number = Decimal(size) / factor
        if size >= factor and number == round(number, 2):
            return f"{number.normalize():f} {unit}"
    return f"{size} B"


def say_about(size: int) -> str:
    """`412.8 GB`: two decimals below ten, one above."""
    if abs(size) < 1000:
        return f"{size} B"
    value, units = size / 1000, ["kB", "MB", "GB", "TB", "PB", "EB"]
    # 999.95 would be printed as 1000.0: that is one of the next unit.
    while round(abs(value), 1) >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    decimals = 2 if round(abs(value), 2) < 10 else 1
    return f"{value:.{decimals}f} {units[0]}"


@dataclass(frozen=True)
class Scale:
    """One unit for sizes that stand together, so that they add up as they are read.

    A size is shown in whole steps of `step` bytes; one of less than ten steps in its own unit. A sum is that of the
    shown sizes, not of the bytes behind them.
    """

    unit: str
    step: int
    decimals: int

    def say(self, size: int) -> str:
        """`1,240 GB`, `12.40 TB`, `0 TB`, and among such ones `31.5 MB`."""
        if 0 < size < 10 * self.step:
            return say_about(size)
        whole, part = divmod(self._steps(size), 10**self.decimals)
        return f"{whole:,}{f'.{part:0{self.decimals}}' if self.decimals and size else ''} {self.unit}"

    def say_sum(self, sizes: Iterable[int]) -> str:
        return self.say(round(sum(self._shown(size) for size in sizes)))

    def _steps(self, size: int) -> int:
        return (2 * size + self.step) // (2 * self.step)

    def _shown(self, size: int) -> Decimal:
        """The bytes that the words say."""
        if not 0 < size < 10 * self.step:
            return Decimal(self._steps(size) * self.step)
        number, unit = say_about(size).split()
        return Decimal(number) * dict(_SAID_BYTES)[unit]


def scale_of(total: int) -> Scale:
    """The scale of sizes that come to about `total` bytes: this one is shown with four digits."""
    units = [("B", 1), *((unit, factor) for unit, factor in reversed(_SAID_BYTES) if factor > 1)]
    at = max((number for number, (_unit, factor) in enumerate(units) if total >= factor), default=0)
    if at and total < 10 * units[at][1]:
        unit, factor = units[at - 1]
        return Scale(unit, factor, 0)
    unit, factor = units[at]
    decimals = (2 if total < 100 * factor else 1) if at else 0
    return Scale(unit, factor // 10**decimals, decimals)


def say_count(number: int, noun: str) -> str:
    """`1 run`, `2,000 runs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _duration(text: str, plain: str, most: Decimal, bounds: str) -> float:
    """In units of `plain`, as is `most`."""
    number, factor = _parts(text, {"": _SECONDS[plain], **_SECONDS})
    value = None if number is None else number * factor / _SECONDS[plain]
    if value is None or value > most:
        raise ValueError(f"{text} is no duration {bounds}, such as 24, 24h or 30d")
    return float(value)


def _parts(text: str, units: Mapping[str, Decimal]) -> tuple[Decimal | None, Decimal]:
    match = _NUMBER.fullmatch(text.strip(" "))
    if match is None or match[2].lower() not in units:
        return None, Decimal(1)
    return Decimal(match[1]), units[match[2].lower()]
