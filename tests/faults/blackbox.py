"""Real `manage.py` processes under strace: counted, killed, failed or frozen at a chosen system call.

As a program (`python -m tests.faults.blackbox`) it loads Django once and forks a process for each line of
JSON on stdin. The fork waits for strace, so that the count begins with the command and not with the start of
Python.
"""

import contextlib
import ctypes
import functools
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.tools import warm
from tests.tools.checkout import CHECKOUT

REQUIRED = "EXLAB_REQUIRE_STRACE"

# The calls that change a disk, and those that talk to PostgreSQL.
FILE_CALLS = (
    "openat",
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "fchmod",
    "fchown",
    "ftruncate",
    "fallocate",
)
SOCKET_CALLS = ("sendto", "poll", "recvfrom")

_SECONDS = 40.0
_CALL = re.compile(r"(?P<syscall>\w+)\((?P<arguments>.*)\)\s+= (?P<result>.*)")
_HIT = re.compile(r"\(INJECTED\)|\+\+\+ killed by SIGKILL|--- SIG\w+ \{si_signo=SIG\w+, si_code=SI_KERNEL\}")
_PR_SET_PTRACER, _PR_SET_PTRACER_ANY = 0x59616D61, -1


@dataclass(frozen=True)
class Call:
    syscall: str
    number: int
    arguments: str
    result: str

    @property
    def creates(self) -> bool:
        return self.syscall != "openat" or "O_CREAT" in self.arguments

    def __str__(self) -> str:
        return f"{self.syscall} number {self.number}: {self.arguments[:150]}"


@dataclass(frozen=True)
class Fault:
    """`what` happens at a call, in strace's words, as `signal=SIGKILL` or `error=EIO`.

    `when` counts the calls of that name; `3+` is the third and all later ones. With `paths` only calls on
    these count. `children`: trace the processes that this one starts, too.
    """

    syscall: str
    what: str
    when: str
    paths: tuple[str, ...] = ()
    children: bool = False

    def options(self) -> list[str]:
        only = [option for path in self.paths for option in ("-P", path)]
        deeper = ["-f"] if self.children else []
        return [
            *deeper,
            *only,
            "-e",
            f"trace={self.syscall}",
            "-e",
            f"inject={self.syscall}:{self.what}:when={self.when}",
        ]


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str
    trace: str

    @property
    def hit(self) -> bool:
        return bool(_HIT.search(self.trace))


def missing() -> str:
    """Return in one sentence why processes cannot be traced here; empty if they can."""
    if shutil.which("strace") is None:
        return "there is no strace on this machine (Debian: apt-get install strace)"
    return _untraceable()


@functools.cache
def _untraceable() -> str:
    with _waiting_process() as process:
        command = ["strace", "-o", "/dev/null", "-p", str(process.pid), "-e", "inject=unlinkat:signal=SIGKILL:when=1"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            said = _attached(strace)
            strace.terminate()
    return "" if said is None else f"processes may not be traced here ({said})"


@contextlib.contextmanager
def _waiting_process() -> Iterator[subprocess.Popen[str]]:
    code = "import sys; from tests.faults import blackbox; blackbox.allow_tracing(); print('here', flush=True); input()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def _attached(strace: subprocess.Popen[str]) -> str | None:
    assert strace.stderr is not None
    said: list[str] = []
    for line in strace.stderr:
        if re.fullmatch(r"strace: Process \d+ attached\n", line):
            return None
        said.append(line.strip())
    return " ".join(said) or "strace ended"


def allow_tracing() -> None:
    """Let any process of this user trace this one: under Yama only a parent may, and strace is none."""
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(_PR_SET_PTRACER_ANY), 0, 0, 0)


@dataclass
class Traced:
    pid: int
    trace_path: Path
    _strace: subprocess.Popen[str]
    _wait: Callable[[int], int]
    _said: tuple[Path, Path]

    def ended(self) -> Ended:
        try:
            status = self._wait(self.pid)
            self._strace.communicate(timeout=_SECONDS)
        finally:
            self._strace.kill()
        out, err = (path.read_text() for path in self._said)
        return Ended(status, out, err, self.trace_path.read_text())

    def story(self) -> str:
        return "\n".join(path.read_text() for path in (*self._said, self.trace_path))

    def wait_until_struck(self) -> None:
        deadline = time.monotonic() + _SECONDS
        while not _HIT.search(self.trace_path.read_text()):
            assert time.monotonic() < deadline, "the process never came to the call"
            time.sleep(0.01)

    def wait_until_stopped(self) -> None:
        self.wait_until_struck()
        deadline = time.monotonic() + _SECONDS
        while "stopped by SIGSTOP" not in self.trace_path.read_text():
            assert time.monotonic() < deadline, "the process was not stopped"
            time.sleep(0.01)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


