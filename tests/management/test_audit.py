"""The command `audit`: groups, filters, clears, and files."""

import csv
import hashlib
import io
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from cleanup.lab.roots import opening
from cleanup.ledger import clear_table
from cleanup.models import ClearAttempt, StagingRoot
from cleanup.storage.staging import plan
from cleanup.storage.staging.run_tree import Entry
from tests.tools.rows import clear_rows, run_row

TEN = {"files": 10, "bytes_freed": 1000, "allocated_bytes": 0, "measured_bytes": 0, "measured_of_bytes": 0}


def scope(**named: str) -> dict[str, str | None]:
    return {"root": None, "equipment": None, "project": None, "run_kind": None, **named}


@pytest.fixture
def clears(db: None, now: datetime) -> list[ClearAttempt]:
    """Four clears: two of May and two of June 2026, by ada, by bob's command, by the schedule, under pressure."""
    root = StagingRoot.objects.create(name="lab", host="lab-pc", path="/srv/lab", token="t")
    asked: list[dict[str, Any]] = [
        {"actor": "ada"},
        {"actor": "bob", "typed_by": "bob (uid 7)"},
        {"requester": "schedule", "cause": "retention+max_bytes", "policy_version": 4},
        {"requester": "schedule", "cause": "max_bytes+free_space", "policy_version": 4},
    ]
    made = []
    for number, fields in enumerate(asked):
        equipment = ("FLOW_01", "CONFOCAL_01")[number % 2]
        run = run_row(root, f"{equipment}/PROJ-0060/Runs/Run_2026-04-1{number}T14-32", first_seen_at=now)
        at = now + timedelta(days=-30 if number < 2 else number)
        made.append(clear_rows(run, at, files=10, size=1000, **fields))
    return made


def said(*arguments: str) -> str:
    out = io.StringIO()
    call_command("audit", *arguments, stdout=out)
    return out.getvalue()


def answer(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(said(*arguments, "--json"))
    return found


def test_groups_by_several_things(clears: list[ClearAttempt]) -> None:
    found = answer("--by", "month", "--by", "equipment", "--by", "month")
    assert found["by"] == ["month", "equipment"]
    june, may = "2026-06", "2026-05"
    assert found["groups"] == [
        {"month": month, "equipment": equipment, "runs": 1, **TEN}
        for month in (may, june)
        for equipment in ("CONFOCAL_01", "FLOW_01")
    ]
    assert (found["total"]["runs"], found["total"]["bytes_freed"]) == (4, 4000)
    by_trigger = answer("--by", "trigger")
    assert by_trigger["by"] == "trigger"
    assert [one["trigger"] for one in by_trigger["groups"]] == ["click", "command", "pressure", "schedule"]
    assert [one["operator"] for one in answer("--by", "operator")["groups"]] == ["(schedule)", "ada", "bob"]
    assert said("--by", "person", "--json") == said("--by", "operator", "--by", "person", "--json")
    assert said("--csv", "--by", "person").startswith("operator,runs,")
    assert "2026-06 · CONFOCAL_01: 1 run, 10 files, 1,000 bytes freed" in said("--by", "month", "--by", "equipment")


def test_filters(clears: list[ClearAttempt], settings: Any) -> None:
    def runs(*arguments: str) -> int:
        return int(answer(*arguments)["total"]["runs"])

    assert runs("--since", "2026-06-01") == runs("--policy", "4") == 2
    assert runs("--until", "2026-05-31") == 2 and runs("--until", "2026-05-16") == 2
    assert runs("--since", "2026-05-17", "--until", "2026-05-31") == 0
    assert runs("--user", "ada") == runs("--trigger", "pressure") == 1 and runs("--user", "") == 2
    assert runs("--equipment", "FLOW_01", "--project", "PROJ-0060", "--root", "lab") == 2
    assert runs("--root", "elsewhere") == 0
    # An instant without a zone, and a day, are the lab's: the first of these clears was at 08:00 UTC.
    settings.TIME_ZONE = "Asia/Tokyo"
    assert runs("--until", "2026-05-16T16:59") == 0 and runs("--until", "2026-05-16T17:01") == 2
    assert answer("--since", "2026-06-01", "--user", "ada")["filters"] == {"user": "ada"}


def test_a_line_for_each_clear(clears: list[ClearAttempt]) -> None:
    lines = said("--runs").splitlines()
    assert len(lines) == 4
    assert lines[0].endswith(
        "lab:FLOW_01/PROJ-0060/Runs/Run_2026-04-10T14-32  10 files, 1,000 bytes; ada (click), no proof"
    )
    assert "; pressure, no proof" in lines[3]
    listed = answer("--runs", "--user", "bob")["runs"]
    assert [(one["person"], one["typed_by"], one["attempt_id"]) for one in listed] == [
        ("bob", "bob (uid 7)", clears[1].pk.hex)
    ]


def test_files(clears: list[ClearAttempt], tmp_path: Any, capfdbinary: Any) -> None:
    rows = list(csv.DictReader(io.StringIO(said("--csv", "--by", "trigger"))))
    assert [(row["trigger"], row["bytes_freed"]) for row in rows][:2] == [("click", "1000"), ("command", "1000")]
    assert said("--csv", "--bom").startswith("\ufeffruns,files,bytes_freed,")
    assert [json.loads(line)["runs"] for line in said("--jsonl").splitlines()] == [4]
    lines = [json.loads(line) for line in said("--runs", "--jsonl").splitlines()]
    assert [line["run_id"] for line in lines] == [clear.run_id for clear in clears]
    assert list(lines[0]) == [column.name for column in clear_table.COLUMNS]
    assert lines[0]["cleared_at"] == "2026-05-16T08:00:00.000000Z"
    call_command("audit", "--runs", "--csv", "--bom")  # whatever the terminal's encoding is, the file is UTF-8
    assert capfdbinary.readouterr().out.startswith(b"\xef\xbb\xbfattempt_id,run_id,")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--csv", "--jsonl"),
        ("--csv", "--json"),
        ("--bom",),
        ("--runs", "--by", "month"),
        ("--since", "yesterday"),
        ("--until", "9999-12-31"),
        ("--since", "0001-01-01"),
        ("--by", "colour"),
        ("--trigger", "accident"),
        ("--policy", "x"),
    ],
    ids=" ".join,
)
@pytest.mark.one_engine
def test_bad_usage(db: None, arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError) as misuse:
        call_command("audit", *arguments)
    of_the_parser = arguments[0] in ("--by", "--trigger", "--policy", "--since", "--until")  # it ends a process with 2
    assert of_the_parser or misuse.value.returncode == 2


