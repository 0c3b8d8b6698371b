import html
import re
import uuid
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django_q.models import OrmQ

from cleanup.clears import preview, settlement
from cleanup.lab import readiness
from cleanup.models import Access, ClearAttempt, ClearBatch, DiskUsage, Phase, Run, StagingRoot
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.runs import run_status
from tests.tools.pages import BROKEN, EXTRA, QUEUED, SAFE, TEST_RUN, TOUCHED

pytestmark = pytest.mark.one_engine


HTMX = {"HX-Request": "true"}
ROOT = "/clear/?root=lab"


def text_of(response, status=200):
    assert response.status_code == status
    return html.unescape(response.content.decode())


def form_of(text, **more):
    found = dict(re.findall(r'name="(runs|digest|batch)" value="([^"]*)"', text))
    return {**found, **more}


def ask(client, address=ROOT, **more):
    return client.post(address, form_of(text_of(client.get(address))), headers=more.get("headers", {}))


@pytest.fixture
def batch(people, runs, now):
    ask(people.operator)
    return ClearBatch.objects.get()


def pick(client, *chosen):
    session = client.session
    session["selection"] = [run.pk for run in chosen]
    session.save()


def page_of(batch):
    return f"/batches/{batch.pk}/"


# The question


def test_only_who_may_clear_is_asked(people, runs):
    for address in (ROOT, "/clear/"):
        assert people.nobody.get(address).status_code == 302
        assert people.nobody.post(address).status_code == 302
        for client in (people.viewer, people.stranger):
            assert client.get(address).status_code == 403
            assert client.post(address).status_code == 403
    assert not ClearAttempt.objects.exists()


def test_other_methods_are_refused(people, runs):
    for method in (people.operator.put, people.operator.patch, people.operator.delete):
        assert method(ROOT).status_code == 405


def test_without_its_token_a_post_does_nothing(people, runs):
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get(username="operator"))
    wish = form_of(text_of(client.get(ROOT)))
    assert client.post(ROOT, wish).status_code == 403
    assert not ClearAttempt.objects.exists()


def test_every_safe_run_of_a_root_is_shown_and_why_the_rest_stays(people, runs, lab):
    text = text_of(people.operator.get(ROOT))
    assert "Clear 2 runs?" in text
    for path in (SAFE, TEST_RUN):
        assert f"{lab.nas}/{path}" in text
    for path in (QUEUED, EXTRA, TOUCHED, BROKEN):
        assert f"{lab.nas}/{path}" not in text
    for reason in (Reason.NOT_SYNC_VERIFIED, Reason.NOT_IN_MANIFEST, Reason.INGEST_UNREADABLE):
        assert reason.sentence in text
    files, size = (sum(getattr(runs[path], name) for path in (SAFE, TEST_RUN)) for name in ("files", "bytes"))
    assert f"{files} files" in text
    assert f"{size:,} bytes" in text
    assert "The same for all: Every byte is read again." in text
    assert text.count("Every byte is read again.") == 1
    assert not ClearAttempt.objects.exists()


def test_the_disk_before_and_after_is_told_where_it_was_measured(people, runs, root, now):
    for path, size in ((SAFE, 300_000_000_000), (TEST_RUN, 0)):
        Run.objects.filter(run_path=path).update(facts={**runs[path].facts, "allocated_bytes": size})
    DiskUsage.objects.create(root=root, at=now - timedelta(minutes=2), total_bytes=10**12, free_bytes=6 * 10**10)
    text = text_of(people.operator.get(ROOT))
    assert "94 % full" in text
    assert "would be 64 %" in text
    assert "360.0 GB free" in text


def test_the_selected_runs_are_shown_with_those_that_stay(people, runs):
    pick(people.operator, runs[SAFE], runs[TOUCHED], runs[EXTRA])
    text = text_of(people.operator.get("/clear/"))
    assert "Clear 2 runs?" in text
    assert "go only if every byte is still the same" in text
    assert "The same for all" not in text
    assert "Every byte is compared: files are newer than the verification." in text
    assert text.count("Every byte is read again.") == 1
    assert "What stays of what you asked for: 1 run" in text
    assert Reason.NOT_IN_MANIFEST.sentence in text


