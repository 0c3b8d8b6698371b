"""The notice of an instrument says what the rules promise and what happened, and names no run and no person."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from cleanup.lab import policy_versions
from cleanup.models import Instrument, Proof, Run, StagingRoot
from tests.tools.rows import clear_rows, run_row

pytestmark = pytest.mark.one_engine


@pytest.fixture
def instrument(db, now) -> Instrument:
    root = StagingRoot.objects.create(name="lab", host="lab-pc", path="/srv/staging", token="t", discovered_at=now)
    return Instrument.objects.create(root=root, equipment="FLOW_01", notice=True)


@pytest.fixture
def clear(instrument, now):
    def clear(number: int, *, hours: float, days_ago: int = 5, level: str = "checksum", **fields) -> None:
        at = now - timedelta(days=days_ago)
        path = f"FLOW_01/PROJ-0060/Runs/Run_2026-01-01T10-{number:02}"
        run = run_row(
            instrument.root,
            path,
            first_seen_at=at,
            verified_at=at - timedelta(hours=hours),
            state="cleared",
            cleared_at=at,
        )
        proof = Proof.objects.create(run=run, level=level, at=at, host="h", files=1, bytes=1)
        clear_rows(run, at, files=1, size=1, actor="mkhan", proof=proof, **fields)

    return clear


def said(client: Client, instrument: Instrument) -> str:
    answer = client.get(reverse("notice", args=[instrument.token]))
    assert answer.status_code == 200
    return answer.content.decode()


def policy(now, **fields) -> None:
    policy_versions.add_version(author="admin", now=now, rehearse=False, **fields)


@pytest.mark.both_engines
def test_it_says_what_was_promised_and_what_happened(client, instrument, clear, now):
    policy(now, mode="scheduled", retain_hours=24)
    timed = {"requester": "schedule", "cause": "retention"}
    for number, hours in enumerate((24.5, 31, 70)):
        clear(number, hours=hours, **timed)
    clear(8, hours=1, days_ago=91)  # too long ago
    with CaptureQueriesContext(
        connection,
    ) as asked:
        text = said(client, instrument)
    assert len(asked) <= 10
    for sentence in (
        "Automatic clearing keeps data at least 24 h after its copy on the NAS is verified.",
        "A person may clear a run earlier, as soon as its copy on the NAS is verified.",
        "Every byte is compared with its checksum before data goes.",
        "3 runs were cleared.",
        "Shortest time from verification to clearing: 24 h. Median: 31 h.",
        "None went earlier than 24 h.",
        "Every byte was compared for all of them.",
    ):
        assert sentence in text
    for secret in ("Run_2026", "PROJ-0060", "mkhan", "admin"):
        assert secret not in text.replace("An admin can", "")


def test_it_says_that_some_went_earlier_and_with_less_proof(client, instrument, clear, now):
    policy(now, mode="scheduled", retain_hours=24, min_retain_hours=6)
    policy(now, root=instrument.root, max_runs=5)
    clear(1, hours=30, requester="schedule", cause="retention+max_runs")
    clear(2, hours=7, requester="schedule", cause="max_runs", level="size")
    clear(3, hours=0.5)
    Run.objects.filter(leaf__endswith="01").update(verified_at=now)  # verified again, after the clear
    run_row(
        instrument.root,
        "FLOW_01/PROJ-0060/Runs/Run_2026-01-02T10-00",
        first_seen_at=now,
        state="cleared",
        cleared_at=now - timedelta(days=1),
        cleared_by="wizard",
    )
    text = said(client, instrument)
    for sentence in (
        "When the staging disk is too full, it may take data earlier, but not before 6 h.",
        "3 runs were cleared.",
        "Shortest time from verification to clearing: 30 min.",
        "The time is not known for 1 run.",
        "2 went earlier than 24 h: 1 by a person, 1 because the disk was too full.",
        "Not every byte was compared for 1 run.",
        "1 run was cleared by another program; these numbers do not tell how.",
    ):
        assert sentence in text


def test_the_rules_are_those_of_the_moment_and_the_numbers_a_little_older(client, instrument, clear, now):
    assert "No automatic clearing takes data of this instrument." in said(client, instrument)
    clear(1, hours=30)
    policy(now, mode="scheduled", retain_hours=48, proof="record")
    text = said(client, instrument)
    assert "keeps data at least 2 days after" in text
    assert "The files are not compared again." in text
    assert "No run was cleared." in text
    assert re.search(rf"Numbers of <time [^>]*>{now:%Y-%m-%d}", text)


def test_without_its_switch_it_is_for_those_who_see_the_instrument(people, instrument):
    address = reverse("notice", args=[instrument.token])
    assert people.nobody.get(address).status_code == 200
    Instrument.objects.update(notice=False)
    assert people.nobody.get(address)["Location"].startswith("/login/")
    assert people.stranger.get(address).status_code == 404
    assert "Only people who sign in see this page." in people.viewer.get(address).content.decode()
    assert people.nobody.post(address).status_code == 405


def test_the_switch_is_an_admins_and_off_at_first(people, instrument):
    assert not Instrument(root=instrument.root).notice
    Instrument.objects.update(notice=False)
    change = reverse("admin:cleanup_instrument_change", args=[instrument.pk])
    assert people.admin.post(change, {"notice": "on"}).status_code == 302
    found = Instrument.objects.get()
    assert (found.notice, found.public) == (True, False)
