"""The page beside an instrument: green only where every run may go."""

import io
import re
import uuid
from datetime import timedelta

import pytest
import segno
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from cleanup.models import Access, Alert, Hold, Instrument, Orphan, Run, StagingRoot, Status
from cleanup.runs import run_status
from tests.tools.pages import EXTRA, QUEUED, SAFE, TEST_RUN

pytestmark = pytest.mark.one_engine


CONFOCAL = "CONFOCAL_01"
# The form token, which differs on each page.
TOKEN = re.compile(rb"[A-Za-z0-9]{64}")
OTHER_SAFE = "CRYOEM_K3/PROJ-0101/Runs/Run_2026-04-21T08-00"


def row(root, run_path, now, **fields):
    equipment, project, _, leaf = run_path.split("/")
    judged = {"tone": Status.GO, "doubts": 1, "judged": 1}
    return Run.objects.create(
        root=root,
        run_path=run_path,
        equipment=equipment,
        project=project,
        run_kind="experimental",
        leaf=leaf,
        project_name="Cortex Q3 Pilot",
        state="sync_verified",
        verified_at=now - timedelta(days=3),
        bytes=1_200_000_000,
        first_seen_at=now - timedelta(days=3),
        **{**judged, **fields},
    )


@pytest.fixture
def instrument(db, now):
    root = StagingRoot.objects.create(
        name="lab", host="lab-pc", path="/srv/staging", token="t", discovered_at=now - timedelta(minutes=2)
    )
    row(root, OTHER_SAFE, now)
    return Instrument.objects.create(root=root, equipment="CRYOEM_K3")


def address(instrument):
    return reverse("bench", args=[instrument.token])


def word(client, instrument):
    answer = client.get(address(instrument))
    assert answer.status_code == 200
    sign = answer.context["sign"]
    assert f'<p class="word">{sign.word}</p>' in answer.content.decode()
    return sign.word, " ".join(sign.because)


def test_safe_when_every_run_is(people, instrument):
    said, why = word(people.viewer, instrument)
    assert said == "SAFE TO CLEAR"
    assert why.startswith("1 run, 1.20 GB logical: verified on the NAS")


def test_never_safe_while_one_run_is_not_verified(people, runs):
    said, why = word(people.viewer, Instrument.objects.get(equipment=CONFOCAL))
    assert said == "WAIT"
    assert why == "1 of 3 runs must wait. 1 run: The data wizard has not verified this run on the NAS yet."


@pytest.mark.parametrize("equipment", ["FLOW_01", "PLATE_READER_02"])
def test_a_blocked_run_needs_a_person(people, runs, equipment):
    said, why = word(people.viewer, Instrument.objects.get(equipment=equipment))
    assert said == "NEEDS ATTENTION"
    assert why.endswith("Delete nothing by hand.")


def test_a_held_run_is_not_touched(people, runs, now):
    run = runs[SAFE]
    Run.objects.filter(equipment=CONFOCAL).exclude(pk=run.pk).update(here=False)
    until = now + timedelta(days=2)
    Hold.objects.create(run=run, owner="jlee", reason="figure 3", until=until, created_at=now, source="person")
    assert word(people.viewer, Instrument.objects.get(equipment=CONFOCAL))[0] == "SAFE TO CLEAR"
    Run.objects.filter(pk=run.pk).doubt()
    said, why = word(people.viewer, Instrument.objects.get(equipment=CONFOCAL))
    assert (said, "jlee" in why) == ("WAIT", False)


def test_the_longest_wait_counts(people, instrument, now):
    for hours in (1, 3):
        waits = {"tone": Status.WAIT, "reason": "not_quiet", "opens_at": now + timedelta(hours=hours)}
        row(instrument.root, f"{OTHER_SAFE}-{hours}", now, **waits)
    assert word(people.viewer, instrument)[0] == "WAIT 3 h"


