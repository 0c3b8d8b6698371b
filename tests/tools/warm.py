"""Child processes that are ready at once: forked by a waiting process that has everything imported.

Hundreds of tests start a NAS reader or `manage.py …`, whose imports take longer than the work. Each fork has
its own number, streams and end like any process. This module is both sides: `start_reader` and `python` start
a process; `python -m tests.tools.warm` waits and forks.
"""

import contextlib
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cleanup.storage.nas import reader_process
from tests.tools.checkout import CHECKOUT

# How the product starts the process that reads the NAS.
real_start = reader_process.start
# Variables that may differ from those of the waiting process.
TOLD = ("EXLAB_TEST_DIE", "EXLAB_TEST_WAIT", "PYTEST_CURRENT_TEST")
_LARGEST_MESSAGE = 1 << 16
_PYTHON = sys.executable


class Waiting:
    def __init__(self, kind: str, env: dict[str, str] | None = None) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [_PYTHON, *(["-S"] if kind == "nas" else []), "-m", "tests.tools.warm", kind]
        with theirs:
            self._process = subprocess.Popen(command, stdin=theirs, cwd=CHECKOUT, env=env)
        self._lock = threading.Lock()
        self._ended: dict[int, int] = {}

    def fork(self, request: dict[str, Any], streams: list[int]) -> int:
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], streams)
            while (started := self._hear(120)) is None:  # seconds, on a busy machine
                pass
            self._ended.pop(started, None)
            return started

    def status(self, pid: int) -> int | None:
        with self._lock:
            while select.select([self._socket], [], [], 0)[0]:
                self._hear(0)
            return self._ended.get(pid)

    def listen(self, seconds: float) -> None:
        select.select([self._socket], [], [], seconds)

    def end(self) -> None:
        self._socket.close()
        self._process.wait()

    def _hear(self, timeout: float) -> int | None:
        if timeout and not select.select([self._socket], [], [], timeout)[0]:
            raise TimeoutError("no process was forked")
        said, *status = map(int, self._socket.recv(64).split())
        if not status:
            return said
        self._ended[said] = status[0]
        return None


