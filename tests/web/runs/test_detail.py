import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from cleanup.clears import protocol, queue
from cleanup.clears.queue import ClearRequest
from cleanup.ledger import book
from cleanup.ledger import entries as ledger_entries
from cleanup.models import (
    Access,
    ClearAttempt,
    ClearBatch,
    Hold,
    IngestEvent,
    LedgerEntry,
    LedgerKind,
    Phase,
    Requester,
    Run,
    StagingRoot,
)
from cleanup.rules.decisions import Gate
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.holds import holds
from cleanup.sweeps import all_roots
from cleanup.text.check_names import check_name
from cleanup.web.runs import timeline
from tests.tools.pages import BROKEN, EXTRA, QUEUED, SAFE, TEST_RUN

pytestmark = pytest.mark.one_engine


NASTY = "bidi \u202e control \x07 <script>alert(1)</script> " + "w" * 200


@pytest.fixture
def safe(lab, root, now):
    lab.run(SAFE)
    discovery.discover(root, now=now - timedelta(minutes=2))
    return Run.objects.with_root().get()


def page(client, run):
    response = client.get(f"/runs/{run.pk}/")
    assert response.status_code == 200
    return response.content.decode()


def words(text):
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def card(text, name):
    return words(text.split(f'id="{name}"')[1].split("</section>")[0])


def titles(text):
    return [
        words(title) for title in re.findall(r"<strong>(.*?)</strong>", text.split('id="life"')[1].split("</ol>")[0])
    ]


def tried(run, now, **fields):
    asked = {"requester": "operator", "actor": "mkhan", "host": run.root.host, "phase": Phase.REFUSED}
    ended = {"reason": Reason.NAS_MISSING_FILE, "detail": "1 of 7", "phase_at": now - timedelta(minutes=59)}
    return ClearAttempt(**{"run": run, "created_at": now - timedelta(hours=1), **asked, **ended, **fields})


def client_with(*places, permissions=("view_run", "clear_run", "hold_run")):
    user = User.objects.create_user("somebody")
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    for place in places:
        Access.objects.create(user=user, **place)
    client = Client()
    client.force_login(user)
    return client


def test_only_people_with_a_role_may_look(people, safe):
    assert people.nobody.get(f"/runs/{safe.pk}/").status_code == 302
    assert people.stranger.get(f"/runs/{safe.pk}/").status_code == 403
    assert people.viewer.get(f"/runs/{safe.pk}/").status_code == 200


def test_every_gate_and_the_whole_history(people, safe):
    text = page(people.viewer, safe)
    for gate in Gate:
        assert f'scope="row">{check_name(gate)} <code class="muted code">{gate}</code></th>' in text
    assert "policy_manual" in text
    assert "Only automatic clearing asks for this" in text
    assert text.count('<time datetime="2026-04-17T') >= 4
    assert 'title="2026-04-17 16:15:43 UTC">2026-04-17 16:15</time>' in text
    assert "files_received: 7" in text
    assert f"nas_path: {SAFE}" in text
    assert "2 min ago" in text


def test_a_gate_says_when_it_was_seen_what_it_goes_by(people, safe):
    text = page(people.viewer, safe)
    rows = re.findall(r'<tr role="row" class.*?</tr>', text.split('id="gates"')[1].split("</section>")[0], re.S)
    assert len(rows) == len(Gate)
    by_gate = {Gate(re.search(r"code\">(\w+)<", row)[1]): words(row).split("seen ")[-1] for row in rows}
    on_disk = {Gate.STATE, Gate.PATH, Gate.UNCHANGED, Gate.PROOF}
    assert {gate for gate, age in by_gate.items() if age == "2 min ago"} == on_disk
    assert {gate for gate, age in by_gate.items() if age == "now"} == set(Gate) - on_disk


def test_a_run_that_waits_for_a_click_is_not_called_blocked(people, safe):
    """A manual policy is no trouble: its check stands apart, and all others have passed and are folded."""
    text = page(people.viewer, safe)
    checks = text.split('id="gates"')[1].split("</section>")[0]
    shown, _details, folded = checks.partition('<details id="passed">')
    assert "10 of 10 checks passed" in words(folded.split("</summary>")[0])
    assert re.findall(r'<span class="mark (\w+)">([^<]+)<', shown) == [("rest", "only by a click")]
    assert "It waits for a click." in card(text, "head")
    assert not re.search(r'class="mark block"', text)