def test_a_wait_without_an_end_names_none(people, instrument, now):
    waits = {"tone": Status.WAIT, "reason": "not_quiet", "opens_at": now + timedelta(hours=1)}
    row(instrument.root, f"{OTHER_SAFE}-1", now, **waits)
    assert word(people.viewer, instrument)[0] == "WAIT 1 h"
    row(instrument.root, f"{OTHER_SAFE}-2", now, tone=Status.WAIT, reason="clock_untrusted")
    assert word(people.viewer, instrument)[0] == "WAIT"


@pytest.mark.parametrize("reason", ["not_looked_at", "writer_active"])
def test_a_run_that_is_being_written_waits(people, instrument, reason):
    Run.objects.filter(run_path=OTHER_SAFE).update(tone=Status.BLOCK, reason=reason)
    answer = people.viewer.get(address(instrument))
    assert (answer.context["sign"].tone, answer.context["sign"].word) == ("wait", "WAIT")
    assert [line.sign.word for line in answer.context["lines"]] == ["Wait"]


def test_a_run_that_stands_still_needs_a_person(people, instrument, now):
    run = Run.objects.get(run_path=OTHER_SAFE)
    Run.objects.filter(pk=run.pk).update(tone=Status.WAIT, reason="not_sync_verified")
    assert word(people.viewer, instrument)[0] == "WAIT"
    told = {"subject": f"run:{run.pk}", "reason": "stalled", "since": now, "seen_at": now}
    Alert.objects.create(kind="stalled_run", root=instrument.root, run=run, **told)
    answer = people.viewer.get(address(instrument))
    assert (answer.context["sign"].tone, answer.context["sign"].word) == ("block", "NEEDS ATTENTION")
    assert [line.sign.word for line in answer.context["lines"]] == ["Needs attention"]
    Alert.objects.update(ended_at=now)
    assert word(people.viewer, instrument)[0] == "WAIT"


def test_what_is_being_cleared_is_not_touched(people, instrument, now):
    from cleanup.clears import queue

    queue.request_clear(Run.objects.get(run_path=OTHER_SAFE), actor="mkhan", note="", now=now)
    said, why = word(people.viewer, instrument)
    assert (said, why) == ("WAIT", "1 run: It is being cleared just now.")


def test_nothing_here(people, instrument):
    Run.objects.filter(equipment="CRYOEM_K3").update(here=False)
    assert word(people.viewer, instrument)[0] == "NOTHING HERE"


def test_what_belongs_to_no_run_waits_while_it_may_be_written(people, instrument, now):
    Run.objects.filter(equipment="CRYOEM_K3").update(here=False)
    stranger = Orphan.objects.create(
        root=instrument.root,
        path="CRYOEM_K3/PROJ-0101/Runs/Run_2026-06-15T07-50",
        kind="no_record",
        reason="ingest_unreadable",
        first_seen_at=now,
        seen_at=now,
    )
    assert word(people.viewer, instrument)[0] == "WAIT"
    Orphan.objects.filter(pk=stranger.pk).update(modified_at=now - timedelta(days=2))
    assert word(people.viewer, instrument)[0] == "NEEDS ATTENTION"
    Orphan.objects.filter(pk=stranger.pk).update(gone_at=now)
    assert word(people.viewer, instrument)[0] == "NOTHING HERE"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"problem": "root_not_mounted"}, "NEEDS ATTENTION"),
        ({"discovered_at": None}, "WAIT"),
        ({"looked": timedelta(minutes=31)}, "NEEDS ATTENTION"),
        ({"looked": timedelta(minutes=-10)}, "NEEDS ATTENTION"),
    ],
)
def test_an_unknown_state_is_never_green(people, instrument, now, change, expected):
    if "looked" in change:
        change = {"discovered_at": now - change["looked"]}
    StagingRoot.objects.update(**change)
    assert word(people.viewer, instrument)[0] == expected


