"""`docs/promises.md` names existing tests for every promise."""

import ast
import re

import pytest

from tests.faults import invariants, mutants
from tests.tools.checkout import CHECKOUT

pytestmark = pytest.mark.one_engine(by="function")


README = (CHECKOUT / "README.md").read_text()
PROMISES = (CHECKOUT / "docs" / "promises.md").read_text()


def parts() -> dict[str, str]:
    return {part.partition("\n")[0]: part for part in re.split(r"^## ", PROMISES, flags=re.MULTILINE)[1:]}


def named_in(text: str) -> list[str]:
    return re.findall(r"`(tests/\S+::\w+)`", text)


def promises() -> dict[int, list[str]]:
    numbered = {heading: part for heading, part in parts().items() if re.match(r"\d+\. ", heading)}
    return {int(heading.split(".")[0]): named_in(part) for heading, part in numbered.items()}


def promises_of_the_schedule() -> dict[str, list[str]]:
    return promises_below("The schedule")


def promises_of_batches() -> dict[str, list[str]]:
    return promises_below("Many runs at once")


def promises_below(heading: str) -> dict[str, list[str]]:
    items = re.split(r"^- \*\*", parts()[heading], flags=re.MULTILINE)[1:]
    return {item.partition("**")[0]: named_in(item) for item in items}


def assert_exist(named: list[str]) -> None:
    assert named
    for name in named:
        path, _, function = name.partition("::")
        tree = ast.parse((CHECKOUT / path).read_text())
        assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, name


def test_the_numbers_are_those_of_the_checks() -> None:
    checked = re.findall(r"^ ?(\d+) ", invariants.__doc__ or "", flags=re.MULTILINE)
    assert [int(number) for number in checked] == list(promises()) == list(range(1, 13))


def test_the_first_promise_names_the_signs_that_must_not_be_left_out() -> None:
    named = re.findall(r"^- \*\*(.+)\*\*", parts()["1. Twin"].replace("**,", ".**"), flags=re.MULTILINE)
    assert [name.rstrip(".").lower() for name in named] == [sign.name for sign in mutants.SIGNS]
    assert "No arrangement of mounts lets a run vouch for itself" in parts()["1. Twin"]
    assert "no arrangement of mounts" in README


@pytest.mark.parametrize("number", range(1, 13))
def test_each_promise_is_held_by_tests_that_exist(number: int) -> None:
    assert_exist(promises()[number])


def test_the_schedule_promises_what_it_always_did() -> None:
    assert len(promises_of_the_schedule()) >= 10


@pytest.mark.parametrize("promise", promises_of_the_schedule())
def test_each_promise_of_the_schedule_is_held_by_tests_that_exist(promise: str) -> None:
    assert_exist(promises_of_the_schedule()[promise])


@pytest.mark.parametrize("promise", promises_of_batches())
def test_each_promise_of_batches_is_held_by_tests_that_exist(promise: str) -> None:
    assert_exist(promises_of_batches()[promise])


def test_no_test_is_named_outside_of_a_promise() -> None:
    every = (promises(), promises_of_the_schedule(), promises_of_batches())
    held = [name for part in every for named in part.values() for name in named]
    assert held == named_in(PROMISES)