def test_what_has_not_passed_stands_open(people, runs):
    text = page(people.viewer, runs[EXTRA])
    checks = text.split('id="gates"')[1].split("</section>")[0]
    shown, _details, folded = checks.partition('<details id="passed">')
    assert re.findall(r'<span class="mark block">([^<]+)<', shown) == ["blocked", "blocked"]
    assert Reason.NOT_IN_MANIFEST.sentence in words(shown)
    assert "8 of 10 checks passed" in words(folded.split("</summary>")[0])
    assert "blocked" not in words(folded)


def test_the_verdict_comes_before_all_else(people, safe):
    text = page(people.viewer, safe)
    main = words(text.split('<main id="main"')[1].split('id="head"')[1])
    assert main.index("Safe to clear") < main.index("7 files") < main.index("Time line")


def test_at_record_no_gate_speaks_of_the_nas(people, safe, policy):
    policy(proof="record")
    text = card(page(people.viewer, safe), "gates")
    assert "Nothing is asked of the NAS." in text
    assert "The NAS has every file" not in text


def test_a_hidden_run_is_not_found(runs):
    client = client_with({"equipment": "FLOW_01"})
    assert client.get(f"/runs/{runs[EXTRA].pk}/").status_code == 200
    assert client.get(f"/runs/{runs[SAFE].pk}/").status_code == 404


def test_buttons_are_there_only_with_permission(safe, root):
    client = client_with({"root": None})
    assert 'id="clear"' in page(client, safe)
    User.objects.all().delete()
    looks = client_with({"root": root}, permissions=("view_run",))
    text = page(looks, safe)
    assert 'id="clear"' not in text
    assert 'id="hold"' not in text


def test_nothing_is_offered_on_a_root_that_is_not_there(people, safe):
    StagingRoot.objects.update(problem=Reason.ROOT_NOT_MOUNTED)
    text = page(people.operator, safe)
    assert 'id="clear"' not in text
    assert "is not there" in card(text, "head")


def test_a_waiting_gate_tells_when_it_opens(people, safe, policy):
    policy(mode="scheduled", retain_hours=24 * 60)
    text = page(people.viewer, safe)
    assert "Opens in 1 day 9 h" in text
    assert 'title="2026-06-16 16:15:43 UTC">2026-06-16 16:15</time>' in text


@pytest.mark.parametrize(("path", "reason"), [(EXTRA, Reason.NOT_IN_MANIFEST), (BROKEN, Reason.INGEST_UNREADABLE)])
def test_a_blocked_run_names_code_sentence_and_detail(people, runs, path, reason):
    text = page(people.viewer, runs[path])
    assert f">{reason}</code>" in text
    assert reason.sentence.replace("'", "&#x27;") in text


def test_buttons_are_for_operators_and_runs_that_may_go(people, runs):
    assert 'id="clear"' in page(people.operator, runs[SAFE])
    assert 'id="clear"' not in page(people.viewer, runs[SAFE])
    assert 'id="clear"' not in page(people.operator, runs[QUEUED])


def test_a_live_page_without_scripts_reloads_itself(people, safe, now):
    assert "http-equiv" not in page(people.operator, safe)
    queue.request_clear(safe, actor="mkhan", now=now)
    assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in page(people.operator, safe)


@pytest.mark.django_db(transaction=True)
def test_a_cleared_run_tells_what_was_on_staging(people, safe, lab, now):
    before = page(people.viewer, safe)
    assert "Staging and NAS" in card(before, "sides")
    assert "as it was on staging" not in card(before, "facts")
    protocol.clear_run(safe, now=now, actor="mkhan")
    attempt = ClearAttempt.objects.get()
    text = page(people.viewer, safe)
    sides = card(text, "sides")
    assert "What was on staging, and on the NAS last seen" in sides
    assert "Of this nothing is on staging any more: 13 files" in sides
    assert (attempt.freed_files, "Was on staging Was on the NAS" in sides) == (13, True)
    assert "The run as it was on staging" in card(text, "facts")
    assert "Files then 13" in card(text, "facts")
    assert "that were on staging" in card(text, "largest")


