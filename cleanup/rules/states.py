"""The states of a run in `ingest.json`: forward only, one step at a time."""

import enum
from collections.abc import Sequence


class State(enum.StrEnum):
    """The ingest states, as ExLab-Wizard writes them."""

    STAGING = "staging"
    COMPLETE = "complete"
    SYNC_QUEUED = "sync_queued"
    SYNC_VERIFIED = "sync_verified"
    CLEARED = "cleared"


ORDER = tuple(State)


def may_follow(before: State | None, after: State) -> bool:
    """Whether a history may go from `before` (None: empty) to `after`.

    As in the wizard, it starts at `staging`.
    """
    if before is None:
        return after is State.STAGING
    return before is not State.CLEARED and ORDER.index(after) == ORDER.index(before) + 1


def first_illegal_step(states: Sequence[State]) -> int | None:
    """The position of the first illegal entry; None for a legal history."""
    before: State | None = None
    for position, state in enumerate(states):
        if not may_follow(before, state):
            return position
        before = state
    return None
