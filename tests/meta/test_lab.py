import json
import os
import stat
from datetime import UTC, datetime

import pytest

from cleanup.storage.staging.metadata import LEFT_BY_THE_WIZARD
from tests.tools.lab import RUN_PATH, STATES, Lab, census, read_ingest, snapshot


def test_a_verified_run_is_whole_and_has_its_twin(lab: Lab) -> None:
    run = lab.run()
    assert run == lab.staging / RUN_PATH
    ingest = read_ingest(run)
    assert (run / ".exlab-wizard/ingest.json").read_text() == json.dumps(ingest, separators=(",", ":"))
    assert [entry["state"] for entry in ingest["history"]] == list(STATES[:4])
    assert ingest["history"][-1]["at"] == "2026-04-17T16:15:43Z"
    assert ingest["history"][1]["at"] == "2026-04-17T16:09:00Z"
    assert ingest["history"][-1]["nas_path"] == RUN_PATH
    files, size = census(run)
    assert {path.name for path in (run / ".exlab-wizard").iterdir()} == {*LEFT_BY_THE_WIZARD, "wizard.labpc-04.log"}
    assert files == ingest["history"][1]["files_received"] + len(LEFT_BY_THE_WIZARD) + 1
    assert size > ingest["history"][1]["bytes_received"]
    for name in ("ingest.json", "checksums.sha256"):
        assert stat.S_IMODE((run / ".exlab-wizard" / name).stat().st_mode) == 0o600
    for lock in ("ingest.json.lock", "creation.json.lock"):
        assert (run / ".exlab-wizard" / lock).read_bytes() == b""
    mine, twin = snapshot(run), snapshot(lab.twin())
    assert mine.keys() - twin.keys() == {".exlab-wizard/ingest.json.lock", ".exlab-wizard/creation.json.lock"}
    assert all(mine[name].content == twin[name].content for name in twin)
    verified = datetime(2026, 4, 17, 16, 15, 43, tzinfo=UTC).timestamp()
    assert all(seen.mtime_ns < verified * 1e9 for seen in mine.values())


@pytest.mark.parametrize("state", STATES[:3])
def test_a_run_on_its_way_has_neither_manifest_nor_twin(lab: Lab, state: str) -> None:
    run = lab.run(state=state)
    assert read_ingest(run)["current_state"] == state
    assert not (run / ".exlab-wizard/checksums.sha256").exists()
    assert not lab.twin().exists()
    assert (run / "run_complete").exists() == (state != "staging")


def test_a_twin_may_be_older_or_missing(lab: Lab) -> None:
    lab.run(twin_state="sync_queued")
    assert read_ingest(lab.twin())["current_state"] == "sync_queued"
    lab.run("FLOW_01/PROJ-0060/TestRuns/TestRun_2026-05-01T10-00", twin=False)
    assert not lab.twin("FLOW_01/PROJ-0060/TestRuns/TestRun_2026-05-01T10-00").exists()


def test_a_snapshot_sees_every_change(lab: Lab) -> None:
    run = lab.run()
    before = snapshot(run)
    assert snapshot(run) == before
    os.utime(run / "tiles", (1, 1))
    assert snapshot(run) != before
