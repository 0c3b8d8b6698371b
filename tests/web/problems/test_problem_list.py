"""Each problem has a sentence and a safe next step."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.db.models import F
from django.test import Client

from cleanup.clears import queue
from cleanup.lab import alerts, readiness
from cleanup.lab.roots import opening
from cleanup.models import (
    Access,
    Alert,
    AlertKind,
    ClearBatch,
    Heartbeat,
    LedgerEntry,
    NasBreaker,
    Orphan,
    Run,
    StagingRoot,
    Status,
    Sweep,
    SweepBreaker,
)
from cleanup.monitoring import problems, watchdog
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.holds import holds
from cleanup.runs.orphans import orphans
from cleanup.runs.orphans.orphan_rows import GRACE
from tests.tools.lab import METADATA, date_everything, snapshot
from tests.tools.pages import BROKEN, SAFE

pytestmark = pytest.mark.one_engine


@pytest.fixture(autouse=True)
def _watched(db, settings, now):
    Heartbeat.objects.create(cluster=watchdog.WATCH, host=settings.EXLAB_HOST, at=now - timedelta(seconds=40))


def page(client, query=""):
    response = client.get(f"/problems/{query}")
    assert response.status_code == 200
    return response.content.decode()


def nav(text):
    found = re.search(r'Problems <span class="chip">([^<]+)</span>', text)
    return found[1] if found else ""


def listed(text):
    return (
        text.split("<main", 1)[1].split("</main")[0].count("<li>")
        + text.count('<li id="orphan-')
        + text.count("A safety stop")
    )


@pytest.fixture
def found(runs, lab, root, now):
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
    assert "40 s ago" in text
    assert '<span class="chip">' not in text


def test_only_people_with_a_role_may_look(people, found):
    assert people.nobody.get("/problems/").status_code == 302
    assert people.stranger.get("/problems/").status_code == 403


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
    assert nav(text) == "5"  # and two reasons for which runs are blocked


def test_who_may_do_what(people, found):
    buttons = re.findall(r"<button[^>]*>([^<]+)<", page(people.viewer).split("<main", 1)[1].split("</main")[0])
    assert set(buttons) == {"Take it", "Seen"}  # who sees a problem may say that it is looked after
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
    assert nav(text) == "4"


def test_looking_again_during_a_look_or_without_the_disk(people, found, lab, root):
    address = f"/problems/{found['stray'].pk}/look/"
    with opening.data_dir().lock(f"orphans-{root.pk}"):
        assert "is being looked at just now" in people.operator.post(address, follow=True).content.decode()
    (lab.staging / ".exlab-root").unlink()
    assert Reason.ROOT_NOT_MOUNTED.sentence in people.operator.post(address, follow=True).content.decode()


def test_a_missing_run_is_marked_as_gone_with_a_reason(people, found, now):
    address = f"/problems/{found['missing'].pk}/gone/"
    held = Run.objects.with_root().get(run_path=SAFE)
    holds.hold(held, owner="ada", reason="a <b>paper</b>", until=now + timedelta(days=3), now=now)
    text = people.admin.get(address).content.decode()
    assert SAFE in text
    assert re.search(r"Held by ada until <time [^>]*>18 June, 08:00</time>: a &lt;b&gt;paper&lt;/b&gt;", text)
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
    alerts.open_alert(
        AlertKind.STALLED_RUN,
        "run:1",
        reason=Reason.STALLED,
        now=now - timedelta(hours=5),
        detail="since <b>Monday</b>",
        run=runs[SAFE],
    )
    alerts.open_alert(AlertKind.CLUSTER, "clear on lab-pc", reason=Reason.CLUSTER_SILENT, now=now)
    alerts.open_alert(AlertKind.HOST, "other", reason=Reason.HOST_UNSERVED, now=now)
    alerts.end_alert(AlertKind.HOST, "other", now=now)
    sweep = Sweep.objects.create(root=root, kind="timed", host="lab-pc", now=now, started_at=now)
    SweepBreaker.objects.create(root=root, sweep=sweep, kind="share", detail="94 % of the bytes", opened_at=now)
    text = page(people.viewer)
    assert "All is well." not in text
    for words in (Reason.STALLED.sentence, Reason.CLUSTER_SILENT.advice, "5 h ago", f"/runs/{runs[SAFE].pk}/"):
        assert words.replace("'", "&#x27;") in text
    assert Reason.HOST_UNSERVED.sentence not in text
    assert "since &lt;b&gt;Monday&lt;/b&gt;" in text
    assert "94 % of the bytes" in text
    assert nav(text) == "6"  # with three reasons for which runs are blocked
    assert "/go-on/" in page(people.operator)
    assert Alert.objects.filter(ended_at=None).count() == 2


def test_what_the_watchdog_says_of_a_breaker_or_a_root_is_shown_once(people, root, now):
    sweep = Sweep.objects.create(root=root, kind="timed", host="lab-pc", now=now, started_at=now)
    SweepBreaker.objects.create(root=root, sweep=sweep, kind="share", detail="94 % of the bytes", opened_at=now)
    StagingRoot.objects.update(problem=Reason.ROOT_NOT_MOUNTED)
    assert nav(page(people.viewer)) == "2"
    watchdog._breakers(now, None)
    watchdog._hosts(now, now)
    assert Alert.objects.filter(ended_at=None).count() == 2
    text = page(people.viewer)
    assert nav(text) == "2"
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
        have = Orphan.objects.count()
        Orphan.objects.bulk_create(
            Orphan(
                root=root,
                path=f"x-{have}-{index}",
                kind="missing",
                run=found["missing"].run,
                reason=Reason.MISSING_DIRECTORY,
                first_seen_at=now,
                seen_at=now,
                measured_at=now,
            )
            for index in range(number)
        )
        seen = {"kind": AlertKind.STALLED_RUN, "reason": Reason.STALLED, "since": now, "seen_at": now, "root": root}
        Alert.objects.bulk_create(Alert(subject=f"r{have}-{index}", **seen) for index in range(number))

    page(people.admin)
    for number in (0, 10, 120):
        more(number)
        with django_assert_max_num_queries(15):
            text = page(people.admin)
    # Two groups of the 260, a stray file, a run without a record, and two reasons for which runs are blocked.
    assert nav(text) == "6"
    assert text.count("<details>") == 2
    groups = {key.kind: key for key in problems.counted(User.objects.get(username="admin"), now, hindrances=()).numbers}
    address = f"groups/{groups['stalled_run'].slug}/"
    assert "All 130" in text
    with django_assert_max_num_queries(15):
        assert "101 to 130" in page(people.admin, f"{address}?page=3")


@pytest.mark.parametrize("number", [problems.MOST - 1, problems.MOST])
def test_very_many_are_not_counted_to_the_end(people, root, now, number):
    Alert.objects.bulk_create(
        Alert(kind=AlertKind.HOST, subject=f"host-{index}", reason=Reason.HOST_UNSERVED, since=now, seen_at=now)
        for index in range(number)
    )
    assert nav(page(people.viewer)) == ("999" if number < problems.MOST else "999+")


# What is listed


@pytest.mark.parametrize("client", ["viewer", "operator", "admin"])
def test_the_navigation_counts_what_the_page_lists(people, found, root, now, client):
    alerts.open_alert(AlertKind.CLUSTER, "clear on lab-pc", reason=Reason.CLUSTER_SILENT, now=now)
    StagingRoot.objects.update(problem=Reason.ROOT_NOT_MOUNTED)
    sweep = Sweep.objects.create(root=root, kind="timed", host="lab-pc", now=now, started_at=now)
    SweepBreaker.objects.create(root=root, sweep=sweep, kind="share", detail="94 %", opened_at=now)
    text = page(getattr(people, client))
    assert int(nav(text)) == listed(text) == 3 + 2 + 1 + 1 + 1


def test_blocked_runs_are_told_reason_by_reason_with_a_link_to_them(people, runs):
    text = page(people.viewer)
    assert "Runs that are blocked" in text
    for reason in (Reason.NOT_IN_MANIFEST, Reason.CHANGED_SINCE_VERIFICATION, Reason.INGEST_UNREADABLE):
        assert f"/runs/?verdict=block&amp;reason={reason}" in text
        assert reason.sentence.replace("'", "&#x27;") in text
    assert "<strong>1 run</strong>" in text


def test_a_removal_that_is_not_complete_comes_before_what_is_only_blocked(people, runs):
    Run.objects.filter(pk=runs[SAFE].pk).update(tone=Status.BLOCK, reason=Reason.REMOVAL_INCOMPLETE, judged=F("doubts"))
    text = page(people.viewer)
    assert text.index("Clears that did not come to a good end") < text.index("Runs that are blocked")
    assert f"reason={Reason.REMOVAL_INCOMPLETE}" in text


def test_a_host_that_may_clear_nothing_comes_first(people, found, monkeypatch):
    finding = Finding(Reason.DATABASE_NOT_DURABLE, "synchronous is 1")
    monkeypatch.setattr(readiness, "hindrances", lambda: (finding,))
    text = page(people.viewer)
    assert text.index("synchronous is 1") < text.index("Runs that are blocked")
    assert int(nav(text)) == listed(text) == 6


def test_a_nas_that_is_not_asked_just_now(people, root, now):
    known = {"host": root.host, "token": root.nas_token, "reason": Reason.NAS_TIMEOUT, "failures": 3}
    breaker = NasBreaker.objects.create(open_until=now + timedelta(minutes=4), **known)
    NasBreaker.objects.create(host=root.host, token="another one", open_until=now + timedelta(minutes=4))
    text = page(people.viewer)
    assert Reason.NAS_TIMEOUT.sentence in text
    assert "not asked again before" in text
    assert nav(text) == "1"
    NasBreaker.objects.filter(pk=breaker.pk).update(open_until=now)
    StagingRoot.objects.update(discovered_at=now)
    assert "All is well." in page(people.viewer)


def test_a_host_without_a_watchdog(people, root, now):
    Heartbeat.objects.update(at=now - timedelta(minutes=3))
    text = page(people.viewer)
    assert f"No watchdog runs on {root.host}" in text
    assert "last heard" in text
    assert nav(text) == "1"


# Who sees what


def test_a_user_of_one_instrument_sees_only_its_problems(keeper, people, found, runs, root, now):
    for path in (SAFE, BROKEN):
        alerts.open_alert(AlertKind.STALLED_RUN, path, reason=Reason.STALLED, now=now, detail=path, run=runs[path])
    client = keeper(root=root, equipment="CONFOCAL_01")
    text = page(client)
    assert {kind for kind, orphan in found.items() if f"orphan-{orphan.pk}" in text} == {"stray", "missing"}
    assert "PLATE_READER_02" not in text
    assert f"reason={Reason.NOT_IN_MANIFEST}" not in text  # of the instrument FLOW_01
    assert int(nav(text)) == listed(text) == 3
    assert client.post(f"/problems/{found['no_record'].pk}/look/").status_code == 404
    assert client.post(f"/problems/{found['stray'].pk}/look/").status_code == 302
    assert "PLATE_READER_02" in page(keeper(root=root))


def test_an_instrument_is_told_from_one_whose_name_begins_or_is_written_so(keeper, runs, root, now):
    seen = {"first_seen_at": now, "seen_at": now, "measured_at": now, "reason": Reason.STRAY_FILE, "kind": "stray"}
    for path in ("FLOW_01/x", "FLOW_012/x", "flow_01/x", "FLOW_01", "x"):
        Orphan.objects.create(root=root, path=path, **seen)
    text = page(keeper(equipment="FLOW_01"))
    shown = {orphan.path for orphan in Orphan.objects.all() if f"orphan-{orphan.pk}" in text}
    assert shown == {"FLOW_01/x", "FLOW_01"}


def test_a_batch_that_was_paused_and_forgotten_is_told_with_its_next_step(keeper, people, runs, now):
    batch = ClearBatch.objects.create(
        actor="jlee",
        digest="d",
        created_at=now - timedelta(hours=3),
        paused_at=now - timedelta(hours=2),
        paused_by="ada",
    )
    attempt = queue.request_clear(runs[SAFE], actor="jlee", now=now)
    before = page(people.viewer)
    attempt.batch = batch
    attempt.save()
    text = page(people.viewer)
    assert int(nav(text)) == listed(text) == int(nav(before)) + 1
    assert "A batch of clears was paused and not resumed: its runs wait." in text
    assert "paused by ada, asked for by jlee" in text
    assert "2 h ago" in text
    assert f'href="/batches/{batch.pk}/"' in text
    assert "paused and not resumed" not in page(keeper(equipment="FLOW_01"))
    attempt.delete()
    assert "paused and not resumed" not in page(people.viewer)


def test_a_user_without_this_root_sees_nothing(keeper, people, found, root, now):
    other = StagingRoot.objects.create(name="other", host=root.host, path="/other", discovered_at=now)
    sweep = Sweep.objects.create(root=root, kind="timed", host="lab-pc", now=now, started_at=now)
    SweepBreaker.objects.create(root=root, sweep=sweep, kind="share", detail="94 %", opened_at=now)
    StagingRoot.objects.filter(pk=root.pk).update(problem=Reason.ROOT_NOT_MOUNTED)
    client = keeper(root=other)
    text = page(client)
    assert "All is well." in text
    assert root.name not in text.split("<main", 1)[1].replace("label", "")
    for orphan in found.values():
        assert client.post(f"/problems/{orphan.pk}/look/").status_code == 404
    Access.objects.all().delete()
    assert "All is well." in page(people.viewer)


def test_look_again_needs_clear_on_that_root(people, found, root):
    user = User.objects.get(username="viewer")
    user.user_permissions.add(Permission.objects.get(codename="clear_run"))
    other = StagingRoot.objects.create(name="other", host=root.host, path="/other")
    Access.objects.create(user=user, root=other)
    assert "/look/" not in page(people.viewer)
    assert people.viewer.post(f"/problems/{found['stray'].pk}/look/").status_code == 403
    Access.objects.create(user=user, root=root, equipment="CONFOCAL_01")
    people.viewer.force_login(user)
    assert page(people.viewer).count("/look/") == 2


@pytest.mark.parametrize("table", ["orphan", "alert"])
def test_the_admin_shows_them_all_and_changes_none(people, found, now, table):
    alerts.open_alert(AlertKind.CLUSTER, "clear\u202e on lab-pc", reason=Reason.CLUSTER_SILENT, now=now)
    answer = people.admin.get(f"/admin/cleanup/{table}/")
    assert answer.status_code == 200
    assert "\u202e" not in answer.content.decode()
    assert people.admin.post(f"/admin/cleanup/{table}/add/").status_code == 403
