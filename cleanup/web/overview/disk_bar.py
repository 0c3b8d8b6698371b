"""A disk as a bar of parts."""

from collections.abc import Mapping
from dataclasses import dataclass

from cleanup.lab.roots.disk_usage import Outlook
from cleanup.models import Status

# The bar's width, in its own units.
WIDTH = 1000
# The least width of a part, so that it can be seen.
NARROWEST = 6

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
    """One part of the bar; drawn by `allocated_bytes`, not by the logical `bytes`."""

    code: str
    words: str
    bytes: int
    allocated_bytes: int
    x: int = 0
    width: int = 0


@dataclass(frozen=True, kw_only=True)
class Bar:
    """`crowded`: the runs are larger than what the disk holds."""

    areas: tuple[Area, ...]
    crowded: bool = False


def draw(outlook: Outlook | None, sums: Mapping[Status, RunSum]) -> Bar:
    """The bar of a disk; without a measurement it has only sums, no widths."""
    shown = [tone for tone in WORDS if tone in ALWAYS or sums.get(tone, RunSum()).runs]
    of_runs = [_area(tone, sums.get(tone, RunSum())) for tone in shown]
    if outlook is None:
        return Bar(areas=tuple(of_runs))
    taken = sum(area.allocated_bytes for area in of_runs)
    other = Area(
        code="other",
        words="other",
        bytes=max(outlook.used_bytes - taken, 0),
        allocated_bytes=max(outlook.used_bytes - taken, 0),
    )
    free = Area(code="free", words="free", bytes=outlook.free_bytes, allocated_bytes=outlook.free_bytes)
    return Bar(areas=_place([other, *of_runs, free]), crowded=taken > outlook.used_bytes)


def _area(tone: Status, runs: RunSum) -> Area:
    return Area(code=tone.code, words=WORDS[tone], bytes=runs.bytes, allocated_bytes=runs.allocated_bytes)


def _place(areas: list[Area]) -> tuple[Area, ...]:
    whole = sum(area.allocated_bytes for area in areas)
    there = sum(area.allocated_bytes > 0 for area in areas)
    spare = WIDTH - there * NARROWEST
    placed, done, number = [], 0, 0
    for area in areas:
        start = done * spare // whole + number * NARROWEST if whole else 0
        done += area.allocated_bytes
        number += area.allocated_bytes > 0
        end = done * spare // whole + number * NARROWEST if whole else 0
        placed.append(
            Area(
                code=area.code,
                words=area.words,
                bytes=area.bytes,
                allocated_bytes=area.allocated_bytes,
                x=start,
                width=end - start,
            )
        )
    return tuple(placed)
