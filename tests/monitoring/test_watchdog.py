"""The watchdog's rules, and its real process."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as project
from django.db import connection
from django.urls import reverse
from django.utils import timezone
from django_q.models import Schedule

from cleanup.lab import task_queues
from cleanup.lab.alerts import AlertState
from cleanup.lab.roots import opening
from cleanup.management.commands.watch import seconds
from cleanup.models import (
    Alert,
    AlertKind,
    ClearAttempt,
    Heartbeat,
    Hold,
    Run,
    StagingRoot,
    Sweep,
    SweepBreaker,
)
from cleanup.monitoring import watchdog
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.sweeps import breakers
from cleanup.web.runs.run_list import queue_is_silent
from tests.tools.checkout import CHECKOUT
from tests.tools.lab import RUN_PATH, Lab

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ELSEWHERE = "labpc-77"

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]


@pytest.fixture(autouse=True)
def all_is_well(db: None, now: datetime, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clusters that beat and schedules that run, by the tests' clock; each test breaks one thing."""
    monkeypatch.setattr(watchdog, "_SECOND_LOOK_SECONDS", 0.01)
    beat_all(now, settings.EXLAB_HOST)
    task_queues.create()
    Schedule.objects.update(next_run=now + MINUTE)


def beat_all(at: datetime, host: str) -> None:
    for cluster in watchdog.clusters():
        Heartbeat.objects.update_or_create(cluster=cluster, host=host, defaults={"at": at})


def look(now: datetime, **more: Any) -> dict[str, tuple[str, str]]:
    watched = watchdog.watch(now=now, **more)
    assert watched.failed == []
    return {alert.subject: (alert.kind, alert.reason) for alert in watched.alerts}


def seen(lab: Lab, root: StagingRoot, at: datetime, state: str = "sync_queued", **more: Any) -> Run:
    lab.run(state=state, **more)
    discovery.discover(root, now=at)
    return Run.objects.get(run_path=more.get("run_path", RUN_PATH))


def test_nothing_is_wrong_in_a_lab_where_all_is_well(lab: Lab, root: Any, now: datetime) -> None:
    seen(lab, root, now, state="sync_verified")
    assert look(now) == {}
    assert Heartbeat.objects.get(cluster=watchdog.WATCH).at == now


# Runs


def look_at_runs(at: datetime) -> dict[str, tuple[str, str]]:
    Schedule.objects.update(next_run=at)
    return look(at, listening_since=at)


@pytest.mark.parametrize("state", ["staging", "complete", "sync_queued"])
def test_a_run_that_waits_too_long_is_stalled(lab: Lab, root: Any, now: datetime, state: str) -> None:
    run = seen(lab, root, now, state, verified_at=now)
    entered = run.events.order_by("position").last().at
    day = timedelta(hours=24)
    assert look_at_runs(entered + day) == {}
    assert look_at_runs(entered + day + SECOND) == {f"run:{run.pk}": (AlertKind.STALLED_RUN, Reason.STALLED)}
    alert = Alert.objects.get()
    assert (alert.run, alert.root) == (run, root)
    assert alert.detail == f"{state} since {entered:%Y-%m-%d %H:%M} UTC, and 24 h is the limit here"


@pytest.mark.parametrize("change", ["verified", "declared gone"])
def test_a_run_that_has_moved_on_is_stalled_no_more(lab: Lab, root: Any, now: datetime, change: str) -> None:
    run = seen(lab, root, now)
    assert look_at_runs(now)
    fields = {"state": "sync_verified"} if change == "verified" else {"gone_at": now}
    Run.objects.filter(pk=run.pk).update(**fields)
    assert look_at_runs(now + MINUTE) == {}
    assert Alert.objects.get().ended_at == now + MINUTE


