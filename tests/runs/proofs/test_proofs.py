"""When a proof is used again, the last look before the commit, and a hanging NAS."""

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from cleanup import clear_run
from cleanup.clears import preparation
from cleanup.clears.refusal import Refused
from cleanup.lab.nas import nas_breaker
from cleanup.lab.roots import opening
from cleanup.models import NasBreaker, Proof, Run
from cleanup.rules.facts import Finding, ProofFacts
from cleanup.rules.policies.policy import ProofLevel
from cleanup.rules.reasons import Reason
from cleanup.runs.facts import inspection
from cleanup.runs.proofs import proofs
from cleanup.storage import handles
from cleanup.storage.mounts import places
from cleanup.storage.nas import client, reader_process
from cleanup.storage.staging import fences
from tests.faults.means import change_keeping_size_and_time
from tests.faults.scene import Scene, set_scene
from tests.runs.proofs.test_both_sides import Noted
from tests.tools.lab import Lab

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_engine]

TILE = "tiles/t_0001.tif"
DAY = timedelta(hours=24)


@pytest.fixture
def scene(lab: Lab, root: Any, now: Any) -> Scene:
    return set_scene(lab, root, now)


@pytest.fixture
def proven(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "keep_plan", _and_die(preparation.keep_plan))
        with pytest.raises(RuntimeError, match="the worker dies"):
            clear_run(scene.run, now=scene.now)
    from cleanup.clears import recovery

    recovery.recover(now=scene.now)
    scene.assert_whole()
    assert Proof.objects.count() == 1
    return scene


def _and_die(act: Callable[..., object]) -> Callable[..., None]:
    def acted(*args: Any, **how: Any) -> None:
        act(*args, **how)
        raise RuntimeError("the worker dies")

    return acted


# Used again


def test_a_proof_of_the_last_day_is_used_again_while_nothing_has_changed(proven: Scene, read: list[bytes]) -> None:
    later = proven.now + DAY - timedelta(minutes=1)
    assert clear_run(proven.run, now=later) == (proven.files, proven.bytes)
    proven.assert_cleared()
    assert read == []
    proof = Proof.objects.get()
    attempt = proven.run.attempts.get(phase="done")
    assert attempt.proof == proof
    (said,) = [gate["detail"] for gate in attempt.decision if gate["gate"] == "proof"]
    assert "read at 2026-06-15 08:00 UTC and unchanged since" in said


def test_an_older_proof_is_not_used_again(proven: Scene, read: list[bytes]) -> None:
    clear_run(proven.run, now=proven.now + DAY)
    assert len(read) == len(tree_files(proven))
    assert Proof.objects.count() == 2


def test_a_proof_from_the_future_is_not_used_again(proven: Scene, read: list[bytes]) -> None:
    """A clock was wrong then, or is wrong now."""
    clear_run(proven.run, now=proven.now - timedelta(minutes=1))
    assert read != []


def tree_files(scene: Scene) -> list[str]:
    return [name for name, seen in scene.entries.items() if seen.kind == "-" and not name.startswith(".exlab-wizard")]


def rewritten(path: Path) -> None:
    status = path.stat()
    path.with_name("copy").write_bytes(path.read_bytes())
    os.utime(path.with_name("copy"), ns=(status.st_atime_ns, status.st_mtime_ns))
    path.with_name("copy").rename(path)


def touched(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns - 1_000_000_000))


def ctime_only(path: Path) -> None:
    path.chmod(path.stat().st_mode ^ 0o010)


HARMLESS = {
    "a twin's time": lambda scene: touched(scene.twin / TILE),
    "a twin's ctime": lambda scene: ctime_only(scene.twin / TILE),
    "a twin's inode": lambda scene: rewritten(scene.twin / TILE),
    "a staged time": lambda scene: touched(scene.path / TILE),
    "a staged inode": lambda scene: rewritten(scene.path / TILE),
    "a staged ctime": lambda scene: ctime_only(scene.path / TILE),
    "a metadata file's ctime": lambda scene: ctime_only(scene.path / ".exlab-wizard/creation.json"),
    "a directory's time": lambda scene: touched(scene.path / "tiles"),
}


