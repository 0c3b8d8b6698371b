"""The light of an instrument on its bench: green is safe, amber waits by itself, red needs a person."""

import enum
from collections.abc import Collection
from datetime import datetime, timedelta

from cleanup.rules.liveness import AHEAD
from cleanup.rules.reasons import Reason

# An older look at the disk is no ground for a light that says that all is well.
OLD_LOOK = timedelta(minutes=30)
# What was written longer ago than this is not being written now.
WRITTEN_LATELY = timedelta(days=1)
# Blocks that end without a person: the run is still being written, or was found a moment ago.
PASSING = frozenset({Reason.NOT_LOOKED_AT, Reason.WRITER_ACTIVE})


class Light(enum.StrEnum):
    """The values are the tones of the pages."""

    SAFE = "go"
    WAIT = "wait"
    TROUBLE = "block"
    EMPTY = "done"


def of_run(tone: str, reason: str = "", *, judged: bool = True, stalled: bool = False) -> Light:
    """The light of a run by its tone on the pages; `stalled`: it should have moved on and has not.

    What is not judged yet is never green.
    """
    if stalled:
        return Light.TROUBLE
    if not judged or tone in ("wait", "work") or reason in PASSING:
        return Light.WAIT
    return Light.SAFE if tone == "go" else Light.TROUBLE


def of_thing(*, may_be_written: bool, over_ceiling: bool, written_at: datetime, now: datetime) -> Light:
    """The light of something that is no known run: amber while an instrument may be writing it."""
    waits = may_be_written and not over_ceiling and now - written_at <= WRITTEN_LATELY
    return Light.WAIT if waits else Light.TROUBLE


def of_disk(*, troubled: bool, looked_at: datetime | None, now: datetime) -> Light:
    """The light of the staging disk itself; one that was never looked at waits for its first look."""
    if troubled:
        return Light.TROUBLE
    if looked_at is None:
        return Light.WAIT
    return Light.SAFE if now - OLD_LOOK <= looked_at <= now + AHEAD else Light.TROUBLE


def of_instrument(disk: Light, runs: Collection[Light], things: Collection[Light] = ()) -> Light:
    """The one light of an instrument: the worst of its disk, of its runs and of what else lies in its folder."""
    found = {disk, *runs, *things}
    for light in (Light.TROUBLE, Light.WAIT):
        if light in found:
            return light
    return Light.SAFE if runs else Light.EMPTY
