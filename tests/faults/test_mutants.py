"""The explorers notice each planted fault: it breaks a promise somewhere."""

from datetime import datetime
from pathlib import Path

import pytest

from tests.faults import report
from tests.faults.mutants import CORE, MORE, Mutant
from tests.faults.stage import staged

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_engine]


def expect_caught(mutant: Mutant, base: Path, now: datetime) -> None:
    with staged(base / "stage", now) as stage, mutant.plant():
        explored = mutant.explore(stage)
    broken = {violation.promise for violation in explored.violations}
    report.planted(noticed=mutant.breaks in broken)
    assert mutant.breaks in broken, f"{explored.points} points, and only {broken or 'nothing'} was seen to break"


@pytest.mark.parametrize("mutant", CORE, ids=str)
def test_a_planted_fault_is_noticed(mutant: Mutant, tmp_path: Path, now: datetime) -> None:
    expect_caught(mutant, tmp_path, now)


@pytest.mark.exhaustive
@pytest.mark.parametrize("mutant", MORE, ids=str)
def test_another_planted_fault_is_noticed(mutant: Mutant, tmp_path: Path, now: datetime) -> None:
    expect_caught(mutant, tmp_path, now)
