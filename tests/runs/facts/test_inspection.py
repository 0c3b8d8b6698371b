"""How facts are kept, and what old ones may decide."""

import dataclasses
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleanup.lab.roots import opening
from cleanup.models import RetentionPolicy, Run
from cleanup.rules.decisions import Gate, Verdict
from cleanup.rules.facts import AcceptedFacts, Facts, Finding, FutureFiles, LargeFile, OnlyHere, ProofFacts, TwinFacts
from cleanup.rules.gates import MAX_FAILURES, evaluate
from cleanup.rules.policies.policy import Policy, ProofLevel
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs import discovery
from cleanup.runs.facts import identity, inspection, shown_facts, stored_facts
from cleanup.runs.facts.stored_facts import freeze, thaw
from cleanup.runs.proofs import proofs
from cleanup.storage import errors, handles
from cleanup.storage.root_files import tokens
from tests.faults.scene import Scene, everything, set_scene
from tests.tools.lab import Lab, touch

pytestmark = pytest.mark.one_engine


TILE = "tiles/t_0001.tif"


@pytest.fixture
def scene(lab: Lab, root: Any, now: datetime) -> Scene:
    return set_scene(lab, root, now)


# Keeping facts

_instants = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))
_findings = st.lists(st.builds(Finding, st.sampled_from(Reason), st.text(max_size=5)), max_size=2).map(tuple)
_counts = st.none() | st.integers(0, 2**62)
_proofs = st.builds(
    ProofFacts,
    level=st.sampled_from(ProofLevel),
    findings=_findings,
    files=st.integers(0, 2**62),
    bytes=st.integers(0, 2**62),
    manifest_sha256=st.text(max_size=64),
)
_sizes = st.integers(0, 2**62)
_large_files = st.builds(
    LargeFile, path=st.text(max_size=9), bytes=_sizes, modified_at=st.none() | _instants, nas_bytes=_counts
)
_twins = st.builds(TwinFacts, files=_sizes, bytes=_sizes, newest_at=st.none() | _instants, missing=_sizes)
_future_files = st.builds(
    FutureFiles,
    count=st.integers(1, 9),
    names=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    newest_at=_instants,
    others_at=st.none() | _instants,
    digest=st.just("d1"),
    since=_instants,
)
_accepted = st.builds(
    AcceptedFacts,
    key=st.integers(1, 99),
    actor=st.text(max_size=9),
    at=_instants,
    note=st.text(max_size=9),
    holds=st.booleans(),
)
_facts = st.builds(
    Facts,
    gathered_at=_instants,
    recorded_state=st.none() | st.sampled_from(State),
    ingest_state=st.none() | st.sampled_from(State),
    ingest_findings=_findings,
    verified_at=st.none() | _instants,
    verified_first_seen_at=st.none() | _instants,
    path_findings=_findings,
    files=_counts,
    bytes=_counts,
    allocated_bytes=_counts,
    newest_data_at=st.none() | _instants,
    future=st.none() | _future_files,
    only_here=st.none()
    | st.builds(
        OnlyHere,
        attributes=st.integers(0, 9),
        access_lists=st.integers(0, 9),
        folders=st.integers(0, 9),
        names=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    ),
    newer_files=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    newer_count=st.integers(0, 9),
    tree_findings=_findings,
    proof=st.none() | _proofs,
    hold_file=st.none() | st.text(max_size=9),
    returned=st.booleans(),
    accepted=st.none() | _accepted,
    data_files=_counts,
    data_bytes=_counts,
    largest=st.lists(_large_files, max_size=3).map(tuple),
    twin=st.none() | _twins,
)


@given(_facts)
def test_facts_are_kept_and_found_again(facts: Facts) -> None:
    assert thaw(freeze(facts)) == facts


