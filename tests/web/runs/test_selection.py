"""Picked runs are kept from page to page."""

import re

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.test import Client

from cleanup.clears import protocol
from cleanup.models import Access, ClearAttempt, Run, StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.runs import picks
from cleanup.web.runs import selection
from tests.tools.pages import BROKEN, EXTRA, QUEUED, SAFE, TEST_RUN

pytestmark = pytest.mark.one_engine


HTMX = {"HX-Request": "true"}


def pick(client, action, runs=(), query="", **more):
    answer = client.post(
        f"/selection/{query}", {"action": action, "run": [run.pk for run in runs], **more}, headers=HTMX
    )
    assert answer.status_code == 200
    return answer.content.decode()


def picked(client):
    return set(client.session.get(selection.KEY, []))


def keys(*runs):
    return {run.pk for run in runs}


@pytest.fixture
def client_with(db):
    def client_with(codenames, **place):
        user = User.objects.create_user(f"user{User.objects.count()}")
        user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))
        Access.objects.create(user=user, **place)
        client = Client(raise_request_exception=False)
        client.force_login(user)
        return client

    return client_with


def test_only_those_who_may_clear_select(people, runs):
    assert people.viewer.post("/selection/", {"action": "clear"}).status_code == 403
    assert people.stranger.post("/selection/", {"action": "clear"}).status_code == 403
    assert people.nobody.post("/selection/", {"action": "clear"}).status_code == 302
    assert people.operator.get("/selection/").status_code == 405
    assert 'type="checkbox" id="run-' not in people.viewer.get("/runs/").content.decode()


def test_what_is_picked_is_told_with_its_size(people, runs):
    Run.objects.filter(pk=runs[SAFE].pk).update(bytes=3_000_000_000)
    text = pick(people.operator, "add", [runs[SAFE], runs[EXTRA]])
    assert "2 runs" in text
    assert "3.00 GB" in text
    assert "selected" in text
    text = pick(people.operator, "remove", [runs[EXTRA]])
    assert "1 run" in text
    assert picked(people.operator) == keys(runs[SAFE])
    assert "No run is selected." in pick(people.operator, "clear")
    assert picked(people.operator) == set()


def test_it_survives_filters_orders_and_pages(people, runs, many):
    many(120)
    pick(people.operator, "add", [runs[SAFE], runs[QUEUED]])
    for address in ("/runs/?sort=name", "/runs/?verdict=block", "/runs/?q=nothing", "/runs/?state=cleared"):
        assert "2 runs" in people.operator.get(address).content.decode().partition('id="selection"')[2]
    text = people.operator.get("/runs/?state=sync_queued").content.decode()
    assert f'name="run" value="{runs[QUEUED].pk}" aria-label="Select {runs[QUEUED].leaf}" checked' in text


def test_what_a_page_shows_is_taken_as_it_is_ticked(people, runs):
    pick(people.operator, "add", [runs[SAFE], runs[QUEUED]])
    shown = [runs[SAFE].pk, runs[EXTRA].pk]
    assert "data-picked" not in pick(people.operator, "these", [runs[EXTRA]], shown=shown)
    assert picked(people.operator) == keys(runs[EXTRA], runs[QUEUED])


def test_all_that_are_safe(people, runs):
    text = pick(people.operator, "all")
    assert picked(people.operator) == keys(runs[SAFE], runs[TEST_RUN])
    assert f'data-picked="{runs[SAFE].pk},{runs[TEST_RUN].pk}"' in text or str(runs[SAFE].pk) in text
    pick(people.operator, "clear")
    pick(people.operator, "all", query="?kind=test")
    assert picked(people.operator) == keys(runs[TEST_RUN])
    pick(people.operator, "clear")
    for query in ("?state=cleared", "?equipment=FLOW_01", "?verdict=block&q=FLOW"):
        pick(people.operator, "all", query=query)
        assert picked(people.operator) == set()
    StagingRoot.objects.update(problem=Reason.ROOT_NOT_MOUNTED)
    pick(people.operator, "all")
    assert picked(people.operator) == set()


