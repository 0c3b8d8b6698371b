"""A file that is set aside or put back always lies in one of two places, and its row says in which."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.faults import asides, report
from tests.faults.explorer import Explored
from tests.faults.seam import Lost
from tests.faults.stage import Stage, staged

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def stage(tmp_path: Path, now: datetime) -> Iterator[Stage]:
    with staged(tmp_path / "stage", now) as stage:
        yield stage


def expect_none(explored: Explored, at_least: int) -> None:
    report.explored(explored.kind, explored.points, len(explored.violations))
    assert not explored.violations, "\n".join(map(str, explored.violations[:20]))
    assert explored.points >= at_least


@pytest.mark.parametrize("moved", [False, True], ids=["set aside", "put back"])
def test_killed_anywhere(stage: Stage, moved: bool) -> None:
    """Takes 2 s: each of a dozen operations."""
    expect_none(asides.explore(stage, moved=moved), at_least=10)


@pytest.mark.parametrize(
    "moved", [pytest.param(False, id="set aside"), pytest.param(True, id="put back", marks=pytest.mark.exhaustive)]
)
def test_without_power_anywhere(stage: Stage, moved: bool) -> None:
    """Takes 2 s."""
    expect_none(asides.explore(stage, moved=moved, lost=Lost()), at_least=10)


@pytest.mark.exhaustive
class TestExhaustive:
    @pytest.mark.parametrize("moved", [False, True], ids=["set aside", "put back"])
    @pytest.mark.parametrize("lost", [Lost(names=False), Lost(data=False)], ids=["data", "names"])
    def test_power_lost(self, stage: Stage, moved: bool, lost: Lost) -> None:
        expect_none(asides.explore(stage, moved=moved, lost=lost), at_least=10)

    @pytest.mark.parametrize("moved", [False, True], ids=["set aside", "put back"])
    @pytest.mark.parametrize("lost", [None, Lost()], ids=["killed", "power lost"])
    def test_recovery_killed_too(self, stage: Stage, moved: bool, lost: Lost | None) -> None:
        expect_none(asides.explore(stage, moved=moved, lost=lost, twice=True), at_least=10)

    @pytest.mark.parametrize("moved", [False, True], ids=["set aside", "put back"])
    def test_the_disk_fails(self, stage: Stage, moved: bool) -> None:
        expect_none(asides.faults(stage, moved=moved), at_least=8)