def test_a_cleared_run_tells_where_its_data_is_and_how_that_was_proven(people, safe, lab, now):
    protocol.clear_run(safe, now=now, actor="mkhan", note="disk is full")
    text = page(people.viewer, safe)
    assert f"{lab.nas}/{SAFE}" in text
    assert "Proven by <strong>checksum</strong>" in text
    assert "Every byte was read again on both sides." in text
    assert "as they stood when it was cleared" in text
    assert "disk is full" in text
    entries = LedgerEntry.objects.filter(run=safe)
    assert {entry.kind for entry in entries} == {"authorised", "completed"}
    assert "Authorised" in text
    assert "Completed" in text


def test_both_sides_stand_beside_each_other(people, safe, lab, root, now):
    (lab.twin() / "stack.ome.xml").write_bytes(b"other")
    (lab.twin() / "tiles/t_0002.tif").unlink()
    (lab.twin() / "more.txt").write_text("more")
    discovery.discover(root, now=now)
    text = page(people.viewer, Run.objects.get(pk=safe.pk))
    sides = card(text, "sides")
    assert "Data files 7 7" in sides
    assert "Missing there 1 file" in sides
    assert "Other size there 1 file" in sides
    assert "Only there 1 file" in sides
    assert "by size: not the same" in sides
    largest = card(text, "largest")
    assert "tiles/t_0000.tif staging 4.10 kB NAS 4.10 kB changed 2026-04-17" in largest
    assert "tiles/t_0002.tif staging 4.10 kB NAS missing" in largest
    assert "stack.ome.xml staging 1.80 kB NAS 5 B, another size" in largest


def test_a_nas_that_cannot_be_compared_says_why(people, runs, lab, root, now):
    lab.nas.rename(lab.nas.with_name("away"))
    discovery.discover(root, now=now)
    text = card(page(people.viewer, runs[SAFE]), "sides")
    assert Reason.NAS_NOT_MOUNTED.sentence in text
    assert "once the wizard has verified the run" in card(page(people.viewer, runs[QUEUED]), "sides")


def test_facts_that_an_older_version_has_stored_leave_the_page_whole(people, safe):
    new = ("data_files", "data_bytes", "largest", "twin")
    Run.objects.filter(pk=safe.pk).update(facts={name: safe.facts[name] for name in safe.facts if name not in new})
    text = page(people.operator, safe)
    assert 'id="clear"' in text
    assert 'id="largest"' not in text
    assert "has not been counted" in card(text, "sides")


def test_one_line_joins_record_holds_attempts_and_what_people_said(people, safe, now):
    hour = timedelta(hours=1)
    laid = holds.hold(safe, owner="jlee", reason="read again", until=now + hour, now=now - 5 * hour)
    holds.release(laid, actor="mkhan", now=now - 4 * hour)
    Hold.objects.create(run=safe, owner="ana", reason="", created_at=now - 4.5 * hour, until=now - 3 * hour)
    Hold.objects.create(run=safe, source="file", owner="fcs", reason="wait", created_at=now - 2.5 * hour)
    tried(safe, now, created_at=now - 2 * hour, phase_at=now - 2 * hour, note="disk is full").save()
    tried(safe, now, phase=Phase.ABORTED, requester="schedule", actor="", cause="retention+max_bytes").save()
    said = {"actor": "admin", "reason": "", "detail": "1:2:3 is now 4:5:6"}
    ledger_entries.write_entry(safe, kind=LedgerKind.REREGISTERED, now=now - timedelta(minutes=30), **said)
    text = page(people.viewer, safe)
    assert titles(text) == [
        "First seen on the staging disk",
        "Registered again",
        "Clear given up: nothing was removed",
        "Clear refused: nothing was removed",
        "Held by the file .exlab-hold",
        "Hold over",
        "Hold released",
        "Held",
        "Held",
        "sync verified",
        "sync queued",
        "complete",
        "staging",
    ]
    life = card(text, "life")
    assert "Held by jlee hold 2026-06-15 03:00 5 h ago reason: read again until: 15 June, 09:00" in life
    assert "Hold released by mkhan hold" in life
    assert "The NAS does not hold all files of the run. 1 of 7 asked for:" in life
    assert "reason given: disk is full" in life
    assert "The staging root held more bytes than it may." in life
    assert "1:2:3 is now 4:5:6" in life
    assert "2026-04-17 16:09 58 days ago · on labpc-04" in life


