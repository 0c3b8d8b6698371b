"""No hold and no retention ends by a wrong clock; tasks that waited for its future start again."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone
from django_q.models import OrmQ, Schedule
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cleanup.clears import clear_now
from cleanup.clears.report import ClearReport
from cleanup.clears.run_action import Action
from cleanup.lab import clocks, other_clocks, policy_versions, task_queues
from cleanup.lab.roots import registration
from cleanup.models import (
    Alert,
    Heartbeat,
    Hold,
    HostClock,
    NasBreaker,
    RetentionPolicy,
    Run,
    StagingRoot,
    Status,
    Sweep,
    SweepBreaker,
)
from cleanup.monitoring import watchdog
from cleanup.rules.anomalies import Clock
from cleanup.rules.clocks import BETWEEN_LOOKS, LONGEST_PAUSE, Other, OtherClocks
from cleanup.rules.policies.policy import Stage
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery, run_status
from cleanup.runs.holds import holds, in_force
from cleanup.storage import handles
from cleanup.storage.nas import clock as nas_clock
from cleanup.storage.root_files import tokens
from cleanup.sweeps import all_roots, breakers, rehearsal
from tests.faults import means, mounts
from tests.faults.mounts import Enter
from tests.tools.lab import Lab, snapshot

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
RUNS, HELD = 2, 1
HELD_FOR = 15 * DAY


@pytest.fixture
def held(lab: Lab, root: StagingRoot, now: datetime, policy: Callable[..., Any]) -> list[str]:
    return lay(lab, root, now, policy, RUNS, HELD)


def lay(lab: Lab, root: StagingRoot, now: datetime, policy: Callable[..., Any], runs: int, held: int) -> list[str]:
    """Runs verified two days ago and kept for ten; the first `held` of them are held for fifteen.

    A timed pass found the clock sound at `now`. Returns the paths of the held runs.
    """
    paths = [f"FLOW_01/PROJ-0001/Runs/Run_2026-06-01T{hour:02}-00" for hour in range(runs)]
    for path in paths:
        lab.run(path, files={"a.bin": b"x" * 100}, verified_at=now - 2 * DAY)
    discovery.discover(root, now=now)
    for path in paths[:held]:
        run = Run.objects.get(run_path=path)
        holds.hold(run, owner="ann", reason="figure", until=now + HELD_FOR, now=now)
    policy(mode="scheduled", retain_hours=240, proof="size", stage="promoted")
    assert outcomes(night(now)) == {"retention_not_elapsed": runs}
    return paths[:held]


def night(wall: datetime, *, boot: str = "a", true: datetime | None = None, **options: Any) -> ClearReport:
    passed = ((true or wall) - datetime(2026, 6, 1, tzinfo=UTC)).total_seconds()
    return all_roots.sweep(now=wall, timed=True, clock=Clock(wall=wall, boot_id=boot, boot_seconds=passed), **options)


def outcomes(swept: ClearReport) -> dict[str, int]:
    said: dict[str, int] = {}
    for run in swept.runs:
        said[run.reason] = said.get(run.reason, 0) + 1
    return said


def staged() -> int:
    return Run.objects.staged().count()


def go_on(now: datetime) -> None:
    for breaker in SweepBreaker.objects.filter(closed_at=None):
        assert breakers.go_on(breaker, actor="ada", note="the clock is right", now=now)


def answer(monkeypatch: pytest.MonkeyPatch, *others: Other, none: tuple[str, ...] = ()) -> list[bool]:
    asked: list[bool] = []

    def ask() -> OtherClocks:
        asked.append(True)
        return OtherClocks(others=others, none=none)

    monkeypatch.setattr(other_clocks, "ask", ask)
    return asked


# Without another clock to ask


@pytest.mark.both_engines
def test_a_start_with_the_clock_twenty_days_ahead_takes_nothing_and_asks(
    lab: Lab, root: StagingRoot, now: datetime, policy: Callable[..., Any]
) -> None:
    """Takes 1 s: fifteen runs, five held."""
    lay(lab, root, now, policy, 15, 5)
    before, wall = snapshot(lab.base), now + 20 * DAY
    for hours in range(3):  # nor does a second pass, or another start of the machine, make it right
        at = wall + hours * HOUR
        swept = night(at, boot=f"boot {hours // 2}", true=now + (1 + hours) * HOUR)
        assert outcomes(swept) == {"held": 5, "breaker_open": 10}
    assert snapshot(lab.base) == before
    breaker = SweepBreaker.objects.get()
    assert breaker.kind == "clock"
    assert "20.0 days after its last sound reading" in breaker.detail
    assert "It cannot be compared with another clock" in breaker.detail
    assert Sweep.objects.order_by("-pk")[0].outcome == "stopped"


@pytest.mark.both_engines
def test_neither_a_click_nor_a_page_lets_a_hold_end_by_it(held: list[str], now: datetime) -> None:
    wall = now + 20 * DAY
    night(wall, boot="b")
    run = Run.objects.get(run_path=held[0])
    cleared = clear_now.clear([run], now=wall, actor="ada").runs[0]
    assert (cleared.action, cleared.reason) == (Action.REFUSED, "held")
    assert "by ann: figure; it would be over by this host's clock, which is in doubt" in cleared.detail
    assert Hold.objects.in_force(wall).count() == in_force.in_force(wall).count() == HELD
    assert all_roots.sweep(now=wall, limit=50).count(Action.CLEARED) == RUNS - HELD, "a typed sweep is a person's act"
    run_status.judge_stale(wall)
    run.refresh_from_db()
    assert (run.tone, run.reason) == (Status.WAIT, "held")
    go_on(wall)
    night(wall + HOUR, boot="b", true=wall + HOUR)
    assert staged() == 0, "a person has said that the clock is right, so the holds are over"


@pytest.mark.both_engines
def test_what_stands_on_pages_follows_the_doubt(held: list[str], now: datetime) -> None:
    run_status.judge_stale(now + 16 * DAY)
    ended = Run.objects.filter(run_path__in=held)
    assert set(ended.values_list("tone", flat=True)) == {Status.GO}
    night(now + 20 * DAY, boot="b", true=now + HOUR)
    run_status.judge_stale(now + 20 * DAY)
    assert set(ended.values_list("tone", "reason")) == {(Status.WAIT, "held")}
    night(now + 2 * HOUR, boot="c", true=now + 2 * HOUR)
    assert not HostClock.objects.exclude(doubted_since=None).exists()
    assert ended.doubted().count() == HELD


def test_a_clock_five_days_behind_stops_and_is_sound_again_when_it_is_set(held: list[str], now: datetime) -> None:
    assert outcomes(night(now - 5 * DAY, boot="b", true=now + HOUR)) == {"retention_not_elapsed": RUNS}
    assert "5.0 days before its last sound reading" in SweepBreaker.objects.get().detail
    night(now + 2 * HOUR, boot="b", true=now + 2 * HOUR)
    assert HostClock.objects.get().doubted_since is None
    go_on(now + 2 * HOUR)
    assert outcomes(night(now + 9 * DAY, boot="b", true=now + 9 * DAY)) == {"held": HELD, "retention": RUNS - HELD}


def test_three_days_without_the_machine_are_three_days(held: list[str], now: datetime) -> None:
    for days in (3, 6, 9):
        swept = night(now + days * DAY, boot=f"boot {days}")
    assert outcomes(swept) == {"held": HELD, "retention": RUNS - HELD}
    assert not SweepBreaker.objects.exists()


def test_after_four_days_a_person_is_asked_once_and_for_that_jump_alone(held: list[str], now: datetime) -> None:
    night(now + 9 * DAY - HOUR)
    wall = now + 13 * DAY
    assert outcomes(night(wall, boot="b")) == {"held": HELD}
    assert SweepBreaker.objects.get().closed_at is None
    go_on(wall)
    night(wall + HOUR, boot="b")
    assert not SweepBreaker.objects.filter(closed_at=None).exists()
    (said,) = SweepBreaker.objects.all()
    assert (said.closed_by, said.note, said.used_id) == ("ada", "the clock is right", Sweep.objects.latest("pk").pk)
    night(wall + 30 * DAY, boot="b", true=wall + 2 * HOUR)
    assert SweepBreaker.objects.filter(closed_at=None, kind="clock").exists()
    assert staged() == HELD


def test_steps_that_are_each_too_small_to_see_add_up(held: list[str], now: datetime) -> None:
    for hours in range(1, 3):
        night(now + hours * (HOUR + 3 * MINUTE), true=now + hours * HOUR)
    assert "6 minutes ahead of what the time since boot says" in SweepBreaker.objects.get().detail


def test_a_jump_that_the_time_since_boot_contradicts_stays_one_after_a_restart(held: list[str], now: datetime) -> None:
    night(now + 2 * DAY, true=now + HOUR)
    go_on(now - 10 * DAY)  # a go-on of ten days ago, not of today
    night(now + 2 * DAY + HOUR, boot="b", true=now + 2 * HOUR)
    assert HostClock.objects.get().sure_at <= now + HOUR


def test_a_dry_run_shows_the_stop_and_keeps_and_asks_nothing(
    held: list[str], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answer(monkeypatch)
    before = HostClock.objects.values().get()
    swept = night(now + 20 * DAY, boot="b", dry_run=True)
    assert outcomes(swept) == {"breaker_open": RUNS}
    assert HostClock.objects.values().get() == before and not asked


def test_where_only_passes_were_kept_their_look_counts(held: list[str], now: datetime) -> None:
    HostClock.objects.all().delete()
    night(now + 20 * DAY, boot="b")
    assert staged() == RUNS


def test_nights_by_a_wrong_clock_promote_nothing(held: list[str], now: datetime, policy: Callable[..., Any]) -> None:
    policy_versions.add_version(author="admin", now=now, retain_hours=239, stage=Stage.REHEARSING, rehearsal_nights=1)
    night(now + HOUR)
    night(now + 20 * DAY, boot="b", true=now + 2 * HOUR)
    assert not RetentionPolicy.objects.filter(author=rehearsal.SCHEDULE).exists()


# With other clocks


def test_another_clock_that_agrees_makes_it_sound(
    held: list[str], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = now + 20 * DAY
    asked = answer(monkeypatch, Other(name="the NAS at /mnt/nas", at=wall + 59 * MINUTE))
    assert night(wall, boot="b").count(Action.CLEARED) == RUNS
    assert (len(asked), HostClock.objects.get().compared["others"]) == (1, ["the NAS at /mnt/nas"])
    night(wall + HOUR, boot="b")
    assert len(asked) == 1, "nothing is asked that the time since boot answers"


def test_another_clock_that_contradicts_stops_even_a_short_pause(
    held: list[str], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = now + 2 * DAY
    nas, server = Other(name="the NAS at /mnt/nas", at=now), Other(name="the PostgreSQL server", at=wall)
    answer(monkeypatch, nas, server)
    night(wall, boot="b")
    detail = SweepBreaker.objects.get().detail
    assert "2.0 days ahead of the NAS at /mnt/nas." in detail and "PostgreSQL" not in detail


def test_the_watchdog_asks_no_nas_and_lets_no_hold_end_before_a_pass_has(
    held: list[str], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = now + 20 * DAY
    asked = answer(monkeypatch, Other(name="the NAS at /mnt/nas", at=wall))
    monkeypatch.setattr(clocks, "read_clock", lambda now: Clock(wall=now, boot_id="b", boot_seconds=60))
    clocks.tend(wall)
    assert not asked
    assert Hold.objects.in_force(wall).count() == HELD
    watchdog.watch(now=wall)
    assert Alert.objects.get(reason=Reason.CLOCK_IN_DOUBT, ended_at=None).detail.endswith(
        "Other clocks are asked with the next timed pass."
    )
    all_roots.sweep(now=wall, timed=True, clock=clocks.read_clock(wall))
    watchdog.watch(now=wall)
    assert not Alert.objects.filter(reason=Reason.CLOCK_IN_DOUBT, ended_at=None).exists()
    assert not Hold.objects.in_force(wall).exists()


def test_a_short_pause_is_left_to_the_pass_that_can_ask(held: list[str], now: datetime) -> None:
    look = Clock(wall=now + DAY, boot_id="b", boot_seconds=60)
    clocks.look(look, ask=False)
    assert HostClock.objects.get().known["sound"]["boot_id"] == "a"
    clocks.look(look, ask=True)
    assert HostClock.objects.get().known["sound"]["boot_id"] == "b"


# Which clocks are another's


@pytest.fixture
def far(lab: Lab, tmp_path: Path) -> Path:
    folder = tmp_path / "far"
    folder.mkdir()
    (folder / tokens.TOKEN.decode()).write_text("11111111-2222-4333-8444-555555555555\n")
    return folder


def registered(lab: Lab) -> StagingRoot:
    return registration.register(
        "lab",
        str(lab.staging),
        nas_path=str(lab.nas),
        allow_same_filesystem=True,
        accept_empty=True,
        now=timezone.now(),
    )


@pytest.mark.parametrize("ahead", [0, 20 * 86400])
def test_a_server_tells_its_time_by_a_folder_that_is_gone_at_once(
    lab: Lab, far: Path, tmp_path: Path, enter: Enter, ahead: int
) -> None:
    """Takes 1 s: a server with its own clock, and a mount."""
    enter(mounts.far_sshfs(lab.nas, far, tmp_path / "ssh", ahead_seconds=ahead))
    registered(lab)
    before = sorted(path.name for path in far.iterdir())
    (other,) = other_clocks.ask().others
    assert other.name == f"the NAS at {lab.nas}"
    assert abs(other.at - timezone.now() - timedelta(seconds=ahead)) < MINUTE
    assert sorted(path.name for path in far.iterdir()) == before
    clocks.confirm(Clock(wall=timezone.now() - 9 * DAY, boot_id="before"), why="")
    judged = clocks.look(clocks.read_clock(timezone.now()), ask=True)
    assert (judged.sight is not None) == bool(ahead)


@pytest.mark.parametrize("kind", ["local", "bind", "sshfs of this host", "mergerfs", "bindfs"])
def test_a_mount_whose_times_are_our_own_is_no_other_clock(
    lab: Lab, far: Path, tmp_path: Path, enter: Enter, kind: str
) -> None:
    """Takes 0.5 s each for FUSE programs; the layers lie over a server with its own clock."""
    if kind == "sshfs of this host":
        enter(mounts.sshfs(lab.nas, far))
    elif kind != "local":
        below = tmp_path / "below"
        below.mkdir()
        if kind != "bind":
            enter(mounts.far_sshfs(below, far, tmp_path / "ssh", ahead_seconds=86400))
        below = far if kind == "bind" else below
        over = {
            "bind": lambda: means.mounted("--bind", below, lab.nas),
            "mergerfs": lambda: mounts.mergerfs(lab.nas, below),
            "bindfs": lambda: mounts.served(lab.nas, "bindfs", "-f", below, lab.nas),
        }
        enter(over[kind]())
    descriptor = handles.open_root(str(lab.nas))
    with handles.opened(descriptor), pytest.raises(nas_clock.NoClock):
        nas_clock.read(descriptor)
    assert not list(far.glob(".exlab-clock-*"))


def test_a_nas_that_may_only_be_read_is_no_other_clock(lab: Lab, far: Path, tmp_path: Path, enter: Enter) -> None:
    enter(mounts.far_sshfs(lab.nas, far, tmp_path / "ssh", ahead_seconds=0))
    enter(means.mounted("-o", "remount,ro,bind", lab.nas))
    descriptor = handles.open_root(str(lab.nas))
    with handles.opened(descriptor), pytest.raises(nas_clock.NoClock, match="nothing may be written there"):
        nas_clock.read(descriptor)


@pytest.mark.both_engines
def test_this_database_is_no_other_clock(root: StagingRoot) -> None:
    asked = other_clocks.ask()
    assert asked.others == ()
    said = "the PostgreSQL server runs on this host" if connection.vendor == "postgresql" else "a file of this host"
    assert asked.none[0].endswith("are this host's own") and said in asked.none[1]


@pytest.mark.both_engines
@pytest.mark.skipif(connection.vendor != "postgresql", reason="only a server has a clock")
@pytest.mark.parametrize(("ahead", "is_other"), [(0.0, False), (0.5, True), (-86400.0, True)])
def test_a_server_that_can_be_no_other_proves_nothing_by_agreeing(
    monkeypatch: pytest.MonkeyPatch, ahead: float, is_other: bool
) -> None:
    """Behind a port it may be this host; only a different clock proves another one."""
    real = other_clocks.time.time
    monkeypatch.setattr(other_clocks, "_by_a_socket", lambda: False)
    monkeypatch.setattr(other_clocks.time, "time", lambda: real() - ahead)
    assert bool(other_clocks._of_database() != "the PostgreSQL server may run on this host") == is_other


# A clock that goes back


@pytest.mark.both_engines
def test_what_waits_for_a_future_that_was_a_mistake_is_started_again(
    root: StagingRoot, lab: Lab, now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    lab.run(verified_at=now - DAY)
    discovery.discover(root, now=now)
    task_queues.serve_apart("elsewhere")
    Schedule.objects.update(next_run=now + 20 * DAY)
    theirs = task_queues.rows_of("elsewhere")
    due = Schedule.objects.create(name="somebody's own", func="math.sqrt", next_run=now + 20 * DAY)
    NasBreaker.objects.create(host=root.host, token=root.nas_token, open_until=now + 20 * DAY, failures=3)
    Run.objects.update(nas_retry_at=now + 20 * DAY)
    said = clocks.mend(now)
    assert said.count("is started again") == len(task_queues.SCHEDULES)
    rows = task_queues.rows_of(root.host).exclude(pk=due.pk)
    assert set(rows.values_list("next_run", flat=True)) == {now + timedelta(seconds=5)}
    assert set(theirs.values_list("next_run", flat=True)) == {now + 20 * DAY}, "those are for their own host to mend"
    due.refresh_from_db()
    assert due.next_run == now + 20 * DAY
    assert NasBreaker.objects.get().open_until is None
    assert Run.objects.get().nas_retry_at == now
    assert "went back" in caplog.text
    assert clocks.mend(now) == "", "once is enough"
    watchdog.watch(now=now + MINUTE)
    alert = Alert.objects.get(reason=Reason.CLOCK_WENT_BACK, ended_at=None)
    assert "cleanup sweep is started again" in alert.detail
    watchdog.watch(now=now + 2 * DAY)
    assert not Alert.objects.filter(reason=Reason.CLOCK_WENT_BACK, ended_at=None).exists()


@pytest.mark.both_engines
def test_what_is_not_put_off_is_left_alone(root: StagingRoot, now: datetime) -> None:
    Schedule.objects.update(next_run=now + MINUTE)
    assert clocks.mend(now) == ""
    assert set(Schedule.objects.values_list("next_run", flat=True)) == {now + MINUTE}
    assert not HostClock.objects.exists()


def test_the_watchdogs_own_command_mends(root: StagingRoot) -> None:
    Schedule.objects.update(next_run=timezone.now() + 20 * DAY)
    call_command("watch", once=True, verbosity=0)
    assert Schedule.objects.filter(next_run__lt=timezone.now() + MINUTE).count() == len(task_queues.SCHEDULES)


# Pages


def test_pages_say_that_a_clock_is_in_doubt_or_cannot_be_compared(
    held: list[str], now: datetime, client: Client, admin_user: User
) -> None:
    client.force_login(admin_user)  # by the real time, as sessions end by it; the doubt stands until it is ended
    Heartbeat.objects.create(cluster=watchdog.WATCH, host="lab", at=now)
    night(now + 20 * DAY, boot="b", true=now + HOUR)
    watchdog.watch(now=now + 20 * DAY)
    page = client.get("/problems/").content.decode()
    assert Reason.CLOCK_IN_DOUBT.sentence in page
    assert re.search(
        r"The clock of \w+ cannot be compared with another: times on .*/nas are this host&#x27;s own; ", page
    )
    assert "It cannot be compared with another clock" in client.get("/").content.decode()


# Any clocks

steps = st.lists(
    st.tuples(st.integers(1, 60), st.one_of(st.just(0), st.integers(-600, 600)), st.booleans()), min_size=1, max_size=3
)


@pytest.mark.both_engines
@given(steps=steps)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_held_run_goes_by_any_clock(steps: list[tuple[int, int, bool]], held: list[str], now: datetime) -> None:
    """Hours that pass, clock changes, restarts. Takes 3 s for twenty passes.

    The holds cover the true time plus what is undetectable at each restart.
    """
    _no_held_run_goes(steps, held, now)


@pytest.mark.both_engines
@pytest.mark.exhaustive
@given(steps=steps)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_held_run_goes_by_any_clock_the_same_at_length(
    steps: list[tuple[int, int, bool]], held: list[str], now: datetime
) -> None:
    """Takes 30 s."""
    _no_held_run_goes(steps, held, now)


def _no_held_run_goes(steps: list[tuple[int, int, bool]], held: list[str], now: datetime) -> None:
    SweepBreaker.objects.filter(closed_at=None).update(closed_at=now, closed_by="ada")
    Run.objects.filter(run_path__in=held).update(verified_at=now - 60 * DAY)
    clocks.confirm(Clock(wall=now, boot_id="0", boot_seconds=0), why="the lab begins anew")
    unseen = sum(restarted for _hours, _set, restarted in steps) * (LONGEST_PAUSE + BETWEEN_LOOKS) + HOUR
    Hold.objects.update(until=now + timedelta(hours=sum(hours for hours, *_rest in steps)) + unseen)
    true, wrong, boots, began = now, timedelta(0), 0, now
    for hours, set_by, restarted in steps:
        true, wrong = true + hours * HOUR, wrong + set_by * HOUR
        if restarted:
            boots, began = boots + 1, true
        look = Clock(wall=true + wrong, boot_id=str(boots), boot_seconds=(true - began).total_seconds())
        all_roots.sweep(now=true + wrong, timed=True, clock=look)
        assert Run.objects.staged().filter(run_path__in=held).count() == HELD


# A real scheduler


@pytest.mark.exhaustive
@pytest.mark.django_db(transaction=True)
def test_a_real_scheduler_starts_what_was_mended(root: StagingRoot, subprocess_env: dict[str, str]) -> None:
    """Takes 3 s: two ticks of the queue's scheduler in separate processes."""
    from tests.lab.test_task_queues import tick

    task_queues.create()
    Schedule.objects.update(next_run=timezone.now() + 20 * DAY)
    tick(subprocess_env)
    assert not OrmQ.objects.exists()
    clocks.mend(timezone.now() - timedelta(seconds=10))
    tick(subprocess_env)
    assert OrmQ.objects.count() > 0
