"""Both sides are read at once, with the result of reading one after the other, and nothing goes on after the end."""

import contextlib
import hashlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cleanup.runs.proofs.both_sides import BothSides
from cleanup.storage import handles, hash_pool
from cleanup.storage.nas.client import NasError, NasReader, TwinFile
from cleanup.storage.root_files import tokens
from cleanup.storage.staging import run_tree
from cleanup.storage.staging.run_tree import Entry
from tests.tools.lab import RUN_PATH, Lab

pytestmark = pytest.mark.one_engine(by="function")

ODD = (b"\xff\xfe.tif", b"line\nbreak", b"-rf", b"caf\xe9/\xff/deep.tif", b"empty")
Digests = dict[bytes, bytes | None]


@dataclass
class Noted:
    """Digests in memory, as an interrupted reading leaves them."""

    here: dict[bytes, bytes] = field(default_factory=dict)
    there: dict[bytes, bytes] = field(default_factory=dict)

    def of(self, path: bytes) -> tuple[bytes | None, bytes | None]:
        return self.here.get(path), self.there.get(path)

    def note_staged(self, path: bytes, digest: bytes) -> None:
        self.here[path] = digest

    def note_nas(self, path: bytes, twin: TwinFile) -> None:
        assert twin.digest is not None
        self.there[path] = twin.digest


@dataclass
class Pair:
    """A run and its copy, which may differ."""

    lab: Lab
    run: int
    reader: NasReader

    @property
    def files(self) -> list[Entry]:
        return sorted(run_tree.scan(self.run).data_files)

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.files)

    def path(self, name: bytes, *, on_nas: bool = False) -> Path:
        return (self.lab.twin() if on_nas else self.lab.staging / RUN_PATH) / os.fsdecode(name)

    def slowly(self) -> tuple[Digests, Digests]:
        """The digests of both sides, read one after the other."""
        here, there = (
            {entry.path: _sha256(self.path(entry.path, on_nas=on_nas)) for entry in self.files}
            for on_nas in (False, True)
        )
        return here, there


def _sha256(path: Path) -> bytes | None:
    return hashlib.sha256(path.read_bytes()).digest() if path.is_file() and not path.is_symlink() else None


def both(
    pair: Pair, files: list[Entry], progress: Callable[[int], None] = lambda size: None, **how: object
) -> tuple[Digests, Digests, set[bytes]]:
    """Both sides as the product reads them, and the files that are no longer those of the scan."""
    with BothSides(pair.run, files, progress, **how) as sides:  # type: ignore[arg-type]
        listing = sides.listing(pair.reader, RUN_PATH)
        staged = list(sides.staged())
    there = {entry.path: listing.files[entry.path].digest if entry.path in listing.files else None for entry in files}
    return {entry.path: digest for entry, digest, _ in staged}, there, {one.path for one, _, same in staged if not same}


@pytest.fixture
def pair(lab: Lab) -> Iterator[Pair]:
    with make_pair(lab, {name: os.urandom(40) for name in ODD[:4]} | {b"empty": b""}) as one:
        yield one


@contextlib.contextmanager
def make_pair(lab: Lab, files: dict[bytes, bytes]) -> Iterator[Pair]:
    lab.run(files={os.fsdecode(name): data for name, data in files.items()})
    with handles.opened(handles.open_root(str(lab.nas))) as root:
        token = tokens.lay_token(root)
    path = str(lab.staging / RUN_PATH)
    with handles.opened(handles.open_root(path)) as run, NasReader(str(lab.nas), token, timeout=30) as reader:
        reader.present([])
        yield Pair(lab, run, reader)


@contextlib.contextmanager
def nothing_goes_on() -> Iterator[None]:
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    yield
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) <= descriptors


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("seed", [1, pytest.param(range(2, 30), marks=pytest.mark.exhaustive)])
def test_the_digests_are_those_of_a_plain_reading(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, threads: int, seed: int | range
) -> None:
    """Random trees, with files that differ, lack or are more on the NAS. The exhaustive one takes minutes."""
    monkeypatch.setattr(hash_pool, "THREADS_OF_A_SIDE", threads)
    seeds = [seed] if isinstance(seed, int) else seed
    files = dict.fromkeys(ODD, b"odd") | {b"large/%d" % one: os.urandom(900_000) for one in range(3)}
    with make_pair(lab, files) as one:
        for some in map(random.Random, seeds):
            for number in range(some.choice([40, 600]) if len(seeds) > 1 else 600):
                for on_nas in (False, True):
                    path = one.path(b"%d/%d" % (number % 7, number), on_nas=on_nas)
                    path.parent.mkdir(exist_ok=True)
                    path.write_bytes(some.randbytes(1 if some.random() < 0.05 else 2))
            for entry in some.sample(one.files, 3):
                one.path(entry.path, on_nas=True).unlink(missing_ok=True)
            expected = one.slowly()
            told: list[int] = []
            here, there, changed = both(one, one.files, told.append)
            assert (here, there) == expected
            assert len(set(there.values())) > 3
            assert not changed
            assert sum(told) == one.size + sum(
                one.path(path, on_nas=True).stat().st_size for path, digest in there.items() if digest
            )


