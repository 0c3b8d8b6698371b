"""Digests that an interrupted reading has left, where they are no longer true although every time and number is."""

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from cleanup import clear_run
from cleanup.clears.refusal import Refused
from cleanup.models import Difference, Proof, Run, StagingRoot
from cleanup.runs import discovery, run_status
from cleanup.runs.proofs import differences
from cleanup.runs.proving import prover, waits
from cleanup.runs.proving.beats import ReadingBeat
from cleanup.runs.proving.waits import Stopped, Wait
from cleanup.storage.data_directory.kept_digests import KeptDigests
from tests.tools.lab import RUN_PATH, Lab

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def interrupted(monkeypatch: pytest.MonkeyPatch, at_first: Callable[[], object], side: str) -> Iterator[None]:
    """Do something after the look by names and before the reading; stop when digests of that side are noted."""
    note, look, noted, begun = getattr(KeptDigests, side), ReadingBeat.__call__, [], []

    def count(kept: KeptDigests, path: bytes, *told: Any) -> None:
        note(kept, path, *told)
        noted.append(path)

    def call(beat: ReadingBeat, size: int) -> None:
        if not begun:
            begun.append(at_first())
        look(beat, size)
        if noted:
            raise Stopped(Wait.TIME)

    with monkeypatch.context() as patch:
        patch.setattr(KeptDigests, side, count)
        patch.setattr(ReadingBeat, "__call__", call)
        patch.setattr(waits, "STALLED_PERCENT", 101.0)
        yield


def swap(one: Path, other: Path) -> None:
    """The files keep every time and number of theirs: only their folders get other names."""
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def test_a_folder_that_lay_on_the_nas_for_a_while_proves_nothing(
    lab: Lab, root: StagingRoot, policy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy on the NAS is damaged. While it is read a good one lies in its place, and then no longer."""
    policy(proof="checksum")
    lab.run(files={"a.bin": b"a" * 1000, "sub/b.bin": b"b" * 1000})
    good, elsewhere = lab.twin() / "sub", lab.nas / "elsewhere"
    elsewhere.mkdir()
    bad = elsewhere / "sub"
    bad.mkdir()
    times = (good / "b.bin").stat()
    (bad / "b.bin").write_bytes(b"b" * 999 + b"?")
    os.utime(bad / "b.bin", ns=(times.st_atime_ns, times.st_mtime_ns))
    swap(good, bad)
    discovery.discover(root, now=timezone.now())
    run_status.judge_stale(timezone.now())
    with interrupted(monkeypatch, lambda: swap(good, bad), "note_nas"):
        assert prover.prove_due() == [f"{RUN_PATH}: time_is_over"]
    swap(good, bad)
    monkeypatch.setattr(waits, "STALLED_PERCENT", 101.0)
    said = prover.prove_due()
    assert said == [f"{RUN_PATH}: nas_checksum_mismatch"]
    assert (Proof.objects.count(), Difference.objects.count()) == (0, 1)


@contextmanager
def rotting(file: Path) -> Iterator[Callable[[bytes], None]]:
    """The bytes of a file, as a failing disk or its repair changes them: no time of the file changes.

    A page that is mapped and written to already takes more without a new time.
    """
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as pages:
        pages[:] = bytes(pages)
        before = file.stat()

        def write(content: bytes) -> None:
            pages[:] = content
            assert file.read_bytes() == content
            assert (file.stat().st_mtime_ns, file.stat().st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)

        os.utime(file, (before.st_atime, before.st_mtime - 1000))
        before = file.stat()
        yield write


@pytest.mark.parametrize("by", ["prover", "click"])
def test_after_a_difference_no_byte_is_taken_for_granted(
    lab: Lab, root: StagingRoot, policy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """The copy was read and was good. Then its disk fails, and a comparison on request finds it."""
    policy(proof="checksum")
    path = lab.run(files={"a.bin": b"a" * 1000, "b.bin": b"b" * 1000})
    with rotting(lab.twin() / "a.bin") as write:
        discovery.discover(root, now=timezone.now())
        run_status.judge_stale(timezone.now())
        with interrupted(monkeypatch, lambda: None, "note_nas"):
            assert prover.prove_due() == [f"{RUN_PATH}: time_is_over"]
        write(b"?" * 1000)
        run = Run.objects.with_root().get()
        differences.note(run, ["a.bin"], now=timezone.now())
        monkeypatch.setattr(waits, "STALLED_PERCENT", 101.0)
        if by == "prover":
            assert prover.prove_due() == [f"{RUN_PATH}: nas_checksum_mismatch"]
        with pytest.raises(Refused, match="nas_checksum_mismatch"):
            clear_run(run, now=timezone.now(), actor="ada")
        assert (path / "a.bin").exists()
        assert (Proof.objects.count(), Difference.objects.count()) == (0, 1)
        write(b"a" * 1000)
        assert clear_run(run, now=timezone.now(), actor="ada")[0] > 0, "a click reads again"
