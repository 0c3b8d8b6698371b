"""Threads share out tasks, and end together."""

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from cleanup.storage import shared_work

pytestmark = pytest.mark.one_engine(by="function")


def end_of_the_world(number: int, stopped: threading.Event) -> int:
    if number == 5:
        raise KeyboardInterrupt("the end of the world")
    # The others notice it in the middle of their tasks, long before the time is over.
    return -1 if stopped.wait(20 if number > 5 else 0) else number


def failing_tasks() -> Iterator[int]:
    yield from range(3)
    raise OSError("no more of them")


def test_one_thread_is_this_one_and_keeps_the_order() -> None:
    here, done = threading.get_ident(), list[int]()
    shared_work.share_out(
        range(9), lambda task, stopped: (task, threading.get_ident()), lambda told: done.append(_here(told)), threads=1
    )
    assert done == list(range(9))
    assert here == threading.get_ident()


def _here(told: tuple[int, int]) -> int:
    number, thread = told
    assert thread == threading.get_ident()
    return number


@pytest.mark.parametrize("threads", [2, 4])
def test_each_task_is_done_once_and_only_this_thread_hears_of_it(threads: int) -> None:
    both_at_work, heard = threading.Barrier(threads, timeout=20), list[tuple[int, int, int]]()

    def work(number: int, stopped: threading.Event) -> tuple[int, int]:
        if number < threads:
            both_at_work.wait()  # so that no thread takes them all
        return number, threading.get_ident()

    shared_work.share_out(
        iter(range(200)), work, lambda told: heard.append((*told, threading.get_ident())), threads=threads
    )
    assert sorted(number for number, _, _ in heard) == list(range(200))
    workers = {worker for _, worker, _ in heard}
    assert len(workers) == threads
    assert {hearer for _, _, hearer in heard} == {threading.get_ident()}
    assert threading.get_ident() not in workers


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("failing", ["work", "take", "tasks"])
def test_a_death_stops_all_and_leaves_no_thread(threads: int, failing: str) -> None:
    """The tasks have no end, so all must stop by themselves."""
    taken: list[int] = []

    def take(number: int) -> None:
        if failing == "take" and number == 2:
            raise ValueError("the database is gone")
        taken.append(number)

    tasks = failing_tasks() if failing == "tasks" else itertools.count()
    work = end_of_the_world if failing == "work" else lambda number, stopped: number
    begun = time.monotonic()
    with pytest.raises({"work": KeyboardInterrupt, "take": ValueError, "tasks": OSError}[failing]):
        shared_work.share_out(tasks, work, take, threads=threads)
    assert time.monotonic() - begun < 15
    assert -1 not in taken
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("shared-work")]
