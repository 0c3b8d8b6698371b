"""The NAS side: is it the right one, what does it hold of a run, and with which bytes; and the one word told to it.

A network mount can hang in a way that no signal and no timeout of ours ends. So everything that touches it runs in a
child process, `python -m cleanup.staging.nas`, which answers one JSON line a request; a child that stays silent is
killed and abandoned, never waited for. It gets no descriptor of ours.
"""

import contextlib
import json
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, Self

from cleanup.staging import hashing, kernel, layout, tree, twin
from cleanup.staging.layout import Problem, show

if __name__ != "__main__":
    import subprocess  # the child starts nobody, and is sooner ready without

# The child says that it is alive at least this often while it reads.
_BEAT_SECONDS = 1.0
DEFAULT_TIMEOUT = 60.0


class NasError(Exception):
    """Why the NAS proves nothing, or takes nothing: the code of a reason and what was seen.

    `ill`: the NAS as a whole hangs or fails, and not only what was asked for.
    """

    def __init__(self, problem: Problem, *, ill: bool = False) -> None:
        super().__init__(f"{problem.reason}: {problem.detail}")
        self.problem = problem
        self.ill = ill


@dataclass(frozen=True, slots=True)
class Twin:
    """One file of the NAS copy; `digest` is None unless its bytes were read."""

    size: int
    mtime_ns: int
    ino: int
    digest: bytes | None


@dataclass(frozen=True)
class Listing:
    """The data files that the NAS holds of one run, by relative path, and the device they lie on."""

    device: int
    files: dict[bytes, Twin]


