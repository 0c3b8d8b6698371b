"""A disk as a bar of parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from cleanup.lab.roots.disk_usage import Outlook
from cleanup.models import Status
from cleanup.rules.quantities import scale_of

# The bar's width, in its own units.
WIDTH = 1000
# The least width of a part, so that it can be seen. Where one is drawn wider for it, the page says so.
NARROWEST = 10

WORDS = {
    Status.WAIT: "waits",
    Status.WORK: "under way",
    Status.BLOCK: "blocked",
    Status.GO: "safe to clear now",
}
ALWAYS = (Status.WAIT, Status.BLOCK, Status.GO)


@dataclass(frozen=True, kw_only=True)
class RunSum:
    """Runs with their logical bytes and known bytes on disk; `unknown` counts runs of unknown size, which
    have 0 bytes.
    """

    runs: int = 0
    bytes: int = 0
    allocated_bytes: int = 0
    unknown: int = 0

    def __add__(self, other: "RunSum") -> "RunSum":
        return RunSum(
            runs=self.runs + other.runs,
            bytes=self.bytes + other.bytes,
            allocated_bytes=self.allocated_bytes + other.allocated_bytes,
            unknown=self.unknown + other.unknown,
        )


@dataclass(frozen=True, kw_only=True)
class Area:
    """One part of the bar; drawn and said by `allocated_bytes`, not by the logical `bytes`."""

    code: str
    words: str
    bytes: int
    allocated_bytes: int
    said: str = ""
    x: int = 0
    width: int = 0


@dataclass(frozen=True, kw_only=True)
class Bar:
    """`crowded`: the runs are larger than what the disk holds. `widened`: a part is drawn wider than it is.

    `used` and `whole` are the sums of the parts as they are said, unless it is crowded; empty without a measurement.
    """

    areas: tuple[Area, ...]
    crowded: bool = False
    widened: bool = False
    used: str = ""
    whole: str = ""


def draw(outlook: Outlook | None, sums: Mapping[Status, RunSum]) -> Bar:
    """The bar of a disk; without a measurement it has only sums, no widths."""
    shown = [tone for tone in WORDS if tone in ALWAYS or sums.get(tone, RunSum()).runs]
    of_runs = [_area(tone, sums.get(tone, RunSum())) for tone in shown]
    if outlook is None:
        scale = scale_of(sum(area.allocated_bytes for area in of_runs))
        return Bar(areas=tuple(replace(area, said=scale.say(area.allocated_bytes)) for area in of_runs))
    taken = sum(area.allocated_bytes for area in of_runs)
    crowded, rest = taken > outlook.used_bytes, max(outlook.used_bytes - taken, 0)
    other = Area(code="other", words="other", bytes=rest, allocated_bytes=rest)
    free = Area(code="free", words="free", bytes=outlook.free_bytes, allocated_bytes=outlook.free_bytes)
    areas = [other, *of_runs, free]
    sizes = [area.allocated_bytes for area in areas]
    scale, widths = scale_of(sum(sizes)), widths_of(sizes)
    ends = list(accumulate(widths))
    return Bar(
        areas=tuple(
            replace(area, said=scale.say(area.allocated_bytes), x=end - width, width=width)
            for area, width, end in zip(areas, widths, ends, strict=True)
        ),
        crowded=crowded,
        widened=widths != _proportional(sizes),
        used=scale.say(outlook.used_bytes) if crowded else scale.say_sum(sizes[:-1]),
        whole=scale.say(outlook.total_bytes) if crowded else scale.say_sum(sizes),
    )


def widths_of(sizes: Sequence[int]) -> list[int]:
    """The widths of the parts in true proportion, together `WIDTH`; none that is there is narrower than `NARROWEST`.

    What such a part lacks is taken from the widest.
    """
    widths = _proportional(sizes)
    for at, size in enumerate(sizes):
        if size and widths[at] < NARROWEST:
            widest = max(range(len(widths)), key=lambda each: widths[each])
            widths[widest] -= NARROWEST - widths[at]
            widths[at] = NARROWEST
    return widths


def _proportional(sizes: Sequence[int]) -> list[int]:
    whole = sum(sizes)
    ends = [done * WIDTH // whole if whole else 0 for done in accumulate(sizes)]
    return [end - start for start, end in pairwise([0, *ends])]


def _area(tone: Status, runs: RunSum) -> Area:
    return Area(code=tone.code, words=WORDS[tone], bytes=runs.bytes, allocated_bytes=runs.allocated_bytes)
