"""Shells and conflicts on the pages."""

import html
import json
import re
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.test import Client

from cleanup import tasks
from cleanup.clears import conflicts, recovery
from cleanup.models import Alert, AlertKind, ClearAttempt, Orphan, Run
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.orphans import orphans
from tests.tools.lab import METADATA
from tests.tools.pages import SAFE
from tests.tools.rows import clear_rows

pytestmark = pytest.mark.one_engine


def problems_page(client: Client) -> str:
    response = client.get("/problems/")
    assert response.status_code == 200
    return html.unescape(response.content.decode())


def make_shell(path, run_path):
    (path / METADATA).mkdir(parents=True)
    (path / METADATA / "ingest.json.lock").touch()
    equipment = run_path.split("/")[0]
    entry = {"state": "staging", "at": "2026-06-15T08:00:00Z", "host": "labpc-04"}
    said = {"schema_version": "1.1", "equipment_id": equipment, "run_kind": "experimental", "run_path": run_path}
    said |= {"project_name": "", "transport": "smb_mount", "current_state": "staging", "history": [entry]}
    (path / METADATA / "ingest.json").write_text(json.dumps(said))
    return path


@pytest.fixture
def shell(runs, lab, root, now):
    away = (lab.staging / SAFE).rename(lab.base / "away")
    assert away.is_dir()
    run = runs[SAFE]
    Run.objects.filter(pk=run.pk).update(state="cleared", cleared_at=now - timedelta(hours=1))
    clear_rows(run, now - timedelta(hours=1), files=3, size=300)
    make_shell(lab.staging / SAFE, SAFE)
    for at in (now - timedelta(hours=2), now):
        discovery.discover(root, now=at)
        orphans.inspect(root, now=at)
    return Orphan.objects.get(kind="shell")


def test_the_page_says_what_a_shell_is_and_offers_to_remove_it(people, shell):
    text = problems_page(people.operator)
    assert Reason.SHELL_LEFT.sentence in text
    assert f'action="/problems/{shell.pk}/shell/"' in text
    assert "Remove it" in text
    assert f'action="/problems/{shell.pk}/shell/"' not in problems_page(people.viewer)


def test_one_click_removes_it(people, shell, lab):
    response = people.operator.post(f"/problems/{shell.pk}/shell/", follow=True)
    text = response.content.decode()
    assert "the empty folder is being removed" in text
    assert "Being removed…" in text
    attempt = ClearAttempt.objects.get(kind="shell")
    assert (attempt.phase, attempt.actor, attempt.run) == ("queued", "operator", shell.run)
    assert attempt.task_id
    assert "done" in tasks.clear(str(attempt.pk))
    assert not (lab.staging / SAFE).exists()
    assert "Remove it" not in problems_page(people.operator)
    page = people.operator.get(f"/runs/{shell.run_id}/").content.decode()
    assert "An empty folder of the data wizard was removed" in page
    assert page.count('id="receipt"') == 1


def test_the_page_says_why_one_was_not_removed(people, shell, lab):
    people.operator.post(f"/problems/{shell.pk}/shell/")
    (lab.staging / SAFE / "first.tif").write_bytes(b"first")
    tasks.clear(str(ClearAttempt.objects.get(kind="shell").pk))
    text = problems_page(people.operator)
    assert f"Not removed just now: {Reason.NOT_A_SHELL.sentence}" in " ".join(re.sub("<[^>]+>", "", text).split())
    assert "Remove it" in text


def test_twice_is_harmless(people, shell):
    for _ in range(2):
        response = people.operator.post(f"/problems/{shell.pk}/shell/", follow=True)
    assert "is being removed already" in response.content.decode()
    assert ClearAttempt.objects.filter(kind="shell").count() == 1