def test_every_fact_is_covered_above() -> None:
    of_the_moment = {"fresh", "other_attempt", "host_findings", "failures", "last_failure"}
    of_the_moment |= {"nas_retry_at"}
    of_the_moment |= {"holds", "budget_finding", "breaker_finding"}
    of_the_moment |= {"returned", "accepted"}  # kept only where it is so
    kept = {field.name for field in dataclasses.fields(Facts)} - of_the_moment
    assert set(freeze(Facts(gathered_at=datetime(2026, 1, 1, tzinfo=UTC)))) == kept


@given(_facts)
def test_what_is_true_of_a_moment_is_not_kept(facts: Facts) -> None:
    kept = thaw(freeze(dataclasses.replace(facts, fresh=True, other_attempt=True)))
    assert (kept.fresh, kept.other_attempt) == (False, False)


@given(_facts)
def test_facts_that_an_older_version_has_stored_are_read(facts: Facts) -> None:
    stored = {name: value for name, value in freeze(facts).items() if name not in stored_facts.ONLY_SHOWN}
    assert thaw(stored) == dataclasses.replace(facts, data_files=None, data_bytes=None, largest=(), twin=None)


@given(_facts, st.builds(Policy))
def test_what_pages_alone_show_decides_nothing(facts: Facts, policy: Policy) -> None:
    bare = dataclasses.replace(facts, data_files=None, data_bytes=None, largest=(), twin=None)
    at = datetime(2026, 6, 15, tzinfo=UTC)
    assert evaluate(facts, policy, at) == evaluate(bare, policy, at)


# Identity


@pytest.mark.parametrize(
    ("recorded", "seen", "same"),
    [
        ("1:2:a", "1:2:a", True),
        ("1:2:a", "9:2:a", False),
        ("1:2:a", "1:9:a", False),
        ("1:2:a", "1:2:b", False),
        ("1:-:a", "1:2:a", True),
        ("1:2:-", "1:2:a", True),
        ("1:2:a", "1:2:-", True),
        ("1:-:-", "2:-:-", False),
    ],
)
def test_a_part_that_is_not_known_says_nothing(recorded: str, seen: str, same: bool) -> None:
    assert identity.same(recorded, seen) is same


@pytest.mark.django_db
def test_identity_is_inode_birth_and_first_entry(scene: Scene) -> None:
    inode, birth, first = scene.run.identity.split(":")
    assert int(inode) == scene.path.stat().st_ino
    assert birth == "-" or birth.isdigit()
    assert scene.run.events.get(position=0).digest.startswith(first)
    with opening.reached(scene.run) as (opened, _reader):
        from cleanup.storage import linux

        assert identity.same(scene.run.identity, identity.of(linux.status(opened.run), None))


# Stored facts decide pages


@pytest.mark.django_db
def test_pages_decide_from_names_and_sizes(scene: Scene, now: datetime) -> None:
    decision = stored_facts.decision(scene.run, RetentionPolicy.objects.scoped(), now)
    assert decision.clearable
    assert not decision.due
    assert "proof_at_clear" in decision.gate(Gate.PROOF).detail
    facts = stored_facts.facts_of(scene.run)
    assert (facts.files, facts.bytes) == (scene.files, scene.bytes)
    assert (facts.gathered_at, facts.fresh) == (now, False)
    assert facts.verified_first_seen_at == now


@pytest.mark.django_db
def test_stored_facts_know_what_the_database_knows_by_now(scene: Scene, now: datetime) -> None:
    scene.run.state = "cleared"
    decision = stored_facts.decision(scene.run, [], now)
    assert decision.gate(Gate.STATE).reason is Reason.ALREADY_CLEARED
    scene.run.state = "sync_verified"
    decision = stored_facts.decision(scene.run, [], now, other_attempt=True)
    assert decision.gate(Gate.FREE).reason is Reason.ALREADY_CLEARING


