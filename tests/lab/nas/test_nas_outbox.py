"""One outbox for histories and receipts: what must hold for both, on real folders and with real reading processes."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from cleanup.clears import nas_history, receipt_delivery
from cleanup.lab.nas import nas_outbox
from cleanup.lab.nas.abandoned_readers import AbandonedReaders
from cleanup.lab.roots import opening
from cleanup.models import ClearAttempt, NasBreaker, Receipt, StagingRoot
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage.data_directory import kept_receipts
from cleanup.storage.nas import client, reader_process
from cleanup.storage.nas.processes import process_of
from tests.clears.test_nas_history import Cleared, set_cleared
from tests.faults import means
from tests.tools.lab import RUN_PATH, Lab

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

MINUTE = timedelta(minutes=1)
FLOW = "FLOW_01/PROJ-0042/Runs/Run_2026-04-17T14-3"
Story = tuple[datetime | None, datetime | None, int, str]


@dataclass(frozen=True)
class Kind:
    """Histories, or receipts of clears whose histories the NAS has."""

    rows: type[ClearAttempt] | type[Receipt]
    deliver: Callable[..., int]
    way: str
    lock: str

    def prepare(self, *cleared: Cleared) -> None:
        if self.rows is ClearAttempt:
            return
        assert nas_history.tell(now=cleared[0].now) == len(cleared)
        for one in cleared:
            add_receipt(one)

    def story(self, cleared: Cleared) -> Story:
        row = self.row(cleared)
        return row.told_at, row.tell_after, row.tell_tries, row.tell_reason

    def row(self, cleared: Cleared) -> Any:
        return self.rows._default_manager.get(**{self.way: cleared.attempt.pk})


HISTORIES = Kind(ClearAttempt, nas_history.tell, "pk", "telling")
RECEIPTS = Kind(Receipt, receipt_delivery.deliver, "attempt", "laying")


def add_receipt(cleared: Cleared) -> None:
    data, name = opening.data_dir(), cleared.attempt.pk.hex
    listed = kept_receipts.write(data, kept_receipts.list_name(name), [b"{}\n"])
    signed = kept_receipts.write(data, kept_receipts.receipt_name(name, 1), [b"{ }\n"])
    kept_receipts.write(data, kept_receipts.checksums_name(name, 1), [signed.sha256.encode()])
    Receipt.objects.create(
        attempt=cleared.attempt,
        number=1,
        at=cleared.now,
        host=settings.EXLAB_HOST,
        sha256=signed.sha256,
        size=signed.size,
        list_sha256=listed.sha256,
        list_size=listed.size,
        position=1,
        tell_after=cleared.now,
    )


@pytest.fixture(params=[HISTORIES, RECEIPTS], ids=["histories", "receipts"])
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def ours(lab: Lab, root: Any, now: datetime) -> Cleared:
    return set_cleared(lab, root, now)


@pytest.fixture
def theirs(lab: Lab, root: Any, now: datetime) -> list[Cleared]:
    """Runs of an instrument with a share of its own; they are due before ours."""
    share = lab.base / "share"
    share.mkdir()
    root.instrument_nas = {"FLOW_01": {"path": str(share), "token": "11111111-2222-4333-8444-555555555555"}}
    root.save()
    (share / ".exlab-root").write_text("11111111-2222-4333-8444-555555555555\n")
    found = []
    for number in range(2):
        one = set_cleared(lab, root, now - (2 - number) * MINUTE, f"{FLOW}{number}")
        (share / one.attempt.run.run_path).parent.mkdir(parents=True, exist_ok=True)
        one.twin.rename(share / one.attempt.run.run_path)
        found.append(one)
    return found


def test_a_run_whose_place_on_the_nas_cannot_be_named_stops_no_other(
    kind: Kind, ours: Cleared, theirs: list[Cleared]
) -> None:
    kind.prepare(ours, *theirs)
    StagingRoot.objects.update(instrument_nas={"FLOW_01": {"path": "/"}})
    assert kind.deliver(now=ours.now) == 1
    assert kind.story(ours) == (ours.now, None, 0, "")
    for one in theirs:
        assert kind.story(one) == (None, ours.now + MINUTE, 1, "look_failed")
        assert kind.row(one).tell_detail == "no place on the NAS can be named for it"


@pytest.fixture
def spent(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that a pass has taken: those that the test puts in, on a busy machine too."""
    seconds: list[float] = []
    monkeypatch.setattr(nas_outbox, "time", SimpleNamespace(monotonic=lambda: sum(seconds)))
    return seconds


