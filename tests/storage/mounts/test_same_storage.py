"""Staging and NAS as one storage under two names, on real mounts if possible."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from cleanup.storage.mounts import block_devices, places
from cleanup.storage.mounts.fuse import Server
from cleanup.storage.mounts.mountinfo import Mount
from cleanup.storage.mounts.places import Place, describe
from cleanup.storage.mounts.same_storage import overlap, same_storage
from tests.faults import mounts
from tests.faults.means import mounted, tiny_disk
from tests.faults.mounts import Enter

pytestmark = pytest.mark.one_engine(by="function")


def at(path: Path) -> Place:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return Place.from_json(json.loads(json.dumps(describe(descriptor).as_json())))
    finally:
        os.close(descriptor)


def compare(staging: Path, nas: Path) -> tuple[str, str]:
    here, there = at(staging), at(nas)
    assert bool(same_storage(here, there)) == bool(same_storage(there, here))
    assert bool(overlap(here, there)) == bool(overlap(there, here))
    return same_storage(here, there), overlap(here, there)


def is_one_storage(staging: Path, nas: Path, match: str) -> None:
    same, overlapping = compare(staging, nas)
    assert match in same
    assert overlapping == ""


def is_the_same_directory(staging: Path, nas: Path) -> None:
    same, overlapping = compare(staging, nas)
    assert same
    assert "the same directory, or one lies in the other" in overlapping


def are_two_places(staging: Path, nas: Path) -> None:
    assert compare(staging, nas) == ("", "")


@pytest.fixture
def disks(tmp_path: Path, enter: Enter) -> Path:
    for name in ("one", "two"):
        enter(tiny_disk(tmp_path / name))
    for name in ("one/staging", "one/other", "two/nas", "two/work", "at"):
        (tmp_path / name).mkdir()
    return tmp_path


# One filesystem, and two


def test_two_disks_in_memory_are_two_places(disks: Path) -> None:
    are_two_places(disks / "one/staging", disks / "two/nas")


def test_two_folders_of_one_disk_are_one_storage(disks: Path) -> None:
    is_one_storage(disks / "one/staging", disks / "one/other", "lie on")


def test_a_folder_in_the_other_is_the_same_directory(disks: Path) -> None:
    (disks / "one/staging/nas").mkdir()
    is_the_same_directory(disks / "one/staging", disks / "one/staging/nas")
    is_the_same_directory(disks / "one/staging", disks / "one")


def test_a_name_that_begins_alike_is_another_directory(disks: Path) -> None:
    (disks / "one/staging2").mkdir()
    is_one_storage(disks / "one/staging", disks / "one/staging2", "lie on")


def test_a_bind_mount_is_the_same_directory(disks: Path, enter: Enter) -> None:
    enter(mounted("--bind", disks / "one/staging", disks / "at"))
    is_the_same_directory(disks / "one/staging", disks / "at")
    are_two_places(disks / "two/nas", disks / "at")


def test_a_bind_mount_of_another_folder_is_one_storage(disks: Path, enter: Enter) -> None:
    enter(mounted("--bind", disks / "one/other", disks / "at"))
    is_one_storage(disks / "one/staging", disks / "at", "lie on")


def test_two_images_are_two_places(tmp_path: Path, enter: Enter) -> None:
    for name in ("one", "two"):
        enter(mounts.disk(tmp_path / f"{name}.img", tmp_path / name))
    are_two_places(tmp_path / "one", tmp_path / "two")


def test_one_image_behind_two_loops_is_one_storage(tmp_path: Path, enter: Enter) -> None:
    """The second loop is read-only, as required; its device number differs."""
    image, alias = tmp_path / "disk.img", tmp_path / "alias.img"
    enter(mounts.disk(image, tmp_path / "one"))
    os.link(image, alias)
    (tmp_path / "two").mkdir()
    enter(mounts.looped(alias, tmp_path / "two"))
    assert (tmp_path / "one").stat().st_dev != (tmp_path / "two").stat().st_dev
    is_one_storage(tmp_path / "one", tmp_path / "two", "lie on the image")


def test_a_copied_filesystem_is_known_by_its_uuid(tmp_path: Path, enter: Enter) -> None:
    """As a snapshot of a logical volume: other blocks, and an earlier state of the staging disk."""
    one, two = tmp_path / "one.img", tmp_path / "two.img"
    enter(mounts.disk(one, tmp_path / "one"))
    subprocess.run(["cp", one, two], check=True)
    enter(mounts.disk(two, tmp_path / "two", options="loop,ro,noload"))
    if not any(sign.startswith("the filesystem") for sign in at(tmp_path / "one").signs):
        pytest.skip("this kernel tells no UUID of a filesystem")
    is_one_storage(tmp_path / "one", tmp_path / "two", "lie on the filesystem")


def test_partitions_of_one_image_are_two_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a planted /sys: few machines let a test partition a disk."""
    for number, start in ((1, 2048), (2, 4096)):
        part = tmp_path / f"devices/loop9/loop9p{number}"
        part.mkdir(parents=True)
        (part / "partition").write_text(f"{number}\n")
        (part / "start").write_text(f"{start}\n")
        (tmp_path / f"259:{number}").symlink_to(part)
    (tmp_path / "devices/loop9/loop").mkdir()
    (tmp_path / "devices/loop9/loop/backing_file").write_text("/images/disk.img\n")
    monkeypatch.setattr(block_devices, "_SYS", str(tmp_path))
    one, two = (set(block_devices.signs(os.makedev(259, number))) for number in (1, 2))
    assert "the image /images/disk.img at 1048576" in one
    assert not one & two


