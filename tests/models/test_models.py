"""What the database itself refuses, on both engines."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from cleanup.lab import policy_versions
from cleanup.ledger import book
from cleanup.models import (
    ClearAttempt,
    IngestEvent,
    LedgerEntry,
    Phase,
    RetentionPolicy,
    Run,
    StagingRoot,
)
from cleanup.rules.policies.policy import Mode, ProofLevel, Scope
from cleanup.rules.states import State

pytestmark = pytest.mark.django_db


@pytest.fixture
def staging_root() -> StagingRoot:
    return StagingRoot.objects.create(name="lab", host="labpc-04", path="/data/lab")


@pytest.fixture
def run(staging_root: StagingRoot, now: datetime) -> Run:
    return make_run(staging_root, now)


def make_run(root: StagingRoot, now: datetime, leaf: str = "Run_2026-04-17T14-32", **fields: Any) -> Run:
    defaults = {
        "run_path": f"FLOW_01/PROJ-1/Runs/{leaf}",
        "identity": "1:2:3",
        "equipment": "FLOW_01",
        "project": "PROJ-1",
        "run_kind": "experimental",
        "leaf": leaf,
        "first_seen_at": now,
    }
    return Run.objects.create(root=root, **{**defaults, **fields})


def make_event(run: Run, position: int, state: str, **fields: Any) -> IngestEvent:
    fields = {"digest": f"{position:064}", "first_seen_at": run.first_seen_at, **fields}
    return IngestEvent.objects.create(run=run, position=position, state=state, **fields)


def make_attempt(run: Run, phase: str = Phase.QUEUED, **fields: Any) -> ClearAttempt:
    at = run.first_seen_at
    defaults = {"host": "labpc-04", "requester": "operator", "actor": "ada", "created_at": at, "phase_at": at}
    return ClearAttempt.objects.create(run=run, phase=phase, **{**defaults, **fields})


def make_entry(attempt: ClearAttempt, kind: str, **fields: Any) -> LedgerEntry:
    run = attempt.run
    defaults = {
        "at": attempt.created_at,
        "root_name": run.root.name,
        "run_path": run.run_path,
        "equipment": run.equipment,
        "project": run.project,
        "run_kind": run.run_kind,
        "requester": attempt.requester,
        "actor": attempt.actor,
        "host": attempt.host,
        "policy_version": 0,
    }
    entry = LedgerEntry(run=run, attempt=attempt, kind=kind, **{**defaults, **fields})
    book.write(entry)
    return entry


def refuses(act: Callable[[], Any], constraint: str) -> None:
    with pytest.raises(IntegrityError) as error, transaction.atomic():
        act()
    expect_named(error, constraint)


def refuses_entry(attempt: ClearAttempt, kind: str, constraint: str) -> None:
    with pytest.raises(IntegrityError) as error:  # a row of the ledger has a transaction of its own
        make_entry(attempt, kind)
    expect_named(error, constraint)


def expect_named(error: pytest.ExceptionInfo[IntegrityError], constraint: str) -> None:
    # SQLite names the columns of a unique index, PostgreSQL the index itself.
    assert constraint in str(error.value) or "UNIQUE constraint failed" in str(error.value)


# Staging roots


@pytest.mark.parametrize("path", ["", "/"])
def test_the_filesystems_root_is_no_staging_root(path: str) -> None:
    refuses(
        lambda: StagingRoot.objects.create(name="all", host="labpc-04", path=path),
        "staging_root_is_no_filesystem_root",
    )


def test_a_path_is_registered_once_per_host(staging_root: StagingRoot) -> None:
    refuses(
        lambda: StagingRoot.objects.create(name="again", host="labpc-04", path="/data/lab"),
        "one_staging_root_per_host_and_path",
    )
    StagingRoot.objects.create(name="elsewhere", host="labpc-05", path="/data/lab")
    refuses(lambda: StagingRoot.objects.create(name="lab", host="labpc-06", path="/data/lab"), "name")


# Runs


@pytest.mark.parametrize("state", ["", *State])
def test_every_known_state_is_accepted(staging_root: StagingRoot, now: datetime, state: str) -> None:
    assert make_run(staging_root, now, state=state).state == state


def test_an_unknown_state_is_refused(staging_root: StagingRoot, now: datetime, run: Run) -> None:
    refuses(lambda: make_run(staging_root, now, "Run_2026-04-18T14-32", state="gone"), "run_state_is_known")
    refuses(lambda: Run.objects.update(state="verified"), "run_state_is_known")
    refuses(lambda: Run.objects.update(run_kind="trial"), "run_kind_is_known")


def test_one_staged_run_per_path_however_many_were_cleared(staging_root: StagingRoot, now: datetime, run: Run) -> None:
    refuses(lambda: make_run(staging_root, now), "one_staged_run_per_path")
    Run.objects.update(state=State.CLEARED)
    make_run(staging_root, now)
    make_run(staging_root, now, state=State.CLEARED)
    assert Run.objects.count() == 3
    refuses(lambda: Run.objects.filter(pk=run.pk).update(state=State.SYNC_VERIFIED), "one_staged_run_per_path")


def test_staged_and_verified_read_as_words(staging_root: StagingRoot, now: datetime) -> None:
    for number, state in enumerate(["", *State]):
        make_run(staging_root, now, f"Run_2026-04-1{number}T14-32", state=state)
    assert Run.objects.staged().count() == 5
    assert [run.state for run in Run.objects.verified()] == ["sync_verified"]


# History


def test_history_has_one_entry_per_position_and_content(run: Run) -> None:
    make_event(run, 0, "staging")
    refuses(lambda: make_event(run, 0, "complete", digest="f" * 64), "one_ingest_event_per_position")
    refuses(lambda: make_event(run, 1, "complete", digest=f"{0:064}"), "one_ingest_event_per_content")
    refuses(lambda: make_event(run, 1, "verified"), "ingest_event_state_is_known")


def test_a_run_is_cleared_once(run: Run) -> None:
    make_event(run, 4, "cleared")
    refuses(lambda: make_event(run, 5, "cleared"), "one_cleared_event_per_run")
    make_event(run, 5, "sync_verified")


# Attempts


@pytest.mark.parametrize("second", ["queued", "intent", "committed"])
@pytest.mark.parametrize("first", ["queued", "intent", "committed"])
def test_one_active_attempt_per_run(run: Run, first: str, second: str) -> None:
    make_attempt(run, first)
    refuses(lambda: make_attempt(run, second), "one_active_attempt_per_run")


def test_any_number_of_attempts_that_ended(run: Run) -> None:
    for phase in ("done", "refused", "aborted", "conflict", "refused", "queued"):
        make_attempt(run, phase)
    refuses(lambda: make_attempt(run, "exploded"), "attempt_phase_is_known")
    refuses(lambda: make_attempt(run, "done", requester="robot"), "attempt_requester_is_known")


def test_the_phase_changes_by_compare_and_set(run: Run, now: datetime) -> None:
    mine = make_attempt(run)
    theirs = ClearAttempt.objects.get()
    assert theirs.advance([Phase.QUEUED], Phase.INTENT, now=now, reason="first")
    assert not mine.advance([Phase.QUEUED], Phase.REFUSED, now=now, reason="second")
    assert mine.phase == "queued"
    mine.refresh_from_db()
    assert (mine.phase, mine.reason) == ("intent", "first")


# The ledger


@pytest.mark.parametrize("kind", ["completed", "authorised"])
def test_an_attempt_is_authorised_and_completed_once(run: Run, kind: str) -> None:
    attempt = make_attempt(run)
    make_entry(attempt, kind)
    refuses_entry(attempt, kind, f"one_{kind}_entry_per_attempt")
    make_entry(make_attempt(run, "done"), kind)


def test_partial_rows_may_follow_each_other(run: Run) -> None:
    attempt = make_attempt(run)
    make_entry(attempt, "partial")
    make_entry(attempt, "partial")
    refuses_entry(attempt, "guessed", "ledger_kind_is_known")


def test_totals_count_what_was_freed_and_nothing_else(run: Run) -> None:
    assert LedgerEntry.objects.totals() == {"runs": 0, "files": 0, "bytes": 0, "allocated_bytes": 0}
    attempt = make_attempt(run, "done")
    make_entry(attempt, "authorised", files=10, bytes=1000)
    make_entry(attempt, "partial", files=6, bytes=600, allocated_bytes=4096)
    make_entry(attempt, "completed", files=4, bytes=400, allocated_bytes=8192)
    make_entry(make_attempt(run, "refused"), "refused", files=10, bytes=1000)
    assert LedgerEntry.objects.totals() == {"runs": 1, "files": 10, "bytes": 1000, "allocated_bytes": 12288}


def test_petabytes_add_up(run: Run) -> None:
    attempt = make_attempt(run, "done")
    make_entry(attempt, "completed", files=2**40, bytes=2**60)
    assert LedgerEntry.objects.totals()["bytes"] == 2**60


# Policies


def add(now: datetime, **fields: Any) -> RetentionPolicy:
    return policy_versions.add_version(author="admin", now=now, **fields)


def test_a_policy_version_carries_over_what_is_not_named(now: datetime, staging_root: StagingRoot) -> None:
    add(now, mode="scheduled", retain_hours=24)
    add(now, equipment="FLOW_01", retain_hours=1)
    last = add(now, proof="size")
    assert (last.version, last.mode, last.retain_hours, last.proof) == (3, "scheduled", 24, "size")
    assert (last.equipment, last.author) == ("", "admin")
    zero = add(now, retain_hours=0)
    assert zero.retain_hours == 0
    assert add(now, mode="manual").retain_hours == 0
    flow = add(now, equipment="FLOW_01", mode="scheduled")
    assert (flow.retain_hours, flow.proof) == (1, "")
    rooted = add(now, root=staging_root, proof="record")
    assert (rooted.mode, rooted.retain_hours, rooted.scope) == ("", None, Scope(root="lab"))


def test_the_newest_version_of_each_scope_is_in_force(now: datetime, run: Run) -> None:
    add(now, mode="scheduled", retain_hours=24)
    add(now, equipment="FLOW_01", proof="size")
    add(now, retain_hours=48)
    assert sorted(policy.version for policy in RetentionPolicy.objects.in_force()) == [2, 3]
    policy = RetentionPolicy.objects.effective_for(run)
    assert (policy.mode, policy.retain_hours, policy.proof) == (Mode.SCHEDULED, 48, ProofLevel.SIZE)
    assert policy.version == 3


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"retain_hours": -0.001}, "policy_retain_hours_is_sane"),
        ({"retain_hours": 87_661.0}, "policy_retain_hours_is_sane"),
        ({"mode": "sometimes"}, "policy_mode_is_known"),
        ({"proof": "hope"}, "policy_proof_is_known"),
        ({"run_kind": "trial"}, "policy_run_kind_is_known"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(now: datetime, fields: dict[str, Any], constraint: str) -> None:
    refuses(
        lambda: RetentionPolicy(version=1, author="admin", created_at=now, **fields).save(),
        constraint,
    )
    with pytest.raises(ValidationError):
        add(now, **fields)
    assert not RetentionPolicy.objects.exists()


@pytest.mark.parametrize("hours", [float("nan"), float("inf")])
def test_hours_that_are_no_number_are_refused(now: datetime, hours: float) -> None:
    with pytest.raises((ValidationError, IntegrityError)), transaction.atomic():
        add(now, retain_hours=hours)
    assert not RetentionPolicy.objects.exists()


def test_a_version_number_is_given_once(now: datetime) -> None:
    add(now, mode="manual")
    refuses(lambda: RetentionPolicy(version=1, author="x", created_at=now, mode="scheduled").save(), "version")


# Protected relations


def test_nothing_that_the_ledger_speaks_of_can_be_removed(run: Run, staging_root: StagingRoot) -> None:
    make_entry(make_attempt(run, "done"), "completed")
    for thing in (run, staging_root, ClearAttempt.objects.get()):
        with pytest.raises(IntegrityError), transaction.atomic():
            thing.delete()


# Groups


LOOK = {
    f"view_{name}"
    for name in (
        "alert",
        "clearattempt",
        "clearbatch",
        "diskusage",
        "hold",
        "ingestevent",
        "instrument",
        "ledgerentry",
        "orphan",
        "project",
        "proof",
        "retentionpolicy",
        "run",
        "stagingroot",
        "surprise",
        "sweep",
        "sweepbreaker",
        "sweptrun",
    )
}


@pytest.mark.parametrize(
    ("group", "may"),
    [("viewer", LOOK), ("operator", LOOK | {"clear_run", "hold_run", "go_on"}), ("auditor", {"audit"})],
)
def test_groups_have_exactly_their_permissions(group: str, may: set[str]) -> None:
    made = Group.objects.get(name=group)
    assert set(made.permissions.values_list("codename", flat=True)) == may
    assert set(made.permissions.values_list("content_type__app_label", flat=True)) == {"cleanup"}


def test_only_operators_may_clear() -> None:
    viewer, operator = User.objects.create(username="vera"), User.objects.create(username="olaf")
    viewer.groups.add(Group.objects.get(name="viewer"))
    operator.groups.add(Group.objects.get(name="operator"))
    assert not viewer.has_perm("cleanup.clear_run")
    assert operator.has_perm("cleanup.clear_run")
    assert viewer.has_perm("cleanup.view_run")
    assert not operator.has_perm("cleanup.change_run")
    assert {group.name for group in Group.objects.all()} == {"viewer", "operator", "auditor"}


def test_an_attempt_knows_whether_it_is_under_way(run: Run, now: datetime) -> None:
    attempt = make_attempt(run)
    assert run.active_attempt == attempt
    assert attempt.is_active
    attempt.advance([Phase.QUEUED], Phase.REFUSED, now=now + timedelta(hours=1))
    assert run.active_attempt is None
    assert not attempt.is_active
