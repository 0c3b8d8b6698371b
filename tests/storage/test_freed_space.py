"""The space a removal frees, by the count of real filesystems on loops, which only root can mount.

Each test takes 0.5 s to mount.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cleanup.rules.freed import Unmeasured
from cleanup.storage import freed_space, linux
from cleanup.storage.freed_space import Gain, Space
from tests.faults import mounts
from tests.faults.means import fill
from tests.faults.mounts import Enter

pytestmark = pytest.mark.one_engine(by="function")


MIB = 1 << 20
Disk = Callable[..., Path]


@pytest.fixture
def disk(tmp_path: Path, enter: Enter) -> Disk:
    """Mount a new filesystem: `disk("btrfs")`."""

    def mount(kind: str, size: str = "256M") -> Path:
        enter(mounts.disk(tmp_path / f"{kind}.img", tmp_path / kind, kind, size))
        return tmp_path / kind

    return mount


@pytest.fixture(autouse=True)
def _settled_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a snapshot as on a quiet disk, but not 10 s more."""
    monkeypatch.setattr(freed_space, "_SETTLED_SECONDS", 0.05)


def written(path: Path, size: int = 20 * MIB) -> int:
    """Write an incompressible file; return its allocated bytes."""
    with path.open("wb") as file:
        file.write(os.urandom(size))
        file.flush()
        os.fsync(file.fileno())
    os.sync()
    return path.stat().st_blocks * 512


def snapshot_of(top: Path, name: str = "kept") -> None:
    subprocess.run(["btrfs", "subvolume", "snapshot", "-r", top, top / name], check=True, capture_output=True)
    os.sync()


@contextlib.contextmanager
def watched(top: Path) -> Iterator[Space]:
    descriptor = os.open(top, os.O_RDONLY)
    try:
        with freed_space.watched(descriptor, str(top.parent / "count"), planned=20 * MIB) as space:
            yield space
    finally:
        os.close(descriptor)


def removing(top: Path, *files: Path, removed: int, patience: float = 30) -> Gain:
    with watched(top) as space:
        for file in files:
            file.unlink()
        return space.gain(removed, patience=lambda: patience)


def test_ext4_has_it_at_once_and_is_not_waited_for(disk: Disk) -> None:
    top = disk("ext4")
    removed = written(top / "big")

    def asked() -> float:
        raise AssertionError("waited for")

    with watched(top) as space:
        began = time.monotonic()
        (top / "big").unlink()
        gain = space.gain(removed, patience=asked)
        assert time.monotonic() - began < 0.5
    assert (gain.bytes, gain.why) == (removed, "")
    assert gain.before is not None
    assert gain.after is not None
    assert gain.after.free - gain.before.free == removed
    assert gain.after.total == gain.before.total


