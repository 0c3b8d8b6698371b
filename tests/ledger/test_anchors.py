"""Where the head is written down outside of the database."""

import logging
import os
import signal
import stat
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings

from cleanup import tasks
from cleanup.clears import protocol
from cleanup.lab.nas import nas_anchors
from cleanup.ledger import anchor_sources, anchors, book
from cleanup.ledger.anchors import Anchor
from cleanup.models import AnchorPlace, LedgerAnchor, LedgerEntry, NasBreaker, Requester, Run
from cleanup.runs import discovery
from cleanup.storage import anchor_file
from tests.clears.test_batches import Room, room, run_tasks  # noqa: F401 (a fixture)
from tests.ledger.book_rows import key_row, write_rows
from tests.tools.lab import Lab, snapshot

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def data(settings: Any, tmp_path: Path) -> Path:
    settings.EXLAB_DATA_DIR = tmp_path / "data"
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def file_on(nas: Path) -> Path:
    return nas / f".exlab-ledger-{book.head().installation}"


def read(path: Path) -> list[Anchor]:
    found, unreadable = anchors.parse(path.read_text())
    assert not unreadable
    return found


def test_the_head_goes_to_the_nas_the_data_directory_the_log_and_a_table(
    lab: Lab, root: Any, data: Path, now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    assert anchors.write(now=now) == 0, "an empty ledger has nothing to tell"
    write_rows(now, 3)
    with caplog.at_level(logging.INFO, logger="cleanup"):
        assert anchors.write(now=now) == 2
    head = book.head()
    expected = Anchor(str(head.installation), 3, head.sha256, now, django_settings.EXLAB_HOST)
    for path in (file_on(lab.nas), data / "ledger-anchors"):
        assert read(path) == [expected]
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert head.sha256 in caplog.text and "stands at 3" in caplog.text
    told = set(LedgerAnchor.objects.values_list("position", "sha256", "place", "host", "at"))
    assert told == {(3, head.sha256, place, expected.host, now) for place in ("data directory", root.nas_token)}
    assert set(AnchorPlace.objects.values_list("position", "problem")) == {(3, "")}


def test_a_head_that_stands_there_is_written_again_only_daily(lab: Lab, root: Any, now: datetime) -> None:
    write_rows(now, 1)
    assert [anchors.write(now=now), anchors.write(now=now)] == [2, 0]
    assert anchors.write(now=now, daily=True) == 2
    book.write(key_row(now))
    assert anchors.write(now=now) == 2
    assert [one.position for one in read(file_on(lab.nas))] == [1, 1, 2]


def test_a_pass_writes_it_and_so_does_the_daily_task(lab: Lab, root: Any, now: datetime, policy: Any) -> None:
    lab.run("FLOW_01/alpha/Run_2026-01-01T00-00")
    policy(mode="scheduled", retain_hours=1)
    discovery.discover(root, now=now)
    write_rows(now, 1)
    tasks.sweep()
    assert [one.position for one in read(file_on(lab.nas))] == [LedgerEntry.objects.count()]
    assert "in 2 places" in tasks.anchor()


def test_a_nas_that_may_not_be_written_is_noted_and_hinders_nothing(
    lab: Lab, root: Any, data: Path, now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    write_rows(now, 1)
    file_on(lab.nas).mkdir()
    assert anchors.write(now=now) == 1
    assert anchors.write(now=now + timedelta(hours=1)) == 0
    state = AnchorPlace.objects.get(place=root.nas_token)
    assert state.problem.startswith("nas_io_error: ") and state.since == now
    assert caplog.text.count("cannot be written down") == 1, "told once"
    assert not NasBreaker.objects.exclude(failures=0).exists()
    file_on(lab.nas).rmdir()
    assert anchors.write(now=now + timedelta(hours=2)) == 1
    state.refresh_from_db()
    assert (state.problem, state.since, state.position) == ("", None, 1)


def test_a_nas_that_is_not_there_or_another_one_gets_nothing(lab: Lab, root: Any, now: datetime) -> None:
    write_rows(now, 1)
    (lab.nas / ".exlab-root").write_text("00000000-0000-4000-8000-000000000000\n")
    before = snapshot(lab.nas)
    assert anchors.write(now=now) == 1
    assert snapshot(lab.nas) == before
    assert "nas_identity_mismatch" in AnchorPlace.objects.get(place=root.nas_token).problem


def test_a_nas_that_shows_the_staging_disk_gets_nothing(lab: Lab, root: Any, now: datetime) -> None:
    write_rows(now, 1)
    (lab.nas / f".exlab-staging-{root.token}").touch()
    assert anchors.write(now=now) == 1
    assert not file_on(lab.nas).exists()


@pytest.mark.one_engine
def test_a_nas_that_hangs_is_given_up_and_opens_no_breaker(
    lab: Lab, root: Any, now: datetime, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Takes 1 s, the patience with it."""
    from cleanup.storage.nas import reader_process

    start = reader_process.start

    def stopped(words: Any) -> Any:
        child = start(words)
        os.kill(child.pid, signal.SIGSTOP)
        return child

    settings.EXLAB_NAS_TIMEOUT = 0.3
    write_rows(now, 1)
    monkeypatch.setattr(reader_process, "start", stopped)
    assert anchors.write(now=now) == 1
    assert AnchorPlace.objects.get(place=root.nas_token).problem.startswith("nas_timeout: silent for")
    assert not NasBreaker.objects.exclude(open_until=None).exists()


@pytest.mark.parametrize("why", ["the breaker is open", "a reader hangs there"])
def test_a_nas_that_is_ill_is_not_asked(
    lab: Lab, root: Any, now: datetime, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(now, 1)
    from django.utils import timezone

    from cleanup.storage.nas.processes import process_of

    own = process_of(os.getpid())
    assert own is not None
    hangs = why == "a reader hangs there"
    NasBreaker.objects.create(
        host=django_settings.EXLAB_HOST,
        token=root.nas_token,
        failures=3,
        open_until=None if hangs else timezone.now() + timedelta(minutes=3),
        reason="nas_timeout",
        detail="silent",
        abandoned=[[own.pid, own.started]] if hangs else [],
    )
    monkeypatch.setattr(nas_anchors, "NasReader", None)
    assert anchors.write(now=now) == 1
    assert "hangs in it" in AnchorPlace.objects.get(place=root.nas_token).problem or not hangs


def test_a_fault_of_the_database_is_only_logged(
    now: datetime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise book.LedgerBroken("no head")

    monkeypatch.setattr(book, "head", fail)
    assert anchors.write(now=now) == 0
    assert "cannot be written down" in caplog.text


def test_discovery_and_clear_go_on_beside_the_file(lab: Lab, root: Any, now: datetime) -> None:
    run_path = "FLOW_01/alpha/Run_2026-01-01T00-00"
    lab.run(run_path)
    write_rows(now, 1)
    anchors.write(now=now)
    found = discovery.discover(root, now=now)
    assert found is not None and (found.found, found.problems) == (1, [])
    run = Run.objects.with_root().get()
    protocol.clear_run(run, requester=Requester.OPERATOR, actor="ada", now=now)
    assert not (lab.staging / run_path).exists() and lab.twin(run_path).exists()
    assert file_on(lab.nas).exists()


def test_what_each_place_tells_is_read_again(lab: Lab, root: Any, data: Path, now: datetime) -> None:
    write_rows(now, 2)
    anchors.write(now=now)
    with (data / "ledger-anchors").open("a") as file:
        file.write('{"half": "a li\nnot JSON\n[]\n{}\n')
    head = book.head()
    sources = {one.place: one for one in anchor_sources.read_all(str(head.installation))}
    assert set(sources) == {str(data / "ledger-anchors"), str(lab.nas), "database"}
    read_now = {place: [anchor for batch in one.batches() for anchor in batch] for place, one in sources.items()}
    assert {(len(found), sources[place].read) for place, found in read_now.items()} == {(1, 1)}
    assert sources[str(data / "ledger-anchors")].unreadable == 4
    assert {found[0].sha256 for found in read_now.values()} == {head.sha256}
    (lab.nas / ".exlab-root").rename(lab.nas / "moved")
    problem = next(one for one in anchor_sources.read_all(str(head.installation)) if one.place == str(lab.nas))
    assert [list(batch) for batch in problem.batches()] == [[]]
    assert "nas_not_mounted" in problem.problem


def test_full_files_go_on_in_the_next_and_all_are_read(
    lab: Lab, root: Any, data: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With files of a few lines, read in parts that cut lines."""
    write_rows(now, 1)
    line = len(Anchor(str(book.head().installation), 1, "a" * 64, now, django_settings.EXLAB_HOST).encoded) + 1
    monkeypatch.setattr(anchor_file, "MAX_BYTES", 2 * line + 50)
    monkeypatch.setattr(anchor_file, "PART", 100)
    file_on(lab.nas).write_bytes(b"x" * (16 << 20))  # the process that writes there has the real bound
    for day in range(5):
        assert anchors.write(now=now + timedelta(days=day), daily=True) == 2
    on_nas = {path.name: path.stat().st_size for path in lab.nas.glob(".exlab-ledger-*")}
    assert on_nas == {file_on(lab.nas).name: 16 << 20, f"{file_on(lab.nas).name}-2": 5 * line}
    kept = [data / name for name in ("ledger-anchors", "ledger-anchors-2", "ledger-anchors-3")]
    assert [len(read(path)) for path in kept] == [2, 2, 1]
    for source in anchor_sources.read_all(str(book.head().installation)):
        found = [anchor for batch in source.batches() for anchor in batch]
        assert len(found) == (1 if source.place == "database" else 5)
        assert (source.problem, list(source.missing([]))) == ("", [])


@pytest.mark.parametrize(
    "change",
    [
        {"position": 0},
        {"position": True},
        {"position": "3"},
        {"position": 1 << 63},
        {"sha256": "A" * 64},
        {"sha256": "a" * 63},
        {"at": "2026-06-15"},
        {"installation": "../x"},
    ],
    ids=str,
)
def test_a_line_that_cannot_be_meant_is_no_anchor(now: datetime, change: dict[str, Any]) -> None:
    import json

    good = Anchor("0b4b2a3e-6c0f-4b0e-9f3c-111111111111", 3, "a" * 64, now, "labpc")
    assert anchors.parse(good.line) == ([good], 0)
    assert anchors.parse(json.dumps({**json.loads(good.line), **change})) == ([], 1)


def test_the_last_clear_of_a_batch_writes_it_and_those_before_do_not(room: Room) -> None:  # noqa: F811
    """Takes 1 s: three real clears."""
    room.batch()
    run_tasks()
    (line,) = read(file_on(room.lab.nas))
    assert line.position == LedgerEntry.objects.count() == 7  # two of each clear, and the key that signs their receipts