@pytest.mark.parametrize("change", HARMLESS)
def test_whatever_has_changed_on_either_side_is_read_again(proven: Scene, read: list[bytes], change: str) -> None:
    HARMLESS[change](proven)
    assert clear_run(proven.run, now=proven.now) == (proven.files, proven.bytes)
    assert len(read) == len(tree_files(proven))
    assert Proof.objects.count() == 2


def test_a_twin_that_has_rotten_meanwhile_is_found(proven: Scene) -> None:
    tile = proven.twin / TILE
    tile.write_bytes(tile.read_bytes()[::-1])
    with pytest.raises(Refused) as refused:
        clear_run(proven.run, now=proven.now)
    assert refused.value.finding.reason is Reason.NAS_CHECKSUM_MISMATCH


def test_a_twin_that_was_changed_in_place_with_its_size_and_time_is_found(proven: Scene) -> None:
    change_keeping_size_and_time(proven.twin / TILE)
    with pytest.raises(Refused) as refused:
        clear_run(proven.run, now=proven.now)
    assert refused.value.finding.reason is Reason.NAS_CHECKSUM_MISMATCH


def test_a_file_that_was_written_a_moment_before_it_was_read_is_not_trusted_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may change again within the same tick of the filesystem's clock."""
    just_now = (scene.now - timedelta(seconds=1)).timestamp()
    os.utime(scene.twin / TILE, (just_now, just_now))
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "keep_plan", _and_die(preparation.keep_plan))
        with pytest.raises(RuntimeError, match="the worker dies"):
            clear_run(scene.run, now=scene.now)
    assert Proof.objects.get().evidence == ""


def test_only_a_proof_by_checksum_is_used_again(proven: Scene) -> None:
    evidence = Proof.objects.get().evidence
    assert proofs.reusable(proven.run, evidence, proven.now) == Proof.objects.get()
    sizes = ProofFacts(level=ProofLevel.SIZE)
    weaker = proofs.keep(proven.run, sizes, ProofLevel.SIZE, "e" * 64, proven.now)
    assert proofs.reusable(proven.run, weaker.evidence, proven.now) is None
    assert proofs.reusable(proven.run, "", proven.now) is None


def test_a_proof_of_another_run_proves_nothing(proven: Scene) -> None:
    other = Run.objects.create(
        root=proven.root, run_path="A/B/Runs/Run_2026-01-01T00-00", identity="1:-:-", equipment="A", project="B",
        run_kind="experimental", leaf="Run_2026-01-01T00-00", first_seen_at=proven.now,
    )  # fmt: skip
    assert proofs.reusable(other, Proof.objects.get().evidence, proven.now) is None


# What an interrupted reading has left


def compared(scene: Scene, left: Noted, change: Callable[[], object] = lambda: None) -> tuple[Reason, ...]:
    """The findings of a reading that goes on from `left`; a side may change after that was vouched for."""
    with opening.reached(scene.run) as (opened, reader):
        seen = inspection.quick_look(scene.run, opened, reader, scene.now)
        assert seen.scan is not None and seen.listing is not None
        vouched = proofs.evidence(scene.run, seen.scan, seen.listed, seen.listing, scene.now)
        change()
        asked = scene.run, opened.run, seen.scan, seen.listed, reader, lambda size: None
        found = proofs.compare_bytes(*asked, staging=opened.root, so_far=left, vouched=vouched)
    return tuple(finding.reason for finding in found.proof.findings)


def test_digests_of_an_interrupted_reading_count_only_while_both_sides_are_as_they_were(
    scene: Scene, read: list[bytes]
) -> None:
    left = Noted()
    assert compared(scene, left) == ()
    assert {*left.here} == {*left.there} == {os.fsencode(name) for name in tree_files(scene)}
    read.clear()
    assert compared(scene, left) == ()
    assert read == []
    changed = compared(scene, left, lambda: change_keeping_size_and_time(scene.twin / TILE))
    assert changed == (Reason.NOT_COMPARED,)
    left.here[TILE.encode()] = b"w" * 32
    assert compared(scene, left) == (Reason.NAS_CHECKSUM_MISMATCH,)


