"""Policies in words."""

import pytest

from cleanup.rules.policies.fields import LABELS, NAMES
from cleanup.rules.policies.policy import Mode, Policy, ProofLevel, Scope, ScopedPolicy, Stage
from cleanup.rules.policies.sentences import (
    PolicyChange,
    describe,
    describe_stage,
    differences,
    explain,
    name_scope,
    say_field,
    say_typed,
)

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
    assert set(NAMES) == fields
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


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        (Policy(), "FLOW_01 runs are kept until an operator clears them, proven by checksum."),
        (
            Policy(mode=Mode.SCHEDULED, retain_hours=6, min_retain_hours=6),
            "FLOW_01 runs are cleared 6 h after verification, proven by checksum.",
        ),
        (
            Policy(mode=Mode.SCHEDULED, retain_hours=0, min_retain_hours=0, proof=ProofLevel.RECORD),
            "FLOW_01 runs are cleared at once, as soon as verified, on the wizard's word alone.",
        ),
        (
            Policy(mode=Mode.SCHEDULED, retain_hours=48, min_retain_hours=0, proof=ProofLevel.SIZE),
            "FLOW_01 runs are cleared 2 days after verification, proven by names and sizes; "
            "where the disk is too full, at once, as soon as verified.",
        ),
        (
            Policy(mode=Mode.SCHEDULED, retain_hours=48, min_retain_hours=24, rehearsing=(3,)),
            "FLOW_01 runs are cleared 2 days after verification, proven by checksum; where the disk is too full, "
            "24 h after it. Not yet: version 3 is still rehearsed, and nothing goes by itself.",
        ),
        (
            Policy(
                mode=Mode.SCHEDULED,
                retain_hours=0,
                min_retain_hours=0,
                proof=ProofLevel.SIZE,
                rehearsing=(3,),
                meanwhile=Policy(mode=Mode.SCHEDULED, retain_hours=0, min_retain_hours=0),
            ),
            "FLOW_01 runs are cleared at once, as soon as verified, proven by names and sizes. Not yet: version 3 is "
            "still rehearsed, and until then runs are cleared at once, as soon as verified, proven by checksum.",
        ),
    ],
)
def test_says_in_a_sentence_what_happens_to_runs(policy, sentence):
    assert explain("FLOW_01 runs", policy) == sentence


def test_tells_two_versions_apart_field_by_field():
    before = ScopedPolicy(scope=Scope(), version=1, retain_hours=24, max_share=0.5)
    after = ScopedPolicy(scope=Scope(), version=2, retain_hours=48, proof=ProofLevel.SIZE, stage=Stage.REHEARSING)
    assert differences(before, after) == [
        PolicyChange("Kept after the verification", "24 h", "2 days"),
        PolicyChange("Proof", "left to wider scopes", "size"),
        PolicyChange("Stops and asks above this share of the staged bytes in a day", "50 %", "left to wider scopes"),
        PolicyChange("Rehearsal", "never", "rehearsed first"),
    ]
    assert differences(None, before)[0] == PolicyChange("Kept after the verification", "", "24 h")


def test_every_field_has_its_name():
    assert set(LABELS) == set(NAMES)
