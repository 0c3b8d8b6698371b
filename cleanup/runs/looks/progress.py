"""How far a pass is: on its root's row for the pages, in the log, and for the caller."""

import logging
import time
from collections.abc import Callable
from typing import Self

from django.utils import timezone

from cleanup.models import StagingRoot

logger = logging.getLogger(__name__)

Say = Callable[[str], object]

# A short pass says nothing.
_SHOWN_AFTER_SECONDS = 2.0
_SHOWN_EVERY_SECONDS = 1.0
_SAID_EVERY_SECONDS = 5.0
_LOGGED_EVERY_SECONDS = 60.0


def say_nothing(line: str) -> None:
    """For a pass whose caller does not show its progress."""


class LookProgress:
    """The progress of one pass over a root with `total` runs to look at. Use it around the looks."""

    def __init__(self, root: StagingRoot, total: int, say: Say) -> None:
        self._root, self._total, self._say = root, total, say
        self._done = 0
        self._since = time.monotonic()
        self._shown = self._said = self._since
        self._logged = self._since
        self._is_shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._is_shown:
            self._write(looking_done=0, looking_total=0, looking_at=None, looking_seen_at=None)
            self._tell(logger.info)

    def expect(self, more: int) -> None:
        """Count more runs that are to be looked at."""
        self._total += more

    def advance(self, runs: int) -> None:
        """Count runs that were looked at."""
        self._done += runs
        now = time.monotonic()
        if now - self._since < _SHOWN_AFTER_SECONDS or now - self._shown < _SHOWN_EVERY_SECONDS:
            return
        self._shown, at = now, timezone.now()
        begun = {} if self._is_shown else {"looking_at": at}
        self._write(looking_done=self._done, looking_total=self._total, looking_seen_at=at, **begun)
        self._is_shown = True
        if now - self._said >= _SAID_EVERY_SECONDS:
            self._said = now
            self._tell(self._say)
        if now - self._logged >= _LOGGED_EVERY_SECONDS:
            self._logged = now
            self._tell(logger.info)

    def _write(self, **columns: object) -> None:
        StagingRoot.objects.filter(pk=self._root.pk).update(**columns)

    def _tell(self, say: Say) -> None:
        seconds = max(time.monotonic() - self._since, 0.001)
        pace = self._done / seconds
        left = (self._total - self._done) / pace if pace else 0.0
        more = f", about {left:,.0f} s more" if self._done < self._total else ""
        say(f"{self._root.name}: {self._done:,} of {self._total:,} runs looked at, {pace:,.0f} a second{more}")
