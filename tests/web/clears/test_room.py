"""Make room: a plan, what is short, and the way to the question."""

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from cleanup.models import ClearAttempt, ClearBatch, DiskUsage, Run, Status
from cleanup.runs import run_status
from tests.tools.pages import SAFE, TEST_RUN
from tests.tools.rows import clear_rows

pytestmark = pytest.mark.one_engine

GB = 10**9


@pytest.fixture
def disk(runs: dict[str, Run], now: Any) -> Any:
    """Two safe runs of 40 and 2 GB on a disk with 10 GB free."""
    for path, size in ((SAFE, 40 * GB), (TEST_RUN, 2 * GB)):
        run = runs[path]
        Run.objects.filter(pk=run.pk).update(
            allocated_bytes=size, bytes=size, facts={**run.facts, "allocated_bytes": size}
        )
    run_status.judge_stale(now)
    root = runs[SAFE].root
    DiskUsage.objects.all().delete()
    DiskUsage.objects.create(root=root, at=now - timedelta(minutes=3), total_bytes=100 * GB, free_bytes=10 * GB)
    return root


def page(client: Client, disk: Any, status: int = 200, /, **asked: str) -> str:
    answer = client.get("/room/", {"root": disk.pk} | asked)
    assert answer.status_code == status
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.content.decode())).split())


def test_the_page_asks_first(people: Any, disk: Any) -> None:
    said = html.unescape(people.operator.get("/room/").content.decode())
    assert 'name="bytes"' in said
    assert "Nothing is cleared before" in said


def test_only_who_may_clear_is_shown_a_plan(people: Any, disk: Any, keeper: Any) -> None:
    assert people.viewer.get("/room/").status_code == 403
    elsewhere = keeper(equipment="FLOW_01")  # sees none of the safe runs
    assert "50.0 GB are short" not in page(elsewhere, disk, bytes="60 GB")
    assert "No run there is safe to clear now" in page(elsewhere, disk, bytes="60 GB")


def test_the_fewest_runs_that_give_what_is_missing(people: Any, disk: Any, runs: Any) -> None:
    said = page(people.operator, disk, bytes="12 GB")
    assert "1 run gives enough" in said
    assert "Free now 10.0 GB" in said
    assert "Missing 2.00 GB" in said
    assert runs[TEST_RUN].leaf in said
    said = page(people.operator, disk, bytes="45 GB", order="largest")
    assert "1 run gives enough" in said
    assert runs[SAFE].leaf in said
    assert "So much is free already" in page(people.operator, disk, bytes="9GB")


def test_more_than_there_is_says_what_is_there_what_is_short_and_what_else_would_give(
    people: Any, disk: Any, runs: Any
) -> None:
    blocked = Run.objects.filter(tone=Status.BLOCK).order_by("pk")[0]
    Run.objects.filter(pk=blocked.pk).update(allocated_bytes=7 * GB)
    said = page(people.operator, disk, bytes="1 TB")
    assert "948.0 GB are short" in said
    assert "All 2 runs that are safe to clear give 42.0 GB together." in said
    assert "What else would give room" in said
    assert "7.00 GB" in said
    assert f"/runs/{blocked.pk}/" in people.operator.get("/room/", {"root": disk.pk, "bytes": "1TB"}).content.decode()


def test_the_time_and_whether_it_is_in_time(people: Any, disk: Any, runs: Any, now: Any) -> None:
    assert "not known yet" in page(people.operator, disk, bytes="50 GB", by="09:00")
    run = Run.objects.create(
        root=disk, run_path="A/B/Runs/Run_2026-01-01T10-00", identity="-", equipment="A", project="B", leaf="x",
        run_kind="experimental", first_seen_at=now, state="cleared", here=False, tone=Status.DONE,
    )  # fmt: skip
    for number in range(3):
        began = now - timedelta(hours=number + 1)
        clear_rows(run, began, files=1, size=GB, compared_bytes=GB, progress_at=began + timedelta(seconds=100))
    said = page(people.operator, disk, bytes="50 GB", by="09:00")  # it is 08:00; 40 GB take 4,001 s
    assert "This takes about 1 h 7 m" in said
    assert "it ends today at about 09:06" in said
    assert "it is not done in time: today at 09:00 about 36.0 GB of 40.0 GB are free" in said
    assert "That is in time: it has to be there today at 10:00" in page(
        people.operator, disk, bytes="50 GB", by="10:00"
    )


def test_the_plan_leads_to_the_question_about_exactly_its_runs(people: Any, disk: Any, runs: Any) -> None:
    answer = people.operator.get("/room/", {"root": disk.pk, "bytes": "12GB"}).content.decode()
    (address,) = set(re.findall(r'href="(/clear/[^"]*)"', html.unescape(answer)))
    question = html.unescape(people.operator.get(address).content.decode())
    assert "Clear 1 run?" in question
    assert re.findall(r'name="go" value="(\d+)"', question) == [str(runs[TEST_RUN].pk)]
    found = dict(re.findall(r'name="(runs|digest|batch|ticks)" value="([^"]*)"', question))
    people.operator.post(address, {**found, "go": [str(runs[TEST_RUN].pk)]})
    assert set(ClearAttempt.objects.values_list("run", flat=True)) == {runs[TEST_RUN].pk}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"bytes": ""}, "Type how much has to be free"),
        ({"bytes": "much"}, "This is no size"),
        ({"bytes": "0"}, "Type a size above 0"),
        ({"bytes": "9" * 30}, "This is no size"),
        ({"bytes": "1GB", "by": "25:99"}, "Type a time such as 14:00"),
        ({"bytes": "1GB", "root": "999999"}, "Select a valid choice"),
        ({"bytes": "1GB", "order": "newest"}, "Select a valid choice"),
    ],
)
def test_what_is_no_question_gets_a_sentence(people: Any, disk: Any, asked: dict[str, str], said: str) -> None:
    assert said in page(people.operator, disk, 422, **asked)


@pytest.mark.both_engines
def test_the_page_asks_the_database_little(people: Any, disk: Any, many: Any, now: Any) -> None:
    many(60)
    run_status.judge_stale(now)
    people.operator.get("/room/")
    with CaptureQueriesContext(connection) as asked:
        page(people.operator, disk, bytes="1 TB")
    assert len(asked) <= 15, [query["sql"][:90] for query in asked]


def test_a_batch_that_waits_is_named(people: Any, disk: Any, runs: Any, now: Any) -> None:
    batch = ClearBatch.objects.create(actor="ada", digest="d", created_at=now, starts_at=now + timedelta(hours=14))
    batch.waiting_runs.create(run=runs[SAFE], mark="m", bytes=40 * GB, allocated_bytes=40 * GB)
    said = page(people.operator, disk, bytes="12 GB")
    assert "A batch waits: tonight at 22:00 runs that give 40.0 GB are cleared here, asked for by ada." in said
