"""A policy in words: where it applies, and what its fields say."""

import pytest

from cleanup.rules.policy import Mode, Policy, Scope, ScopedPolicy, Stage
from cleanup.rules.sentences import FIELDS, describe, describe_stage, name_scope, say_field, say_typed

pytestmark = pytest.mark.one_engine(by="function")


def version(**fields):
    return ScopedPolicy(scope=Scope(), version=1, **fields)


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        (Scope(), "the whole lab"),
        (Scope(root="lab"), "staging root lab"),
        (Scope(run_kind="test"), "test runs"),
        (Scope(equipment="FLOW_01", run_kind="test"), "FLOW_01, test runs"),
        (Scope(equipment="FLOW_01", project="PROJ-1"), "PROJ-1 on FLOW_01"),
        (
            Scope(root="lab", equipment="FLOW_01", project="PROJ-1", run_kind="test"),
            "PROJ-1 on FLOW_01, test runs, staging root lab",
        ),
    ],
)
def test_a_scope_has_a_name(scope, said):
    assert name_scope(scope) == said


def test_every_field_of_a_version_is_told():
    fields = set(ScopedPolicy.__dataclass_fields__) - {"scope", "version", "stage", "surprised", "layers", "layers_on"}
    assert set(FIELDS) == fields
    for name in fields:
        assert say_field(name, None) == "unset"


def test_stages():
    assert describe_stage(version(stage=Stage.REHEARSING), nights=None) == "rehearsed first for 3 nights"
    assert describe_stage(version(stage=Stage.REHEARSING), nights=1) == "rehearsed first for 1 night"
    assert describe_stage(version(stage=Stage.REHEARSING), nights=0) == "rehearsed until a person promotes it"
    assert describe_stage(version(stage=Stage.PROMOTED), nights=None) == "in force"
    assert describe_stage(version(stage=Stage.OFF), nights=None) == "in force, never rehearsed"


def test_keeping_a_run_for_no_time_is_said_as_what_it_does():
    assert say_field("retain_hours", 0) == say_field("min_retain_hours", 0.0) == "at once, as soon as verified"
    assert (say_field("stalled_after_hours", 0), say_typed("retain_hours", 0)) == ("0 h", "0 h")
    at_once = Policy(mode=Mode.SCHEDULED, retain_hours=0, min_retain_hours=0)
    assert "scheduled, cleared at once, as soon as verified, proven" in describe(version(), at_once, nights=None)
    full = Policy(mode=Mode.SCHEDULED, retain_hours=48, min_retain_hours=0)
    said = "kept 2 days after verification (at once, as soon as verified, where the disk is too full), proven"
    assert said in describe(version(), full, nights=None)