def test_no_more_than_the_limit_is_picked(people, runs, many, monkeypatch):
    monkeypatch.setattr(selection, "MOST", 5)
    many(10)
    largest = Run.objects.get(leaf="Run_00007")
    Run.objects.filter(pk=largest.pk).update(bytes=10**12)
    people.operator.get("/runs/")
    pick(people.operator, "add", [runs[EXTRA]])
    pick(people.operator, "all")
    assert len(picked(people.operator)) == 5
    assert keys(largest, runs[EXTRA]) < picked(people.operator)
    before = picked(people.operator)
    assert "At most 5 runs can be selected." in pick(people.operator, "add", [runs[QUEUED]])
    assert picked(people.operator) == before
    answer = people.operator.post("/selection/", {"action": "add", "run": runs[QUEUED].pk}, follow=True)
    assert "At most 5 runs can be selected." in answer.content.decode()


def test_runs_that_are_gone_fall_out(people, runs, now, rf):
    pick(people.operator, "add", [runs[SAFE], runs[EXTRA]])
    protocol.clear_run(runs[SAFE], now=now, actor="mkhan")
    text = people.operator.get("/runs/").content.decode()
    assert "1 run" in text.partition('id="selection"')[2]
    request = rf.get("/")
    request.user, request.session = User.objects.get(username="operator"), people.operator.session
    assert selection.chosen(request) == [runs[EXTRA].pk]
    pick(people.operator, "add", [runs[BROKEN]])
    assert picked(people.operator) == keys(runs[EXTRA], runs[BROKEN])


def test_others_know_what_was_chosen_and_let_go_of_it(people, runs, rf):
    Run.objects.filter(pk=runs[EXTRA].pk).update(bytes=10**12)
    pick(people.operator, "add", [runs[SAFE], runs[EXTRA]])
    request = rf.get("/")
    request.user, request.session = User.objects.get(username="operator"), people.operator.session
    assert selection.chosen(request) == [runs[EXTRA].pk, runs[SAFE].pk]
    selection.forget(request, [runs[EXTRA].pk])
    assert selection.chosen(request) == [runs[SAFE].pk]
    selection.forget(request)
    assert selection.chosen(request) == []


def test_runs_without_clear_permission_cannot_be_picked(client_with, runs):
    client = client_with(["view_run", "clear_run"], equipment="FLOW_01")
    pick(client, "add", [runs[SAFE], runs[EXTRA]])
    assert picked(client) == keys(runs[EXTRA])
    pick(client, "clear")
    pick(client, "all")
    assert picked(client) == set()


@pytest.mark.parametrize("sent", [["x", "-1", "9" * 40, "\u0661", ""], ["0"], []])
def test_absurd_keys_are_nothing(people, runs, sent):
    answer = people.operator.post("/selection/", {"action": "add", "run": sent}, headers=HTMX)
    assert answer.status_code == 200
    assert picked(people.operator) == set()


def test_an_absurd_session_is_nothing(people, runs):
    session = people.operator.session
    session[selection.KEY] = {"a": ["b"]}
    session.save()
    assert people.operator.get("/runs/").status_code == 200
    pick(people.operator, "melt", [runs[SAFE]])
    assert picked(people.operator) == set()


def test_without_scripts_the_page_comes_back(people, runs):
    back = "/runs/?equipment=CONFOCAL_01"
    answer = people.operator.post("/selection/", {"action": "these", "run": runs[SAFE].pk, "next": back})
    assert (answer.status_code, answer.url) == (302, back)
    assert picked(people.operator) == keys(runs[SAFE])


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example", "javascript:alert(1)", ""])
def test_it_leads_nowhere_else(people, runs, elsewhere):
    answer = people.operator.post("/selection/", {"action": "clear", "next": elsewhere})
    assert answer.url == "/runs/"


# Two pages of one person


