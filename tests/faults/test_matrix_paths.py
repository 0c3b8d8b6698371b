"""The fault matrix: the way to a run, what lies inside it, and what must not be reached through it."""

import errno
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cleanup.rules.reasons import Reason
from cleanup.storage import hashing, linux
from tests.faults import means
from tests.faults.cases import (
    OTHER_TOKEN,
    RECORD,
    TILE,
    Case,
    Stage,
    clears,
    matrix,
)
from tests.faults.means import rename_aside
from tests.tools.lab import METADATA, RUN_PATH, manifest_of, touch

pytestmark = pytest.mark.one_engine


EQUIPMENT, PROJECT, FOLDER, LEAF = RUN_PATH.split("/")


def lead_astray(stage: Stage, depth: int) -> None:
    folder = stage.lab.staging.joinpath(*RUN_PATH.split("/")[:depth])
    folder.rename(stage.outside / "moved")
    folder.symlink_to(stage.outside / "moved")


def replace_by_a_copy(stage: Stage) -> None:
    aside = rename_aside(stage.path)
    shutil.copytree(aside, stage.path)
    shutil.rmtree(aside)


def replace_by_a_file(stage: Stage) -> None:
    rename_aside(stage.path)
    stage.path.write_bytes(b"no directory")


def link_out(stage: Stage, name: str) -> None:
    (stage.path / name).symlink_to(stage.outside)


def link_the_metadata(stage: Stage) -> None:
    (stage.path / METADATA).rename(stage.outside / "metadata")
    (stage.path / METADATA).symlink_to(stage.outside / "metadata")


def make_socket(stage: Stage) -> None:
    before = os.getcwd()
    os.chdir(stage.path)  # a socket's whole path has no room for a hundred characters
    try:
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind("socket")
    finally:
        os.chdir(before)


def make_deep(stage: Stage, levels: int, name: str) -> None:
    directory = os.open(stage.path / "tiles", os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=directory)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(directory)


@contextmanager
def bind(what: Path, place: Path) -> Iterator[None]:
    with means.mounted("--bind", what, place):
        yield


def mount_inside(stage: Stage) -> Any:
    """A bind mount of the same filesystem has the same device number as the run."""
    (stage.path / "mnt").mkdir()
    return bind(stage.outside, stage.path / "mnt")


def mount_a_disk_inside(stage: Stage) -> Any:
    return means.tiny_disk(stage.path / "mnt")


def mount_a_file(stage: Stage) -> Any:
    return bind(stage.outside / "canary", stage.path / TILE)


def project_of_its_own(stage: Stage) -> Any:
    """Planted: a kernel without quotas mounts no filesystem with projects. Subvolumes: tests/clears."""
    own = stage.path.stat().st_ino

    def project(descriptor: int) -> linux.QuotaProject:
        return linux.QuotaProject(7 if os.fstat(descriptor).st_ino == own else 0, inherits=False)

    return means.replaced(stage.monkeypatch, linux, "project", project)


@contextmanager
def read_only_disk(stage: Stage) -> Iterator[None]:
    with bind(stage.lab.staging, stage.lab.staging):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(stage.lab.staging)], check=True)
        yield


def fail_for(stage: Stage, owner: Any, name: str, path: bytes, code: int) -> Any:
    """A kernel call fails for one entry; planted, because no disk here can do that.

    Not where the cache is dropped first: so the process that reads the NAS hashes, which has the fault too.
    """
    original = getattr(owner, name)

    def fail(directory: int, entry: bytes = b"", *args: Any, **kwargs: Any) -> Any:
        if entry == path and not kwargs.get("drop_cache"):
            raise OSError(code, os.strerror(code), os.fsdecode(path))
        return original(directory, entry, *args, **kwargs)

    return means.replaced(stage.monkeypatch, owner, name, fail)


