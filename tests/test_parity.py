"""`docs/parity.md` says what stands here for everything that the seeds do; every row names tests that are there."""

import ast
import functools
import re
from pathlib import Path

import pytest

from cleanup.policy.reasons import Reason

CHECKOUT = Path(__file__).resolve().parent.parent
PARITY = (CHECKOUT / "docs" / "parity.md").read_text()
SEEDS = ("agent-exec `gc`", "The orphan reaper", "moadim")

# What the seeds do for their users, in their own words.
OPTIONS = ("older_than", "max_jobs", "max_bytes", "dry_run")
REASONS = (
    "too_recent",
    "active_job",
    "non_terminal_status",
    "state_unreadable",
    "no_timestamp",
    "policy_not_matched",
    "delete_budget_exhausted",
    "post_delete_check_failed",
    "delete_failed",
)


def rows(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading: there, here, tests."""
    section = re.split(r"^#+ ", PARITY.partition(f" {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    table = [line.strip().strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in table[1:]]


ALL = [row for heading in (*SEEDS, "Its reasons", "Its holes") for row in rows(heading)]


@functools.cache
def names_in(path: str) -> set[str]:
    tree = ast.parse((CHECKOUT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_no_seed_and_no_row_is_missing() -> None:
    lines = [line for line in PARITY.splitlines() if line.startswith("| ")]
    assert len(ALL) == len([line for line in lines if not line.startswith("| there")])
    assert all(rows(seed) for seed in SEEDS)
    said = " ".join(row[0] for row in rows(SEEDS[0]))
    assert [option for option in OPTIONS if option not in said] == []
    assert [row[0].strip("`") for row in rows("Its reasons")] == list(REASONS)


@pytest.mark.parametrize("row", ALL, ids=lambda row: row[0])
def test_each_row_is_shown_by_tests_that_exist(row: list[str]) -> None:
    _there, here, tests = row
    assert here
    named = re.findall(r"`(tests/\S+)::(\w+)`", tests)
    assert named
    assert len(named) == len(tests.split(", "))
    for path, name in named:
        assert name in names_in(path), f"{path}::{name}"


@pytest.mark.parametrize("row", rows("Its reasons"), ids=lambda row: row[0])
def test_each_reason_has_reasons_of_ours(row: list[str]) -> None:
    codes = re.findall(r"`(\w+)`", row[1])
    assert codes
    assert [code for code in codes if code not in set(Reason)] == []