def test_an_empty_selection_is_no_error(people, runs):
    assert "Nothing to clear" in text_of(people.operator.get("/clear/"))
    people.operator.post("/clear/", {"runs": "", "digest": "", "batch": ""})
    assert not ClearBatch.objects.exists()


def test_a_root_without_view_is_not_found_and_one_without_clear_is_refused(people, runs, root):
    assert people.operator.get("/clear/?root=nowhere").status_code == 404
    other = StagingRoot.objects.create(name="other", host="elsewhere", path="/data/other")
    Access.objects.filter(group__name="operator").update(root=other)
    assert people.operator.get(ROOT).status_code == 404
    User.objects.get(username="operator").groups.add(Group.objects.get(name="viewer"))
    assert people.operator.get(ROOT).status_code == 403
    assert people.operator.post(ROOT).status_code == 403


def test_runs_that_are_only_visible_are_told_apart_from_those_that_go(people, runs):
    text = text_of(people.operator.get(ROOT))
    Access.objects.filter(group__name="operator").update(equipment="FLOW_01")
    User.objects.get(username="operator").groups.add(Group.objects.get(name="viewer"))
    answer = people.operator.post(ROOT, form_of(text))
    assert "You may see them and not clear them" in text_of(answer, 409)
    assert not ClearAttempt.objects.exists()


def test_nothing_is_offered_where_the_root_is_in_trouble(people, runs):
    StagingRoot.objects.update(problem=Reason.ROOT_NOT_MOUNTED)
    text = text_of(people.operator.get(ROOT))
    assert "Clear 2 runs" not in text
    assert Reason.ROOT_NOT_MOUNTED.sentence in text


def test_names_from_instruments_are_spelled_out(people, runs):
    Run.objects.filter(run_path=SAFE).update(leaf="Run_\u202e<b>", equipment="<i>\u200b")
    answer = people.operator.get(ROOT)
    text = text_of(answer)
    assert "Run_\\u202e<b>" in text
    assert "<b>" not in answer.content.decode()


def test_what_hinders_the_host_is_asked_once_a_page(people, runs, monkeypatch):
    asked = []
    monkeypatch.setattr(readiness, "hindrances", lambda: asked.append(True) or ())
    for address in (ROOT, f"/runs/{runs[SAFE].pk}/clear/"):
        asked.clear()
        text_of(people.operator.get(address))
        assert len(asked) == 1


def test_as_many_queries_for_many_runs_as_for_few(people, runs, many):
    from django.db import connection

    def queries():
        run_status.judge_stale(runs[SAFE].root.discovered_at + timedelta(minutes=2))
        with CaptureQueriesContext(connection) as seen:
            text_of(people.operator.get(ROOT))
        return len(seen)

    few = queries()
    many(60)
    assert "Clear 62 runs?" in text_of(people.operator.get(ROOT))
    assert queries() <= few < 60


# The request


def test_a_request_leads_to_its_batch(people, runs, lab):
    pick(people.operator, runs[SAFE], runs[TEST_RUN])
    answer = people.operator.post("/clear/", form_of(text_of(people.operator.get("/clear/")), note="disk is full"))
    batch = ClearBatch.objects.get()
    assert (answer.status_code, answer.url) == (302, page_of(batch))
    assert (batch.actor, batch.note) == ("operator", "disk is full")
    assert set(batch.attempts.values_list("run__run_path", "phase")) == {(SAFE, "queued"), (TEST_RUN, "queued")}
    assert OrmQ.objects.count() == 2
    assert people.operator.session.get("selection", []) == []


