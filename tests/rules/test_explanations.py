"""Policies in the words of the lab."""

import pytest

from cleanup.rules.explanations import LABELS, Change, differences, explain
from cleanup.rules.policy import Mode, Policy, ProofLevel, Scope, ScopedPolicy, Stage
from cleanup.rules.sentences import FIELDS

pytestmark = pytest.mark.one_engine(by="function")


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
        Change("Kept after the verification", "24 h", "2 days"),
        Change("Proof", "left to wider scopes", "size"),
        Change("Stops and asks above this share of the staged bytes in a day", "50 %", "left to wider scopes"),
        Change("Rehearsal", "never", "rehearsed first"),
    ]
    assert differences(None, before)[0] == Change("Kept after the verification", "", "24 h")


def test_every_field_has_its_name():
    assert set(LABELS) == set(FIELDS)
