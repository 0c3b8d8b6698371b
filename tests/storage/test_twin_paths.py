"""Layouts of a NAS."""

import pytest

from cleanup.storage.run_paths import RunPath
from cleanup.storage.twin_paths import NAMED, LayoutError, as_one_name, parse_layout, twin_path

pytestmark = pytest.mark.one_engine(by="function")


RUN = RunPath("CONFOCAL_01", "PROJ-0042", "Runs", "Run_2026-04-17T14-32")
TEST_RUN = RunPath("CONFOCAL_01", "Cortex Q3", "TestRuns", "TestRun_2026-04-17T14-32")


@pytest.mark.parametrize(
    ("nas_layout", "run", "test_run"),
    [
        ("run-path", str(RUN), str(TEST_RUN)),
        ("equipment/leaf", "CONFOCAL_01/Run_2026-04-17T14-32", "CONFOCAL_01/TestRun_2026-04-17T14-32"),
        ("leaf", "Run_2026-04-17T14-32", "TestRun_2026-04-17T14-32"),
        (
            "lab/{project}/{kind}/{equipment}-{leaf}",
            "lab/PROJ-0042/Runs/CONFOCAL_01-Run_2026-04-17T14-32",
            "lab/Cortex Q3/TestRuns/CONFOCAL_01-TestRun_2026-04-17T14-32",
        ),
    ],
)
def test_each_layout_has_a_place_for_each_run(nas_layout: str, run: str, test_run: str) -> None:
    assert parse_layout(nas_layout) == nas_layout
    assert [twin_path(nas_layout, path) for path in (RUN, TEST_RUN)] == [run, test_run]


@pytest.mark.parametrize("name", NAMED)
def test_a_template_that_is_spelled_like_a_named_layout_is_that_layout(name: str) -> None:
    assert parse_layout(NAMED[name]) == name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no {leaf}"),
        ("{equipment}/{project}", "no {leaf}"),
        ("{leaf}/{run}", r"names \{run\}"),
        ("{leaf", "brace|no {leaf}"),
        ("{leaf}}", "brace"),
        ("{{leaf}}", "brace"),
        ("/{leaf}", "no relative path"),
        ("../{leaf}", "no relative path"),
        ("a/../{leaf}", "no relative path"),
        ("a//{leaf}", "no relative path"),
        (".hidden/{leaf}", "no relative path"),
        ("a\n/{leaf}", "no relative path"),
        ("{leaf}/", "no relative path"),
        ("x" * 255 + "{leaf}", "at most 255"),
    ],
)
def test_what_is_no_layout_is_said(text: str, said: str) -> None:
    with pytest.raises(LayoutError, match=said):
        parse_layout(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("EQ/Run_A", "eq/run_a"),
        ("EQ/Run_\u00e9", "EQ/Run_e\u0301"),
        ("EQ/Run_1\u00b5", "EQ/Run_1\u03bc"),
        ("EQ/Run_Stra\u00dfe", "EQ/Run_STRASSE"),
        ("EQ/Run_a", "EQ/Run_a. ."),
        ("EQ/Run_a", "EQ./Run_a"),
    ],
)
def test_names_that_a_nas_may_take_for_one(one: str, other: str) -> None:
    assert as_one_name(one) == as_one_name(other)
    assert as_one_name(f"{one}/x") == as_one_name(f"{other}/x")


@pytest.mark.parametrize(("one", "other"), [("EQ/a.b", "EQ/ab"), ("EQ/a", "EQ/a/b"), ("a/b", "ab"), ("EQ/.", "EQ/..")])
def test_names_that_every_nas_tells_apart(one: str, other: str) -> None:
    assert as_one_name(one) != as_one_name(other)
