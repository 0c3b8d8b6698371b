"""What is cleared is what one preview has shown: without the runs that lost their tick, and at the time asked for."""

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from cleanup.clears import waiting_batches
from cleanup.models import ClearAttempt, ClearBatch, Run
from tests.tools.pages import SAFE, TEST_RUN, TOUCHED

pytestmark = pytest.mark.one_engine

ROOT = "/clear/?root=lab"
HTMX = {"HX-Request": "true"}


def text_of(answer: Any) -> str:
    return html.unescape(answer.content.decode())


def form_of(text: str) -> dict[str, Any]:
    """What a browser would send: hidden fields, and the boxes that have a tick."""
    found = dict(re.findall(r'name="(runs|digest|batch|ticks|unticked)" value="([^"]*)"', text))
    boxes = re.findall(r'<input class="tick"[^>]*value="(\d+)"( checked)?', text)
    return {**found, "go": [key for key, checked in boxes if checked]}


def keys(runs: dict[str, Run], *paths: str) -> set[int]:
    return {runs[path].pk for path in paths}


def asked_for() -> set[int]:
    return set(ClearAttempt.objects.values_list("run", flat=True))


def test_a_run_without_its_tick_stays_after_a_new_preview(people: Any, runs: dict[str, Run]) -> None:
    sent = form_of(text_of(people.operator.get(ROOT)))
    assert {int(key) for key in sent["go"]} >= keys(runs, SAFE, TEST_RUN)
    sent["go"].remove(str(runs[SAFE].pk))
    answer = people.operator.post(ROOT, {**sent, "note": "why not"})
    text = text_of(answer)
    assert not ClearBatch.objects.exists()  # the question was about another set of runs
    assert "Nothing has been asked for yet" in text
    assert "1 run without a tick stays." in text
    assert 'value="why not"' in text
    again = form_of(text)
    assert str(runs[SAFE].pk) not in again["go"]
    assert again["digest"] != sent["digest"]
    assert people.operator.post(ROOT, again).status_code == 302
    assert asked_for() == {int(key) for key in again["go"]}
    assert runs[SAFE].pk not in asked_for()


def test_a_tick_may_be_given_back(people: Any, runs: dict[str, Run]) -> None:
    first = form_of(text_of(people.operator.get(ROOT)))
    without = form_of(text_of(people.operator.post(ROOT, {**first, "go": [str(runs[TEST_RUN].pk)]})))
    assert {int(key) for key in without["go"]} == keys(runs, TEST_RUN)
    back = form_of(text_of(people.operator.post(ROOT, {**without, "go": first["go"]})))
    assert (set(back["go"]), back["digest"]) == (set(first["go"]), first["digest"])
    assert people.operator.post(ROOT, back).status_code == 302
    assert asked_for() == {int(key) for key in first["go"]}


def test_a_page_with_scripts_asks_at_each_tick_and_that_clears_nothing(people: Any, runs: dict[str, Run]) -> None:
    sent = form_of(text_of(people.operator.get(ROOT)))
    same = people.operator.post(ROOT, {**sent, "again": "1"}, headers=HTMX)  # ticks as before, and not a click
    assert "data-said" in text_of(same)
    assert not ClearBatch.objects.exists()
    sent["go"] = []
    none = text_of(people.operator.post(ROOT, {**sent, "again": "1"}, headers=HTMX))
    assert "You have taken the tick from every run." in none
    assert not ClearBatch.objects.exists()


def test_ticks_that_are_made_up_clear_nothing_else(people: Any, runs: dict[str, Run]) -> None:
    sent = form_of(text_of(people.operator.get(ROOT)))
    outside = Run.objects.exclude(pk__in=sent["go"]).values_list("pk", flat=True)[0]
    text = text_of(people.operator.post(ROOT, {**sent, "go": [*sent["go"], str(outside)]}))
    assert not ClearBatch.objects.exists()
    assert set(form_of(text)["go"]) == set(sent["go"])