def test_an_instant_that_cannot_be_read_is_shown_in_its_place(people, runs, now):
    run = runs[QUEUED]
    entry = {"at": None, "at_text": "yester\u202eday", "host": "labpc-04", "digest": "f" * 64, "first_seen_at": now}
    IngestEvent.objects.create(run=run, position=3, state="sync_verified", extra={"bytes_more": 1_500_000}, **entry)
    text = page(people.viewer, run)
    assert titles(text)[1:4] == ["sync verified", "sync queued", "complete"]
    life = card(text, "life")
    assert "no usable time: yester\\u202eday" in life
    assert "first seen here: 2026-06-15 08:00" in life
    assert "bytes_more: 1.50 MB (1,500,000 bytes)" in life


def test_the_last_word_of_the_timed_pass_stands_there(people, safe, root, now):
    all_roots.sweep(now=now, timed=True)
    assert "The timed pass: left alone" in titles(page(people.viewer, safe))


def test_a_long_life_is_cut_in_its_middle_and_told_whole_when_asked(people, safe, now):
    for number in range(30):
        tried(safe, now, created_at=now - timedelta(hours=number), phase_at=now - timedelta(hours=number)).save()
    text = page(people.viewer, safe)
    assert len(titles(text)) == timeline.LATEST + timeline.FIRST
    assert titles(text)[-4:] == ["sync verified", "sync queued", "complete", "staging"]
    assert "Show all 35 (20 more between)" in card(text, "life")
    whole = people.viewer.get(f"/runs/{safe.pk}/?all=1").content.decode()
    assert len(titles(whole)) == 35
    assert "Show fewer" in whole


def test_the_longest_life_costs_as_many_queries_as_the_shortest(people, runs, now):
    def queries(run):
        with CaptureQueriesContext(connection) as context:
            text = people.operator.get(f"/runs/{run.pk}/?all=1").content.decode()
        return len(context), text

    run, other = runs[SAFE], runs[TEST_RUN]
    few = ClearAttempt.objects.bulk_create([tried(other, now)])
    attempts = ClearAttempt.objects.bulk_create([tried(run, now - timedelta(seconds=n)) for n in range(1000)])
    book.write(
        *(
            LedgerEntry(run=attempt.run, attempt=attempt, kind="refused", at=now, policy_version=0)
            for attempt in [*few, *attempts]
        )
    )
    book.write(
        *(LedgerEntry(run=run, kind="reregistered", at=now, policy_version=0, actor="admin") for _ in range(1000))
    )
    long, short = queries(run), queries(other)
    assert long[0] == short[0] + 2, "the clears and the ledger of a short life are read once for all cards"
    assert "the latest 20; the admin" in card(long[1], "attempts")
    assert "the latest 50 entries" in card(long[1], "ledger")
    assert f"This shows the latest {timeline.LONGEST}" in card(long[1], "life")
    assert len(long[1]) < 500_000


