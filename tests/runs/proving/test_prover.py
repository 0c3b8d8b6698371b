"""Proofs that are made ahead of a click, with real files on both sides."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from django_q.models import OrmQ
from django_q.tasks import async_task

from cleanup import clear_run, tasks
from cleanup.clears import protocol, queue
from cleanup.lab.nas import proving_leases
from cleanup.lab.roots import opening
from cleanup.models import (
    ClearAttempt,
    Difference,
    Heartbeat,
    NasBreaker,
    Proof,
    ProvingLease,
    ProvingRun,
    Run,
    StagingRoot,
)
from cleanup.rules.states import State
from cleanup.runs import discovery, run_status
from cleanup.runs.proving import beats, due_proofs, prover, proving_rows, waits
from cleanup.runs.proving.beats import ReadingBeat
from cleanup.runs.proving.resuming import RunDigests
from cleanup.runs.proving.waits import Stopped, Wait
from cleanup.storage.data_directory import kept_digests
from cleanup.storage.data_directory.kept_digests import KeptDigests
from cleanup.storage.nas.listed_twins import TwinFile
from tests.tools.checkout import CHECKOUT
from tests.tools.lab import RUN_PATH, Lab

pytestmark = pytest.mark.django_db(transaction=True)

RUNS = RUN_PATH.rpartition("/")[0]


@dataclass(frozen=True)
class Place:
    lab: Lab
    root: StagingRoot
    now: datetime

    def add(self, leaf: str = "Run_2026-04-17T14-32", **how: Any) -> Path:
        return self.lab.run(f"{RUNS}/{leaf}", **how)

    def look(self) -> None:
        discovery.discover(self.root, now=timezone.now())
        run_status.judge_stale(timezone.now())

    def run(self, leaf: str = "Run_2026-04-17T14-32") -> Run:
        return Run.objects.with_root().get(leaf=leaf)


@pytest.fixture(autouse=True)
def _others_may_be_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that runs the tests has other work."""
    monkeypatch.setattr(waits, "STALLED_PERCENT", 101.0)


@pytest.fixture
def place(lab: Lab, root: StagingRoot, now: datetime, policy: Callable[..., Any]) -> Place:
    policy(proof="checksum")
    return Place(lab, root, now)


def test_a_run_is_proven_once_and_the_click_reads_no_byte(place: Place) -> None:
    path = place.add()
    place.look()
    before = timezone.now()
    assert prover.prove_due() == [f"{RUN_PATH}: proven"]
    proof, row = Proof.objects.get(), ProvingRun.objects.get()
    assert (proof.level, proof.files, bool(proof.evidence)) == ("checksum", 7, True)
    assert before <= proof.at == row.proven_at == row.first_byte_at
    assert (row.phase, row.planned_bytes) == ("proven", 2 * Run.objects.get().bytes)
    assert kept_digests.kept_runs(opening.data_dir()) == []
    assert prover.prove_due() == []
    assert clear_run(place.run(), now=timezone.now(), actor="ada")[0] > 0
    attempt = ClearAttempt.objects.get()
    assert (attempt.proof, attempt.compared_bytes, Proof.objects.count()) == (proof, 0, 1)
    assert not (path / "stack.ome.xml").exists()
    assert Run.objects.get().state == State.CLEARED


def test_the_task_can_be_turned_off_and_gives_a_sign_of_life(place: Place, settings: Any, monkeypatch: Any) -> None:
    place.add(files={"a.bin": b"x" * 4096, "b.bin": b"y"})
    place.look()
    settings.EXLAB_PROVE = False
    shown = ProvingRun.objects.create(
        run=place.run(), host=settings.EXLAB_HOST, phase="waiting", expected_at=timezone.now(), phase_at=timezone.now()
    )
    assert "EXLAB_PROVE" in tasks.prove()
    assert not Proof.objects.exists()
    assert not ProvingRun.objects.filter(pk=shown.pk).exists(), "no page may say that it will be proven"
    settings.EXLAB_PROVE = True
    monkeypatch.setattr(beats, "_LIFE_SECONDS", 0.0)
    assert tasks.prove() == f"{RUN_PATH}: proven"
    assert Heartbeat.objects.get(host=settings.EXLAB_HOST).at > timezone.now() - timedelta(minutes=1)
    cluster = settings.EXLAB_PROVE_CLUSTER
    for func in ("cleanup.tasks.prove", "cleanup.tasks.heartbeat", "cleanup.tasks.prove"):
        async_task(func, cluster=cluster)
    assert tasks.prove() == "nothing to prove"
    assert [queued.func() for queued in OrmQ.objects.filter(key=cluster)] == ["cleanup.tasks.heartbeat"]


