"""Which safe runs go so that enough space is free, and which of them are not needed."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RoomCandidate:
    """A run by its key; `gives`: the bytes that the disk gets back, in allocated bytes."""

    key: int
    gives: int
    safe: bool = True


@dataclass(frozen=True, kw_only=True)
class RoomChoice:
    """The runs that go for `missing` bytes, in the order asked for; `short` is what they do not give."""

    missing: int
    chosen: tuple[RoomCandidate, ...] = ()

    @property
    def gives(self) -> int:
        return sum(candidate.gives for candidate in self.chosen)

    @property
    def short(self) -> int:
        return max(self.missing - self.gives, 0)


def choose_runs(candidates: Iterable[RoomCandidate], missing: int, *, most: int) -> RoomChoice:
    """Choose at most `most` runs that give `missing` bytes, the first ones first; none that is not safe.

    Where the first ones do not suffice, the largest are tried. Of those taken, the largest that is not needed is left
    out, until each is needed.
    """
    useful = [candidate for candidate in candidates if candidate.safe and candidate.gives > 0]
    taken = _take(useful, missing, most)
    if _sum(taken) < missing and len(useful) > most:
        taken = _take(sorted(useful, key=lambda one: -one.gives), missing, most)
    needed = _needed(taken, missing)
    return RoomChoice(missing=missing, chosen=tuple(one for one in useful if one.key in needed))


def _take(candidates: Iterable[RoomCandidate], missing: int, most: int) -> list[RoomCandidate]:
    taken: list[RoomCandidate] = []
    total = 0
    for candidate in candidates:
        if total >= missing or len(taken) >= most:
            break
        taken.append(candidate)
        total += candidate.gives
    return taken


def _needed(taken: list[RoomCandidate], missing: int) -> set[int]:
    # The surplus only shrinks, so what is needed once is needed at the end.
    surplus = _sum(taken) - missing
    needed = set()
    for candidate in sorted(taken, key=lambda one: -one.gives):
        if candidate.gives <= surplus:
            surplus -= candidate.gives
        else:
            needed.add(candidate.key)
    return needed


def _sum(candidates: Iterable[RoomCandidate]) -> int:
    return sum(candidate.gives for candidate in candidates)
