"""A page that polls costs one cheap question while nothing has changed."""

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cleanup.models import Heartbeat, NotedChange, Run
from cleanup.web.polls import GOOD_FOR, HEADER
from tests.tools.pages import SAFE

# In PostgreSQL nothing that this transaction has changed is old news: tests/models/test_changes.py asks there.
pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def _counting(now, db) -> None:
    if connection.vendor == "postgresql":
        pytest.skip("one transaction sees its own changes")
    NotedChange.objects.get_or_create(id=1, defaults={"mark": 1, "at": now})


def asked(client, address, since) -> tuple[Any, list[str]]:
    with CaptureQueriesContext(connection) as questions:
        answer = client.get(address, {"since": since}, headers=HTMX)
    return answer, [one["sql"] for one in questions]


@pytest.mark.parametrize(
    ("page", "address"),
    [("/", "/overview/now/"), ("/runs/", "/runs/changes/"), ("/runs/{pk}/", "/runs/{pk}/row/")],
)
def test_two_questions_while_nothing_has_changed(people, runs, now, page, address):
    pk = runs[SAFE].pk
    page, address = page.format(pk=pk), address.format(pk=pk)
    text = people.operator.get(page).content.decode()
    since = text.partition('data-since="')[2].partition('"')[0]
    assert since
    Heartbeat.objects.create(cluster="watch", host="lab-pc", at=now)
    answer, questions = asked(people.operator, address, since)
    assert (answer.status_code, answer.content, len(questions)) == (204, b"", 2)
    assert not answer.cookies, "to ask is no sign of life"
    Run.objects.doubt()
    answer, questions = asked(people.operator, address, since)
    assert len(questions) > 2
    assert answer[HEADER] != since
    # It may have judged the run itself, which is news for those who had asked before.
    newer = asked(people.operator, address, "")[0][HEADER]
    assert asked(people.operator, address, newer)[0].status_code == 204


def test_what_tells_of_the_time_is_shown_anew(people, runs, now):
    answer, _ = asked(people.operator, "/overview/now/", "")
    since = answer[HEADER]
    for seconds, status in ((GOOD_FOR["overview-now"] - 1, 204), (GOOD_FOR["overview-now"] + 1, 200)):
        with time_machine.travel(now + timedelta(seconds=seconds), tick=False):
            assert asked(people.operator, "/overview/now/", since)[0].status_code == status


def test_a_person_who_may_not_look_any_more_is_told_so(people, runs):
    since = asked(people.operator, "/overview/now/", "")[0][HEADER]
    assert asked(people.nobody, "/overview/now/", since)[0].status_code == 302
    User.objects.get(username="operator").groups.clear()
    assert asked(people.operator, "/overview/now/", since)[0].status_code == 403
    User.objects.filter(username="operator").update(is_active=False)
    assert asked(people.operator, "/overview/now/", since)[0].status_code == 302


@pytest.mark.parametrize("since", ["~", "9~", "~1", "99999999999~2", "-1~1", "x~1", "9" * 5000, "1~1~1"])
def test_an_absurd_mark_changes_nothing(people, runs, since):
    assert asked(people.operator, "/overview/now/", since)[0].status_code == 200


def test_a_session_that_ended_is_not_answered(people, runs, settings, now):
    since = asked(people.operator, "/overview/now/", "")[0][HEADER]
    settings.EXLAB_SESSION_IDLE = timedelta(seconds=10)
    with time_machine.travel(now + timedelta(seconds=20), tick=False):
        assert asked(people.operator, "/overview/now/", since)[0].status_code == 302