@contextmanager
def no_look(stage: Stage, path: bytes, code: int) -> Iterator[None]:
    """As `fail_for`, for each way to look at an entry: a scan has a reader of its own."""
    made = linux.status_reader

    def reader() -> Callable[[int, bytes], linux.FileStatus]:
        look = made()

        def read(directory: int, entry: bytes) -> linux.FileStatus:
            if entry == path:
                raise OSError(code, os.strerror(code), os.fsdecode(path))
            return look(directory, entry)

        return read

    with (
        fail_for(stage, linux, "status", path, code),
        means.replaced(stage.monkeypatch, linux, "status_reader", reader),
    ):
        yield


def link_from_outside(stage: Stage) -> None:
    os.link(stage.path / TILE, stage.outside / "linked.tif")


def link_into(stage: Stage) -> None:
    """A data file is another name of a file outside; it is listed and has its twin."""
    inside = stage.path / "tiles/canary"
    os.link(stage.outside / "canary", inside)
    shutil.copy2(inside, stage.twin / "tiles/canary")
    touch(inside, datetime.fromisoformat("2026-04-17T15:00:00Z"))
    manifest = stage.path / METADATA / "checksums.sha256"
    manifest.write_bytes(manifest.read_bytes() + manifest_of({"tiles/canary": inside.read_bytes()}))


TOKEN = ".exlab-root"


def out_of_reach(reason: Reason, make: Callable[[Stage], Any]) -> Case:
    return Case(reason, make)