def shown_by(client, address="/runs/"):
    """What the list's form sends: the number of the selection's last change that it has seen, and its boxes."""
    text = client.get(address).content.decode()
    (version,) = set(re.findall(r'form="(?:picks|pick-all)" name="selection" value="(\d+)"', text))
    boxes = re.findall(r'name="run" value="(\d+)" aria-label="[^"]*"( checked)?', text)
    return {
        "selection": version,
        "shown": [int(key) for key, _checked in boxes],
        "run": [int(key) for key, checked in boxes if checked],
    }


def send(client, action, page, **more):
    answer = client.post("/selection/", {"action": action, **page, **more}, headers=HTMX)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.mark.both_engines
def test_a_page_that_was_left_open_picks_nothing_again(people, runs):
    pick(people.operator, "add", [runs[SAFE], runs[EXTRA]])
    old, new = shown_by(people.operator), shown_by(people.operator)
    assert sorted(old["run"]) == sorted([runs[SAFE].pk, runs[EXTRA].pk])
    send(people.operator, "these", {**new, "run": [runs[EXTRA].pk]})
    assert picked(people.operator) == keys(runs[EXTRA])
    # The old page ticks one more: what the other has dropped stays so, what it says of others counts, and it is told.
    text = send(people.operator, "these", {**old, "run": [*old["run"], runs[QUEUED].pk]})
    assert picked(people.operator) == keys(runs[EXTRA], runs[QUEUED])
    assert "1 run stays as another page has left it" in text
    assert "data-picked" in text
    assert "another page has left it" in send(people.operator, "add", {**old, "run": [runs[SAFE].pk]})
    # Nor does it let go of what the other has picked since.
    assert "another page has left them" in send(people.operator, "these", old)
    assert picked(people.operator) == keys(runs[EXTRA], runs[QUEUED])


def test_it_picks_again_once_it_has_seen_what_the_other_did(people, runs):
    pick(people.operator, "add", [runs[SAFE]])
    old = shown_by(people.operator)
    pick(people.operator, "clear")
    text = send(people.operator, "these", old)
    assert picked(people.operator) == set()
    (version,) = set(re.findall(r'name="selection" value="(\d+)"', text))
    text = send(people.operator, "these", {**old, "selection": version})
    assert picked(people.operator) == keys(runs[SAFE])
    assert "another page" not in text


def test_all_that_are_safe_are_picked_without_those_that_another_page_has_dropped(people, runs):
    pick(people.operator, "add", [runs[SAFE]])
    old = shown_by(people.operator)
    pick(people.operator, "remove", [runs[SAFE]])
    assert "1 run stays as another page has left it" in send(people.operator, "all", old)
    assert picked(people.operator) == keys(runs[TEST_RUN])
    answer = people.operator.post("/selection/", {"action": "all", **old}, follow=True)  # without scripts
    assert "1 run stays as another page has left it" in answer.content.decode()
    send(people.operator, "all", shown_by(people.operator))
    assert picked(people.operator) == keys(runs[SAFE], runs[TEST_RUN])


def test_a_form_that_does_not_say_what_it_has_seen_brings_nothing_back(people, runs):
    pick(people.operator, "add", [runs[SAFE], runs[EXTRA]])
    pick(people.operator, "remove", [runs[SAFE]])
    pick(people.operator, "these", [runs[SAFE], runs[EXTRA]], shown=[runs[SAFE].pk, runs[EXTRA].pk])
    assert picked(people.operator) == keys(runs[EXTRA])


def test_one_page_may_change_its_mind_as_often_as_it_likes(people, runs):
    page = shown_by(people.operator)
    for wanted in ([runs[SAFE].pk], [], [runs[SAFE].pk], []):
        text = send(people.operator, "these", {**page, "run": wanted})
        assert picked(people.operator) == set(wanted)
        assert "another page" not in text
        page["selection"] = re.search(r'name="selection" value="(\d+)"', text)[1]


def question(client):
    text = client.get("/clear/").content.decode()
    return dict(re.findall(r'<input type="hidden" name="(runs|digest|batch|selection)" value="([^"]*)"', text))


