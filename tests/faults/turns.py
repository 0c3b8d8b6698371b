"""Two removers that take turns by a seed, so that a crash among them comes again.

Removers are threads. Here only one of them goes on at a time: each waits before every operation, and the seed decides
who is next. Then the operations of a clear come in the same order each time, and have numbers.
"""

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from cleanup.storage import shared_work
from cleanup.storage.staging import removal, removal_tasks
from tests.faults.seam import Seam

REMOVERS = 2
_SECONDS = 60.0


@dataclass
class Turns:
    """Who goes on when. A crew of removers begins anew with the same seed."""

    seed: int
    switches: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _chance: random.Random = field(default_factory=random.Random)
    _numbers: dict[int, int] = field(default_factory=dict)
    _waiting: set[int] = field(default_factory=set)
    _begun: int = 0
    _next: int = 0
    _last: int = 0

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Clears have two removers, each task is one file, and they take turns."""
        work_through, operation = shared_work._work_through, Seam.operation

        def in_turn(seam: Seam, *args: Any, **kwargs: Any) -> Any:
            if not seam._aside:
                self._wait()
            return operation(seam, *args, **kwargs)

        with (
            mock.patch.object(shared_work, "_work_through", lambda *args: self._work(work_through, *args)),
            mock.patch.object(Seam, "operation", in_turn),
            mock.patch.object(removal, "removers_for", return_value=REMOVERS),
            mock.patch.object(removal_tasks, "TASK_FILES", 1),
        ):
            yield

    def _work(self, work_through: Callable[..., None], *args: Any) -> None:
        self._begin()
        try:
            self._wait()
            work_through(*args)
        finally:
            self._end()

    def _begin(self) -> None:
        with self._changed:
            if not self._numbers:
                self._begun, self._last = 0, 0
                self._chance.seed(self.seed)
            self._begun += 1
            self._numbers[threading.get_ident()] = self._begun

    def _end(self) -> None:
        with self._changed:
            del self._numbers[threading.get_ident()]
            self._choose()

    def _wait(self) -> None:
        with self._changed:
            number = self._numbers.get(threading.get_ident())
            if number is None:
                return  # no remover
            self._waiting.add(number)
            self._choose()
            assert self._changed.wait_for(lambda: self._next == number, _SECONDS), "no remover's turn came"
            self._next = 0
            self._waiting.discard(number)
            self.switches += self._last not in (0, number)
            self._last = number

    def _choose(self) -> None:
        """When all that have begun and not ended wait."""
        if self._begun == REMOVERS and self._waiting and self._waiting == set(self._numbers.values()):
            self._next = self._chance.choice(sorted(self._waiting))
            self._changed.notify_all()
