"""Checks under the names that people read; the documents have the same names."""

import pytest

from cleanup.rules.decisions import Gate
from cleanup.text.check_names import NAMES, RESULTS, check_name, result_of
from tests.tools.checkout import CHECKOUT

pytestmark = pytest.mark.one_engine


def test_each_check_has_a_name_of_its_own() -> None:
    assert set(NAMES) == set(Gate)
    assert len(set(NAMES.values())) == len(Gate)


def test_the_documents_have_the_same_names() -> None:
    gates, words = ((CHECKOUT / "docs" / name).read_text() for name in ("gates.md", "words.md"))
    for gate, name in NAMES.items():
        assert f"| `{gate}` | {name} |" in gates
        assert f"{name} (`{gate}`)" in words
    for verdict, word in RESULTS.items():
        assert f"{word} (`{verdict}`)" in words


@pytest.mark.parametrize(
    ("gate", "verdict", "reason", "words"),
    [
        ("path", "pass", "", "passed"),
        ("path", "block", "unsafe_path", "blocked"),
        ("unchanged", "wait", "not_quiet", "waits"),
        ("retention", "block", "policy_manual", "only by a click"),
        ("retention", "block", "accepted_bytes", "only by a click"),
        ("retention", "wait", "retention_not_elapsed", "waits"),
        ("breaker", "block", "breaker_open", "blocked"),
        ("of_another\u202eversion", "odd", "", "odd"),
    ],
)
def test_a_result_in_words(gate: str, verdict: str, reason: str, words: str) -> None:
    assert result_of(gate, verdict, reason) == words


def test_a_code_of_another_version_stays_as_it_is() -> None:
    assert check_name("of_another\u202eversion") == "of_another\\u202eversion"