def test_each_instrument_has_its_own_patience(lab: Lab, root: Any, now: datetime, policy: Callable[..., Any]) -> None:
    run = seen(lab, root, now, verified_at=now)
    entered = run.events.order_by("position").last().at
    policy(stalled_after_hours=48)
    policy(equipment="ANOTHER_01", stalled_after_hours=1)
    assert look_at_runs(entered + 47 * HOUR) == {}
    policy(equipment=run.equipment, stalled_after_hours=2)
    assert look_at_runs(entered + 2 * HOUR) == {}
    assert f"run:{run.pk}" in look_at_runs(entered + 3 * HOUR)
    policy(equipment=run.equipment, stalled_after_hours=72)
    assert look_at_runs(entered + 3 * HOUR) == {}


def test_a_clock_that_is_ahead_hides_no_run(lab: Lab, root: Any, now: datetime) -> None:
    run = seen(lab, root, now, verified_at=now + timedelta(days=900))
    assert look_at_runs(now + 24 * HOUR) == {}
    assert f"run:{run.pk}" in look_at_runs(now + 25 * HOUR)


def test_a_run_without_history_counts_from_its_first_sight(root: Any, now: datetime) -> None:
    run = Run.objects.create(
        root=root, run_path=RUN_PATH, identity="1:1:-", state="staging", run_kind="test", first_seen_at=now
    )
    assert look_at_runs(now + 24 * HOUR) == {}
    assert f"run:{run.pk}" in look_at_runs(now + 25 * HOUR)


def test_a_run_that_is_missing_is_left_to_those_who_look_for_it(lab: Lab, root: Any, now: datetime) -> None:
    run = seen(lab, root, now)
    Run.objects.filter(pk=run.pk).update(problem=Reason.MISSING_DIRECTORY)
    assert look_at_runs(now) == {}


def test_a_run_that_moves_on_while_it_is_looked_at_gets_no_alert(lab: Lab, root: Any, now: datetime) -> None:
    run = seen(lab, root, now)
    stale = AlertState(subject="x", reason=Reason.STALLED, run=run, root=root)
    assert watchdog._still_waiting([stale]) == [stale]
    Run.objects.filter(pk=run.pk).update(state="sync_verified")
    assert watchdog._still_waiting([stale]) == []


