"""Writes all files of a demo into an empty directory, with the plan by which they are brought in."""

import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from cleanup.demo import planned
from cleanup.demo.demo_plan import DemoBatch, DemoClear, DemoPlan
from cleanup.demo.planned import PastWeeks, Planned
from cleanup.demo.written_run import WrittenRun, noise
from cleanup.storage.root_files.reserve import RESERVE

COMING = "coming"
# The demo takes at most this part of what is free.
_SHARE_OF_FREE = 0.25
_SMALLEST = 0.001
_TAKEN_AWAY = Planned("FLOW_01", "PROJ-0042", timedelta(days=26.2))


def build(base: Path, now: datetime, *, share: float | None, most_past: int | None) -> DemoPlan:
    """Write the files; `share` of their full size, None as the disk has room. `most_past`: batches cleared earlier."""
    share = share_for(shutil.disk_usage(base).free) if share is None else share
    weeks = list(planned.past_weeks())
    weeks = weeks[len(weeks) - min(most_past, len(weeks)) :] if most_past is not None else weeks
    builder = _Builder(base, now, share)
    (base / "staging").mkdir()
    past = [builder.past(each) for each in weeks]
    runs = builder.write(planned.planned_runs())
    strange = builder.write_strange()
    left_empty = past[-1].clears[-1].run_path if past else ""
    if past:
        away = builder.write([_TAKEN_AWAY])
        (path,) = away.values()
        past.append(DemoBatch(seen_at=now - timedelta(days=21), moves=away, taken_away=[path]))
    plan = DemoPlan(
        made_at=now,
        share=share,
        past=past,
        today=DemoBatch(seen_at=now, moves={**runs, **strange}),
        to_clear=[path for path, run in zip(runs.values(), planned.planned_runs(), strict=True) if run.to_clear],
        left_empty=left_empty,
    )
    plan.keep(base)
    return plan


def share_for(free: int) -> float:
    """The share of their full size that files have on a disk with `free` bytes, 1 where there is room enough."""
    return min(1.0, max(free * _SHARE_OF_FREE / full_size(), _SMALLEST))


def full_size() -> int:
    """About the bytes of a demo on both sides, before its past is cleared."""
    past = [run for weeks in planned.past_weeks() for run in weeks.runs]
    return sum(run.bytes * (2 if run.is_copied else 1) for run in (*planned.planned_runs(), *past))


class _Builder:
    def __init__(self, base: Path, now: datetime, share: float) -> None:
        self._base, self._now, self._share = base, now, share
        self._coming = base / COMING
        self._coming.mkdir()
        self._number = 0

    def past(self, weeks: PastWeeks) -> DemoBatch:
        moves = self.write(weeks.runs)
        seen_at = self._now - weeks.ago
        clears = [
            DemoClear(path, seen_at + after, by_schedule=run.test)
            for path, run, after in zip(moves.values(), weeks.runs, weeks.cleared_after, strict=True)
        ]
        return DemoBatch(seen_at=seen_at, moves=moves, clears=clears)

    def write(self, runs: Iterable[Planned]) -> dict[str, str]:
        moves = {}
        for one in runs:
            name = self._next()
            sized = replace(one, share=one.share * self._share)
            run = WrittenRun(sized, self._now, self._coming / name, self._base / "nas")
            run.write()
            moves[name] = run.run_path
        return moves

    def write_strange(self) -> dict[str, str]:
        """Orphans: one thing of each kind that a page tells of."""
        day = self._now - timedelta(days=19)
        leaf = f"Run_{day:%Y-%m-%dT%H-%M}"
        size = max(round(160 * planned.KIB * self._share), 256)
        tiles = {f"tiles/tile_{number:04}.tif": noise(f"{leaf} {number}", size) for number in range(6)}
        return {
            self._strange({"": b"x 0.12, y -0.03\n"}, age=45): "CONFOCAL_01/alignment of last spring.txt",
            self._strange(tiles, age=19): f"CONFOCAL_01/PROJ-0042/Runs/{leaf}",
            self._strange(tiles, age=33): f"CONFOCAL_01/PROJ-0051/{leaf}",
            self._strange({"": bytes(planned.KIB)}, age=60): f"FLOW_01/{os.fsdecode(RESERVE)}",
        }

    def _strange(self, files: dict[str, bytes], *, age: int) -> str:
        name = self._next()
        top = self._coming / name
        for file, content in files.items():
            path = top / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        at = (self._now - timedelta(days=age)).timestamp()
        for path in sorted([top, *top.rglob("*")], reverse=True):
            os.utime(path, (at, at))
        return name

    def _next(self) -> str:
        self._number += 1
        return f"{self._number:03}"
