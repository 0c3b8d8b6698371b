"""Ways out for runs that would give room, and coming times, in words."""

from datetime import datetime
from zoneinfo import ZoneInfo

from django.utils import timezone

from cleanup.clears.making_room.other_runs import Opening, RoomWay
from cleanup.rules.announcements import name_moment
from cleanup.rules.remedies import Where

_BY_TIME = {
    Opening.TODAY: ("May go today by itself", "May go today by themselves"),
    Opening.TOMORROW: ("May go tomorrow by itself", "May go tomorrow by themselves"),
    Opening.LATER: ("May go later by itself", "May go later by themselves"),
}
# By the button, else by the place; for one run and for several.
_BY_BUTTON = {
    "Release": ("End the hold of this run", "End the holds of these {runs}"),
    "Verify again here": ("Verify this run again", "Verify these {runs} again"),
    "Set files aside": ("Set files of this run aside", "Set files of these {runs} aside"),
    "Compare every byte and clear": ("Compare every byte of this run", "Compare every byte of these {runs}"),
    "Try again": ("Try this run again", "Try these {runs} again"),
    "Clear now": ("Look at this run and clear it by hand", "Look at these {runs} and clear them by hand"),
    "It is the same run": ("Say whether this is the same run", "Say whether these {runs} are the same ones"),
    "Mark as gone": ("Say where this run has gone", "Say where these {runs} have gone"),
    "Go on": ("Answer the safety stop", "Answer the safety stop"),
}
_BY_PLACE = {
    Where.RUN: ("Act on the page of this run", "Act on the pages of these {runs}"),
    Where.HOLDS: ("End the hold of this run", "End the holds of these {runs}"),
    Where.PROBLEMS: ("See the page Problems", "See the page Problems"),
    Where.POLICIES: ("Change the policy", "Change the policy"),
    Where.SWEEPS: ("See Automatic clearing", "See Automatic clearing"),
    Where.BATCH: ("See the batch", "See the batch"),
    Where.COMMAND: ("Ask the admin: a command on the host", "Ask the admin: a command on the host"),
    Where.WIZARD: (
        "Wait for the data wizard: it has not verified this run",
        "Wait for the data wizard: it has not verified these {runs}",
    ),
    Where.DISK: ("Put this run right on the staging disk", "Put these {runs} right on the staging disk"),
    Where.HOST: ("Ask the admin of the host", "Ask the admin of the host"),
    Where.NAS: ("Ask the admin of the NAS", "Ask the admin of the NAS"),
    Where.ITSELF: ("Wait: this ends by itself", "Wait: this ends by itself"),
}


def moment_words(at: datetime, now: datetime, *, about: bool = False) -> str:
    """A coming instant in the lab's zone: `tonight at 22:00`, or `tonight at about 22:00`."""
    said = name_moment(at, now, ZoneInfo(timezone.get_default_timezone_name()))
    return said.replace(" at ", " at about ") if about else said


def way_words(way: RoomWay) -> str:
    """What to do: `Verify these 2 runs again`."""
    if way.opening is not Opening.NEVER:
        one, many = _BY_TIME[way.opening]
    else:
        one, many = _BY_BUTTON.get(way.button) or _BY_PLACE[way.where]
    return one if way.runs == 1 else many.format(runs=f"{way.runs:,} runs")