def test_a_look_of_half_an_hour_ago_still_counts(people, instrument, now):
    StagingRoot.objects.update(discovered_at=now - timedelta(minutes=30))
    assert word(people.viewer, instrument)[0] == "SAFE TO CLEAR"


def test_a_host_that_cannot_clear_needs_a_person(people, instrument, monkeypatch):
    from cleanup.lab import readiness
    from cleanup.rules.facts import Finding
    from cleanup.rules.reasons import Reason

    monkeypatch.setattr(readiness, "hindrances", lambda: (Finding(Reason.DATABASE_NOT_DURABLE, "fsync is off"),))
    assert word(people.viewer, instrument)[0] == "NEEDS ATTENTION"


def test_a_judgement_that_is_not_made_yet_is_no_green_light(people, instrument, monkeypatch):
    monkeypatch.setattr(run_status, "judge_stale", lambda *args, **kwargs: 0)
    Run.objects.filter(run_path=OTHER_SAFE).update(doubts=2)
    answer = people.viewer.get(address(instrument))
    assert answer.context["sign"].word == "WAIT"
    assert [line.sign.word for line in answer.context["lines"]] == ["Wait"]


def test_each_run_has_its_own_word(people, runs):
    answer = people.viewer.get(address(Instrument.objects.get(equipment=CONFOCAL)))
    words = {line.run.run_path: line.sign.word for line in answer.context["lines"]}
    assert words == {SAFE: "Safe to clear", TEST_RUN: "Safe to clear", QUEUED: "Wait"}


def test_the_latest_twenty_in_as_many_queries_as_one(people, instrument, now, django_assert_max_num_queries):
    for number in range(30):
        row(instrument.root, f"{OTHER_SAFE}-{number}", now + timedelta(minutes=number))
    with django_assert_max_num_queries(18):
        answer = people.viewer.get(address(instrument))
    assert [line.run.leaf[-2:] for line in answer.context["lines"]] == [str(number) for number in range(29, 9, -1)]


def test_a_poll_gets_the_fragment(people, instrument):
    where = reverse("bench-now", args=[instrument.token])
    assert f'hx-get="{where}"' in people.viewer.get(address(instrument)).content.decode()
    answer = people.viewer.get(where, headers={"HX-Request": "true"})
    assert answer.content.decode().startswith('<div id="bench"')
    assert "<html" not in answer.content.decode()


def test_nothing_can_be_done_there(people, instrument):
    text = people.operator.get(address(instrument)).content.decode()
    assert "<form" not in text
    assert "<button" not in text
    for method in ("post", "put", "patch", "delete"):
        assert getattr(people.operator, method)(address(instrument)).status_code == 405


# Who may see it


def test_one_must_sign_in(people, instrument):
    for name in ("bench", "bench-qr"):
        where = reverse(name, args=[instrument.token])
        answer = people.nobody.get(where)
        assert (answer.status_code, answer.url) == (302, f"/login/?next={where}")


def test_not_if_it_is_public_and_then_it_says_no_more_than_it_must(people, instrument):
    Instrument.objects.filter(pk=instrument.pk).update(public=True)
    answer = people.nobody.get(address(instrument))
    text = answer.content.decode()
    assert answer.status_code == 200
    assert "SAFE TO CLEAR" in text
    assert "<a " not in text
    for secret in ("Cortex", "PROJ-", instrument.root.path, "lab-pc"):
        assert secret not in text
    assert answer.headers["Cache-Control"].startswith("max-age=0, no-cache, no-store")
    assert people.nobody.get(reverse("bench-qr", args=[instrument.token])).status_code == 200
    assert people.stranger.get(address(instrument)).status_code == 200


