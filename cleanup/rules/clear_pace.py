"""How long clears will take, by what past clears on the same disk took."""

from collections.abc import Iterable
from dataclasses import dataclass

# Fewer past clears may be an accident.
LEAST_CLEARS = 2
# A run's checks and its record take this at least.
SECONDS_FOR_EACH_RUN = 1.0
_SHORTEST_SECONDS = 0.001


@dataclass(frozen=True, kw_only=True)
class PastClear:
    """Seconds that one clear took, of its logical bytes; `compared`: every byte was read on both sides."""

    seconds: float
    bytes: int
    compared: bool


@dataclass(frozen=True, kw_only=True)
class ClearWork:
    """Runs and logical bytes to be compared and removed, and those (`ready`) that are only removed."""

    compared_runs: int = 0
    compared_bytes: int = 0
    ready_runs: int = 0
    ready_bytes: int = 0

    def __add__(self, other: "ClearWork") -> "ClearWork":
        return ClearWork(
            compared_runs=self.compared_runs + other.compared_runs,
            compared_bytes=self.compared_bytes + other.compared_bytes,
            ready_runs=self.ready_runs + other.ready_runs,
            ready_bytes=self.ready_bytes + other.ready_bytes,
        )


@dataclass(frozen=True, kw_only=True)
class ClearPace:
    """Logical bytes a second, with and without a comparison; None: not known yet."""

    compared: float | None = None
    ready: float | None = None

    def seconds_for(self, work: ClearWork) -> float | None:
        """None where the pace of a part is not known."""
        # A removal alone is never slower than with a comparison.
        ready = self.ready or self.compared
        parts = ((work.compared_runs, work.compared_bytes, self.compared), (work.ready_runs, work.ready_bytes, ready))
        seconds = 0.0
        for runs, size, pace in parts:
            if runs and pace is None:
                return None
            seconds += runs * SECONDS_FOR_EACH_RUN + (size / pace if pace else 0)
        return seconds


def pace_of(past: Iterable[PastClear]) -> ClearPace:
    """The pace at which half of the bytes went: one clear that stood still for hours does not count for all."""
    known = [one for one in past if one.bytes > 0 and one.seconds > 0]
    return ClearPace(
        compared=_middle([one for one in known if one.compared]),
        ready=_middle([one for one in known if not one.compared]),
    )


def _middle(past: list[PastClear]) -> float | None:
    if len(past) < LEAST_CLEARS:
        return None
    half, so_far = sum(one.bytes for one in past) / 2, 0
    paces = sorted((one.bytes / max(one.seconds, _SHORTEST_SECONDS), one.bytes) for one in past)
    for pace, size in paces:
        so_far += size
        if so_far >= half:
            return pace
    return None
