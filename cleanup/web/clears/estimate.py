"""What is said of a preview as a whole: how long it will take, and of which instruments and projects its runs are."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cleanup.clears.making_room import clear_time
from cleanup.clears.preview import ClearPreview
from cleanup.models import Run

# At most this many names in one table.
NAMED = 12


@dataclass(frozen=True, kw_only=True)
class PartSum:
    """The runs of one instrument or project; logical bytes. `others`: how many names this line stands for."""

    name: str
    runs: int
    bytes: int
    others: int = 0


def about(shown: ClearPreview, now: datetime) -> dict[str, Any]:
    """What templates say of a preview; `takes` is None if it is not known yet."""
    runs = [item.run for item in shown.going]
    takes = clear_time.time_of_preview(shown, clear_time.paces()) if runs else None
    return {
        "takes": whole_minutes(takes),
        "by_instrument": parts_of(runs, lambda run: run.equipment),
        "by_project": parts_of(runs, lambda run: run.project),
    }


def whole_minutes(takes: timedelta | None) -> timedelta | None:
    """Rounded up: an estimate has no seconds."""
    return None if takes is None else -(-takes // timedelta(minutes=1)) * timedelta(minutes=1)


def parts_of(runs: Iterable[Run], name_of: Callable[[Run], str]) -> list[PartSum]:
    """Sums by name, the most bytes first; the last of many names together."""
    sums: dict[str, tuple[int, int]] = {}
    for run in runs:
        number, size = sums.get(name_of(run), (0, 0))
        sums[name_of(run)] = number + 1, size + (run.bytes or 0)
    found = [PartSum(name=name, runs=number, bytes=size) for name, (number, size) in sums.items()]
    found.sort(key=lambda part: (-part.bytes, part.name))
    if len(found) <= NAMED:
        return found
    rest = found[NAMED - 1 :]
    return [
        *found[: NAMED - 1],
        PartSum(name="", runs=sum(one.runs for one in rest), bytes=sum(one.bytes for one in rest), others=len(rest)),
    ]
