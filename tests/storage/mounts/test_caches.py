"""Which caches of mounts are detected."""

import os
from pathlib import Path

import pytest

from cleanup.storage.mounts import caches, rclone
from cleanup.storage.mounts.caches import davfs_delay, is_davfs
from cleanup.storage.mounts.fuse import Server, servers_of
from cleanup.storage.mounts.mountinfo import Mount, mount_of
from cleanup.storage.mounts.union_layers import _served_branches, split_branches
from tests.faults import mounts
from tests.faults.mounts import Enter

pytestmark = pytest.mark.one_engine(by="function")


def mount_at(path: Path) -> Mount:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return mount_of(descriptor)
    finally:
        os.close(descriptor)


@pytest.fixture
def far(tmp_path: Path) -> Path:
    for name in ("far", "at"):
        (tmp_path / name).mkdir()
    return tmp_path / "far"


@pytest.mark.parametrize("mode", ["off", "minimal", "writes", "full"])
@pytest.mark.parametrize("as_one_word", [False, True])
def test_rclone_tells_its_cache_on_its_command_line(
    tmp_path: Path, far: Path, enter: Enter, mode: str, as_one_word: bool
) -> None:
    options = [f"--vfs-cache-mode={mode}"] if as_one_word else ["--vfs-cache-mode", mode]
    enter(mounts.rclone(tmp_path / "at", far, tmp_path / "cache", *options))
    expected = "" if mode == "off" else f"vfs-cache-mode {mode}"
    assert caches.visible(mount_at(tmp_path / "at")) == expected


def test_rclone_without_a_word_has_no_cache(tmp_path: Path, far: Path, enter: Enter) -> None:
    enter(mounts.rclone(tmp_path / "at", far, tmp_path / "cache"))
    assert caches.visible(mount_at(tmp_path / "at")) == ""


def test_rclone_is_asked_that_serves_this_mount(tmp_path: Path, far: Path, enter: Enter) -> None:
    """Another rclone runs with a cache, and names this mount's place in its arguments."""
    (tmp_path / "other").mkdir()
    enter(mounts.rclone(tmp_path / "at", far, tmp_path / "cache"))
    more = ("--vfs-cache-mode", "full", "--exclude", str(tmp_path / "at"))
    enter(mounts.rclone(tmp_path / "other", far, tmp_path / "cache2", *more))
    assert caches.visible(mount_at(tmp_path / "other")) == "vfs-cache-mode full"
    servers = servers_of(mount_at(tmp_path / "at"))
    assert [str(tmp_path / "other") in server.arguments for server in servers] == [False]
    assert caches.visible(mount_at(tmp_path / "at")) == ""


