"""Sessions end after twelve hours without a click; automatic requests do not count."""

import re
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.conf import settings as project
from django.contrib.sessions.models import Session
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cleanup.lab.people import sessions
from cleanup.web import account, urls
from tests.lab.test_lock_waits import held
from tests.tools.pages import SAFE

pytestmark = pytest.mark.one_engine


HOURS = 12
HTMX = {"HX-Request": "true", "HX-Current-URL": "http://testserver/runs/?state=cleared"}
Ask = Callable[..., Any]


@pytest.fixture(autouse=True)
def _sessions_last() -> None:
    """Overrides the fixture that keeps sessions alive."""


@pytest.fixture
def ask(people: Any, now: Any) -> Ask:
    people.operator.get("/")

    def ask(hours: float, address: str = "/runs/", who: str = "operator", **headers: str) -> Any:
        with time_machine.travel(now + timedelta(hours=hours), tick=False):
            return getattr(people, who).get(address, headers=headers)

    return ask


def test_twelve_hours_without_a_click(ask: Ask) -> None:
    assert ask(11.9).status_code == 200
    assert ask(23.8).status_code == 200
    assert ask(35.81).url == "/login/?next=/runs/"


def test_polls_do_not_count_and_lead_to_the_sign_in_once(ask: Ask) -> None:
    for hour in range(1, HOURS):
        assert ask(hour, "/runs/changes/", **HTMX).status_code in (200, 204)
    assert not Session.objects.filter(expire_date__gt="2026-06-15T20:00:01Z").exists()
    answer = ask(HOURS, "/runs/changes/", **HTMX)
    assert answer.url.startswith("/login/")
    # The page that asks goes to the sign-in as a whole, and from there back to where it was.
    assert ask(HOURS, answer.url, **HTMX).headers["HX-Redirect"] == "/login/?next=%2Fruns%2F%3Fstate%3Dcleared"
    assert "Sign in" in ask(HOURS, "/login/?next=%2Fruns%2F%3Fstate%3Dcleared").content.decode()


def test_the_server_keeps_the_time_not_the_browser(ask: Ask) -> None:
    Session.objects.update(expire_date="2036-01-01T00:00:00Z")
    assert ask(HOURS - 0.1, "/runs/changes/", **HTMX).status_code in (200, 204)
    assert ask(HOURS).status_code == 302
    assert not Session.objects.filter(session_data__contains="seen").exists()


def test_the_admin_pages_too(ask: Ask) -> None:
    assert ask(0, "/admin/", "admin").status_code == 200
    assert ask(11.9, "/admin/", "admin").status_code == 200
    assert ask(23.95, "/admin/", "admin").url == "/admin/login/?next=/admin/"


def test_a_page_that_loads_itself_anew_is_no_click(ask: Ask, runs: Any) -> None:
    """Takes 2 s: a dozen pages of a run."""
    address = f"/runs/{runs[SAFE].pk}/"
    for hour in range(1, HOURS):
        assert ask(hour, address, Referer=f"http://testserver{address}").status_code == 200
    assert ask(HOURS, address, Referer=f"http://testserver{address}").status_code == 302


def test_a_click_is_written_down_every_few_minutes_only(people: Any, ask: Ask) -> None:
    def writes(hours: float) -> int:
        with CaptureQueriesContext(
            connection,
        ) as asked:
            assert ask(hours, "/holds/").status_code == 200
        return sum('UPDATE "django_session"' in query["sql"] for query in asked)

    assert [writes(minutes / 60) for minutes in (1, 4, 5, 6, 9.9, 10)] == [0, 0, 1, 0, 0, 1]


def test_the_browser_keeps_the_session_as_long_as_the_server_does(ask: Ask) -> None:
    cookie = ask(3).cookies[project.SESSION_COOKIE_NAME]
    assert (cookie["max-age"], cookie["httponly"], cookie["samesite"]) == (HOURS * 3600, True, "Lax")
    assert project.SESSION_COOKIE_NAME not in ask(3).cookies
    assert project.SESSION_COOKIE_NAME not in ask(5, "/runs/changes/", **HTMX).cookies


@pytest.mark.django_db(transaction=True)
def test_a_page_does_not_wait_until_its_click_can_be_written_down(people: Any, now: Any) -> None:
    """As during a clear: SQLite keeps all other writers out, PostgreSQL only those of this row."""
    if connection.vendor != "sqlite":
        return
    with time_machine.travel(now + timedelta(hours=1), tick=True), held("django_session"):
        before = time.monotonic()
        assert people.operator.get("/holds/").status_code == 200
        assert time.monotonic() - before < 5


def test_a_session_of_before_gets_its_time_at_the_first_request_of_any_kind(people: Any, ask: Ask) -> None:
    session_of_before = people.operator.session
    del session_of_before[sessions.SEEN]
    session_of_before.save()
    Session.objects.update(expire_date="2036-01-01T00:00:00Z")
    assert ask(1, "/runs/changes/", **HTMX).status_code in (200, 204)
    assert ask(1 + HOURS, "/runs/changes/", **HTMX).status_code == 302


def test_a_time_in_the_future_keeps_no_session_alive(people: Any, ask: Ask) -> None:
    ahead = people.operator.session
    ahead[sessions.SEEN] += 20 * 86_400
    ahead.save()
    assert ask(0).status_code == 302


def test_a_new_sign_in_in_the_same_browser_begins_anew(people: Any, ask: Ask, now: Any) -> None:
    assert ask(HOURS).status_code == 302
    with time_machine.travel(now + timedelta(hours=HOURS), tick=False):
        people.operator.post("/login/", {"username": "operator", "password": "operator"})
    assert ask(2 * HOURS - 0.1).status_code == 200


def test_every_address_that_pages_ask_for_by_themselves_is_known_as_such() -> None:
    asked, reloading = set(), set()
    templates = Path(project.BASE_DIR) / "templates"
    for path in templates.rglob("*.html"):
        text = path.read_text()
        for tag in re.findall(r"<[^<]*?hx-get=.*?>", text, re.DOTALL):
            if re.search(r'hx-trigger="[^"]*(every|delay:\{\{|wake)', tag):
                asked |= set(re.findall(r"""hx-get="{% url '([a-z-]+)'""", tag))
        if "http-equiv" in text:
            reloading.add(str(path.relative_to(templates)))
    assert asked == account.POLLS
    pages = ("clears/batch", "clears/waiting", "instruments/bench", "runs/detail", "setup/guided")
    pages += ("roots/add", "roots/add_nas", "roots/import", "roots/request")
    assert reloading == {f"cleanup/{name}.html" for name in pages}
    assert {pattern.name for pattern in urls.urlpatterns} >= account.POLLS | account.RELOADING