@pytest.mark.parametrize("kind", ["btrfs", "xfs"])
def test_late_filesystems_are_waited_for(disk: Disk, kind: str) -> None:
    if kind == "xfs" and not shutil.which("mkfs.xfs", path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
        pytest.skip("mkfs.xfs is not installed (Debian: xfsprogs)")
    top = disk(kind, "320M")
    removed = written(top / "big")
    began = time.monotonic()
    gain = removing(top, top / "big", removed=removed)
    assert gain.bytes == pytest.approx(removed, rel=0.05)
    assert time.monotonic() - began < 3


def test_a_snapshot_holds_everything(disk: Disk) -> None:
    top = disk("btrfs")
    removed = written(top / "big")
    snapshot_of(top)
    gain = removing(top, top / "big", removed=removed)
    assert (gain.bytes, gain.why) == (0, "")


def test_a_disk_that_is_not_done_with_its_sync_is_no_evidence(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mocked: no test keeps a disk busy for half a minute."""
    top = disk("btrfs")
    removed = written(top / "big")
    snapshot_of(top)
    monkeypatch.setattr(linux, "sync_filesystem", lambda descriptor: time.sleep(1))
    monkeypatch.setattr(freed_space, "_SYNC_FIRST_SECONDS", 0.01)
    gain = removing(top, top / "big", removed=removed, patience=0.2)
    assert (gain.bytes, gain.why) == (None, Unmeasured.SLOW)


def test_what_an_earlier_removal_frees_late_is_not_counted(disk: Disk) -> None:
    """Small runs, not waited for, go just before; only the large one is in the snapshot."""
    top = disk("btrfs")
    removed = written(top / "big")
    snapshot_of(top)
    for number in range(5):
        written(top / str(number), 3 * MIB)
        removing(top, top / str(number), removed=3 * MIB)
    gain = removing(top, top / "big", removed=removed)
    assert (gain.bytes, gain.why) == (0, "")


def test_another_removal_at_the_same_time_makes_it_not_measurable(disk: Disk) -> None:
    top = disk("ext4")
    sizes = [written(top / name, 5 * MIB) for name in "ab"]
    with watched(top) as one:
        with watched(top) as other:
            (top / "b").unlink()
            assert other.gain(sizes[1], patience=lambda: 0).why == Unmeasured.OVERLAPPED
        (top / "a").unlink()
        assert one.gain(sizes[0], patience=lambda: 0) == Gain(
            None, Unmeasured.OVERLAPPED, one._before, freed_space.fill_of(one._descriptor)
        )


def test_what_others_write_meanwhile_makes_it_not_measurable(disk: Disk) -> None:
    """A removal measures after every thousand files; space that was free by then and is used again was in no
    snapshot.
    """
    top = disk("ext4")
    removed = written(top / "big")
    with watched(top) as space:
        (top / "big").unlink()
        space.look()
        written(top / "new")
        gain = space.gain(removed, patience=lambda: 0)
    assert (gain.bytes, gain.why) == (None, Unmeasured.FELL)


def test_a_program_that_goes_on_writing_is_noticed_and_not_waited_for(disk: Disk) -> None:
    """Takes 0.5 s: it writes until that is noticed."""
    top = disk("ext4")
    removed = written(top / "big")
    script = "import os, sys, time\nfor n in range(200):\n open(f'{sys.argv[1]}/{n}', 'wb').write(bytes(1 << 20))\n"
    script += " os.sync(); print(n, flush=True); time.sleep(0.02)"
    command = [sys.executable, "-c", script, top]
    with (top / "big").open("rb"), watched(top) as space:  # its blocks stay until it is closed
        (top / "big").unlink()
        with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            assert other.stdout.readline()
            gain = space.gain(removed, patience=lambda: 30)
            assert other.poll() is None
            other.kill()
    assert (gain.bytes, gain.why) == (None, Unmeasured.FELL)


def test_what_a_program_still_has_open_is_not_free(disk: Disk) -> None:
    top = disk("ext4")
    removed = written(top / "big")
    with (top / "big").open("rb"):
        gain = removing(top, top / "big", removed=removed)
    assert (gain.bytes, gain.why) == (0, "")


def test_more_than_was_removed_is_not_ours(disk: Disk) -> None:
    top = disk("ext4")
    removed = written(top / "small", 5 * MIB)
    written(top / "big", 30 * MIB)
    gain = removing(top, top / "small", top / "big", removed=removed)
    assert (gain.bytes, gain.why) == (None, Unmeasured.MORE)


def test_too_little_to_tell_is_not_waited_for(disk: Disk) -> None:
    top = disk("btrfs")
    removed = written(top / "small", MIB)
    snapshot_of(top)
    began = time.monotonic()
    gain = removing(top, top / "small", removed=removed, patience=30)
    assert (gain.bytes, gain.why) == (None, Unmeasured.SMALL)
    assert time.monotonic() - began < 5


def test_the_reserve_of_a_full_disk_counts(disk: Disk) -> None:
    """Root can fill a disk to its last byte; the first freed bytes are not for ordinary users."""
    top = disk("ext4", "64M")
    removed = written(top / "big", 5 * MIB)
    fill(top)
    assert os.statvfs(top).f_bavail == 0
    gain = removing(top, top / "big", removed=removed)
    assert gain.bytes == pytest.approx(removed, rel=0.01)


def test_every_reason_has_its_sentence() -> None:
    codes = {freed_space.OVERLAPPED, freed_space.FELL, freed_space.MORE, freed_space.SMALL, freed_space.SLOW}
    assert codes | {Unmeasured.UNKNOWN, Unmeasured.INTERRUPTED} == set(Unmeasured)
