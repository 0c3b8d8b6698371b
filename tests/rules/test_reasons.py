"""No code outside the closed list of reasons is used."""

import ast
import re
from collections.abc import Iterator

import pytest

from cleanup.rules.reasons import Reason
from tests.tools.checkout import CHECKOUT

pytestmark = pytest.mark.one_engine(by="function")


STORAGE = CHECKOUT / "cleanup" / "storage"
CARRIERS = {"TwinChanged", "IngestError", "ManifestError", "NotTold"}


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_a_code_with_one_sentence(reason: Reason) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", reason.value)
    assert reason.name == reason.value.upper()
    assert re.fullmatch(r"[A-Z].+[.?]", reason.sentence)
    assert "\n" not in reason.sentence


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_says_what_to_do_next(reason: Reason) -> None:
    assert re.fullmatch(r"[A-Z].+[.)]", reason.advice)
    assert reason.advice != reason.sentence


def test_no_two_reasons_say_the_same() -> None:
    sentences = [reason.sentence for reason in Reason]
    assert len(set(sentences)) == len(sentences) == len(set(Reason))


def test_a_reason_is_its_code_wherever_text_is_wanted() -> None:
    assert f"{Reason.NOT_QUIET}" == "not_quiet"
    assert Reason("not_quiet") is Reason.NOT_QUIET
    with pytest.raises(ValueError, match="no_such_reason"):
        Reason("no_such_reason")


def test_the_disk_uses_only_reasons_of_the_list() -> None:
    used = {code for path in sorted(STORAGE.rglob("*.py")) for code in codes_used(path.read_text())}
    assert {"unsafe_path", "ingest_unreadable", "manifest_empty", "nas_timeout"} <= used  # the search finds something
    assert used <= {reason.value for reason in Reason}


def test_the_search_finds_a_code_that_is_not_on_the_list() -> None:
    assert set(codes_used('raise ManifestError("manifest_odd")')) == {"manifest_odd"}
    assert set(codes_used('NotTold(reasons.get(code, "disk_odd"), "words")')) == {"disk_odd"}
    assert set(codes_used('reasons = {errno.EIO: "disk_odd"}')) == {"disk_odd"}
    assert set(codes_used('Finding(Reason.DISK_ODD, "words")')) == {"disk_odd"}
    assert set(codes_used('_unreadable("words")')) == set()


def codes_used(source: str) -> Iterator[str]:
    """The codes used in source: names of Reason, a carrier's first text, or in a table of reasons."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason":
            yield node.attr.lower()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CARRIERS and node.args:
            yield from _texts(node.args[0])
        elif isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "reasons" for target in node.targets
        ):
            yield from _texts(node.value)


def _texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Starred):
        return  # what another process said
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value
