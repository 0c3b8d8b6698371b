"""Exit statuses and answers of real command processes."""

import os
import subprocess
import tarfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from cleanup.lab.roots import registration
from cleanup.models import Run, StagingRoot
from cleanup.runs import discovery
from tests.faults.scene import everything, inodes
from tests.tools import warm
from tests.tools.command_line import Done, Manage
from tests.tools.lab import METADATA, RUN_PATH, Lab, census, read_ingest, snapshot

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_engine]

VERIFIED = [
    "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-32",
    "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-18T09-10",
    "CONFOCAL_01/PROJ-0042/TestRuns/TestRun_2026-04-17T09-12",
    "FLOW_01/PROJ-0060/Runs/Run_2026-05-28T16-20",
    "PLATE_READER_02/PROJ-0007/Runs/Run_2026-03-11T07-05",
]
OTHERS = {
    "CONFOCAL_01/PROJ-0051/Runs/Run_2026-05-02T08-00": "sync_queued",
    "FLOW_01/PROJ-0042/Runs/Run_2026-04-20T11-45": "complete",
    "FLOW_01/PROJ-0060/Runs/Run_2026-06-01T13-00": "staging",
}


@pytest.fixture
def manage(subprocess_env: dict[str, str]) -> Manage:
    return lambda *arguments: together(subprocess_env, [arguments])[0]


