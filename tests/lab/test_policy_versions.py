"""Versions of policies: one after another, none lost."""

from datetime import datetime

import pytest

from cleanup.lab.policy_versions import Superseded, replace_version
from cleanup.models import RetentionPolicy

pytestmark = pytest.mark.django_db


def test_a_version_is_replaced_only_while_the_one_that_was_meant_is_in_force(now: datetime) -> None:
    written = {"author": "admin", "now": now, "mode": "manual"}
    first = replace_version(expected=0, **written)
    with pytest.raises(Superseded, match="version 0 was followed by version 1"):
        replace_version(expected=0, **written)
    other = replace_version(expected=0, equipment="FLOW_01", **written)
    with pytest.raises(Superseded, match="version 1 is none of this scope"):
        replace_version(expected=first.version, project="PROJ-0042", **written)
    assert (first.version, other.version) == (1, 2)
    assert replace_version(expected=first.version, **written).version == 3
    assert replace_version(expected=None, equipment="FLOW_01", **written).version == 4
    assert RetentionPolicy.objects.count() == 4
