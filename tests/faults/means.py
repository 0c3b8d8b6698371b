"""The means of a fault: processes, locks, mounts, flags and failing calls, real where possible.

A machine that lacks one raises Unavailable, which skips the test with its sentence. With
EXLAB_REQUIRE_FAULTS=1, set by CI, root fails instead.
"""

import functools
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from cleanup.lab.nas.nas_transport import Reader
from cleanup.lab.roots import opening
from cleanup.models import Run
from cleanup.storage.nas import client, server, wanted_files, way_to_twin
from cleanup.storage.root_files import markers
from cleanup.storage.staging import record_locks
from tests.faults.scene import is_root

REQUIRE = "EXLAB_REQUIRE_FAULTS"


class Unavailable(Exception):
    """This machine cannot produce a fault; the message is the reason, as a sentence."""


def skip_or_fail(missing: Unavailable) -> None:
    if os.environ.get(REQUIRE) == "1" and is_root():
        pytest.fail(f"{REQUIRE}=1, and yet: {missing}")
    pytest.skip(str(missing))


def need_root(why: str) -> None:
    if not is_root():
        raise Unavailable(f"only root {why}")


# Other processes


@contextmanager
def running(script: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        try:
            yield process
        finally:
            process.communicate("\n", timeout=10)


def opened_elsewhere(path: Path, mode: str) -> Any:
    return running(f"file = open({str(path)!r}, {mode!r}); print('open', flush=True); input()")


@contextmanager
def flocked_elsewhere(path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Hold a lock all the while; so it makes no difference how long this process waits for it."""
    flags = "os.O_RDONLY" if path.is_dir() else "os.O_RDWR | os.O_CREAT"
    program = (
        f"import fcntl, os; file = os.open({str(path)!r}, {flags}); "
        "fcntl.flock(file, fcntl.LOCK_EX); print('held', flush=True); input()"
    )
    with pytest.MonkeyPatch.context() as patch, running(program) as process:
        patch.setattr(record_locks, "PATIENCE_SECONDS", 0.1)
        yield process


# Filesystems


@contextmanager
def mounted(*arguments: str | Path) -> Iterator[None]:
    need_root("may mount")
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        if subprocess.run(["umount", str(arguments[-1])], check=False).returncode:
            subprocess.run(["umount", "--lazy", str(arguments[-1])], check=True)


def tiny_disk(place: Path, size: str = "3m") -> Any:
    place.mkdir(parents=True, exist_ok=True)
    return mounted("-t", "tmpfs", "-o", f"size={size}", "tmpfs", place)


def fill(folder: Path) -> None:
    with pytest.raises(OSError, match="space"), (folder / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


@contextmanager
def flagged(path: Path, flag: str) -> Iterator[None]:
    """Set a file attribute (`i` immutable, `a` append-only) for a block; it binds root too."""
    need_root("may set file attributes")
    if not set_flag(path, f"+{flag}"):
        raise Unavailable("this filesystem knows no immutable files")
    try:
        yield
    finally:
        assert set_flag(path, f"-{flag}")


def set_flag(path: Path, flag: str) -> bool:
    return subprocess.run(["chattr", flag, str(path)], capture_output=True, check=False).returncode == 0


def make_device(path: Path) -> None:
    need_root("may make devices")
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        raise Unavailable("no devices can be made here") from None


# The NAS side, which a child process reads


@contextmanager
def reading_through(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *wrapper: str) -> Iterator[None]:
    python = tmp_path / "python"
    words = " ".join(f"'{word}'" for word in (*wrapper, sys.executable))
    python.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    python.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(python))
        yield


def nas_failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: Path, calls: str, fault: str) -> Any:
    """Let the kernel fail some calls on one NAS path, for example with `error=EIO`."""
    strace = shutil.which("strace")
    if strace is None:
        raise Unavailable("strace is not installed, which makes a call of the kernel fail")
    options = (
        "-qq",
        "-f",
        "--seccomp-bpf",
        "-o",
        "/dev/null",
        "-P",
        str(path),
        "-e",
        f"trace={calls}",
        "-e",
        f"inject={calls}:{fault}",
    )
    if not _may_trace(strace):
        raise Unavailable("no process may be traced here")
    return reading_through(monkeypatch, tmp_path, strace, *options)


@functools.cache
def _may_trace(strace: str) -> bool:
    return (
        subprocess.run([strace, "-qq", "-o", "/dev/null", "/bin/true"], capture_output=True, check=False).returncode
        == 0
    )


class ReaderHere(client.NasReader):
    def _ask(self, request: dict[str, Any], more: Iterable[bytes] = ()) -> None:
        if "wanted" in request:
            request["wanted"] = wanted_files.WantedFiles(more)
        self._answers = self._look(request)

    def _answer(self, waits: Callable[[], None] = lambda: None) -> dict[str, Any]:
        return next(self._answers)

    def _look(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        marker = markers.staging_marker(self._staging) if self._staging else b""
        yield from server.answers(way_to_twin.Ways(self._path, marker), self._token, request, lambda size: None)


class OneReader:
    """The same reader for every run."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def of(self, run: Run) -> Reader:
        return self._reader


@contextmanager
def reader_here(root: Any) -> Iterator[OneReader]:
    with ReaderHere(root.nas_path, root.nas_token, staging=root.token) as reader:
        yield OneReader(reader)


def reading_here(monkeypatch: pytest.MonkeyPatch) -> Any:
    return replaced(monkeypatch, opening, "reader_for", reader_here)


def impatient(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Any:
    return replaced(monkeypatch, settings, "EXLAB_NAS_TIMEOUT", seconds)


# Acts at a chosen moment of the protocol


@contextmanager
def before(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[[], Any], call: int = 1
) -> Iterator[None]:
    with _interposed(monkeypatch, owner, name, act, call, late=False):
        yield


@contextmanager
def after(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[[], Any], call: int = 1
) -> Iterator[None]:
    with _interposed(monkeypatch, owner, name, act, call, late=True):
        yield


@contextmanager
def _interposed(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[[], Any], call: int, *, late: bool
) -> Iterator[None]:
    original = getattr(owner, name)
    calls = 0

    def interposed(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not late:
            act()
        result = original(*args, **kwargs)
        if calls == call and late:
            act()
        return result

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interposed)
        yield
    assert calls >= call, f"{name} was called {calls} times, so nothing happened"


def failing(error: BaseException) -> Callable[..., None]:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    return fail


@contextmanager
def replaced(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, value: Any) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, value)
        yield


def change_keeping_size_and_time(path: Path) -> None:
    """Flip one bit and keep size and modification time, as a faulty copying tool would."""
    seen = path.stat()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def rename_aside(path: Path) -> Path:
    aside = path.with_name(path.name + ".aside")
    path.rename(aside)
    return aside
