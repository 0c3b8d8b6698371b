"""The summary of a month: its numbers, and that it is sent once, in the first days of the next month."""

import html
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.test import Client

from cleanup import tasks
from cleanup.ledger import book, period
from cleanup.ledger.freed_groups import FreedGroup
from cleanup.models import LedgerEntry, MonthlyMail, StagingRoot
from cleanup.monitoring import monthly_mail
from tests.tools.rows import clear_rows, run_row

FIRST = datetime(2026, 6, 1, 0, 5, tzinfo=UTC)


@pytest.fixture
def mailing(settings: Any, db: None) -> None:
    """Two people with an address who may see the audit, and two who get no mail."""
    settings.EXLAB_EMAIL = "smtp://mail.example"
    User.objects.create_superuser("admin", email="admin@lab.example")
    for name, group in (("ada", "auditor"), ("bob", "operator")):
        User.objects.create_user(name, email=f"{name}@lab.example").groups.add(Group.objects.get(name=group))
    User.objects.create_superuser("gone", email="gone@lab.example", is_active=False)


@pytest.fixture
def may(db: None) -> None:
    """Three clears in May 2026, one at its very end, one of June, and a refusal."""
    root = StagingRoot.objects.create(name="lab", host="lab-pc", path="/srv/lab", token="t")
    last = datetime(2026, 5, 31, 23, 59, 59, tzinfo=UTC)
    for number, at in enumerate((last - timedelta(days=20), last - timedelta(days=10), last, FIRST)):
        name = f"{('FLOW_01', 'CONFOCAL_01')[number % 2]}/PROJ-0060/Runs/Run_2026-04-1{number}T14-32"
        run = run_row(root, name, first_seen_at=at)
        clear = clear_rows(run, at, files=10, size=10**9, actor="ada")
    of_run = {"run": run, "attempt": clear, "root_name": "lab", "run_path": run.run_path, "policy_version": 0}
    book.write(LedgerEntry(at=last, kind="refused", reason="held", requester="operator", **of_run))


def test_the_numbers_of_a_month(may: None, client: Client) -> None:
    told = monthly_mail.account(period.of_month("2026-05"))
    assert (told.title, told.total["runs"], told.total["files"], told.total["bytes_freed"]) == (
        "May 2026",
        3,
        30,
        3 * 10**9,
    )
    assert [(one.keys[0], one.sums["runs"]) for one in told.by["equipment"]] == [("FLOW_01", 2), ("CONFOCAL_01", 1)]
    assert [(one.keys[0], one.sums["runs"]) for one in told.by["operator"]] == [("ada", 3)]
    assert told.refused == [("held", 1)]
    words = monthly_mail.text(told)
    assert words.startswith("Removed from the staging disks in May 2026: 3 runs, 3.00 GB.\n")
    assert "By instrument:\n  FLOW_01: 2 runs, 2.00 GB\n  CONFOCAL_01: 1 run, 1.00 GB\n" in words
    assert "  held: 1 time\n" in words and "/audit/months/2026-05/" in words
    client.force_login(User.objects.create_superuser("admin"))
    page = client.get("/audit/months/2026-05/").content.decode()
    assert "3.00 GB" in page and "3,000,000,000 bytes" in page and "/audit/months/2026-06/" in page
    assert "/audit/tables/clears.csv?month=2026-05" in page and "not sent" in page
    assert "By what began it" in page and "a click on a page" in page
    lists = re.findall(r'href="(/audit/entries/[^"]*)"', page)
    assert len(lists) > 7 and all(client.get(html.unescape(one)).context["lines"] for one in lists)
    assert 'href="/audit/months/2026-05/"' in client.get("/audit/?year=2026").content.decode()
    empty = client.get("/audit/months/2020-01/").content.decode()
    assert "Nothing was freed in January 2020." in empty
    assert [client.get(f"/audit/months/{month}/").status_code for month in ("2026-13", "2026-5", "1900-01", "x")] == [
        404
    ] * 4


def test_it_is_sent_once_to_those_who_may_see_it(may: None, mailing: None, time_machine: Any) -> None:
    time_machine.move_to(FIRST, tick=False)
    assert tasks.summarise() == "1 summaries" and tasks.summarise() == "0 summaries"
    assert [one.to for one in mail.outbox] == [["admin@lab.example"], ["ada@lab.example"]]
    assert mail.outbox[0].subject == "Freed in May 2026: 3 runs, 3.00 GB"
    row = MonthlyMail.objects.get()
    assert (row.month, row.at, row.mails, row.mail_problem) == ("2026-05", FIRST, 2, "")
    assert monthly_mail.send_last_month(FIRST + timedelta(days=30)) == 1  # July 1st tells of June
    assert mail.outbox[-1].subject == "Freed in June 2026: 1 run, 1.00 GB"


def test_the_month_is_the_labs(mailing: None, settings: Any, request: pytest.FixtureRequest) -> None:
    settings.TIME_ZONE = "America/Los_Angeles"
    request.getfixturevalue("may")
    assert monthly_mail.send_last_month(FIRST) == 0  # it is still May there
    assert monthly_mail.send_last_month(FIRST + timedelta(hours=7)) == 1
    # The clear of June 1st, 00:05 UTC, was in May there.
    assert mail.outbox[-1].subject == "Freed in May 2026: 4 runs, 4.00 GB"


@pytest.mark.one_engine(by="function")
@pytest.mark.parametrize(
    ("key", "said"),
    [("0", "the defaults"), ("3", "version 3"), ("0+3+5", "version 3, 5 and defaults"), ("?4", "version 4 or older")],
)
def test_policies_in_words(key: str, said: str) -> None:
    assert monthly_mail.said_key("policy", FreedGroup((key,))) == said


@pytest.mark.one_engine(by="function")
def test_a_mail_that_fails_is_told_on_the_page(may: None, mailing: None, monkeypatch: Any, client: Client) -> None:
    def fail(*_args: Any) -> int:
        raise OSError("no route to the mail server")

    monkeypatch.setattr(EmailBackend, "send_messages", fail)
    assert monthly_mail.send_last_month(FIRST) == 1
    assert MonthlyMail.objects.get().mail_problem == "OSError: no route to the mail server"
    client.force_login(User.objects.get(username="admin"))
    assert "no route to the mail server" in client.get("/audit/months/2026-05/").content.decode()


@pytest.mark.one_engine(by="function")
def test_when_no_mail_is_sent(may: None, mailing: None, settings: Any) -> None:
    assert monthly_mail.send_last_month(FIRST + timedelta(days=7)) == 0  # too late to be of use
    assert monthly_mail.send_last_month(datetime(2026, 5, 1, 8, tzinfo=UTC)) == 0  # before anything was done
    settings.EXLAB_EMAIL = ""
    assert monthly_mail.send_last_month(FIRST) == 0
    assert not MonthlyMail.objects.exists() and mail.outbox == []
