"""The problems page: orphans, alerts and breakers, with a sentence and a safe next step for each."""

from datetime import timedelta

import pytest
from django.test import Client

from cleanup import alerting, discovery, gathering, holding, orphans, watching
from cleanup.models import Alert, AlertKind, LedgerEntry, Orphan, Run, StagingRoot, Sweep, SweepBreaker
from cleanup.orphans import GRACE
from cleanup.policy.reasons import Reason
from tests.lab import METADATA, date_everything, snapshot
from tests.views.conftest import BROKEN, SAFE


def page(client, query=""):
    response = client.get(f"/problems/{query}")
    assert response.status_code == 200
    return response.content.decode()


@pytest.fixture
def found(runs, lab, root, now):
    """A run without a record, a stray file, and a run whose directory is gone."""
    stray = lab.staging / "CONFOCAL_01/notes of ada.txt"
    stray.write_bytes(b"12345")
    old = now - timedelta(days=2)
    for path in (stray, lab.staging / BROKEN):
        date_everything(path, old, old)
    (lab.staging / SAFE).rename(lab.base / "away")
    for at in (now - GRACE, now):
        discovery.discover(root, now=at)
        orphans.inspect(root, now=at)
    return {orphan.kind: orphan for orphan in orphans.listed()}


def test_all_is_well(people, root, now):
    StagingRoot.objects.update(discovered_at=now - timedelta(minutes=2))
    text = page(people.viewer)
    assert "All is well." in text
    assert "2 min ago" in text
    assert '<span class="chip">' not in text


def test_only_people_with_a_role_may_look(people, found):
    assert people.nobody.get("/problems/").status_code == 302
    assert people.stranger.get("/problems/").status_code == 403
    assert people.nobody.get("/").status_code == 302
    assert 'href="/problems/"' not in people.stranger.get("/").content.decode()


def test_every_orphan_has_its_sentence_and_its_advice(people, found):
    assert set(found) == {"no_record", "stray", "missing"}
    text = page(people.viewer)
    assert "All is well." not in text
    for orphan in found.values():
        reason = Reason(orphan.reason)
        assert orphan.path in text
        assert f">{reason}</code>" in text
        for words in (reason.sentence, reason.advice):
            assert words.replace("'", "&#x27;") in text
    assert "5 bytes" in text
    assert "2 days ago" in text
    assert 'Problems <span class="chip">3</span>' in text


def test_who_may_do_what(people, found):
    assert "<button" not in page(people.viewer).split("<main", 1)[1]
    assert "Mark as gone" not in page(people.viewer)
    text = page(people.operator)
    assert text.count("/look/") == 3
    assert "Mark as gone" not in text
    assert page(people.admin).count("/gone/") == 1
    for kind, client in (("stray", people.viewer), ("stray", people.stranger), ("missing", people.viewer)):
        assert client.post(f"/problems/{found[kind].pk}/look/").status_code == 403
    for client in (people.viewer, people.operator):
        assert client.get(f"/problems/{found['missing'].pk}/gone/").status_code == 403
        assert client.post(f"/problems/{found['missing'].pk}/gone/", {"note": "x"}).status_code == 403
    assert people.nobody.post(f"/problems/{found['missing'].pk}/gone/", {"note": "x"}).status_code == 302
    assert not Run.objects.exclude(gone_at=None).exists()


def test_wrong_methods_and_unknown_orphans(people, found):
    pk = found["stray"].pk
    assert people.admin.get(f"/problems/{pk}/look/").status_code == 405
    assert people.admin.put(f"/problems/{found['missing'].pk}/gone/").status_code == 405
    assert people.admin.post("/problems/").status_code == 405
    assert people.admin.post("/problems/99999/look/").status_code == 404
    assert people.admin.get(f"/problems/{pk}/gone/").status_code == 404  # only what is missing can be gone
    assert people.admin.post(f"/problems/{2**63}/look/").status_code == 404