def test_the_question_says_how_long_and_adds_up_by_instrument_and_project(people: Any, runs: dict[str, Run]) -> None:
    session = people.operator.session
    session["selection"] = [runs[path].pk for path in (SAFE, TEST_RUN, TOUCHED)]
    session.save()
    text = " ".join(re.sub(r"<[^>]+>", " ", text_of(people.operator.get("/clear/"))).split())
    assert "How long it takes is not known yet" in text
    assert re.search(r"By instrument Runs Size CONFOCAL_01 2 \S+ k?B FLOW_01 1 ", text)
    assert re.search(r"By project Runs Size PROJ-0042 2 \S+ k?B PROJ-0060 1 ", text)
    one = " ".join(re.sub(r"<[^>]+>", " ", text_of(people.operator.get(f"/runs/{runs[SAFE].pk}/clear/"))).split())
    assert "How long it takes is not known yet" in one


# At a given time


def place_later(client: Client, **more: Any) -> Any:
    sent = form_of(text_of(client.get(ROOT)))
    return client.post(ROOT, {**sent, "when": "later", "starts": "22:00", **more})


def test_a_batch_waits_for_its_time_and_can_be_called_off(people: Any, runs: dict[str, Run], now: Any) -> None:
    assert place_later(people.operator).status_code == 302
    batch = ClearBatch.objects.get()
    assert batch.starts_at == now.replace(hour=22)
    assert not ClearAttempt.objects.exists()
    address = f"/batches/{batch.pk}/"
    assert "It begins tonight at 22:00" in text_of(people.operator.get(address))
    assert "Waits" in text_of(people.operator.get("/batches/"))
    assert people.viewer.get(address).status_code == 200
    assert "Call it off" not in text_of(people.viewer.get(address))
    assert people.viewer.post(f"{address}stop/").status_code == 403
    said = text_of(people.operator.post(f"{address}stop/", headers=HTMX))
    assert "Called off" in said
    assert waiting_batches.begin_due(batch.starts_at) == 0
    assert "by operator" in text_of(people.operator.get(address))


def test_only_who_may_clear_all_its_runs_or_asked_for_it_calls_it_off(people: Any, runs: Any, keeper: Any) -> None:
    place_later(people.operator)
    batch = ClearBatch.objects.get()
    flow = keeper(equipment="FLOW_01")
    assert flow.post(f"/batches/{batch.pk}/stop/").status_code in (403, 404)
    admin = people.admin.post(f"/batches/{batch.pk}/stop/")
    assert admin.status_code == 302
    batch.refresh_from_db()
    assert batch.stopped_by == "admin"


def test_what_was_left_out_stands_on_its_page(people: Any, runs: dict[str, Run], now: Any) -> None:
    place_later(people.operator)
    batch = ClearBatch.objects.get()
    Run.objects.filter(pk=runs[SAFE].pk).update(bytes=1)
    waiting_batches.begin_due(batch.starts_at)
    text = text_of(people.operator.get(f"/batches/{batch.pk}/"))
    assert "Left out when the batch began" in text
    assert "It has changed since it was asked for" in text


def test_a_batch_of_which_nothing_could_go_says_so(people: Any, runs: dict[str, Run], now: Any) -> None:
    place_later(people.operator)
    batch = ClearBatch.objects.get()
    User.objects.filter(username="operator").update(is_active=False)
    waiting_batches.begin_due(batch.starts_at)
    text = text_of(people.admin.get(f"/batches/{batch.pk}/"))
    assert "Nothing could go" in text
    assert "operator may not clear it any more." in text


def test_one_that_was_called_off_by_itself_is_a_problem(people: Any, runs: dict[str, Run], now: Any) -> None:
    place_later(people.operator)
    ClearBatch.objects.update(starts_at=now - timedelta(hours=7))
    assert waiting_batches.call_off_late(now) == 1
    assert "could not begin in time and was called off" in text_of(people.operator.get("/problems/"))
    assert "It could not begin for six hours" in text_of(
        people.operator.get(f"/batches/{ClearBatch.objects.get().pk}/")
    )


@pytest.mark.parametrize("starts", ["", "25:00", "soon"])
def test_a_time_that_is_none_asks_again(people: Any, runs: dict[str, Run], starts: str) -> None:
    answer = place_later(people.operator, starts=starts)
    assert answer.status_code == 422
    assert 'role="alert"' in text_of(answer)
    assert not ClearBatch.objects.exists()
