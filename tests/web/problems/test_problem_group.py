"""A group of problems: opened, taken, given, put off, noted, ended."""

import re
from datetime import date, timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client

from cleanup.lab import alerts
from cleanup.models import Alert, AlertKind, CaseNote, Heartbeat, ProblemCase, Run, StagingRoot
from cleanup.monitoring import watchdog
from cleanup.monitoring.problems import ProblemKey, cases
from cleanup.rules.reasons import Reason
from tests.tools.rows import run_row

pytestmark = pytest.mark.one_engine

FLOW = "FLOW_01/PROJ-0060/Runs/Run_2026-05-28T{:02}-{:02}"


@pytest.fixture(autouse=True)
def _watched(db, settings, now):
    Heartbeat.objects.create(cluster=watchdog.WATCH, host=settings.EXLAB_HOST, at=now)


def stall(root, number, now):
    for index in range(number):
        path = FLOW.format(*divmod(Run.objects.count() + index, 60))
        known = {"state": "sync_queued", "looked_at": now, "doubts": 1, "judged": 1}
        run = run_row(root, path, first_seen_at=now, identity=path, **known)
        alerts.open_alert(AlertKind.STALLED_RUN, path, reason=Reason.STALLED, now=now, run=run)


@pytest.fixture
def group(root, now):
    """The address of the group of 60 runs that stand still."""
    stall(root, 60, now - timedelta(hours=3))
    return f"/problems/groups/{ProblemKey('stalled_run', 'stalled', root.pk).slug}/"


def text_of(answer):
    assert answer.status_code == 200
    return answer.content.decode()


def nav(text):
    found = re.search(r'Problems <span class="chip">([^<]+)</span>', text)
    return found[1] if found else ""


@pytest.mark.both_engines
def test_sixty_runs_are_one_line_that_opens(people, group, django_assert_max_num_queries):
    people.viewer.get("/problems/")
    with django_assert_max_num_queries(15):
        text = text_of(people.viewer.get("/problems/"))
    assert nav(text) == "1"
    assert text.count("<details>") == 1
    assert text.count("/runs/") - text.count('"/runs/"') >= 10
    assert f'href="{group}"' in text and "All 60" in text
    with django_assert_max_num_queries(15):
        whole = text_of(people.viewer.get(group))
    assert "1 to 50 of 60" in whole
    assert "51 to 60 of 60" in text_of(people.viewer.get(f"{group}?page=2"))


@pytest.mark.both_engines
def test_taken_given_back_and_given_to_another(people, group):
    assert "Nobody has it" in text_of(people.viewer.get("/problems/"))
    text = text_of(people.viewer.post(group, {"action": "take", "back": "list"}, follow=True))
    assert "viewer has it" in text
    assert nav(text) == ""
    assert "viewer has it" in text_of(people.viewer.get("/problems/?show=mine"))
    assert "No problem is yours." in text_of(people.operator.get("/problems/?show=mine"))
    assert nav(text_of(people.operator.post(group, {"action": "give_back"}, follow=True))) == "1"
    text = text_of(people.viewer.post(group, {"action": "assign", "to": "operator"}, follow=True))
    assert "This problem is given to operator." in text
    assert [one.deed for one in CaseNote.objects.all()] == ["assigned", "given_back", "assigned"]
    assert "gave it to operator" in text_of(people.viewer.get(group))


def test_it_is_given_only_to_an_account_that_may_see_it(people, keeper, group, root):
    keeper(root=root, equipment="ANOTHER_02")
    keeper(root=StagingRoot.objects.create(name="other", host=root.host, path="/other"))
    User.objects.create_user("gone", is_active=False, is_superuser=True)
    blind = sorted(User.objects.filter(username__startswith="keeper").values_list("username", flat=True))
    assert len(blind) == 2
    for name in (*blind, "stranger", "gone", "nobody at all", "x\0", ""):
        answer = people.admin.post(group, {"action": "assign", "to": name})
        assert answer.status_code == 422, name
        assert "note block" in answer.content.decode()
    assert not ProblemCase.objects.exclude(assigned_to="").exists()
    proposed = text_of(people.admin.get(group)).partition("<datalist")[2].partition("</datalist>")[0]
    assert set(re.findall(r'value="([^"]+)"', proposed)) == {"admin", "operator", "viewer", blind[0]}


def test_put_off_until_a_day(people, group, now):
    today = date(2026, 6, 15)
    for day in (today - timedelta(days=1), today + timedelta(days=91), "", "soon"):
        answer = people.operator.post(group, {"action": "put_off", "last_day": day})
        assert answer.status_code == 422, day
        assert "note block" in answer.content.decode()
    assert people.viewer.post(group, {"action": "put_off", "last_day": today}).status_code == 403
    assert "Put off until the end of" not in text_of(people.viewer.get(group))
    assert nav(text_of(people.viewer.get("/problems/"))) == "1"
    text = text_of(
        people.operator.post(group, {"action": "put_off", "last_day": today + timedelta(days=90)}, follow=True)
    )
    assert "Put off until the end of 13 September 2026." in text
    text = text_of(people.viewer.get("/problems/"))
    assert nav(text) == ""
    assert "All problems are put off." in text
    assert "<details>" in text_of(people.viewer.get("/problems/?show=later"))


def test_notes_are_kept_with_their_authors(people, group):
    for client, words in ((people.viewer, "called <b>the vendor</b>"), (people.operator, "they come on Friday")):
        assert client.post(group, {"action": "note", "text": words}).status_code == 302
    text = text_of(people.admin.get(group))
    assert text.index("called &lt;b&gt;the vendor&lt;/b&gt;") < text.index("they come on Friday”</li>")
    assert "operator: “they come on Friday”" in text_of(people.admin.get("/problems/"))
    assert people.viewer.post(group, {"action": "note", "text": "x" * 501}).status_code == 422
    assert people.viewer.post(group, {"action": "note", "text": " "}).status_code == 422
    assert people.viewer.post(group, {"action": "dance"}).status_code == 422
    assert people.viewer.post(group).status_code == 422


def test_who_sees_no_member_gets_nothing(people, keeper, group, root):
    client = keeper(root=root, equipment="ANOTHER_02")
    for answer in (client.get(group), client.post(group, {"action": "take"}), people.viewer.get("/problems/groups/x/")):
        assert answer.status_code == 404
    assert people.stranger.post(group, {"action": "take"}).status_code == 403
    assert people.nobody.post(group, {"action": "take"}).status_code == 302
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="admin"))
    assert strict.post(group, {"action": "take"}).status_code == 403
    assert not ProblemCase.objects.exists()


def test_what_is_over_stands_among_the_ended(people, keeper, group, root, now):
    people.operator.post(group, {"action": "take"})
    people.operator.post(group, {"action": "note", "text": "the wizard is back"})
    Alert.objects.update(ended_at=now)
    cases.note(now)
    text = text_of(people.viewer.get("/problems/ended/"))
    for words in (Reason.STALLED.sentence, "lasted 3 h", "operator had it", "the wizard is back"):
        assert words.replace("'", "&#x27;") in text
    assert people.viewer.get(group, follow=True).redirect_chain == [("/problems/ended/", 302)]
    assert Reason.STALLED.sentence.replace("'", "&#x27;") not in text_of(
        keeper(root=root, equipment="FLOW_01").get("/problems/ended/")
    ), "it may have been about other instruments"
