"""Registering a staging root overwrites nothing."""

import os
import subprocess
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cleanup.lab.roots import registration, two_places
from cleanup.lab.roots.registration import RegistrationError, register
from cleanup.models import StagingRoot
from cleanup.storage import linux
from cleanup.storage.root_files import markers, reserve
from tests.faults.scene import is_root
from tests.tools.lab import Lab, snapshot

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]
TOKEN = ".exlab-root"
RESERVE = ".exlab-reserve"


@pytest.fixture
def built(lab: Lab) -> Lab:
    lab.run()
    return lab


def do(lab: Lab, now: datetime, name: str = "lab", **options: Any) -> StagingRoot:
    options = {"nas_path": str(lab.nas), "allow_same_filesystem": True, **options}
    return register(name, str(lab.staging), now=now, **options)


def refused(match: str, *arguments: Any, **options: Any) -> None:
    before = list(StagingRoot.objects.values())
    with pytest.raises(RegistrationError, match=match):
        register(*arguments, **options)
    assert list(StagingRoot.objects.values()) == before


def token_of(path: Path) -> str:
    return (path / TOKEN).read_text().strip()


def entries(lab: Lab) -> dict[str, Any]:
    return {name: seen for name, seen in snapshot(lab.base).items() if name not in (".", "staging")}


# Registration


def test_lays_tokens_and_reserve(built: Lab, now: datetime) -> None:
    before = snapshot(built.staging)
    root = do(built, now)
    assert StagingRoot.objects.get() == root
    assert (root.name, root.path, root.nas_path) == ("lab", str(built.staging), str(built.nas))
    assert root.token == token_of(built.staging) == str(uuid.UUID(root.token))
    assert root.nas_token == token_of(built.nas) == str(uuid.UUID(root.nas_token))
    assert root.token != root.nas_token
    assert (built.staging / RESERVE).stat().st_size == 1 << 20
    assert (built.staging / RESERVE).stat().st_blocks * 512 >= 1 << 20  # real blocks, no hole
    assert not (built.nas / RESERVE).exists()
    after = snapshot(built.staging)
    marker = f".exlab-staging-{root.token}"
    assert after.keys() - before.keys() == {TOKEN, RESERVE, marker}
    assert [path.stat().st_size for path in (built.staging / marker, built.nas / f".exlab-nas-{root.nas_token}")] == [
        0,
        0,
    ]
    assert {name: seen for name, seen in after.items() if name in before and name != "."} == {
        name: seen for name, seen in before.items() if name != "."
    }


def test_a_nas_that_shows_a_staging_disk(built: Lab, now: datetime) -> None:
    marker = built.nas / f".exlab-staging-{uuid.uuid4()}"
    marker.touch()
    how = {"nas_path": str(built.nas), "allow_same_filesystem": True, "now": now}
    refused("shows a staging disk", "lab", str(built.staging), **how)
    marker.rename(built.base / marker.name)  # a folder of it was chosen as the NAS root
    refused("delete it there", "lab", str(built.staging), **how)
    assert not (built.nas / TOKEN).exists()
    # A root that has a token already is registered, as mounts change; the obstacle is reported and keeps every run.
    (built.nas / TOKEN).write_text(str(uuid.uuid4()))
    problems = two_places.remarks(do(built, now)).problems
    assert f"{marker.name} lies in {built.base}" in problems[0]
    assert not list(built.nas.glob(".exlab-nas-*"))


