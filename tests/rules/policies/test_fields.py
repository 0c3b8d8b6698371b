"""The table of policy fields is complete."""

import pytest

from cleanup.rules.policies.fields import CHOSEN, FIELD, FIELDS, NAMES, READERS, TAKING_FIELDS, FieldKind
from cleanup.rules.policies.policy import Beyond, Limits, Mode, Policy, ProofLevel, ScopedPolicy

pytestmark = pytest.mark.one_engine(by="function")


def test_each_field_is_one_of_a_version_and_of_what_applies():
    of_policy, of_limits, of_version = (set(kind.__dataclass_fields__) for kind in (Policy, Limits, ScopedPolicy))
    assert len(set(NAMES)) == len(NAMES)
    for field in FIELDS:
        assert field.name in of_version
        assert field.name in of_policy | of_limits
        assert field.label


def test_each_field_is_chosen_or_typed():
    assert {*CHOSEN, *READERS} == {*NAMES, "rehearsal_nights"}
    assert [field.name for field in FIELDS if field.choices] == list(CHOSEN)
    assert all(field.kind is FieldKind.CHOICE for field in FIELDS if field.choices)


@pytest.mark.parametrize(
    ("name", "loose", "strict"),
    [
        ("mode", Mode.SCHEDULED, Mode.MANUAL),
        ("proof", ProofLevel.SIZE, ProofLevel.CHECKSUM),
        ("only_here", Beyond.TELL, Beyond.BLOCK),
        ("retain_hours", 1, 2),
        ("min_retain_hours", 0, 1),
        ("max_bytes", 2**60, 2**60 + 1),
        ("max_runs", 1, 2),
        ("free_start_bytes", 2, 1),
        ("free_stop_bytes", 2**60 + 1, 2**60),
    ],
)
def test_the_stricter_value_keeps_more(name, loose, strict):
    field = FIELD[name]
    assert field.keeps(strict) > field.keeps(loose)
    assert field.is_stricter(loose, strict)
    assert not field.is_stricter(strict, loose)


@pytest.mark.parametrize("name", TAKING_FIELDS)
def test_an_unset_value_is_unknown_but_no_limit_keeps_more(name):
    field = FIELD[name]
    value = field.choices[0] if field.choices else 5
    assert not field.is_stricter(None, value)
    assert field.is_stricter(value, None) == (name in ("max_bytes", "max_runs", "free_start_bytes", "free_stop_bytes"))


def test_what_keeps_all_keeps_more_than_what_is_unknown():
    assert FIELD["mode"].is_stricter(None, Mode.MANUAL)
    assert FIELD["only_here"].is_stricter(None, Beyond.BLOCK)
    assert not FIELD["proof"].is_stricter(None, ProofLevel.CHECKSUM)
