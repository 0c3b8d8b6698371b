"""Tasks that are shared out among threads; only the caller's thread hears what they have done."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
# A task, and the event that ends all: a long task looks at it between its steps.
Work = Callable[[T, threading.Event], R]


@dataclass(frozen=True)
class _Ended:
    error: BaseException | None = None


def share_out(tasks: Iterable[T], work: Work[T, R], take: Callable[[R], None], *, threads: int) -> None:
    """Does each task in one of `threads`, and gives `take` what it returned; one thread is this one, in order.

    `take` is called in this thread, and no other thread is left at the end. What `tasks`, `work` or `take` raises ends
    all, and is raised here.
    """
    stopped = threading.Event()
    if threads == 1:
        for task in tasks:
            take(work(task, stopped))
        return
    said: queue.SimpleQueue[R | _Ended] = queue.SimpleQueue()
    waiting, turn = iter(tasks), threading.Lock()
    crew = [
        threading.Thread(target=_work_through, args=(waiting, turn, work, said, stopped), name=f"shared-work-{number}")
        for number in range(threads)
    ]
    try:
        for each in crew:
            each.start()
        _hear(len(crew), said, take)
    finally:
        stopped.set()
        for each in crew:
            if each.ident is not None:
                each.join()


def _hear(at_work: int, said: "queue.SimpleQueue[R | _Ended]", take: Callable[[R], None]) -> None:
    while at_work:
        heard = said.get()
        if not isinstance(heard, _Ended):
            take(heard)
            continue
        at_work -= 1
        if heard.error is not None:
            raise heard.error


def _work_through(
    waiting: Iterator[T],
    turn: threading.Lock,
    work: Work[T, R],
    said: "queue.SimpleQueue[R | _Ended]",
    stopped: threading.Event,
) -> None:
    ended = _Ended()
    try:
        while not stopped.is_set():
            with turn:
                task = next(waiting, ended)
            if isinstance(task, _Ended):
                break
            done = work(task, stopped)
            if stopped.is_set():
                break  # perhaps in the middle of it
            said.put(done)
    except BaseException as error:  # of every kind: the caller waits, and raises it in its own thread
        stopped.set()  # a death stops all
        ended = _Ended(error)
    said.put(ended)