def test_without_evidence_nothing_that_was_left_counts(scene: Scene, read: list[bytes]) -> None:
    """A file was just written: it may change again within a tick of the clock."""
    os.utime(scene.twin / TILE, (scene.now.timestamp(), scene.now.timestamp()))
    made_up = {os.fsencode(name): b"w" * 32 for name in tree_files(scene)}
    left = Noted({**made_up}, {**made_up})
    assert compared(scene, left) == ()
    assert len(read) == len(made_up)
    assert left.here == left.there != made_up


# The last look before the commit


def late(scene: Scene, monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> Reason:
    prepare = fences.prepare_record

    def change_and_prepare(*args: Any) -> Any:
        change()
        return prepare(*args)

    monkeypatch.setattr(fences, "prepare_record", change_and_prepare)
    with pytest.raises(Refused) as refused:
        clear_run(scene.run, now=scene.now)
    return refused.value.finding.reason


TOO_LATE: dict[str, tuple[Callable[[Scene], object], Reason]] = {
    "the NAS is gone": (lambda s: s.lab.nas.rename(s.lab.base / "away"), Reason.NAS_NOT_MOUNTED),
    "a twin is gone": (lambda s: (s.twin / TILE).unlink(), Reason.NAS_MISSING_FILE),
    "the whole twin is gone": (lambda s: s.twin.rename(s.lab.base / "away"), Reason.NAS_MISSING_FILE),
    "a twin is another file": (lambda s: rewritten(s.twin / TILE), Reason.NOT_COMPARED),
    "a twin was written": (lambda s: touched(s.twin / TILE), Reason.NOT_COMPARED),
    "another NAS is mounted": (
        lambda s: (s.lab.nas / ".exlab-root").write_text("11111111-1111-4111-8111-111111111111"),
        Reason.NAS_IDENTITY_MISMATCH,
    ),
}


@pytest.mark.parametrize("what", TOO_LATE)
def test_a_nas_that_changes_before_the_commit_stops_the_clear(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    change, reason = TOO_LATE[what]
    assert late(scene, monkeypatch, lambda: change(scene)) is reason
    from tests.faults.scene import inodes

    assert inodes(scene.path) == scene.inodes
    assert scene.leftovers() == []
    assert scene.kinds() == ["refused"]


def test_more_files_on_the_nas_are_no_matter(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = fences.prepare_record

    def add_and_prepare(*args: Any) -> Any:
        (scene.twin / "analysis.csv").write_text("made on the NAS")
        return prepare(*args)

    monkeypatch.setattr(fences, "prepare_record", add_and_prepare)
    assert clear_run(scene.run, now=scene.now) == (scene.files, scene.bytes)


def test_at_record_the_nas_is_not_asked_at_the_last_moment_either(
    scene: Scene, policy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy(proof="record")
    scene.lab.nas.rename(scene.lab.base / "away")
    assert clear_run(scene.run, now=scene.now) == (scene.files, scene.bytes)


# The breaker


class Nas:
    given_up = False

    def __init__(self) -> None:
        self.problem: Finding | None = None
        self.asked = 0
        with handles.opened(handles.open_root("/")) as here:
            self.place = places.describe(here)

    def read(self, twin: str, **how: Any) -> client.Listing:
        self.asked += 1
        if self.problem is not None:
            raise client.NasError(self.problem, ill=self.problem.reason in ("nas_timeout", "nas_io_error"))
        return client.Listing(1, {}, self.place)


@pytest.fixture
def answering() -> Nas:
    return Nas()


def ask(answering: Nas) -> Finding | None:
    try:
        nas_breaker.GuardedReader(answering, "a token").read("a run", with_bytes=False)  # type: ignore[arg-type]
    except client.NasError as error:
        return error.problem
    return None


HANGS = Finding(Reason.NAS_TIMEOUT, "silent for 60 s")
FAILS = Finding(Reason.NAS_IO_ERROR, "Input/output error")


def test_a_nas_that_hung_is_not_asked_by_any_process_for_five_minutes(answering: Nas, time_machine: Any) -> None:
    time_machine.move_to("2026-06-15T08:00:00Z", tick=False)
    answering.problem = HANGS
    assert ask(answering) == HANGS
    answering.problem = None
    refused = ask(answering)
    assert refused == Finding(Reason.NAS_TIMEOUT, f"silent for 60 s; {nas_breaker.NOT_ASKED}")
    assert answering.asked == 1
    time_machine.move_to("2026-06-15T08:05:00Z", tick=False)
    assert ask(answering) is None
    assert (NasBreaker.objects.get().failures, NasBreaker.objects.get().since) == (0, None)


def test_errors_open_the_breaker_at_the_third_in_a_row(answering: Nas) -> None:
    answering.problem = FAILS
    assert [ask(answering), ask(answering)] == [FAILS, FAILS]
    answering.problem = None
    assert ask(answering) is None
    answering.problem = FAILS
    asked = [ask(answering) for _ in range(4)]
    assert asked[:3] == [FAILS] * 3
    assert asked[3] is not None and nas_breaker.NOT_ASKED in asked[3].detail
    assert answering.asked == 6


def test_a_clear_answer_of_any_kind_is_no_failure(answering: Nas) -> None:
    answering.problem = Finding(Reason.NAS_MISSING_FILE, "the NAS holds no such run")
    for _ in range(5):
        assert ask(answering) == answering.problem
    assert not NasBreaker.objects.exists()


def test_each_nas_root_has_a_breaker_of_its_own(answering: Nas) -> None:
    answering.problem = HANGS
    ask(answering)
    answering.problem = None
    nas_breaker.GuardedReader(answering, "another token").read("a run", with_bytes=False)  # type: ignore[arg-type]


def test_while_the_breaker_is_open_a_clear_is_refused_at_once_with_the_reason(scene: Scene) -> None:
    until = timezone.now() + timedelta(minutes=5)
    NasBreaker.objects.create(
        host=settings.EXLAB_HOST,
        token=scene.root.nas_token,
        failures=1,
        open_until=until,
        reason="nas_timeout",
        detail="silent for 60 s",
    )
    with pytest.raises(Refused) as refused:
        clear_run(scene.run, now=scene.now)
    assert refused.value.finding.reason is Reason.NAS_TIMEOUT
    assert nas_breaker.NOT_ASKED in refused.value.finding.detail
    scene.assert_whole()


def test_a_real_nas_that_hangs_is_asked_once_by_a_whole_sweep(
    lab: Lab, root: Any, now: Any, policy: Callable[..., Any], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every reader process is stopped, as on a dead mount: the one for a run, and the one that asks whether
    the NAS answers.
    """
    import signal
    import subprocess
    import time

    from cleanup.runs import discovery
    from cleanup.sweeps import all_roots

    policy(mode="scheduled", retain_hours=0)
    for minute in range(3):
        lab.run(f"CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-3{minute}")
    discovery.discover(root, now=now)
    started: list[subprocess.Popen[bytes]] = []
    start = reader_process.start

    def stopped(words: Sequence[str]) -> subprocess.Popen[bytes]:
        child = start(words)
        child.send_signal(signal.SIGSTOP)
        started.append(child)
        return child

    settings.EXLAB_NAS_TIMEOUT = 0.3
    monkeypatch.setattr(reader_process, "start", stopped)
    began = time.monotonic()
    swept = all_roots.sweep(now=now)
    assert time.monotonic() - began < 20
    assert [run.reason for run in swept.runs] == ["nas_timeout"] * 3
    assert len(started) == 2
    for child in started:
        child.wait(timeout=10)