CASES = {
    # the staging root
    "staging token missing": out_of_reach(Reason.ROOT_NOT_MOUNTED, lambda s: rename_aside(s.lab.staging / TOKEN)),
    "another staging disk": out_of_reach(
        Reason.ROOT_NOT_MOUNTED, lambda s: (s.lab.staging / TOKEN).write_text(OTHER_TOKEN)
    ),
    "staging token without an id": out_of_reach(
        Reason.ROOT_NOT_MOUNTED, lambda s: (s.lab.staging / TOKEN).write_text("?")
    ),
    "staging token is a folder": out_of_reach(
        Reason.STAGING_IO_ERROR, lambda s: (rename_aside(s.lab.staging / TOKEN), (s.lab.staging / TOKEN).mkdir())
    ),
    "staging token is a link": out_of_reach(
        Reason.STAGING_IO_ERROR,
        lambda s: (s.lab.staging / TOKEN).symlink_to(rename_aside(s.lab.staging / TOKEN).name),
    ),
    "staging root gone": out_of_reach(Reason.ROOT_NOT_MOUNTED, lambda s: rename_aside(s.lab.staging)),
    "staging root is an empty mount point": out_of_reach(
        Reason.ROOT_NOT_MOUNTED, lambda s: (rename_aside(s.lab.staging), s.lab.staging.mkdir())
    ),
    "staging root is a link": out_of_reach(
        Reason.ROOT_NOT_MOUNTED, lambda s: s.lab.staging.symlink_to(rename_aside(s.lab.staging).name)
    ),
    # the way
    "equipment is a link": out_of_reach(Reason.UNSAFE_PATH, lambda s: lead_astray(s, 1)),
    "project is a link": out_of_reach(Reason.UNSAFE_PATH, lambda s: lead_astray(s, 2)),
    "folder of runs is a link": out_of_reach(Reason.UNSAFE_PATH, lambda s: lead_astray(s, 3)),
    "run is a link": out_of_reach(Reason.UNSAFE_PATH, lambda s: lead_astray(s, 4)),
    "run is a link to its sibling": out_of_reach(
        Reason.UNSAFE_PATH, lambda s: s.path.symlink_to((rename_aside(s.path), "Run_2026-04-18T09-10")[1])
    ),
    "run is a link to nothing": out_of_reach(
        Reason.UNSAFE_PATH, lambda s: s.path.symlink_to((rename_aside(s.path), "nothing")[1])
    ),
    "run is a file": out_of_reach(Reason.UNSAFE_PATH, replace_by_a_file),
    "run gone": out_of_reach(Reason.MISSING_DIRECTORY, lambda s: s.path.rename(s.outside / "kept")),
    "project gone": out_of_reach(Reason.MISSING_DIRECTORY, lambda s: s.path.parents[1].rename(s.outside / "kept")),
    "run replaced by a copy": Case(Reason.IDENTITY_MISMATCH, replace_by_a_copy),
    "run swapped with its sibling": Case(
        Reason.INGEST_DISAGREES,
        lambda s: (
            rename_aside(s.path),
            (s.parent / "Run_2026-04-18T09-10").rename(s.path),
        ),
    ),
    # mounts
    "bind mount inside": Case(Reason.MOUNT_INSIDE, mount_inside),
    "another disk inside": Case(Reason.MOUNT_INSIDE, mount_a_disk_inside),
    "a file mounted over a data file": Case(Reason.MOUNT_INSIDE, mount_a_file),
    "something mounted over the run": out_of_reach(Reason.MOUNT_INSIDE, lambda s: bind(s.outside, s.path)),
    "something mounted over the project": out_of_reach(
        Reason.MOUNT_INSIDE, lambda s: bind(s.path.parents[1], s.path.parents[1])
    ),
    "a quota project of its own": Case(Reason.OWN_STORAGE, project_of_its_own),
    "read-only disk": Case(Reason.PERMISSION_DENIED, read_only_disk),
    # inside
    "link to the world": Case(Reason.UNSAFE_PATH, lambda s: (s.path / "tiles/all").symlink_to("/")),
    "link to what lies outside": Case(Reason.UNSAFE_PATH, lambda s: link_out(s, "tiles/out")),
    "link as data file": Case(
        Reason.UNSAFE_PATH, lambda s: (s.path / TILE).symlink_to(rename_aside(s.path / TILE).name)
    ),
    "metadata folder is a link": Case(Reason.UNSAFE_PATH, link_the_metadata, scheduled=Reason.INGEST_UNREADABLE),
    "fifo": Case(Reason.SPECIAL_FILE, lambda s: os.mkfifo(s.path / "tiles/pipe")),
    "socket": Case(Reason.SPECIAL_FILE, make_socket),
    "device": Case(Reason.SPECIAL_FILE, lambda s: means.make_device(s.path / "tiles/null")),
    "129 levels": Case(Reason.TREE_TOO_DEEP, lambda s: make_deep(s, 128, "d")),
    "longer than a path may be": Case(Reason.TREE_TOO_DEEP, lambda s: make_deep(s, 25, "n" * 200)),
    # rights
    "immutable folder": Case(Reason.PERMISSION_DENIED, lambda s: means.flagged(s.path / "tiles", "i")),
    "immutable file": Case(Reason.PERMISSION_DENIED, lambda s: means.flagged(s.path / TILE, "i")),
    "append-only folder": Case(Reason.PERMISSION_DENIED, lambda s: means.flagged(s.path / "tiles", "a")),
    "immutable parent": Case(Reason.PERMISSION_DENIED, lambda s: means.flagged(s.parent, "i")),
    # Names may be made there and not renamed, which shows only when the fence is made.
    "append-only parent": Case(Reason.PERMISSION_DENIED, lambda s: means.flagged(s.parent, "a")),
    "append-only record": Case(Reason.PERMISSION_DENIED, lambda s: means.flagged(s.path / RECORD, "a")),
    # the disk fails
    "input/output error on an entry": Case(Reason.STAGING_IO_ERROR, lambda s: no_look(s, b"t_0001.tif", errno.EIO)),
    "input/output error on a folder": Case(
        Reason.STAGING_IO_ERROR, lambda s: fail_for(s, linux, "openat2", b"tiles", errno.EIO)
    ),
    "input/output error while reading": Case(
        Reason.STAGING_IO_ERROR, lambda s: fail_for(s, hashing, "hash_file", TILE.encode(), errno.EIO)
    ),
    # what is no obstacle
    "a link from outside": clears(link_from_outside),
    "a link to outside": clears(link_into),
}


RARE = {
    "staging token without an id",
    "staging token is a link",
    "staging root is a link",
    "folder of runs is a link",
    "run is a link to nothing",
    "project gone",
    "a file mounted over a data file",
    "immutable file",
    "append-only folder",
    "input/output error on a folder",
    "socket",
}


@matrix("paths", CASES, rare=RARE)
def test_paths(play: Callable[..., None], case: Case, asker: str) -> None:
    play(case, asker)
