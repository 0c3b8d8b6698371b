"""How many questions one clear and the main pages put to the database, at most."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cleanup import clear_run
from cleanup.models import RetentionPolicy, Run, StagingRoot
from cleanup.monitoring import forecasts
from cleanup.rules.states import State
from cleanup.runs import run_status
from cleanup.web import urls
from tests.tools.pages import SAFE
from tests.web import test_matrix as matrix
from tests.web.test_matrix import scene as scene

pytestmark = pytest.mark.django_db

# Of any page, file or fragment: session and account, and the number beside "Problems" included.
MOST = 15
# What a page asks of a lab with little in it.
PAGES = {
    "/": 13,
    "/runs/": 12,
    "/runs/{pk}/": 10,
    "/runs/{pk}/clear/": 9,
    "/clear/?root=lab": 13,
    "/problems/": 12,
    "/sweeps/": 12,
    "/audit/": 10,
}


def test_a_clear(runs, policy: Callable[..., Any], now: datetime, django_assert_max_num_queries: Any) -> None:
    policy(proof="checksum")
    # Of these eight begin or end a transaction, six bind two rows of the ledger, and two add them to the sums.
    with django_assert_max_num_queries(54):
        clear_run(runs[SAFE], now=now, actor="ada")
    assert Run.objects.get(pk=runs[SAFE].pk).state == State.CLEARED


@pytest.mark.parametrize("page", PAGES)
def test_a_page(
    people, runs, many, beating, policy, now: datetime, page: str, django_assert_max_num_queries: Any
) -> None:
    policy(proof="checksum")
    many(60)
    run_status.judge_stale(now)
    address = page.format(pk=runs[SAFE].pk)
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
