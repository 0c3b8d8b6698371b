import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from cleanup.models import LedgerEntry, Orphan, Run, StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.orphans.orphan_rows import GRACE
from tests.tools.lab import METADATA, RUN_PATH, Lab, census, date_everything, snapshot

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]


def call(*arguments: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command(*arguments, stdout=out, stderr=StringIO())
    except SystemExit as done:
        return int(done.code or 0), out.getvalue()
    except CommandError as error:
        return error.returncode, str(error)
    return 0, out.getvalue()


def answer(*arguments: str) -> Any:
    status, out = call(*arguments, "--json")
    assert status == 0, out
    return json.loads(out)


@pytest.fixture
def found(lab: Lab, root: StagingRoot, now: datetime) -> Any:
    path = lab.run()
    (path / METADATA / "ingest.json").unlink()
    (lab.staging / "a\u202eb\n.txt").write_text("12345")
    for entry in (path, lab.staging / "a\u202eb\n.txt"):
        date_everything(entry, now - timedelta(days=2), now - timedelta(days=2))
    discovery.discover(root, now=now)
    return path


def test_lists_with_size_age_and_next_step(lab: Lab, root: StagingRoot, now: datetime, found: Any) -> None:
    before = snapshot(lab.staging)
    with time_machine.travel(now, tick=False):
        said = answer("orphans")
        status, text = call("orphans")
    assert snapshot(lab.staging) == before
    assert (said["root"], said["listed"], said["waiting"], said["problems"]) == ("lab", 2, 0, [])
    files, size = census(found)
    by_kind = {orphan["kind"]: orphan for orphan in said["orphans"]}
    assert by_kind["no_record"] == {
        "root": "lab",
        "path": RUN_PATH,
        "kind": "no_record",
        "reason": "ingest_unreadable",
        "detail": "there is none",
        "files": files,
        "bytes": size,
        "modified_at": (now - timedelta(days=2)).isoformat(),
        "first_seen_at": now.isoformat(),
        "escalated_at": None,
        "next_step": "adopt",
    }
    assert (by_kind["stray"]["bytes"], by_kind["stray"]["next_step"]) == (5, "look_again")
    assert status == 0
    assert RUN_PATH in text
    assert "last written 2 days ago" in text
    assert Reason.STRAY_FILE.advice in text
    assert text.isascii()
    assert "2 listed, 0 seen too recently" in text


def test_what_is_young_is_only_counted(lab: Lab, root: StagingRoot, now: datetime) -> None:
    path = lab.staging / "notes.txt"
    path.write_text("x")
    date_everything(path, now, now)
    with time_machine.travel(now, tick=False):
        said = answer("orphans", "--root", "lab")
    assert (said["listed"], said["waiting"], said["orphans"]) == (0, 1, [])


def test_a_root_that_is_not_there_is_said(lab: Lab, root: StagingRoot, now: datetime, found: Any) -> None:
    with time_machine.travel(now, tick=False):
        answer("orphans")
        (lab.staging / ".exlab-root").unlink()
        said = answer("orphans")
        assert Reason.ROOT_NOT_MOUNTED.sentence in call("orphans")[1]
    assert [problem["reason"] for problem in said["problems"]] == ["root_not_mounted"]
    assert said["listed"] == 2  # as they were seen last


@pytest.mark.parametrize(
    "arguments",
    [
        ("orphans", "--root", "nowhere"),
        ("mark_gone", RUN_PATH, "--reason", "  "),
        ("mark_gone", RUN_PATH, "--reason", "x", "--user", "nobody"),
        ("mark_gone", RUN_PATH, "--reason", "x", "--root", "nowhere"),
        ("mark_gone", "A/B/Runs/Run_2026-01-01T00-00", "--reason", "x"),
    ],
)
def test_bad_usage(root: StagingRoot, found: Any, arguments: tuple[str, ...]) -> None:
    assert call(*arguments)[0] == 2
    assert not LedgerEntry.objects.exists()


def test_a_run_that_is_gone_is_marked_so(lab: Lab, root: StagingRoot, now: datetime, admin_user: Any) -> None:
    lab.run().rename(lab.base / "never known")
    path = lab.run(twin=False)
    discovery.discover(root, now=now)
    status, out = call("mark_gone", RUN_PATH, "--reason", "moved", "--json")
    assert status == 1
    assert json.loads(out) == {
        "root": "lab",
        "run_path": RUN_PATH,
        "marked": False,
        "reason": None,
        "detail": "The run's directory is there.",
    }
    path.rename(lab.base / "away")
    said = answer("mark_gone", RUN_PATH, "--reason", "moved", "--user", "admin", "--root", "lab")
    assert (said["marked"], said["reason"]) == (True, None)
    assert Run.objects.get().gone_at is not None
    entry = LedgerEntry.objects.get()
    assert (entry.kind, entry.actor, entry.detail.endswith("; moved")) == ("marked_gone", "admin", True)
    assert call("mark_gone", RUN_PATH, "--reason", "again")[0] == 2  # no such run is known any more


def test_a_refusal_names_its_reason(lab: Lab, root: StagingRoot, now: datetime) -> None:
    lab.run()
    discovery.discover(root, now=now)
    (lab.staging / ".exlab-root").unlink()
    status, out = call("mark_gone", RUN_PATH, "--reason", "x", "--json")
    assert (status, json.loads(out)["reason"]) == (1, "root_not_mounted")
    status, out = call("mark_gone", RUN_PATH, "--reason", "x")
    assert (status, Reason.ROOT_NOT_MOUNTED.sentence in out) == (1, True)
    assert Run.objects.get().gone_at is None


def test_many_missing_runs_are_marked_with_one_reason(lab: Lab, root: StagingRoot, now: datetime) -> None:
    others = [f"{project}/Runs/Run_2026-05-0{day}T10-00" for project in ("FLOW_01/P", "FLOW_01/Q") for day in (1, 2)]
    paths = [lab.run(run_path, twin=False) for run_path in (RUN_PATH, *others)]
    discovery.discover(root, now=now)
    for number, path in enumerate(paths):
        path.rename(lab.base / f"away {number}")
    discovery.discover(root, now=now)
    (lab.base / "away 4").rename(paths[4])  # back since
    every = ("mark_gone", "--missing", "--root", "lab", "--reason", "archive")
    said = answer(*every, "--project", "P", "--dry-run")
    assert (said["dry_run"], said["marked"], said["refused"]) == (True, 2, 0)
    assert not LedgerEntry.objects.exists()
    said = answer(
        *every, "--equipment", "FLOW_01", "--project", "P", "--user", User.objects.create_user("ada").username
    )
    assert [(run["run_path"], run["marked"]) for run in said["runs"]] == [(path, True) for path in others[:2]]
    status, out = call(*every, "--json")
    assert (status, json.loads(out)["marked"], json.loads(out)["refused"]) == (1, 2, 1)
    assert [run["detail"] for run in json.loads(out)["runs"] if not run["marked"]] == ["The run's directory is there."]
    assert Run.objects.staged().get().run_path == others[3]
    assert {entry.detail.rpartition("; ")[2] for entry in LedgerEntry.objects.all()} == {"archive"}
    assert "1 run marked as gone" not in call(*every)[1]


def test_several_runs_that_are_named(lab: Lab, root: StagingRoot, now: datetime) -> None:
    other = "FLOW_01/P/Runs/Run_2026-05-01T10-00"
    for run_path in (RUN_PATH, other):
        lab.run(run_path, twin=False)
    discovery.discover(root, now=now)
    (lab.staging / "FLOW_01").rename(lab.base / "away")
    status, out = call("mark_gone", RUN_PATH, other, other, "--reason", "archive")
    assert (status, out.splitlines()[-1]) == (1, "1 run marked as gone, 1 not")
    assert Run.objects.staged().get().run_path == RUN_PATH


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--missing",),
        (RUN_PATH, "--missing", "--root", "lab"),
        (RUN_PATH, "--project", "P"),
        ("--missing", "--root", "lab", "--user", "unknown"),
    ],
)
def test_bad_usage_of_mark_gone(root: StagingRoot, found: Any, arguments: tuple[str, ...]) -> None:
    assert call("mark_gone", *arguments, "--reason", "x")[0] == 2
    assert not LedgerEntry.objects.exists()


def test_a_missing_run_is_listed_with_its_step(lab: Lab, root: StagingRoot) -> None:
    at = datetime(2026, 6, 15, 8, tzinfo=UTC)
    path = lab.run()
    discovery.discover(root, now=at)
    path.rename(lab.base / "away")
    with time_machine.travel(at, tick=False):
        assert answer("orphans")["waiting"] == 1
    with time_machine.travel(at + GRACE, tick=False):
        (orphan,) = answer("orphans")["orphans"]
        assert f"mark_gone {RUN_PATH} --reason" in call("orphans")[1]
    assert (orphan["kind"], orphan["next_step"], orphan["modified_at"]) == ("missing", "mark_gone", None)
    assert Orphan.objects.count() == 1