def test_a_question_that_was_left_open_clears_nothing_that_another_page_has_dropped(people, runs, beating):
    pick(people.operator, "add", [runs[SAFE], runs[TEST_RUN]])
    old = question(people.operator)
    pick(people.operator, "remove", [runs[SAFE]])
    for asked in (old, {name: value for name, value in old.items() if name != "selection"}):
        answer = people.operator.post("/clear/", asked)
        assert answer.status_code == 409
        text = answer.content.decode()
        assert "1 run of those that were shown is not selected any more" in text
        assert "Clear 1 run?" in text
    assert not ClearAttempt.objects.exists()
    answer = people.operator.post("/clear/", question(people.operator))
    assert answer.status_code == 302
    assert [attempt.run_id for attempt in ClearAttempt.objects.all()] == [runs[TEST_RUN].pk]


def test_a_button_pressed_twice_still_leads_to_one_batch(people, runs, beating):
    pick(people.operator, "add", [runs[SAFE]])
    asked = question(people.operator)
    first, second = people.operator.post("/clear/", asked), people.operator.post("/clear/", asked)
    assert (first.status_code, second.status_code) == (302, 302)
    assert first.url == second.url


# Signing in again


@pytest.mark.both_engines
def test_a_selection_comes_back_when_its_owner_signs_in_again(people, runs):
    pick(people.operator, "add", [runs[SAFE], runs[EXTRA]])
    Session.objects.all().delete()  # as when it is over
    assert people.operator.get("/runs/").status_code == 302
    assert (
        people.operator.post("/login/?next=/clear/", {"username": "operator", "password": "operator"}).url == "/clear/"
    )
    assert picked(people.operator) == keys(runs[SAFE], runs[EXTRA])
    assert "2 runs" in people.operator.get("/runs/").content.decode().partition('id="selection"')[2]
    people.operator.logout()
    people.operator.login(username="operator", password="operator")
    assert picked(people.operator) == keys(runs[SAFE], runs[EXTRA])


def test_another_user_does_not_inherit_it(people, runs):
    pick(people.operator, "add", [runs[SAFE]])
    client = people.operator
    for leave in (lambda: client.post("/logout/"), Session.objects.all().delete):
        leave()
        client.post("/login/", {"username": "admin", "password": "admin"})
        assert client.get("/runs/").context["user"].username == "admin"
        assert picked(client) == set()
    pick(client, "add", [runs[EXTRA]])
    client.post("/logout/")
    client.post("/login/", {"username": "operator", "password": "operator"})
    assert picked(client) == keys(runs[SAFE])


def test_a_page_from_before_picks_nothing_again_after_signing_in(people, runs):
    pick(people.operator, "add", [runs[SAFE]])
    old = shown_by(people.operator)
    pick(people.operator, "clear")
    Session.objects.all().delete()
    people.operator.login(username="operator", password="operator")
    send(people.operator, "these", old)
    assert picked(people.operator) == set()


def test_signing_in_in_the_middle_of_the_question_asks_again_and_clears_nothing(people, runs, beating):
    pick(people.operator, "add", [runs[SAFE]])
    asked = question(people.operator)
    Session.objects.all().delete()
    answer = people.operator.post("/clear/", asked, headers={"referer": "http://testserver/clear/"})
    assert answer.status_code == 302
    answer = people.operator.post(answer.url, {"username": "operator", "password": "operator"}, follow=True)
    assert answer.request["PATH_INFO"] == "/clear/"
    text = answer.content.decode()
    assert "Clear 1 run?" in text
    assert not ClearAttempt.objects.exists()
    assert people.operator.post("/clear/", question(people.operator)).status_code == 302
    assert ClearAttempt.objects.count() == 1


def test_the_latest_changes_alone_are_remembered_one_by_one(monkeypatch):
    monkeypatch.setattr(picks, "_REMEMBERED", 3)
    found = picks.Picks()
    for key in range(6):
        found = found.become(found.keys | {key})
    assert (found.version, found.floor, sorted(found.changed)) == (6, 3, [3, 4, 5])
    assert found.unseen([0, 5], 2) == {0, 5}  # of the first nothing is known but that it was no later than the third
    assert found.unseen([0, 5], 3) == {5}
    assert found.unseen([0, 5], 6) == set()