def test_an_encrypted_disk_is_the_disk_beneath_and_a_volume_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a planted /sys: a mapping that covers its disk, and two that share one."""
    sizes = {"sda": 1000, "dm-0": 990, "sdb": 1000, "dm-1": 400, "dm-2": 500}
    for number, (name, size) in enumerate(sizes.items()):
        folder = tmp_path / "devices" / name
        (folder / "slaves").mkdir(parents=True)
        (folder / "size").write_text(f"{size}\n")
        (folder / "dev").write_text(f"8:{number}\n")
        (tmp_path / f"8:{number}").symlink_to(folder)
    for upper, lower in (("dm-0", "sda"), ("dm-1", "sdb"), ("dm-2", "sdb")):
        (tmp_path / f"devices/{upper}/slaves/{lower}").symlink_to(tmp_path / f"devices/{lower}")
    monkeypatch.setattr(block_devices, "_SYS", str(tmp_path))
    disk, crypt, _group, one, two = (set(block_devices.signs(os.makedev(8, number))) for number in range(5))
    assert disk & crypt == {"the block device 8:0"}
    assert not one & two


# btrfs


@pytest.fixture
def subvolumes(tmp_path: Path, enter: Enter) -> Path:
    enter(mounts.btrfs(tmp_path / "btrfs.img", tmp_path / "top"))
    return tmp_path / "top"


def test_subvolumes_are_one_storage(subvolumes: Path) -> None:
    assert (subvolumes / "staging").stat().st_dev != (subvolumes / "nas").stat().st_dev
    is_one_storage(subvolumes / "staging", subvolumes / "nas", "lie on the btrfs filesystem")


def test_subvolumes_that_are_mounted_apart_are_one_storage(subvolumes: Path, tmp_path: Path, enter: Enter) -> None:
    image = tmp_path / "btrfs.img"
    (tmp_path / "apart").mkdir()
    enter(mounted("-o", "loop,subvol=nas", image, tmp_path / "apart"))
    is_one_storage(subvolumes / "staging", tmp_path / "apart", "lie on the btrfs filesystem")
    is_the_same_directory(subvolumes / "nas", tmp_path / "apart")


def test_a_snapshot_is_one_storage(subvolumes: Path) -> None:
    (subvolumes / "staging/file").write_text("data")
    subprocess.run(
        ["btrfs", "subvolume", "snapshot", "-r", subvolumes / "staging", subvolumes / "snapshot"],
        check=True, capture_output=True,
    )  # fmt: skip
    assert (subvolumes / "snapshot/file").exists()
    is_one_storage(subvolumes / "staging", subvolumes / "snapshot", "lie on the btrfs filesystem")


def test_two_btrfs_are_two_places(subvolumes: Path, tmp_path: Path, enter: Enter) -> None:
    enter(mounts.btrfs(tmp_path / "second.img", tmp_path / "second"))
    are_two_places(subvolumes / "staging", tmp_path / "second/nas")


# Unions


def test_an_overlay_over_the_staging_disk_shows_it(disks: Path, enter: Enter) -> None:
    enter(mounts.overlay(disks / "at", disks / "one/staging", disks / "two/nas"))
    is_the_same_directory(disks / "one/staging", disks / "at")
    is_one_storage(disks / "one/other", disks / "at", "(by way of ")


def test_an_overlay_that_is_written_to_on_the_staging_disk_is_one_storage(disks: Path, enter: Enter) -> None:
    for name in ("one/upper", "one/work"):
        (disks / name).mkdir()
    upper, work = disks / "one/upper", disks / "one/work"
    enter(mounts.overlay(disks / "at", disks / "two/nas", upper=upper, work=work))
    is_one_storage(disks / "one/staging", disks / "at", f"(by way of {upper})")


def test_an_overlay_of_other_disks_is_another_place(disks: Path, enter: Enter) -> None:
    enter(mounts.overlay(disks / "at", disks / "two/nas", disks / "two/work"))
    are_two_places(disks / "one/staging", disks / "at")


def test_a_folder_of_an_overlay_shows_that_folder_of_its_layers(disks: Path, enter: Enter) -> None:
    (disks / "two/nas/lab").mkdir()
    enter(mounts.overlay(disks / "at", disks / "one", disks / "two/nas"))
    is_the_same_directory(disks / "one/staging", disks / "at")
    is_the_same_directory(disks / "one/staging", disks / "at/staging")
    is_one_storage(disks / "one/staging", disks / "at/lab", "lie on")


def test_a_layer_with_a_colon_and_a_blank_in_its_name(disks: Path, enter: Enter) -> None:
    (disks / "one/a: b").mkdir()
    enter(mounted("-t", "overlay", "overlay", "-o", rf"lowerdir={disks}/one/a\: b:{disks}/two/nas", disks / "at"))
    is_the_same_directory(disks / "one/a: b", disks / "at")


def test_a_union_of_unions_is_seen_through(disks: Path, enter: Enter) -> None:
    (disks / "outer").mkdir()
    enter(mounts.overlay(disks / "at", disks / "one/staging", disks / "two/nas"))
    enter(mounts.mergerfs(disks / "outer", disks / "two/work", disks / "at"))
    is_the_same_directory(disks / "one/staging", disks / "outer")


@pytest.mark.parametrize("options", ["cache.files=off", "xattr=nosys", "fsname=pool"])
def test_mergerfs_shows_its_branches(disks: Path, enter: Enter, options: str) -> None:
    """Without the attributes, or under another name, its command line tells."""
    enter(mounts.mergerfs(disks / "at", disks / "two/nas", disks / "one/staging", options=options))
    is_the_same_directory(disks / "one/staging", disks / "at")
    is_one_storage(disks / "one/other", disks / "at", "(by way of ")


def test_mergerfs_of_other_disks_is_another_place(disks: Path, enter: Enter) -> None:
    enter(mounts.mergerfs(disks / "at", disks / "two/nas", disks / "two/work"))
    are_two_places(disks / "one/staging", disks / "at")


def test_unionfs_shows_its_branches(disks: Path, enter: Enter) -> None:
    branches = f"{disks}/two/nas=RW:{disks}/one/staging=RO"
    enter(mounts.served(disks / "at", "unionfs", "-f", "-o", "cow", branches, disks / "at"))
    is_the_same_directory(disks / "one/staging", disks / "at")


def test_an_overlay_without_the_kernel_shows_its_layers(disks: Path, enter: Enter) -> None:
    (disks / "two/upper").mkdir()
    options = f"lowerdir={disks}/one/staging:{disks}/two/nas,upperdir={disks}/two/upper,workdir={disks}/two/work"
    enter(mounts.served(disks / "at", "fuse-overlayfs", "-f", "-o", options, disks / "at"))
    is_the_same_directory(disks / "one/staging", disks / "at")
    is_one_storage(disks / "one/other", disks / "at", "(by way of ")


def test_a_program_that_shows_another_directory_is_seen_through(disks: Path, enter: Enter) -> None:
    enter(mounts.served(disks / "at", "bindfs", "-f", disks / "one/staging", disks / "at"))
    is_the_same_directory(disks / "one/staging", disks / "at")
    is_one_storage(disks / "one/other", disks / "at", "(by way of ")


# Over the network, back to this host


def test_sshfs_to_this_very_host_shows_the_directory(disks: Path, enter: Enter) -> None:
    enter(mounts.sshfs(disks / "at", disks / "one/staging"))
    is_the_same_directory(disks / "one/staging", disks / "at")
    are_two_places(disks / "two/nas", disks / "at")


def test_a_folder_seen_over_sshfs_is_that_folder(disks: Path, enter: Enter) -> None:
    enter(mounts.sshfs(disks / "at", disks / "one"))
    is_the_same_directory(disks / "one/staging", disks / "at/staging")
    are_two_places(disks / "one/staging", disks / "at/other")


def test_rclone_of_a_directory_here_shows_it(disks: Path, enter: Enter) -> None:
    enter(mounts.rclone(disks / "at", disks / "one/staging", disks / "cache"))
    is_the_same_directory(disks / "one/staging", disks / "at")
    are_two_places(disks / "two/nas", disks / "at")


@pytest.mark.parametrize(
    ("arguments", "tunnel"),
    [
        (("sshfs", "ada@localhost:/data", "/mnt/nas"), False),
        (("sshfs", "localhost:/data", "/mnt/nas", "-p", "22"), False),
        (("sshfs", "localhost:/data", "/mnt/nas", "-p2222"), True),
        (("sshfs", "-p", "2222", "localhost:/data", "/mnt/nas"), True),
        (("sshfs", "localhost:/data", "/mnt/nas", "-o", "rw,port=2222"), True),
        (("sshfs", "localhost:/data", "/mnt/nas", "-o", "directport=2222"), False),
    ],
)
def test_another_port_of_this_host_may_be_a_tunnel(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], tunnel: bool
) -> None:
    monkeypatch.setattr(places, "servers_of", lambda mount: [Server(arguments)])
    served = places._served_from(Mount(1, 1, "/", "/mnt/nas", "fuse.sshfs", "ada@localhost:/data", ()))
    assert served == ([] if tunnel else ["/data"])


@pytest.mark.parametrize(
    ("source", "fstype", "options", "served"),
    [
        ("localhost:/srv/lab", "nfs4", ("addr=127.0.0.1",), ["/srv/lab"]),
        ("nas:/srv/lab", "nfs", ("addr=127.0.0.1", "port=2049"), ["/srv/lab"]),
        ("localhost:/srv/lab", "nfs4", ("addr=127.0.0.1", "port=3049"), []),
        ("localhost:/", "nfs4", (), []),
        ("//localhost/lab", "cifs", (), []),
        ("nas:/srv/lab", "nfs4", ("addr=192.0.2.7",), []),
    ],
)
def test_exports_of_this_host_are_its_directories(
    source: str, fstype: str, options: tuple[str, ...], served: list[str]
) -> None:
    assert places._served_from(Mount(1, 1, "/", "/mnt/nas", fstype, source, options)) == served


def test_a_folder_of_a_union_that_is_bound_elsewhere_is_that_folder(disks: Path, enter: Enter) -> None:
    (disks / "bound").mkdir()
    enter(mounts.overlay(disks / "at", disks / "one", disks / "two"))
    enter(mounted("--bind", disks / "at/staging", disks / "bound"))
    is_the_same_directory(disks / "one/staging", disks / "bound")
    is_one_storage(disks / "one/other", disks / "bound", "lie on")


@pytest.mark.parametrize(
    "remote",
    [
        ':union,upstreams="{one} {two}":',
        ":alias,remote={one}:",
        "plain:",
        "pool:",
        "pool2:",
        "named:here",
        "above:staging",
    ],
)
def test_a_remote_of_rclone_that_leads_back_is_seen_through(disks: Path, enter: Enter, remote: str) -> None:
    """In its configuration, and on its command line alone."""
    one, two = disks / "one/staging", disks / "two/nas"
    configuration = disks / "rclone.conf"
    configuration.write_text(
        f"[plain]\ntype = alias\nremote = {one}\n"
        f"[pool]\ntype = union\nupstreams = {two}:nc {one}:ro\n"
        "[pool2]\ntype = union\nupstreams = plain: pool:\n"
        f'[named]\ntype = combine\nupstreams = "here={one}" there={two}\n'
        f"[above]\ntype = alias\nremote = {disks}/one\n"
    )
    remote = remote.format(one=one, two=two)
    enter(mounts.rclone(disks / "at", remote, disks / "cache", "--config", str(configuration)))
    is_the_same_directory(one, disks / "at")


@pytest.mark.parametrize("remote", ["far:", "named:there"])
def test_a_remote_of_rclone_that_leads_elsewhere_is_another_place(disks: Path, enter: Enter, remote: str) -> None:
    configuration = disks / "rclone.conf"
    configuration.write_text(
        f"[far]\ntype = alias\nremote = {disks}/two/nas\n"
        f"[named]\ntype = combine\nupstreams = there={disks}/two/nas here={disks}/one\n"
        f"[unused]\ntype = alias\nremote = {disks}/one\n"
    )
    enter(mounts.rclone(disks / "at", remote, disks / "cache", "--config", str(configuration)))
    are_two_places(disks / "one/staging", disks / "at")


# What a test cannot mount: planted tables


def planted(source: str, fstype: str, *options: str, root: str = "/", device: int = 1, path: str = "/") -> Place:
    mount = Mount(device, device, root, f"/mnt/{device}", fstype, source, options)
    place = Place(mount=mount, device=device, path=path, name=f"/mnt/{device}{path}")
    return replace(place, signs=tuple(places.source_signs(mount)))


def told(one: Place, other: Place) -> bool:
    assert bool(same_storage(one, other)) == bool(same_storage(other, one))
    return bool(same_storage(one, other))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("tank/staging", "tank/nas", True),
        ("tank", "tank/lab/nas", True),
        ("tank/staging", "tank2/nas", False),
    ],
)
def test_datasets_of_one_pool_are_one_storage(one: str, other: str, same: bool) -> None:
    assert told(planted(one, "zfs", device=1), planted(other, "zfs", device=2)) is same


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("nas:/export/lab", "nas:/export/lab", True),
        ("nas:/export/lab", "NAS:/export", True),
        ("nas:/export/lab/", "nas:/export/lab/x", True),
        ("ada@nas:/export/lab", "nas:/export/lab", True),
        ("[2001:db8::1]:/export", "[2001:db8::1]:/export/lab", True),
        ("nas:/export/staging", "nas:/export/nas", False),
        ("nas:/export/lab", "nas:/export/lab2", False),
        ("nas:/export/lab", "nas2:/export/lab", False),
        ("nas:lab", "nas:lab", False),  # a path below a home, or a name: nothing that can be compared
    ],
)
def test_exports_of_one_server_are_one_storage_where_one_holds_the_other(one: str, other: str, same: bool) -> None:
    assert told(planted(one, "nfs4", device=1), planted(other, "fuse.sshfs", device=2)) is same


def test_a_server_is_known_by_its_address_too() -> None:
    one = planted("nas:/lab", "nfs4", "rw", "addr=192.0.2.7", device=1)
    assert told(one, planted("nas.example.org:/lab", "nfs", "addr=192.0.2.7", device=2))
    assert not told(one, planted("nas.example.org:/lab", "nfs", "addr=192.0.2.8", device=2))


def test_shares_are_compared_with_shares() -> None:
    share = planted("//nas/Lab", "cifs", device=1)
    assert told(share, planted("//NAS/lab/sub", "smb3", device=2))
    assert not told(share, planted("//nas/other", "cifs", device=2))
    assert not told(share, planted("nas:/lab", "nfs", device=2))  # the name of a share is no path


def test_what_a_program_calls_its_mount_says_nothing() -> None:
    assert not told(planted("/dev/fuse", "fuse", device=1), planted("/dev/fuse", "fuse", device=2))
    assert not told(planted("tmpfs", "tmpfs", device=1), planted("tmpfs", "tmpfs", device=2))
    assert not told(planted("nas:/lab", "fuse.rclone", device=1), planted("nas:/lab", "nfs", device=2))


def test_a_device_with_two_names_is_one_storage(tmp_path: Path) -> None:
    assert told(planted("/dev/sdb1", "ext4", device=1), planted("/dev/sdb1", "ext4", device=2))
    assert not told(planted("/dev/sdb1", "ext4", device=1), planted("/dev/sdb2", "ext4", device=2))


def test_this_host_knows_its_own_names() -> None:
    names = places.own_names()
    assert {"localhost", "127.0.0.1", os.uname().nodename.lower()} <= names
    assert "192.0.2.7" not in names
