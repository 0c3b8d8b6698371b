"""A NAS that is no second place: reported at registration, refused at each proof and under the fence."""

import errno
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from django.core.management import call_command

from cleanup import clear_run
from cleanup.clears.refusal import Refused
from cleanup.lab.roots import two_places
from cleanup.lab.roots.registration import register
from cleanup.models import ClearAttempt, LedgerEntry, Run, StagingRoot
from cleanup.rules.decisions import Gate
from cleanup.rules.policies.policy import Policy
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.facts import inspection
from cleanup.storage import handles, linux
from cleanup.storage.staging import fences
from tests.faults import means, mounts
from tests.faults.means import Unavailable, skip_or_fail, tiny_disk
from tests.tools.command_line import Done, Manage
from tests.tools.lab import RUN_PATH, Lab

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_engine]


@pytest.fixture
def far(tmp_path: Path, enter: mounts.Enter) -> Path:
    enter(tiny_disk(tmp_path / "far", "16m"))
    (tmp_path / "far/lab").mkdir()
    return tmp_path / "far/lab"


@pytest.fixture
def manage() -> Manage:
    def run(*arguments: Any) -> Done:
        out, err, status = StringIO(), StringIO(), 0
        try:
            call_command(*map(str, arguments), stdout=out, stderr=err)
        except SystemExit as end:
            status = int(str(end.code))
        return Done(status, out.getvalue(), err.getvalue())

    return run


def move_copies(lab: Lab, far: Path) -> None:
    lab.run()
    subprocess.run(["cp", "-a", f"{lab.nas}/.", far], check=True)
    subprocess.run(["find", lab.nas, "-mindepth", "1", "-delete"], check=True)


def registered(lab: Lab, now: datetime, **flags: bool) -> StagingRoot:
    root = register("lab", str(lab.staging), nas_path=str(lab.nas), now=now, **flags)
    discovery.discover(root, now=now)
    return root


def clear(now: datetime) -> tuple[str, str]:
    try:
        clear_run(Run.objects.with_root().get(), now=now)
    except Refused as refused:
        return str(refused.finding.reason), refused.finding.detail
    return "", ""


def proof_gate(now: datetime) -> tuple[str, str]:
    decision = inspection.quick_decision(Run.objects.with_root().get(), Policy(), now)
    (gate,) = [result for result in decision.gates if result.gate is Gate.PROOF]
    return str(gate.reason or ""), gate.detail


# Registration


def test_two_disks_need_no_flag(lab: Lab, far: Path, now: datetime, enter: mounts.Enter) -> None:
    move_copies(lab, far)
    enter(means.mounted("--bind", far, lab.nas))
    root = registered(lab, now)
    assert two_places.remarks(root) == two_places.Remarks()
    assert clear(now) == ("", "")


def test_a_union_is_said_at_registration_and_refused_until_its_flag_is_given(
    lab: Lab, far: Path, now: datetime, enter: mounts.Enter
) -> None:
    """Takes over 1 s: three registrations and two clears."""
    move_copies(lab, far)
    enter(mounts.mergerfs(lab.nas, far))
    root = registered(lab, now)
    (problem,) = two_places.remarks(root).problems
    assert "--allow-union-nas accepts it" in problem
    assert proof_gate(now)[0] == Reason.NAS_MOUNT_NOT_ACCEPTED
    reason, detail = clear(now)
    assert reason == Reason.NAS_MOUNT_NOT_ACCEPTED
    assert "mounted as mergerfs" in detail

    again = registered(lab, now, allow_union_nas=True)
    assert again.pk == root.pk
    assert two_places.remarks(again).problems == ()
    assert registered(lab, now).allow_union_nas  # what was said once need not be said again
    assert proof_gate(now)[0] == ""
    assert clear(now) == ("", "")
    assert ClearAttempt.objects.latest("created_at").nas_flags == "allow_union_nas"
    kinds = LedgerEntry.objects.order_by("pk").values_list("kind", "nas_flags")
    assert list(kinds) == [("refused", ""), ("authorised", "allow_union_nas"), ("completed", "allow_union_nas")]


