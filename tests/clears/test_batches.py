"""Only shown runs go, none begins while paused, and each goes once."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.utils import timezone
from django_q.models import OrmQ

from cleanup import tasks
from cleanup.clears import batches, preview, protocol, queue, recovery, settlement
from cleanup.clears.batches import NotConfirmed, RunsChanged
from cleanup.clears.preview import ClearPreview, Fate, RequestedRuns
from cleanup.clears.progress import measure
from cleanup.clears.queue import ClearRequest
from cleanup.lab import policy_versions
from cleanup.ledger import entries
from cleanup.models import (
    Access,
    ClearAttempt,
    ClearBatch,
    LedgerEntry,
    Phase,
    Proof,
    Requester,
    Run,
    StagingRoot,
    Status,
)
from cleanup.rules.facts import Finding, ProofFacts
from cleanup.rules.policies.policy import ProofLevel
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery, run_status
from cleanup.runs.facts import inspection
from cleanup.runs.holds import holds
from cleanup.runs.proofs import proofs
from tests.faults import means
from tests.faults.scene import everything
from tests.tools import sites
from tests.tools.lab import Lab, touch
from tests.tools.pages import register

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

BIG = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-32"
MIDDLE = "FLOW_01/PROJ-0060/Runs/Run_2026-04-18T16-20"
SMALL = "FLOW_01/PROJ-0060/TestRuns/TestRun_2026-04-19T09-12"
NOBODY_KNOWS = 987_654_321


@dataclass(frozen=True)
class Room:
    lab: Lab
    root: StagingRoot
    now: datetime
    operator: User

    @property
    def keys(self) -> list[int]:
        return list(Run.objects.order_by("pk").values_list("pk", flat=True))

    def key(self, run_path: str) -> int:
        return Run.objects.get(run_path=run_path).pk

    def look(self, *, at: datetime | None = None, user: User | None = None) -> ClearPreview:
        who = User.objects.get(pk=(user or self.operator).pk)  # places are kept with the object
        return preview.preview(who, RequestedRuns.of(self.keys), at or self.now)

    def place(
        self, shown: ClearPreview, *, user: User | None = None, key: uuid.UUID | None = None, **more: Any
    ) -> ClearBatch:
        who = User.objects.get(pk=(user or self.operator).pk)
        asked = RequestedRuns.parse(shown.keys)
        return batches.place(who, asked, digest=shown.digest, key=key or uuid.uuid4(), now=self.now, **more)

    def batch(self) -> ClearBatch:
        return self.place(self.look())

    def discover(self) -> None:
        discovery.discover(self.root, now=self.now + timedelta(minutes=1))

    def paths(self) -> set[str]:
        return {path for path in (BIG, MIDDLE, SMALL) if (self.lab.staging / path).exists()}


def operator(name: str) -> User:
    user = User.objects.create_user(name)
    user.groups.add(Group.objects.get(name="operator"))
    return user


def build(lab: Lab, now: datetime) -> None:
    root = register(lab, now)
    lab.run(BIG, files={"stack.tif": b"b" * 9000})
    lab.run(MIDDLE, files={"plate.fcs": b"m" * 4000})
    lab.run(SMALL, files={"plate.csv": b"1,2\n"})
    discovery.discover(root, now=now)
    operator("ada")


def enter(lab: Lab, now: datetime) -> Room:
    return Room(lab, StagingRoot.objects.get(name="lab"), now, User.objects.get(username="ada"))


@pytest.fixture
def room(db: None, now: datetime, tmp_path_factory: pytest.TempPathFactory) -> Room:
    return enter(sites.lay("room", lambda lab: build(lab, now), tmp_path_factory), now)


def run_tasks() -> list[str]:
    begun = []
    for task in OrmQ.objects.order_by("pk"):
        (attempt,) = task.task["args"]
        before = ClearAttempt.objects.get(pk=attempt).phase
        tasks.clear(attempt)
        task.delete()
        after = ClearAttempt.objects.select_related("run").get(pk=attempt)
        if before == Phase.QUEUED != after.phase:
            begun.append(after.run.run_path)
    return begun


def phases(batch: ClearBatch) -> dict[str, str]:
    return dict(batch.attempts.values_list("run__run_path", "phase"))


# The question


def test_a_preview_says_what_goes_the_largest_first_and_where_its_twin_lies(room: Room) -> None:
    shown = room.look()
    assert [item.run.run_path for item in shown.going] == [BIG, MIDDLE, SMALL]
    assert [item.nas_path for item in shown.going] == [f"{room.lab.nas}/{path}" for path in (BIG, MIDDLE, SMALL)]
    assert shown.staying == ()
    assert shown.files == sum(run.files or 0 for run in Run.objects.all())
    assert shown.bytes == sum(run.bytes or 0 for run in Run.objects.all())
    assert shown.allocated_bytes == sum(run.facts["allocated_bytes"] for run in Run.objects.all())
    assert not shown.confirms


@pytest.mark.parametrize(("proof", "nas", "on_trust"), [("record", True, 3), ("size", True, 0), ("record", False, 3)])
def test_what_goes_on_the_wizards_word_alone_is_counted(room: Room, proof: str, nas: bool, on_trust: int) -> None:
    policy_versions.add_version(author="ada", now=room.now, proof=proof)
    if not nas:
        StagingRoot.objects.update(nas_path="")
    shown = room.look()
    assert (len(shown.going), shown.on_trust) == (3, on_trust)


def test_a_place_taken_away_while_the_request_waits_for_its_locks_places_nothing(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewers, clearers = (Group.objects.create(name=name) for name in ("those who look", "those who clear"))
    for group, codename in ((viewers, "view_run"), (clearers, "clear_run")):
        group.permissions.add(Permission.objects.get(codename=codename, content_type__app_label="cleanup"))
    user = User.objects.create_user("eve")
    user.groups.add(viewers, clearers)
    Access.objects.create(group=viewers, root=room.root)
    taken = Access.objects.create(group=clearers, root=room.root)
    shown = room.look(user=user)
    assert shown.going
    with means.after(monkeypatch, batches, "_lock", taken.delete), pytest.raises(RunsChanged):
        room.place(shown, user=user, typed=shown.number)
    assert not ClearBatch.objects.exists()


def test_what_stays_is_grouped_by_its_reason(room: Room) -> None:
    hold(room, MIDDLE)
    (room.lab.staging / SMALL / "late.txt").write_text("late")
    touch(room.lab.staging / SMALL / "late.txt", datetime(2026, 4, 19, 10, tzinfo=room.now.tzinfo))
    room.discover()
    shown = room.look()
    assert [item.run.run_path for item in shown.going] == [BIG]
    assert {group.reason: [item.run.run_path for item in group.items] for group in shown.groups} == {
        Reason.HELD: [MIDDLE],
        Reason.NOT_IN_MANIFEST: [SMALL],
    }


def test_a_touched_run_goes_only_with_every_byte_compared_and_a_failed_one_says_how_it_failed(room: Room) -> None:
    touch(room.lab.staging / BIG / "stack.tif", room.now - timedelta(days=1))
    room.discover()
    failed = queue.new_attempt(
        Run.objects.with_root().get(run_path=SMALL),
        ClearRequest(requester=Requester.OPERATOR, actor="ada"),
        now=room.now,
    )
    later = room.now + timedelta(hours=1)
    finding = Finding(Reason.NAS_TIMEOUT)
    settlement.finish_without_clear(failed, Phase.REFUSED, finding, now=later)
    fates = {item.run.run_path: (item.fate, item.reason) for item in room.look(at=later).items}
    assert fates == {
        BIG: (Fate.FULL, Reason.CHANGED_SINCE_VERIFICATION),
        MIDDLE: (Fate.CLEARS, ""),
        SMALL: (Fate.AGAIN, Reason.NAS_TIMEOUT),
    }


def test_what_is_gone_cleared_or_on_a_root_in_trouble_stays(room: Room) -> None:
    Run.objects.filter(run_path=BIG).update(gone_at=room.now)
    Run.objects.filter(run_path=MIDDLE).update(state="cleared")
    StagingRoot.objects.update(problem=Reason.ROOT_NOT_MOUNTED)
    assert {item.run.run_path: item.reason for item in room.look().staying} == {
        BIG: Reason.IDENTITY_MISMATCH,
        MIDDLE: Reason.ALREADY_CLEARED,
        SMALL: Reason.ROOT_NOT_MOUNTED,
    }


def test_unknown_runs_are_counted_and_not_named(room: Room) -> None:
    shown = preview.preview(room.operator, RequestedRuns.of([*room.keys, NOBODY_KNOWS]), room.now)
    assert (len(shown.items), shown.unknown) == (3, (NOBODY_KNOWS,))
    room.place(shown)


def test_a_recent_comparison_of_every_byte_is_shown(room: Room) -> None:
    run = Run.objects.get(run_path=BIG)
    old = keep_proof(run, room.now - timedelta(hours=25))
    assert proof_of(room.look(), BIG) is None
    recent = keep_proof(run, room.now - timedelta(hours=3))
    assert proof_of(room.look(), BIG) == recent != old


def test_at_most_the_maximum_goes_at_once_and_the_others_are_counted(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_status.judge_stale(room.now)
    monkeypatch.setattr(preview, "MAX_RUNS", 2)
    safe = preview.safe_on(room.operator, room.root)
    chosen = preview.choose(safe)
    assert list(chosen.marks) == [room.key(BIG), room.key(MIDDLE)]
    assert preview.left_over(safe, chosen) == 1
    assert preview.left_over(safe, RequestedRuns.of([room.key(BIG)])) == 0
    assert len(RequestedRuns.parse(room.look().keys + " 3.x 4.x 5.x").marks) == 2


def test_the_rest_of_a_root_is_told_by_its_reasons(room: Room) -> None:
    hold(room, MIDDLE)
    run_status.judge_stale(room.now)
    assert [run.run_path for run in preview.safe_on(room.operator, room.root).order_by("pk")] == [BIG, SMALL]
    (stays,) = preview.staying_on(room.operator, room.root)
    size = Run.objects.get(run_path=MIDDLE).bytes
    assert (stays.tone, stays.reason, stays.runs, stays.bytes) == (Status.WAIT, Reason.HELD, 1, size)


@pytest.mark.parametrize("text", ["", "x", "-1.a", "0.a", "\u0661.a", "9" * 40, f"{2**63}.a", ". . .", "1e3"])
def test_what_is_no_key_is_dropped(text: str) -> None:
    assert RequestedRuns.parse(text).marks == {}


# The digest


def add_file(room: Room, policy: Callable[..., Any]) -> None:
    (room.lab.staging / SMALL / "late.txt").write_text("late")
    room.discover()


def grow_file(room: Room, policy: Callable[..., Any]) -> None:
    (room.lab.staging / SMALL / ".exlab-wizard/wizard.labpc-04.log").write_text("more\n" * 20)
    room.discover()


def write_policy(room: Room, policy: Callable[..., Any]) -> None:
    policy(mode="manual")


def weaken_proof(room: Room, policy: Callable[..., Any]) -> None:
    policy(proof="record", equipment="FLOW_01")


def hold_one(room: Room, policy: Callable[..., Any]) -> None:
    hold(room, MIDDLE)


def exchange(room: Room, policy: Callable[..., Any]) -> None:
    Run.objects.filter(run_path=BIG).update(identity="1:2:3")


def touch_one(room: Room, policy: Callable[..., Any]) -> None:
    touch(room.lab.staging / BIG / "stack.tif", room.now - timedelta(days=1))
    room.discover()


def move_nas(room: Room, policy: Callable[..., Any]) -> None:
    StagingRoot.objects.update(nas_path="/elsewhere")


def lose_root(room: Room, policy: Callable[..., Any]) -> None:
    StagingRoot.objects.update(problem=Reason.ROOT_NOT_MOUNTED)


def ask_elsewhere(room: Room, policy: Callable[..., Any]) -> None:
    queue.request_clear(Run.objects.with_root().get(run_path=SMALL), actor="bob", now=room.now)


def narrow(room: Room, policy: Callable[..., Any]) -> None:
    Access.objects.filter(group__name="operator").update(equipment="FLOW_01")


@pytest.mark.parametrize(
    "change",
    [
        add_file,
        grow_file,
        write_policy,
        weaken_proof,
        hold_one,
        exchange,
        touch_one,
        move_nas,
        lose_root,
        ask_elsewhere,
        narrow,
    ],
)
def test_whatever_changes_between_look_and_click_queues_nothing(
    room: Room, policy: Callable[..., Any], change: Callable[[Room, Callable[..., Any]], None]
) -> None:
    shown = room.look()
    change(room, policy)
    before = (ClearAttempt.objects.count(), OrmQ.objects.count())
    with pytest.raises(RunsChanged) as raised:
        room.place(shown)
    now_shown = raised.value.preview
    assert now_shown.digest != shown.digest
    assert (ClearAttempt.objects.count(), OrmQ.objects.count(), ClearBatch.objects.count()) == (*before, 0)
    assert now_shown.changed or now_shown.unknown
    if now_shown.going:  # after another look it is accepted
        assert room.place(now_shown).attempts.count() == len(now_shown.going)


def test_only_what_has_changed_is_marked(room: Room) -> None:
    shown = room.look()
    hold(room, MIDDLE)
    with pytest.raises(RunsChanged) as raised:
        room.place(shown)
    assert [item.run.run_path for item in raised.value.preview.changed] == [MIDDLE]


def test_ages_alone_change_nothing(room: Room) -> None:
    shown = room.look()
    keep_proof(Run.objects.get(run_path=BIG), room.now)
    discovery.discover(room.root, now=room.now + timedelta(hours=2))
    again = room.look(at=room.now + timedelta(hours=3))
    assert again.digest == shown.digest
    assert proof_of(again, BIG) is not None
    assert not preview.preview(room.operator, RequestedRuns.parse(shown.keys), room.now).changed


def test_the_order_in_which_runs_are_named_is_no_matter(room: Room) -> None:
    backwards = preview.preview(room.operator, RequestedRuns.of(room.keys[::-1]), room.now)
    assert backwards.digest == room.look().digest


# The request


def test_a_request_is_a_batch_with_its_attempts_and_tasks(room: Room) -> None:
    before = everything(room.lab)
    shown = room.look()
    batch = room.place(shown, note="disk is full")
    assert (batch.actor, batch.note, batch.digest) == ("ada", "disk is full", shown.digest)
    attempts = list(ClearAttempt.objects.order_by("-run__bytes"))
    assert [attempt.run.run_path for attempt in attempts] == [BIG, MIDDLE, SMALL]
    for attempt in attempts:
        assert (attempt.batch, attempt.phase, attempt.actor, attempt.note) == (batch, "queued", "ada", "disk is full")
    queued = [(task.key, task.task["args"][0]) for task in OrmQ.objects.order_by("pk")]
    assert queued == [(settings.EXLAB_CLEAR_CLUSTER, str(attempt.pk)) for attempt in attempts]
    assert [attempt.task_id for attempt in attempts] == [task.task_id() for task in OrmQ.objects.order_by("pk")]
    assert everything(room.lab) == before


def test_what_stays_is_not_asked_for(room: Room) -> None:
    hold(room, MIDDLE)
    assert phases(room.batch()) == {BIG: "queued", SMALL: "queued"}


def test_a_preview_without_anything_that_goes_places_nothing(room: Room) -> None:
    for path in (BIG, MIDDLE, SMALL):
        hold(room, path)
    with pytest.raises(RunsChanged):
        room.place(room.look())
    empty = preview.preview(room.operator, RequestedRuns.of([]), room.now)
    with pytest.raises(RunsChanged):
        room.place(empty)
    assert not ClearBatch.objects.exists()


def test_the_same_request_twice_is_one_batch(room: Room) -> None:
    shown, key = room.look(), uuid.uuid4()
    first = room.place(shown, key=key)
    assert room.place(shown, key=key) == first
    assert (ClearBatch.objects.count(), ClearAttempt.objects.count(), OrmQ.objects.count()) == (1, 3, 3)


def test_a_batch_is_closed_to_other_people(room: Room) -> None:
    shown, key = room.look(), uuid.uuid4()
    room.place(shown, key=key)
    with pytest.raises(RunsChanged) as raised:
        room.place(shown, key=key, user=operator("bob"))
    assert {item.reason for item in raised.value.preview.items} == {Reason.ALREADY_CLEARING}
    Run.objects.filter(run_path=BIG).update(state="cleared")
    ClearAttempt.objects.update(phase=Phase.DONE)
    with pytest.raises(RunsChanged):  # neither by a preview of their own
        room.place(room.look(), key=key, user=User.objects.get(username="bob"))
    assert ClearBatch.objects.count() == 1


def test_a_second_window_is_told_that_they_go_already(room: Room) -> None:
    shown = room.look()
    room.place(shown)
    with pytest.raises(RunsChanged) as raised:
        room.place(shown)
    assert [group.reason for group in raised.value.preview.groups] == [Reason.ALREADY_CLEARING]
    assert ClearAttempt.objects.count() == 3


def test_more_than_a_few_go_only_with_their_number_typed(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "CONFIRM_ABOVE_RUNS", 2)
    shown = room.look()
    assert (shown.confirms, shown.number) == (True, 3)
    for typed in (None, 0, 2, 30):
        with pytest.raises(NotConfirmed):
            room.place(shown, typed=typed)
    assert not ClearBatch.objects.exists()
    assert room.place(shown, typed=3).attempts.count() == 3


def test_a_terabyte_goes_only_with_its_number_typed_alone_too(room: Room) -> None:
    Run.objects.filter(run_path=BIG).update(bytes=preview.CONFIRM_ABOVE_BYTES + 1, files=142)
    run = Run.objects.with_root().get(run_path=BIG)
    shown = preview.preview(room.operator, RequestedRuns.of([run.pk]), room.now)
    assert (shown.confirms, shown.number) == (True, 142)
    with pytest.raises(NotConfirmed):
        batches.place_one(room.operator, run, digest=shown.digest, typed=1, now=room.now)
    attempt = batches.place_one(room.operator, run, digest=shown.digest, typed=142, now=room.now)
    assert (attempt.phase, attempt.batch) == ("queued", None)


def test_one_run_goes_only_as_it_was_shown(room: Room) -> None:
    run = Run.objects.with_root().get(run_path=BIG)
    digest = preview.preview(room.operator, RequestedRuns.of([run.pk]), room.now).digest
    hold(room, BIG)
    for some in (digest, "", "0" * 64):
        with pytest.raises(RunsChanged):
            batches.place_one(room.operator, run, digest=some, now=room.now)
    assert not ClearAttempt.objects.exists()


def test_a_crash_in_between_leaves_nothing(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = queue.async_task, iter(range(10))

    def fail(*args: Any, **kwargs: Any) -> str:
        if next(calls) == 1:
            raise ConnectionError("no queue")
        return str(real(*args, **kwargs))

    monkeypatch.setattr(queue, "async_task", fail)
    with pytest.raises(ConnectionError):
        room.place(room.look())
    assert (ClearBatch.objects.count(), ClearAttempt.objects.count(), OrmQ.objects.count()) == (0, 0, 0)
    room.batch()


def test_permissions_that_were_narrowed_meanwhile_count(room: Room) -> None:
    shown = room.look()
    Access.objects.filter(group__name="operator").update(equipment="FLOW_01")
    room.operator.groups.add(Group.objects.get(name="viewer"))
    with pytest.raises(RunsChanged) as raised:
        room.place(shown)
    reasons = {item.run.run_path: item.reason for item in raised.value.preview.items}
    assert reasons == {BIG: preview.NOT_PERMITTED, MIDDLE: "", SMALL: ""}
    room.operator.groups.clear()
    with pytest.raises(RunsChanged) as raised:
        room.place(shown)
    assert (raised.value.preview.items, sorted(raised.value.preview.unknown)) == ((), room.keys)


def test_a_run_is_not_locked_by_people_who_may_not_see_it(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = room.look()
    Access.objects.filter(group__name="operator").update(equipment="FLOW_01")
    locked: list[int] = []
    lock = batches._lock
    monkeypatch.setattr(batches, "_lock", lambda runs: (locked.extend(run.pk for run in runs), lock(runs)))
    with pytest.raises(RunsChanged):
        room.place(shown)
    assert sorted(locked) == sorted([room.key(MIDDLE), room.key(SMALL)])


@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
def test_two_operators_at_once_get_one_attempt_for_each_run(room: Room) -> None:
    users = [room.operator, operator("bob"), operator("cyd")]
    shown = room.look()
    barrier = Barrier(len(users))

    def act(user: User) -> str:
        try:
            barrier.wait(20)
            return str(room.place(shown, user=user).actor)
        except RunsChanged as changed:
            assert {item.reason for item in changed.preview.items} == {Reason.ALREADY_CLEARING}
            return "told"
        finally:
            connection.close()

    with ThreadPoolExecutor(len(users)) as pool:
        said = list(pool.map(act, users))
    assert said.count("told") == 2
    assert ClearBatch.objects.get().actor in said
    assert (ClearAttempt.objects.count(), OrmQ.objects.count()) == (3, 3)


@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
def test_a_double_click_at_the_same_moment_is_one_batch(room: Room) -> None:
    shown, key, barrier = room.look(), uuid.uuid4(), Barrier(2)

    def act(_number: int) -> uuid.UUID:
        try:
            barrier.wait(20)
            return room.place(shown, key=key).pk
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(act, range(2))) == [key, key]
    assert (ClearBatch.objects.count(), ClearAttempt.objects.count(), OrmQ.objects.count()) == (1, 3, 3)


# Pause, go on, stop


@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
def test_a_batch_clears_its_runs_one_after_the_other(room: Room) -> None:
    batch = room.batch()
    assert run_tasks() == [BIG, MIDDLE, SMALL]
    assert set(phases(batch).values()) == {"done"}
    assert room.paths() == set()
    done = measure(batch, timezone.now())
    assert (done.open, done.percent, done.cleared, done.stayed) == (False, 100, 3, 0)
    assert done.freed_bytes == LedgerEntry.objects.totals()["bytes"] > 0
    assert done.ended_at is not None


@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
def test_nothing_of_a_paused_batch_begins_until_it_goes_on(room: Room) -> None:
    batch = room.batch()
    assert batches.pause(batch, actor="bob", now=room.now)
    before = everything(room.lab)
    assert run_tasks() == []
    assert not OrmQ.objects.exists()  # the tasks have ended, and nothing was touched
    assert everything(room.lab) == before
    assert set(phases(batch).values()) == {"queued"}

    assert queue.enqueue_lost(host=settings.EXLAB_HOST, now=room.now + timedelta(days=3)) == 0
    recovery.recover(now=room.now + timedelta(days=3))
    assert set(phases(batch).values()) == {"queued"}

    batch.refresh_from_db()
    assert (batch.paused_by, measure(batch, room.now).paused) == ("bob", True)
    assert batches.resume(batch, now=room.now + timedelta(minutes=5))
    assert OrmQ.objects.count() == 3
    batch.refresh_from_db()
    assert (batch.paused_at, batch.paused_seconds) == (None, 300)
    assert run_tasks() == [BIG, MIDDLE, SMALL]


@pytest.mark.django_db(transaction=True)
def test_a_pause_in_the_very_last_moment_holds(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = room.batch()
    real = recovery.recover

    def pause_meanwhile(**how: Any) -> Any:
        batches.pause(batch, actor="bob", now=room.now)
        return real(**how)

    monkeypatch.setattr(recovery, "recover", pause_meanwhile)
    before = everything(room.lab)
    assert run_tasks() == []
    assert everything(room.lab) == before
    assert set(phases(batch).values()) == {"queued"}


@pytest.mark.django_db(transaction=True)
def test_the_run_under_way_is_finished_when_a_batch_is_paused_or_stopped(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = room.batch()
    real = inspection.look

    def stop_amid(*args: Any, **kwargs: Any) -> Any:
        assert batches.stop(batch, actor="bob", now=room.now) == 2
        monkeypatch.setattr(inspection, "look", real)
        return real(*args, **kwargs)

    monkeypatch.setattr(inspection, "look", stop_amid)
    assert run_tasks() == [BIG]
    assert phases(batch) == {BIG: "done", MIDDLE: "aborted", SMALL: "aborted"}
    assert room.paths() == {MIDDLE, SMALL}


def test_what_was_queued_when_a_batch_goes_on_is_not_queued_twice(room: Room) -> None:
    batch = room.batch()
    batches.pause(batch, actor="bob", now=room.now)
    OrmQ.objects.order_by("pk")[0].delete()  # its task has ended while the batch was paused
    (second, _third) = OrmQ.objects.order_by("pk")
    OrmQ.objects.filter(pk=second.pk).update(lock=timezone.now() + timedelta(days=1))  # a worker has this one in hand
    batches.resume(batch, now=timezone.now())
    assert sorted(task.task["args"][0] for task in OrmQ.objects.filter(lock__lte=timezone.now())) == sorted(
        str(attempt.pk) for attempt in batch.attempts.all()
    )


def test_pause_and_resume_twice_are_harmless(room: Room) -> None:
    batch = room.batch()
    assert not batches.resume(batch, now=timezone.now())
    assert batches.pause(batch, actor="ada", now=room.now)
    assert not batches.pause(batch, actor="bob", now=room.now)
    assert batches.resume(batch, now=timezone.now())
    assert not batches.resume(batch, now=timezone.now())
    assert OrmQ.objects.count() == 3
    ClearAttempt.objects.update(phase=Phase.DONE)
    assert not batches.pause(batch, actor="ada", now=room.now)


def test_a_batch_that_is_paused_for_more_than_an_hour_is_forgotten_while_something_waits(room: Room) -> None:
    batch = room.batch()
    late = room.now + timedelta(hours=1)
    assert not batches.forgotten(room.operator, late)
    batches.pause(batch, actor="ada", now=room.now)
    assert not batches.forgotten(room.operator, late - timedelta(seconds=1))
    assert list(batches.forgotten(room.operator, late)) == [batch]
    assert not batches.forgotten(User.objects.create_user("nobody"), late)
    batches.stop(batch, actor="ada", now=late)
    assert not batches.forgotten(room.operator, late)


@pytest.mark.both_engines
def test_a_stop_withdraws_what_waits_and_counts_as_nobodys_failure(room: Room) -> None:
    batch = room.batch()
    batches.pause(batch, actor="ada", now=room.now)
    assert batches.stop(batch, actor="bob", now=room.now + timedelta(seconds=60)) == 3
    for attempt in batch.attempts.all():
        assert (attempt.phase, attempt.reason, attempt.detail) == ("aborted", Reason.WITHDRAWN, "by bob")
    assert set(LedgerEntry.objects.values_list("kind", "reason")) == {("aborted", Reason.WITHDRAWN)}
    assert LedgerEntry.objects.count() == 3
    assert set(Run.objects.values_list("failures", flat=True)) == {0}
    batch.refresh_from_db()
    assert (batch.stopped_by, batch.paused_at, batch.paused_seconds) == ("bob", None, 60)
    assert batches.stop(batch, actor="cyd", now=room.now) == 0
    assert not batches.resume(batch, now=room.now)
    assert queue.enqueue_lost(host=settings.EXLAB_HOST, now=room.now + timedelta(days=3)) == 0
    assert run_tasks() == []
    told = measure(batch, room.now)
    assert (told.withdrawn, told.stayed, told.reasons, told.open) == (3, 0, (), False)


def test_what_was_withdrawn_may_be_asked_for_again(room: Room) -> None:
    first = room.look()
    batches.stop(room.place(first), actor="ada", now=room.now + timedelta(minutes=1))
    again = room.look(at=room.now + timedelta(minutes=2))
    assert {item.fate for item in again.items} == {Fate.CLEARS}
    run_status.judge_stale(room.now + timedelta(minutes=2))
    assert set(Run.objects.values_list("tone", "reason")) == {(Status.GO, "")}  # nothing speaks against any of them
    assert room.place(again).attempts.count() == 3


def test_a_form_from_before_a_stop_asks_for_nothing(room: Room) -> None:
    """The form of another tab, with a key of its own, shows anew what a colleague has stopped."""
    shown = room.look()
    batches.stop(room.place(shown), actor="bob", now=room.now)
    with pytest.raises(RunsChanged):
        room.place(shown)
    assert not ClearAttempt.objects.filter(phase__in=ClearAttempt.ACTIVE).exists()


@pytest.mark.parametrize("change", ["token", "nas_token", "allow_same_filesystem"])
def test_another_root_than_was_shown_queues_nothing(room: Room, change: str) -> None:
    shown = room.look()
    other = {"allow_same_filesystem": False}.get(change, str(uuid.uuid4()))
    StagingRoot.objects.update(**{change: other})
    with pytest.raises(RunsChanged):
        room.place(shown)
    assert not ClearAttempt.objects.exists()


def test_a_crash_in_a_stop_leaves_everything_as_it_was(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = room.batch()
    real, calls = entries.ledger_entry, iter(range(10))

    def fail(*args: Any, **kwargs: Any) -> LedgerEntry:
        if next(calls) == 1:
            raise ConnectionError("no database")
        return real(*args, **kwargs)

    monkeypatch.setattr(entries, "ledger_entry", fail)
    with pytest.raises(ConnectionError):
        batches.stop(batch, actor="bob", now=room.now)
    batch.refresh_from_db()
    assert (batch.stopped_at, set(phases(batch).values())) == (None, {"queued"})
    assert not LedgerEntry.objects.exists()


@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
def test_a_stop_and_a_begin_at_the_same_moment_are_one_after_the_other(room: Room) -> None:
    batch = room.batch()
    attempts = list(batch.attempts.all())
    barrier = Barrier(len(attempts) + 1)

    def begin(attempt: ClearAttempt) -> bool:
        try:
            barrier.wait(20)
            return protocol._claim(attempt)
        finally:
            connection.close()

    def stop() -> int:
        try:
            barrier.wait(20)
            return batches.stop(batch, actor="bob", now=room.now)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(attempts) + 1) as pool:
        begun = [pool.submit(begin, attempt) for attempt in attempts]
        withdrawn = pool.submit(stop)
        answers = {attempt.pk: future.result(30) for attempt, future in zip(attempts, begun, strict=True)}
    found = dict(batch.attempts.values_list("pk", "phase"))
    assert found == {key: "intent" if went else "aborted" for key, went in answers.items()}
    assert withdrawn.result() == list(answers.values()).count(False)
    assert LedgerEntry.objects.filter(kind="aborted").count() == withdrawn.result()


# Progress


@pytest.mark.both_engines
def test_progress_counts_bytes_speed_and_what_is_left(room: Room) -> None:
    batch = room.batch()
    Run.objects.update(bytes=1000)
    first, second, third = batch.attempts.order_by("pk")
    now = room.now + timedelta(seconds=100)
    for done in (first, second):
        done.advance([Phase.QUEUED], Phase.DONE, now=now, freed_files=2, freed_bytes=1000, freed_allocated_bytes=4096)
    third.advance([Phase.QUEUED], Phase.INTENT, now=now, compared_bytes=500)
    found = measure(batch, now)
    assert (
        found.runs,
        found.cleared,
        found.waiting,
        [(one.attempt.pk, one.to_compare) for one in found.under_way],
    ) == (
        3,
        2,
        0,
        [(third.pk, 2000)],
    )
    assert (found.total_bytes, found.settled_bytes, found.percent) == (3000, 2000, 66)
    assert (found.freed_files, found.freed_bytes, found.freed_allocated_bytes) == (4, 2000, 8192)
    assert (found.active, found.bytes_per_second, found.left) == (timedelta(seconds=100), 20, timedelta(seconds=51))

    ClearBatch.objects.update(paused_seconds=60)
    batch.refresh_from_db()
    assert measure(batch, now).bytes_per_second == 50

    third.advance([Phase.INTENT], Phase.COMMITTED, now=now, planned_files=4, done_files=1, done_bytes=250)
    assert measure(batch, now).settled_bytes == 2250


@pytest.mark.parametrize("why", ["too early", "one run alone", "paused", "stands still"])
def test_no_time_left_is_said_where_it_would_be_a_lie(room: Room, why: str) -> None:
    batch = room.batch()
    now = room.now + timedelta(seconds=5 if why == "too early" else 100)
    for attempt in batch.attempts.all()[: 1 if why == "one run alone" else 2]:
        attempt.advance([Phase.QUEUED], Phase.DONE, now=now, freed_bytes=1000)
    if why == "paused":
        batches.pause(batch, actor="ada", now=now)
        batch.refresh_from_db()
    found = measure(batch, now + timedelta(minutes=3) if why == "stands still" else now)
    assert (found.open, found.left) == (True, None)


def test_runs_that_stayed_are_counted_by_their_reasons(room: Room) -> None:
    batch = room.batch()
    for attempt, reason in zip(batch.attempts.all(), [Reason.NAS_TIMEOUT, Reason.HELD, Reason.HELD], strict=True):
        settlement.finish_without_clear(attempt, Phase.REFUSED, Finding(reason), now=room.now)
    found = measure(batch, room.now)
    assert (found.stayed, found.cleared, found.open) == (3, 0, False)
    assert found.reasons == ((Reason.HELD, 2), (Reason.NAS_TIMEOUT, 1))


# Helpers


def hold(room: Room, run_path: str) -> None:
    run = Run.objects.with_root().get(run_path=run_path)
    holds.hold(run, owner="bob", until=room.now + timedelta(days=2), reason="figure", now=room.now)


def keep_proof(run: Run, at: datetime) -> Proof:
    facts = ProofFacts(level=ProofLevel.CHECKSUM, files=run.files or 0, bytes=run.bytes or 0)
    return proofs.keep(run, facts, ProofLevel.CHECKSUM, "e" * 64, at)


def proof_of(shown: ClearPreview, run_path: str) -> Proof | None:
    return next(item.proof for item in shown.items if item.run.run_path == run_path)
