"""What one sweep may take."""

import pytest

from cleanup.rules.policies.policy import DEFAULT_BUDGET_RUNS, Limits
from cleanup.rules.sweep_budget import SweepBudget, budget_of

pytestmark = pytest.mark.one_engine(by="function")


def test_a_budget_of_runs() -> None:
    budget = SweepBudget(runs=2)
    assert not budget.exhausted_by(1, minutes=0)
    assert budget.less(1).less(1).exhausted_by(1, minutes=0) == "2 runs"


def test_a_budget_of_bytes_is_not_exceeded_but_by_the_only_one() -> None:
    budget = SweepBudget(bytes=100)
    assert not budget.exhausted_by(500, minutes=0), "else it would never go at all"
    assert budget.less(60).exhausted_by(41, minutes=0) == "100 bytes"
    assert not budget.less(60).exhausted_by(40, minutes=0)


def test_a_budget_of_minutes() -> None:
    assert SweepBudget(minutes=1.5).exhausted_by(1, minutes=1.5) == "1.5 minutes"
    assert not SweepBudget(minutes=1.5).exhausted_by(1, minutes=1.4)


def test_a_persons_limit_takes_the_place_of_the_runs_alone() -> None:
    limits = Limits(budget_runs=7, budget_bytes=100, budget_minutes=5)
    assert budget_of(limits, limit=None) == SweepBudget(runs=7, bytes=100, minutes=5)
    assert budget_of(limits, limit=9) == SweepBudget(runs=9, bytes=100, minutes=5)
    assert budget_of(Limits(), limit=None) == SweepBudget(runs=DEFAULT_BUDGET_RUNS)
