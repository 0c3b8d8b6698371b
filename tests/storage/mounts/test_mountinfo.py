import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from cleanup.storage.mounts import mountinfo
from cleanup.storage.mounts.mountinfo import Mount, UnknownMount, mount_of, parse
from tests.faults.means import Unavailable, mounted, skip_or_fail, tiny_disk
from tests.faults.mounts import Enter

pytestmark = pytest.mark.one_engine(by="function")


LINES = {
    b"22 27 0:21 / /proc rw,relatime - proc proc rw": Mount(
        22, os.makedev(0, 21), "/", "/proc", "proc", "proc", ("rw", "relatime", "rw")
    ),
    # No, one and several optional fields.
    b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue": Mount(
        36, os.makedev(98, 0), "/mnt1", "/mnt2", "ext3", "/dev/root", ("rw", "noatime", "rw", "errors=continue")
    ),
    b"41 1 0:40 / /mnt/a rw shared:7 master:3 propagate_from:2 unbindable - tmpfs none rw": Mount(
        41, os.makedev(0, 40), "/", "/mnt/a", "tmpfs", "none", ("rw", "rw")
    ),
    # Blank, tab, newline, backslash, a comma within an option, and a byte that is no UTF-8.
    rb"50 1 0:41 / /mnt/a\040b\011c\012d\134e rw - overlay overlay rw,lowerdir=/x\054y:/z": Mount(
        50, os.makedev(0, 41), "/", "/mnt/a b\tc\nd\\e", "overlay", "overlay", ("rw", "rw", "lowerdir=/x,y:/z")
    ),
    b"51 1 0:42 / /mnt/\xff rw - zfs tank/lab rw,xattr": Mount(
        51, os.makedev(0, 42), "/", "/mnt/\udcff", "zfs", "tank/lab", ("rw", "rw", "xattr")
    ),
    # A mount of nothing named, and a dash as the name of its place.
    b"52 1 0:43 / /- rw - tmpfs  rw": Mount(52, os.makedev(0, 43), "/", "/-", "tmpfs", "", ("rw", "rw")),
    b"53 1 0:44 / /mnt/nas rw shared:9 - nfs4 nas01:/export/lab rw,vers=4.2,addr=192.0.2.7": Mount(
        53, os.makedev(0, 44), "/", "/mnt/nas", "nfs4", "nas01:/export/lab", ("rw", "rw", "vers=4.2", "addr=192.0.2.7")
    ),
}


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_a_line_is_read(line: bytes) -> None:
    assert parse(line) == LINES[line]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"22 27 0:21 / /proc rw,relatime proc proc rw",
        b"22 27 0:21 / /proc rw - proc proc",
        b"22 27 021 / /proc rw - proc proc rw",
        b"22 27 0:21 / /proc rw - proc proc rw more",
        b"x 27 0:21 / /proc rw - proc proc rw",
    ],
)
def test_another_line_is_not_guessed_at(line: bytes) -> None:
    with pytest.raises(ValueError):
        parse(line)


def test_a_mount_is_found_by_its_whole_number() -> None:
    table = b"\n".join(LINES) + b"\n"
    assert mountinfo.find(table, 52) == parse(b"52 1 0:43 / /- rw - tmpfs  rw")
    assert mountinfo.find(table, 5) is None


def test_the_values_of_an_option_are_all_told() -> None:
    mount = parse(b"1 1 0:1 / /m rw - overlay overlay rw,lowerdir+=/a,lowerdir+=/b,upperdir=/c")
    assert mount.values("lowerdir+") == ["/a", "/b"]
    assert (mount.values("upperdir"), mount.values("lower")) == (["/c"], [])


def test_the_mount_of_a_descriptor_is_that_of_its_device(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        mount = mount_of(descriptor)
    finally:
        os.close(descriptor)
    assert str(tmp_path).startswith(mount.mount_point)
    assert mount.device == tmp_path.stat().st_dev


def test_a_bind_mount_says_which_directory_it_shows(tmp_path: Path, enter: Enter) -> None:
    (tmp_path / "disk/folder with a blank").mkdir(parents=True)
    (tmp_path / "shown").mkdir()
    enter(tiny_disk(tmp_path / "disk"))
    (tmp_path / "disk/folder with a blank").mkdir()
    enter(mounted("--bind", tmp_path / "disk/folder with a blank", tmp_path / "shown"))
    descriptor = os.open(tmp_path / "shown", os.O_RDONLY)
    try:
        found = mount_of(descriptor)
    finally:
        os.close(descriptor)
    assert (found.root, found.mount_point) == ("/folder with a blank", str(tmp_path / "shown"))
    assert found.fstype == "tmpfs"


def test_what_was_opened_counts_and_not_what_covers_it_now(tmp_path: Path, enter: Enter) -> None:
    """A path prefix would name the later mount."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        before = mount_of(descriptor)
        enter(tiny_disk(tmp_path))
        assert mount_of(descriptor) == before
        again = os.open(tmp_path, os.O_RDONLY)
        try:
            assert mount_of(again).fstype == "tmpfs"
        finally:
            os.close(again)
    finally:
        os.close(descriptor)


def test_a_mount_that_was_taken_away_is_unknown(tmp_path: Path) -> None:
    with ExitStack() as stack:
        try:
            stack.enter_context(tiny_disk(tmp_path / "disk"))
        except Unavailable as missing:
            skip_or_fail(missing)
        descriptor = os.open(tmp_path / "disk", os.O_RDONLY)
    try:
        with pytest.raises(UnknownMount, match="does not stand in"):
            mount_of(descriptor)
    finally:
        os.close(descriptor)


def test_a_closed_descriptor_has_no_mount() -> None:
    descriptor = os.open("/", os.O_RDONLY)
    os.close(descriptor)
    with pytest.raises(UnknownMount, match="fdinfo"):
        mount_of(descriptor)