@dataclass
class Programs:
    env: dict[str, str]
    directory: Path
    _server: subprocess.Popen[str] = field(init=False)
    _started: int = 0
    _running: set[int] = field(default_factory=set)

    def __enter__(self) -> Self:
        self._server = warm.python(
            ["-m", "tests.faults.blackbox"], self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._answer() == "ready"
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        for pid in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._server.wait(timeout=_SECONDS)

    def start(self, *arguments: str, fault: Fault | None = None, **how: Any) -> Traced:
        """Start `manage.py`; without a fault every changing call is traced with its paths.

        `how` is told to the process: `ignore_writers`, see `_ignore_writers`.
        """
        self._started += 1
        out, err, trace = (self.directory / f"{self._started}.{kind}" for kind in ("out", "err", "trace"))
        request = {"arguments": arguments, "out": str(out), "err": str(err), **how}
        self._tell(json.dumps(request))
        pid = int(self._answer())
        self._running.add(pid)
        options = fault.options() if fault else ["-y", "-e", f"trace={','.join(FILE_CALLS + SOCKET_CALLS)}"]
        command = ["strace", "-o", str(trace), "-s", "40", *options, "-p", str(pid)]
        strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        said = _attached(strace)
        assert said is None, said
        os.kill(pid, signal.SIGUSR1)
        return Traced(pid, trace, strace, self._wait, (out, err))

    def run(self, *arguments: str, fault: Fault | None = None, **how: Any) -> Ended:
        return self.start(*arguments, fault=fault, **how).ended()

    def calls(self, *arguments: str, **how: Any) -> list[Call]:
        ended = self.run(*arguments, **how)
        assert ended.status == 0, ended.err
        return changing(ended.trace)

    def _tell(self, line: str) -> None:
        assert self._server.stdin is not None
        self._server.stdin.write(line + "\n")
        self._server.stdin.flush()

    def _answer(self) -> str:
        assert self._server.stdout is not None
        ready, _, _ = select.select([self._server.stdout], [], [], _SECONDS)
        if not ready:
            raise TimeoutError(f"no answer within {_SECONDS:g} s")
        return self._server.stdout.readline().strip()

    def _wait(self, pid: int) -> int:
        self._tell(str(pid))
        try:
            return int(self._answer())
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            self._answer()
            raise
        finally:
            self._running.discard(pid)


def changing(trace: str) -> list[Call]:
    numbers: Counter[str] = Counter()
    calls = []
    for line in trace.splitlines():
        if found := _CALL.match(line):
            numbers[found["syscall"]] += 1
            calls.append(Call(found["syscall"], numbers[found["syscall"]], found["arguments"], found["result"]))
    return [call for call in calls if call.creates]


# The process that starts the others


def _serve() -> None:
    import django

    django.setup()
    from django.core.management import get_commands, load_command_class

    import manage

    for name in ("clear", "recover"):
        load_command_class(get_commands()[name], name)
    _say("ready")
    for line in sys.stdin:
        request = json.loads(line)
        if isinstance(request, int):
            _say(str(os.waitstatus_to_exitcode(os.waitpid(request, 0)[1])))
        elif os.fork() == 0:
            _become(request)
            manage.main()
            return


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _become(request: dict[str, Any]) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    answers = os.dup(1)
    for path, descriptor in ((os.devnull, 0), (request["out"], 1), (request["err"], 2)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    if request.get("ignore_writers"):
        _ignore_writers()
    sys.argv = ["manage.py", *request["arguments"]]
    allow_tracing()
    os.write(answers, b"%d\n" % os.getpid())
    os.close(answers)
    signal.sigwait([signal.SIGUSR1])
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])


def _ignore_writers() -> None:
    """Skip the look at other processes' descriptors: the number of files it opens depends on the machine."""
    from cleanup.storage.staging import writers

    writers.find_writers = lambda *args: []


if __name__ == "__main__":
    _serve()
