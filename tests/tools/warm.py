"""Child processes that are ready at once: forked from one that waits, with everything imported.

Hundreds of tests start a process that reads the NAS, or one that runs `manage.py …`, and each would import for longer
than it works. What comes from here is a child of the tests' own like any other, with its own number, pipes and end;
only its interpreter was started before, once for all tests of a worker. This module is both sides: `read_nas` and
`python` start such a process, and `python -m tests.tools.warm` is the one that waits and forks.
"""

import ctypes
import gc
import inspect
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from tests.tools.checkout import CHECKOUT

NAS_READER = [sys.executable, "-S", "-m", "cleanup.storage.nas.client"]
# What a process may be told although the one that it is forked from has been told something else.
TOLD = ("EXLAB_TEST_DIE", "EXLAB_TEST_WAIT", "PYTEST_CURRENT_TEST")
_LARGEST_REQUEST = 1 << 16
_CLONE = {"x86_64": 56, "aarch64": 220}.get(os.uname().machine)
_CLONE_PARENT = 0x8000

Child = subprocess.Popen[Any]


class Waiting:
    """A process that has imported what others will need, and from which they are forked."""

    def __init__(self, command: list[str], env: dict[str, str] | None = None) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(120)  # seconds, on a busy machine
        with theirs:
            self._process = subprocess.Popen(command, stdin=theirs, cwd=CHECKOUT, env=env)
        self._asking = threading.Lock()

    def fork(self, request: dict[str, Any], streams: list[int]) -> int:
        """The number of a new child of this very process."""
        with self._asking:
            socket.send_fds(self._socket, [json.dumps(request).encode()], streams)
            return int(self._socket.recv(32))

    def end(self) -> None:
        self._socket.close()
        self._process.wait()


class Forked(subprocess.Popen[Any]):
    """What `subprocess.Popen` makes, but for the fork itself, which happens in the process that waits."""

    def __init__(self, waiting: Waiting, words: Sequence[str], told: dict[str, str], **how: Any) -> None:
        self._waiting, self._words, self._told = waiting, list(words), told
        super().__init__(words, **how)

    def _execute_child(self, *given: Any) -> None:
        asked = inspect.signature(subprocess.Popen._execute_child).bind(self, *given).arguments  # type: ignore[attr-defined]
        ends = (asked["p2cread"], asked["c2pwrite"], asked["errwrite"])
        request = {
            "words": self._words,
            "told": self._told,
            "cwd": os.fspath(asked["cwd"] or os.getcwd()),
            "session": asked["start_new_session"],
        }
        try:
            self.pid = self._waiting.fork(request, [end if end >= 0 else number for number, end in enumerate(ends)])
            self._child_created = True
        finally:
            pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
            self._close_pipe_fds(*(asked[pipe] for pipe in pipes))  # type: ignore[attr-defined]


_owner = os.getpid()
_waiting: dict[frozenset[tuple[str, str]], Waiting] = {}


def read_nas(command: list[str], **how: Any) -> Child:
    """In place of `subprocess.Popen` where the product starts the process that reads the NAS."""
    if command[: len(NAS_READER)] != NAS_READER:
        return subprocess.Popen(command, **how)
    words = command[len(NAS_READER) :]
    return _start(frozenset(), "nas", words, {}, how) or subprocess.Popen(command, **how)


def python(words: Sequence[object], env: dict[str, str], **how: Any) -> Child:
    """Like `subprocess.Popen([sys.executable, *words], cwd=<the checkout>, env=env, …)`, for what needs all of Django.

    `words` begin with `-m` and a module, or with a file.
    """
    command = [str(word) for word in words]
    told = {name: value for name, value in env.items() if name in TOLD}
    key = frozenset((name, value) for name, value in env.items() if name not in TOLD)
    how["cwd"] = CHECKOUT
    return _start(key, "django", command, told, how) or subprocess.Popen([sys.executable, *command], env=env, **how)


def instead_of_subprocess() -> Any:
    """What the product's module that starts the readers of the NAS is to take for `subprocess`."""
    start_waiting()
    return SimpleNamespace(
        Popen=read_nas, PIPE=subprocess.PIPE, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired
    )


def start_waiting() -> None:
    """The one for the NAS, before a test counts what is open."""
    if _CLONE is not None and frozenset() not in _waiting:
        _waiting[frozenset()] = Waiting([sys.executable, "-S", "-m", "tests.tools.warm", "nas"])


def end() -> None:
    """End what waits."""
    while _waiting:
        _waiting.popitem()[1].end()


def _start(
    key: frozenset[tuple[str, str]], kind: str, words: list[str], told: dict[str, str], how: dict[str, Any]
) -> Child | None:
    """None where nothing can be forked: on other processors, and in a fork of this process, which has no children."""
    if _CLONE is None or os.getpid() != _owner:
        return None
    if key not in _waiting:
        _waiting[key] = Waiting([sys.executable, "-m", "tests.tools.warm", kind], dict(key))
    return Forked(_waiting[key], words, told, **how)


# The side that waits


def wait_and_fork() -> dict[str, Any]:
    """Fork a child for each request; returns in a child alone, with its request."""
    asking = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    gc.collect()
    gc.freeze()  # or the first collection in each child would write to every page
    while True:
        message, streams, _, _ = socket.recv_fds(asking, _LARGEST_REQUEST, 3)
        if not message:
            os._exit(0)
        if not _fork_a_sibling():
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            request = _prepared(json.loads(message))
            # Not before all is as it was asked for: from now on, say, its session may be killed.
            asking.send(b"%d" % os.getpid())
            asking.close()
            return request
        for stream in streams:
            os.close(stream)


def _fork_a_sibling() -> int:
    """`os.fork()`, but that the child is one of whoever started us, who can wait for it and learn how it ended."""
    api = ctypes.pythonapi
    syscall = ctypes.PyDLL(None, use_errno=True).syscall  # and no other thread may run in between
    syscall.restype = ctypes.c_long
    api.PyOS_BeforeFork()
    child: int = syscall(_CLONE, _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    (api.PyOS_AfterFork_Parent if child else api.PyOS_AfterFork_Child)()
    if child < 0:
        raise OSError(ctypes.get_errno(), "no child could be forked")
    return child


def _prepared(request: dict[str, Any]) -> dict[str, Any]:
    if request["session"]:
        os.setsid()
    os.chdir(request["cwd"])
    for name in TOLD:
        os.environ.pop(name, None)
    os.environ.update(request["told"])
    return request


def prepare_nas() -> Callable[[list[str]], None]:
    from cleanup.storage.nas import client

    def serve(words: list[str]) -> None:
        client._serve(*words)
        sys.stdout.flush()
        os._exit(0)  # there is nothing to put away, and that would take longer than it has lived

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
