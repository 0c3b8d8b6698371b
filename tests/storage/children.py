"""Runs part of a test as an ordinary user, or with mounts of its own."""

import ctypes
import os
import pickle
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

NOBODY = 65534
_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_PR_SET_DUMPABLE = 4
_libc = ctypes.CDLL(None, use_errno=True)


class CannotMount(Exception):
    """This machine allows no mount namespace or no mount."""


def as_ordinary_user(act: Callable[[], T]) -> T:
    """Return what `act` returns without root's rights. Open descriptors stay open in it."""
    return _in_child(act, _become_ordinary)


def with_own_mounts(act: Callable[[], T]) -> T:
    """Return what `act` returns in a process whose mounts end with it; skip where that is not allowed."""
    try:
        return _in_child(act, _leave_mount_namespace)
    except CannotMount as error:
        pytest.skip(f"no mounts can be made here: {error}")


def mount(*arguments: str | Path) -> None:
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotMount(done.stderr.strip())


def give_away(*paths: Path) -> None:
    """Make the ordinary user the owner, where the tests run as root."""
    if os.geteuid() == 0:
        for path in paths:
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def _in_child(act: Callable[[], T], prepare: Callable[[], None]) -> T:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            prepare()
            answer = pickle.dumps((True, act()))
        except BaseException as error:  # the parent raises it
            error.add_note(traceback.format_exc())
            answer = pickle.dumps((False, error))
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(answer)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    succeeded, result = pickle.loads(answer)
    if not succeeded:
        raise result
    return result


def _become_ordinary() -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)  # or /proc/self still belongs to root


def _leave_mount_namespace() -> None:
    user, group = os.geteuid(), os.getegid()
    if _libc.unshare(_CLONE_NEWNS | (_CLONE_NEWUSER if user else 0)):
        raise CannotMount(os.strerror(ctypes.get_errno()))
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    mount("--make-rprivate", "/")
