"""`docs/parity.md` covers everything that the seeds do; every row names existing tests."""

import ast
import functools
import re

import pytest

import cleanup
from cleanup.rules.reasons import Reason
from tests.tools.checkout import CHECKOUT

pytestmark = pytest.mark.one_engine(by="function")


PARITY = (CHECKOUT / "docs" / "parity.md").read_text()
SEEDS = ("ExLab-Wizard's cleanup", "agent-exec `gc`", "The orphan reaper", "moadim")
WIZARD = ("ExLab-Wizard's cleanup", "`clear_run`", "`freed_bytes_and_count`", "Its watcher and its page")
GC = ("agent-exec `gc`", "Its reasons", "Its holes")

# The seeds' features, in their own words.
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
# `max_jobs` there keeps old runs: no limit here keeps any.
WITHOUT_COUNTERPART = ("policy_not_matched",)


def rows(heading: str) -> list[list[str]]:
    section = re.split(r"^#+ ", PARITY.partition(f" {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    table = [line.strip().strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in table[1:]]


ALL = [row for heading in dict.fromkeys((*WIZARD, *GC, *SEEDS)) for row in rows(heading)]


@functools.cache
def ids_in(path: str) -> set[str]:
    found = set()
    for node in ast.parse((CHECKOUT / path).read_text()).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {f"{prefix}{each.name}" for each in inner if isinstance(each, ast.FunctionDef)}
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


def test_no_seed_and_no_row_is_missing() -> None:
    lines = [line for line in PARITY.splitlines() if line.startswith("| ")]
    assert len(ALL) == len([line for line in lines if not line.startswith("| there")])
    assert all(rows(seed) for seed in SEEDS)
    said = " ".join(row[0] for row in rows("agent-exec `gc`"))
    assert [option for option in OPTIONS if option not in said] == []
    assert [row[0].split("`")[1] for row in rows("Its reasons")] == list(REASONS)


@pytest.mark.parametrize("row", ALL, ids=lambda row: row[0])
def test_each_row_is_shown_by_tests_that_exist(row: list[str]) -> None:
    _there, here, tests = row
    assert here
    named = re.findall(r"`(tests/[^\s`:]+)::([\w:]+)`", tests)
    assert named
    assert len(named) == len(tests.split(", "))
    for path, name in named:
        assert name in ids_in(path), f"{path}::{name}"


@pytest.mark.parametrize("row", rows("Its reasons"), ids=lambda row: row[0])
def test_each_reason_has_reasons_of_ours(row: list[str]) -> None:
    codes = re.findall(r"`(\w+)`", row[1])
    if row[0].split("`")[1] in WITHOUT_COUNTERPART:
        assert row[1].startswith("no counterpart: ")
        assert codes == []
        return
    assert codes
    assert [code for code in codes if code not in set(Reason)] == []


def test_the_ids_are_those_that_pytest_takes() -> None:
    assert "TestClock::test_no_instant_blocks" in ids_in("tests/rules/test_gates.py")
    assert "test_no_instant_blocks" not in ids_in("tests/rules/test_gates.py")
    assert "test_manual_clears_nothing_ever" in ids_in("tests/sweeps/test_all_roots.py")


@pytest.mark.parametrize("heading", WIZARD)
def test_each_function_of_the_wizard_has_its_rows(heading: str) -> None:
    assert rows(heading)


def test_every_function_of_the_wizard_is_named() -> None:
    assert [name for name in cleanup.__all__ if f"`{name}`" not in PARITY and f"`await {name}(" not in PARITY] == []
