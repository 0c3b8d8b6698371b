"""The note beside a demo's files: what comes onto its staging disk and when, and how far that has come."""

import json
import os
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

_PLAN = "plan.json"
_DONE = "done.json"


@dataclass(frozen=True)
class DemoClear:
    """One clear of the past."""

    run_path: str
    at: datetime
    by_schedule: bool


@dataclass(frozen=True, kw_only=True)
class DemoBatch:
    """What comes together: names in `coming/`, by their path on the staging disk.

    `taken_away`: runs that a person takes off the disk by hand afterwards.
    """

    seen_at: datetime
    moves: dict[str, str] = field(default_factory=dict)
    clears: list[DemoClear] = field(default_factory=list)
    taken_away: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class DemoPlan:
    """`share`: of their full size that the files have. `left_empty`: where a clear's path got an empty folder again."""

    made_at: datetime
    share: float
    past: list[DemoBatch]
    today: DemoBatch
    to_clear: list[str]
    left_empty: str = ""

    @property
    def began_at(self) -> datetime:
        return min(batch.seen_at for batch in (*self.past, self.today))

    def keep(self, base: Path) -> None:
        (base / _PLAN).write_text(json.dumps(asdict(self), default=datetime.isoformat))


def read(base: Path) -> DemoPlan | None:
    """The plan of a demo; None for one that an earlier version made."""
    path = base / _PLAN
    if not path.exists():
        return None
    said = json.loads(path.read_text())
    past = [_batch(one) for one in said["past"]]
    made_at = datetime.fromisoformat(said["made_at"])
    return DemoPlan(**{**said, "made_at": made_at, "past": past, "today": _batch(said["today"])})


def _batch(said: dict[str, Any]) -> DemoBatch:
    clears = [replace(DemoClear(**one), at=datetime.fromisoformat(one["at"])) for one in said["clears"]]
    return DemoBatch(**{**said, "seen_at": datetime.fromisoformat(said["seen_at"]), "clears": clears})


@dataclass(frozen=True)
class DemoProgress:
    """How many batches of the past are over, and whether today's is there."""

    past: int = 0
    today: bool = False

    def keep(self, base: Path) -> None:
        draft = base / f"{_DONE}.part"
        draft.write_text(json.dumps(asdict(self)))
        os.replace(draft, base / _DONE)


def progress(base: Path) -> DemoProgress:
    path = base / _DONE
    return DemoProgress(**json.loads(path.read_text())) if path.exists() else DemoProgress()
