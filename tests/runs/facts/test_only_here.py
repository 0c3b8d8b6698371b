"""Attributes, access lists and empty folders that the NAS lacks."""

import json
import os
import struct
from collections.abc import Callable
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from cleanup.clears import protocol
from cleanup.models import Phase
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.facts import stored_facts
from cleanup.storage import handles
from cleanup.storage.staging import beyond_bytes, run_tree
from cleanup.storage.staging.beyond_bytes import BeyondBytes
from tests.faults.scene import Scene, set_scene
from tests.tools.lab import METADATA, Lab, date_everything

pytestmark = pytest.mark.django_db(transaction=True)
TILE, STREAM = "tiles/t_0001.tif", "user.DosStream.calibration:$DATA"
# An access list with an entry for one more account, as `setfacl -m u:1026:r` writes it.
_NO_ID = 0xFFFFFFFF
ACCESS_LIST = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, 4, 1026 if tag == 2 else _NO_ID) for tag in (1, 2, 4, 16, 32)
)


@pytest.fixture
def scene(lab: Lab, root: Any, now: datetime) -> Scene:
    scene = set_scene(lab, root, now)
    os.setxattr(scene.path / TILE, STREAM, b"objective=63x")
    os.setxattr(scene.path / TILE, "user.DOSATTRIB", b"0x20")
    (scene.path / "channels/empty_well").mkdir(parents=True)
    os.setxattr(scene.path / METADATA, "user.note", b"ours")
    discovery.discover(root, now=now)
    return scene


def found(path: Path) -> BeyondBytes:
    with handles.opened(handles.open_root(str(path))) as run:
        return beyond_bytes.found_in(run, run_tree.scan(run).entries)


def lacking(path: Path, asked: BeyondBytes) -> BeyondBytes:
    with handles.opened(handles.open_root(str(path))) as twin:
        return beyond_bytes.lacking(twin, asked)


def test_what_is_found_and_what_the_twin_lacks(scene: Scene) -> None:
    there = found(scene.path)
    assert {path: list(names) for path, names in there.attributes.items()} == {TILE.encode(): [STREAM]}
    assert there.folders == (b"channels",)
    assert lacking(scene.twin, there) == there
    os.setxattr(scene.twin / TILE, STREAM, b"objective=40x")
    assert lacking(scene.twin, there) == there
    os.setxattr(scene.twin / TILE, STREAM, b"objective=63x")
    (scene.twin / "channels").mkdir()
    assert not lacking(scene.twin, there)
    assert beyond_bytes.from_json(json.loads(json.dumps(beyond_bytes.as_json(there)))) == there


def test_an_access_list_counts(scene: Scene) -> None:
    try:
        os.setxattr(scene.path / TILE, "system.posix_acl_access", ACCESS_LIST)
    except OSError:
        pytest.skip("this filesystem keeps no access lists")
    assert "system.posix_acl_access" in found(scene.path).attributes[TILE.encode()]


def test_the_page_tells_of_it_before_the_click_and_the_receipt_after_it(scene: Scene) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("ada"))
    page = client.get(f"/runs/{scene.run.pk}/clear/").content.decode()
    assert "Not on the NAS:" in page
    assert "1 attribute, 1 empty folder" in page
    assert "channels/" in page
    attempt = protocol.perform(scene.attempt(), now=scene.now)
    assert attempt.phase == Phase.DONE
    assert attempt.only_here.startswith("1 attribute, 1 empty folder: ")
    receipt = client.get(f"/runs/{scene.run.pk}/receipt/").content.decode()
    assert "Gone with the run" in receipt
    assert "calibration:$DATA" in receipt


def test_the_page_of_a_run_whose_twin_has_all_says_nothing(lab: Lab, root: Any, now: datetime) -> None:
    scene = set_scene(lab, root, now)
    client = Client()
    client.force_login(User.objects.create_superuser("ada"))
    assert "Not on the NAS:" not in client.get(f"/runs/{scene.run.pk}/clear/").content.decode()
    assert stored_facts.facts_of(scene.run).only_here is None


def test_a_policy_that_blocks(scene: Scene, policy: Callable[..., Any]) -> None:
    policy(only_here="block")
    attempt = protocol.perform(scene.attempt(), now=scene.now)
    assert (attempt.phase, attempt.reason) == (Phase.REFUSED, Reason.ONLY_HERE)
    policy(only_here="tell", project="PROJ-0042")
    assert protocol.perform(scene.attempt(), now=scene.now).phase == Phase.DONE


def test_the_record_alone_tells_of_no_twin(scene: Scene, policy: Callable[..., Any]) -> None:
    """Where the NAS is not asked, everything that it might lack counts."""
    policy(proof="record", only_here="block")
    os.setxattr(scene.twin / TILE, STREAM, b"objective=63x")
    (scene.twin / "channels").mkdir()
    assert protocol.perform(scene.attempt(), now=scene.now).reason == Reason.ONLY_HERE


def test_the_command_keeps_such_a_run_unless_it_is_told(scene: Scene) -> None:
    said = StringIO()
    with pytest.raises(SystemExit):
        call_command("clear", scene.run.run_path, "--json", stdout=said)
    (refused,) = json.loads(said.getvalue())["runs"]
    assert (refused["action"], refused["reason"]) == ("refused", "only_here")
    assert scene.path.is_dir()
    call_command("clear", scene.run.run_path, "--accept-loss", stdout=StringIO())
    assert not scene.path.exists()


def test_the_option_and_the_version_name_the_field() -> None:
    said = StringIO()
    call_command("set_policy", "--only-here", "block", "--json", stdout=said)
    assert json.loads(said.getvalue())["only_here"] == "block"
    call_command("set_policy", "--only-here", "none", "--json", stdout=(said := StringIO()))
    assert json.loads(said.getvalue())["only_here"] is None


def test_a_folder_that_appears_meanwhile_shows_in_the_gate(scene: Scene) -> None:
    (scene.path / "later").mkdir()
    date_everything(scene.path, scene.now, scene.now)
    discovery.discover(scene.root, now=scene.now)
    scene.run.refresh_from_db()
    facts = stored_facts.facts_of(scene.run).only_here
    assert facts is not None
    assert facts.folders == 2
