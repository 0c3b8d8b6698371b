"""The ticks of a preview's runs: a run without one is not asked for, and a new preview is shown without it."""

from dataclasses import dataclass
from typing import Any

from django.http import QueryDict

from cleanup.clears.preview import ClearPreview, Item, RequestedRuns

_NO_RUNS = RequestedRuns(marks={})


@dataclass(frozen=True, kw_only=True)
class Ticks:
    """Runs that have a tick or no box (`asked`), and those without their tick (`aside`).

    `changed`: the question that was shown is about other runs, so its digest counts no more.
    """

    asked: RequestedRuns
    aside: RequestedRuns = _NO_RUNS
    changed: bool = False


def read_ticks(posted: QueryDict, sent: dict[str, Any]) -> Ticks:
    """Read a form with `runs` and `unticked` as shown, `ticks` that it showed, and the boxes `go` that have one now."""
    asked, aside = RequestedRuns.parse(sent.get("runs", "")), RequestedRuns.parse(sent.get("unticked", ""))
    shown, now = _keys([posted.get("ticks", "")]), _keys(posted.getlist("go"))
    if shown == now:
        return Ticks(asked=asked, aside=aside)
    boxes = {key: mark for key, mark in asked.marks.items() if key in shown} | aside.marks
    marks = {key: mark for key, mark in (asked.marks | aside.marks).items() if key in now or key not in boxes}
    dropped = {key: mark for key, mark in boxes.items() if key not in now}
    return Ticks(asked=RequestedRuns(marks=marks), aside=RequestedRuns(marks=dropped), changed=True)


def rows_of(shown: ClearPreview, aside: ClearPreview | None) -> tuple[Item, ...]:
    """The runs with a box, with and without a tick, the largest first."""
    if aside is None:
        return shown.going
    return tuple(sorted((*shown.going, *aside.going), key=lambda item: item.sort_key))


def _keys(texts: list[str]) -> frozenset[int]:
    return frozenset(RequestedRuns.parse(" ".join(texts)).marks)
