"""Discovery changes nothing on the disk."""

import json
import os
import shutil
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cleanup import clear_run
from cleanup.clears.refusal import Refused
from cleanup.lab.roots import opening
from cleanup.models import IngestEvent, Run, StagingRoot
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery, run_status
from cleanup.runs.discovery import Discovered
from cleanup.runs.facts import inspection, stored_facts
from tests.faults.means import before
from tests.faults.scene import everything, set_scene
from tests.tools.lab import METADATA, RUN_PATH, Lab, census, read_ingest

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

LEAVES = {
    "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-32": "sync_verified",
    "CONFOCAL_01/PROJ-0042/TestRuns/TestRun_2026-04-17T09-12": "sync_verified",
    "CONFOCAL_01/PROJ-0051/Runs/Run_2026-05-02T08-00-59": "sync_queued",
    "FLOW_01/PROJ-0042/Runs/Run_2026-04-20T11-45": "complete",
    "FLOW_01/PROJ-0060/Runs/Run_2026-06-01T13-00": "staging",
}
NEXT = {"staging": "complete", "complete": "sync_queued", "sync_queued": "sync_verified"}


def discover(root: StagingRoot, now: datetime) -> Discovered:
    found = discovery.discover(root, now=now)
    assert found is not None
    return found


def counts(found: Discovered) -> tuple[int, int, int, int]:
    return found.found, found.new, found.updated, found.unchanged


def rows() -> list[Any]:
    runs = []
    for run in Run.objects.order_by("pk").values():
        for name in ("looked_at", "seen", "seen_doubts"):
            del run[name]
        run["facts"].pop("gathered_at", None)
        runs.append(run)
    return [runs, list(IngestEvent.objects.order_by("pk").values())]


def record_path(run: Path) -> Path:
    return run / METADATA / "ingest.json"


def write(run: Path, record: dict[str, Any]) -> None:
    record_path(run).write_text(json.dumps(record))


def append(run: Path, state: str, at: str = "2026-06-14T10:00:00Z") -> None:
    record = read_ingest(run)
    record["history"].append({"state": state, "at": at, "host": "labpc-04"})
    record["current_state"] = state
    write(run, record)


# What is there


@pytest.mark.both_engines
def test_finds_every_run_with_its_whole_history(lab: Lab, root: Any, now: datetime) -> None:
    paths = {run_path: lab.run(run_path, state=state) for run_path, state in LEAVES.items()}
    before = everything(lab)
    assert counts(discover(root, now)) == (5, 5, 0, 0)
    assert everything(lab) == before
    for run_path, path in paths.items():
        run = Run.objects.get(run_path=run_path)
        history = read_ingest(path)["history"]
        assert run.state == LEAVES[run_path] == history[-1]["state"]
        assert (run.files, run.bytes) == census(path)
        assert (run.equipment, run.project, run.leaf) == (
            path.parents[2].name,
            path.parents[1].name,
            path.name,
        )
        assert run.run_kind == ("test" if "TestRuns" in run_path else "experimental")
        assert (run.project_name, run.problem) == ("Cortex Q3 Pilot", "")
        events = list(run.events.order_by("position"))
        assert [(event.position, event.state, event.at_text, event.host) for event in events] == [
            (position, entry["state"], entry["at"], entry["host"]) for position, entry in enumerate(history)
        ]
        for event, entry in zip(events, history, strict=True):
            assert event.at == datetime.fromisoformat(entry["at"])
            assert {**event.extra, "state": event.state, "at": event.at_text, "host": event.host} == entry
    verified = Run.objects.get(run_path=RUN_PATH)
    assert verified.verified_at == datetime.fromisoformat("2026-04-17T16:15:43Z")
    root.refresh_from_db()
    assert (root.discovered_at, root.problem) == (now, "")


@pytest.mark.both_engines
def test_a_second_pass_finds_nothing_new(lab: Lab, root: Any, now: datetime) -> None:
    for run_path, state in LEAVES.items():
        lab.run(run_path, state=state)
    discover(root, now)
    before = rows()
    later = now + timedelta(hours=1)
    assert counts(discover(root, later)) == (5, 0, 0, 5)
    assert rows() == before
    assert set(Run.objects.values_list("looked_at", flat=True)) == {later}


