"""A removal learns whether it was the only one on its filesystem."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from cleanup.storage import removal_counts
from cleanup.storage.removal_counts import counted
from tests.faults.means import flocked_elsewhere

pytestmark = pytest.mark.one_engine(by="function")


_REMOVING = """
import sys
from cleanup.storage.removal_counts import counted
with counted(sys.argv[1]):
    print("counted", flush=True)
    input()
"""


@pytest.fixture
def counter(tmp_path: Path) -> str:
    return str(tmp_path / "counter")


def test_one_after_the_other_each_was_alone(counter: str) -> None:
    for _ in range(3):
        with counted(counter) as turn:
            assert turn.was_alone()


def test_two_at_once_were_not(counter: str) -> None:
    with counted(counter) as one:
        assert one.was_alone()
        with counted(counter) as other:
            assert not other.was_alone()
        assert not one.was_alone()  # it has ended, and yet it was there
    with counted(counter) as after:
        assert after.was_alone()


def test_on_two_filesystems_both_were_alone(tmp_path: Path) -> None:
    names = [removal_counts.counter_of(name) for name in ("device number 1", "device number 2")]
    with counted(str(tmp_path / names[0])) as one, counted(str(tmp_path / names[1])) as other:
        assert one.was_alone()
        assert other.was_alone()


def test_a_process_that_dies_is_not_under_way_any_more(counter: str) -> None:
    """Takes 0.3 s: another Python starts."""
    command = [sys.executable, "-c", _REMOVING, counter]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"counted\n"
        with counted(counter) as during:
            assert not during.was_alone()
        other.kill()
    with counted(counter) as after:
        assert after.was_alone()


def test_a_process_that_stands_still_with_the_count_holds_no_removal_up(counter: str) -> None:
    Path(counter).touch()
    with flocked_elsewhere(Path(counter)):
        began = time.monotonic()
        with pytest.raises(BlockingIOError), counted(counter):
            pass
        assert time.monotonic() - began < 5


def test_the_count_needs_no_room(counter: str) -> None:
    for _ in range(5):
        with counted(counter):
            pass
    found = Path(counter).stat()
    assert (found.st_size, found.st_blocks) == (5, 0)
