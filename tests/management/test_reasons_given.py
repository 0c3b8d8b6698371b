"""Typed reasons and notes are kept whole or refused, never cut."""

from datetime import datetime

import pytest
from django.core.management import CommandError, call_command

from cleanup.models import StagingRoot
from cleanup.runs import discovery
from tests.tools.lab import RUN_PATH, Lab, snapshot

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

LONG = "x" * 501


@pytest.mark.parametrize(
    "arguments",
    [
        ("clear", RUN_PATH, "--reason", LONG),
        ("go_on", "--reason", LONG),
        ("hold", RUN_PATH, "--until", "2030-01-01", "--reason", LONG),
        ("mark_gone", RUN_PATH, "--reason", LONG),
        ("promote", "--note", LONG),
        ("reregister", RUN_PATH, "--reason", LONG),
        ("set_aside", RUN_PATH, "more.tif", "--reason", LONG),
        ("set_policy", "--mode", "manual", "--note", LONG),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_text_that_is_too_long_is_refused(
    lab: Lab, root: StagingRoot, now: datetime, arguments: tuple[str, ...]
) -> None:
    lab.run()
    discovery.discover(root, now=now)
    before = snapshot(lab.staging)
    with pytest.raises(CommandError, match="500"):
        call_command(*arguments)
    assert snapshot(lab.staging) == before