# The order, and what is read again


def test_those_due_soonest_and_the_largest_come_first(place: Place, policy: Callable[..., Any]) -> None:
    now = timezone.now()
    leaves = [f"Run_2026-04-{day}T10-00" for day in (10, 11, 12, 13)]
    sizes = {leaves[0]: 1, leaves[1]: 3, leaves[2]: 2, leaves[3]: 1}
    for leaf in leaves:
        place.add(leaf, files={"a.bin": b"x" * 1000 * sizes[leaf]}, verified_at=now - timedelta(days=3))
    place.look()
    assert order(place) == [leaves[1], leaves[2], leaves[0], leaves[3]]
    policy(mode="scheduled", retain_hours=96)
    Run.objects.filter(leaf=leaves[3]).update(verified_at=now - timedelta(days=3, hours=12))
    assert order(place)[:2] == [leaves[3], leaves[1]], "the one that is due first"
    run = place.run(leaves[2])
    proving_rows.ask([run.pk], now, known={})
    assert order(place)[0] == leaves[2], "the one that a person looks at"
    policy(proof="size")
    assert order(place) == []
    Difference.objects.create(run=run, at=now, host="h", reason="nas_checksum_mismatch", detail="", evidence="")
    assert order(place) == [leaves[2]]
    Run.objects.filter(pk=run.pk).update(tone=2, reason="held")
    assert order(place) == []


def order(place: Place) -> list[str]:
    found = due_proofs.to_prove(place.root.host, timezone.now()).get(place.root.nas_token, [])
    leaves = dict(Run.objects.values_list("pk", "leaf"))
    return [leaves[each.run] for each in found]


@pytest.mark.parametrize(
    ("row", "due_in", "wanted"),
    [
        ({}, None, True),
        ({"proved": 1}, None, False),
        ({"proved": 25}, None, False),
        ({"proved": 25, "asked": 23}, None, True),
        ({"proved": 25, "asked": 25}, None, False),
        ({"proved": 21, "asked": 1}, None, False),
        ({"proved": 23, "asked": 1}, None, True),
        ({"proved": 25}, 23, True),
        ({"proved": 25}, -23, True),
        ({"proved": 25}, 25, False),
        ({"proved": 25}, -25, False),
        ({"proved": 1, "seen": "of other files", "phase": "proven"}, None, True),
        ({"again": 1}, 0, False),
        ({"again": -1}, 0, True),
    ],
)
@pytest.mark.django_db
def test_a_run_is_read_again_only_if_it_is_due_or_asked_for(row: dict[str, Any], due_in: Any, wanted: bool) -> None:
    now = timezone.now()

    def before(name: str) -> datetime | None:
        return now - timedelta(hours=row[name]) if name in row else None

    again = now + timedelta(hours=row["again"]) if "again" in row else None
    columns = {"verified_at": None, "files": 1, "bytes": 1, "manifest_sha256": ""}
    whole = {**columns, "proved": before("proved"), "asked_at": before("asked"), "again_after": again}
    whole |= {"phase": row.get("phase", ""), "seen": row.get("seen", "")}
    due = None if due_in is None else now + timedelta(hours=due_in)
    assert due_proofs.is_wanted(whole, due, now) == wanted


# Interruptions


@contextmanager
def after(monkeypatch: pytest.MonkeyPatch, act: Callable[[ReadingBeat], None], number: int = 3) -> Iterator[None]:
    """Do something at the first look after so many files of the staging disk have been read and noted."""
    note, look, noted = KeptDigests.note_staged, ReadingBeat.__call__, []

    def note_staged(kept: KeptDigests, path: bytes, digest: bytes) -> None:
        note(kept, path, digest)
        noted.append(path)

    def call(beat: ReadingBeat, size: int) -> None:
        look(beat, size)
        if len(noted) >= number:
            act(beat)

    with monkeypatch.context() as patch:
        patch.setattr(KeptDigests, "note_staged", note_staged)
        patch.setattr(ReadingBeat, "__call__", call)
        yield


