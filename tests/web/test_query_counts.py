"""How many questions one clear and the main pages put to the database, at most."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from cleanup import clear_run
from cleanup.models import Run
from cleanup.rules.states import State
from cleanup.runs import run_status
from tests.tools.pages import SAFE

pytestmark = pytest.mark.django_db

PAGES = {
    "/": 26,
    "/runs/": 27,
    "/runs/{pk}/": 29,
    "/runs/{pk}/clear/": 22,
    "/clear/?root=lab": 29,
    "/problems/": 27,
    "/sweeps/": 18,
    "/audit/": 22,
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