@pytest.fixture
def hanging_share(lab: Lab, spent: list[float], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Each process that reads the instrument's share stops before it answers, as on a mount that hangs."""
    stopped: list[int] = []
    send = reader_process.ReaderProcess._send

    def stop_and_send(reader: reader_process.ReaderProcess, pipe: int, data: bytes) -> None:
        if reader._path == str(lab.base / "share"):
            assert reader._child is not None
            os.kill(reader._child.pid, signal.SIGSTOP)
            stopped.append(reader._child.pid)
            reader._timeout = 0.3  # of this one alone: the other NAS may take its time
            spent.append(nas_outbox._PASS_SECONDS)
        send(reader, pipe, data)

    monkeypatch.setattr(reader_process.ReaderProcess, "_send", stop_and_send)
    return stopped


def test_a_nas_that_hangs_longer_than_a_pass_does_not_starve_another(
    kind: Kind, ours: Cleared, theirs: list[Cleared], request: pytest.FixtureRequest
) -> None:
    """The share comes first, and is asked with one process and a second one."""
    kind.prepare(ours, *theirs)
    stopped = request.getfixturevalue("hanging_share")
    assert kind.deliver(now=ours.now) == 1
    assert kind.story(ours) == (ours.now, None, 0, "")
    assert {kind.story(one) for one in theirs} == {(None, ours.now + MINUTE, 1, "nas_timeout")}
    assert len(stopped) == 2
    opened = NasBreaker.objects.filter(failures__gt=0).count()
    assert opened == (1 if kind is HISTORIES else 0), "a receipt alone opens no breaker"


def test_a_slow_nas_leaves_another_its_time(
    kind: Kind, lab: Lab, ours: Cleared, theirs: list[Cleared], spent: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind.prepare(ours, *theirs)
    send = reader_process.ReaderProcess._send

    def send_slowly(reader: reader_process.ReaderProcess, pipe: int, data: bytes) -> None:
        if reader._path == str(lab.base / "share"):
            spent.append(nas_outbox._PASS_SECONDS * 0.6)
        send(reader, pipe, data)

    monkeypatch.setattr(reader_process.ReaderProcess, "_send", send_slowly)
    assert kind.deliver(now=ours.now) == 2
    assert kind.story(ours) == kind.story(theirs[0]) == (ours.now, None, 0, "")
    assert kind.story(theirs[1]) == (None, theirs[1].now, 0, ""), "it has used its own time"


def test_an_open_breaker_is_no_try(kind: Kind, ours: Cleared) -> None:
    kind.prepare(ours)
    until = timezone.now() + timedelta(minutes=5)
    breaker = NasBreaker.objects.update_or_create(
        host=settings.EXLAB_HOST,
        token=ours.root.nas_token,
        defaults={"failures": 1, "open_until": until, "reason": "nas_timeout", "detail": "silent for 60 s"},
    )[0]
    assert kind.deliver(now=ours.now) == 0
    told_at, after, tries, reason = kind.story(ours)
    assert (told_at, tries, reason, kind.row(ours).tell_detail) == (None, 0, "nas_timeout", "silent for 60 s")
    assert after is not None and ours.now + 4 * MINUTE < after <= ours.now + 5 * MINUTE
    breaker.delete()
    assert kind.deliver(now=after) == 1


def test_one_that_opens_amid_a_pass_is_no_try_of_the_rest(
    lab: Lab, root: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The errors are injected: a disk that fails with EIO for one question alone cannot be had."""
    runs = [set_cleared(lab, root, now + MINUTE * number, f"{RUN_PATH[:-1]}{number}") for number in range(4)]

    def fail(*given: Any, **how: Any) -> None:
        raise client.NasError(Finding(Reason.NAS_IO_ERROR, "Input/output error"), ill=True)

    monkeypatch.setattr(client.NasReader, "tell", fail)
    assert nas_history.tell(now=now + 9 * MINUTE) == 0
    assert [HISTORIES.story(one)[2:] for one in runs] == [(1, "nas_io_error")] * 3 + [(0, "nas_io_error")]


def test_beside_a_reader_that_hangs_no_receipt_is_risked_and_history_goes_on(ours: Cleared, lab: Lab) -> None:
    """Three hanging readers keep clears from asking; receipts must not bring that about."""
    RECEIPTS.prepare(ours)
    with means.running("print('hangs', flush=True); input()") as child:
        process = process_of(child.pid)
        assert process is not None
        AbandonedReaders(ours.root.nas_token).note(process)
        assert receipt_delivery.deliver(now=ours.now) == 0
        assert RECEIPTS.story(ours)[2:] == (1, "nas_timeout")
        assert RECEIPTS.row(ours).tell_detail == "a reading process still hangs in it"
        assert not NasBreaker.objects.filter(failures__gt=0).exists()
        other = set_cleared(lab, ours.root, ours.now, f"{FLOW}0")
        assert nas_history.tell(now=other.now) == 1
    assert receipt_delivery.deliver(now=ours.now + MINUTE) == 1


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    place = tmp_path / "data"
    place.mkdir(mode=0o700)
    monkeypatch.setattr(settings, "EXLAB_DATA_DIR", place)
    yield place


def test_a_data_directory_without_locks_is_told_and_is_no_try(data: Path, kind: Kind, ours: Cleared) -> None:
    kind.prepare(ours)
    lock = data / "locks" / kind.lock
    lock.mkdir(parents=True)
    assert kind.deliver(now=ours.now) == 0
    assert kind.story(ours) == (None, ours.now + MINUTE, 0, "look_failed")
    assert kind.row(ours).tell_detail == "in the data directory: Is a directory"
    lock.rmdir()
    assert kind.deliver(now=ours.now + MINUTE) == 1


def test_a_receipt_that_changed_in_the_data_directory_waits_and_says_so(data: Path, ours: Cleared) -> None:
    RECEIPTS.prepare(ours)
    name = kept_receipts.receipt_name(ours.attempt.pk.hex, 1)
    (data / "receipts" / name).write_bytes(b"[]")
    assert receipt_delivery.deliver(now=ours.now) == 0
    assert RECEIPTS.row(ours).tell_detail == f"in the data directory: {name} in the data directory has changed"
    (data / "receipts" / name).unlink()
    assert receipt_delivery.deliver(now=ours.now + MINUTE) == 0
    assert RECEIPTS.row(ours).tell_detail == "in the data directory: No such file or directory"
    assert RECEIPTS.story(ours)[1:3] == (ours.now + 3 * MINUTE, 2)
