"""How many questions one clear and the main pages put to the database, at most."""

import errno
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from unittest import mock

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cleanup import clear_run
from cleanup.clears import protocol, queue
from cleanup.clears.queue import ClearRequest
from cleanup.models import Requester, RetentionPolicy, Run, StagingRoot
from cleanup.monitoring import forecasts
from cleanup.rules.states import State
from cleanup.runs import run_status, work_progress
from cleanup.storage.staging import fences
from cleanup.web import urls
from tests.tools.pages import SAFE
from tests.web import test_matrix as matrix
from tests.web.test_matrix import scene as scene

pytestmark = pytest.mark.django_db

# Of any page, file or fragment: session and account, and the number beside "Problems" included.
MOST = 15
# What a page asks of a lab with little in it.
PAGES = {
    "/": 14,
    "/runs/": 13,
    "/runs/{pk}/": 11,
    "/runs/{pk}/clear/": 11,
    "/clear/?root=lab": 14,
    "/clear/?root=lab&bytes=100TB": 15,
    "/room/?root={root}&bytes=100TB": 14,
    "/problems/": 13,
    "/sweeps/": 12,
    "/audit/": 11,  # where nothing was freed it asks which disks nobody has looked at
}


# What one clear puts to the database, with the beginnings and ends of transactions. Six statements bind two rows of the
# ledger, and one adds them to the sums.
STATEMENTS, TRANSACTIONS = 35, 6

Made = Callable[[], list[str]]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    """What was put to the database since the last call, without the notes of each second on a busy machine."""
    monkeypatch.setattr(work_progress, "_PROGRESS_SECONDS", 3600.0)
    done = 0

    def since() -> list[str]:
        nonlocal done
        found = [query["sql"] for query in context.captured_queries[done:]]
        done += len(found)
        return found

    with CaptureQueriesContext(connection) as context:
        yield since


def durable(statements: list[str]) -> int:
    """How many of the statements wait for the disk: each COMMIT, and each change outside of a transaction."""
    is_inside, found = False, 0
    for verb in (statement.split()[0] for statement in statements):
        found += verb == "COMMIT" or (verb in ("INSERT", "UPDATE", "DELETE") and not is_inside)
        is_inside = verb == "BEGIN" or (is_inside and verb not in ("COMMIT", "ROLLBACK"))
    return found


@pytest.mark.django_db(transaction=True)
def test_a_clear_at_once(runs, policy: Callable[..., Any], now: datetime, made: Made) -> None:
    policy(proof="checksum")
    made()
    clear_run(runs[SAFE], now=now, actor="ada")
    asked = made()
    assert Run.objects.get(pk=runs[SAFE].pk).state == State.CLEARED
    assert len(asked) <= STATEMENTS
    assert durable(asked) <= TRANSACTIONS - 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("proven", [False, True])
def test_a_clear_from_the_queue(runs, policy: Callable[..., Any], now: datetime, made: Made, proven: bool) -> None:
    """The click's transaction counts too. Its statements are the page's, and so is the row in the queue."""
    policy(proof="checksum")
    asked_for = ClearRequest(requester=Requester.OPERATOR, actor="ada")
    if proven:
        with mock.patch.object(fences, "prepare_record", side_effect=OSError(errno.EIO, "planted")):
            assert protocol.attempt_now(runs[SAFE], asked_for, now=now).proof is not None
    made()
    attempt = queue.new_attempt(runs[SAFE], asked_for, now=now)
    clicked = made()
    protocol.perform(attempt, now=now)
    asked = made()
    assert Run.objects.get(pk=runs[SAFE].pk).state == State.CLEARED
    assert len(asked) <= STATEMENTS - 1
    assert durable(clicked) + durable(asked) <= TRANSACTIONS


@pytest.mark.parametrize("page", PAGES)
def test_a_page(
    people, runs, many, beating, policy, now: datetime, page: str, django_assert_max_num_queries: Any
) -> None:
    policy(proof="checksum")
    many(60)
    run_status.judge_stale(now)
    address = page.format(pk=runs[SAFE].pk, root=runs[SAFE].root_id)
    user = people.admin if page.startswith("/audit/") else people.operator
    user.get(address)  # what is asked once for each process
    with django_assert_max_num_queries(PAGES[page]):
        assert user.get(address).status_code == 200


@pytest.mark.one_engine
@pytest.mark.parametrize(
    "name", ["admin", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("operator", "confocal-operator"))]
)
def test_no_page_asks_more(scene, name, now: datetime) -> None:
    """In a lab that has one of everything. Takes 2 s."""
    # As the task that announces has left it.
    forecasts.of_roots(StagingRoot.objects.all(), RetentionPolicy.objects.scoped(), now, kept_for_pages=True)
    client, found = matrix.client_of(scene, matrix.ROLE[name]), matrix.Findings()
    for pattern in urls.urlpatterns:
        need = matrix.NEEDS[str(pattern.name)]
        if "GET" not in need.methods:
            continue
        address = matrix.address_of(pattern, need, scene.places[matrix.CONFOCAL])
        headers = matrix.HTMX if pattern.name in matrix.PARTS else {}
        with matrix.undone(), CaptureQueriesContext(connection) as asked:
            status = client.get(address, headers=headers).status_code
        questions = [one for one in asked if "SAVEPOINT" not in one["sql"]]
        found.check(len(questions) <= MOST, status, address, len(questions))
    assert not found.wrong, "\n".join(found.wrong)
