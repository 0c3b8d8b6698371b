"""A policy in words: where it applies, what changed."""

import pytest

from cleanup.policy.retention import Mode, Scope, ScopedPolicy, Stage
from cleanup.policy.wording import FIELDS, changes, describe_stage, name_scope, say_field


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


def test_a_first_version_says_what_it_sets():
    first = version(mode=Mode.SCHEDULED, retain_hours=0.0, max_share=0.5, stage=Stage.REHEARSING)
    assert changes(None, first) == ["mode: scheduled", "retain hours: 0 h", "max share: 50 %", "rehearsal: rehearsing"]


def test_a_later_version_says_what_it_changes():
    before = version(mode=Mode.SCHEDULED, retain_hours=168.0, max_bytes=10**12, stage=Stage.REHEARSING)
    after = version(mode=Mode.SCHEDULED, retain_hours=24.0, budget_minutes=90.0, stage=Stage.PROMOTED)
    assert changes(before, after) == [
        "retain hours: 7 days → 24 h",
        "max bytes: 1 TB → unset",
        "budget minutes: unset → 90 min",
        "rehearsal: rehearsing → promoted",
    ]
    assert changes(after, after) == []


def test_every_field_of_a_version_is_told():
    fields = set(ScopedPolicy.__dataclass_fields__) - {"scope", "version", "stage", "unset"}
    assert set(FIELDS) == fields
    for name in fields:
        assert say_field(name, None) == "unset"


def test_stages():
    assert describe_stage(version(stage=Stage.REHEARSING), nights=None) == "rehearsed first for 3 nights"
    assert describe_stage(version(stage=Stage.REHEARSING), nights=1) == "rehearsed first for 1 night"
    assert describe_stage(version(stage=Stage.REHEARSING), nights=0) == "rehearsed until somebody promotes it"
    assert describe_stage(version(stage=Stage.PROMOTED), nights=None) == "in force"
    assert describe_stage(version(stage=Stage.OFF), nights=None) == "in force, never rehearsed"