@pytest.mark.django_db
def test_both_sides_are_described_with_the_largest_files(scene: Scene, lab: Lab, root: Any, now: datetime) -> None:
    for number, size in enumerate((5000, 9000, 9000, 7000)):
        for side in (lab.staging, lab.nas):
            (side / scene.run.run_path / f"big {number}\u202e.raw").write_bytes(b"x" * size)
    (lab.twin() / "big 3\u202e.raw").write_bytes(b"short")
    (lab.twin() / "big 0\u202e.raw").unlink()
    (lab.twin() / "more.txt").write_text("only here")
    discovery.discover(root, now=now)
    facts = stored_facts.facts_of(Run.objects.with_root().get())
    found = [(file.path, file.bytes, file.nas_bytes) for file in facts.largest[:4]]
    assert found == [
        ("big 1\\u202e.raw", 9000, 9000),
        ("big 2\\u202e.raw", 9000, 9000),
        ("big 3\\u202e.raw", 7000, 5),
        ("big 0\\u202e.raw", 5000, None),
    ]
    assert facts.largest[0].modified_at is not None
    data = {path: path.stat() for path in scene.path.rglob("*") if path.is_file() and ".exlab-wizard" not in path.parts}
    assert (facts.data_files, facts.data_bytes) == (len(data), sum(status.st_size for status in data.values()))
    assert len(facts.largest) == min(len(data), shown_facts.LARGEST_SHOWN)
    twin = facts.twin
    assert twin is not None
    assert (twin.files, twin.missing, twin.other_size, twin.more) == (len(data), 1, 1, 1)
    kept = [path for path in lab.twin().rglob("*") if path.is_file() and ".exlab-wizard" not in path.parts]
    assert twin.bytes == sum(path.stat().st_size for path in kept)
    assert twin.newest_at is not None
    assert abs(twin.newest_at.timestamp() - max(path.stat().st_mtime for path in kept)) < 1e-3


@pytest.mark.django_db
def test_few_large_files_are_kept_and_no_endless_name(lab: Lab, root: Any, now: datetime) -> None:
    deep = "/".join(letter * 250 for letter in "abcd")
    lab.run(files={f"{deep}/{number:03}.raw": b"x" * 99 for number in range(30)})
    discovery.discover(root, now=now)
    facts = Run.objects.get().facts
    assert len(facts["largest"]) == shown_facts.LARGEST_SHOWN
    paths = [file["path"] for file in facts["largest"]]
    assert {len(path) for path in paths} == {300}
    assert [path[-7:] for path in paths] == [f"{number:03}.raw" for number in range(10)]


@pytest.mark.django_db
def test_a_run_without_a_twin_misses_everything(lab: Lab, root: Any, now: datetime) -> None:
    lab.run(twin=False)
    discovery.discover(root, now=now)
    facts = stored_facts.facts_of(Run.objects.with_root().get())
    assert facts.data_files
    assert facts.twin == TwinFacts(files=0, bytes=0, missing=facts.data_files)
    lab.nas.rename(lab.nas.with_name("elsewhere"))
    discovery.discover(root, now=now)
    assert stored_facts.facts_of(Run.objects.with_root().get()).twin is None


@pytest.mark.django_db
def test_a_run_that_is_not_verified_has_no_twin_to_describe(lab: Lab, root: Any, now: datetime) -> None:
    lab.run(state="complete")
    discovery.discover(root, now=now)
    facts = stored_facts.facts_of(Run.objects.with_root().get())
    assert facts.twin is None
    assert facts.largest
    assert {file.nas_bytes for file in facts.largest} == {None}


@pytest.mark.django_db
def test_a_run_without_a_look_is_not_clearable(scene: Scene, now: datetime) -> None:
    Run.objects.update(facts={})
    run = Run.objects.with_root().get()
    decision = stored_facts.decision(run, [], now)
    assert not decision.clearable
    reasons = {result.gate: result.reason for result in decision.gates}
    assert reasons[Gate.PATH] is Reason.NOT_LOOKED_AT
    assert reasons[Gate.PROOF] is Reason.NOT_COMPARED


