"""What tells pages that poll whether anything has changed."""

import threading
from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection, transaction

from cleanup.models import Access, Heartbeat, NotedChange, Run, StagingRoot, changes
from tests.tools.rows import run_row

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _counting(transactional_db: None) -> None:
    """The flush between tests takes SQLite's row away."""
    changes.install(using="default")


@pytest.fixture
def run(now: datetime) -> Run:
    root = StagingRoot.objects.create(name="lab", host="lab-pc", path="/nonexistent/lab")
    return run_row(root, "E/P/Runs/Run_2026-04-17T14-32", first_seen_at=now)


def test_it_tells_of_what_pages_show_and_of_nothing_else(run: Run, now: datetime) -> None:
    assert set(changes.TABLES) <= set(connection.introspection.table_names())
    user = User.objects.create_user("ada")
    before = changes.mark()
    assert changes.nothing_since(before)
    Heartbeat.objects.create(cluster="watch", host="lab-pc", at=now)
    list(Run.objects.all())
    assert changes.nothing_since(before)
    for change in (
        lambda: Run.objects.doubt(),
        lambda: user.groups.add(Group.objects.get_or_create(name="operator")[0]),
        lambda: Access.objects.create(user=user),
        lambda: Access.objects.all().delete(),
        lambda: User.objects.update(is_active=False),
    ):
        before = changes.mark()
        change()
        assert not changes.nothing_since(before)
        assert changes.nothing_since(changes.mark())


def test_what_is_rolled_back_is_no_news(run: Run) -> None:
    before = changes.mark()
    with transaction.atomic():
        Run.objects.doubt()
        transaction.set_rollback(True)
    assert changes.nothing_since(before)


@pytest.mark.parametrize("text", ["", "x", "-1", "1:2", "9:1:", "1:9:4,3", "1:2:0", "7" * 400, "1:2:'", "\0"])
def test_what_is_no_mark_tells_nothing(run: Run, text: str) -> None:
    assert not changes.nothing_since(text)


def test_a_change_that_is_committed_after_a_later_one_is_news(run: Run) -> None:
    """A number that grows would hide it: it was taken before the later one."""
    if connection.vendor == "sqlite":
        pytest.skip("one writer at a time")
    changed, read = threading.Event(), threading.Event()

    def change_slowly() -> None:
        with transaction.atomic():
            Run.objects.doubt()
            changed.set()
            read.wait(20)
        connection.close()

    slow = threading.Thread(target=change_slowly)
    slow.start()
    assert changed.wait(20)
    StagingRoot.objects.create(name="other", host="lab-pc", path="/nonexistent/other")
    before = changes.mark()
    assert changes.nothing_since(before), "what is not committed is no news"
    read.set()
    slow.join()
    assert not changes.nothing_since(before)


def test_old_changes_are_forgotten(run: Run, now: datetime) -> None:
    before = changes.mark()
    Run.objects.doubt()
    rows = NotedChange.objects.count()
    changes.forget_old(now)
    assert (NotedChange.objects.count(), changes.nothing_since(before)) == (rows, False)
    NotedChange.objects.update(at=now - changes.KEPT_FOR - timedelta(seconds=1))
    changes.forget_old(now)
    assert NotedChange.objects.count() == (1 if connection.vendor == "sqlite" else 0)