def test_what_is_gone_or_no_shell_is_not_removed(people, shell, now):
    Orphan.objects.filter(pk=shell.pk).update(gone_at=now)
    response = people.operator.post(f"/problems/{shell.pk}/shell/", follow=True)
    assert "it is no problem any more" in response.content.decode()
    Orphan.objects.filter(pk=shell.pk).update(gone_at=None, kind="unknown")
    assert people.operator.post(f"/problems/{shell.pk}/shell/").status_code == 404
    assert not ClearAttempt.objects.filter(kind="shell").exists()


def test_without_clear_permission_there_it_is_refused(people, shell, keeper):
    assert people.viewer.post(f"/problems/{shell.pk}/shell/").status_code == 403
    assert keeper(root=shell.root, equipment="FLOW_01").post(f"/problems/{shell.pk}/shell/").status_code == 404
    assert people.operator.get(f"/problems/{shell.pk}/shell/").status_code == 405
    assert keeper(root=shell.root, equipment="CONFOCAL_01").post(f"/problems/{shell.pk}/shell/").status_code == 302


# A conflict


@pytest.fixture
def conflict(runs, lab, root, now):
    run = runs[SAFE]
    attempt = ClearAttempt.objects.create(
        run=run, phase="intent", host=root.host, requester="operator", actor="ada", created_at=now, phase_at=now
    )
    path = lab.staging / SAFE
    path.rename(path.with_name(f".exlab-clearing-{attempt.pk.hex}"))
    path.mkdir()
    (path / "new.tif").write_bytes(b"new work")
    recovery.recover(now=now)
    discovery.discover(root, now=now + timedelta(minutes=5))
    attempt.refresh_from_db()
    assert attempt.phase == "conflict"
    return SimpleNamespace(run=run, attempt=attempt, fence=f".exlab-clearing-{attempt.pk.hex}")


def test_a_conflict_stands_above_everything_on_the_runs_page(people, conflict):
    text = people.operator.get(f"/runs/{conflict.run.pk}/").content.decode()
    banner = text.index("This run could not be put back.")
    assert banner < text.index('id="head"')
    assert conflict.fence in text[banner:]
    assert Reason.PATH_OCCUPIED.advice in text
    assert 'id="clear"' not in text


def test_no_clear_is_offered_anywhere(people, conflict):
    row = people.operator.get(f"/runs/{conflict.run.pk}/row/").content.decode()
    assert "Could not be put back" in row
    assert f'href="/runs/{conflict.run.pk}/clear/"' not in row
    asked = html.unescape(people.operator.get(f"/runs/{conflict.run.pk}/clear/").content.decode())
    assert Reason.PATH_OCCUPIED.sentence in asked
    people.operator.post(f"/runs/{conflict.run.pk}/clear/", {"digest": "0" * 64, "typed": ""})
    assert ClearAttempt.objects.count() == 1
    conflict.run.refresh_from_db()
    assert (conflict.run.get_tone_display(), conflict.run.reason) == ("blocked", "path_occupied")


def test_it_is_one_problem_with_what_to_do(people, conflict):
    text = problems_page(people.viewer)
    assert text.count(f"<strong>{Reason.PATH_OCCUPIED.sentence}</strong>") == 1
    assert conflict.fence in text
    assert Reason.PATH_OCCUPIED.advice in text
    assert f'href="/runs/{conflict.run.pk}/"' in text


def test_it_ends_with_the_conflict(people, conflict, lab, root, now):
    (lab.staging / SAFE).rename(lab.base / "away")
    recovery.recover(now=now)
    discovery.discover(root, now=now + timedelta(minutes=10))
    assert Reason.PATH_OCCUPIED.sentence not in problems_page(people.viewer)
    text = people.operator.get(f"/runs/{conflict.run.pk}/").content.decode()
    assert "could not be put back" not in text.partition('id="attempts"')[0].partition('id="head"')[0]
    assert 'id="clear"' in text


def test_a_conflict_of_another_host_is_its_own_affair(conflict, settings, now):
    settings.EXLAB_HOST = "another"
    conflicts.settle(now=now)
    assert Alert.objects.get(kind=AlertKind.CONFLICT).ended_at is None
