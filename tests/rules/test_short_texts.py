import pytest

from cleanup.rules.short_texts import shorten

pytestmark = pytest.mark.one_engine(by="function")


def test_a_text_that_fits_stays():
    assert shorten("a" * 40, 40, mark="…") == "a" * 40


def test_a_longer_one_is_told_apart_by_its_digest():
    one, other = shorten("a" * 40 + "b", 40, mark="…"), shorten("a" * 40 + "c", 40, mark="…")
    assert len(one) == len(other) == 40
    assert one[:8] == "aaaaaaa…"
    assert one != other


def test_a_name_that_is_no_text_is_shortened_too():
    assert len(shorten("\udcff" * 50, 40, mark=" ")) == 40