@pytest.mark.exhaustive
def test_folders_of_ten_thousand_files(lab: Lab) -> None:
    """It takes some seconds."""
    with make_pair(lab, {b"%d/%05d.tif" % (number % 2, number): b"%d" % number for number in range(20_000)}) as one:
        expected = one.slowly()
        assert both(one, one.files)[:2] == expected


def test_the_staged_side_is_read_while_the_nas_stands_still(pair: Pair) -> None:
    """The reading process is stopped until every staged byte has been read."""
    child = pair.reader._child
    assert child is not None
    os.kill(child.pid, signal.SIGSTOP)
    read = 0

    def progress(size: int) -> None:
        nonlocal read
        read += size
        if read == pair.size:
            os.kill(child.pid, signal.SIGCONT)

    expected = pair.slowly()
    assert both(pair, pair.files, progress)[:2] == expected
    assert read > pair.size


def test_what_an_interrupted_reading_has_left_is_not_read_again(pair: Pair) -> None:
    """The digests that it left are made up, so each of them shows that its file was not read."""
    files, (here, there) = pair.files, pair.slowly()
    left = Noted({ODD[0]: b"h" * 32}, {ODD[0]: b"n" * 32, ODD[1]: b"m" * 32})
    told: list[int] = []
    assert both(pair, files, told.append, so_far=left, goes_on=True) == (
        here | {ODD[0]: b"h" * 32},
        there | {ODD[0]: b"n" * 32, ODD[1]: b"m" * 32},
        set(),
    )
    assert sum(told) == 2 * pair.size
    assert left.here == here | {ODD[0]: b"h" * 32}
    assert left.there == there | {ODD[0]: b"n" * 32, ODD[1]: b"m" * 32}
    assert both(pair, files, so_far=left) == (here, there, set()), "unless it does not go on"
    assert (left.here, left.there) == (here, there)


@pytest.mark.parametrize("known", [False, True])
def test_a_staged_file_that_is_another_one_by_now_is_told(pair: Pair, known: bool) -> None:
    files, path = pair.files, pair.path(ODD[0])
    left = Noted({ODD[0]: b"h" * 32} if known else {})
    data = path.read_bytes()
    path.with_name("new").write_bytes(data)
    path.with_name("new").rename(path)
    assert both(pair, files, so_far=left, goes_on=True)[2] == {ODD[0]}
    assert (ODD[0] in left.here) == known, "and is not noted"


@pytest.mark.parametrize("known", [False, True])
def test_a_staged_file_that_cannot_be_read_is_told_after_the_nas(pair: Pair, known: bool) -> None:
    files = pair.files
    left = Noted({ODD[1]: b"h" * 32} if known else {})
    pair.path(ODD[1]).unlink()
    with (
        nothing_goes_on(),
        BothSides(pair.run, files, lambda size: None, so_far=left, goes_on=True) as sides,
    ):
        assert len(sides.listing(pair.reader, RUN_PATH).files) == len(files)
        with pytest.raises(FileNotFoundError) as missing:
            list(sides.staged())
    assert missing.value.filename == "line\\nbreak"


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_what_progress_raises_ends_both_sides(lab: Lab, monkeypatch: pytest.MonkeyPatch, at: float) -> None:
    files = {b"%d" % number: os.urandom(2 << 20) for number in range(3)}
    monkeypatch.setattr(hash_pool, "THREADS_OF_A_SIDE", 2)
    with make_pair(lab, files) as one:
        child, read = one.reader._child, 0

        def stop(size: int) -> None:
            nonlocal read
            read += size
            if read >= at * one.size:
                raise KeyboardInterrupt

        with nothing_goes_on(), pytest.raises(KeyboardInterrupt):
            both(one, one.files, stop)
        assert child is not None
        assert one.reader._child is None
        assert child.wait(timeout=10) == -signal.SIGKILL
        assert one.reader.read(RUN_PATH, with_bytes=False).files, "by a new one"


def test_a_nas_that_hangs_is_given_up_and_the_staged_side_ends(pair: Pair) -> None:
    assert pair.reader._child is not None
    os.kill(pair.reader._child.pid, signal.SIGSTOP)
    pair.reader._timeout = 0.5
    told: list[int] = []
    with nothing_goes_on(), pytest.raises(NasError, match="silent for"):
        both(pair, pair.files, told.append)
    assert sum(told) == pair.size


def test_a_reading_process_that_dies_ends_the_staged_side(pair: Pair) -> None:
    child = pair.reader._child
    assert child is not None
    os.kill(child.pid, signal.SIGSTOP)
    with nothing_goes_on(), pytest.raises(NasError, match="the reading process ended"):
        both(pair, pair.files, lambda size: child.kill())


def test_a_pace_is_kept_on_the_nas(lab: Lab) -> None:
    """It takes half a second."""
    with make_pair(lab, {b"a": os.urandom(250_000), b"b": os.urandom(250_000)}) as one:
        expected, began = one.slowly(), time.monotonic()
        assert both(one, one.files, pace=1_000_000)[:2] == expected
        assert time.monotonic() - began >= 0.5
