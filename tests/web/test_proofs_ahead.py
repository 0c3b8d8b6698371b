"""What the pages say of proofs that are made ahead, and which pages bring a run forward."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from cleanup import tasks
from cleanup.models import ProvingRun, Run, StagingRoot, Status
from cleanup.runs import run_status
from tests.tools.pages import EXTRA, SAFE

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

HOUR = timedelta(hours=1)


@pytest.fixture
def safe(runs: dict[str, Run], policy: Callable[..., Any], now: datetime) -> Run:
    policy(proof="checksum")
    run_status.judge_stale(now)
    return runs[SAFE]


def row(run: Run, now: datetime, **fields: Any) -> ProvingRun:
    return ProvingRun.objects.create(run=run, host=run.root.host, nas=run.root.nas_token, phase_at=now, **fields)


def test_list_page_and_overview_say_how_far_it_is(people: Any, safe: Run, now: datetime) -> None:
    proven = row(safe, now, phase="proven", proven_at=now - 2 * HOUR)
    for address in ("/runs/", f"/runs/{safe.pk}/", f"/runs/{safe.pk}/row/"):
        assert "Proven 2 h ago." in people.viewer.get(address).content.decode(), address
    (card,) = people.viewer.get("/").context["cards"]
    assert card.ahead == f"1 of {card.go.runs} runs that may go is proven."
    assert card.ahead in people.viewer.get("/").content.decode()
    ProvingRun.objects.filter(pk=proven.pk).update(phase="reading", planned_bytes=10, read_bytes=4, progress_at=now)
    assert "Being proven: 40 %." in people.viewer.get("/runs/").content.decode()
    (card,) = people.viewer.get("/").context["cards"]
    assert card.ahead == f"0 of {card.go.runs} runs that may go are proven; 1 being proven: 40 %."
    StagingRoot.objects.update(problem="root_not_mounted")
    assert "Being proven" not in people.viewer.get(f"/runs/{safe.pk}/").content.decode()


def test_a_run_that_needs_no_proof_is_not_counted(
    people: Any, safe: Run, policy: Callable[..., Any], now: datetime
) -> None:
    row(safe, now, phase="proven", proven_at=now - HOUR)
    (card,) = people.viewer.get("/").context["cards"]
    all_safe = card.go.runs
    policy(proof="record", run_kind="test")
    run_status.judge_stale(now)
    (card,) = people.viewer.get("/").context["cards"]
    assert card.go.runs == all_safe
    without = Run.objects.filter(tone=Status.GO, run_kind="test").count()
    assert without
    assert card.ahead == f"1 of {all_safe - without} runs that may go is proven."
    policy(proof="record")
    run_status.judge_stale(now)
    (card,) = people.viewer.get("/").context["cards"]
    assert (card.ahead, card.go.runs) == ("", all_safe)


def test_what_may_not_go_says_nothing_of_a_proof(people: Any, safe: Run, runs: dict[str, Run], now: datetime) -> None:
    row(runs[EXTRA], now, phase="proven", proven_at=now - HOUR)
    assert "Proven 1 h ago." not in people.viewer.get("/runs/").content.decode()
    (card,) = people.viewer.get("/").context["cards"]
    assert card.ahead == ""


@pytest.mark.parametrize("address", ["/runs/{pk}/", "/runs/{pk}/clear/", "/clear/?root=lab"])
def test_who_may_clear_asks_for_it_by_looking(people: Any, safe: Run, now: datetime, address: str) -> None:
    address = address.format(pk=safe.pk)
    people.viewer.get(address)
    assert not ProvingRun.objects.exists()
    assert people.operator.get(address).status_code == 200
    asked = ProvingRun.objects.get(run=safe)
    assert (asked.phase, asked.asked_at) == ("asked", now)
    for ago, kept in ((timedelta(minutes=59), True), (timedelta(minutes=61), False)):
        ProvingRun.objects.update(asked_at=now - ago, phase="proven", tries=7)
        people.operator.get(address)
        asked.refresh_from_db()
        assert (asked.asked_at == now - ago, asked.phase, asked.tries) == (kept, "proven", 7)


def test_a_policy_without_bytes_asks_for_nothing_before_a_clear(people: Any, safe: Run, policy: Any) -> None:
    policy(proof="size")
    assert people.operator.get(f"/runs/{safe.pk}/clear/").status_code == 200
    assert not ProvingRun.objects.exists()


def test_a_dry_run_names_what_is_proven_next(safe: Run, policy: Any, now: datetime) -> None:
    policy(mode="scheduled", retain_hours=1)
    said = tasks.dry_run(safe.root_id, "ada")
    named = set(ProvingRun.objects.filter(asked_at=now).values_list("run__run_path", flat=True))
    assert SAFE in named, said
    assert len(named) == int(said.split("would clear ")[1].split(" ")[0])