def test_rclone_is_told_by_its_environment_too(
    tmp_path: Path, far: Path, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RCLONE_VFS_CACHE_MODE", "writes")
    enter(mounts.rclone(tmp_path / "at", far, tmp_path / "cache"))
    assert caches.visible(mount_at(tmp_path / "at")) == "vfs-cache-mode writes"


RCLONE = ("rclone", "mount", "far:", "/mnt/nas")


@pytest.mark.parametrize(
    ("fstype", "arguments", "environment", "cache"),
    [
        ("fuse.rclone", RCLONE, (), ""),
        ("fuse.rclone", (*RCLONE, "--vfs-cache-mode", "OFF"), (), ""),
        ("fuse.rclone", (*RCLONE, "--vfs-cache-mode", "off"), ("RCLONE_VFS_CACHE_MODE=full",), ""),
        ("fuse.rclone", (*RCLONE, "--vfs-cache-mode=off", "--vfs-cache-mode=full"), (), "vfs-cache-mode full"),
        (
            "fuse.rclone",
            ("rclonefs", "far:", "/mnt/nas", "-o", "rw,vfs_cache_mode=writes"),
            (),
            "vfs-cache-mode writes",
        ),
        ("fuse.rclone", RCLONE, ("RCLONE_VFS_CACHE_MODE=full",), "vfs-cache-mode full"),
        ("fuse.s3fs", ("s3fs", "bucket", "/mnt/nas"), (), ""),
        ("fuse.s3fs", ("s3fs", "bucket", "/mnt/nas", "-o", "rw,use_cache="), (), ""),
        ("fuse.s3fs", ("s3fs", "bucket", "/mnt/nas", "-ouse_cache=/tmp/c"), (), "use-cache /tmp/c"),
        ("fuse.s3fs", ("s3fs", "bucket", "/mnt/nas", "-o", "rw,use_cache=/tmp/c"), (), "use-cache /tmp/c"),
        ("fuse.juicefs", ("juicefs", "mount", "redis://h/1", "/mnt/nas"), (), ""),
        ("fuse.juicefs", ("juicefs", "mount", "redis://h/1", "/mnt/nas", "--writeback"), (), "writeback"),
        ("fuse.juicefs", ("juicefs", "mount", "--writeback=false", "redis://h/1", "/mnt/nas"), (), ""),
        ("fuse.juicefs", ("juicefs", "mount", "redis://h/1", "/mnt/nas", "-o", "writeback"), (), "writeback"),
        ("fuse.goofys", ("goofys", "--cache", "/tmp/c", "bucket", "/mnt/nas"), (), "cache /tmp/c"),
        ("fuse.gcsfuse", ("gcsfuse", "--cache-dir=/tmp/c", "bucket", "/mnt/nas"), (), "cache-dir /tmp/c"),
        ("fuse.sshfs", ("sshfs", "h:/lab", "/mnt/nas", "-o", "use_cache=/tmp/c"), (), ""),
    ],
)
def test_command_lines_are_read(
    monkeypatch: pytest.MonkeyPatch,
    fstype: str,
    arguments: tuple[str, ...],
    environment: tuple[str, ...],
    cache: str,
) -> None:
    monkeypatch.setattr(caches, "servers_of", lambda mount: [Server(arguments, "/", environment)])
    assert caches.visible(Mount(1, 1, "/", "/mnt/nas", fstype, "far:", ())) == cache


def test_davfs2_is_known_by_the_address_it_mounts() -> None:
    assert is_davfs(Mount(1, 1, "/", "/mnt/nas", "fuse", "https://nas.example.org/dav/", ()))
    assert is_davfs(Mount(1, 1, "/", "/mnt/nas", "davfs", "nas", ()))
    assert not is_davfs(Mount(1, 1, "/", "/mnt/nas", "fuse", "/srv/https:", ()))


CONFIGURATION = """
# delay_upload 5
use_locks 0
delay_upload 20   # seconds
[/mnt/nas]
delay_upload 0
"[/mnt/with a blank/]"
delay_upload "3"
[/mnt/other]
cache_size 1
"""


@pytest.mark.parametrize(
    ("mount_point", "delay"),
    [("/mnt/nas", "0"), ("/mnt/with a blank", "3"), ("/mnt/other", "20"), ("/mnt/unknown", "20")],
)
def test_the_delay_of_davfs2_is_that_of_the_mount_point(mount_point: str, delay: str) -> None:
    assert davfs_delay(CONFIGURATION, mount_point) == delay
    assert davfs_delay("", mount_point) == "10"


def test_davfs2_holds_writes_back_unless_its_configuration_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mount = Mount(1, 1, "/", "/mnt/nas", "fuse", "https://nas.example.org/dav/", ())
    monkeypatch.setattr(caches, "_DAVFS_CONFIGURATION", str(tmp_path / "davfs2.conf"))
    assert caches.visible(mount) == "delay_upload 10"
    (tmp_path / "davfs2.conf").write_text("delay_upload 0\n")
    assert caches.visible(mount) == ""


def test_branches_are_split() -> None:
    assert list(split_branches("/a=RW:/b=NC,20G:/c=ro+wh:/d=1,/e")) == ["/a", "/b", "/c", "/d=1", "/e"]
    server = Server(("mergerfs", "-o", "rw,cache.files=off", "a:/b=RO:c", "/mnt/pool"), "/srv")
    assert list(_served_branches(server)) == ["/srv/a", "/b", "/srv/c", "/mnt/pool"]


def test_a_configuration_of_rclone_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    server = Server(("rclone", "mount", "far:", "/mnt/nas"), "/", (f"RCLONE_CONFIG={tmp_path}/none",))
    assert rclone.read(server) == {}
    (tmp_path / "rclone.conf").write_text("# Encrypted rclone configuration File\n\nRCLONE_ENCRYPT_V0:\nabcdef==\n")
    assert rclone.read(Server(server.arguments, "/", (f"RCLONE_CONFIG={tmp_path}/rclone.conf",))) == {}
    (tmp_path / ".config/rclone").mkdir(parents=True)
    (tmp_path / ".config/rclone/rclone.conf").write_text("[far]\ntype = alias\nremote = /srv\n")
    assert rclone.read(Server(server.arguments, "/", (f"HOME={tmp_path}",)))["far"]["remote"] == "/srv"


def test_remotes_in_a_circle_end() -> None:
    remotes = {"a": {"remote": "b:x"}, "b": {"remote": "a:y"}, "c": {"upstreams": "a: /srv/lab"}}
    assert list(rclone._expand("c:sub", remotes, 5)) == ["/srv/lab/sub"]
