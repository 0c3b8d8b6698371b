"""Each reason has short words of its own, which fit into the narrowest picture."""

import pytest

from cleanup.rules.reasons import Reason
from cleanup.text import reason_words
from cleanup.text.reason_words import short_words
from cleanup.web.audit import plot

pytestmark = pytest.mark.one_engine


def test_each_reason_has_short_words_of_its_own() -> None:
    words = [short_words(reason) for reason in Reason]
    assert len(set(words)) == len(words)
    assert max(map(len, words)) <= reason_words.LONGEST <= min(plot._LEGEND_TEXT.values())


def test_other_codes_are_told_as_they_are() -> None:
    assert short_words("of_another\u202eversion") == "of another\\u202eversion"
    assert short_words("") == "not settled yet"