class Forked:
    """Like a `subprocess.Popen`, as far as these tests need it."""

    def __init__(self, waiting: Waiting, request: dict[str, Any], *, text: bool = False, **pipes: int | None) -> None:
        """`pipes` are `stdin`, `stdout` and `stderr`, as for `subprocess.Popen`."""
        self._waiting = waiting
        self.returncode: int | None = None
        ours: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"))
        with contextlib.ExitStack() as theirs:
            streams = []
            for number, name in enumerate(ours):
                if pipes.get(name) == subprocess.PIPE:
                    ends = os.pipe()
                    own, other = ends if number else ends[::-1]
                    ours[name] = open(own, ("r" if number else "w") + ("" if text else "b"))  # noqa: SIM115
                elif pipes.get(name) == subprocess.DEVNULL:
                    other = os.open(os.devnull, os.O_RDWR)
                else:
                    other = os.dup(number)
                theirs.callback(os.close, other)
                streams.append(other)
            self.pid = waiting.fork(request, streams)
        self.stdin, self.stdout, self.stderr = ours.values()

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._close()
        self.wait()

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._waiting.status(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        until = time.monotonic() + (timeout if timeout is not None else 3600)
        while (status := self.poll()) is None:
            if (left := until - time.monotonic()) <= 0:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self._waiting.listen(min(left, 0.1))  # another thread may read it instead
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:
        said: dict[str, Any] = {}
        readers = [
            threading.Thread(target=lambda name=name, file=file: said.update({name: file.read()}), daemon=True)
            for name, file in (("out", self.stdout), ("err", self.stderr))
            if file is not None
        ]
        for reader in readers:
            reader.start()
        if self.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                if input:
                    self.stdin.write(input)
                self.stdin.close()
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
        self._close()
        return said.get("out"), said.get("err")

    def _close(self) -> None:
        for file in (self.stdin, self.stdout, self.stderr):
            if file is not None:
                with contextlib.suppress(BrokenPipeError):
                    file.close()


_owner = os.getpid()
_waiting: dict[frozenset[tuple[str, str]], Waiting] = {}


def start_reader(words: Sequence[str]) -> Any:
    if sys.executable != _PYTHON or os.getpid() != _owner:  # a fork of this process shares what waits
        return real_start(words)
    request = {"words": list(words), "told": {}, "cwd": "/", "session": True}
    how = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return Forked(_waiter(frozenset(), "nas"), request, **how)


def python(words: Sequence[object], env: dict[str, str], **how: Any) -> Any:
    """Like `subprocess.Popen([sys.executable, *words], cwd=<the checkout>, env=env, …)`, for what needs all
    of Django.

    `words` begin with `-m` and a module, or with a file.
    """
    command = [str(word) for word in words]
    if os.getpid() != _owner:
        return subprocess.Popen([sys.executable, *command], env=env, cwd=CHECKOUT, **how)
    told = {name: value for name, value in env.items() if name in TOLD}
    key = frozenset((name, value) for name, value in env.items() if name not in TOLD)
    request = {"words": command, "told": told, "cwd": str(CHECKOUT), "session": False}
    return Forked(_waiter(key, "django"), request, **how)


def start_waiting() -> None:
    _waiter(frozenset(), "nas")


def end() -> None:
    while _waiting:
        _waiting.popitem()[1].end()


def _waiter(key: frozenset[tuple[str, str]], kind: str) -> Waiting:
    if key not in _waiting:
        _waiting[key] = Waiting(kind, dict(key) or None)
    return _waiting[key]


# The side that waits


def wait_and_fork() -> dict[str, Any]:
    """Fork a process for each request; return only in the fork, with its request."""
    asking = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    gc.collect()
    gc.freeze()  # or the first collection in each process would write to every page
    living: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([asking, *living], [], [])
        for handle in living.keys() & set(ready):
            pid, status = os.waitpid(living.pop(handle), 0)
            os.close(handle)
            asking.send(b"%d %d" % (pid, os.waitstatus_to_exitcode(status)))
        if asking not in ready:
            continue
        message, streams, _, _ = socket.recv_fds(asking, _LARGEST_MESSAGE, 3)
        if not message:
            os._exit(0)
        child = os.fork()
        if not child:
            return _become(json.loads(message), asking, streams, living)
        living[os.pidfd_open(child)] = child
        for stream in streams:
            os.close(stream)


def _become(
    request: dict[str, Any], asking: socket.socket, streams: list[int], others: Iterable[int]
) -> dict[str, Any]:
    for handle in others:
        os.close(handle)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    if request["session"]:
        os.setsid()
    os.chdir(request["cwd"])
    for name in TOLD:
        os.environ.pop(name, None)
    os.environ.update(request["told"])
    # Only when all is set up: from now on its session may be killed.
    asking.send(b"%d" % os.getpid())
    asking.close()
    return request


def prepare_nas() -> Callable[[list[str]], None]:
    from cleanup.storage.nas import server

    def serve(words: list[str]) -> None:
        server.serve(*words)
        sys.stdout.flush()
        os._exit(0)  # nothing needs cleaning up, and it would take longer than the process has lived

    return serve


def prepare_django() -> Callable[[list[str]], None]:
    import django

    django.setup()
    from django.core.management import get_commands, load_command_class
    from django.db import connection

    import exlab.urls  # noqa: F401

    for name, app in get_commands().items():
        if app == "cleanup":
            load_command_class(app, name)
    assert connection.vendor  # its driver is loaded, and nothing connected

    def be_python(words: list[str]) -> None:
        first, *more = words
        if first == "-m":
            sys.argv = more
            runpy.run_module(more[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(first, run_name="__main__")

    return be_python


if __name__ == "__main__":
    be = prepare_nas() if sys.argv[1] == "nas" else prepare_django()
    be(wait_and_fork()["words"])