def stop(beat: ReadingBeat) -> None:
    raise Stopped(Wait.TIME)


def files(count: int = 6, size: int = 6 << 20) -> dict[str, bytes]:
    return {f"f{number}.bin": bytes([number]) * size for number in range(count)}


def bytes_read() -> int:
    """By this process, of anything."""
    found = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(found["rchar"])


def test_an_interrupted_proof_goes_on_and_is_dated_by_its_first_byte(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.add(files=files())
    place.look()
    with after(monkeypatch, stop):
        assert prover.prove_due() == [f"{RUN_PATH}: time_is_over"]
    row = ProvingRun.objects.get()
    assert (row.phase, Proof.objects.count(), kept_digests.kept_runs(opening.data_dir())) == ("waiting", 0, [row.pk])
    before, now = bytes_read(), timezone.now()
    assert prover.prove_due() == [f"{RUN_PATH}: proven"]
    assert bytes_read() - before < 30 << 20, "of 36 MiB here, those read before are not read again"
    assert Proof.objects.get().at == row.first_byte_at < now
    assert kept_digests.kept_runs(opening.data_dir()) == []


def test_a_run_that_changes_meanwhile_is_read_from_its_beginning(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place.add(files=files())
    place.look()
    with after(monkeypatch, stop):
        prover.prove_due()
    first = ProvingRun.objects.get().first_byte_at
    for side in (path, place.lab.twin()):
        times = (side / "f5.bin").stat()
        (side / "f5.bin").write_bytes(b"\x05" * (6 << 20))
        os.utime(side / "f5.bin", ns=(times.st_atime_ns, times.st_mtime_ns))
    before = bytes_read()
    assert prover.prove_due() == [f"{RUN_PATH}: proven"]
    assert bytes_read() - before > 36 << 20
    assert Proof.objects.get().at == ProvingRun.objects.get().first_byte_at > first


def test_a_click_takes_over_what_was_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clear asks for the run while it is being read: the prover stops, and the clear goes on."""
    path = place.add(files=files())
    place.look()
    run, reading, asked, said = place.run(), threading.Event(), threading.Event(), list[str]()
    load, loaded = KeptDigests.load, list[int]()

    def load_and_note(kept: KeptDigests, twins: Mapping[bytes, TwinFile]) -> None:
        load(kept, twins)
        loaded.append(kept.loaded)

    monkeypatch.setattr(KeptDigests, "load", load_and_note)

    def wait_and_look(beat: ReadingBeat) -> None:
        reading.set()
        assert asked.wait(60)
        beat.look()

    def prove() -> None:
        said.extend(prover.prove_due())
        connection.close()

    with after(monkeypatch, wait_and_look):
        thread = threading.Thread(target=prove)
        thread.start()
        assert reading.wait(60)
        attempt = queue.request_clear(run, actor="ada", now=timezone.now())
        first = ProvingRun.objects.get().first_byte_at
        threading.Timer(0.3, asked.set).start()
        done = protocol.perform(attempt, now=timezone.now())
        thread.join()
    assert said == [f"{RUN_PATH}: taken_over"]
    assert (done.phase, done.proof and done.proof.at) == ("done", first)
    # The prover's own threads read on for a moment, so bytes tell nothing here.
    assert (loaded[0], len(loaded)) == (0, 2) and loaded[1] > 0
    assert not path.exists() or not (path / "f0.bin").exists()
    prover.tidy()
    assert kept_digests.kept_runs(opening.data_dir()) == []


def test_a_killed_prover_leaves_what_it_has_read(place: Place, subprocess_env: dict[str, str]) -> None:
    """Takes two processes. `kill -9` in the middle; what it held is free at the next start."""
    place.add(files=files())
    place.look()
    script = (
        "import django, sys, time; django.setup()\n"
        "from cleanup.runs.proving import prover, waits\n"
        "waits.STALLED_PERCENT = 101.0\n"
        "from cleanup.storage.data_directory.kept_digests import KeptDigests\n"
        "note, noted = KeptDigests.note_staged, []\n"
        "def note_staged(kept, path, digest):\n"
        "    time.sleep(0.3); note(kept, path, digest); noted.append(path)\n"
        "    if len(noted) == 3: print('read', flush=True); time.sleep(600)\n"
        "KeptDigests.note_staged = note_staged\n"
        "prover.prove_due()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=CHECKOUT, env=subprocess_env, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"read\n"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    first = ProvingRun.objects.get().first_byte_at
    assert ProvingRun.objects.get().phase == "reading"
    assert prover.prove_due() == [], "another process may hold the lease"
    proving_leases.free(place.root.host)
    before = bytes_read()
    assert prover.prove_due() == [f"{RUN_PATH}: proven"]
    assert bytes_read() - before < 30 << 20
    assert Proof.objects.get().at == first


# What goes wrong


def test_a_nas_that_is_away_is_left_alone_for_longer_and_longer(place: Place) -> None:
    place.add()
    place.look()
    aside = place.lab.nas.rename(place.lab.nas.with_name("aside"))
    assert prover.prove_due() == [f"{RUN_PATH}: nas_not_mounted"]
    lease, row = ProvingLease.objects.get(), ProvingRun.objects.get()
    assert (lease.failures, lease.reason, lease.holder, row.phase) == (1, "nas_not_mounted", "", "put_off")
    assert prover.prove_due() == []
    ProvingLease.objects.update(again_after=timezone.now())
    prover.prove_due()
    again = ProvingLease.objects.get()
    assert (again.failures, round((again.again_after - timezone.now()) / timedelta(minutes=5))) == (2, 2)
    assert not NasBreaker.objects.exclude(failures=0).exists()
    assert not ClearAttempt.objects.exists()
    assert Run.objects.get().failures == 0
    aside.rename(place.lab.nas)
    ProvingLease.objects.update(again_after=timezone.now())
    assert prover.prove_due() == [f"{RUN_PATH}: proven"]
    assert ProvingLease.objects.get().failures == 0


def test_a_difference_is_noted_and_not_read_again(place: Place) -> None:
    place.add()
    place.look()
    twin = place.lab.twin() / "stack.ome.xml"
    times = twin.stat()
    twin.write_bytes(b"?" * times.st_size)
    os.utime(twin, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert prover.prove_due() == [f"{RUN_PATH}: nas_checksum_mismatch"]
    found, row = Difference.objects.get(), ProvingRun.objects.get()
    assert ("stack.ome.xml" in found.detail, row.phase, Proof.objects.count()) == (True, "differs", 0)
    place.look()
    assert Run.objects.get().reason == "nas_checksum_mismatch"
    assert prover.prove_due() == []
    ProvingRun.objects.update(again_after=timezone.now())
    assert prover.prove_due() == [f"{RUN_PATH}: nas_checksum_mismatch, as before"]
    assert Difference.objects.get().at == found.at


def test_two_provers_never_work_on_one_nas(place: Place, settings: Any) -> None:
    place.add()
    place.look()
    nas = place.root.nas_token
    with proving_leases.taken(nas) as mine:
        assert mine is not None
        with proving_leases.taken(nas) as other:
            assert other is None
        assert prover.prove_due() == []
        ProvingLease.objects.update(until=timezone.now() - timedelta(seconds=1))
        settings.EXLAB_HOST = "another"
        with proving_leases.taken(nas) as later:
            assert later is not None, "its holder has given no sign of life"
            assert (mine.renew(), later.renew()) == (False, True)
    assert ProvingLease.objects.get().holder == ""


def test_a_copy_that_changes_just_before_it_goes_on_proves_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look that vouches for what was read and the reading itself: the old digests say nothing any more."""
    place.add(files=files())
    place.look()
    with after(monkeypatch, stop):
        assert prover.prove_due() == [f"{RUN_PATH}: time_is_over"]
    resume = RunDigests.resume

    def change(kept: RunDigests, *given: Any) -> Any:
        for name in files(size=1):
            file = place.lab.twin() / name
            times = file.stat()
            file.write_bytes(b"?" * times.st_size)
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        return resume(kept, *given)

    with monkeypatch.context() as patch:
        patch.setattr(RunDigests, "resume", change)
        prover.prove_due()
    assert not Proof.objects.exists()
    assert ProvingRun.objects.get().phase in ("put_off", "differs")
    assert kept_digests.kept_runs(opening.data_dir()) == []
