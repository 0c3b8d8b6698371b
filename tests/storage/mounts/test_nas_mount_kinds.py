import re
from dataclasses import replace

import pytest

from cleanup.storage.mounts.mountinfo import Mount
from cleanup.storage.mounts.nas_mount_kinds import TABLE, Acceptance, MountKind, is_plain_local, judge, kind_of
from cleanup.storage.mounts.places import Place
from tests.tools.checkout import CHECKOUT

pytestmark = pytest.mark.one_engine(by="function")


DOCS = CHECKOUT / "docs/mounts.md"
FLAGS = [(False, False), (True, False), (False, True), (True, True)]


def of(fstype: str, source: str = "nas:/lab", cache: str = "", beneath: tuple[Place, ...] = ()) -> Place:
    mount = Mount(1, 1, "/", "/mnt/nas", fstype, source, ("rw",))
    return Place(mount=mount, device=1, path="/", name="/mnt/nas", cache=cache, beneath=beneath)


def judged(place: Place, flags: tuple[bool, bool]) -> Acceptance:
    return judge(place, allow_union=flags[0], writes_through=flags[1])


def accepted_under(place: Place) -> list[tuple[bool, bool]]:
    found = {flags: judged(place, flags).problem for flags in FLAGS}
    assert {problem.reason for problem in found.values() if problem} <= {"nas_mount_not_accepted"}
    return [flags for flags, problem in found.items() if problem is None]


@pytest.mark.parametrize("fstype", [*TABLE[MountKind.LOCAL], *TABLE[MountKind.OTHER]])
def test_disks_and_networks_are_accepted(fstype: str) -> None:
    assert accepted_under(of(fstype)) == FLAGS
    assert judged(of(fstype), (False, False)) == Acceptance()


@pytest.mark.parametrize("fstype", TABLE[MountKind.UNION])
def test_a_union_needs_its_flag(fstype: str) -> None:
    assert accepted_under(of(fstype)) == [(True, False), (True, True)]
    problem = judged(of(fstype), (False, True)).problem
    assert problem is not None
    assert "--allow-union-nas" in problem.detail


@pytest.mark.parametrize("fstype", TABLE[MountKind.WRITES_BACK])
def test_what_may_hold_writes_back_needs_its_flag(fstype: str) -> None:
    assert accepted_under(of(fstype)) == [(False, True), (True, True)]
    problem = judged(of(fstype), (True, False)).problem
    assert problem is not None
    assert "--nas-writes-through" in problem.detail


def test_davfs2_that_calls_itself_fuse_needs_its_flag() -> None:
    place = of("fuse", "https://nas.example.org/dav")
    assert accepted_under(place) == [(False, True), (True, True)]
    problem = judged(place, (False, False)).problem
    assert problem is not None
    assert "davfs2" in problem.detail


def test_a_cache_that_is_seen_is_refused_under_every_flag() -> None:
    place = of("fuse.rclone", cache="vfs-cache-mode full")
    assert accepted_under(place) == []
    problem = judged(place, (True, True)).problem
    assert problem is not None
    assert "vfs-cache-mode full" in problem.detail


@pytest.mark.parametrize("fstype", ["fuse.somethingfs", "fuse", "squashfs"])
def test_an_unknown_kind_is_accepted_with_a_warning(fstype: str) -> None:
    assert accepted_under(of(fstype)) == FLAGS
    assert "not known here" in judged(of(fstype), (False, False)).warning


def test_the_layers_of_a_union_are_judged_too() -> None:
    pool = of("fuse.mergerfs", beneath=(of("ext4"), of("fuse.rclone")))
    assert accepted_under(pool) == [(True, True)]
    cached = replace(pool, beneath=(of("ext4"), of("fuse.rclone", cache="vfs-cache-mode writes")))
    assert accepted_under(cached) == []


@pytest.mark.parametrize("kind", TABLE)
def test_plain_local_filesystems_are_a_closed_list(kind: MountKind) -> None:
    for fstype in TABLE[kind]:
        assert is_plain_local(of(fstype).mount) == (kind is MountKind.LOCAL)
    assert not is_plain_local(of("fuse.unknown").mount)
    assert not is_plain_local(of("fuseblk").mount)


def test_no_filesystem_stands_in_two_lines() -> None:
    names = [fstype for fstypes in TABLE.values() for fstype in fstypes]
    assert len(names) == len(set(names))
    assert kind_of(of("nfs4").mount) is MountKind.OTHER


def test_the_table_for_people_says_the_same() -> None:
    table = DOCS.read_text().partition("## The flags")[0]
    rows = re.findall(r"^\| ([a-z ]+) \| (`[^|]*) \| ([^|]*) \|$", table, re.MULTILINE)
    assert {kind: tuple(re.findall(r"`([^`]+)`", fstypes)) for kind, fstypes, _ in rows} == {
        kind.value: fstypes for kind, fstypes in TABLE.items()
    }
    accepted = {kind: judged(of(TABLE[MountKind(kind)][0]), (False, False)).problem for kind, _, _ in rows}
    for kind, _, flag in rows:
        problem = accepted[kind]
        assert flag == "yes" if problem is None else flag.removeprefix("with ").strip("`") in problem.detail