def together(env: dict[str, str], commands: list[tuple[Any, ...]]) -> list[Done]:
    processes = [
        warm.python(["manage.py", *arguments], env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for arguments in commands
    ]
    said = [process.communicate(timeout=120) for process in processes]
    return [Done(process.returncode, out, err) for process, (out, err) in zip(processes, said, strict=True)]


# The whole way


@pytest.fixture
def eight_runs(lab: Lab) -> Lab:
    for number, run_path in enumerate(VERIFIED):
        lab.run(run_path, verified_at=timezone.now().replace(microsecond=0) - timedelta(hours=25 + number))
    for run_path, state in OTHERS.items():
        lab.run(run_path, state=state, verified_at=timezone.now() - timedelta(hours=30))
    return lab


@pytest.mark.both_engines
def test_from_a_staging_tree_to_cleared_runs(eight_runs: Lab, manage: Manage) -> None:
    walk_the_whole_way(eight_runs, manage)


@pytest.mark.both_engines
def test_the_same_on_a_sample_that_the_wizard_wrote(tmp_path: Path, manage: Manage) -> None:
    """EXLAB_SAMPLE names an archive with `staging/` and `nas/` of the same eight runs."""
    sample = os.environ.get("EXLAB_SAMPLE")
    if not sample:
        pytest.skip("set EXLAB_SAMPLE to an archive of eight runs that the wizard wrote")
    with tarfile.open(sample) as archive:
        archive.extractall(tmp_path, filter="data")
    walk_the_whole_way(Lab(tmp_path), manage)


def walk_the_whole_way(lab: Lab, manage: Manage) -> None:
    verified = {path: census(lab.staging / path) for path in VERIFIED}
    files, size = (sum(counted[part] for counted in verified.values()) for part in (0, 1))
    histories = {path: read_ingest(lab.staging / path)["history"] for path in [*VERIFIED, *OTHERS]}

    added = manage("add_staging_root", "lab", lab.staging, "--nas-root", lab.nas, "--allow-same-filesystem", "--json")
    assert added.status == 0
    # The tests' data directory may lie on the disk that holds the lab, and then that is said.
    assert all("data directory" in warning for warning in added.json["warnings"])

    before = everything(lab)
    found = manage("discover", "--json")
    assert found.status == 0
    assert found.json == {"root": "lab", "found": 8, "new": 8, "updated": 0, "unchanged": 0, "problems": []}
    for run in Run.objects.all():
        events = run.events.order_by("position")
        assert [event.at_text for event in events] == [entry["at"] for entry in histories[run.run_path]]
        assert [event.state for event in events] == [entry["state"] for entry in histories[run.run_path]]

    by_hand = manage("sweep", "--json").json  # no policy yet: manual
    assert (by_hand["cleared"], by_hand["candidates"], by_hand["files"]) == (0, 0, 0)
    assert {run["reason"] for run in by_hand["runs"]} == {"policy_manual"}
    assert everything(lab) == before

    assert manage("set_policy", "--mode", "scheduled", "--retain-hours", "24").status == 0
    rehearsed = manage("sweep", "--dry-run", "--json")
    assert rehearsed.status == 0
    assert sorted(run["run_path"] for run in rehearsed.json["runs"] if run["action"] == "would_clear") == VERIFIED
    assert (rehearsed.json["dry_run"], rehearsed.json["scanned"], rehearsed.json["cleared"]) == (True, 8, 0)
    assert (rehearsed.json["files"], rehearsed.json["bytes_freed"]) == (files, size)
    assert everything(lab) == before  # not one byte, not one time

    kept = {path: (snapshot(lab.staging / path), inodes(lab.staging / path)) for path in OTHERS}
    twins = snapshot(lab.nas)
    swept = manage("sweep", "--json")
    assert swept.status == 0
    assert (swept.json["cleared"], swept.json["failed"], swept.json["scanned"]) == (5, 0, 8)
    assert (swept.json["files"], swept.json["bytes_freed"]) == (files, size)
    assert {run["run_path"]: (run["files"], run["bytes"]) for run in swept.json["runs"]} == verified
    assert not any((lab.staging / path).exists() for path in VERIFIED)
    assert {path: (snapshot(lab.staging / path), inodes(lab.staging / path)) for path in OTHERS} == kept
    now_there = snapshot(lab.nas)
    told = {name for name in twins.keys() | now_there.keys() if twins.get(name) != now_there.get(name)}
    folders = {f"{path}/.exlab-wizard" for path in VERIFIED}
    receipts = {name for name in told if "/.exlab-wizard/receipts" in name}
    assert len(receipts) == 4 * len(VERIFIED) and not receipts & twins.keys()
    assert told - receipts == folders | {f"{folder}/ingest.json" for folder in folders}
    for path in VERIFIED:
        *before_it, last = read_ingest(lab.twin(path))["history"]
        assert (before_it, last["state"]) == (histories[path], "cleared")

    after = everything(lab)
    again = manage("sweep", "--json").json
    assert (again["cleared"], again["candidates"], again["files"], again["bytes_freed"], again["runs"]) == (
        0,
        0,
        0,
        0,
        [],
    )
    found = manage("discover", "--json").json
    assert found == {"root": "lab", "found": 3, "new": 0, "updated": 0, "unchanged": 3, "problems": []}
    assert everything(lab) == after
    total = manage("audit", "--json").json["total"]
    assert (total["runs"], total["files"], total["bytes_freed"]) == (5, files, size)
    settled = manage("recover", "--json")
    assert settled.json == {
        "rolled_back": [],
        "rolled_forward": [],
        "unsettled": [],
        "queued_again": 0,
        "tried_again": 0,
        "told": 0,
    }


# A lab to ask about


@pytest.fixture
def known(lab: Lab) -> Lab:
    now = timezone.now()
    lab.run(verified_at=now - timedelta(hours=30))
    root = registration.register("lab", str(lab.staging), nas_path=str(lab.nas), allow_same_filesystem=True, now=now)
    discovery.discover(root, now=now)
    return lab


def test_bad_usage_is_status_2_and_one_sentence(
    known: Lab, subprocess_env: dict[str, str], tmp_path: Path, now: datetime
) -> None:
    other = Lab(tmp_path / "second")
    other.run()
    root = registration.register("second", str(other.staging), now=now)
    discovery.discover(root, now=now)
    before = everything(known), list(Run.objects.order_by("pk").values())
    unknown = "FLOW_01/PROJ-0060/Runs/Run_2026-06-01T13-00"
    bad = {
        ("clear", unknown): "No run",
        ("clear", "../../etc"): "No run",
        ("clear", RUN_PATH): "known in lab, second: say which with --root",
        ("clear", RUN_PATH, "--root", "third"): "No staging root third",
        ("clear", "--root", "lab", RUN_PATH, unknown): "No run",
        ("clear", "--root", "lab", RUN_PATH, "--user", "nobody"): "No user nobody",
        ("clear",): "RUN_PATH",
        ("evaluate", unknown): "No run",
        ("discover", "--root", "third"): "known: lab, second",
        ("sweep", "--now", "2030-01-01T00:00:00Z"): "--dry-run only",
        ("sweep", "--dry-run", "--now", "soon"): "no instant",
        ("sweep", "--limit", "0"): "no number of runs",
        ("set_policy", "--json"): "Say what to change",
        ("set_policy", "--mode", "scheduled", "--equipment", "CONFOKAL_01"): "nearest: CONFOCAL_01",
        ("set_policy", "--retain-hours", "-1"): "between 0 and",
        ("set_policy", "--retain-hours", "nan"): "between 0 and",
        ("add_staging_root", "all", "/"): "must not be /",
        ("add_staging_root", "inner", str(known.staging / "CONFOCAL_01")): "one in the other",
        ("add_staging_root", "gone", str(known.base / "gone")): "cannot be found",
    }
    done = together(subprocess_env, list(bad))
    for (arguments, sentence), answer in zip(bad.items(), done, strict=True):
        assert (answer.status, answer.out) == (2, ""), arguments
        assert sentence in answer.err, (arguments, answer.err)
        assert "Traceback" not in answer.err
    assert (everything(known), list(Run.objects.order_by("pk").values())) == before


def test_the_shape_of_a_sweep(known: Lab, manage: Manage) -> None:
    manage("set_policy", "--mode", "scheduled", "--retain-hours", "24h")
    answer = manage("sweep", "--dry-run", "--now", "2030-01-01T00:00:00Z", "--json").json
    (run,) = answer.pop("runs")
    files, size = census(known.staging / RUN_PATH)
    assert answer == {
        "dry_run": True,
        "now": "2030-01-01T00:00:00+00:00",
        "scanned": 1,
        "candidates": 1,
        "cleared": 0,
        "skipped": 0,
        "failed": 0,
        "not_verified": 0,
        "files": files,
        "bytes_freed": size,
        "problems": [],
        "allocated_bytes": run["allocated_bytes"],
        "measured_bytes": None,
        "measured_of_bytes": None,
    }
    assert set(run.pop("policy")) == {"mode", "retain_hours", "proof"}
    assert run["allocated_bytes"] > 0
    assert run == {
        "root": "lab",
        "run_path": RUN_PATH,
        "action": "would_clear",
        "reason": "retention",
        "detail": "",
        "files": files,
        "bytes": size,
        "allocated_bytes": run["allocated_bytes"],
        "measured_bytes": None,
        "unmeasured": None,
    }


def test_an_operator_clears_from_the_command_line(known: Lab, manage: Manage) -> None:
    User.objects.create(username="ada")
    files, size = census(known.staging / RUN_PATH)
    rehearsed = manage("clear", RUN_PATH, "--dry-run", "--json")
    assert (rehearsed.status, rehearsed.json["runs"][0]["action"]) == (0, "would_clear")
    assert (known.staging / RUN_PATH).exists()
    done = manage("clear", RUN_PATH + "/", "--user", "ada", "--reason", "the disk is full", "--json")
    assert done.status == 0
    (run,) = done.json["runs"]
    assert (run["action"], run["files"], run["bytes"]) == ("cleared", files, size)
    assert (done.json["dry_run"], done.json["cleared"], done.json["bytes_freed"]) == (False, 1, size)
    attempt = Run.objects.get().attempts.get()
    assert (attempt.actor, attempt.note, attempt.requester) == ("ada", "the disk is full", "operator")
    again = manage("clear", RUN_PATH, "--json")
    assert (again.status, again.json["skipped"], again.json["files"]) == (0, 1, 0)
    assert again.json["runs"][0]["reason"] == "already_cleared"
    by_operator = manage("audit", "--by", "operator", "--json").json
    assert by_operator["groups"] == [
        {
            "operator": "ada",
            "runs": 1,
            "files": files,
            "bytes_freed": size,
            "allocated_bytes": by_operator["total"]["allocated_bytes"],
            "measured_bytes": by_operator["total"]["measured_bytes"],
            "measured_of_bytes": by_operator["total"]["measured_of_bytes"],
        }
    ]


def test_a_refused_clear_is_status_1_and_a_skip_in_a_sweep_is_none(known: Lab, manage: Manage) -> None:
    manage("set_policy", "--mode", "scheduled", "--retain-hours", "0", "--at-once")
    (known.staging / RUN_PATH / METADATA / "checksums.sha256").unlink()
    before = everything(known)
    refused = manage("clear", RUN_PATH, "--json")
    assert refused.status == 1
    (run,) = refused.json["runs"]
    assert (run["action"], run["reason"], run["files"]) == ("refused", "manifest_missing", 0)
    swept = manage("sweep", "--json")
    assert (swept.status, swept.json["skipped"], swept.json["runs"][0]["reason"]) == (0, 1, "manifest_missing")
    said = manage("clear", RUN_PATH)
    assert said.status == 1
    assert "The run has no manifest of checksums." in said.out
    assert everything(known) == before


def test_evaluate_shows_every_gate_and_changes_nothing(known: Lab, manage: Manage) -> None:
    manage("set_policy", "--mode", "scheduled", "--retain-hours", "240")
    before, rows = everything(known), list(Run.objects.values())
    answer = manage("evaluate", "--json").json
    assert set(answer) == {"now", "runs"}
    (run,) = answer["runs"]
    gates, policy = run.pop("gates"), run.pop("policy")
    assert run == {"root": "lab", "run_path": RUN_PATH, "state": "sync_verified", "clearable": True, "cleared": None}
    everywhere = {"root": None, "equipment": None, "project": None, "run_kind": None}
    assert policy["retain_hours"] == {"value": 240.0, "version": 1, "scope": everywhere}
    assert policy["proof"] == {"value": "checksum", "version": None, "scope": None}
    names = " ".join(gate["gate"] for gate in gates)
    assert names == "state clock retention hold path unchanged proof free attempts budget breaker"
    assert all(set(gate) == {"gate", "verdict", "reason", "detail", "opens_at"} for gate in gates)
    retention = gates[2]
    assert (retention["verdict"], retention["reason"]) == ("wait", "retention_not_elapsed")
    verified = Run.objects.get().verified_at
    assert verified is not None
    assert datetime.fromisoformat(retention["opens_at"]) == verified + timedelta(hours=240)
    named = manage("evaluate", RUN_PATH, "--root", "lab", "--json").json["runs"][0]
    assert [gate["verdict"] for gate in named["gates"]] == [gate["verdict"] for gate in gates]
    assert (everything(known), list(Run.objects.values())) == (before, rows)


def test_problems_are_told_by_discover(known: Lab, manage: Manage) -> None:
    (known.staging / RUN_PATH / METADATA / "ingest.json").write_bytes(b"{")
    done = manage("discover", "--json")
    assert done.status == 0
    (problem,) = done.json["problems"]
    assert set(problem) == {"root", "run_path", "reason", "detail"}
    assert (problem["root"], problem["run_path"], problem["reason"]) == ("lab", RUN_PATH, "ingest_unreadable")


def test_an_empty_nas_is_told_at_once(lab: Lab, manage: Manage) -> None:
    lab.run(twin=False)
    added = manage("add_staging_root", "lab", lab.staging, "--nas-root", lab.nas, "--allow-same-filesystem", "--json")
    assert added.status == 0
    assert added.json["nas_token"] is None
    assert "perhaps it is not mounted" in added.err
    assert list(lab.nas.iterdir()) == []
    assert StagingRoot.objects.get().nas_token == ""


def test_several_roots_have_no_one_name(known: Lab, manage: Manage, tmp_path: Path) -> None:
    other = Lab(tmp_path / "second")
    other.run()
    registration.register("second", str(other.staging), now=timezone.now())
    assert manage("discover", "--json").json["root"] is None
    assert manage("discover", "--root", "second", "--json").json["root"] == "second"
    refused = manage("clear", RUN_PATH, "--root", "second", "--json")
    assert (refused.status, refused.json["runs"][0]["reason"]) == (1, "nas_not_configured")
    assert manage("clear", RUN_PATH, "--root", "lab", "--json").json["cleared"] == 1
    assert (other.staging / RUN_PATH).exists()
