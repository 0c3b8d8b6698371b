"""Runs that somebody picks to clear together: kept from page to page, and never more than may be cleared."""

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from cleanup import clearing
from cleanup.models import Access, Run, StagingRoot
from cleanup.policy.reasons import Reason
from cleanup.views import selection
from tests.views.conftest import BROKEN, EXTRA, QUEUED, SAFE, TEST_RUN

HTMX = {"HX-Request": "true"}


def pick(client, action, runs=(), query="", **more):
    answer = client.post(
        f"/selection/{query}", {"action": action, "run": [run.pk for run in runs], **more}, headers=HTMX
    )
    assert answer.status_code == 200
    return answer.content.decode()


def picked(client):
    """The runs in the session."""
    return set(client.session.get(selection.KEY, []))


def keys(*runs):
    return {run.pk for run in runs}


@pytest.fixture
def somebody(db):
    """A client for a person with these permissions in these places."""

    def somebody(codenames, **place):
        user = User.objects.create_user(f"user{User.objects.count()}")
        user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))
        Access.objects.create(user=user, **place)
        client = Client(raise_request_exception=False)
        client.force_login(user)
        return client

    return somebody


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


def test_no_more_than_somebody_can_look_through(people, runs, many, monkeypatch):
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
    clearing.clear_run(runs[SAFE], now=now, actor="mkhan")
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


def test_nobody_picks_what_they_may_not_clear(somebody, runs):
    client = somebody(["view_run", "clear_run"], equipment="FLOW_01")
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
