"""How a notice says lengths: a time that data stays is never said longer than it was."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleanup.rules.policies.policy import ProofLevel
from cleanup.rules.policies.promise import Promise
from cleanup.text.notice import at_least, rules

pytestmark = pytest.mark.one_engine(by="function")

SECONDS = {"s": 1, "min": 60, "h": 3_600, "days": 86_400}


@given(length=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=9_999)))
def test_a_length_is_never_said_longer_than_it_was(length):
    number, unit = at_least(length).split()
    said = timedelta(seconds=int(number.replace(",", "")) * SECONDS[unit])
    assert said <= length < said + timedelta(seconds=SECONDS[unit])


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (59, "59 s"), (120, "2 min"), (31 * 3600 + 3599, "31 h"), (4 * 86_400, "4 days")]
)
def test_a_length_in_words(seconds, words):
    assert at_least(timedelta(seconds=seconds)) == words


def test_the_rules_where_data_may_go_at_once():
    hurried = Promise(scheduled=True, retain_hours=0, differing=True, proof=ProofLevel.SIZE)
    assert rules(hurried) == [
        "Automatic clearing may take data as soon as its copy on the NAS is verified.",
        "Some runs are kept longer, or only a person clears them.",
        "A person may clear a run earlier, as soon as its copy on the NAS is verified.",
        "The names and sizes of all files are compared with the copy before data goes, not every byte.",
    ]
    crowded = Promise(scheduled=True, retain_hours=24, crowded_hours=0, proof=ProofLevel.CHECKSUM)
    assert "When the staging disk is too full, it may take data at once." in rules(crowded)