def test_without_its_token_a_post_does_nothing(people, found):
    from django.contrib.auth.models import User

    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get(username="admin"))
    assert client.post(f"/problems/{found['missing'].pk}/gone/", {"note": "x"}).status_code == 403
    assert client.post(f"/problems/{found['stray'].pk}/look/").status_code == 403


def test_looking_again_adopts_a_run_with_its_record(people, found, lab):
    record = (lab.base / "away" / METADATA / "ingest.json").read_text()
    before = snapshot(lab.staging)
    address = f"/problems/{found['no_record'].pk}/look/"
    assert "it is as it was" in people.operator.post(address, follow=True).content.decode()
    assert snapshot(lab.staging) == before
    path = lab.staging / BROKEN / METADATA / "ingest.json"
    path.write_text(record.replace(SAFE, BROKEN).replace("CONFOCAL_01", "PLATE_READER_02"))
    assert "it is a known run now" in people.operator.post(address, follow=True).content.decode()
    assert Run.objects.get(run_path=BROKEN).state == "sync_verified"


def test_looking_again_at_what_was_taken_away(people, found, lab):
    (lab.staging / found["stray"].path).rename(lab.base / "notes")
    text = people.operator.post(f"/problems/{found['stray'].pk}/look/", follow=True).content.decode()
    assert "it is no problem any more" in text
    assert 'Problems <span class="chip">2</span>' in text


def test_looking_again_while_somebody_does_or_without_the_disk(people, found, lab, root):
    address = f"/problems/{found['stray'].pk}/look/"
    with gathering.data_dir().lock(f"orphans-{root.pk}"):
        assert "somebody is looking" in people.operator.post(address, follow=True).content.decode()
    (lab.staging / ".exlab-root").unlink()
    assert Reason.ROOT_NOT_MOUNTED.sentence in people.operator.post(address, follow=True).content.decode()


def test_a_missing_run_is_marked_as_gone_with_a_reason(people, found, now):
    address = f"/problems/{found['missing'].pk}/gone/"
    held = Run.objects.with_root().get(run_path=SAFE)
    holding.hold(held, owner="ada", reason="a <b>paper</b>", until=now + timedelta(days=3), now=now)
    text = people.admin.get(address).content.decode()
    assert SAFE in text
    assert "Held by ada until 2026-06-18 08:00:00 UTC: a &lt;b&gt;paper&lt;/b&gt;" in text
    assert not LedgerEntry.objects.exists()
    assert people.admin.post(address, {"note": " "}).status_code == 422
    answer = people.admin.post(address, {"note": "taken to the archive"}, follow=True)
    assert "is marked as gone" in answer.content.decode()
    run = Run.objects.get(run_path=SAFE)
    assert (run.gone_at, run.state) == (now, "sync_verified")
    entry = LedgerEntry.objects.get()
    assert (entry.kind, entry.actor) == ("marked_gone", "admin")
    assert entry.detail.endswith("taken to the archive")
    assert "Not missing any more" in people.admin.get(address).content.decode()
    answer = people.admin.post(address, {"note": "again"}, follow=True)
    assert "is not marked as gone" in answer.content.decode()
    assert LedgerEntry.objects.count() == 1


def test_a_run_that_came_back_is_not_marked(people, found, lab):
    (lab.base / "away").rename(lab.staging / SAFE)
    answer = people.admin.post(f"/problems/{found['missing'].pk}/gone/", {"note": "gone"}, follow=True)
    assert "directory is there" in answer.content.decode()
    assert Run.objects.get(run_path=SAFE).gone_at is None


