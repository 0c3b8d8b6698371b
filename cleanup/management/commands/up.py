"""`manage.py up`: web server and task clusters, from one command, until it is interrupted."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.checks import run_checks
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, close_old_connections
from django.utils import timezone
from django_q.tasks import async_task

from cleanup import checks, demo, queueing, recovery
from cleanup.models import Heartbeat
from cleanup.registering import RegistrationError

BAD_USAGE = 2
# A cluster can hang while its own status still says that it works; the heartbeat is a task, so it tells.
SILENT_AFTER = timedelta(minutes=3)
_LOOK_EVERY_SECONDS = 0.5
_LISTEN_FOR_HEARTBEATS_EVERY_SECONDS = 30.0
# How long a child may take to come to its end; a clear that is cut short by it is settled by recovery.
_GRACE_SECONDS = 30.0
_READY_SECONDS = 60.0


@dataclass
class Child:
    """A process of ours, leader of its own session. `cluster` is the name its heartbeats carry, if it has any."""

    name: str
    command: list[str]
    cluster: str = ""
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    was_silent: bool = False

    def start(self, lock: int) -> None:
        """Start it with the lock's descriptor, so that an orphan still holds the lock."""
        environment = dict(os.environ)
        environment.pop("Q_CLUSTER_NAME", None)
        if self.cluster == settings.EXLAB_CLEAR_CLUSTER:
            environment["Q_CLUSTER_NAME"] = self.cluster
        self.process = subprocess.Popen(
            self.command,
            cwd=settings.BASE_DIR,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            start_new_session=True,
            pass_fds=[lock],
        )
        self.started = time.monotonic()
        self.was_silent = False

    @property
    def exit_status(self) -> int | None:
        return self.process.poll() if self.process else None

    def age(self) -> timedelta:
        return timedelta(seconds=time.monotonic() - self.started)


@dataclass
class Household:
    """The children of one `up`."""

    lock: int
    children: list[Child]
    interrupted: bool = field(default=False)

    def start(self) -> None:
        for child in self.children:
            child.start(self.lock)

    def dead(self) -> Child | None:
        return next((child for child in self.children if child.exit_status is not None), None)

    def stop(self, children: list[Child] | None = None) -> None:
        """Ask each main process to end, wait, then kill what is left of its session.

        Only the main process is asked: a signal to all of a cluster's processes would end a task half way, and hang.
        """
        processes = [child.process for child in children or self.children if child.process]
        for process in processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + _GRACE_SECONDS
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def restart(self, child: Child) -> None:
        self.stop([child])
        _release_tasks(child)
        child.start(self.lock)


class Command(BaseCommand):
    help = "Run the web server and the task clusters until interrupted."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--bind", default="127.0.0.1:8000", metavar="HOST:PORT", help="where the pages are served")
        parser.add_argument("--demo", action="store_true", help="first make a demonstration lab, once")
        parser.add_argument("--json", action="store_true", help="tell address and users as one object on stdout")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        host, port = _parse_bind(options["bind"])
        with _sole_holder(settings.EXLAB_DATA_DIR) as lock:
            _expect_free(host, port)
            made = self._prepare(demo_wanted=options["demo"])
            household = Household(lock, _children(options["bind"]))
            _stop_on_signals(household)
            for child in household.children:
                _release_tasks(child)
            try:
                household.start()
                for child in household.children:
                    _ask_for_a_sign(child)
                if _wait_until_served(host, port, household):
                    self._tell(_address(host, port), made, as_json=options["json"])
                self._watch(household)
            finally:
                self.stderr.write("Stopping.")
                household.stop()

    def _prepare(self, *, demo_wanted: bool) -> demo.Demo | None:
        """Bring database and static files up to date, settle what a crash left; returns the demonstration's users."""
        self.stderr.write(f"Preparing {settings.EXLAB_DATA_DIR}.")
        call_command("migrate", interactive=False, verbosity=0)
        self._check(demo_wanted=demo_wanted)
        call_command("collectstatic", interactive=False, verbosity=0)
        settled = recovery.recover(now=timezone.now())
        for attempt in [*settled.rolled_back, *settled.rolled_forward]:
            self.stderr.write(f"Settled an interrupted clear: {attempt.run.run_path}.")
        if not demo_wanted:
            return None
        self.stderr.write("Making the demonstration lab.")
        try:
            return demo.make(timezone.now())
        except RegistrationError as error:
            raise CommandError(str(error), returncode=BAD_USAGE) from None

    def _check(self, *, demo_wanted: bool) -> None:
        """Print what the system checks say; an error keeps everything from starting."""
        messages = [message for message in run_checks(databases=["default"]) if not message.is_silenced()]
        for message in messages:
            if not (demo_wanted and message.id == checks.NO_STAGING_ROOT):  # the demonstration brings one
                self.stderr.write(f"{message.id}: {message.msg} {message.hint or ''}")
        if any(message.is_serious() for message in messages):
            raise CommandError("Nothing was started: see the errors above.", returncode=BAD_USAGE)

    def _tell(self, address: str, made: demo.Demo | None, *, as_json: bool) -> None:
        if as_json:
            users = made.passwords if made else {}
            self.stdout.write(json.dumps({"address": address, "demo": made is not None, "users": users}))
        else:
            if made:
                self.stdout.write(f"The demonstration lab lies in {made.base}. Sign in as:")
                for user, password in made.passwords.items():
                    self.stdout.write(f"  {user:<10}{password}")
            self.stdout.write(f"ExLab staging is at {address} (Ctrl-C stops it)")
        self.stdout.flush()

    def _watch(self, household: Household) -> None:
        """Return when interrupted; raise when a child dies; restart a cluster that has fallen silent."""
        listened = time.monotonic()
        while not household.interrupted:
            if dead := household.dead():
                raise CommandError(f"{dead.name} ended by itself (status {dead.exit_status}).")
            if time.monotonic() - listened > _LISTEN_FOR_HEARTBEATS_EVERY_SECONDS:
                listened = time.monotonic()
                for child in household.children:
                    if _has_fallen_silent(child):
                        self.stderr.write(f"{child.name} has given no sign for {SILENT_AFTER}: starting it again.")
                        household.restart(child)
                        _ask_for_a_sign(child)
            time.sleep(_LOOK_EVERY_SECONDS)