def test_a_staging_root_that_does_not_show_what_is_written_there(
    built: Lab, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(markers, "lay_marker", lambda directory, name: None)
    refused("is not seen", "lab", str(built.staging), now=now)


def test_a_nas_root_that_may_not_be_written_gets_no_marker(built: Lab, now: datetime) -> None:
    """The NAS's admin laid the token; a missing marker is not reported."""
    if is_root():
        pytest.skip("root may write everywhere")
    (built.nas / TOKEN).write_text(str(uuid.uuid4()))
    built.nas.chmod(0o555)
    try:
        assert do(built, now).nas_token
        assert not list(built.nas.glob(".exlab-nas-*"))
    finally:
        built.nas.chmod(0o755)


def test_a_name_like_a_marker_without_a_uuid_is_ignored_and_told(built: Lab, now: datetime) -> None:
    (built.nas / ".exlab-staging-notes").touch()
    assert registration.malformed_markers(do(built, now)) == [f"{built.nas}/.exlab-staging-notes"]


def test_twice_is_harmless(built: Lab, now: datetime) -> None:
    first = do(built, now)
    before = entries(built)
    second = do(built, now)
    assert (second.pk, second.token, second.nas_token) == (first.pk, first.token, first.nas_token)
    again = register("lab", str(built.staging), now=now)  # what was said before need not be said again
    assert (again.nas_path, again.allow_same_filesystem) == (str(built.nas), True)
    assert entries(built) == before
    assert StagingRoot.objects.count() == 1


def test_lays_the_reserve_again(built: Lab, now: datetime) -> None:
    do(built, now)
    (built.staging / RESERVE).unlink()
    do(built, now)
    assert (built.staging / RESERVE).exists()


def test_the_data_directory_gets_a_reserve_as_well(
    built: Lab, now: datetime, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plans and tombstones are written there: if it is full, a full staging disk could not be cleared."""

    def no_room(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    settings.EXLAB_DATA_DIR = tmp_path / "made by the way"
    do(built, now)
    kept = settings.EXLAB_DATA_DIR / RESERVE
    assert kept.stat().st_size == reserve.RESERVE_BYTES
    assert settings.EXLAB_DATA_DIR.stat().st_mode & 0o777 == 0o700
    kept.unlink()
    with monkeypatch.context() as full:
        full.setattr(os, "posix_fallocate", no_room)
        do(built, now)  # no reason to refuse a root: the next write tries again
    assert not kept.exists()


def test_a_path_is_kept_as_it_really_is(built: Lab, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    link = built.base / "link"
    link.symlink_to(built.staging)
    monkeypatch.chdir(built.base)
    assert register("lab", "link", now=now).path == str(built.staging)
    assert register("lab", f"{built.staging}/../staging/", now=now).path == str(built.staging)
    assert StagingRoot.objects.count() == 1


def test_adopts_the_tokens_that_are_there(built: Lab, now: datetime) -> None:
    tokens = [str(uuid.uuid4()), str(uuid.uuid4())]
    for path, token in zip((built.staging, built.nas), tokens, strict=True):
        (path / TOKEN).write_text(f"{token}\n")
    before = [(path / TOKEN).stat() for path in (built.staging, built.nas)]
    root = do(built, now)
    assert [root.token, root.nas_token] == tokens
    assert [(path / TOKEN).stat().st_mtime_ns for path in (built.staging, built.nas)] == [
        seen.st_mtime_ns for seen in before
    ]


def test_a_nas_root_may_come_later(built: Lab, now: datetime) -> None:
    root = register("lab", str(built.staging), now=now)
    assert (root.nas_path, root.nas_token) == ("", "")
    root = do(built, now)
    assert root.nas_token == token_of(built.nas)
    assert StagingRoot.objects.count() == 1


def test_two_staging_roots_side_by_side(built: Lab, now: datetime, tmp_path: Path) -> None:
    do(built, now)
    other = Lab(tmp_path / "lab-2")
    other.run()
    do(other, now, name="lab-2")
    assert StagingRoot.objects.values("token").distinct().count() == 2


# Empty directories: perhaps a mount point without its disk


def test_an_empty_directory_gets_no_token_until_its_disk_is_there(lab: Lab, now: datetime) -> None:
    root = do(lab, now)
    assert (root.token, root.nas_token) == ("", "")
    assert list(lab.staging.iterdir()) == list(lab.nas.iterdir()) == []
    lab.run()
    root = do(lab, now)
    assert root.token == token_of(lab.staging)
    assert root.nas_token == token_of(lab.nas)


def test_only_the_empty_side_waits(lab: Lab, now: datetime) -> None:
    lab.run(twin=False)
    root = do(lab, now)
    assert root.token == token_of(lab.staging)
    assert root.nas_token == ""
    assert list(lab.nas.iterdir()) == []


def test_lost_and_found_is_what_an_empty_disk_holds(lab: Lab, now: datetime) -> None:
    (lab.staging / "lost+found").mkdir()
    assert do(lab, now).token == ""


def test_a_flag_accepts_an_empty_directory(lab: Lab, now: datetime) -> None:
    root = do(lab, now, accept_empty=True)
    assert (root.token, root.nas_token) == (token_of(lab.staging), token_of(lab.nas))


# Refusals


def test_the_filesystems_root(built: Lab, now: datetime) -> None:
    refused("must not be /", "all", "/", now=now)
    (built.base / "slash").symlink_to("/")
    refused("must not be /", "all", str(built.base / "slash"), now=now)
    refused("must not be /", "lab", str(built.staging), nas_path="/", allow_same_filesystem=True, now=now)
    assert not Path("/", TOKEN).exists()
    assert not (built.staging / TOKEN).exists()


def test_what_is_no_directory(built: Lab, now: datetime) -> None:
    refused("cannot be found", "lab", str(built.base / "missing"), now=now)
    (built.base / "file").touch()
    refused("not a directory", "lab", str(built.base / "file"), now=now)
    (built.base / "loop").symlink_to("loop")
    refused("cannot be found", "lab", str(built.base / "loop"), now=now)
    refused("NAS root .* cannot be found", "lab", str(built.staging), nas_path=str(built.base / "missing"), now=now)
    assert not (built.staging / TOKEN).exists()


@pytest.mark.parametrize("name", ["", " lab", "lab\n", "x" * 65, "a\x00b"])
def test_a_name_that_cannot_be_typed(built: Lab, now: datetime, name: str) -> None:
    refused("short printable name", name, str(built.staging), now=now)


def test_overlaps_in_both_directions(built: Lab, now: datetime) -> None:
    do(built, now)
    inside = built.staging / "CONFOCAL_01"
    refused("lie one in the other", "inner", str(inside), now=now)
    refused("lie one in the other", "outer", str(built.base), now=now)
    refused("lie one in the other", "twin", str(built.nas), now=now)
    refused("lie one in the other", "in-twin", str(built.nas / "CONFOCAL_01"), now=now)
    refused("lie one in the other", "same", str(built.staging), now=now)
    other = built.base.parent / "elsewhere"
    other.mkdir()
    for nas in (built.staging, inside, built.base):
        refused("lie one in the other", "new", str(other), nas_path=str(nas), allow_same_filesystem=True, now=now)
    assert not (inside / TOKEN).exists()
    assert not (built.base / TOKEN).exists()


def test_a_name_that_only_begins_alike_is_no_overlap(built: Lab, now: datetime) -> None:
    do(built, now)
    beside = built.base / "staging-2"
    (beside / "x").mkdir(parents=True)
    assert register("lab-2", str(beside), now=now).token


@pytest.mark.parametrize("nas", ["staging", "staging/CONFOCAL_01", "."])
def test_its_own_nas_in_its_staging_or_around_it(built: Lab, now: datetime, nas: str) -> None:
    nas_path = str(built.base / nas)
    refused("lie one in the other", "lab", str(built.staging), nas_path=nas_path, allow_same_filesystem=True, now=now)
    assert not (built.staging / TOKEN).exists()


def test_the_data_directory_in_the_staging_root(built: Lab, now: datetime, settings: Any) -> None:
    for data in (built.staging / "var", built.staging):
        settings.EXLAB_DATA_DIR = data
        refused("keep it elsewhere", "lab", str(built.staging), now=now)
    link = built.base / "var"
    (built.staging / "hidden").mkdir()
    link.symlink_to(built.staging / "hidden")
    settings.EXLAB_DATA_DIR = link
    refused("keep it elsewhere", "lab", str(built.staging), now=now)


def test_the_same_filesystem_without_the_flag(built: Lab, now: datetime) -> None:
    refused("no second copy", "lab", str(built.staging), nas_path=str(built.nas), now=now)
    assert not (built.staging / TOKEN).exists()
    assert not (built.nas / TOKEN).exists()


@pytest.mark.skipif(not is_root(), reason="only root can mount")
def test_the_staging_disk_under_another_name(built: Lab, now: datetime) -> None:
    """A second mount of the staging disk has its token: as a NAS it would prove everything."""
    mirror = built.base / "mirror"
    mirror.mkdir()
    if subprocess.run(["mount", "--bind", built.staging, mirror], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        refused(
            "carries the token of the staging root",
            "lab",
            str(built.staging),
            nas_path=str(mirror),
            allow_same_filesystem=True,
            now=now,
        )
    finally:
        subprocess.run(["umount", mirror], check=True)


def test_a_nas_that_carries_the_token_of_any_staging_root(built: Lab, now: datetime, tmp_path: Path) -> None:
    """Copied by rsync, or the same disk: these look alike, so it is refused."""
    root = do(built, now)
    other = Lab(tmp_path / "lab-2")
    other.run()
    (other.nas / TOKEN).write_text(root.token)
    refused("carries the token", "lab-2", str(other.staging), nas_path=str(other.nas),
            allow_same_filesystem=True, now=now)  # fmt: skip


def test_a_staging_root_that_carries_the_token_of_another(built: Lab, now: datetime, tmp_path: Path) -> None:
    root = do(built, now)
    other = Lab(tmp_path / "lab-2")
    other.run()
    (other.staging / TOKEN).write_text(root.token)
    refused("carries the token", "lab-2", str(other.staging), now=now)


def test_another_disk_at_a_registered_path(built: Lab, now: datetime) -> None:
    root = do(built, now)
    other = str(uuid.uuid4())
    (built.staging / TOKEN).write_text(other)
    refused("Is the right disk mounted", "lab", str(built.staging), now=now)
    assert token_of(built.staging) == other
    (built.staging / TOKEN).write_text(root.token)
    (built.nas / TOKEN).write_text(other)
    refused("Is the right disk mounted", "lab", str(built.staging), now=now)
    (built.nas / TOKEN).unlink()
    refused("carries no token", "lab", str(built.staging), now=now)
    assert not (built.nas / TOKEN).exists()


@pytest.mark.parametrize("content", [b"", b"not a uuid", b"\xff" * 40])
def test_a_token_file_that_holds_no_token(built: Lab, now: datetime, content: bytes) -> None:
    (built.staging / TOKEN).write_bytes(content)
    refused("holds no UUID", "lab", str(built.staging), now=now)
    assert (built.staging / TOKEN).read_bytes() == content


def test_a_token_that_is_a_link(built: Lab, now: datetime) -> None:
    (built.base / "elsewhere").write_text(str(uuid.uuid4()))
    (built.staging / TOKEN).symlink_to(built.base / "elsewhere")
    refused("cannot be prepared", "lab", str(built.staging), now=now)


def test_another_path_under_a_known_name(built: Lab, now: datetime, tmp_path: Path) -> None:
    do(built, now)
    other = Lab(tmp_path / "lab-2")
    other.run()
    refused("stands for", "lab", str(other.staging), now=now)
    refused("has the NAS root", "lab", str(built.staging), nas_path=str(other.nas),
            allow_same_filesystem=True, now=now)  # fmt: skip


def test_a_kernel_that_cannot_do_it_safely(built: Lab, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "missing_calls", lambda: ["renameat2"])
    refused("lacks renameat2", "lab", str(built.staging), now=now)


def test_a_filesystem_without_the_rename(built: Lab, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(*args: Any) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(linux, "rename_noreplace", rename)
    refused("lacks the rename", "lab", str(built.staging), now=now)
    assert [path.name for path in built.staging.iterdir() if path.name.startswith(".exlab-clearing")] == []


@pytest.mark.skipif(is_root(), reason="root may write everywhere")
def test_a_root_that_may_not_be_written(built: Lab, now: datetime) -> None:
    built.staging.chmod(0o555)
    try:
        refused("cannot be prepared", "lab", str(built.staging), now=now)
    finally:
        built.staging.chmod(0o755)


def test_a_disk_without_room_for_the_reserve(built: Lab, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    refused("No space left", "lab", str(built.staging), now=now)
    assert not (built.staging / RESERVE).exists()
    monkeypatch.undo()
    assert do(built, now).token == token_of(built.staging)
    assert registration.register("lab", str(built.staging), now=now).token
    assert (built.staging / RESERVE).stat().st_size == reserve.RESERVE_BYTES


def test_a_data_directory_on_the_disk_that_fills_is_noticed(lab: Lab, root: Any, settings: Any, tmp_path: Path) -> None:
    settings.EXLAB_DATA_DIR = tmp_path
    assert registration.shares_its_disk(root)
    settings.EXLAB_DATA_DIR = Path("/proc")
    assert not registration.shares_its_disk(root)
    settings.EXLAB_DATA_DIR = tmp_path / "none"
    assert not registration.shares_its_disk(root)