def test_with_htmx_the_browser_is_sent_there(people, runs):
    answer = ask(people.operator, headers=HTMX)
    assert answer.status_code == 200
    assert answer.headers["HX-Redirect"] == page_of(ClearBatch.objects.get())


def test_a_double_click_leads_to_the_same_batch(people, runs):
    wish = form_of(text_of(people.operator.get(ROOT)))
    first, second = (people.operator.post(ROOT, wish) for _ in range(2))
    assert first.url == second.url
    assert (ClearBatch.objects.count(), ClearAttempt.objects.count()) == (1, 2)


def test_a_stale_preview_asks_for_nothing_and_shows_what_has_changed(people, runs, policy):
    wish = form_of(text_of(people.operator.get(ROOT)))
    policy(proof="size", equipment="CONFOCAL_01")
    text = text_of(people.operator.post(ROOT, wish), 409)
    assert "Nothing has been asked for" in text
    assert SAFE in text
    assert not ClearBatch.objects.exists()
    again = text_of(people.operator.post(ROOT, wish, headers=HTMX))
    assert again.lstrip().startswith('<div id="clear"')
    assert "HX-Redirect" not in people.operator.post(ROOT, wish, headers=HTMX).headers
    assert people.operator.post(ROOT, form_of(text)).url == page_of(ClearBatch.objects.get())


def test_what_is_left_for_the_next_batch_is_said_again_after_a_refusal(people, runs, policy, monkeypatch):
    monkeypatch.setattr(preview, "MAX_RUNS", 1)
    text = text_of(people.operator.get(ROOT))
    assert "1 run is left for the next batch" in text
    wish = form_of(text)
    assert "1 run is left for the next batch" in text_of(people.operator.post(ROOT, {**wish, "note": "x" * 501}), 422)
    policy(proof="size")
    text = text_of(people.operator.post(ROOT, wish), 409)
    assert "1 run is left for the next batch" in text
    assert "being looked at again" not in text
    assert text.index("<h1") < text.index("<h2")


def test_nothing_is_promised_of_a_nas_that_is_not_asked(people, runs, policy):
    assert "The data stays on the NAS" in text_of(people.operator.get(ROOT))
    policy(proof="record", equipment="CONFOCAL_01", project="PROJ-0042", run_kind="experimental")
    text = text_of(people.operator.get(ROOT))
    assert "Of 1 run only the wizard's record says that its data is on the NAS" in text
    assert "The data of the others stays on the NAS" in text
    policy(proof="record")
    text = text_of(people.operator.get(ROOT))
    assert "stays on the NAS" not in text
    assert "Of 2 runs only the wizard's record says" in text
    assert "Should be at (not checked)" in text


def test_what_is_not_judged_yet_is_said(people, runs):
    assert "being looked at again" not in text_of(people.operator.get(ROOT))
    Run.objects.doubt()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cleanup.web.clears.confirm.JUDGED_AT_ONCE", 4)
        assert "2 runs are being looked at again" in text_of(people.operator.get(ROOT))


def test_another_operator_was_faster(people, runs):
    wish = form_of(text_of(people.operator.get(ROOT)))
    ask(people.admin)
    text = text_of(people.operator.post(ROOT, wish), 409)
    assert Reason.ALREADY_CLEARING.sentence in text
    assert ClearAttempt.objects.count() == 2


def test_many_runs_go_only_with_their_number_typed(people, runs, many):
    many(20)
    text = text_of(people.operator.get(ROOT))
    assert "type 22, the number of runs" in text
    wish = form_of(text)
    for typed in ("", "1", "222", "2.2", "drei"):
        assert "type 22" in text_of(people.operator.post(ROOT, {**wish, "typed": typed}), 422)
    assert not ClearBatch.objects.exists()
    assert people.operator.post(ROOT, {**wish, "typed": " 22 "}).status_code == 302
    assert ClearAttempt.objects.count() == 22


