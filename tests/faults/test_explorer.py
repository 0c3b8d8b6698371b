"""A clear meets every trouble at every one of its steps, and every promise holds."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from django.db import connection

from tests.faults import explorer, meddling, report
from tests.faults.explorer import Explored
from tests.faults.seam import Lost
from tests.faults.stage import Stage, staged

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def stage(tmp_path: Path, now: datetime) -> Iterator[Stage]:
    with staged(tmp_path / "stage", now) as stage:
        yield stage


def expect_none(explored: Explored, at_least: int) -> None:
    """No violation; and so many points at least, or the seam no longer lies under what the product does."""
    report.explored(explored.kind, explored.points, len(explored.violations))
    assert not explored.violations, "\n".join(map(str, explored.violations[:20]))
    assert explored.points >= at_least


def test_a_clear_that_is_killed_anywhere_loses_nothing(stage: Stage) -> None:
    expect_none(explorer.crashes(stage), at_least=50)


def test_a_clear_whose_machine_loses_its_power_anywhere_loses_nothing(stage: Stage) -> None:
    expect_none(explorer.crashes(stage, lost=Lost(), every=2, skip=skip()), at_least=25)


def skip() -> int:
    """Each engine takes every other step, so that both together take all."""
    return 0 if connection.vendor == "sqlite" else 1


def test_power_lost_in_the_first_clear_of_a_new_data_directory(tmp_path: Path, now: datetime) -> None:
    with staged(tmp_path / "new", now, new_data=True) as stage:
        expect_none(explorer.crashes(stage, lost=Lost(), since="_commit", every=5), at_least=5)


def test_a_recovery_that_is_killed_as_well_loses_nothing(stage: Stage) -> None:
    expect_none(explorer.crashes_twice(stage, every=3, exhaustive=False), at_least=15)


def test_a_clear_whose_disk_or_database_fails_anywhere_loses_nothing(stage: Stage) -> None:
    expect_none(explorer.faults(stage, every=2, skip=skip(), exhaustive=False), at_least=25)


def test_a_clear_that_stands_still_anywhere_is_left_alone(stage: Stage) -> None:
    expect_none(explorer.freezes(stage, every=4), at_least=12)


def test_a_run_that_is_changed_meanwhile_is_left_as_it_was_changed(stage: Stage) -> None:
    expect_none(meddling.meddle(stage, exhaustive=False), at_least=35)


@pytest.mark.exhaustive
class TestExhaustive:
    """Everything that the tests above take a sample of, and what they leave out."""

    @pytest.mark.parametrize("lost", [Lost(), Lost(names=False), Lost(data=False)], ids=["both", "data", "names"])
    def test_power_lost(self, stage: Stage, lost: Lost) -> None:
        expect_none(explorer.crashes(stage, lost=lost), at_least=50)

    @pytest.mark.timeout(600)
    def test_killed_twice(self, stage: Stage) -> None:
        expect_none(explorer.crashes_twice(stage), at_least=500)

    @pytest.mark.timeout(600)
    def test_killed_and_power_lost(self, stage: Stage) -> None:
        expect_none(explorer.crashes_twice(stage, lost=Lost()), at_least=500)

    @pytest.mark.timeout(600)
    def test_failed(self, stage: Stage) -> None:
        expect_none(explorer.faults(stage), at_least=300)

    def test_frozen(self, stage: Stage) -> None:
        expect_none(explorer.freezes(stage), at_least=45)

    @pytest.mark.timeout(600)
    def test_meddled_with(self, stage: Stage) -> None:
        expect_none(meddling.meddle(stage), at_least=250)

    @pytest.mark.parametrize("lost", [None, Lost()], ids=["killed", "power lost"])
    def test_refusing(self, stage: Stage, lost: Lost | None) -> None:
        expect_none(meddling.crashes_of_a_refusal(stage, lost=lost), at_least=15)

    @pytest.mark.timeout(600)
    def test_recovery_fails(self, stage: Stage) -> None:
        expect_none(explorer.failing_recoveries(stage), at_least=400)

    def test_frozen_and_locks_swept(self, stage: Stage) -> None:
        expect_none(explorer.freezes(stage, swept=True), at_least=45)