@pytest.mark.both_engines
def test_history_grows_step_by_step(lab: Lab, root: Any, now: datetime) -> None:
    path = lab.run(state="staging")
    discover(root, now)
    state = "staging"
    while state in NEXT:
        state = NEXT[state]
        append(path, state)
        assert counts(discover(root, now)) == (1, 0, 1, 0)
        run = Run.objects.get()
        assert run.state == state
        assert run.events.last().state == state
    assert run.verified_at == datetime.fromisoformat("2026-06-14T10:00:00Z")
    assert counts(discover(root, now)) == (1, 0, 0, 1)


def test_several_steps_at_once(lab: Lab, root: Any, now: datetime) -> None:
    path = lab.run(state="staging")
    discover(root, now)
    for state in NEXT.values():
        append(path, state)
    discover(root, now + timedelta(hours=1))
    events = Run.objects.get().events.order_by("position")
    assert [event.state for event in events] == ["staging", "complete", "sync_queued", "sync_verified"]
    assert [event.first_seen_at for event in events] == [now, *[now + timedelta(hours=1)] * 3]


def test_the_same_record_written_otherwise_is_the_same(lab: Lab, root: Any, now: datetime) -> None:
    path = lab.run()
    discover(root, now)
    before = rows()
    record = read_ingest(path)
    record["history"] = [dict(reversed(list(entry.items()))) for entry in record["history"]]
    record_path(path).write_text(json.dumps(record, indent=4))
    found = discover(root, now)
    assert found.problems == []
    assert rows()[1] == before[1]
    assert Run.objects.get().state == "sync_verified"


def test_new_data_makes_the_facts_new(lab: Lab, root: Any, now: datetime) -> None:
    path = lab.run(state="staging")
    discover(root, now)
    (path / "frame.tif").write_bytes(b"x" * 1000)
    assert counts(discover(root, now)) == (1, 0, 1, 0)
    run = Run.objects.get()
    assert (run.files, run.bytes) == census(path)


def test_what_pages_alone_show_is_no_news(lab: Lab, root: Any, now: datetime) -> None:
    """A parked run stays parked with other files on the NAS, and after an upgrade that stores more."""
    lab.run()
    discover(root, now)
    run = Run.objects.get()
    before = {name: value for name, value in run.facts.items() if name not in stored_facts.ONLY_SHOWN}
    Run.objects.update(failures=3, facts=before)
    assert counts(discover(root, now)) == (1, 0, 0, 1)
    (lab.twin() / "analysis.txt").write_text("by somebody else")
    assert counts(discover(root, now)) == (1, 0, 0, 1)
    run.refresh_from_db()
    assert run.failures == 3
    assert run.facts["twin"]["more"] == 1
    (lab.twin() / "README.md").unlink()
    assert counts(discover(root, now)) == (1, 0, 1, 0)
    assert Run.objects.get().failures == 0


def test_what_is_no_run_is_no_concern(lab: Lab, root: Any, now: datetime) -> None:
    lab.run()
    base = lab.staging / "CONFOCAL_01/PROJ-0042"
    for name in (
        "Runs/Run_2026-04-17",
        "Runs/TestRun_2026-04-17T14-32",
        "Runs/scratch",
        "Calibration/Run_2026-04-17T14-32",
    ):
        (base / name).mkdir(parents=True)
    for name in ("Runs/.exlab-clearing-" + "a" * 32, "Runs/.Trash", ".hidden"):
        (base / name / METADATA).mkdir(parents=True)
    (base / "Runs/Run_2026-05-01T00-00").write_text("a file")
    (lab.staging / "lost+found").mkdir()
    (lab.staging / "notes.txt").write_text("a file")
    found = discover(root, now)
    stray = "CONFOCAL_01/PROJ-0042/Runs/.exlab-clearing-" + "a" * 32
    assert (counts(found), found.problems) == ((1, 1, 0, 0), [(stray, Reason.STRAY_FENCE, "")])


