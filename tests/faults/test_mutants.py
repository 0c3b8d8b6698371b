"""The explorers see what they are there for: each fault that is planted in the product breaks a promise somewhere."""

from datetime import datetime
from pathlib import Path

import pytest

from tests.faults.mutants import CORE, MORE, Mutant
from tests.faults.stage import staged

pytestmark = pytest.mark.django_db(transaction=True)


def expect_caught(mutant: Mutant, base: Path, now: datetime) -> None:
    with staged(base / "stage", now) as stage, mutant.plant():
        explored = mutant.explore(stage)
    assert explored.violations, f"{explored.points} points, and nobody has noticed: {mutant}"


@pytest.mark.parametrize("mutant", CORE, ids=str)
def test_a_planted_fault_is_noticed(mutant: Mutant, tmp_path: Path, now: datetime) -> None:
    expect_caught(mutant, tmp_path, now)


@pytest.mark.exhaustive
@pytest.mark.parametrize("mutant", MORE, ids=str)
def test_another_planted_fault_is_noticed(mutant: Mutant, tmp_path: Path, now: datetime) -> None:
    expect_caught(mutant, tmp_path, now)
