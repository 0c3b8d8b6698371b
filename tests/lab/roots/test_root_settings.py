"""What an admin changes of a registered root in the browser."""

from datetime import datetime, time

import pytest

from cleanup.lab.roots import root_settings
from cleanup.lab.roots.root_checks import RegistrationError
from cleanup.models import RootNote, StagingRoot

pytestmark = pytest.mark.one_engine


def test_changes_are_noted_with_who(root: StagingRoot, now: datetime) -> None:
    values = {"name": "lab east", "prove_from": time(20), "prove_until": time(6), "nas_layout": "leaf"}
    told = root_settings.change(root, values, author="ada", now=now)
    assert told[0] == "name: lab → lab east"
    root.refresh_from_db()
    assert (root.name, root.prove_from, root.nas_layout) == ("lab east", time(20), "leaf")
    notes = list(RootNote.objects.order_by("pk").values_list("event", "author", "note"))[1:]
    # Another layout is another place of all copies: the schedule rehearses there first.
    assert notes == [("changed", "ada", "; ".join(told)), ("came", "ada", "its layout is another one")]
    assert root_settings.change(root, values, author="ada", now=now) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": " "}, "short printable name"),
        ({"prove_from": time(1)}, "both hours"),
        ({"nas_layout": "{equipment}"}, "has no {leaf}"),
        ({"prove_bytes_per_second": -1}, "greater than or equal to 0"),
    ],
)
def test_what_is_refused_changes_nothing(root: StagingRoot, now: datetime, values, words: str) -> None:
    before = StagingRoot.objects.values().get()
    with pytest.raises(RegistrationError, match=words):
        root_settings.change(root, values, author="ada", now=now)
    assert StagingRoot.objects.values().get() == before
    assert RootNote.objects.count() == 1


def test_a_retired_one_is_not_changed(root: StagingRoot, now: datetime) -> None:
    StagingRoot.objects.update(retired_at=now)
    with pytest.raises(RegistrationError, match="take it up again first"):
        root_settings.change(root, {"name": "other"}, author="ada", now=now)
