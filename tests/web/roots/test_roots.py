"""The pages of staging disks: who may, the password, looks while one types, and what is asked of the host."""

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.conf import settings as project
from django.test import Client
from django.utils import timezone

from cleanup.models import RootNote, RootRequest, Run, StagingRoot
from cleanup.runs.moved_or_gone import retirement
from cleanup.runs.moved_or_gone.reregistration import RegisterOrder
from cleanup.runs.root_requests import answering
from tests.tools.pages import SAFE

pytestmark = pytest.mark.one_engine

HTMX = {"HX-Request": "true", "HX-Current-URL": "http://testserver/roots/add/"}


@pytest.fixture
def admin(people, root) -> Client:
    """Signed in, with the password typed just now."""
    answer = people.admin.post("/account/again/", {"password": "admin", "next": "/roots/add/"})
    assert (answer.status_code, answer.url) == (302, "/roots/add/")
    client: Client = people.admin
    return client


def look(client: Client, path: Any, headers: Any = HTMX, **more: Any) -> Any:
    given = {"act": "look", "host": project.EXLAB_HOST, "path": str(path), **more}
    return client.post("/roots/add/", given, headers=headers)


def answered(row: RootRequest) -> RootRequest:
    answering.answer(str(row.pk))
    row.refresh_from_db()
    return row


