"""Which real filesystems keep inode numbers; one not in the list does not."""

import os
from pathlib import Path

import pytest

from cleanup.storage.mounts.inode_kinds import KEEPING, keeps_inodes
from cleanup.storage.mounts.mountinfo import Mount
from cleanup.storage.mounts.places import Place, describe
from tests.faults import mounts
from tests.faults.means import Unavailable, need_root, skip_or_fail, tiny_disk
from tests.faults.mounts import Enter

pytestmark = pytest.mark.one_engine(by="function")


def forget_names() -> None:
    need_root("may empty caches")
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("2")
    except OSError as error:
        raise Unavailable(f"the kernel's caches cannot be emptied here: {error.strerror}") from None


def need_forgetting() -> None:
    try:
        forget_names()
    except Unavailable as missing:
        skip_or_fail(missing)


def place_of(path: Path) -> Place:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return describe(descriptor)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("kind", sorted(KEEPING))
def test_a_listed_kind_keeps_its_numbers(tmp_path: Path, enter: Enter, kind: str) -> None:
    """Takes 0.3 s each."""
    need_forgetting()
    place = tmp_path / "disk"
    if kind == "tmpfs":
        enter(tiny_disk(place))
    else:
        enter(mounts.disk(tmp_path / "image", place, kind, "128M" if kind == "btrfs" else "16M"))
    for number in range(50):
        (place / f"tile{number}").write_bytes(b"x")
    before = {path.name: path.stat().st_ino for path in place.iterdir()}
    forget_names()
    assert {path.name: path.stat().st_ino for path in place.iterdir()} == before
    assert place_of(place).mount.fstype == kind
    assert keeps_inodes(place_of(place))


def test_what_is_not_listed_and_a_union_do_not() -> None:
    def place(fstype: str, *beneath: Place) -> Place:
        mount = Mount(1, 1, "/", "/m", fstype, "source", ())
        return Place(mount, 1, "/", "/m", beneath=beneath)

    assert keeps_inodes(place("ext4"))
    assert not any(keeps_inodes(place(fstype)) for fstype in ("fuse.sshfs", "cifs", "nfs4", "vfat", "unheard-of"))
    assert not keeps_inodes(place("fuse.mergerfs", place("ext4")))
    assert not keeps_inodes(place("ext4", place("fuse.sshfs")))