@pytest.mark.parametrize(
    "changes", [{"ingest_findings": [{"reason": "of_another_version", "detail": ""}]}, {"of_another_version": 1}]
)
@pytest.mark.django_db
def test_facts_of_another_version_are_as_good_as_none(scene: Scene, now: datetime, changes: dict[str, Any]) -> None:
    Run.objects.update(facts=scene.run.facts | changes)
    decision = stored_facts.decision(Run.objects.with_root().get(), [], now)
    assert not decision.clearable
    assert decision.gate(Gate.PATH).reason is Reason.NOT_LOOKED_AT


@pytest.mark.django_db
def test_old_facts_never_authorise(scene: Scene, now: datetime) -> None:
    """Stored facts are not fresh: `touched` files block until they are read again."""
    touch(scene.path / TILE, now - timedelta(hours=1))
    discovery.discover(scene.root, now=now)
    run = Run.objects.with_root().get()
    decision = stored_facts.decision(run, [], now)
    assert decision.gate(Gate.UNCHANGED).reason is Reason.CHANGED_SINCE_VERIFICATION
    assert decision.needs_full_comparison


# Fresh looks


def full_look(run: Run, policy: Policy, now: datetime) -> tuple[inspection.Look, Any]:
    with opening.reached(run) as (opened, reader):
        return inspection.look(run, opened, reader, policy, now, operator=True)


@pytest.mark.django_db
@pytest.mark.parametrize("level", ProofLevel)
def test_a_full_look_is_fresh_and_changes_nothing(scene: Scene, now: datetime, level: ProofLevel) -> None:
    before = everything(scene.lab)
    seen, decision = full_look(scene.run, Policy(proof=level), now)
    assert seen.facts.fresh
    assert decision.clearable
    assert seen.facts.proof is not None
    assert seen.facts.proof.level is (ProofLevel.CHECKSUM if level is ProofLevel.CHECKSUM else ProofLevel.SIZE)
    assert everything(scene.lab) == before
    assert seen.record == (scene.path / ".exlab-wizard/ingest.json").read_bytes()


@pytest.mark.django_db
def test_a_look_leaves_no_access_times(scene: Scene, now: datetime) -> None:
    old = now.timestamp() - 10**7
    files = [path for path in [*scene.path.rglob("*"), *scene.twin.rglob("*")] if path.is_file()]
    for path in files:
        os.utime(path, (old, path.stat().st_mtime))
    full_look(scene.run, Policy(), now)
    data = [path for path in files if ".exlab-wizard" not in path.parts]
    assert {path.stat().st_atime for path in data} == {old}


@pytest.mark.django_db
def test_bytes_are_not_read_where_something_else_refuses(
    scene: Scene, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scene.path / "extra").write_bytes(b"x")
    read: list[Any] = []
    monkeypatch.setattr(proofs, "compare_bytes", lambda *args: read.append(args))
    seen, decision = full_look(scene.run, Policy(), now)
    assert (read, seen.facts.fresh, decision.clearable) == ([], False, False)


@pytest.mark.django_db
def test_the_bytes_compared_are_told_on_the_way(scene: Scene, now: datetime) -> None:
    told: list[int] = []
    with opening.reached(scene.run) as (opened, reader):
        inspection.look(scene.run, opened, reader, Policy(), now, operator=True, progress=told.append)
    assert sum(told) >= scene.bytes - sum(
        seen.size for name, seen in scene.entries.items() if name.startswith(".exlab-wizard")
    )


@pytest.mark.django_db
def test_several_findings_are_all_told(scene: Scene, now: datetime) -> None:
    for number in range(5):
        (scene.path / f"extra-{number}").write_bytes(b"x")
    (scene.path / TILE).unlink()
    decision = inspection.quick_decision(scene.run, Policy(), now)
    unchanged = decision.gate(Gate.UNCHANGED)
    assert unchanged.verdict is Verdict.BLOCK
    assert unchanged.reason is Reason.NOT_IN_MANIFEST
    assert "5 files: extra-0, extra-1, extra-2 and 2 more" in unchanged.detail
    assert f"missing_file: 1 file: {TILE}" in unchanged.detail


