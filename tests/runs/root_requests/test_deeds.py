"""Requests that change what is registered: with real folders, by the rules of the commands."""

import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as project
from django_q.models import OrmQ

from cleanup.lab.roots import root_tokens
from cleanup.lab.roots.registration import RegistrationError
from cleanup.models import LedgerEntry, RetentionPolicy, RootNote, RootRequest, RootRequestKind, Run, StagingRoot
from cleanup.runs import discovery
from cleanup.runs.moved_or_gone import reregistration
from cleanup.runs.moved_or_gone.reregistration import RegisterOrder
from cleanup.runs.root_requests import deeds
from tests.tools.lab import Lab, snapshot

pytestmark = pytest.mark.django_db

Do = Callable[..., dict[str, Any]]


@pytest.fixture
def do(db: None, now: datetime) -> Do:
    def carry_out(kind: RootRequestKind, root: StagingRoot | None = None, **asked: Any) -> dict[str, Any]:
        about = {"host": project.EXLAB_HOST, "actor": "ada", "asked_at": now, "phase": "running"}
        return deeds.perform(RootRequest.objects.create(kind=kind, root=root, asked=asked, **about), now)

    return carry_out


def test_register_both_sides(lab: Lab, do: Do, now: datetime) -> None:
    lab.run()
    added = do(RootRequestKind.ADD_STAGING, name="lab", path=str(lab.staging))
    root = StagingRoot.objects.get()
    assert (added["done"], added["root"], added["problems"]) == ("lab is registered.", root.pk, [])
    assert root.token and root.filesystem
    note = RootNote.objects.get()
    assert (note.event, note.author) == ("came", "ada")
    assert [task.func() for task in OrmQ.objects.all()] == ["cleanup.tasks.discover"]
    flags = {"allow_same_filesystem": True}
    nas = do(RootRequestKind.ADD_NAS, root, path=str(lab.nas), layout="run-path", flags=flags)
    assert nas["done"].endswith("the NAS root of lab, with the layout run-path.")
    own = lab.base / "own"
    own.mkdir()
    (own / "something").touch()
    do(RootRequestKind.ADD_NAS, root, path=str(own), equipment="FLOW_01", layout="", flags=flags)
    root.refresh_from_db()
    assert (root.nas_path, root.instrument_nas["FLOW_01"]["path"]) == (str(lab.nas), str(own))
    assert set(RootNote.objects.values_list("author", flat=True)) == {"ada"}


def test_refusals_are_those_of_the_command(lab: Lab, root: StagingRoot, do: Do, tmp_path: Path) -> None:
    before = snapshot(lab.base)
    (tmp_path / "link").symlink_to(lab.base)
    assert "A link leads" in do(RootRequestKind.ADD_STAGING, name="other", path=str(tmp_path / "link"))["problem"]
    for path in ("/", "/etc", str(lab.nas), str(lab.staging), str(tmp_path / "none"), project.EXLAB_DATA_DIR):
        assert do(RootRequestKind.ADD_STAGING, name="other", path=str(path))["problem"], path
    (tmp_path / "elsewhere").mkdir()
    nas = do(RootRequestKind.ADD_NAS, root, path=str(tmp_path / "elsewhere"), flags={})
    assert "has the NAS root" in nas["problem"]
    assert StagingRoot.objects.count() == 1
    assert snapshot(lab.base) == before


def test_moved_retired_and_taken_up_again(lab: Lab, root: StagingRoot, do: Do, now: datetime) -> None:
    lab.run()
    discovery.discover(root, now=now)
    new = lab.base / "new-disk"
    shutil.copytree(lab.staging, new)
    lab.staging.rename(lab.base / "old-disk")
    tried = do(RootRequestKind.MOVE, root, path=str(new), note="new disk", dry_run=True)
    assert "1 run would be registered again" in tried["done"]
    assert StagingRoot.objects.get().path == root.path
    moved = do(RootRequestKind.MOVE, root, path=str(new), note="new disk")
    assert "1 run was registered again" in moved["done"]
    assert StagingRoot.objects.get().path == str(new)
    entry = LedgerEntry.objects.get(kind="reregistered")
    assert entry.actor == "ada" and "new disk" in entry.detail
    assert do(RootRequestKind.RETIRE, root, note="sold")["done"].startswith("lab is retired. 1 run lay there")
    assert StagingRoot.objects.get().retired_at == now
    assert "lies in" in do(RootRequestKind.MOVE, root, note="found again")["done"]
    assert StagingRoot.objects.get().retired_at is None
    assert Run.objects.count() == 1


def test_a_root_that_is_retired_meanwhile_is_not_taken_up_again_by_what_was_asked_before(
    lab: Lab, root: StagingRoot, do: Do, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.run()
    StagingRoot.objects.update(nas_path="", nas_token="")
    mark = root_tokens.mark_nas_roots

    def retire_first(seen: StagingRoot, laid: root_tokens.Laid) -> None:
        assert "is retired" in do(RootRequestKind.RETIRE, root, note="sold")["done"]
        mark(seen, laid)

    with monkeypatch.context() as patch:
        patch.setattr(root_tokens, "mark_nas_roots", retire_first)  # a NAS may keep it waiting there for minutes
        slow = do(RootRequestKind.ADD_NAS, root, path=str(lab.nas), flags={"allow_same_filesystem": True})
    assert "retired meanwhile" in slow["problem"]
    assert "retired since" in do(RootRequestKind.MOVE, root, note="new disk", active=True)["problem"]
    with pytest.raises(RegistrationError, match="retired meanwhile"):  # it was read before, and waited for its turn
        reregistration.reregister_root(root, RegisterOrder(now=now, actor="ada"))
    left = StagingRoot.objects.get()
    assert (left.retired_at, left.nas_path) == (now, "")
    assert "lies in" in do(RootRequestKind.MOVE, root, note="found", active=False)["done"]


def test_the_wizards_configuration(lab: Lab, do: Do, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lab.run()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert do(RootRequestKind.LOOK_CONFIG)["none"]
    file = tmp_path / "exlab-wizard" / "config.yaml"
    file.parent.mkdir()
    written = f"orchestrator:\n  label: west\n  staging_root: {lab.staging}\n"
    file.write_text(written + "  staging_cleanup: {mode: scheduled, retain_hours: 48}\n")
    plan = do(RootRequestKind.LOOK_CONFIG)
    assert (plan["name"], plan["path"], plan["fits"]) == ("west", str(lab.staging), True)
    assert plan["policy"] == {"mode": "scheduled", "retain_hours": 48.0}
    assert not StagingRoot.objects.exists()
    assert "has changed since" in do(RootRequestKind.IMPORT_CONFIG, digest="0" * 64)["problem"]
    assert not StagingRoot.objects.exists()
    done = do(RootRequestKind.IMPORT_CONFIG, digest=plan["digest"])
    assert done["done"].startswith("west is registered as in ExLab-Wizard's configuration. Policy version 1")
    version = RetentionPolicy.objects.get()
    assert (version.author, version.rehearsal, version.root) == ("ada", "rehearsing", StagingRoot.objects.get())
    file.write_text(written + "  staging_cleanup: {mode: scheduled, retain_hours: 0}\n")
    assert do(RootRequestKind.LOOK_CONFIG)["own_policy"] == 1