def test_alerts_and_breakers(people, runs, root, now):
    alerting.open_alert(
        AlertKind.STALLED_RUN,
        "run:1",
        reason=Reason.STALLED,
        now=now - timedelta(hours=5),
        detail="since <b>Monday</b>",
        run=runs[SAFE],
    )
    alerting.open_alert(AlertKind.CLUSTER, "clear on lab-pc", reason=Reason.CLUSTER_SILENT, now=now)
    alerting.open_alert(AlertKind.HOST, "other", reason=Reason.HOST_UNSERVED, now=now)
    alerting.end_alert(AlertKind.HOST, "other", now=now)
    sweep = Sweep.objects.create(root=root, kind="timed", host="lab-pc", now=now, started_at=now)
    SweepBreaker.objects.create(root=root, sweep=sweep, kind="share", detail="94 % of the bytes", opened_at=now)
    text = page(people.viewer)
    assert "All is well." not in text
    for words in (Reason.STALLED.sentence, Reason.CLUSTER_SILENT.advice, "5 h ago", f"/runs/{runs[SAFE].pk}/"):
        assert words.replace("'", "&#x27;") in text
    assert Reason.HOST_UNSERVED.sentence not in text
    assert "since &lt;b&gt;Monday&lt;/b&gt;" in text
    assert "94 % of the bytes" in text
    assert 'Problems <span class="chip">3</span>' in text
    assert "/go-on/" in page(people.operator)
    assert Alert.objects.filter(ended_at=None).count() == 2


def test_what_the_watchdog_says_of_a_breaker_or_a_root_is_shown_once(people, root, now):
    sweep = Sweep.objects.create(root=root, kind="timed", host="lab-pc", now=now, started_at=now)
    SweepBreaker.objects.create(root=root, sweep=sweep, kind="share", detail="94 % of the bytes", opened_at=now)
    StagingRoot.objects.update(problem=Reason.ROOT_NOT_MOUNTED)
    chip = 'Problems <span class="chip">2</span>'
    assert chip in page(people.viewer)
    watching._breakers(now, None)
    watching._hosts(now, now)
    assert Alert.objects.filter(ended_at=None).count() == 2
    text = page(people.viewer)
    assert chip in text
    assert text.count("94 % of the bytes") == 1
    assert text.count(Reason.ROOT_NOT_MOUNTED.advice) == 1


def test_a_root_in_trouble_is_no_empty_page(people, root, now):
    StagingRoot.objects.update(problem=Reason.ROOT_NOT_MOUNTED, discovered_at=now - timedelta(days=3))
    text = page(people.viewer)
    assert "All is well." not in text
    assert Reason.ROOT_NOT_MOUNTED.advice in text


def test_what_is_escalated_comes_first(people, found, now):
    Orphan.objects.filter(pk=found["stray"].pk).update(escalated_at=now, bytes=1)
    text = page(people.viewer)
    assert text.index(found["stray"].path) < text.index(found["missing"].path)
    assert "An admin must decide" in text


def test_one_query_plan_however_many(people, found, root, now, django_assert_max_num_queries):
    def more(number):
        Orphan.objects.bulk_create(
            Orphan(
                root=root,
                path=f"x-{Orphan.objects.count()}-{index}",
                kind="missing",
                run=found["missing"].run,
                reason=Reason.MISSING_DIRECTORY,
                first_seen_at=now,
                seen_at=now,
                measured_at=now,
            )
            for index in range(number)
        )
        for index in range(number):
            alerting.open_alert(AlertKind.STALLED_RUN, f"r{index}", reason=Reason.STALLED, now=now, root=root)

    for number in (0, 10, 120):
        more(number)
        with django_assert_max_num_queries(14):
            text = page(people.admin)
    assert "1 to 50 of 133" in text
    assert "the oldest 100 are shown" in text
    assert "101 to 133" in page(people.admin, "?page=3")


@pytest.mark.parametrize("table", ["orphan", "alert"])
def test_the_admin_shows_them_all_and_changes_none(people, found, now, table):
    alerting.open_alert(AlertKind.CLUSTER, "clear\u202e on lab-pc", reason=Reason.CLUSTER_SILENT, now=now)
    answer = people.admin.get(f"/admin/cleanup/{table}/")
    assert answer.status_code == 200
    assert "\u202e" not in answer.content.decode()
    assert people.admin.post(f"/admin/cleanup/{table}/add/").status_code == 403