def text(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


# Who, and the password


def test_the_password_comes_first_and_lasts_ten_minutes(people, root):
    asked = people.admin.get("/roots/add/?request=x")
    assert asked.url == "/account/again/?next=%2Froots%2Fadd%2F%3Frequest%3Dx"
    wrong = people.admin.post("/account/again/", {"password": "wrong", "next": "/roots/add/"})
    assert wrong.status_code == 422 and "This is not your password." in text(wrong)
    assert people.admin.get("/roots/add/").status_code == 302
    elsewhere = people.admin.post("/account/again/", {"password": "admin", "next": "https://evil.example/"})
    assert elsewhere.url == "/"
    assert people.admin.get("/roots/add/").status_code == 200
    with time_machine.travel(timezone.now() + timedelta(minutes=11), tick=False):
        assert people.admin.get("/roots/add/").status_code == 302
        late = people.admin.post(f"/roots/{root.pk}/retire/", {"typed": "lab", "note": "sold"})
        assert late.url == f"/account/again/?next=%2Froots%2F{root.pk}%2F"
        assert look(people.admin, "/mnt").headers["HX-Redirect"].startswith("/account/again/")
        assert "Nothing was done" in text(people.admin.get("/account/again/"))
    with time_machine.travel(timezone.now() - timedelta(minutes=1), tick=False):  # typed in a wrong future
        assert people.admin.get("/roots/add/").status_code == 302
    assert not RootRequest.objects.exists()


def test_wrong_passwords_are_counted_as_sign_ins(people, root, settings):
    for _ in range(project.AXES_FAILURE_LIMIT):
        people.admin.post("/account/again/", {"password": "wrong"})
    locked = people.admin.post("/account/again/", {"password": "admin"})
    assert locked.status_code == 429
    assert people.admin.get("/roots/add/").status_code == 302


@pytest.mark.parametrize("name", ["operator", "viewer", "stranger"])
def test_others_may_not(people, root, name):
    client = getattr(people, name)
    client.post("/account/again/", {"password": name})
    for address in ("/roots/", "/roots/add/", "/roots/nas/add/", "/roots/import/", f"/roots/{root.pk}/"):
        assert client.get(address).status_code == 403, address
    assert look(client, "/mnt").status_code == 403
    assert client.post(f"/roots/{root.pk}/retire/", {"typed": "lab", "note": "x"}).status_code == 403
    assert not RootRequest.objects.exists()


# Looks


def test_a_path_is_looked_at_while_it_is_typed(admin, lab, tmp_path):
    (tmp_path / "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-32").mkdir(parents=True)
    first = look(admin, tmp_path.parent)
    assert first.status_code == 200 and f"Waiting for the worker of {project.EXLAB_HOST}" in text(first)
    old = RootRequest.objects.get()
    assert f'hx-get="/roots/requests/{old.pk}/"' in text(first)
    look(admin, tmp_path)
    row = answered(RootRequest.objects.get(phase="queued"))
    answering.answer(str(old.pk))
    shown = text(admin.get(f"/roots/requests/{row.pk}/", headers=HTMX))
    assert "1 run of CONFOCAL_01" in shown and "hx-trigger" not in shown
    stale = text(admin.get(f"/roots/requests/{old.pk}/", headers=HTMX))
    assert "A newer look has taken its place" in stale and "hx-trigger" not in stale
    halfway = look(admin, "relative/path")
    assert halfway.status_code == 200 and "from / on" in text(halfway)
    assert RootRequest.objects.count() == 2


def test_without_scripts_a_button_looks(admin, lab, tmp_path):
    sent = look(admin, tmp_path, headers={}, name="new")
    row = RootRequest.objects.get()
    assert sent.url == f"/roots/add/?request={row.pk}"
    assert '<meta http-equiv="refresh"' in text(admin.get(sent.url))
    answered(row)
    page = text(admin.get(sent.url))
    assert f'value="{tmp_path}"' in page and 'value="new"' in page and "No runs are seen" in page
    assert "refresh" not in page.split("</noscript>")[0] or "http-equiv" not in page


def test_a_request_that_nobody_takes_ends(admin, lab, tmp_path):
    look(admin, tmp_path)
    row = RootRequest.objects.get()
    with time_machine.travel(timezone.now() + timedelta(minutes=11), tick=False):
        shown = text(admin.get(f"/roots/requests/{row.pk}/", headers=HTMX))
    assert "No worker of this host took it within ten minutes" in shown and "hx-trigger" not in shown


# Deeds


def test_registering_asks_the_host(admin, lab, tmp_path):
    given = {"act": "register", "host": project.EXLAB_HOST, "path": f"{tmp_path}/", "name": "new"}
    refused = admin.post("/roots/add/", {**given, "name": ""})
    assert refused.status_code == 422 and not RootRequest.objects.exists()
    sent = admin.post("/roots/add/", given)
    row = RootRequest.objects.get()
    assert sent.url == f"/roots/requests/{row.pk}/"
    assert (row.kind, row.actor, row.asked["path"]) == ("add_staging", "admin", str(tmp_path))
    assert "Waiting for the worker" in text(admin.get(sent.url))
    assert f"waits for the worker of {project.EXLAB_HOST}" in text(admin.get("/roots/"))
    row.advance("queued", "done", now=timezone.now(), answer={"done": "new is registered.", "root": 1, "warnings": []})
    assert "Add its NAS root" in text(admin.get(sent.url))
    assert 'id="done"' in text(admin.get(sent.url, headers=HTMX))


def test_a_nas_root_with_its_layout(admin, runs, lab, root):
    given = {"root": root.pk, "path": str(lab.nas), "allow_same_filesystem": "on"}
    sent = admin.post("/roots/nas/add/", {**given, "act": "look"})
    answered(RootRequest.objects.get())
    page = text(admin.get(sent.url))
    assert "verified runs found" in page and 'name="nas_layout" value="run-path" checked' in page
    admin.post("/roots/nas/add/", {**given, "act": "register", "nas_layout": "run-path"})
    row = RootRequest.objects.get(kind="add_nas")
    assert (row.asked["layout"], row.asked["flags"]["allow_same_filesystem"]) == ("run-path", True)
    bad = admin.post("/roots/nas/add/", {**given, "act": "register", "own_layout": "{nothing}"})
    assert bad.status_code == 422


def test_settings_are_changed(admin, root):
    page = text(admin.get(f"/roots/{root.pk}/"))
    assert "It was registered" in page or "it was registered" in page
    given = {"name": "lab", "nas_layout": "run-path", "prove_bytes_per_second": "5000", "allow_same_filesystem": "on"}
    sent = admin.post(f"/roots/{root.pk}/", given, follow=True)
    assert "bytes a second for proofs: 0 → 5000" in text(sent)
    assert RootNote.objects.filter(event="changed", author="admin").count() == 1
    wrong = admin.post(f"/roots/{root.pk}/", {**given, "prove_from": "20:00"})
    assert wrong.status_code == 422 and "Give both hours" in text(wrong)


def test_retire_and_what_is_left(admin, runs, root, now):
    wrong = admin.post(f"/roots/{root.pk}/retire/", {"typed": "la", "note": "sold"})
    assert wrong.status_code == 422 and not RootRequest.objects.exists()
    admin.post(f"/roots/{root.pk}/retire/", {"typed": "lab", "note": "sold"})
    assert RootRequest.objects.get().kind == "retire"
    retirement.retire(root, RegisterOrder(now=now, actor="admin", note="sold"))
    page = text(admin.get(f"/roots/{root.pk}/"))
    assert "Runs that lay there" in page and SAFE in page and "Take it up again" in page
    assert "Retired (1)" in text(admin.get("/roots/"))
    assert f"/runs/{runs[SAFE].pk}/" not in text(admin.get("/runs/"))
    run = text(admin.get(f"/runs/{runs[SAFE].pk}/"))
    assert "was retired" in run and "Clear now" not in run
    assert "No staging root" in text(admin.get("/")) or "lab" not in text(admin.get("/overview/now/", headers=HTMX))
    assert Run.objects.filter(here=True).count() == 0
    admin.post(f"/roots/{root.pk}/move/", {"note": "found", "try": "1"})
    asked = RootRequest.objects.get(kind="move").asked
    assert (asked["dry_run"], asked["active"]) == (True, True)  # as from a page that was loaded before
    assert 'name="resume"' in admin.get(f"/roots/{root.pk}/").content.decode()
    admin.post(f"/roots/{root.pk}/move/", {"note": "found", "resume": "1"})
    assert RootRequest.objects.filter(kind="move", asked__active=False).count() == 1
    assert StagingRoot.objects.get().retired_at == now


def test_the_wizards_plan_is_imported_as_it_was_shown(admin, root):
    sent = admin.post("/roots/import/", {"host": project.EXLAB_HOST})
    row = RootRequest.objects.get()
    plan = {"config": "/home/x/config.yaml", "name": "west", "path": "/data", "fits": True, "digest": "d" * 64}
    row.advance("queued", "done", now=timezone.now(), answer={**plan, "questions": ["Where is nas: mounted?"]})
    page = text(admin.get(sent.url))
    assert "west: <code" in page and "Where is nas: mounted?" in page
    admin.post("/roots/import/", {"host": project.EXLAB_HOST, "digest": "d" * 64})
    assert RootRequest.objects.get(kind="import_config").asked["digest"] == "d" * 64
