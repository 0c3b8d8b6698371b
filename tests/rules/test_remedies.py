"""Every reason has a way out, or a sentence why it has none."""

import subprocess
import sys

import pytest

from cleanup.rules.reasons import Reason
from cleanup.rules.remedies import REMEDIES, Where
from tests.tools.checkout import CHECKOUT

pytestmark = pytest.mark.one_engine(by="function")


def labels():
    from cleanup.web.runs.status_text import StatusAction
    from cleanup.web.runs.ways_out.all_ways import WAYS

    templates = "".join(path.read_text() for path in (CHECKOUT / "templates").rglob("*.html"))
    return templates, {way.label.rstrip("…") for way in WAYS} | {str(action) for action in StatusAction}


def test_every_reason_has_a_remedy():
    assert set(REMEDIES) == set(Reason)


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_told_whole(reason):
    assert reason.sentence.endswith((".", "?")) and reason.advice.endswith(".")


def test_a_page_that_settles_a_reason_has_a_button_for_it():
    without = [reason for reason, remedy in REMEDIES.items() if remedy.where.is_page and not remedy.buttons]
    assert not without


def test_every_button_that_is_named_exists():
    templates, ours = labels()
    named = {button for remedy in REMEDIES.values() for button in remedy.buttons}
    assert not {button for button in named if button not in ours and f">{button}" not in templates}


def test_the_document_is_made_from_the_code():
    made = subprocess.run(
        [sys.executable, "docs/make_reasons.py"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert (CHECKOUT / "docs" / "reasons.md").read_text() == made.stdout


def test_what_has_no_button_says_why():
    for where in Where:
        assert where.is_page or len(where) > len("Nowhere"), where