# What is not believed


def test_rewritten_history_changes_nothing(lab: Lab, root: Any, now: datetime) -> None:
    path = lab.run()
    discover(root, now)
    events = rows()[1]
    original = record_path(path).read_bytes()
    for change in (
        lambda r: r["history"][0].update(at="2020-01-01T00:00:00Z"),
        lambda r: r["history"][-1].update(at="2020-01-01T00:00:00Z"),
        lambda r: r["history"][-1].update(nas_path="/etc"),
        lambda r: (r["history"].pop(), r.update(current_state="sync_queued")),
        lambda r: r.update(current_state="staging", history=r["history"][:1]),
    ):
        record = json.loads(original)
        change(record)
        write(path, record)
        found = discover(root, now)
        assert found.problems[0][:2] == (RUN_PATH, Reason.INGEST_DISAGREES)
        run = Run.objects.get()
        assert (run.problem, run.state) == ("ingest_disagrees", "sync_verified")
        assert run.verified_at == datetime.fromisoformat("2026-04-17T16:15:43Z")
        assert rows()[1] == events
        assert_never_cleared(run, lab, now, Reason.INGEST_DISAGREES)
    record_path(path).write_bytes(original)
    discover(root, now)
    assert Run.objects.get().problem == ""


BIG = b'{"schema_version": "1.1", "filler": "' + b"x" * (4 << 20) + b'"}'