def test_two_thousand_waiting_runs_cost_few_queries(
    root: Any, now: datetime, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    Run.objects.bulk_create(
        Run(
            root=root,
            run_path=f"E/P/Runs/{number}",
            identity="",
            state="staging",
            run_kind="test",
            first_seen_at=now if number else now - 30 * HOUR,
        )
        for number in range(2000)
    )
    look_at_runs(now)
    with django_assert_max_num_queries(41):  # one of them asks what is known of the clock
        assert len(look_at_runs(now)) == 1


# Attempts


@pytest.fixture
def attempt(lab: Lab, root: Any, now: datetime) -> ClearAttempt:
    run = seen(lab, root, now, state="sync_verified")
    long_ago = now - HOUR
    return ClearAttempt.objects.create(
        run=run, phase="intent", host=root.host, requester="operator", actor="a", created_at=long_ago, phase_at=long_ago
    )


@pytest.fixture
def held(attempt: ClearAttempt) -> Iterator[None]:
    with opening.data_dir().lock(str(attempt.run_id)) as free:
        assert free
        yield


@pytest.mark.parametrize("phase", ["intent", "committed"])
def test_an_attempt_that_holds_its_lock_without_progress_is_told(
    attempt: ClearAttempt, held: None, now: datetime, phase: str
) -> None:
    ClearAttempt.objects.update(phase=phase)
    (found,) = look(now).values()
    assert found == (AlertKind.STALLED_ATTEMPT, Reason.NO_PROGRESS)
    assert Alert.objects.get().run == attempt.run
    ClearAttempt.objects.update(progress_at=now)
    assert look(now + MINUTE) == {}


def test_an_attempt_without_a_holder_is_recoverys_affair(attempt: ClearAttempt, now: datetime) -> None:
    assert look(now) == {}


@pytest.mark.parametrize("field", ["phase_at", "progress_at"])
def test_an_attempt_that_moved_within_ten_minutes_is_at_work(
    attempt: ClearAttempt, held: None, now: datetime, field: str
) -> None:
    ClearAttempt.objects.update(**{field: now - 9 * MINUTE})
    assert look(now) == {}


def test_a_nas_that_is_given_more_time_is_waited_for(
    attempt: ClearAttempt, held: None, now: datetime, settings: Any
) -> None:
    settings.EXLAB_NAS_TIMEOUT = 7200.0
    assert look(now) == {}


@pytest.mark.parametrize("change", [{"phase": "done"}, {"progress_at": "now"}])
def test_an_attempt_is_read_again_before_anything_is_said(
    attempt: ClearAttempt, held: None, now: datetime, monkeypatch: pytest.MonkeyPatch, change: dict[str, str]
) -> None:
    fields = {name: now if value == "now" else value for name, value in change.items()}
    monkeypatch.setattr(watchdog.time, "sleep", lambda seconds: ClearAttempt.objects.update(**fields))
    assert look(now) == {}
    assert not Alert.objects.exists()


def test_a_clear_says_when_it_last_made_progress(
    attempt: ClearAttempt, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cleanup.runs import work_progress

    monkeypatch.setattr(work_progress, "_PROGRESS_SECONDS", 0.0)
    proof, removal = work_progress.of_proof(attempt), work_progress.of_removal(attempt)
    for report in (lambda: proof(5), lambda: removal(1, 5)):
        ClearAttempt.objects.update(progress_at=None)
        before = timezone.now()
        report()
        assert ClearAttempt.objects.get().progress_at >= before


# Holds


def test_a_hold_that_ends_soon_and_one_by_an_old_file_are_told(lab: Lab, root: Any, now: datetime) -> None:
    run = seen(lab, root, now, state="sync_verified")
    laid = Hold.objects.create(run=run, owner="ada", reason="paper", created_at=now, until=now + 4 * DAY)
    file = Hold.objects.create(run=run, source="file", owner="bob", reason="keep", created_at=now)

    def told(at: datetime) -> dict[str, tuple[str, str]]:
        return look(at, listening_since=at)

    assert told(now) == {}
    assert told(now + DAY) == {}, "half of it is still to come"
    assert told(now + 2 * DAY) == {}, "the file keeps its run longer"
    Hold.objects.filter(pk=file.pk).update(released_at=now)
    assert told(now + 2 * DAY) == {f"hold:{laid.pk}": (AlertKind.HOLD, Reason.HOLD_ENDING)}
    Hold.objects.filter(pk=file.pk).update(released_at=None)
    Alert.objects.filter(ended_at__isnull=False).delete()
    assert Alert.objects.get().run == run
    assert told(now + 31 * DAY) == {f"hold:{file.pk}": (AlertKind.HOLD, Reason.HOLD_OLD)}
    Hold.objects.update(released_at=now)
    assert told(now + 32 * DAY) == {}


# Timed tasks


@pytest.mark.parametrize(
    "change",
    [{"next_run": -5 * MINUTE}, {"repeats": 0}, {"name": "something else"}, {"next_run": None}],
    ids=["late", "used up", "missing", "without a next run"],
)
def test_a_timed_task_that_does_not_run_is_told(now: datetime, change: dict[str, Any]) -> None:
    name, subject = "cleanup heartbeat", f"{project.EXLAB_HOST}:cleanup heartbeat"
    fields = {key: now + value if isinstance(value, timedelta) else value for key, value in change.items()}
    Schedule.objects.filter(name=name).update(**fields)
    assert look(now) == {subject: (AlertKind.SCHEDULE, Reason.SCHEDULE_MISSED)}
    Schedule.objects.filter(name="something else").delete()
    task_queues.create()
    Schedule.objects.update(next_run=now + MINUTE)
    assert look(now + SECOND) == {}


def test_what_was_due_while_nothing_ran_has_a_grace(now: datetime) -> None:
    """After a start the night's schedules are late; an alert of another watchdog stays."""
    Schedule.objects.filter(name="cleanup sweep").update(next_run=now - 9 * HOUR)
    assert look(now, listening_since=now) == {}
    late = {f"{project.EXLAB_HOST}:cleanup sweep"}
    assert look(now + 3 * MINUTE, listening_since=now).keys() == late
    assert look(now + 3 * MINUTE, listening_since=now + 2 * MINUTE).keys() == late
    assert Alert.objects.get().since == now + 3 * MINUTE


def test_a_timed_task_that_a_clock_ahead_has_put_off_is_told_and_put_right(now: datetime) -> None:
    Schedule.objects.filter(name="cleanup sweep").update(next_run=now + 400 * DAY)
    late = look(now, listening_since=now)
    assert late == {f"{project.EXLAB_HOST}:cleanup sweep": (AlertKind.SCHEDULE, Reason.SCHEDULE_MISSED)}
    assert "by a clock that was ahead" in Alert.objects.get().detail


# Clusters and hosts


def test_what_a_clock_ahead_has_written_is_no_sign_of_life(root: Any, now: datetime, settings: Any) -> None:
    StagingRoot.objects.update(created_at=now - HOUR)
    Heartbeat.objects.create(cluster=watchdog.WATCH, host=root.host, at=now + 400 * DAY)
    Heartbeat.objects.update(at=now + 400 * DAY)
    assert watchdog.silent_watches(now) == [root.host]
    assert queue_is_silent(now)
    settings.EXLAB_HOST = ELSEWHERE
    assert look(now) == {root.host: (AlertKind.HOST, Reason.HOST_UNSERVED)}
    assert "by a clock that was ahead" in Alert.objects.get().detail
    settings.EXLAB_HOST = root.host
    assert look(now).keys() == {f"{root.host}:{cluster}" for cluster in watchdog.clusters()}


# Sweeps and staging roots


def test_an_open_breaker_is_told_until_a_person_lets_the_sweeps_go_on(
    root: Any, now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = Sweep.objects.create(root=root, kind="timed", host=root.host, now=now, started_at=now)
    breaker = SweepBreaker.objects.create(root=root, sweep=sweep, kind="share", detail="94 % of it", opened_at=now)
    assert look(now) == {f"breaker:{root.pk}": (AlertKind.SCHEDULE, Reason.BREAKER_OPEN)}
    assert (Alert.objects.get().detail, Alert.objects.get().root) == ("94 % of it", root)
    assert "94 % of it" in caplog.text
    assert look(now + SECOND)
    assert breakers.go_on(breaker, actor="ada", note="", now=now)
    assert look(now + MINUTE) == {}


def test_a_staging_root_that_is_not_there_is_told(root: Any, now: datetime, caplog: pytest.LogCaptureFixture) -> None:
    StagingRoot.objects.update(problem=Reason.ROOT_NOT_MOUNTED)
    assert look(now) == {f"root:{root.pk}": (AlertKind.HOST, Reason.ROOT_NOT_MOUNTED)}
    assert f"{root.name} on {root.host}" in caplog.text
    StagingRoot.objects.update(problem="")
    assert look(now + MINUTE) == {}


def test_a_cluster_without_heartbeat_is_told(root: Any, now: datetime) -> None:
    task_cluster, clearing_cluster, _proving = watchdog.clusters()
    Heartbeat.objects.filter(cluster=clearing_cluster).update(at=now - 3 * MINUTE)
    Heartbeat.objects.filter(cluster=task_cluster).update(at=now - 3 * MINUTE + SECOND)
    assert look(now) == {f"{root.host}:{clearing_cluster}": (AlertKind.CLUSTER, Reason.CLUSTER_SILENT)}
    Heartbeat.objects.update(at=now)
    assert look(now) == {}
    Heartbeat.objects.filter(cluster=task_cluster).delete()
    assert look(now, listening_since=now) == {}
    assert look(now, listening_since=now - 3 * MINUTE).keys() == {f"{root.host}:{task_cluster}"}
    assert "never heard" in Alert.objects.get(ended_at=None).detail


def test_a_host_without_staging_roots_needs_no_clusters(now: datetime) -> None:
    Heartbeat.objects.all().delete()
    assert look(now) == {}


def test_a_cluster_that_works_is_not_silent(root: Any, now: datetime, settings: Any) -> None:
    """All workers may be clearing for hours. A process's environment tells its cluster."""
    task_cluster, clearing_cluster, proving_cluster = watchdog.clusters()
    Heartbeat.objects.exclude(cluster=proving_cluster).update(at=now - HOUR)
    lock = Path(settings.EXLAB_DATA_DIR) / "locks" / "17"
    lock.parent.mkdir(parents=True, exist_ok=True)
    hold = "f = open(sys.argv[2], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)"
    script = f"import fcntl, sys, time; {hold}"
    worker = subprocess.Popen(
        [sys.executable, "-c", script, "qcluster", lock],
        env={**os.environ, "Q_CLUSTER_NAME": clearing_cluster},
        stdout=subprocess.PIPE,
    )
    try:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"held\n"
        assert look(now).keys() == {f"{root.host}:{task_cluster}"}
    finally:
        worker.kill()
        worker.communicate()
    assert look(now).keys() == {f"{root.host}:{task_cluster}", f"{root.host}:{clearing_cluster}"}


def test_a_host_that_nobody_serves_is_told_by_another(root: Any, now: datetime, settings: Any) -> None:
    StagingRoot.objects.update(created_at=now - HOUR)
    settings.EXLAB_HOST = ELSEWHERE
    Heartbeat.objects.update(at=now - 5 * MINUTE)
    assert look(now) == {root.host: (AlertKind.HOST, Reason.HOST_UNSERVED)}
    assert "staging roots: lab" in Alert.objects.get().detail
    Heartbeat.objects.create(cluster=watchdog.WATCH, host=root.host, at=now - MINUTE)
    assert look(now) == {}


def test_a_host_that_is_new_has_a_moment(root: Any, now: datetime, settings: Any) -> None:
    settings.EXLAB_HOST = ELSEWHERE
    Heartbeat.objects.all().delete()
    StagingRoot.objects.update(created_at=now - MINUTE)
    assert look(now) == {}


def test_two_watchdogs_leave_each_others_alerts_alone(
    attempt: ClearAttempt, held: None, root: Any, now: datetime, settings: Any
) -> None:
    Heartbeat.objects.filter(cluster=watchdog.clusters()[0]).update(at=now - 3 * MINUTE)
    mine = look(now)
    assert len(mine) == 2
    settings.EXLAB_HOST = ELSEWHERE
    assert look(now + SECOND) == mine
    settings.EXLAB_HOST = root.host
    assert look(now + 2 * SECOND) == mine
    assert Alert.objects.count() == 2


# The watchdog itself


def test_its_own_silence_is_told(root: Any, now: datetime, settings: Any) -> None:
    assert watchdog.silent_watches(now)
    look(now)
    assert not watchdog.silent_watches(now + 2 * MINUTE - SECOND)
    assert watchdog.silent_watches(now + 2 * MINUTE)
    Heartbeat.objects.create(cluster=watchdog.WATCH, host=ELSEWHERE, at=now + 2 * MINUTE)
    assert watchdog.silent_watches(now + 2 * MINUTE) == [root.host], "another host's watchdog does not see this one"


def test_without_staging_roots_there_is_nothing_to_watch(now: datetime) -> None:
    assert not watchdog.silent_watches(now)


def test_one_bad_rule_does_not_silence_the_others(
    root: Any, now: datetime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fall(*args: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(watchdog.rules, "waiting_since", fall)
    Run.objects.create(
        root=root, run_path=RUN_PATH, identity="1:1:-", state="staging", run_kind="test", first_seen_at=now
    )
    Schedule.objects.update(repeats=0)
    watched = watchdog.watch(now=now)
    assert watched.failed == ["runs"]
    assert len(watched.alerts) == len(task_queues.SCHEDULES)
    assert "ZeroDivisionError" in caplog.text


# The command


class Watching:
    def __init__(self, env: dict[str, str], *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "watch", *options],
            cwd=CHECKOUT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline() or f'{{"ended": {self.process.poll()}}}')

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def start(subprocess_env: dict[str, str]) -> Iterator[Callable[..., Watching]]:
    started: list[Watching] = []

    def start_one(*options: str, **env: str) -> Watching:
        started.append(Watching({**subprocess_env, **env}, *options))
        return started[-1]

    yield start_one
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.mark.django_db(transaction=True)
def test_the_real_process_shows_a_stalled_run_and_its_end_at_the_next_look(
    lab: Lab, root: Any, start: Callable[..., Watching]
) -> None:
    watch = start("--every", "0.2", "--json")
    assert watch.line()["alerts"] == []
    run = seen(lab, root, timezone.now())
    began = time.monotonic()
    while not (alerts := watch.line()["alerts"]):
        assert time.monotonic() - began < 20
    assert [(alert["run_path"], alert["reason"], alert["root"]) for alert in alerts] == [(RUN_PATH, "stalled", "lab")]
    Run.objects.filter(pk=run.pk).update(state="sync_verified")
    while watch.line()["alerts"]:
        assert time.monotonic() - began < 40
    assert not watchdog.silent_watches(timezone.now())
    assert watch.end() == 0
    assert watchdog.silent_watches(timezone.now() + 2 * MINUTE), "a watchdog that was ended is noticed"


@pytest.mark.django_db(transaction=True)
def test_the_real_process_outlives_a_database_that_is_away(tmp_path: Path, start: Callable[..., Watching]) -> None:
    away = tmp_path / "away" / "db.sqlite3"
    watch = start("--every", "0.1", DATABASE_URL=f"sqlite:///{away}")
    assert watch.process.stderr is not None
    for _ in range(3):
        assert "the watchdog cannot ask the database" in watch.process.stderr.readline()
    if connection.vendor == "sqlite":  # and is back as soon as the database is
        import sqlite3

        away.parent.mkdir()
        with sqlite3.connect(f"file:{connection.settings_dict['NAME']}?mode=ro", uri=True) as here:
            here.execute("VACUUM INTO ?", [str(tmp_path / "copy")])
        (tmp_path / "copy").rename(away)
        deadline = time.monotonic() + 20
        with sqlite3.connect(away) as there:
            while not there.execute("SELECT 1 FROM cleanup_heartbeat WHERE cluster = 'watch'").fetchone():
                assert time.monotonic() < deadline
                time.sleep(0.02)
    assert watch.end() == 0


@pytest.mark.django_db(transaction=True)
def test_one_look_by_hand(lab: Lab, root: Any, now: datetime, start: Callable[..., Watching]) -> None:
    beat_all(timezone.now(), root.host)
    Schedule.objects.update(next_run=timezone.now() + MINUTE)
    seen(lab, root, now)
    as_json, as_text = start("--once", "--json"), start("--once")
    told = as_json.line()
    assert set(told) == {"now", "alerts", "failed"}
    assert [alert["subject"] for alert in told["alerts"]] == [f"run:{Run.objects.get().pk}"]
    assert set(told["alerts"][0]) == {
        "kind", "subject", "root", "run_path", "reason", "detail", "since", "seen_at"
    }  # fmt: skip
    assert as_json.process.wait(20) == 0
    said, errors = as_text.process.communicate(timeout=20)
    assert f"stalled_run  {RUN_PATH}  {Reason.STALLED.sentence}" in said
    assert as_text.process.returncode == 0, errors


@pytest.mark.parametrize("pace", ["0", "-1", "61", "often"])
def test_a_pace_that_makes_no_sense_is_refused(pace: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no number of seconds"):
        seconds(pace)


# The pages


def test_the_pages_say_that_no_watchdog_runs(lab: Lab, root: Any, now: datetime, admin_client: Any) -> None:
    run = seen(lab, root, now)
    pages = (reverse("run-list"), reverse("run-detail", args=[run.pk]))
    for page in pages:
        assert f"No watchdog runs on {root.host}" in admin_client.get(page).content.decode()
    watchdog.watch(now=timezone.now())
    for page in pages:
        assert "No watchdog runs on" not in admin_client.get(page).content.decode()