def test_without_view_of_the_instrument_nothing_is_found(people, instrument):
    flow = Instrument.objects.create(root=instrument.root, equipment="FLOW_01")
    guest = User.objects.create_user("guest")
    guest.user_permissions.add(Permission.objects.get(codename="view_run"))
    Access.objects.create(user=guest, equipment="FLOW_01")
    client = Client()
    client.force_login(guest)
    assert client.get(address(flow)).status_code == 200
    refused = client.get(address(instrument))
    unknown = client.get(reverse("bench", args=[uuid.uuid4()]))
    assert refused.status_code == unknown.status_code == 404
    assert TOKEN.sub(b"", refused.content) == TOKEN.sub(b"", unknown.content)
    assert client.get(reverse("bench-qr", args=[instrument.token])).status_code == 404
    assert client.get(reverse("instrument-card", args=[instrument.pk])).status_code == 404
    listed = client.get(reverse("instrument-list"))
    assert [item.equipment for item in listed.context["page"]] == ["FLOW_01"]
    assert "CRYOEM_K3" not in listed.content.decode()


def test_an_unknown_address(people, db):
    assert people.nobody.get(reverse("bench", args=[uuid.uuid4()])).status_code == 404


def test_a_name_with_unseen_characters_is_spelled_out(people, instrument):
    Instrument.objects.filter(pk=instrument.pk).update(equipment="FLOW\u202e<b>")
    text = people.viewer.get(address(instrument)).content.decode()
    assert "\u202e" not in text
    assert "FLOW\\u202e&lt;b&gt;" in text


# The QR code


def test_the_code_holds_the_address(people, instrument):
    answer = people.viewer.get(reverse("bench-qr", args=[instrument.token]))
    assert answer.headers["Content-Type"] == "image/svg+xml"
    assert "private" in answer.headers["Cache-Control"]
    assert "style" not in answer.content.decode()
    expected = io.BytesIO()
    code = segno.make_qr(f"http://testserver{address(instrument)}", error="m")
    code.save(expected, kind="svg", scale=8, dark="#000", light="#fff", svgclass=None, lineclass=None)
    assert answer.content == expected.getvalue()


def test_the_card_to_print(people, instrument):
    text = people.viewer.get(reverse("instrument-card", args=[instrument.pk])).content.decode()
    assert reverse("bench-qr", args=[instrument.token]) in text
    assert f"http://testserver{address(instrument)}" in text
    assert "people who scan the code sign in" in text
    assert "works on this computer only" not in text


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000"])
def test_a_card_that_no_phone_could_use_says_so(people, instrument, host, settings):
    settings.ALLOWED_HOSTS = ["*"]
    answer = people.viewer.get(reverse("instrument-card", args=[instrument.pk]), headers={"host": host})
    assert "works on this computer only" in answer.content.decode()


def test_the_list_counts_no_further_than_it_must(people, instrument, now, monkeypatch, django_assert_max_num_queries):
    from cleanup.web import instruments

    Instrument.objects.create(root=instrument.root, equipment="FLOW_01")
    row(instrument.root, EXTRA, now, tone=Status.BLOCK, reason="not_in_manifest")
    with django_assert_max_num_queries(18):
        answer = people.viewer.get(reverse("instrument-list"))
    found = {item.equipment: (item.staged, item.safe, item.blocked) for item in answer.context["page"]}
    assert found == {"CRYOEM_K3": (1, 1, 0), "FLOW_01": (1, 0, 1)}
    monkeypatch.setattr(instruments, "MANY", 3)
    for number in range(5):
        row(instrument.root, f"{EXTRA}-{number}", now)
    answer = people.viewer.get(reverse("instrument-list"), {"page": "999"})
    found = {item.equipment: item.staged for item in answer.context["page"]}
    assert found == {"CRYOEM_K3": 1, "FLOW_01": 4}
    assert "more than 3 runs" in answer.content.decode()


def test_the_list_is_for_those_who_may_look(people, instrument):
    assert people.stranger.get(reverse("instrument-list")).status_code == 403
    assert people.stranger.get(reverse("instrument-card", args=[instrument.pk])).status_code == 403
