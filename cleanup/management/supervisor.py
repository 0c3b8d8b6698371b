"""The processes of `up` and `worker`: started, watched and ended together."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import FrameType

from django.conf import settings
from django.core.checks import run_checks
from django.core.management.base import CommandError
from django.db import DatabaseError, close_old_connections, connection
from django.utils import timezone
from django_q.tasks import async_task

from cleanup.clears import queue as clear_queue
from cleanup.clears import recovery
from cleanup.lab import task_queues
from cleanup.lab.nas import proving_leases
from cleanup.lab.roots import laid_markers
from cleanup.management import data_places, takeover
from cleanup.models import Heartbeat
from cleanup.monitoring import watchdog
from cleanup.rules.liveness import AHEAD, SILENT_AFTER
from cleanup.storage.data_directory import data_place
from cleanup.storage.data_directory.data_place import KeptFiles
from cleanup.storage.data_directory.datadir import DataDir
from exlab import databases, places
from exlab import settings as project

BAD_USAGE = 2
_LOOK_EVERY_SECONDS = 0.5
_LISTEN_FOR_HEARTBEATS_EVERY_SECONDS = 30.0
# How long a child may take to end; recovery settles a clear that the kill cuts off.
_GRACE_SECONDS = 30.0
_LOST_GRACE_SECONDS = 5.0

Say = Callable[[str], object]


@dataclass
class Child:
    """A process of ours, leader of its own session; `beat` names its heartbeats.

    `may_be_cut_off`: its work goes on where it stopped, so its end is not waited for.
    """

    name: str
    command: list[str]
    beat: str = ""
    queue: str = ""
    may_be_cut_off: bool = False
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    was_silent: bool = False

    def start(self, lock: int) -> None:
        """Start it with the lock's descriptor, so that an orphan still holds the lock."""
        environment = {**os.environ, **project.read.handed_on()}
        environment.pop("Q_CLUSTER_NAME", None)
        if self.queue:
            environment["Q_CLUSTER_NAME"] = self.queue
        # With this a child never makes a new data directory where the old one was taken away.
        environment[data_place.VARIABLE] = data_place.identity_of(lock)
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
class Supervisor:
    lock: int
    children: list[Child]
    interrupted: bool = field(default=False)
    place: KeptFiles = field(default_factory=KeptFiles)
    missed: bool = False

    def start(self) -> None:
        """Start every child, after giving back the tasks that earlier clusters took."""
        for child in self.children:
            _release_tasks(child)
        for child in self.children:
            child.start(self.lock)
        for child in self.children:
            _ask_for_a_sign(child)

    def dead(self) -> Child | None:
        return next((child for child in self.children if child.exit_status is not None), None)

    def expect_in_place(self) -> None:
        """Raise CommandError if the data directory, or the database file, is not the same.

        A second look must agree, or a child must have ended.
        """
        lost = self.place.lost()
        seen_before, self.missed = self.missed, bool(lost)
        if lost and (seen_before or self.dead()):  # a child that ended without it counts as a second look
            raise data_places.taken_away(settings.EXLAB_DATA_DIR, lost)

    def stop(self, children: list[Child] | None = None) -> None:
        """Ask each main process to end, wait, then kill the rest of its session.

        A signal to all processes of a cluster would end a task half way, and hang.
        """
        processes = [child.process for child in children or self.children if child.process]
        brief = [child.process for child in self.children if child.may_be_cut_off]
        for process in processes:
            if process.poll() is None:
                process.terminate()
        # Without the data directory a child cannot end its work well.
        now = time.monotonic()
        for process in processes:
            deadline = now + (_LOST_GRACE_SECONDS if self.missed or process in brief else _GRACE_SECONDS)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def restart(self, child: Child) -> None:
        self.stop([child])
        _release_tasks(child)
        child.start(self.lock)
        _ask_for_a_sign(child)

    def tend(self, say: Say) -> None:
        """Watch the children until interrupted; restart a silent one.

        Raises CommandError when a child dies, or the data directory is gone.
        """
        listened = time.monotonic()
        while not self.interrupted:
            self.expect_in_place()
            if dead := self.dead():
                self.expect_in_place()  # the data directory may be gone since the look above
                raise CommandError(f"{dead.name} ended by itself (status {dead.exit_status}).")
            if time.monotonic() - listened > _LISTEN_FOR_HEARTBEATS_EVERY_SECONDS:
                listened = time.monotonic()
                for child in self.children:
                    if has_fallen_silent(child):
                        say(f"{child.name} has given no sign for {SILENT_AFTER}: starting it again.")
                        self.restart(child)
            time.sleep(_LOOK_EVERY_SECONDS)

    def stop_on_signals(self) -> None:
        def interrupt(number: int, frame: FrameType | None) -> None:
            self.interrupted = True

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, interrupt)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # under `nohup` it goes on
            signal.signal(signal.SIGHUP, interrupt)