def test_the_staging_disk_in_a_union_is_refused_under_every_flag(
    lab: Lab, far: Path, now: datetime, enter: mounts.Enter
) -> None:
    move_copies(lab, far)
    (far / ".exlab-root").write_text("11111111-2222-4333-8444-555555555555\n")  # laid by an earlier registration
    enter(mounts.mergerfs(lab.nas, far, lab.staging))
    flags = {"allow_union_nas": True, "nas_writes_through": True, "allow_same_filesystem": True}
    root = registered(lab, now, **flags)
    seen, problem = two_places.remarks(root).problems
    assert ".exlab-staging-" in seen
    assert "are the same directory, or one lies in the other" in problem
    assert clear(now)[0] == Reason.NAS_IS_STAGING


def test_subvolumes_are_refused_but_for_a_trial(
    tmp_path: Path, now: datetime, enter: mounts.Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(mounts.btrfs(tmp_path / "btrfs.img", tmp_path / "top"))
    lab = Lab(tmp_path / "top")
    path = lab.run(twin=False)
    folder = path.relative_to(lab.staging).parts[0]
    subprocess.run(["cp", "-a", "--reflink=always", lab.staging / folder, lab.nas], check=True)
    root = registered(lab, now)
    assert "--allow-same-filesystem accepts that for a trial" in two_places.remarks(root).problems[0]
    reason, detail = clear(now)
    assert reason == Reason.NAS_SAME_FILESYSTEM
    assert "lie on the btrfs filesystem" in detail
    registered(lab, now, allow_same_filesystem=True)
    assert clear(now) == ("", "")
    assert ClearAttempt.objects.latest("created_at").nas_flags == "allow_same_filesystem"


@pytest.mark.parametrize("mode", ["off", pytest.param("minimal", marks=pytest.mark.exhaustive), "writes", "full"])
def test_rclone_needs_its_flag_and_its_cache_off(
    lab: Lab, far: Path, tmp_path: Path, now: datetime, enter: mounts.Enter, mode: str
) -> None:
    """Takes 1 s each: rclone, and two clears."""
    move_copies(lab, far)
    enter(mounts.rclone(lab.nas, far, tmp_path / "cache", "--vfs-cache-mode", mode))
    registered(lab, now)
    reason, detail = clear(now)
    assert reason == Reason.NAS_MOUNT_NOT_ACCEPTED
    assert "--nas-writes-through accepts it" in detail
    root = registered(lab, now, nas_writes_through=True)
    if mode == "off":
        assert clear(now) == ("", "")
        assert ClearAttempt.objects.latest("created_at").nas_flags == "nas_writes_through"
    else:
        assert f"vfs-cache-mode {mode}" in two_places.remarks(root).problems[0]
        reason, detail = clear(now)
        assert reason == Reason.NAS_MOUNT_NOT_ACCEPTED
        assert f"vfs-cache-mode {mode}" in detail


def test_an_unknown_program_is_accepted_with_a_warning(lab: Lab, far: Path, now: datetime, enter: mounts.Enter) -> None:
    move_copies(lab, far)
    enter(mounts.served(lab.nas, "bindfs", "-f", far, lab.nas))
    root = registered(lab, now)
    remarks = two_places.remarks(root)
    assert remarks.problems == ()
    assert "not known here" in remarks.warnings[0]
    assert clear(now) == ("", "")


# Mounts change


def test_a_union_that_comes_under_the_fence_puts_the_run_back(
    lab: Lab, far: Path, now: datetime, enter: mounts.Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    move_copies(lab, far)
    enter(means.mounted("--bind", far, lab.nas))
    registered(lab, now, allow_union_nas=True)
    path = lab.staging / Run.objects.get().run_path
    with (
        ExitStack() as stack,
        means.after(
            monkeypatch,
            fences,
            "prepare_record",
            lambda: stack.enter_context(mounts.overlay(lab.nas, far, lab.staging)),
        ),
    ):
        reason, detail = clear(now)
    assert reason == Reason.NAS_IS_STAGING  # the marker tells before anything is asked of what lies beneath
    assert ".exlab-staging-" in detail
    assert path.is_dir()
    assert not list(path.parent.glob(".exlab-*"))
    assert clear(now) == ("", "")


def test_a_cache_that_is_turned_on_between_the_looks_is_seen(
    lab: Lab, far: Path, tmp_path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch, enter: mounts.Enter
) -> None:
    move_copies(lab, far)
    enter(means.mounted("--bind", far, lab.nas))
    registered(lab, now, nas_writes_through=True)
    with (
        ExitStack() as stack,
        means.after(
            monkeypatch,
            fences,
            "prepare_record",
            lambda: stack.enter_context(
                mounts.rclone(lab.nas, far, tmp_path / "cache", "--vfs-cache-mode", "full", "--allow-non-empty")
            ),
        ),
    ):
        assert clear(now)[0] == Reason.NAS_MOUNT_NOT_ACCEPTED
    assert (lab.staging / Run.objects.get().run_path).is_dir()


# The command


def test_the_command_registers_says_why_nothing_can_be_cleared_and_takes_the_flag_later(
    lab: Lab, far: Path, enter: mounts.Enter, manage: Manage
) -> None:
    move_copies(lab, far)
    enter(mounts.mergerfs(lab.nas, far))
    words = ("add_staging_root", "lab", lab.staging, "--nas-root", lab.nas, "--json")
    done = manage(*words)
    assert done.status == 1
    assert any("--allow-union-nas accepts it" in warning for warning in done.json["warnings"])
    assert "--allow-union-nas accepts it" in done.err
    assert done.json["nas_token"]
    assert (done.json["allow_union_nas"], done.json["nas_writes_through"]) == (False, False)
    again = manage(*words, "--allow-union-nas")
    assert again.status == 0
    assert (again.json["allow_union_nas"], again.json["nas_writes_through"]) == (True, False)
    assert not any("No run can be cleared" in warning for warning in again.json["warnings"])
    both = manage(*words, "--nas-writes-through")
    assert (both.json["allow_union_nas"], both.json["nas_writes_through"]) == (True, True)


def test_the_command_warns_of_an_unknown_program(lab: Lab, far: Path, enter: mounts.Enter, manage: Manage) -> None:
    move_copies(lab, far)
    enter(mounts.served(lab.nas, "bindfs", "-f", far, lab.nas))
    done = manage("add_staging_root", "lab", lab.staging, "--nas-root", lab.nas, "--json")
    assert done.status == 0
    assert any("not known here" in warning for warning in done.json["warnings"])


@pytest.mark.parametrize("when", ["after a proof", "before the fence"])
def test_a_proof_does_not_speak_for_a_disk_that_took_the_place_of_the_nas(
    lab: Lab, now: datetime, tmp_path: Path, enter: mounts.Enter, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """A copy of the whole disk has the same inodes, sizes and times. Takes 2 s each."""
    image, far = tmp_path / "nas.img", tmp_path / "far"
    tile = tmp_path / "lab/staging" / RUN_PATH / "tiles/t_0001.tif"
    first = ExitStack()
    enter(first)

    def swap() -> None:
        first.close()
        content = bytearray(image.read_bytes())
        content[content.index(tile.read_bytes()) + 100] ^= 0xFF
        image.write_bytes(content)
        enter(mounts.disk(image, far))
        enter(means.mounted("--bind", far / "lab", lab.nas))

    def fence(parent: int, leaf: bytes, name: bytes, before: Callable[..., None] = fences.fence) -> None:
        swap()
        before(parent, leaf, name)

    try:
        first.enter_context(mounts.disk(image, far))
    except Unavailable as missing:
        skip_or_fail(missing)
    (far / "lab").mkdir()
    move_copies(lab, far / "lab")
    first.enter_context(means.mounted("--bind", far / "lab", lab.nas))
    if not kernel_tells_mounts_apart(lab.nas):
        pytest.skip("this kernel gives a mount the number of one before it; Linux 6.8 is the first that does not")
    registered(lab, now)
    bytes_before = tile.read_bytes()
    with monkeypatch.context() as patch:
        if when == "before the fence":
            patch.setattr(fences, "fence", fence)
            assert clear(now)[0] == Reason.NOT_COMPARED
        else:
            patch.setattr(fences, "prepare_record", Mock(side_effect=OSError(errno.EIO, "planted")))
            assert clear(now)[0] == Reason.STORAGE_ERROR
            swap()
    assert clear(now + timedelta(hours=1))[0] == Reason.NAS_CHECKSUM_MISMATCH
    assert tile.read_bytes() == bytes_before


def kernel_tells_mounts_apart(folder: Path) -> bool:
    with handles.opened(handles.open_root(str(folder))) as descriptor:
        return linux.mounting(descriptor) is not None
