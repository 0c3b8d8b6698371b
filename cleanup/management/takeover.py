"""Who holds the data directory's lock, and how `--replace` ends these processes."""

import contextlib
import fcntl
import os
import signal
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError

from cleanup.storage import accounts
from cleanup.storage.data_directory import lock_holders
from cleanup.storage.data_directory.lock_holders import Holder

BAD_USAGE = 2
_HEADS = ("up", "worker")
_LOOK_EVERY_SECONDS = 0.3
# An `up` gives its children 30 seconds to end and kills the rest.
_GRACE_SECONDS = 45.0
# A killed process is gone by then, unless it hangs in the kernel.
_KILLED_SECONDS = 10.0
# A lock ends a moment after its process.
_RELEASE_SECONDS = 2.0

Say = Callable[[str], object]


def add_replace_argument(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--replace", action="store_true", help="first end what runs on this data directory, or was left there"
    )


def take(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def say_held(lock: int, path: Path, command: str) -> str:
    holders = lock_holders.holders_of(lock)
    if refusal := _refusal(holders, path):
        return refusal
    replace = f"`manage.py {command} --replace`"
    if head := _head(holders):
        running = f"`manage.py {_head_command(head)}` is running already on {path.parent} (process {head.pid})."
        return f"{running} {replace} ends it and takes its place."
    return (
        f"An earlier `manage.py {_recorded(path)}` on {path.parent} was killed and left processes behind that hold its "
        f"lock: {_named(holders)}. {replace} ends them and starts anew."
    )


def end_holders(lock: int, path: Path, say: Say) -> None:
    """End the processes that hold the lock (ask, wait, kill), and take it.

    Only processes of this user that hold this very lock, and their children, are ended; recovery settles a clear that
    was cut off. Raises CommandError if one cannot be ended, or another program took the lock.
    """
    holders = lock_holders.holders_of(lock)
    if refusal := _refusal(holders, path):
        raise CommandError(refusal, returncode=BAD_USAGE)
    say(f"Ending these processes: {_named(holders)}.")
    with contextlib.ExitStack() as stack:
        ending = _Ending(lock, holders, stack)
        ending.signal(_foremost(holders), signal.SIGTERM)
        if left := ending.wait(_GRACE_SECONDS):
            say(f"Killing what did not end within {_GRACE_SECONDS:g} s: {_named(left)}.")
            ending.signal(left, signal.SIGKILL)
            if left := ending.wait(_KILLED_SECONDS, kill=True):
                raise CommandError(
                    f"These were killed and have not ended: {_named(left)}. Perhaps they wait for a disk that does "
                    f"not answer; until it does they hold {path}.",
                    returncode=BAD_USAGE,
                )
    if not _take_soon(lock):
        raise CommandError(say_held(lock, path, _recorded(path)), returncode=BAD_USAGE)
    say("They have ended.")


class _Ending:
    """A signal goes through a process descriptor, never to a number: numbers are reused."""

    def __init__(self, lock: int, holders: list[Holder], stack: contextlib.ExitStack) -> None:
        self.lock = lock
        self.stack = stack
        self.handles: dict[Holder, int] = {}
        self.known = {holder.process for holder in holders}
        # Clusters and web server lead their own sessions; their forks belong to them.
        self.sessions = {holder.pid for holder in holders if holder.session == holder.pid and not _is_head(holder)}

    def signal(self, holders: list[Holder], number: signal.Signals) -> None:
        for holder in holders:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle(holder), number)

    def wait(self, seconds: float, *, kill: bool = False) -> list[Holder]:
        """Returns those left; with `kill`, kills those started meanwhile."""
        deadline = time.monotonic() + seconds
        while left := self.left():
            if time.monotonic() > deadline:
                break
            if kill:
                self.signal(left, signal.SIGKILL)
            time.sleep(_LOOK_EVERY_SECONDS)
        return left

    def left(self) -> list[Holder]:
        return [
            holder
            for holder in lock_holders.holders_of(self.lock)
            if holder.process in self.known or holder.session in self.sessions
        ]

    def _handle(self, holder: Holder) -> int:
        """Raises ProcessLookupError if the process no longer holds the lock."""
        if (known := self.handles.get(holder)) is not None:
            return known
        handle = os.pidfd_open(holder.pid)
        self.stack.callback(os.close, handle)
        if not lock_holders.is_holder(holder, self.lock):
            raise ProcessLookupError
        self.handles[holder] = handle
        return handle


def _refusal(holders: list[Holder], path: Path) -> str:
    if not holders:
        return (
            f"{path} is locked by processes that cannot be seen from here: those of another user, in another "
            "container, or on another host that shares the directory. End them there, then start again."
        )
    if strangers := [holder for holder in holders if holder.user != os.geteuid()]:
        users = ", ".join(sorted({accounts.name_of(holder.user) or str(holder.user) for holder in strangers}))
        return (
            f"{path} is locked by processes of another user ({users}): {_named(strangers)}. Nothing was ended: run "
            "this command as that user."
        )
    if ours := [holder for holder in holders if holder.pid in _own_line()]:
        return f"{path} is locked by what has started this command: {_named(ours)}."
    return ""


def _foremost(holders: list[Holder]) -> list[Holder]:
    """Only main processes: a signal to all of a cluster would end a task half way, and hang."""
    pids = {holder.pid for holder in holders}
    return [holder for holder in holders if holder.parent not in pids]


def _head(holders: list[Holder]) -> Holder | None:
    return next((holder for holder in holders if _is_head(holder)), None)


def _is_head(holder: Holder) -> bool:
    return _head_command(holder) in _HEADS


def _head_command(holder: Holder) -> str:
    words = iter(holder.command)
    return next(words, "") if any(Path(word).name == "manage.py" for word in words) else ""


def _recorded(path: Path) -> str:
    with contextlib.suppress(OSError, IndexError):
        return path.read_text().split()[1]
    return "up"


def _named(holders: list[Holder]) -> str:
    kinds: dict[str, list[str]] = {}
    for holder in holders:
        kinds.setdefault(_kind(holder), []).append(str(holder.pid))
    return ", ".join(f"{kind} ({', '.join(pids)})" for kind, pids in kinds.items())


def _kind(holder: Holder) -> str:
    subcommand = _head_command(holder)
    if subcommand == "qcluster":
        kinds = {
            settings.EXLAB_CLEAR_CLUSTER: "the clearing cluster",
            settings.EXLAB_PROVE_CLUSTER: "the proving cluster",
        }
        return kinds.get(holder.queue.partition("@")[0], "the task cluster")
    if subcommand == "watch":
        return "the watchdog"
    if subcommand:
        return f"`manage.py {subcommand}`"
    if "gunicorn" in holder.command:
        return "the web server"
    return f"`{Path(holder.command[0]).name if holder.command else 'a program'}`"


def _own_line() -> Iterator[int]:
    """This process and its ancestors."""
    pid = os.getpid()
    while pid > 0:
        yield pid
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                pid = int(file.read().rpartition(b") ")[2].split()[1])
        except OSError:
            return


def _take_soon(lock: int) -> bool:
    deadline = time.monotonic() + _RELEASE_SECONDS
    while not (taken := take(lock)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return taken
