"""`manage.py up` with real processes."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.cookiejar import CookieJar
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone

from cleanup import demo
from cleanup.management import supervisor as supervisors
from cleanup.management.commands import up
from cleanup.management.supervisor import SILENT_AFTER, Child, Supervisor, has_fallen_silent, holds_a_lock
from cleanup.models import Heartbeat
from tests.faults import means
from tests.tools.checkout import CHECKOUT
from tests.tools.lab import outlines

pytestmark = pytest.mark.one_engine(by="function")


PATIENCE = 90.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)


def sessions_of(parent: int) -> dict[int, str]:
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(stat[1]) == parent:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def members(sessions: set[int]) -> set[int]:
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(stat[3]) in sessions and stat[0] != "Z":
                found.add(int(entry.name))
    return found


def kill_all(sessions: set[int]) -> set[int]:
    living = members(sessions)
    for pid in living:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return living


class Running:
    def __init__(self, env: dict[str, str], data: Path, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.errors = data.parent / f"stderr-{self.port}"
        bind = f"127.0.0.1:{self.port}"
        command = [sys.executable, "manage.py", "up", "--bind", bind, "--json", *options]
        with open(self.errors, "ab") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=CHECKOUT,
                env={**env, "EXLAB_DATA_DIR": str(data)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.sessions: set[int] = set()

    def wait_until_up(self) -> dict:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.errors.read_text()
        self.sessions = set(self.children)
        return json.loads(line)

    @property
    def children(self) -> dict[int, str]:
        return sessions_of(self.process.pid)

    def child(self, word: str) -> int:
        return next(pid for pid, command in self.children.items() if word in command)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def clear_away(self) -> None:
        if self.process.poll() is None:
            self.sessions |= set(self.children)
            self.process.kill()
        self.process.wait()
        kill_all(self.sessions)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def start(subprocess_env: dict[str, str], data: Path) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def start_one(*options: str, port: int | None = None, env: dict[str, str] | None = None) -> Running:
        running.append(Running({**subprocess_env, **(env or {})}, data, *options, port=port))
        return running[-1]

    yield start_one
    for one in running:
        one.clear_away()


def sign_in(address: str, user: str, password: str) -> str:
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    with browser.open(f"{address}login/") as page:
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.read().decode())
    assert token
    form = {"username": user, "password": password, "csrfmiddlewaretoken": token[1]}
    with browser.open(f"{address}login/?next=/runs/", urllib.parse.urlencode(form).encode()) as page:
        return page.read().decode()


def test_serves_the_demonstration_and_ends_without_a_trace(start: Callable[..., Running], data: Path) -> None:
    running = start("--demo")
    told = running.wait_until_up()
    assert told["address"] == f"http://127.0.0.1:{running.port}/"
    assert set(told["users"]) == {"admin", "operator", "viewer", "auditor"}
    assert told["first_admin_token"] is None
    page = sign_in(told["address"], "operator", told["users"]["operator"])
    assert "CONFOCAL_01" in page
    assert "Sign in" in sign_in(told["address"], "operator", "wrong")

    assert len(running.sessions) == 6
    second = start()
    assert second.process.wait(PATIENCE) == 2
    assert f"running already on {data} (process {running.process.pid})" in second.errors.read_text()

    assert running.stop() == 0, running.errors.read_text()
    assert members(running.sessions) == set()

    before = outlines(data / "demo" / "staging")
    again = start("--demo", port=running.port)
    assert again.wait_until_up()["users"] == {}
    assert outlines(data / "demo" / "staging") == before
    assert again.stop() == 0, again.errors.read_text()


def test_only_the_demo_gets_new_passwords(start: Callable[..., Running]) -> None:
    running = start("--new-passwords")
    assert running.process.wait(PATIENCE) == 2
    assert "for the demo's accounts only: add --demo" in running.errors.read_text()


@pytest.mark.django_db
def test_the_demo_says_its_passwords_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    User.objects.create_superuser("admin")  # the demo has one, so no token for the first is told
    names = ["admin", "operator"]
    first = demo.Demo(tmp_path, dict.fromkeys(names, "S3cret"), names, share=0.5)
    up.Command()._tell("http://here/", first, as_json=False)
    said = capsys.readouterr().out
    assert said.count("S3cret") == 2
    assert "shown only this once" in said
    assert "smaller than usual" in said
    up.Command()._tell("http://here/", demo.Demo(tmp_path, {}, names), as_json=False)
    said = capsys.readouterr().out
    assert "--demo --new-passwords" in said
    assert "admin, operator" in said
    assert "smaller" not in said


@pytest.mark.exhaustive
def test_clusters_and_watchdog_give_signs_of_life_under_the_names_that_are_listened_for(
    start: Callable[..., Running],
) -> None:
    Heartbeat.objects.all().delete()
    running = start()
    running.wait_until_up()
    wanted = {child.beat for child in supervisors.children() if child.beat}
    assert len(wanted) == 4
    wait_for(
        lambda: set(Heartbeat.objects.filter(host=settings.EXLAB_HOST).values_list("cluster", flat=True)) == wanted,
        "a heartbeat of each",
    )
    assert running.stop() == 0


@pytest.mark.parametrize("word", ["qcluster", pytest.param("gunicorn", marks=pytest.mark.exhaustive)])
def test_the_death_of_one_child_stops_the_others(start: Callable[..., Running], data: Path, word: str) -> None:
    running = start()
    token = running.wait_until_up()["first_admin_token"]
    kept = data / "first-admin-token"
    assert (kept.read_text().strip(), kept.stat().st_mode & 0o777) == (token, 0o600)
    os.kill(running.child(word), signal.SIGKILL)
    assert running.process.wait(PATIENCE) == 1
    assert "ended by itself" in running.errors.read_text()
    assert members(running.sessions) == set()


@pytest.mark.exhaustive
def test_orphans_keep_a_second_one_from_starting_and_one_command_ends_them(
    start: Callable[..., Running], data: Path, tmp_path: Path
) -> None:
    """Four starts, two refused: a data directory behind a link, of a killed `up`, and then moved away."""
    (tmp_path / "real").mkdir()
    data.symlink_to(tmp_path / "real")
    running = start()
    running.wait_until_up()
    running.process.kill()
    running.process.wait()
    left = members(running.sessions)
    assert left
    second = start()
    assert second.process.wait(PATIENCE) == 2
    words = second.errors.read_text()
    assert "left processes behind" in words
    named = {int(number) for number in re.findall(r"\b\d+\b", words.partition("its lock: ")[2])}
    assert left <= named <= members(running.sessions)  # a cluster may have been starting still
    for name in ("the web server", "the task cluster", "the clearing cluster", "the watchdog"):
        assert f"{name} (" in words
    assert "`manage.py up --replace` ends them and starts anew." in words

    third = start("--replace")
    third.wait_until_up()
    assert members(running.sessions) == set()
    assert "Ending these processes: " in third.errors.read_text()

    (tmp_path / "real").rename(tmp_path / "away")
    moved_at = time.monotonic()
    assert third.process.wait(PATIENCE) == 2
    assert time.monotonic() - moved_at < 30
    assert members(third.sessions) == set()
    assert f"The data directory {data} was moved, unmounted or replaced" in third.errors.read_text()
    assert not (tmp_path / "real").exists()
    fourth = start()
    assert fourth.process.wait(PATIENCE) == 2
    assert re.search(r"is not (back|there)", fourth.errors.read_text())
    assert not (tmp_path / "real").exists()


@pytest.mark.exhaustive
def test_a_running_one_is_replaced_and_of_two_at_once_one_stays(start: Callable[..., Running]) -> None:
    running = start()
    running.wait_until_up()
    second = start("--replace", port=running.port)
    second.wait_until_up()
    assert running.process.wait(PATIENCE) == 0
    assert members(running.sessions) == set()
    both = [start("--replace"), start("--replace")]
    wait_for(lambda: any(one.process.poll() is not None for one in both), "the one that is refused")
    assert second.process.wait(PATIENCE) == 0
    assert members(second.sessions) == set()
    (stays,) = [one for one in both if one.process.poll() is None]
    stays.wait_until_up()
    assert stays.stop() == 0


@pytest.mark.exhaustive
def test_a_data_directory_that_is_unmounted_ends_it(start: Callable[..., Running], data: Path) -> None:
    try:
        means.need_root("may mount")
    except means.Unavailable as missing:
        means.skip_or_fail(missing)
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(data)], check=True)
    try:
        running = start(env={"DATABASE_URL": f"sqlite:///{data / 'db.sqlite3'}", "EXLAB_SECRET_KEY": ""})
        running.wait_until_up()
        subprocess.run(["umount", "--lazy", str(data)], check=True)
        assert running.process.wait(PATIENCE) == 2
        assert members(running.sessions) == set()
        assert "was moved, unmounted or replaced" in running.errors.read_text()
        assert list(data.iterdir()) == []
    finally:
        if os.path.ismount(data):
            subprocess.run(["umount", "--lazy", str(data)], check=True)


@pytest.mark.parametrize("bind", ["8000", "127.0.0.1:", "127.0.0.1:eighty", ":8000", "127.0.0.1:99999"])
def test_a_bind_that_makes_no_sense_is_bad_usage(bind: str) -> None:
    with pytest.raises(up.CommandError, match="HOST:PORT") as caught:
        up._parse_bind(bind)
    assert caught.value.returncode == 2


def test_a_taken_port_is_bad_usage(start: Callable[..., Running]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        running = start(port=taken.getsockname()[1])
        assert running.process.wait(PATIENCE) == 2
    assert "Choose another place with --bind" in running.errors.read_text()


@pytest.mark.parametrize(
    ("bind", "address"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000/"),
        ("[::1]:8000", "http://[::1]:8000/"),
        ("0.0.0.0:80", f"http://{settings.EXLAB_HOST}:80/"),
    ],
)
def test_the_address_is_one_to_click_on(bind: str, address: str) -> None:
    assert up._address(*up._parse_bind(bind)) == address


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stops_on_signals_but_not_on_one_that_it_was_started_to_ignore(number: signal.Signals) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        supervisor = Supervisor(0, [])
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        supervisor.stop_on_signals()
        os.kill(os.getpid(), number)
        assert supervisor.interrupted
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
        supervisor.stop_on_signals()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


# Silence


def sleeper(script: str = "sleep 600", beat: str = "exlab") -> Child:
    return Child("A sleeper", ["/bin/sh", "-c", script], beat=beat)


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    supervisor = Supervisor(lock, [])
    yield supervisor
    supervisor.stop()
    os.close(lock)


def grown_old(child: Child) -> None:
    child.started -= (SILENT_AFTER + timedelta(seconds=1)).total_seconds()


@pytest.mark.django_db(transaction=True)
def test_a_silent_cluster_is_noticed_the_second_time(supervisor: Supervisor) -> None:
    child = sleeper()
    supervisor.children.append(child)
    supervisor.start()
    assert not has_fallen_silent(child)
    assert not has_fallen_silent(child), "it has had no time to start yet"
    grown_old(child)
    assert not has_fallen_silent(child)
    assert has_fallen_silent(child)
    old = child.process
    supervisor.restart(child)
    assert old is not None
    assert old.poll() is not None
    assert child.exit_status is None
    assert not has_fallen_silent(child)


@pytest.mark.django_db(transaction=True)
def test_a_heartbeat_counts_for_its_own_cluster_only(supervisor: Supervisor) -> None:
    supervisor.children += [sleeper(beat="exlab"), sleeper(beat="exlab-clear")]
    supervisor.start()
    beat = timezone.now()
    Heartbeat.objects.update_or_create(cluster="exlab", host=settings.EXLAB_HOST, defaults={"at": beat})
    for child in supervisor.children:
        grown_old(child)
    for _ in range(2):
        silent = [child.beat for child in supervisor.children if has_fallen_silent(child)]
    assert silent == ["exlab-clear"]
    Heartbeat.objects.filter(cluster="exlab").update(at=beat - SILENT_AFTER)
    for _ in range(2):
        silent = [child.beat for child in supervisor.children if has_fallen_silent(child)]
    assert silent == ["exlab", "exlab-clear"]


@pytest.mark.django_db(transaction=True)
def test_a_cluster_in_the_middle_of_a_clear_is_left_alone(supervisor: Supervisor, data: Path) -> None:
    """All of its workers may be clearing for hours, and the heartbeat waits behind them."""
    settings_before, settings.EXLAB_DATA_DIR = settings.EXLAB_DATA_DIR, data
    try:
        (data / "locks").mkdir(parents=True)
        lock = data / "locks" / "17"
        child = sleeper(f"exec flock {lock} sleep 600")
        supervisor.children.append(child)
        supervisor.start()
        assert child.process is not None
        wait_for(lambda: holds_a_lock(child.process.pid), "the lock", 10)
        assert not holds_a_lock(os.getpid())
        grown_old(child)
        assert [has_fallen_silent(child) for _ in range(3)] == [False] * 3
    finally:
        settings.EXLAB_DATA_DIR = settings_before


def test_what_does_not_end_when_asked_is_killed_with_all_it_started(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisors, "_GRACE_SECONDS", 0.5)
    stubborn = sleeper("trap '' TERM; sleep 600 & sleep 600; sleep 600", beat="")
    supervisor.children.append(stubborn)
    supervisor.start()
    assert stubborn.process is not None
    session = stubborn.process.pid
    wait_for(lambda: len(members({session})) == 3, "the sleepers", 10)
    supervisor.stop()
    wait_for(lambda: not members({session}), "the end of the sleepers", 10)