def _children(bind: str) -> list[Child]:
    manage = str(settings.BASE_DIR / "manage.py")
    cluster = [sys.executable, manage, "qcluster"]
    web = [sys.executable, "-m", "gunicorn", "--config", "python:exlab.serving", "--bind", bind, "exlab.wsgi"]
    return [
        Child("The task cluster", cluster, cluster=str(settings.Q_CLUSTER["name"])),
        Child("The clearing cluster", cluster, cluster=settings.EXLAB_CLEAR_CLUSTER),
        Child("The web server", web),
    ]


def _stop_on_signals(household: Household) -> None:
    def interrupt(number: int, frame: FrameType | None) -> None:
        household.interrupted = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # `nohup` means what it says
        signal.signal(signal.SIGHUP, interrupt)


def _release_tasks(child: Child) -> None:
    """Give back what an earlier cluster had taken in advance, or a clear would wait for a day."""
    if child.cluster:
        queueing.release(child.cluster, now=timezone.now())


def _ask_for_a_sign(child: Child) -> None:
    """Queue a heartbeat at once, because the first scheduled one comes half a minute after the start."""
    if child.cluster:
        alternative = child.cluster if child.cluster == settings.EXLAB_CLEAR_CLUSTER else None
        async_task("cleanup.tasks.heartbeat", cluster=alternative, task_name=f"first heartbeat of {child.cluster}")


def _has_fallen_silent(child: Child) -> bool:
    """Whether a cluster ran no task for too long, seen twice, though it is not in the middle of something long."""
    if not child.cluster or child.process is None or child.age() < SILENT_AFTER:
        return False
    since = timezone.now() - SILENT_AFTER
    try:
        close_old_connections()
        heard = Heartbeat.objects.filter(cluster=child.cluster, host=settings.EXLAB_HOST, at__gte=since).exists()
    except DatabaseError:
        return False  # the database's trouble is not the cluster's
    silent = not heard and not _holds_a_lock(child.process.pid)
    was_silent, child.was_silent = child.was_silent, silent
    return silent and was_silent


def _holds_a_lock(session: int) -> bool:
    """Whether a process of a session holds one of our locks: a clear or a discovery that may well take hours.

    All workers of a cluster may be busy with such work, and then its heartbeat waits behind them.
    """
    folder = settings.EXLAB_DATA_DIR / "locks"
    ours = {entry.stat().st_ino for entry in folder.iterdir()} if folder.exists() else set()
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()  # number: FLOCK ADVISORY WRITE pid major:minor:inode start end
        if len(fields) < 6 or fields[1] != "FLOCK" or int(fields[5].rpartition(":")[2]) not in ours:
            continue
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(int(fields[4])) == session:
                return True
    return False


@contextlib.contextmanager
def _sole_holder(data_dir: Path) -> Iterator[int]:
    """Hold the data directory's lock: two of us would run every task twice."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = data_dir / "up.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(_who_holds(path), returncode=BAD_USAGE) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield descriptor
    finally:
        os.close(descriptor)


def _who_holds(path: Path) -> str:
    holder = path.read_text().strip()
    if holder and Path(f"/proc/{holder}").exists():
        return f"`manage.py up` is running already on {path.parent} (process {holder})."
    left = ", ".join(str(pid) for pid in _holders(path)) or "they cannot be seen from here"
    return (
        f"An earlier `manage.py up` on {path.parent} was killed and left processes behind: {left}. "
        "End them first (kill), then start again."
    )


def _holders(path: Path) -> list[int]:
    """The processes that have a file open, as far as this user may see."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(link.resolve() == path for link in (process / "fd").iterdir()):
                found.append(int(process.name))
    return sorted(found)


def _parse_bind(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 65536):
        raise CommandError(f"--bind needs HOST:PORT, as in 127.0.0.1:8000, not {text}", returncode=BAD_USAGE)
    return host.strip("[]"), int(port)


def _expect_free(host: str, port: int) -> None:
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        problem = f"Nothing can be served at {host}:{port}: {error.strerror}. Choose another place with --bind."
        raise CommandError(problem, returncode=BAD_USAGE) from None


def _wait_until_served(host: str, port: int, household: Household) -> bool:
    """Whether the pages can be reached; False when a child died or somebody interrupted while we waited."""
    deadline = time.monotonic() + _READY_SECONDS
    while not household.interrupted and not household.dead() and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((_reachable(host), port), timeout=1):
            return True
        time.sleep(0.1)
    return False


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def _address(host: str, port: int) -> str:
    name = settings.EXLAB_HOST if host in ("0.0.0.0", "::") else host  # noqa: S104
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/"
