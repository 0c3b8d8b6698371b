"""The process that reads one NAS root: a mount can hang so that no signal ends it, so a child touches it.

A silent child is killed and abandoned, never waited for.
"""

import contextlib
import itertools
import json
import logging
import os
import select
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, Self

from cleanup.rules.findings import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage.nas import processes
from cleanup.storage.nas.processes import Process
from cleanup.storage.nas.protocol import SILENT, BrokenFrame, Frames, NasError
from cleanup.storage.root_files import markers
from cleanup.storage.run_paths import show

SERVER = "cleanup.storage.nas.server"
DEFAULT_TIMEOUT = 60.0
# Time for a second child to report that the NAS answers: a sleeping disk has started by then.
_SECOND_TIMEOUT = 15.0
ANOTHER_ANSWER = "the reading process failed: an answer to another question"
# A killed child that takes longer to die hangs in the kernel.
_DEATH_SECONDS = 0.3
# While it waits for an answer, the reader looks up this often.
_WAIT_SECONDS = 0.2

logger = logging.getLogger(__name__)


def start(words: Sequence[str]) -> subprocess.Popen[bytes]:
    """Starts the server with these arguments. Raises OSError."""
    return subprocess.Popen(
        # Without site (-S): it needs only the standard library and this package, and starts faster.
        [sys.executable, "-S", "-m", SERVER, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # a reader of our standard error would wait for a child that hangs
        # It imports from the same places, and its working folder lies on no mount that may hang.
        cwd="/",
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
        start_new_session=True,
    )


class Abandoned(Protocol):
    """The children of one NAS that were killed and may live on."""

    def note(self, process: Process) -> None:
        """Adds a child."""
        ...

    def may_ask_again(self) -> bool:
        """Whether another child may be risked on this NAS."""
        ...


class _Forgotten:
    """For readers whose owner does not count abandoned children."""

    def note(self, process: Process) -> None:
        """Does nothing."""

    def may_ask_again(self) -> bool:
        return True


@dataclass(frozen=True)
class _AskedOnce:
    """For the second child: its silence is answer enough."""

    others: Abandoned

    def note(self, process: Process) -> None:
        self.others.note(process)

    def may_ask_again(self) -> bool:
        return False


class ReaderProcess:
    """A child process that reads one NAS root.

    `staging`: the staging root's token. `timeout`: seconds of silence until the child is given up. `abandoned`:
    children that survive the kill.
    """

    def __init__(
        self,
        path: str,
        token: str,
        *,
        staging: str = "",
        timeout: float = DEFAULT_TIMEOUT,
        abandoned: Abandoned | None = None,
    ) -> None:
        self._path = path
        self._token = token
        self._staging = staging
        self._timeout = timeout
        self._child: subprocess.Popen[bytes] | None = None
        self._abandoned = abandoned or _Forgotten()
        self._given_up = False
        self._answering = False
        self._frames = Frames()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        child, self._child = self._child, None
        if child is not None and not self._answering:
            _let_end(child)
        if child is not None:
            _abandon(child)

    @property
    def given_up(self) -> bool:
        """Whether the NAS hung: this reader does not ask it again."""
        return self._given_up

    def _wait_for(self, name: str) -> Any:  # noqa: ANN401
        while True:
            answer = self._answer()
            if "beat" in answer:
                continue
            if "problem" in answer:
                self._refuse(answer)
            if name not in answer:
                self._lose(ANOTHER_ANSWER)
            self._answering = False
            return answer[name]

    def _refuse(self, answer: dict[str, Any]) -> NoReturn:
        # A problem does not concern the NAS as a whole where the NAS answers a second child.
        self._answering = False
        if "trace" in answer:
            logger.error("the process that reads the NAS failed:\n%s", answer["trace"])
            self._forget_child()
        reason, detail = answer["problem"]
        raise NasError(Finding(Reason(reason), detail), ill=answer.get("ill", False) and not self._answers_elsewhere())

    def _answers_elsewhere(self) -> bool:
        # A file on tape may keep one child silent, which concerns one run alone. So another process asks for a name
        # that no cache can hold.
        if not self._abandoned.may_ask_again():
            return False
        timeout, abandoned = min(self._timeout, _SECOND_TIMEOUT), _AskedOnce(self._abandoned)
        with ReaderProcess(self._path, self._token, timeout=timeout, abandoned=abandoned) as second:
            try:
                second._ask({"unheard_of": markers.staging_marker(str(uuid.uuid4())).decode()})
                return bool(second._wait_for("unheard_of"))
            except NasError:
                return False

    def _ask(self, request: dict[str, Any], more: Iterable[bytes] = ()) -> None:
        # `more`: lines that belong to the request.
        if self._given_up:
            raise NasError(Finding(Reason.NAS_TIMEOUT, "it did not answer earlier in this pass"))
        if self._answering:
            # The rest of the last answer must not be read as another run's.
            self._forget_child()
        if self._child is None:
            self._child = self._start()
        assert self._child.stdin is not None  # noqa: S101
        self._answering = True
        try:
            for line in itertools.chain([json.dumps(request).encode() + b"\n"], more):
                self._send(self._child.stdin.fileno(), line)
        except _Silent:
            self._give_up()
        except BrokenPipeError:
            self._lose("the reading process ended")

    def _send(self, pipe: int, data: bytes) -> None:
        _write(pipe, data, self._timeout)

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            return start([self._path, self._token, self._staging])
        except OSError as error:
            detail = f"the reading process cannot be started: {os.strerror(error.errno or 0)}"
            raise NasError(Finding(Reason.NAS_IO_ERROR, detail)) from None

    def _answer(self, waits: Callable[[], None] = lambda: None) -> dict[str, Any]:
        # `waits` is called a few times a second while nothing comes.
        assert self._child is not None and self._child.stdout is not None  # noqa: S101
        try:
            return _next(self._frames, self._child.stdout.fileno(), self._timeout, waits)
        except _Silent:
            self._give_up()
        except EOFError:
            self._lose("the reading process ended")
        except BrokenFrame as error:
            self._lose(f"the reading process failed: {error}")

    def _give_up(self) -> NoReturn:
        detail, at = f"{SILENT} {self._timeout:g} s", self._kill()
        if self._answers_elsewhere():
            where = f" at {show(os.fsencode(at))}" if at else ""
            raise NasError(Finding(Reason.NAS_SLOW, f"{detail}{where}, while the NAS itself answered"))
        self._given_up = True
        raise NasError(Finding(Reason.NAS_TIMEOUT, detail), ill=True)

    def _kill(self) -> str:
        # Returns the path that the child had open, if known.
        child = self._child
        if child is None:
            return ""
        process, at = processes.process_of(child.pid), processes.open_beneath(child.pid, self._path)
        self._forget_child()
        try:
            child.wait(timeout=_DEATH_SECONDS)
        except subprocess.TimeoutExpired:
            if process is not None:
                self._abandoned.note(process)
        return at

    def _lose(self, detail: str) -> NoReturn:
        self._forget_child()
        raise NasError(Finding(Reason.NAS_IO_ERROR, detail), ill=not self._answers_elsewhere())

    def _forget_child(self) -> None:
        child, self._child = self._child, None
        self._answering = False
        self._frames = Frames()
        if child is not None:
            _abandon(child)


class _Silent(Exception):
    """Nothing came for too long."""


def _write(pipe: int, data: bytes, timeout: float) -> None:
    # A long request fills the pipe; a child that does not read would block this process for ever. Raises _Silent.
    os.set_blocking(pipe, False)
    while data:
        _, ready, _ = select.select([], [pipe], [], timeout)
        if not ready:
            raise _Silent
        data = data[os.write(pipe, data) :]


def _next(frames: Frames, pipe: int, timeout: float, waits: Callable[[], None]) -> dict[str, Any]:
    # Raises _Silent, EOFError, BrokenFrame, and what `waits` raises.
    while (answer := frames.take()) is None:
        until = time.monotonic() + timeout
        while not select.select([pipe], [], [], max(0, min(_WAIT_SECONDS, until - time.monotonic())))[0]:
            if time.monotonic() >= until:
                raise _Silent
            waits()
        if not (part := os.read(pipe, 1 << 16)):
            raise EOFError
        frames.add(part)
    return answer


def is_waiting(reader: ReaderProcess) -> bool:
    """Whether a reader's child lives and waits for a question, with no answer left over."""
    child = reader._child
    return child is not None and not reader._given_up and not reader._answering and child.poll() is None


def hand_on(reader: ReaderProcess, abandoned: Abandoned) -> None:
    """Give a reader to another owner, who is told of children that are given up from now on."""
    reader._abandoned = abandoned


def _let_end(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):
        child.stdin.close()  # type: ignore[union-attr]
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=2)


def _abandon(child: subprocess.Popen[bytes]) -> None:
    # Does not wait: a process that hangs in the kernel dies only when its mount comes back.
    child.kill()
    child.poll()
    for pipe in (child.stdin, child.stdout):
        with contextlib.suppress(OSError):
            pipe.close()  # type: ignore[union-attr]