def children() -> list[Child]:
    names = ("The task cluster", "The clearing cluster", "The proving cluster")
    clusters = [
        Child(
            name,
            manage("qcluster"),
            beat=cluster,
            queue=task_queues.queue_of(cluster, settings.EXLAB_HOST),
            may_be_cut_off=cluster == settings.EXLAB_PROVE_CLUSTER,
        )
        for name, cluster in zip(names, watchdog.clusters(), strict=True)
    ]
    listener = Child("The listener to the staging disks", manage("listen"))
    return [*clusters, listener, Child("The watchdog", manage("watch"), beat=watchdog.WATCH)]


def manage(*arguments: str) -> list[str]:
    return [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments]


def check_system(say: Say, *, apart_from: str = "") -> None:
    """Raises CommandError for an error."""
    messages = [message for message in run_checks(databases=["default"]) if not message.is_silenced()]
    for message in messages:
        if message.id != apart_from:
            say(f"{message.id}: {message.msg} {message.hint or ''}")
    if any(message.is_serious() for message in messages):
        raise CommandError("Nothing was started: see the errors above.", returncode=BAD_USAGE)


def expect_data_directory() -> None:
    """Raises CommandError if a file in it cannot be used."""
    if found := places.trouble(settings.EXLAB_DATA_DIR, deep=True):
        raise CommandError(found, returncode=BAD_USAGE)
    DataDir(str(settings.EXLAB_DATA_DIR)).relieve()  # on a full disk the next steps could not write


def expect_database(*, migrated: bool) -> None:
    """Raises CommandError if it is unusable or, with `migrated`, not migrated."""
    unready = databases.trouble(connection)
    if unready and (migrated or not unready.can_be_migrated):
        raise CommandError(unready.said, returncode=BAD_USAGE)


def settle_interrupted(say: Say) -> None:
    settled = recovery.recover(now=timezone.now())
    for attempt in [*settled.rolled_back, *settled.rolled_forward]:
        say(f"Settled an interrupted clear: {attempt.run.run_path}.")


def lay_markers(say: Say) -> None:
    """Lay the markers of this host's roots, also of roots registered before there were markers."""
    for root, finding in laid_markers.lay_on_this_host():
        say(f"{root.name}: {finding.reason.sentence} {finding.detail}")


def has_fallen_silent(child: Child) -> bool:
    """Whether a child is silent for too long, seen twice, and holds no lock of a long task."""
    if not child.beat or child.process is None or child.age() < SILENT_AFTER:
        return False
    now = timezone.now()
    try:
        close_old_connections()
        beats = Heartbeat.objects.filter(cluster=child.beat, host=settings.EXLAB_HOST)
        heard = beats.filter(at__gte=now - SILENT_AFTER, at__lte=now + AHEAD).exists()
    except DatabaseError:
        return False  # the database is at fault, not the child
    silent = not heard and not holds_a_lock(child.process.pid)
    was_silent, child.was_silent = child.was_silent, silent
    return silent and was_silent


def holds_a_lock(session: int) -> bool:
    """Whether a process of a session holds one of our locks: behind a long clear a heartbeat waits."""
    for pid in watchdog.lock_holders(settings.EXLAB_DATA_DIR):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) == session:
                return True
    return False


def _release_tasks(child: Child) -> None:
    """Give back the tasks and the leases of an earlier cluster: a clear would else wait for a day."""
    if child.queue:
        clear_queue.release(child.queue, now=timezone.now())
    if child.beat == settings.EXLAB_PROVE_CLUSTER:
        proving_leases.free(settings.EXLAB_HOST)


def _ask_for_a_sign(child: Child) -> None:
    """The first scheduled heartbeat comes half a minute after the start."""
    if child.queue:
        async_task("cleanup.tasks.heartbeat", cluster=child.queue, task_name=f"first heartbeat of {child.beat}")


@contextlib.contextmanager
def sole_holder(data_dir: Path, command: str, *, replace: bool = False, say: Say = print) -> Iterator[int]:
    """Hold the data directory's lock: a second supervisor would run every task twice.

    Raises CommandError if it is held; `replace` ends its holders first.
    """
    data_places.prepare(data_dir)
    path = data_dir / data_place.LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not takeover.take(descriptor):
            if not replace:
                raise CommandError(takeover.say_held(descriptor, path, command), returncode=BAD_USAGE)
            with DataDir(str(data_dir)).lock("replace") as alone:
                if not alone:
                    problem = f"Another `--replace` is ending what runs on {data_dir} just now."
                    raise CommandError(problem, returncode=BAD_USAGE)
                takeover.end_holders(descriptor, path, say)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()} {command}\n".encode())
        yield descriptor
    finally:
        os.close(descriptor)