def test_what_instruments_and_people_wrote_is_made_visible(people, safe, lab, root, now):
    (lab.staging / SAFE / ("a\u202e<b>\x07" + "n" * 200)).write_bytes(b"x" * 9999)
    discovery.discover(root, now=now)
    Run.objects.filter(pk=safe.pk).update(project_name=NASTY[:255])
    entry = {"at": None, "at_text": NASTY[:64], "host": NASTY, "digest": "f" * 64, "first_seen_at": now}
    extra = {NASTY: {"deep": [NASTY] * 50}} | {f"more {number}": number for number in range(50)}
    IngestEvent.objects.create(run=safe, position=9, state="cleared", extra=extra, **entry)
    holds.hold(safe, owner=NASTY[:150], reason=NASTY, until=now + timedelta(days=1), now=now)
    gate = {"gate": NASTY, "verdict": "block", "reason": NASTY, "detail": NASTY, "opens_at": None}
    tried(safe, now, actor=NASTY[:150], host=NASTY, note=NASTY, detail=NASTY, cause=NASTY[:60], decision=[gate]).save()
    said = {"actor": NASTY[:150], "reason": NASTY[:40], "detail": NASTY}
    ledger_entries.write_entry(safe, kind=LedgerKind.REREGISTERED, now=now, **said)
    text = page(people.operator, safe)
    assert "\u202e" not in text
    assert "\x07" not in text
    assert "<script>alert" not in text
    assert "bidi \\u202e control \\x07 &lt;script&gt;" in text
    assert text.count("more 4") == 1
    assert "more 40" not in text


def test_a_run_that_was_declared_gone(people, safe, now):
    said = {"actor": "admin", "reason": Reason.MISSING_DIRECTORY, "detail": "taken to the archive"}
    ledger_entries.write_entry(safe, kind=LedgerKind.MARKED_GONE, now=now, **said)
    Run.objects.filter(pk=safe.pk).update(gone_at=now)
    text = page(people.operator, safe)
    assert titles(text)[0] == "Marked as gone"
    assert "taken to the archive" in card(text, "life")
    assert 'id="clear"' not in text
    assert 'id="hold"' not in text


def test_an_attempt_names_its_batch(people, safe, now):
    batch = ClearBatch.objects.create(actor="mkhan", digest="d", created_at=now)
    tried(safe, now, batch=batch).save()
    assert page(people.operator, safe).count(f'href="/batches/{batch.pk}/"') == 2


def test_while_a_clear_is_under_way_only_head_and_attempts_come_anew(people, safe, now):
    attempt = queue.request_clear(safe, actor="mkhan", now=now)
    assert f'hx-get="/runs/{safe.pk}/live/?phase=queued"' in page(people.operator, safe)
    asked = {"headers": {"hx-request": "true"}}
    same = people.operator.get(f"/runs/{safe.pk}/live/?phase=queued", **asked)
    assert "hx-retarget" not in same
    text = same.content.decode()
    assert re.findall(r'<(?:section|div)[^>]* id="(\w+)"', text) == ["head", "attempts"]
    assert 'id="attempts" hx-swap-oob="true"' in text
    attempt.advance([Phase.QUEUED], Phase.REFUSED, now=now, reason=Reason.HELD)
    changed = people.operator.get(f"/runs/{safe.pk}/live/?phase=queued", **asked)
    assert changed["HX-Retarget"] == "#run"
    assert changed.content.decode().lstrip().startswith('<div id="run"')
    assert "hx-swap-oob" not in changed.content.decode()
    assert "hx-get" not in changed.content.decode()


def test_a_run_without_a_look(people, safe):
    Run.objects.filter(pk=safe.pk).update(facts={}, looked_at=None, bytes=None, files=None)
    assert Reason.NOT_LOOKED_AT.sentence.replace("'", "&#x27;") in page(people.viewer, safe)


@pytest.mark.both_engines
def test_few_queries(people, safe, now, django_assert_max_num_queries):
    queue.request_clear(safe, actor="mkhan", now=now)
    # One for a comparison that a person may have asked for, one for new roots, one for runs that it may be.
    with django_assert_max_num_queries(34):
        page(people.operator, safe)


def test_a_clear_that_opens_the_files_of_the_twin_once_more_counts_them(people, safe, now):
    attempt = queue.new_attempt(safe, ClearRequest(requester=Requester.OPERATOR, actor="mkhan"), now=now)
    attempt.advance([Phase.QUEUED], Phase.INTENT, now=now)
    ClearAttempt.objects.filter(pk=attempt.pk).update(step="reopening", checked_files=1234)
    text = page(people.viewer, safe)
    assert "1,234 files on the NAS opened once more; nothing has been removed." in card(text, "head")
    assert "1,234 files on the NAS opened once more." in card(text, "attempts")
