"""Requests of admins: who is answered, what a look says, and which places are refused as in a registration."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.conf import settings as project
from django.contrib.auth.models import Permission, User
from django.utils import timezone
from django_q.models import OrmQ

from cleanup.lab import task_queues
from cleanup.models import Heartbeat, RootRequest, RootRequestKind, StagingRoot
from cleanup.runs import discovery
from cleanup.runs.root_requests import answering, asking
from tests.tools.lab import Lab, snapshot

pytestmark = pytest.mark.django_db

LOOK = RootRequestKind.LOOK_STAGING
SECOND = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-18T09-10"

Asked = Callable[..., RootRequest]


@pytest.fixture
def boss(db: None) -> User:
    return User.objects.create_superuser("boss")


@pytest.fixture
def asked(boss: User) -> Asked:
    """Ask as the admin, let the host answer, and return the row."""

    def ask(kind: RootRequestKind, path: str, root: StagingRoot | None = None, **more: Any) -> RootRequest:
        about = {"path": path, **more}
        row = asking.ask(kind, project.EXLAB_HOST, actor="boss", asked=about, now=timezone.now(), root=root)
        answering.answer(str(row.pk))
        row.refresh_from_db()
        return row

    return ask


def verdicts(row: RootRequest) -> dict[str, str]:
    return {line["name"]: line["verdict"] for line in row.answer["lines"]}


def said(row: RootRequest, name: str) -> str:
    return next(str(line["said"]) for line in row.answer["lines"] if line["name"] == name)


def test_a_good_place(lab: Lab, asked: Asked) -> None:
    lab.run()
    before = snapshot(lab.base)
    row = asked(LOOK, str(lab.staging), name="lab")
    assert row.phase == "done" and row.answer["fits"]
    found = verdicts(row)
    assert {found[name] for name in ("exists", "folder", "rights", "others", "marker", "space", "runs")} == {"pass"}
    assert said(row, "runs") == "1 run of CONFOCAL_01."
    assert snapshot(lab.base) == before
    assert not StagingRoot.objects.exists()


def test_refused_places(lab: Lab, root: StagingRoot, asked: Asked, tmp_path: Path) -> None:
    lab.run()
    (tmp_path / "link").symlink_to(tmp_path)
    data = Path(project.EXLAB_DATA_DIR)
    refusals = {
        "/": ("system", "must not be /"),
        "/etc": ("system", "a folder of the system"),
        "/usr/share": ("system", "a folder of the system"),
        "/nonexistent/lab": ("exists", "no such folder"),
        str(tmp_path / "link"): ("folder", "A link leads to"),
        str(lab.nas): ("others", "the NAS root of lab"),
        str(lab.staging): ("others", "lab lies there"),
        str(lab.staging / "CONFOCAL_01"): ("others", "lie one in the other"),
        str(data.parent): ("others", "data directory"),
    }
    for path, (name, words) in refusals.items():
        row = asked(LOOK, path, name="other")
        assert not row.answer["fits"], path
        assert verdicts(row)[name] == "block", path
        assert words in said(row, name), (path, said(row, name))


def test_an_empty_or_copied_disk_is_told(lab: Lab, root: StagingRoot, asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    assert verdicts(asked(LOOK, str(tmp_path / "new")))["marker"] == "wait"
    (tmp_path / "new" / ".exlab-root").write_text(root.token)
    row = asked(LOOK, str(tmp_path / "new"))
    assert "carries the token of lab" in said(row, "others")
    (tmp_path / "new" / ".exlab-root").write_text("no uuid")
    assert verdicts(asked(LOOK, str(tmp_path / "new")))["marker"] == "block"


def test_copies_are_counted_under_each_layout(lab: Lab, root: StagingRoot, asked: Asked, now: datetime) -> None:
    lab.run()
    lab.run(SECOND, twin=False)
    discovery.discover(root, now=now)
    StagingRoot.objects.update(nas_path="", nas_token="")
    moved = lab.nas / "CONFOCAL_01" / "Run_2026-04-18T09-10"
    moved.mkdir()
    flags = {"allow_same_filesystem": True}
    row = asked(RootRequestKind.LOOK_NAS, str(lab.nas), StagingRoot.objects.get(), flags=flags)
    assert row.answer["fits"], row.answer
    counted = {each["layout"]: (each["found"], each["of"]) for each in row.answer["layouts"]}
    assert counted == {"run-path": (1, 2), "equipment/leaf": (1, 2), "leaf": (0, 2)}
    assert said(row, "copies") == "1 of 2 verified runs found under the layout run-path."
    own = "{equipment}/{project}/{kind}/{leaf}x"
    row = asked(RootRequestKind.LOOK_NAS, str(lab.nas), StagingRoot.objects.get(), flags=flags, own_layout=own)
    assert {"layout": own, "found": 0, "of": 2, "used": False} in row.answer["layouts"]


def test_a_nas_that_is_no_second_copy(lab: Lab, root: StagingRoot, asked: Asked) -> None:
    lab.run()
    StagingRoot.objects.update(nas_path="", nas_token="", allow_same_filesystem=False)
    bare = StagingRoot.objects.get()
    row = asked(RootRequestKind.LOOK_NAS, str(lab.nas), bare)
    assert verdicts(row)["second"] == "block" and not row.answer["fits"]
    row = asked(RootRequestKind.LOOK_NAS, str(lab.staging), bare)
    assert verdicts(row)["others"] == "block"
    (lab.nas / ".exlab-root").unlink()
    row = asked(RootRequestKind.LOOK_NAS, str(lab.nas), bare, flags={"allow_same_filesystem": True})
    assert "shows a staging disk" not in str(row.answer)
    assert said(row, "copies") == "No verified run is known yet, so the layout cannot be tried."


def test_only_the_newest_look_of_an_admin_is_answered(lab: Lab, boss: User) -> None:
    def ask(path: str) -> RootRequest:
        return asking.ask(LOOK, project.EXLAB_HOST, actor="boss", asked={"path": path}, now=timezone.now())

    first, second = ask("/mnt/a"), ask(str(lab.staging))
    assert "dropped" in answering.answer(str(first.pk))
    answering.answer(str(second.pk))
    phases = dict(RootRequest.objects.values_list("pk", "phase"))
    assert phases == {first.pk: "dropped", second.pk: "done"}
    assert RootRequest.objects.get(pk=first.pk).answer == {}
    assert "taken" in answering.answer(str(second.pk))
    assert OrmQ.objects.count() == 2


def test_an_answer_that_comes_too_late_is_not_taken(lab: Lab, boss: User) -> None:
    first = asking.ask(LOOK, project.EXLAB_HOST, actor="boss", asked={"path": "/mnt"}, now=timezone.now())
    assert first.advance("queued", "running", now=timezone.now())
    asking.ask(LOOK, project.EXLAB_HOST, actor="boss", asked={"path": "/mnt/x"}, now=timezone.now())
    assert not first.advance("running", "done", now=timezone.now(), answer={"fits": True})
    first.refresh_from_db()
    assert (first.phase, first.answer) == ("dropped", {})


def test_who_is_not_answered(boss: User, settings: Any) -> None:
    def ask(actor: str = "boss", host: str = project.EXLAB_HOST) -> RootRequest:
        row = asking.ask(LOOK, host, actor=actor, asked={"path": "/mnt"}, now=timezone.now())
        answering.answer(str(row.pk))
        row.refresh_from_db()
        return row

    User.objects.create_user("mkhan")
    assert "may not manage staging roots" in ask("mkhan").answer["problem"]
    of_one_place = User.objects.create_user("of one place")
    of_one_place.user_permissions.add(Permission.objects.get(codename="add_stagingroot"))
    of_one_place.staging_access.create(equipment="CONFOCAL_01")
    assert "may not manage staging roots" in ask("of one place").answer["problem"]
    assert "has no worker of its own" in ask(host="far-pc").answer["problem"]
    old = asking.ask(LOOK, project.EXLAB_HOST, actor="boss", asked={"path": "/mnt"}, now=timezone.now())
    with time_machine.travel(timezone.now() + timedelta(minutes=11), tick=False):
        answering.answer(str(old.pk))
    assert RootRequest.objects.get(pk=old.pk).answer["problem"] == asking.UNTAKEN


def test_another_host_retires_a_root_whose_host_is_gone(root: StagingRoot, boss: User, settings: Any) -> None:
    StagingRoot.objects.update(host="far-pc")
    gone, now = StagingRoot.objects.get(), timezone.now()
    Heartbeat.objects.create(cluster=project.Q_CLUSTER["name"], host=project.EXLAB_HOST, at=now)
    retire = RootRequestKind.RETIRE
    assert asking.any_host_may(retire, "far-pc", now)
    assert not asking.any_host_may(RootRequestKind.MOVE, "far-pc", now)
    task_queues.serve_apart("far-pc")
    asking.ask(retire, "far-pc", actor="boss", asked={"note": "it burned"}, now=now, root=gone)
    assert OrmQ.objects.get().key == project.Q_CLUSTER["name"]
    Heartbeat.objects.create(cluster=project.Q_CLUSTER["name"], host="far-pc", at=now)
    assert not asking.any_host_may(retire, "far-pc", now)
    asking.ask(retire, "far-pc", actor="boss", asked={"note": "it burned"}, now=now, root=gone)
    assert OrmQ.objects.order_by("-pk")[0].key.startswith(project.Q_CLUSTER["name"] + "@")


def test_a_path_that_hung_is_left_alone_for_five_minutes(asked: Asked, settings: Any, tmp_path: Path) -> None:
    settings.EXLAB_NAS_TIMEOUT = 0
    assert asked(LOOK, str(tmp_path)).answer["hung"]
    settings.EXLAB_NAS_TIMEOUT = 30
    assert "did not answer a moment ago" in asked(LOOK, str(tmp_path)).answer["problem"]
    RootRequest.objects.update(answered_at=timezone.now() - timedelta(minutes=6))
    assert not asked(LOOK, str(tmp_path)).answer["hung"]