def edited(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps({**json.loads(content), **changes}).encode()


def with_history(*states: str) -> Callable[[bytes], bytes]:
    entries = [{"state": state, "at": "2026-04-17T16:15:43Z", "host": "x"} for state in states]
    return edited(history=entries, current_state=states[-1])


BAD_RECORDS: dict[str, tuple[Callable[[bytes], bytes | None], Reason]] = {
    "missing": (lambda content: None, Reason.INGEST_UNREADABLE),
    "empty": (lambda content: b"", Reason.INGEST_UNREADABLE),
    "truncated": (lambda content: content[:-20], Reason.INGEST_UNREADABLE),
    "oversized": (lambda content: BIG, Reason.INGEST_UNREADABLE),
    "a key twice": (
        lambda content: content.replace(b'{"schema_version"', b'{"run_kind":"test","schema_version"', 1),
        Reason.INGEST_UNREADABLE,
    ),
    "a key twice in an entry": (
        lambda content: content.replace(b'"state":"staging"', b'"state":"sync_verified","state":"staging"', 1),
        Reason.INGEST_UNREADABLE,
    ),
    "not UTF-8": (lambda content: content.replace(b"Cortex", b"C\xf8rtex"), Reason.INGEST_UNREADABLE),
    "UTF-16": (lambda content: content.decode().encode("utf-16"), Reason.INGEST_UNREADABLE),
    "a list": (lambda content: b"[" + content + b"]", Reason.INGEST_UNREADABLE),
    "nested without end": (lambda content: b"[" * 100_000 + b"]" * 100_000, Reason.INGEST_UNREADABLE),
    "no JSON number": (lambda content: content[:-1] + b',"x":NaN}', Reason.INGEST_UNREADABLE),
    "a NUL": (lambda content: content.replace(b"Cortex", b"\\u0000"), Reason.INGEST_UNREADABLE),
    "half a surrogate pair": (lambda content: content.replace(b"Cortex", b"\\ud800"), Reason.INGEST_UNREADABLE),
    "a later schema": (edited(schema_version="2.0"), Reason.INGEST_SCHEMA_UNSUPPORTED),
    "an earlier schema": (edited(schema_version="0.9"), Reason.INGEST_SCHEMA_UNSUPPORTED),
    "no schema": (edited(schema_version=None), Reason.INGEST_UNREADABLE),
    "no history": (edited(history=[]), Reason.INGEST_UNREADABLE),
    "history is text": (edited(history="sync_verified"), Reason.INGEST_UNREADABLE),
    "an unknown state": (with_history("staging", "verified"), Reason.INGEST_UNREADABLE),
    "a leap": (with_history("staging", "sync_verified"), Reason.INGEST_DISAGREES),
    "backwards": (with_history("staging", "complete", "staging"), Reason.INGEST_DISAGREES),
    "twice": (
        with_history("staging", "complete", "sync_queued", "sync_verified", "sync_verified"),
        Reason.INGEST_DISAGREES,
    ),
    "out of nowhere": (with_history("sync_verified"), Reason.INGEST_DISAGREES),
    "another state than its history": (edited(current_state="complete"), Reason.INGEST_DISAGREES),
    "another run": (edited(run_path="CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-18T14-32"), Reason.INGEST_DISAGREES),
    "an absolute path": (edited(run_path="/" + RUN_PATH), Reason.INGEST_DISAGREES),
    "a climbing path": (edited(run_path="CONFOCAL_01/../" + RUN_PATH), Reason.INGEST_DISAGREES),
    "another instrument": (edited(equipment_id="FLOW_01"), Reason.INGEST_DISAGREES),
    "another kind": (edited(run_kind="test"), Reason.INGEST_DISAGREES),
}


def test_every_bad_record_is_listed_and_never_cleared(lab: Lab, root: Any, now: datetime, policy: Any) -> None:
    policy(mode="scheduled", retain_hours=0, proof="record")  # nothing else stands in the way
    expected = {}
    for number, (spoil, reason) in enumerate(BAD_RECORDS.values()):
        run_path = f"CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-{number:02}"
        path = record_path(lab.run(run_path, files={"data": b"1"}))
        # The place that a record names must be the only thing wrong with it.
        content = spoil(path.read_bytes())
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        expected[run_path] = reason
    before = everything(lab)
    found = discover(root, now)
    names = dict(zip(expected, BAD_RECORDS, strict=True))
    assert {names[path]: reason for path, reason, _ in found.problems} == {
        names[path]: reason for path, reason in expected.items()
    }
    assert counts(found)[:2] == (len(BAD_RECORDS), len(BAD_RECORDS))
    for run in Run.objects.with_root():
        assert (run.problem, run.state) == (expected[run.run_path], "")
        assert not run.events.exists()
        with pytest.raises(Refused) as refused:
            clear_run(run, now=now)
        assert refused.value.finding.reason is expected[run.run_path]
    assert everything(lab) == before
    assert counts(discover(root, now))[1:3] == (0, 0)


@pytest.mark.parametrize("how", ["link", "fifo", "directory", "link to a directory"])
def test_a_record_that_is_no_file(lab: Lab, root: Any, now: datetime, how: str) -> None:
    path = record_path(lab.run())
    aside = lab.base / "aside.json"
    path.rename(aside)
    if how == "link":
        path.symlink_to(aside)
    elif how == "fifo":
        os.mkfifo(path)
    elif how == "directory":
        path.mkdir()
    else:
        metadata = path.parent
        metadata.rename(lab.base / "metadata")
        aside.rename(lab.base / "metadata/ingest.json")
        metadata.symlink_to(lab.base / "metadata")
    found = discover(root, now)
    assert Reason.INGEST_UNREADABLE in [reason for _, reason, _ in found.problems]
    linked_folder = how == "link to a directory"
    expected = Reason.UNSAFE_PATH if linked_folder else Reason.INGEST_UNREADABLE
    assert_never_cleared(Run.objects.get(), lab, now, expected)


def assert_never_cleared(run: Run, lab: Lab, now: datetime, reason: Reason) -> None:
    before = everything(lab)
    with pytest.raises(Refused) as refused:
        clear_run(run, now=now)
    assert refused.value.finding.reason is reason
    assert everything(lab) == before


def test_a_nas_path_is_kept_and_never_opened(lab: Lab, root: Any, now: datetime, tmp_path: Path) -> None:
    """The twin is always the NAS root plus the run's own path."""
    trap = tmp_path / "trap"
    shutil.copytree(lab.run(), trap)
    path = lab.staging / RUN_PATH
    shutil.rmtree(lab.twin())
    record = read_ingest(path)
    record["history"][-1]["nas_path"] = str(trap)
    write(path, record)
    discover(root, now)
    assert Run.objects.get().events.last().extra == {"nas_path": str(trap)}
    assert_never_cleared(Run.objects.get(), lab, now, Reason.NAS_MISSING_FILE)


def test_the_file_alone_authorises_nothing(lab: Lab, root: Any, now: datetime) -> None:
    """`sync_verified` is written into the record of a run that was never verified: there is no proof."""
    path = lab.run(state="complete")
    for state in ("sync_queued", "sync_verified"):
        append(path, state, "2026-05-01T00:00:00Z")
    discover(root, now)
    assert Run.objects.get().state == "sync_verified"
    assert_never_cleared(Run.objects.get(), lab, now, Reason.MANIFEST_MISSING)


# Links on the way


@pytest.mark.parametrize("level", ["CONFOCAL_01", "CONFOCAL_01/PROJ-0042", "CONFOCAL_01/PROJ-0042/Runs", RUN_PATH])
@pytest.mark.parametrize("known", [False, True])
def test_a_linked_folder_is_refused_and_not_entered(
    lab: Lab, root: Any, now: datetime, level: str, known: bool
) -> None:
    lab.run()
    if known:
        discover(root, now)
    folder = lab.staging / level
    elsewhere = lab.base / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    before = everything(lab)
    found = discover(root, now)
    assert (level, Reason.UNSAFE_PATH) in [(path, reason) for path, reason, _ in found.problems]
    assert found.new == 0
    assert everything(lab) == before
    if not known:
        assert not Run.objects.exists()
        return
    run = Run.objects.get()
    assert (run.state, run.problem) == ("sync_verified", "unsafe_path")
    assert_never_cleared(run, lab, now, Reason.UNSAFE_PATH)
    folder.unlink()
    elsewhere.rename(folder)
    discover(root, now)
    assert Run.objects.get().problem == ""


# Roots


@pytest.mark.parametrize("harm", ["gone", "other", "broken", "unmounted", "missing"])
def test_without_its_token_a_root_is_only_marked(lab: Lab, root: Any, now: datetime, harm: str) -> None:
    path = lab.run()
    discover(root, now)
    before = rows(), list(Run.objects.values())
    append(path, "cleared")
    token = lab.staging / ".exlab-root"
    if harm == "gone":
        token.unlink()
    elif harm in ("unmounted", "missing"):
        lab.staging.rename(lab.base / "away")
        if harm == "unmounted":
            lab.staging.mkdir()
    else:
        token.write_text("11111111-2222-3333-4444-555555555555" if harm == "other" else "?")
    found = discover(root, now + timedelta(hours=1))
    assert (counts(found), [reason for _, reason, _ in found.problems]) == ((0, 0, 0, 0), [Reason.ROOT_NOT_MOUNTED])
    assert (rows(), list(Run.objects.values())) == before
    root.refresh_from_db()
    assert (root.problem, root.discovered_at) == ("root_not_mounted", now)


def test_a_root_that_has_no_token_yet(lab: Lab, now: datetime) -> None:
    from cleanup.lab.roots.registration import register

    root = register("lab", str(lab.staging), now=now)
    lab.run()
    found = discover(root, now)
    assert [reason for _, reason, _ in found.problems] == [Reason.ROOT_NOT_MOUNTED]
    assert not Run.objects.exists()


def test_a_root_of_another_host(lab: Lab, root: Any, now: datetime, settings: Any) -> None:
    lab.run()
    settings.EXLAB_HOST = "another-pc"
    found = discover(root, now)
    assert [reason for _, reason, _ in found.problems] == [Reason.ROOT_NOT_MOUNTED]
    assert not Run.objects.exists()


@pytest.mark.both_engines
def test_only_one_pass_at_a_time(lab: Lab, root: Any, now: datetime) -> None:
    lab.run()
    with opening.data_dir().lock(f"discovery-{root.pk}") as free:
        assert free
        assert discovery.discover(root, now=now, wait=False) is None
    assert not Run.objects.exists()
    assert discovery.discover(root, now=now, wait=False) is not None


# Runs that come and go


def test_a_run_whose_directory_is_gone(lab: Lab, root: Any, now: datetime) -> None:
    path = lab.run()
    discover(root, now)
    path.rename(lab.base / "away")
    found = discover(root, now)
    assert (counts(found), found.problems[0][:2]) == ((0, 0, 1, 0), (RUN_PATH, Reason.MISSING_DIRECTORY))
    run = Run.objects.get()
    assert (run.problem, run.state) == ("missing_directory", "sync_verified")
    assert counts(discover(root, now)) == (0, 0, 0, 1)
    (lab.base / "away").rename(path)
    assert counts(discover(root, now)) == (1, 0, 1, 0)
    assert Run.objects.get().problem == ""


def test_a_directory_in_the_place_of_another(lab: Lab, root: Any, now: datetime) -> None:
    path = lab.run()
    discover(root, now)
    events = rows()[1]
    path.rename(lab.base / "away")
    shutil.copytree(lab.base / "away", path)
    append(path, "cleared")
    found = discover(root, now)
    assert Reason.IDENTITY_MISMATCH in [reason for _, reason, _ in found.problems]
    run = Run.objects.get()
    assert (run.state, rows()[1]) == ("sync_verified", events)
    shutil.rmtree(path)
    (lab.base / "away").rename(path)
    discover(root, now)
    assert Run.objects.get().problem == ""


def test_a_run_is_known_before_its_record_is_written(lab: Lab, root: Any, now: datetime) -> None:
    path = lab.run(state="staging")
    record = record_path(path).read_bytes()
    record_path(path).unlink()
    discover(root, now)
    record_path(path).write_bytes(record)
    assert counts(discover(root, now)) == (1, 0, 1, 0)
    run = Run.objects.get()
    assert (run.state, run.problem) == ("staging", "")
    shutil.move(path, lab.base / "away")
    shutil.copytree(lab.base / "away", path)
    discover(root, now)
    assert Run.objects.get().problem == "identity_mismatch"


@pytest.mark.both_engines
def test_a_new_run_at_the_path_of_a_cleared_one(lab: Lab, root: Any, now: datetime) -> None:
    scene = set_scene(lab, root, now)
    clear_run(scene.run, now=now)
    assert counts(discover(root, now)) == (0, 0, 0, 0)
    path = lab.run(state="staging", twin=False)
    assert counts(discover(root, now)) == (1, 1, 0, 0)
    old, new = Run.objects.order_by("pk")
    assert (old.pk, old.state, old.problem) == (scene.run.pk, "cleared", "")
    assert (new.run_path, new.state) == (old.run_path, "staging")
    assert (new.files, new.bytes) == census(path)


def test_cleared_by_somebody_else_with_the_data_still_there(lab: Lab, root: Any, now: datetime) -> None:
    path = lab.run()
    discover(root, now)
    append(path, "cleared")
    found = discover(root, now)
    assert found.problems[0][:2] == (RUN_PATH, Reason.ALREADY_CLEARED)
    run = Run.objects.get()
    assert (run.state, run.problem) == ("cleared", "already_cleared")
    assert run.cleared_at == datetime.fromisoformat("2026-06-14T10:00:00Z")
    assert run.events.last().state == "cleared"
    assert counts(discover(root, now)) == (1, 0, 0, 1)
    before = everything(lab)
    assert clear_run(run, now=now) == (0, 0)
    assert everything(lab) == before
    assert Run.objects.count() == 1


def test_a_run_that_is_found_cleared(lab: Lab, root: Any, now: datetime) -> None:
    lab.run(state="cleared")
    found = discover(root, now)
    assert counts(found) == (1, 1, 0, 0)
    assert found.problems[0][:2] == (RUN_PATH, Reason.ALREADY_CLEARED)
    assert counts(discover(root, now)) == (1, 0, 0, 1)
    assert Run.objects.count() == 1


def test_runs_with_an_active_attempt_are_left_to_it(lab: Lab, root: Any, now: datetime) -> None:
    scene = set_scene(lab, root, now)
    scene.attempt()
    append(scene.path, "cleared")
    # How it stands is no fact, and may be judged at any time.
    run_status.judge_runs([scene.run.pk], now)
    before = rows(), list(Run.objects.values())
    found = discover(root, now + timedelta(hours=1))
    assert (found.problems, found.updated, found.new) == ([], 0, 0)
    assert (rows(), list(Run.objects.values())) == before
    scene.path.rename(lab.base / "away")
    found = discover(root, now + timedelta(hours=1))
    assert (found.problems, found.updated) == ([], 0)
    assert (rows(), list(Run.objects.values())) == before


def test_a_run_that_is_cleared_while_it_is_looked_at_is_no_problem(
    lab: Lab, root: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = set_scene(lab, root, now)
    with before(monkeypatch, inspection, "quick_look", lambda: clear_run(scene.run, now=scene.now)):
        found = discover(root, now + timedelta(hours=1))
    assert not scene.path.exists()
    assert (found.problems, counts(found)) == ([], (1, 0, 0, 1))
    run = Run.objects.get()
    assert (run.state, run.problem) == ("cleared", "")


def test_a_look_that_is_cut_short_by_a_clear_is_no_problem(
    lab: Lab, root: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = set_scene(lab, root, now)

    def cut_short(*_: Any, **__: Any) -> None:
        monkeypatch.undo()
        clear_run(scene.run, now=scene.now)
        raise opening.Unreachable(Finding(Reason.UNSAFE_PATH, ".exlab-wizard: No such file or directory"))

    monkeypatch.setattr(inspection, "quick_look", cut_short)
    found = discover(root, now + timedelta(hours=1))
    assert (found.problems, counts(found)) == ([], (1, 0, 0, 1))


# A bad neighbour


@pytest.mark.both_engines
def test_one_broken_folder_does_not_stop_the_pass(lab: Lab, root: Any, now: datetime) -> None:
    lab.run("FLOW_01/PROJ-0060/Runs/Run_2026-06-01T13-00")
    lab.run("ZETA_01/PROJ-0060/Runs/Run_2026-06-01T13-00")
    for name in ("a\nline", " space", "back\\slash ", os.fsdecode(b"latin-\xf8")):
        (lab.staging / name / "P/Runs/Run_2026-06-01T13-00").mkdir(parents=True)
    (lab.staging / "EMPTY").symlink_to("EMPTY")
    deep = lab.run("MESO_01/P/Runs/Run_2026-06-01T13-00")
    (deep / ("d/" * 200)).mkdir(parents=True)
    fifo = lab.run("NANO_01/P/Runs/Run_2026-06-01T13-00")
    os.mkfifo(fifo / "pipe")
    done = []
    thread = threading.Timer(60, lambda: done.append("hangs"))
    thread.start()
    found = discover(root, now)
    thread.cancel()
    assert not done
    assert found.found == 4
    assert sorted(Run.objects.filter(problem="").values_list("equipment", flat=True)) == ["FLOW_01", "ZETA_01"]
    assert dict(Run.objects.exclude(problem="").values_list("equipment", "problem")) == {
        "MESO_01": "tree_too_deep",
        "NANO_01": "special_file",
    }
    reasons = {path: reason for path, reason, _ in found.problems}
    assert reasons["a\\nline"] is reasons[" space"] is reasons["EMPTY"] is Reason.UNSAFE_PATH
    assert all(path.isprintable() for path in reasons)


def test_nas_trouble_does_not_stop_the_pass(lab: Lab, root: Any, now: datetime) -> None:
    lab.run()
    lab.nas.rename(lab.base / "away")
    found = discover(root, now)
    assert (counts(found), found.problems) == ((1, 1, 0, 0), [])
    run = Run.objects.with_root().get()
    decision = stored_facts.decision(run, [], now)
    assert not decision.clearable
    assert [gate.reason for gate in decision.refusals(operator=True)] == [Reason.NAS_NOT_MOUNTED]
