"""The page of one run: history, gates, attempts, ledger, and where the data is."""

import pytest

from cleanup import clearing, queueing
from cleanup.models import LedgerEntry, Run
from cleanup.policy.gates import Gate
from cleanup.policy.reasons import Reason
from tests.views.conftest import BROKEN, EXTRA, QUEUED, SAFE


def page(client, run):
    response = client.get(f"/runs/{run.pk}/")
    assert response.status_code == 200
    return response.content.decode()


def test_only_people_with_a_role_may_look(people, runs):
    assert people.nobody.get(f"/runs/{runs[SAFE].pk}/").status_code == 302
    assert people.stranger.get(f"/runs/{runs[SAFE].pk}/").status_code == 403
    assert people.viewer.get(f"/runs/{runs[SAFE].pk}/").status_code == 200


def test_every_gate_and_the_whole_history(people, runs):
    text = page(people.viewer, runs[SAFE])
    for gate in Gate:
        assert f'scope="row">{gate}</th>' in text
    assert "policy_manual" in text
    assert "Concerns the schedule only" in text
    assert text.count('<time datetime="2026-04-17T') >= 4
    assert "2026-04-17 16:15:43 UTC" in text
    assert "files_received: 7" in text
    assert f"nas_path: {SAFE}" in text
    assert "2 min ago" in text


def test_a_waiting_gate_tells_when_it_opens(people, runs, policy):
    policy(mode="scheduled", retain_hours=24 * 60)
    text = page(people.viewer, runs[SAFE])
    assert "Opens in 1 day 9 h" in text
    assert "2026-06-16 16:15:43 UTC" in text


@pytest.mark.parametrize(("path", "reason"), [(EXTRA, Reason.NOT_IN_MANIFEST), (BROKEN, Reason.INGEST_UNREADABLE)])
def test_a_blocked_run_names_code_sentence_and_detail(people, runs, path, reason):
    text = page(people.viewer, runs[path])
    assert f">{reason}</code>" in text
    assert reason.sentence.replace("'", "&#x27;") in text


def test_buttons_are_for_operators_and_runs_that_may_go(people, runs):
    assert 'id="clear"' in page(people.operator, runs[SAFE])
    assert 'id="clear"' not in page(people.viewer, runs[SAFE])
    assert 'id="clear"' not in page(people.operator, runs[QUEUED])


def test_a_live_page_without_scripts_reloads_itself(people, runs, now):
    assert "http-equiv" not in page(people.operator, runs[SAFE])
    queueing.request_clear(runs[SAFE], actor="mkhan", now=now)
    assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in page(people.operator, runs[SAFE])


@pytest.mark.django_db(transaction=True)
def test_a_cleared_run_tells_where_its_data_is_and_how_that_was_proven(people, runs, lab, now):
    clearing.clear_run(runs[SAFE], now=now, actor="mkhan", note="disk is full")
    text = page(people.viewer, runs[SAFE])
    assert f"{lab.nas}/{SAFE}" in text
    assert "Proven by <strong>checksum</strong>" in text
    assert "Every byte was read again on both sides." in text
    assert "as they stood when it was cleared" in text
    assert "disk is full" in text
    entries = LedgerEntry.objects.filter(run=runs[SAFE])
    assert {entry.kind for entry in entries} == {"authorised", "completed"}
    assert "Authorised" in text
    assert "Completed" in text


def test_a_run_nobody_has_looked_at(people, runs):
    Run.objects.filter(pk=runs[SAFE].pk).update(facts={}, looked_at=None, bytes=None, files=None)
    assert Reason.NOT_LOOKED_AT.sentence.replace("'", "&#x27;") in page(people.viewer, runs[SAFE])


def test_few_queries(people, runs, now, django_assert_max_num_queries):
    queueing.request_clear(runs[SAFE], actor="mkhan", now=now)
    with django_assert_max_num_queries(31):
        page(people.operator, runs[SAFE])