class NasReader:
    """A child process that reads one NAS root; use it as a context manager, for any number of runs."""

    def __init__(self, path: str, token: str, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        """`timeout`: seconds of silence after which the child is given up."""
        self._path = path
        self._token = token
        self._timeout = timeout
        self._child: subprocess.Popen[bytes] | None = None
        self._given_up = False
        self._answering = False
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if self._answering:
            _abandon(child)
            return
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()  # type: ignore[union-attr]
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=2)
        _abandon(child)

    @property
    def given_up(self) -> bool:
        """Whether the NAS hung: it is not asked again by this reader."""
        return self._given_up

    def read(self, run_path: str, *, with_bytes: bool, progress: Callable[[int], None] = lambda size: None) -> Listing:
        """What the NAS holds of a run. `with_bytes`: every file is read and hashed as well.

        `progress` is told, about once a second, how many bytes have been read since it was last told.
        Raises NasError with `nas_not_mounted`, `nas_identity_mismatch`, `nas_missing_file` (no such run at all),
        `nas_io_error` or `nas_timeout`.
        """
        self._ask({"run_path": run_path, "with_bytes": with_bytes})
        files: dict[bytes, Twin] = {}
        while True:
            answer = self._answer()
            if "beat" in answer:
                progress(answer["beat"])
            elif "problem" in answer:
                self._answering = False
                raise NasError(Problem(*answer["problem"]), ill=answer.get("ill", False))
            elif "device" in answer:
                self._answering = False
                return Listing(answer["device"], files)
            else:
                name, size, mtime_ns, ino, digest = answer["file"]
                files[os.fsencode(name)] = Twin(size, mtime_ns, ino, bytes.fromhex(digest) if digest else None)

    def tell(self, run_path: str, history: list[dict[str, Any]], attempt: str) -> bool:
        """Let the record of a run's twin have this history; False if it has it already. See `twin.tell`.

        Raises NasError with the reasons of `read` and of `twin.tell`.
        """
        self._ask({"run_path": run_path, "history": history, "attempt": attempt})
        answer = self._answer()
        self._answering = False
        if "problem" in answer:
            raise NasError(Problem(*answer["problem"]), ill=answer.get("ill", False))
        told: bool = answer["told"]
        return told

    def _ask(self, request: dict[str, Any]) -> None:
        if self._given_up:
            raise NasError(Problem("nas_timeout", "it did not answer earlier in this pass"))
        if self._answering:
            # Its last answer was not heard to the end, and the rest must not be taken for another run's.
            self._forget_child()
        if self._child is None:
            self._child = self._start()
        assert self._child.stdin is not None  # noqa: S101
        self._answering = True
        try:
            self._send(self._child.stdin.fileno(), json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            self._lose("the reading process ended")

    def _send(self, pipe: int, data: bytes) -> None:
        """Hand on a request. A long one fills the pipe, and a child that does not read would hold us for ever."""
        os.set_blocking(pipe, False)
        while data:
            _, ready, _ = select.select([], [pipe], [], self._timeout)
            if not ready:
                self._give_up()
            data = data[os.write(pipe, data) :]

    def _start(self) -> "subprocess.Popen[bytes]":
        try:
            return subprocess.Popen(
                # Without site (-S): it needs nothing but the standard library and ourselves, and is sooner ready.
                [sys.executable, "-S", "-m", "cleanup.staging.nas", self._path, self._token],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
                start_new_session=True,
            )
        except OSError as error:
            detail = f"the reading process cannot be started: {os.strerror(error.errno or 0)}"
            raise NasError(Problem("nas_io_error", detail)) from None

    def _answer(self) -> dict[str, Any]:
        assert self._child is not None and self._child.stdout is not None  # noqa: S101
        descriptor = self._child.stdout.fileno()
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([descriptor], [], [], self._timeout)
            if not ready:
                self._give_up()
            part = os.read(descriptor, 1 << 16)
            if not part:
                self._lose("the reading process ended")
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _give_up(self) -> NoReturn:
        self._given_up = True
        self._forget_child()
        raise NasError(Problem("nas_timeout", f"silent for {self._timeout:g} s"), ill=True)

    def _lose(self, detail: str) -> NoReturn:
        self._forget_child()
        raise NasError(Problem("nas_io_error", detail), ill=True)

    def _forget_child(self) -> None:
        child, self._child = self._child, None
        self._answering = False
        self._buffer = b""
        if child is not None:
            _abandon(child)


def _abandon(child: "subprocess.Popen[bytes]") -> None:
    """Kill, and do not wait: a process that hangs in the kernel dies only when its mount comes back."""
    child.kill()
    child.poll()
    for pipe in (child.stdin, child.stdout):
        with contextlib.suppress(OSError):
            pipe.close()  # type: ignore[union-attr]


def open_nas(path: str, token: str) -> int:
    """Open a NAS root if it is the right one. Raises NasError, or OSError where the mount answers with an error."""
    try:
        root = layout.open_root(path)
    except FileNotFoundError:
        raise NasError(Problem("nas_not_mounted", "its directory is missing")) from None
    try:
        layout.check_token(root, token)
    except layout.WrongToken as error:
        os.close(root)
        if error.found is None or not token:
            raise NasError(Problem("nas_not_mounted", "no token file at its top")) from None
        raise NasError(Problem("nas_identity_mismatch", f"it carries {error.found}")) from None
    except OSError:
        os.close(root)
        raise
    return root


def _listing(root: int, run_path: str, *, with_bytes: bool, beat: Callable[[int], None]) -> Iterator[dict[str, Any]]:
    """The child's answers to one request to read."""
    try:
        run = layout.open_beneath(root, os.fsencode(run_path))
    except FileNotFoundError:
        raise NasError(Problem("nas_missing_file", "the NAS holds no such run")) from None
    with layout.opened(run):
        device = kernel.status(run).device
        pending = [b""]
        while pending:
            directory = pending.pop()
            with layout.opened(layout.open_beneath(run, directory or b".")) as descriptor:
                with os.scandir(descriptor) as found:
                    names = [os.fsencode(entry.name) for entry in found]
                for name in names:
                    path = directory + b"/" + name if directory else name
                    status = kernel.status(descriptor, name)
                    beat(0)
                    if status.is_directory and path != layout.METADATA:
                        if path.count(b"/") >= tree.MAX_DEPTH or len(path) > tree.MAX_PATH:
                            raise NasError(Problem("nas_io_error", f"{show(path[:60])}… is nested too deeply"))
                        pending.append(path)
                    elif status.is_file:
                        digest = ""
                        if with_bytes:
                            read, status = hashing.hash_file(descriptor, name, drop_cache=True, beat=beat)
                            digest = read.hex()
                        yield {"file": [os.fsdecode(path), status.size, status.mtime_ns, status.ino, digest]}
    yield {"device": device}


def _serve(path: str, token: str) -> None:
    """The child's loop: one request a line on standard input, answers on standard output."""

    def say(answer: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(answer) + "\n")

    unsaid = 0
    last = time.monotonic()

    def beat(size: int) -> None:
        nonlocal unsaid, last
        unsaid += size
        if time.monotonic() - last >= _BEAT_SECONDS:
            say({"beat": unsaid})
            sys.stdout.flush()
            unsaid, last = 0, time.monotonic()

    for line in sys.stdin:
        request = json.loads(line)
        try:
            with layout.opened(open_nas(path, token)) as root:
                if "history" in request:
                    say({"told": twin.tell(root, request["run_path"], request["history"], request["attempt"])})
                else:
                    for answer in _listing(root, request["run_path"], with_bytes=request["with_bytes"], beat=beat):
                        say(answer)
        except (NasError, twin.NotTold) as error:
            say({"problem": list(error.problem), "ill": error.ill})
        except OSError as error:
            name = f"{show(os.fsencode(error.filename))}: " if isinstance(error.filename, str) else ""
            detail = f"{name}{os.strerror(error.errno or 0)}"
            say({"problem": ["nas_io_error", detail], "ill": error.errno in twin.ILL})
        sys.stdout.flush()


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2])
