"""Names in plans are found in each case and each form of their signs, and no list but the right one is read."""

import hashlib
import os
from pathlib import Path

import pytest

from cleanup.storage.data_directory import kept_names
from cleanup.storage.data_directory.datadir import DataDir
from cleanup.storage.staging import plan
from cleanup.storage.staging.run_tree import Entry

pytestmark = pytest.mark.one_engine

ATTEMPT = "7" * 32
NAMES = [
    b"Raw/Movie_01.tif",
    b"raw/movie_02.tif",
    "export/Gr\u00f6\u00dfe.csv".encode(),
    "export/cafe\u0301.csv".encode(),
    b'export/say "hi" \\ 5.txt',
    b"export/bad-\xff.bin",
    "export/\u212aelvin.txt".encode(),
    b"4096/true.txt",
]


@pytest.fixture
def written(tmp_path: Path) -> tuple[DataDir, str]:
    """A plan with these files and a folder whose name matches, and its SHA-256."""
    entries = [Entry(name, True, 5, 1, 4096, 4096, 1, 1) for name in NAMES]
    entries.append(Entry(b"movie-folder", False, 6, 1, 0, 0, 1, 1))
    content = plan.encode(plan.Plan(ATTEMPT, "movie/A/B", 4, tuple(entries)))
    data = DataDir(str(tmp_path))
    data.write_plan(ATTEMPT, content)
    return data, hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("MOVIE", [0, 1]),
        ("raw/movie_01", [0]),
        ("gr\u00d6SSE", [2]),
        ("CAF\u00c9", [3]),
        ("cafe", []),  # the sign that follows makes it another letter
        ('"HI" \\ 5', [4]),
        ("bad-", [5]),
        ("kelvin", [6]),
        ("4096", [7]),  # a size and an inode are no names
        ("true", [7]),
        ("nothing", []),
    ],
)
def test_what_is_found(written: tuple[DataDir, str], text: str, places: list[int]) -> None:
    assert list(kept_names.containing(written[0], ATTEMPT, written[1], text)) == [NAMES[place] for place in places]


def test_a_list_that_is_gone_changed_or_of_another_name_is_told(
    written: tuple[DataDir, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, digest = written
    with pytest.raises(FileNotFoundError):
        list(kept_names.containing(data, "8" * 32, digest, "movie"))
    with pytest.raises(plan.PlanError):
        list(kept_names.containing(data, ATTEMPT, "0" * 64, "movie"))
    with pytest.raises(ValueError, match="no attempt"):
        list(kept_names.containing(data, f"../plans/{ATTEMPT}", digest, "movie"))
    # Behind a data directory that was unmounted no list is gone.
    monkeypatch.setenv("UP_LOCK_IDENTITY", "1:1")
    with pytest.raises(OSError, match="unmounted"):
        list(kept_names.containing(data, ATTEMPT, digest, "movie"))


def test_a_long_list_is_handed_over_in_parts(tmp_path: Path) -> None:
    data = DataDir(str(tmp_path))
    entries = tuple(Entry(os.fsencode(f"{number}.tif"), True, 5, 1, 1, 1, 1, 1) for number in range(4_001))
    content = plan.encode(plan.Plan(ATTEMPT, "A", 4, entries))
    data.write_plan(ATTEMPT, content)
    assert list(kept_names.containing(data, ATTEMPT, hashlib.sha256(content).hexdigest(), "x")) == [None, None]