def test_a_terabyte_alone_goes_only_with_the_number_of_its_files_typed(people, runs):
    Run.objects.filter(run_path=SAFE).update(bytes=1_200_000_000_000, files=14_200)
    address = f"/runs/{runs[SAFE].pk}/clear/"
    text = text_of(people.operator.get(address))
    assert "type 14,200, the number of its files" in text
    wish = form_of(text)
    assert "type 14,200" in text_of(people.operator.post(address, wish), 422)
    dialog = people.operator.post(address, {**wish, "typed": "1"}, headers=HTMX)
    assert text_of(dialog).lstrip().startswith("<dialog")
    assert dialog.headers["HX-Retarget"] == "#slot"
    assert not ClearAttempt.objects.exists()
    assert people.operator.post(address, {**wish, "typed": "14,200"}).status_code == 302
    assert ClearAttempt.objects.get().batch is None


def test_one_run_that_changed_is_shown_anew(people, runs):
    address = f"/runs/{runs[SAFE].pk}/clear/"
    wish = form_of(text_of(people.operator.get(address)))
    Run.objects.filter(run_path=SAFE).update(files=3)
    assert "Nothing has been asked for" in text_of(people.operator.post(address, wish), 409)
    dialog = people.operator.post(address, wish, headers=HTMX)
    assert "It has changed" in text_of(dialog)
    assert (dialog.headers["HX-Retarget"], dialog.headers["HX-Reswap"]) == ("#slot", "innerHTML")
    assert "Nothing has been asked for" in text_of(people.operator.post(address), 409)  # nor without any digest
    assert not ClearAttempt.objects.exists()


def test_a_bad_form_does_nothing(people, runs):
    good = form_of(text_of(people.operator.get(ROOT)))
    bad = {"note": "x" * 501, "batch": "not a key", "runs": "9" * 50_000, "typed": "1" * 30, "digest": "x" * 100}
    for name, value in bad.items():
        assert people.operator.post(ROOT, {**good, name: value}).status_code == 422
        assert people.operator.post(ROOT, {**good, name: value}, headers=HTMX).status_code == 200
    assert not ClearBatch.objects.exists()


def test_forged_keys_ask_for_nothing(people, runs):
    good = form_of(text_of(people.operator.get(ROOT)))
    for forged in ("", "x", "-1", "0", "99999999999999999999", "1.x 1.y", "\u0663"):
        assert people.operator.post(ROOT, {**good, "runs": forged}).status_code == 409
    assert not ClearBatch.objects.exists()


# The batch


def test_a_batch_is_for_those_who_see_one_of_its_runs(people, runs, batch):
    assert people.nobody.get(page_of(batch)).status_code == 302
    assert people.stranger.get(page_of(batch)).status_code == 403
    assert "0 of 2 runs cleared" in text_of(people.viewer.get(page_of(batch)))
    Access.objects.filter(group__name="viewer").update(equipment="FLOW_01")
    assert people.viewer.get(page_of(batch)).status_code == 404
    assert people.viewer.get(f"/batches/{uuid.uuid4()}/").status_code == 404
    assert SAFE not in text_of(people.viewer.get("/batches/"))
    assert str(batch.pk) not in text_of(people.viewer.get("/batches/"))


def test_runs_that_somebody_may_not_see_are_only_counted(people, runs, batch, now):
    Run.objects.filter(run_path=TEST_RUN).update(equipment="FLOW_01")
    Access.objects.filter(group__name="viewer").update(equipment="FLOW_01")
    safe, hidden = batch.attempts.get(run__run_path=TEST_RUN), batch.attempts.get(run__run_path=SAFE)
    hidden.advance([Phase.QUEUED], Phase.INTENT, now=now, detail="secret")
    text = text_of(people.viewer.get(page_of(batch)))
    assert safe.run.run_path in text
    assert "a run that you may not see" in text
    settlement.finish_without_clear(hidden, Phase.REFUSED, Finding(Reason.NAS_TIMEOUT, "secret"), now=now)
    text = text_of(people.viewer.get(page_of(batch)))
    assert "1 run more that you may not see" in text
    for words in (SAFE, "secret"):
        assert words not in text


