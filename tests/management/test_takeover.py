"""Real holders of the data directory's lock, and their end."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cleanup.management import takeover
from cleanup.management.supervisor import CommandError, sole_holder
from cleanup.storage.data_directory import lock_holders
from tests.faults import means
from tests.management.test_up import wait_for
from tests.tools.checkout import CHECKOUT

pytestmark = pytest.mark.one_engine(by="function")


SLEEP = ("sleep", "600")
STRANGER = 65534

Process = subprocess.Popen[bytes]
Heirs = Callable[..., list[Process]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "real" / "data").mkdir(parents=True, mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    return tmp_path / "link" / "data"


@pytest.fixture
def heirs(data: Path) -> Iterator[Heirs]:
    """Start processes that inherit the lock. It still names this process."""
    started: list[Process] = []

    def start(*commands: tuple[str, ...], **how: Any) -> list[Process]:
        lock = os.open(data.resolve() / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.write(lock, f"{os.getpid()} up\n".encode())
        mine = [subprocess.Popen(one, pass_fds=[lock], start_new_session=True, **how) for one in commands]
        os.close(lock)
        started.extend(mine)
        return mine

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def opened(data: Path) -> Iterator[int]:
    descriptor = os.open(data / "up.lock", os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def refused(data: Path, **how: Any) -> str:
    with pytest.raises(CommandError) as caught, sole_holder(data, "up", **how):
        pass
    assert caught.value.returncode == 2
    return str(caught.value)


def test_only_those_are_named_that_live_and_hold_the_lock(data: Path, heirs: Heirs) -> None:
    """Not the pid in the lock, which is reused, nor processes that only have the file open."""
    dead, living = heirs(SLEEP, SLEEP)
    dead.kill()
    dead.wait()
    with means.opened_elsewhere(data / "up.lock", "r") as reader, opened(data) as mine:
        words = refused(data)
        assert f"{data} was killed and left processes behind" in words
        assert words.partition("its lock: ")[2].partition(".")[0] == f"`sleep` ({living.pid})"
        assert "`manage.py up --replace` ends them and starts anew" in words
        assert str(reader.pid) not in words
        assert [holder.pid for holder in lock_holders.holders_of(mine)] == [living.pid]


def test_replace_ends_them_all_and_none_besides(
    data: Path, heirs: Heirs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Takes 2 s: one holder and its child ignore the signal."""
    monkeypatch.setattr(takeover, "_GRACE_SECONDS", 1.0)
    stubborn, willing = heirs(("sh", "-c", "trap '' TERM; sleep 600 & sleep 600; sleep 600"), SLEEP)
    said: list[str] = []
    with (
        means.opened_elsewhere(data / "up.lock", "r") as reader,
        means.flocked_elsewhere(tmp_path / "up.lock") as other,
    ):
        with sole_holder(data, "up", replace=True, say=said.append) as lock:
            assert [holder.pid for holder in lock_holders.holders_of(lock)] == [os.getpid()]
            assert (data / "up.lock").read_text() == f"{os.getpid()} up\n"
        assert (reader.poll(), other.poll()) == (None, None)
    assert (stubborn.wait(5), willing.wait(5)) == (-signal.SIGKILL, -signal.SIGTERM)
    ended, killed, over = said
    assert ended.startswith("Ending these processes: ")
    assert all(str(one.pid) in ended for one in (stubborn, willing))
    assert killed.startswith("Killing what did not end within 1 s: ")
    assert str(willing.pid) not in killed
    assert over == "They have ended."


def test_replace_where_nothing_runs_takes_the_lock(data: Path) -> None:
    said: list[str] = []
    with sole_holder(data, "worker", replace=True, say=said.append):
        pass
    assert said == []


def test_one_replaces_at_a_time(data: Path, heirs: Heirs) -> None:
    (left,) = heirs(SLEEP)
    (data / "locks").mkdir()
    with means.flocked_elsewhere(data / "locks" / "replace"):
        assert "Another `--replace` is ending what runs" in refused(data, replace=True)
    assert left.poll() is None


def test_nothing_of_another_user_is_ended(data: Path, heirs: Heirs) -> None:
    if os.geteuid():
        pytest.skip("only root starts processes of another user")
    mine, theirs = heirs(SLEEP, ("setpriv", f"--reuid={STRANGER}", *SLEEP))
    wait_for(lambda: Path(f"/proc/{theirs.pid}/cmdline").read_bytes().startswith(b"sleep"), "the other user", 10)
    for replace in (False, True):
        words = refused(data, replace=replace)
        assert "processes of another user (nobody)" in words
        assert f"`sleep` ({theirs.pid})" in words
        assert "Nothing was ended: run this command as that user" in words
    assert (mine.poll(), theirs.poll()) == (None, None)


def test_what_cannot_be_seen_from_here_is_said_to_be_there(data: Path, heirs: Heirs) -> None:
    """Takes 1 s: a command in a container, which does not see the processes outside."""
    (left,) = heirs(SLEEP)
    script = f"""
import os
from pathlib import Path
from cleanup.management import takeover
path = Path({str(data)!r}) / "up.lock"
print(takeover.say_held(os.open(path, os.O_RDWR), path, "up"))
"""
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", sys.executable, "-c", script]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr:
        pytest.skip(f"no container can be made here: {done.stderr.strip()}")
    assert "is locked by processes that cannot be seen from here" in done.stdout, done.stderr
    assert str(left.pid) not in done.stdout


def test_what_has_started_this_command_is_not_ended(data: Path) -> None:
    """As with `flock DATA/up.lock manage.py up --replace`."""
    lock = os.open(data / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "is locked by what has started this command" in refused(data, replace=True)
    finally:
        os.close(lock)
