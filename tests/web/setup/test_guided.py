"""The guided page, and what empty pages say of what nobody has looked at."""

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.urls import reverse

from cleanup.lab import policy_versions
from cleanup.models import RetentionPolicy, StagingRoot
from cleanup.rules.policies.policy import Mode

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

LISTS = ("/", "/runs/", "/problems/", "/sweeps/", "/audit/", "/holds/", "/batches/", "/instruments/")
PROMISES = "The first look at /data/lab begins within a minute."


def text_of(answer: Any) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())


def states(answer: Any) -> dict[str, str]:
    return {step.code: f"{step.state}{' next' if step.is_next else ''}" for step in answer.context["steps"]}


@pytest.fixture
def unseen(db: None, now: datetime) -> StagingRoot:
    """A root that was registered a moment ago."""
    root = StagingRoot.objects.create(name="lab", host="lab-pc", path="/data/lab", token="t", nas_path="/mnt/nas")
    StagingRoot.objects.update(created_at=now)
    return root


def test_the_steps_follow_one_another(people: Any, now: datetime) -> None:
    User.objects.exclude(username="admin").update(is_active=False)
    begun = states(people.admin.get("/setup/"))
    assert begun == {"root": "open next", "nas": "waits", "look": "waits", "policy": "open", "people": "open"}
    root = StagingRoot.objects.create(name="lab", host="lab-pc", path="/data/lab", token="t")
    StagingRoot.objects.update(created_at=now)
    page = people.admin.get("/setup/")
    assert states(page) == {"root": "done", "nas": "open next", "look": "works", "policy": "open", "people": "open"}
    assert PROMISES in text_of(page)
    StagingRoot.objects.update(nas_path="/mnt/nas", layout_proposal={"layout": "leaf", "found": 12, "of": 14})
    StagingRoot.objects.update(looking_done=40, looking_total=1400, looking_seen_at=now)
    page = people.admin.get("/setup/now/", headers={"HX-Request": "true"})
    assert "12 of 14 verified runs have a copy under leaf" in text_of(page)
    assert "is under way: 40 of about 1,400 runs so far" in text_of(page)
    assert 'hx-trigger="every 2s"' in page.content.decode()
    StagingRoot.objects.filter(pk=root.pk).update(discovered_at=now)
    page = people.admin.get("/setup/")
    assert states(page) == {"root": "done", "nas": "done", "look": "done", "policy": "open next", "people": "open"}
    assert "every 2s" not in page.content.decode()
    assert people.admin.post("/setup/manual/").url == "/setup/"
    assert RetentionPolicy.objects.get().mode == Mode.MANUAL
    User.objects.filter(username="operator").update(is_active=True)
    page = people.admin.get("/setup/")
    assert set(states(page).values()) == {"done"}
    assert "The lab is set up" in text_of(page)
    assert "The whole lab: manual, cleared by an operator alone" in text_of(page)


def test_manual_is_not_written_over_a_policy(people: Any, now: datetime) -> None:
    policy_versions.add_version(author="ada", now=now, mode="scheduled", retain_hours=24)
    people.admin.post("/setup/manual/")
    assert [version.mode for version in RetentionPolicy.objects.all()] == ["scheduled"]


def test_each_step_leads_to_its_page(people: Any) -> None:
    said = people.admin.get("/setup/").content.decode()
    for name in ("add-root", "import-wizard-config", "change-policy"):
        assert f'href="{reverse(name)}"' in said


@pytest.mark.parametrize("address", LISTS)
def test_an_empty_page_says_what_comes_and_when(people: Any, unseen: StagingRoot, now: datetime, address: str) -> None:
    said = text_of(people.admin.get(address))
    assert PROMISES in said
    assert "All is well" not in said
    StagingRoot.objects.update(discovered_at=now)
    assert "first look" not in text_of(people.admin.get(address)).lower()


@pytest.mark.parametrize("address", LISTS)
def test_without_a_root_nothing_is_well_either(people: Any, address: str) -> None:
    said = people.admin.get(address)
    assert "All is well" not in text_of(said)
    assert 'href="/setup/"' in said.content.decode()
    if address != "/audit/":
        viewer = people.viewer.get(address)
        assert "no disk was looked at" in text_of(viewer)
        assert "/setup/" not in viewer.content.decode()


def test_a_first_look_that_does_not_begin_says_what_is_missing(people: Any, unseen: StagingRoot, now: datetime) -> None:
    StagingRoot.objects.update(created_at=now - timedelta(minutes=4))
    assert "The worker on lab-pc makes it" in text_of(people.viewer.get("/runs/"))
    StagingRoot.objects.update(problem="root_not_mounted")
    assert "could not be made" in text_of(people.viewer.get("/runs/"))