def test_only_who_may_clear_all_its_runs_steers_a_batch(people, runs, batch):
    addresses = [f"{page_of(batch)}{deed}/" for deed in ("pause", "resume", "stop")]

    def answers(client, how="post"):
        return {getattr(client, how)(address).status_code for address in addresses}

    assert answers(people.nobody) == {302}
    assert answers(people.viewer) == {403}
    assert answers(people.operator, "get") == {405}
    Access.objects.filter(group__name="operator").update(equipment="FLOW_01")
    assert answers(people.operator) == {404}
    User.objects.get(username="operator").groups.add(Group.objects.get(name="viewer"))
    assert answers(people.operator) == {403}
    assert "Pause" not in text_of(people.operator.get(page_of(batch)))
    batch.refresh_from_db()
    assert (batch.paused_at, batch.stopped_at) == (None, None)


def test_pause_go_on_and_stop(people, runs, batch):
    answer = people.operator.post(f"{page_of(batch)}pause/")
    assert (answer.status_code, answer.url) == (302, page_of(batch))
    text = text_of(people.operator.get(page_of(batch)))
    assert "Paused" in text
    assert "Go on" in text
    text = text_of(people.operator.post(f"{page_of(batch)}resume/", headers=HTMX))
    assert "Paused" not in text
    assert 'hx-trigger="every 1s"' in text
    text = text_of(people.operator.post(f"{page_of(batch)}stop/", headers=HTMX))
    assert "2 withdrawn" in text
    assert "every 1s" not in text
    assert {attempt.reason for attempt in batch.attempts.all()} == {Reason.WITHDRAWN}
    for deed in ("pause", "resume", "stop"):  # too late, and harmless
        assert people.operator.post(f"{page_of(batch)}{deed}/").status_code == 302


def test_a_batch_tells_what_became_of_each_run(people, runs, batch, now):
    done, refused = batch.attempts.get(run__run_path=SAFE), batch.attempts.get(run__run_path=TEST_RUN)
    done.advance([Phase.QUEUED], Phase.DONE, now=now, freed_files=142, freed_bytes=3_100_000_000)
    settlement.finish_without_clear(refused, Phase.REFUSED, Finding(Reason.NAS_TIMEOUT, "nas01"), now=now)
    text = text_of(people.operator.get(page_of(batch)))
    for words in ("1 of 2 runs cleared", "3.10 GB", "1 stayed", Reason.NAS_TIMEOUT.sentence, "nas01"):
        assert words in text
    assert Reason.NAS_TIMEOUT.advice in text
    assert "every 1s" not in text
    assert "http-equiv" not in text


def test_an_open_batch_refreshes_itself_without_scripts_too(people, runs, batch, beating):
    text = text_of(people.operator.get(page_of(batch)))
    assert '<noscript><meta http-equiv="refresh"' in text
    assert "No task cluster is answering" in text  # the one that beats serves another host


def test_absurd_pages_are_the_nearest_one(people, runs, batch):
    for number in ("0", "-3", "99", "x", ""):
        assert SAFE in text_of(people.operator.get(f"{page_of(batch)}?page={number}"))


def test_the_list_of_batches(people, runs, batch):
    text = text_of(people.operator.get("/batches/"))
    assert f'href="{page_of(batch)}"' in text
    assert "2 runs to come" in text
    people.operator.post(f"{page_of(batch)}stop/")
    assert "Stopped" in text_of(people.operator.get("/batches/"))


def test_few_queries_however_large_the_batch(people, runs, many, monkeypatch):
    from django.db import connection

    monkeypatch.setattr(preview, "CONFIRM_ABOVE_RUNS", 1000)
    many(60)
    ask(people.operator)
    with CaptureQueriesContext(connection) as seen:
        text_of(people.operator.get(page_of(ClearBatch.objects.get()), headers=HTMX))
    assert len(seen) < 25
