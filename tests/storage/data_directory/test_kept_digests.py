"""Digests of an interrupted reading, in real files."""

import hashlib
import os
import stat
import tracemalloc
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cleanup.storage.data_directory import kept_digests
from cleanup.storage.data_directory.datadir import DataDir
from cleanup.storage.nas.listed_twins import TwinFile
from cleanup.storage.staging import tree_entries
from cleanup.storage.staging.tree_entries import ChosenEntries, Entry

pytestmark = pytest.mark.one_engine

NOW = datetime(2026, 6, 15, 8, 0, 0, 123456, tzinfo=UTC)
DAY = timedelta(days=1)
EVIDENCE, OTHER = hashlib.sha256(b"one").hexdigest(), hashlib.sha256(b"other").hexdigest()
PATHS = [b"a", b"b/c", b"b\xff"]
FIRST, SECOND = (hashlib.sha256(text).digest() for text in (b"1", b"2"))
TWIN = TwinFile(size=1, mtime_ns=2, ino=3, digest=SECOND, ctime_ns=4)
TWINS = dict.fromkeys(PATHS, TWIN._replace(digest=None))


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    return DataDir(str(tmp_path))


def opened(
    data: DataDir,
    now: datetime = NOW,
    evidence: str = EVIDENCE,
    paths: Collection[bytes] = PATHS,
    twins: dict[bytes, TwinFile] = TWINS,
):
    return kept_digests.opened(data, 7, evidence, paths, twins, now=now, longest=DAY)


def note_two(data: DataDir) -> Path:
    with opened(data) as kept:
        assert (kept.first_byte_at, kept.of(b"a")) == (NOW, (None, None))
        kept.note_staged(b"a", FIRST)
        kept.note_nas(b"b\xff", TWIN)
        kept.note_nas(b"of no run", TWIN)
        assert (kept.of(b"a"), kept.of(b"b\xff")) == ((FIRST, None), (None, SECOND))
    return Path(data.path) / "proving" / "7"


def test_what_was_noted_is_there_again_with_its_first_instant(data: DataDir) -> None:
    file = note_two(data)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with opened(data, NOW + DAY - timedelta(seconds=1)) as kept:
        assert (kept.first_byte_at, kept.loaded) == (NOW, 2)
        assert [kept.of(path) for path in PATHS] == [(FIRST, None), (None, None), (None, SECOND)]
        kept.note_staged(b"b/c", SECOND)
    with opened(data) as kept:
        assert [kept.of(path)[0] for path in PATHS] == [FIRST, SECOND, None]
    assert (kept_digests.kept_runs(data), kept_digests.is_kept(data, 7)) == ([7], True)
    kept_digests.drop(data, 7)
    kept_digests.drop(data, 7)
    assert (kept_digests.kept_runs(data), file.exists()) == ([], False)


@pytest.mark.parametrize(
    "how",
    [{"evidence": OTHER}, {"paths": PATHS[:2]}, {"now": NOW + DAY}, {"now": NOW - timedelta(seconds=1)}],
    ids=["another evidence", "other files", "a day old", "from the future"],
)
def test_what_is_of_other_bytes_or_old_is_dropped(data: DataDir, how: dict) -> None:
    note_two(data)
    with opened(data, **how) as kept:
        assert (kept.loaded, kept.first_byte_at, kept.of(b"a")) == (0, how.get("now", NOW), (None, None))
    with opened(data) as kept:
        assert kept.loaded == 0, "what was dropped does not come back"


@pytest.mark.parametrize(
    "other",
    [{"size": 9}, {"mtime_ns": 9}, {"ino": 9}, {"ctime_ns": 9}, None],
    ids=["size", "mtime", "ino", "ctime", ""],
)
def test_a_digest_of_another_file_on_the_nas_is_read_again(data: DataDir, other: dict | None) -> None:
    note_two(data)
    now_there = {path: twin._replace(**other) for path, twin in TWINS.items()} if other else {}
    with opened(data, twins=now_there) as kept:
        assert (kept.loaded, kept.of(b"a"), kept.of(b"b\xff")) == (1, (FIRST, None), (None, None))
        kept.note_nas(b"b\xff", TWIN._replace(**(other or {}), digest=FIRST))
    with opened(data, twins=now_there) as kept:
        assert kept.of(b"b\xff") == (None, FIRST if other else None)


@pytest.mark.parametrize("cut", range(1, 49))
def test_a_torn_end_is_cut_and_written_over(data: DataDir, cut: int) -> None:
    file = note_two(data)
    os.truncate(file, file.stat().st_size - cut)
    with opened(data) as kept:
        assert (kept.loaded, kept.of(b"a"), kept.of(b"b\xff")) == (1, (FIRST, None), (None, None))
        kept.note_nas(b"b/c", TWIN)
    with opened(data) as kept:
        assert (kept.loaded, kept.of(b"b/c")) == (2, (None, SECOND))


def test_no_changed_byte_is_believed(data: DataDir) -> None:
    file = note_two(data)
    whole = file.read_bytes()
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with opened(data) as kept:
            assert kept.of(b"a")[0] in (FIRST, None)
            assert kept.of(b"b\xff")[1] in (SECOND, None)
            assert kept.loaded < 2


def test_a_full_disk_ends_the_keeping_and_not_the_reading(data: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(data) as kept:
        kept.note_staged(b"a", FIRST)
        kept.flush()

        def full(descriptor: int, content: bytes) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            kept.note_staged(b"b/c", SECOND)
            assert kept.of(b"b/c") == (None, None)
        kept.note_nas(b"a", TWIN)
    with opened(data) as kept:
        assert (kept.loaded, kept.of(b"a")) == (1, (FIRST, None))


@pytest.mark.exhaustive
def test_very_many_files_take_little_memory(data: DataDir) -> None:
    """Takes some seconds. The paths are packed, as a scan gives them: some twenty bytes for each file."""
    found = (Entry(b"%08d" % number, True, number, 1, 1, 0, 0, 0) for number in range(200_000))
    paths = ChosenEntries(tree_entries.packed(found, is_ordered=True), tree_entries.files_of).paths
    twins = dict.fromkeys(paths, TWIN)
    tracemalloc.start()
    for _ in range(2):
        with opened(data, paths=paths, twins=twins) as kept:
            for path in paths:
                kept.note_staged(path, FIRST)
                kept.note_nas(path, TWIN)
            assert kept.of(b"00199999") == (FIRST, SECOND)
            loaded = kept.loaded
        del kept
    assert loaded == 400_000
    assert tracemalloc.get_traced_memory()[1] < 5 << 20
    tracemalloc.stop()
