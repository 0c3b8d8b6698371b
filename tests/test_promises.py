"""`docs/promises.md` names for each promise the tests that hold it; they must be there, and all promises with them."""

import ast
import re
from pathlib import Path

import pytest

from tests.faults import invariants

CHECKOUT = Path(__file__).resolve().parent.parent
PROMISES = (CHECKOUT / "docs" / "promises.md").read_text()


def promises() -> dict[int, list[str]]:
    """The numbered promises, each with the tests that it names."""
    parts = re.split(r"^## (?=\d+\. )", PROMISES, flags=re.MULTILINE)[1:]
    return {int(part.split(".")[0]): re.findall(r"`(tests/\S+::\w+)`", part) for part in parts}


def test_the_numbers_are_those_of_the_checks() -> None:
    checked = re.findall(r"^ ?(\d+) ", invariants.__doc__ or "", flags=re.MULTILINE)
    assert [int(number) for number in checked] == list(promises()) == list(range(1, 13))


@pytest.mark.parametrize("number", range(1, 13))
def test_each_promise_is_held_by_tests_that_exist(number: int) -> None:
    named = promises()[number]
    assert named
    for name in named:
        path, _, function = name.partition("::")
        tree = ast.parse((CHECKOUT / path).read_text())
        assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, name
