"""Letters whose case is no simple pair, and letters that are written in two ways."""

import pytest

from cleanup.rules.folded_text import fold, fold_for_search

pytestmark = pytest.mark.one_engine(by="function")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("STRASSE", "straße"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("José", "JOSE\u0301"),
        ("ﬁle", "FILE"),
        ("Å", "\u212b"),
        ("\uff21lice", "ALICE"),
    ],
)
def test_the_same_name(one: str, other: str) -> None:
    assert one != other
    assert fold(one) == fold(other)
    assert fold_for_search(one) == fold_for_search(other)


def test_the_dots_of_a_turkish_i_do_not_count_for_a_search_and_do_for_a_name() -> None:
    assert len({fold_for_search(name) for name in ("İzmir", "izmir", "IZMIR", "\u0131zmir", "i\u0307zmir")}) == 1
    assert fold("İzmir") == fold("i\u0307zmir") != fold("izmir")


@pytest.mark.parametrize("text", ["", "x", "İ", "ß", "\u0301", "ﷺ", "\u0130\u0307", "ǰ\u0307\u0131"])
def test_folding_twice_is_folding_once(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert fold_for_search(fold_for_search(text)) == fold_for_search(text)