@pytest.mark.django_db
def test_hostile_names_are_shown_as_a_person_can_read_them(scene: Scene, now: datetime) -> None:
    (scene.path / os.fsdecode(b"bad\xffname\x1b[31m\n")).write_bytes(b"x")
    detail = inspection.quick_decision(scene.run, Policy(), now).gate(Gate.UNCHANGED).detail
    assert "bad\\xffname\\x1b[31m\\n" in detail
    assert detail.isprintable()


@pytest.mark.django_db
def test_an_unreachable_run_has_a_decision(scene: Scene, now: datetime) -> None:
    scene.path.rename(scene.lab.base / "away")
    decision = inspection.quick_decision(scene.run, Policy(), now)
    assert decision.gate(Gate.PATH).reason is Reason.MISSING_DIRECTORY
    assert not decision.clearable


@pytest.mark.django_db
@pytest.mark.parametrize(
    "run_path", ["../../etc", "/etc/x/Runs/Run_2026-04-17T14-32", "A/../Runs/Run_2026-04-17T14-32", "A/B/Runs/.."]
)
def test_a_row_with_an_impossible_path_opens_nothing(
    scene: Scene, now: datetime, run_path: str, policy: Callable[..., Any]
) -> None:
    Run.objects.update(run_path=run_path)
    run = Run.objects.with_root().get()
    decision = inspection.quick_decision(run, Policy(), now)
    assert decision.gate(Gate.PATH).reason is Reason.UNSAFE_PATH
    with opening.open_root(run.root) as root, pytest.raises(opening.Unreachable):
        opening.open_run(root, run_path).__enter__()


@pytest.mark.django_db
def test_descriptors_are_closed(scene: Scene, now: datetime) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    for level in ProofLevel:
        full_look(scene.run, Policy(proof=level), now)
    discovery.discover(scene.root, now=now)
    (scene.lab.staging / ".exlab-root").unlink()
    inspection.quick_decision(scene.run, Policy(), now)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_the_token_is_read_from_a_plain_file_only(tmp_path: Any) -> None:
    os.mkfifo(tmp_path / ".exlab-root")
    with (
        handles.opened(handles.open_root(str(tmp_path))) as descriptor,
        pytest.raises((OSError, errors.WrongToken)),
    ):
        tokens.check_token(descriptor, "11111111-2222-3333-4444-555555555555")


def test_how_parked_runs_failed_last_is_asked_at_once(lab: Lab, root: Any, now: datetime) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    for leaf in ("Run_2026-01-01T00-00", "Run_2026-01-02T00-00", "Run_2026-01-03T00-00"):
        lab.run(f"FLOW_01/PROJ-0001/Runs/{leaf}")
    discovery.discover(root, now=now)
    Run.objects.update(failures=MAX_FAILURES)
    for run in Run.objects.order_by("run_path")[:2]:
        for hours, phase, reason in ((3, "refused", "nas_timeout"), (2, "aborted", "interrupted"), (1, "queued", "")):
            at = now - timedelta(hours=hours)
            run.attempts.create(
                host="h", requester="operator", actor="a", created_at=at, phase=phase, phase_at=at, reason=reason
            )
    one_by_one = [stored_facts.facts_of(run).last_failure for run in Run.objects.with_root().order_by("run_path")]
    runs = list(Run.objects.with_root().order_by("run_path"))
    with CaptureQueriesContext(connection) as asked:
        stored_facts.look_up_failures(runs)
    assert len(asked) == 1
    with CaptureQueriesContext(connection) as asked:
        at_once = [stored_facts.facts_of(run).last_failure for run in runs]
    assert len(asked) == 0
    assert at_once == one_by_one
    assert [Reason.INTERRUPTED.sentence in said for said in at_once] == [True, True, False]
