"""Whom `creation.json` names; instrument PCs can write anything there."""

import pytest

from cleanup.storage.staging.records.people import LONGEST_NAME, MOST_NAMES, people_in

pytestmark = pytest.mark.one_engine(by="function")


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ({"created_by": "asmith", "variables": {"operator": "asmith"}}, ("asmith",)),
        ({"created_by": "asmith", "variables": {"operator": "Bo  Jones\n"}}, ("asmith", "Bo Jones")),
        ({"operators": ["a", "b", "a", 3, None, ""], "variables": {"operators": ["c"]}}, ("a", "b", "c")),
        ({"created_by": ["x"], "operator": {"name": "y"}, "variables": "z"}, ("x",)),
        ({"created_by": 7, "variables": None}, ()),
        ({"created_by": " \t "}, ()),
        ({}, ()),
    ],
)
def test_names(said: dict[str, object], names: tuple[str, ...]) -> None:
    assert people_in(said) == names


def test_no_file_makes_many_or_long_names() -> None:
    said = {"created_by": "x" * 100_000, "operators": [str(number) for number in range(100_000)]}
    found = people_in(said)
    assert len(found) == MOST_NAMES
    assert found[0] == "x" * LONGEST_NAME
