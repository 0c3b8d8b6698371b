"""A small lab with a data directory of its own, and what every test asks of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from cleanup.clears import protocol
from cleanup.lab.roots import opening
from cleanup.models import Run, StagingRoot
from cleanup.monitoring.reconciliation import reconciling
from cleanup.monitoring.reconciliation.nas import Bounds
from cleanup.monitoring.reconciliation.reconciling import Reconciled
from cleanup.runs import discovery
from tests.tools.lab import RUN_PATH, Lab, snapshot

FIRST = RUN_PATH
SECOND = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-18T09-00"
THIRD = "FLOW_01/PROJ-0060/Runs/Run_2026-04-19T16-20"


@dataclass(frozen=True)
class Place:
    """The lab, its root, and its data directory."""

    lab: Lab
    root: StagingRoot
    data: Path

    def run(self, run_path: str = FIRST) -> Run:
        return Run.objects.with_root().filter(root=self.root, run_path=run_path).latest("pk")

    def clear(self, run_path: str = FIRST) -> Run:
        run = self.run(run_path)
        protocol.clear_run(run, now=timezone.now(), actor="mkhan")
        run.refresh_from_db()
        return run

    def discover(self) -> None:
        discovery.discover(self.root, now=timezone.now())

    def reconcile(self, **how: Any) -> Reconciled:
        done = reconciling.reconcile([self.root], now=timezone.now(), bounds=how.pop("bounds", Bounds.of()), **how)
        assert done is not None
        return done

    def found(self, **how: Any) -> dict[str, list[str]]:
        """Details by kind."""
        told: dict[str, list[str]] = {}
        for each in self.reconcile(**how).found.in_order:
            told.setdefault(each.kind, []).append(f"{each.run_path} {each.detail}".strip())
        return told

    def beside(self, run_path: str = FIRST) -> Path:
        return (self.lab.staging / run_path).parent


@pytest.fixture
def place(lab: Lab, settings: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    settings.EXLAB_DATA_DIR = tmp_path / "data"
    settings.EXLAB_DATA_DIR.mkdir()
    for path in (FIRST, SECOND, THIRD):
        lab.run(path)
    found = Place(lab, request.getfixturevalue("root"), tmp_path / "data")
    found.discover()
    return found


@pytest.fixture
def untouched(place: Place) -> Callable[[], Any]:
    """A block that changes neither disk, NAS nor data directory."""

    @contextmanager
    def untouched() -> Iterator[None]:
        before = [snapshot(place.lab.base), _kept(place)]
        yield
        assert [snapshot(place.lab.base), _kept(place)] == before

    return untouched


def _kept(place: Place) -> dict[str, bytes]:
    assert opening.data_dir().path == str(place.data)
    # Locks are made anew at every look, also by discovery.
    return {
        str(path.relative_to(place.data)): path.read_bytes()
        for path in sorted(place.data.rglob("*"))
        if path.is_file() and path.parent.name != "locks"
    }
