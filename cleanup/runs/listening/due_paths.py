"""Paths at which something has changed, each looked at now and then: a run being written makes many events."""

from dataclasses import dataclass, field
from typing import NamedTuple

# Events of so long are one change.
COLLECTED_SECONDS = 1.0
# From one look at a path to the next: longer each time, until it was quiet.
_FIRST_PAUSE_SECONDS = 4.0
_LONGEST_PAUSE_SECONDS = 64.0


class RunPlace(NamedTuple):
    """A run path on a staging root, by the root's key."""

    root: int
    path: str


@dataclass
class _Turn:
    due_at: float | None
    not_before: float
    pause: float


@dataclass
class DuePaths:
    """The places at which something has changed. All times in seconds of one clock that never goes back."""

    _turns: dict[RunPlace, _Turn] = field(default_factory=dict)

    def note(self, place: RunPlace, at: float) -> None:
        """Something has changed there."""
        turn = self._turns.setdefault(place, _Turn(None, at, _FIRST_PAUSE_SECONDS))
        if turn.due_at is None:
            turn.due_at = max(at + COLLECTED_SECONDS, turn.not_before)

    def take(self, at: float) -> list[RunPlace]:
        """Return the places whose turn it is, the longest waiting first."""
        turns = sorted((turn.due_at, place) for place, turn in self._turns.items() if turn.due_at is not None)
        ready = [place for due_at, place in turns if due_at <= at]
        for place in ready:
            turn = self._turns[place]
            turn.due_at, turn.not_before = None, at + turn.pause
            turn.pause = min(2 * turn.pause, _LONGEST_PAUSE_SECONDS)
        quiet = [place for place, turn in self._turns.items() if turn.due_at is None and at > turn.not_before]
        for place in quiet:
            del self._turns[place]
        return ready
