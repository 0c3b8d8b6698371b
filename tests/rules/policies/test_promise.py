"""What is promised for an instrument holds for each of its runs."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleanup.rules.policies.effective import effective_policy, limits_of
from cleanup.rules.policies.policy import Layers, Mode, ProofLevel, Scope, ScopedPolicy, Stage
from cleanup.rules.policies.promise import promise_of

pytestmark = pytest.mark.one_engine(by="function")

KINDS = ("experimental", "test")
HERE: dict[str, Any] = {"root": "lab", "equipment": "FLOW_01"}
HOURS = st.sampled_from([None, 0.0, 6.0, 24.0, 72.0])


@st.composite
def scoped(draw: st.DrawFn) -> list[ScopedPolicy]:
    scopes = st.builds(
        Scope,
        root=st.sampled_from([None, "lab", "other"]),
        equipment=st.sampled_from([None, "FLOW_01", "CRYO"]),
        project=st.sampled_from([None, "PROJ-1", "PROJ-2"]),
        run_kind=st.sampled_from([None, *KINDS]),
    )
    found = []
    for version, scope in enumerate(draw(st.lists(scopes, max_size=5, unique=True)), start=1):
        policy = ScopedPolicy(
            scope=scope,
            version=version,
            mode=draw(st.sampled_from([None, *Mode])),
            retain_hours=draw(HOURS),
            min_retain_hours=draw(HOURS),
            proof=draw(st.sampled_from([None, *ProofLevel])),
            max_runs=draw(st.sampled_from([None, 10])) if scope in (Scope(), Scope(root="lab")) else None,
            stage=draw(st.sampled_from(list(Stage))),
        )
        layers = draw(st.sampled_from([None, Layers(absent=True), Layers(versions=(policy,), stopped=True)]))
        found.append(replace(policy, layers=layers))
    return found


@settings(max_examples=100, deadline=None)
@given(policies=scoped(), project=st.sampled_from(["PROJ-1", "PROJ-2", "PROJ-9"]), kind=st.sampled_from(KINDS))
def test_no_run_goes_earlier_or_with_less_proof_than_promised(policies, project, kind):
    promise = promise_of(policies, "lab", "FLOW_01", KINDS)
    policy = effective_policy(policies, Scope(project=project, run_kind=kind, **HERE))
    assert promise.proof.strength <= min(policy.proof.strength, policy.unasked.proof.strength)
    if policy.unasked.mode is not Mode.SCHEDULED:
        return
    assert promise.scheduled
    assert policy.unasked.retain_hours >= promise.retain_hours
    if limits_of(policies, "lab").unasked.max_runs is not None:
        least = promise.retain_hours if promise.crowded_hours is None else promise.crowded_hours
        assert policy.under_pressure().unasked.retain_hours >= least


def lab(**fields: Any) -> ScopedPolicy:
    return ScopedPolicy(scope=Scope(), version=1, **fields)


def test_nothing_is_promised_lower_than_needed():
    day = lab(mode=Mode.SCHEDULED, retain_hours=24, min_retain_hours=6)
    promise = promise_of([day], "lab", "FLOW_01", KINDS)
    assert (promise.retain_hours, promise.crowded_hours, promise.differing) == (24, None, False)
    assert promise.proof is ProofLevel.CHECKSUM
    full = ScopedPolicy(scope=Scope(root="lab"), version=2, free_start_bytes=10, free_stop_bytes=20)
    assert promise_of([day, full], "lab", "FLOW_01", KINDS).crowded_hours == 6
    assert promise_of([day, full], "other", "FLOW_01", KINDS).crowded_hours is None
    project = ScopedPolicy(scope=Scope(project="P"), version=3, retain_hours=2, proof=ProofLevel.SIZE)
    promise = promise_of([day, project], "lab", "FLOW_01", KINDS)
    assert (promise.retain_hours, promise.differing, promise.proof) == (2, True, ProofLevel.SIZE)
    elsewhere = ScopedPolicy(scope=Scope(equipment="CRYO", project="P"), version=3, retain_hours=2)
    assert promise_of([day, elsewhere], "lab", "FLOW_01", KINDS).retain_hours == 24
    assert not promise_of([], "lab", "FLOW_01", KINDS).scheduled
