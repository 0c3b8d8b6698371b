"""Cleared runs by the names of their files, which no table has: plans in the data directory are looked into."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from django.conf import settings

from cleanup.lab.roots import opening
from cleanup.models import ClearAttempt, Phase
from cleanup.storage.data_directory import kept_names
from cleanup.storage.run_paths import show
from cleanup.storage.staging.plan import PlanError

# A search names at most this many files of a run, and at most this many runs whose list it did not read.
NAMED = 3
LISTED = 50
# Phases after which a run is gone from the staging disk.
CLEARED_IN = (Phase.COMMITTED, Phase.DONE)

# A run's key, and what the caller knows it by.
Candidate = tuple[int, Any]


class NotRead(StrEnum):
    """Why the list of a run was not looked into."""

    ELSEWHERE = "elsewhere"
    OTHER_PROGRAM = "other_program"
    GONE = "gone"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class FoundNames:
    """The first names in a run that match; `more`: there may be others."""

    names: tuple[str, ...] = ()
    more: bool = False


@dataclass(frozen=True)
class UnreadRun:
    """A run whose list was not looked into; `host`: where the list should be, if that is known."""

    run: int
    why: NotRead
    host: str = ""


@dataclass
class FileSearch:
    """What a search has seen: `looked` counts lists, `last` is the last candidate; `goes_on`: others come after it.

    `unread` counts the runs that were not looked into, by reason and host; `first_unread` are the first of them.
    """

    found: dict[int, FoundNames] = field(default_factory=dict)
    looked: int = 0
    unread: Counter[tuple[NotRead, str]] = field(default_factory=Counter)
    first_unread: list[UnreadRun] = field(default_factory=list)
    last: Candidate | None = None
    goes_on: bool = False


def search(
    candidates: Iterable[list[Candidate]],
    text: str,
    *,
    size: int,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> FileSearch:
    """Look through cleared runs in the order given, until `size` of them match or the time is over.

    The text is a part of a file's path within its run, in upper or lower case. The first list is read to its end.
    """
    until, said = clock() + seconds, FileSearch()

    def is_over() -> bool:
        return said.last is not None and clock() >= until

    for candidate, attempt in _with_attempts(candidates):
        result = None if len(said.found) >= size or is_over() else _look(attempt, text, is_over)
        if result is None:
            said.goes_on = True
            break
        _note(said, candidate, attempt, result)
    return said


def look_through(
    candidates: Iterable[list[Candidate]], text: str, said: FileSearch
) -> Iterator[tuple[Candidate, FoundNames]]:
    """As `search`, to the end: yields what matches, and notes all else in `said`."""
    for candidate, attempt in _with_attempts(candidates):
        result = _look(attempt, text, lambda: False)
        if result is not None:
            _note(said, candidate, attempt, result)
        if candidate[0] in said.found:
            yield candidate, said.found.pop(candidate[0])


def _with_attempts(candidates: Iterable[list[Candidate]]) -> Iterator[tuple[Candidate, ClearAttempt | None]]:
    for some in candidates:
        keys = [key for key, _place in some]
        attempts = ClearAttempt.objects.clears().filter(run__in=keys, phase__in=CLEARED_IN).order_by("created_at")
        known = {attempt.run_id: attempt for attempt in attempts.only("run_id", "host", "plan_sha256")}
        for candidate in some:
            yield candidate, known.get(candidate[0])


def _note(said: FileSearch, candidate: Candidate, attempt: ClearAttempt | None, result: FoundNames | NotRead) -> None:
    said.last = candidate
    if isinstance(result, NotRead):
        host = attempt.host if attempt else ""
        said.unread[result, host] += 1
        if len(said.first_unread) < LISTED:
            said.first_unread.append(UnreadRun(candidate[0], result, host))
        return
    said.looked += 1
    if result.names:
        said.found[candidate[0]] = result


def _look(attempt: ClearAttempt | None, text: str, is_over: Callable[[], bool]) -> FoundNames | NotRead | None:
    """The names of a run's files that match; None where the time was over before its list ended."""
    if attempt is None:
        return NotRead.OTHER_PROGRAM
    if attempt.host != settings.EXLAB_HOST:
        return NotRead.ELSEWHERE
    names: list[str] = []
    try:
        for path in kept_names.containing(opening.data_dir(), attempt.pk.hex, attempt.plan_sha256, text):
            if path is not None:
                names.append(show(path))
            if len(names) > NAMED or is_over():
                return FoundNames(tuple(names[:NAMED]), more=True) if names else None
    except FileNotFoundError:
        return NotRead.GONE
    except (PlanError, OSError):
        return NotRead.UNREADABLE
    return FoundNames(tuple(names))
