"""Reminders of runs: mailed once, on the pages until they are done."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core import mail

from cleanup.models import Alert, Run, RunReminder, StagingRoot
from cleanup.monitoring import watchdog
from cleanup.rules.reasons import Reason
from cleanup.runs.holds import run_reminders
from tests.tools.rows import run_row

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


@pytest.fixture
def ada(settings: Any) -> User:
    settings.EXLAB_EMAIL = "smtp://mail.example"
    ada = User.objects.create_user("ada", email="ada@lab.example")
    ada.groups.add(Group.objects.get(name="viewer"))
    return ada


@pytest.fixture
def runs(now: datetime) -> list[Run]:
    root = StagingRoot.objects.create(name="lab", host="lab-pc", path="/nonexistent/lab")
    return [run_row(root, f"F/P/Runs/Run_2026-04-1{number}T00-00", first_seen_at=now) for number in range(4)]


def test_they_are_due_from_their_instant_until_they_are_done(runs: list[Run], ada: User, now: datetime) -> None:
    at = now + 2 * HOUR
    told = run_reminders.remind_all(runs, user=ada, at=at, note="plate 4", now=now)
    assert all(each.is_done for each in told)
    assert not run_reminders.due(now + HOUR).exists()
    Run.objects.filter(pk=runs[3].pk).update(state="cleared", cleared_at=now)
    for minutes in (0, 1, 60):
        run_reminders.mail_due(at + minutes * timedelta(minutes=1))
    (letter,) = mail.outbox
    assert (letter.to, letter.subject) == (["ada@lab.example"], "Reminder (3 runs)")
    assert all((run.run_path in letter.body) is (run != runs[3]) for run in runs) and "plate 4" in letter.body
    watchdog._holds(at, None)
    assert set(Alert.objects.values_list("run", "reason", "detail")) == {
        (run.pk, Reason.REMINDER_DUE, "for ada: plate 4") for run in runs[:3]
    }
    for reminder in RunReminder.objects.all():
        assert run_reminders.finish(reminder, at) and not run_reminders.finish(reminder, at)
    watchdog._holds(at + HOUR, None)
    assert not Alert.objects.filter(ended_at=None).exists()


def test_a_mail_that_cannot_be_sent_stops_nothing(
    runs: list[Run], ada: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_reminders.remind_all(runs, user=ada, at=now + HOUR, note="", now=now)
    monkeypatch.setattr(run_reminders.EmailMessage, "send", lambda *_: 1 / 0)
    assert run_reminders.mail_due(now + HOUR) == 0
    assert run_reminders.due(now + HOUR).count() == 4


@pytest.mark.parametrize(
    ("hours", "note", "words"), [(0, "", "future"), (10**6, "", "ten years"), (1, "x" * 501, "longer than")]
)
def test_what_is_no_reminder(runs: list[Run], ada: User, now: datetime, hours: int, note: str, words: str) -> None:
    with pytest.raises(run_reminders.NoReminder, match=words):
        run_reminders.remind_all(runs, user=ada, at=now + hours * HOUR, note=note, now=now)
    assert not RunReminder.objects.exists()
