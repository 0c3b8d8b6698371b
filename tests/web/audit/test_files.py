"""Tables of the audit as files: who gets them, of which days, and a few at a time."""

import csv
import io
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from cleanup.models import StagingRoot
from cleanup.web.audit import files
from tests.tools.rows import clear_rows, run_row


@pytest.fixture
def auditor(client: Client, db: None) -> Client:
    user = User.objects.create_user("auditor")
    user.groups.add(Group.objects.get(name="auditor"))
    client.force_login(user)
    return client


@pytest.fixture
def clears(db: None, now: datetime) -> list[Any]:
    root = StagingRoot.objects.create(name="lab", host="lab-pc", path="/srv/lab", token="t")
    made = []
    for number in range(3):
        run = run_row(root, f"FLOW_01/PROJ-{number}/Runs/Run_2026-04-1{number}T14-32", first_seen_at=now)
        made.append(clear_rows(run, now - number * timedelta(days=30), files=10, size=1000, actor="@ada"))
    return made


def body(response: Any) -> bytes:
    assert response.status_code == 200 and response.streaming
    return b"".join(response.streaming_content)


def lines(response: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body(response).splitlines()]


def test_files_of_all_times_and_of_some_days(auditor: Client, clears: list[Any]) -> None:
    whole = auditor.get("/audit/tables/clears.csv")
    assert whole["Content-Disposition"] == 'attachment; filename="exlab-clears.csv"'
    assert whole["Content-Type"] == "text/csv; charset=utf-8" and whole["Cache-Control"].startswith("max-age=0")
    rows = list(csv.DictReader(io.StringIO(body(whole).decode())))
    assert [row["run_id"] for row in rows] == [f"{clear.run_id}" for clear in clears]
    assert {row["person"] for row in rows} == {"'@ada"}
    assert body(auditor.get("/audit/ledger.csv?bom=1")).startswith(b"\xef\xbb\xbfid,at,kind,")
    assert len(lines(auditor.get("/audit/ledger.jsonl"))) == 6
    month = auditor.get("/audit/tables/clears.jsonl?month=2026-05")
    assert month["Content-Disposition"].endswith('"exlab-clears-2026-05-01-2026-05-31.jsonl"')
    assert [line["run_id"] for line in lines(month)] == [clears[1].run_id]
    assert len(lines(auditor.get("/audit/tables/clears.jsonl?since=2026-05-16&until=2026-06-15"))) == 2
    assert len(lines(auditor.get("/audit/tables/clears.jsonl?year=2026"))) == 3


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
@pytest.mark.one_engine(by="function")
def test_odd_periods_are_empty_or_refused_with_a_sentence(
    auditor: Client, clears: list[Any], settings: Any, zone: str
) -> None:
    settings.TIME_ZONE = zone
    for query in ("year=1", "year=9998", "since=2026-07-01&until=2026-01-01", "month=2020-02"):
        assert lines(auditor.get(f"/audit/tables/clears.jsonl?{query}")) == [], query
    for query in ("year=0", "year=10000", "year=x", "month=2026-13", "since=yesterday", "year=9" * 40):
        refused = auditor.get(f"/audit/tables/clears.csv?{query}")
        assert refused.status_code == 400 and b"no " in refused.content, query
    for address in ("/audit/tables/secrets.csv", "/audit/tables/clears.xml", "/audit/ledger.exe"):
        assert auditor.get(address).status_code == 404


@pytest.mark.one_engine(by="function")
def test_few_files_at_a_time_and_a_turn_ends_with_its_file(auditor: Client, clears: list[Any]) -> None:
    under_way = [auditor.get("/audit/ledger.csv") for _ in range(files._AT_A_TIME)]
    refused = auditor.get("/audit/ledger.csv")
    assert refused.status_code == 503 and refused["Retry-After"] == "30"
    assert auditor.head("/audit/ledger.csv").status_code == 200  # which takes no turn
    for closer in [*under_way[0]._resource_closers] * 2:  # as its `close`: the reader went away before the first line
        closer()
    body(under_way[1])
    again = [auditor.get("/audit/ledger.csv") for _ in range(files._AT_A_TIME)]
    assert [len(body(response).splitlines()) for response in again] == [7] * files._AT_A_TIME


@pytest.mark.one_engine(by="function")
def test_others_get_no_file(client: Client, db: None) -> None:
    assert client.get("/audit/ledger.csv").status_code == 302
    user = User.objects.create_user("operator")
    user.groups.add(Group.objects.get(name="operator"))
    client.force_login(user)
    for address in ("/audit/ledger.csv", "/audit/tables/clears.jsonl", "/audit/months/2026-05/"):
        assert client.get(address).status_code == 403