@pytest.mark.one_engine
def test_policy_versions_that_decided(db: None, now: datetime) -> None:
    root = StagingRoot.objects.create(name="lab", host="lab-pc", path="/srv/lab", token="t")
    run = run_row(root, "FLOW_01/PROJ-0060/Runs/Run_2026-04-10T14-32", first_seen_at=now)
    by = {
        "mode": {"value": "scheduled", "version": 5, "scope": scope()},
        "retain_hours": {"value": 24, "version": 3, "scope": scope(equipment="FLOW_01")},
        "proof": {"value": "checksum", "version": None, "scope": None},
    }
    clear = clear_rows(run, now, files=10, size=1000, decided_by=by)
    assert clear.ledger.count() == 2
    assert [one["policy"] for one in answer("--by", "policy")["groups"]] == ["0+3+5"]
    assert [answer("--policy", text)["total"]["runs"] for text in ("3", "5", "4", "0")] == [1, 1, 0, 0]
    (line,) = answer("--runs")["runs"]
    assert (line["mode"], line["mode_version"], line["mode_scope"]) == ("scheduled", 5, "{}")
    assert (line["retain_seconds"], line["retain_scope"]) == (86400.0, '{"equipment":"FLOW_01"}')
    assert (line["proof_asked"], line["proof_version"], line["proof_scope"]) == ("checksum", None, None)


def test_clears_by_the_name_of_a_file(clears: list[ClearAttempt], settings: Any) -> None:
    """Of four clears one had the file, one had none of that name, the list of one is gone, one was on another host."""
    for clear, names in zip(clears, (["raw/Movie_1.tif"], ["notes.txt"]), strict=False):
        entries = tuple(Entry(name.encode(), True, 5, 1, 10, 10, 1, 1) for name in names)
        content = plan.encode(plan.Plan(clear.pk.hex, clear.run.run_path, 4, entries))
        opening.data_dir().write_plan(clear.pk.hex, content)
        ClearAttempt.objects.filter(pk=clear.pk).update(plan_sha256=hashlib.sha256(content).hexdigest())
    ClearAttempt.objects.exclude(pk=clears[3].pk).update(host=settings.EXLAB_HOST)
    out, err = io.StringIO(), io.StringIO()
    call_command("audit", "--runs", "--file", "movie", stdout=out, stderr=err)
    lines = out.getvalue().splitlines()
    assert len(lines) == 2 and clears[0].run.run_path in lines[0] and lines[1] == "  raw/Movie_1.tif"
    told = err.getvalue()
    assert "Looked through the files of 2 runs. Not looked into: 1 run (" in told
    assert "1 run (their lists are gone from the data directory)" in told
    assert "1 run (their lists are on the host lab-pc)" in told
    rows = [json.loads(line) for line in said("--runs", "--file", "MOVIE", "--jsonl").splitlines()]
    assert [row["run_id"] for row in rows] == [clears[0].run_id]
    for wrong in (["--file", "x"], ["--runs", "--file", " "], ["--runs", "--json", "--file", "x"]):
        with pytest.raises(CommandError, match="--file"):
            said(*wrong)
