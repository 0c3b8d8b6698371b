"""What the page on the bench says: a word and its reasons for each light."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cleanup.lab import readiness
from cleanup.models import Orphan, OrphanKind, Run, StagingRoot, Status
from cleanup.rules import bench_light
from cleanup.rules.bench_light import Light
from cleanup.rules.reasons import Reason
from cleanup.text.values import duration, in_units, runs, sentence

# As many reasons as can be read from a distance.
REASONS = 3
# So many strange things are looked at; their number is said up to here.
MANY_THINGS = 1000
# Reasons whose end is not known, whatever the row says: a hold may be made longer.
WITHOUT_END = (Reason.HELD, Reason.NOT_SYNC_VERIFIED)
MAY_BE_WRITTEN = (OrphanKind.NO_RECORD, OrphanKind.UNKNOWN)
NOT_JUDGED = "How it stands is being worked out just now."
BY_HAND = "Delete nothing by hand."
NOT_LOOKED_AT = "This staging disk was not looked at yet."
STRANGE = {
    Light.WAIT: "no known run yet, perhaps one that is being written.",
    Light.TROUBLE: "no known run, and no instrument is writing it.",
}
STAYS = {Light.WAIT: "must wait.", Light.TROUBLE: "must stay."}


@dataclass(frozen=True)
class Sign:
    tone: str
    word: str
    because: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunTally:
    """So many runs that stand alike, with their logical bytes; `until`: when time alone has opened all of them."""

    tone: str
    reason: str
    runs: int
    bytes: int
    until: datetime | None
    judged: bool

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "RunTally":
        """By a row with `tone`, `reason`, `runs`, `bytes`, `until`, `ends` and `doubted`."""
        ends = row["ends"] == row["runs"] and row["reason"] not in WITHOUT_END
        until, judged = row["until"] if ends else None, not row["doubted"]
        return cls(Status(row["tone"]).code, row["reason"], row["runs"], row["bytes"] or 0, until, judged)

    @property
    def light(self) -> Light:
        return bench_light.of_run(self.tone, self.reason, judged=self.judged)

    @property
    def why(self) -> str:
        return _why(self.tone, self.reason, judged=self.judged)


def of_instrument(
    root: StagingRoot, tallies: Sequence[RunTally], things: Sequence[Orphan], stalled: int, now: datetime
) -> Sign:
    """One word for all runs; green only where every run may go and nothing is unknown."""
    trouble = _disk_trouble(root, now)
    disk = bench_light.of_disk(troubled=bool(trouble), looked_at=root.discovered_at, now=now)
    if disk is not Light.SAFE:
        return _of_disk(disk, root, trouble, now)
    strange = [_light_of(thing, now) for thing in things]
    lights = [*(tally.light for tally in tallies), *([Light.TROUBLE] if stalled else [])]
    light = bench_light.of_instrument(disk, lights, strange)
    if light is Light.EMPTY:
        return Sign(light, "NOTHING HERE", ("No run of this instrument is on the staging disk.",))
    if light is Light.SAFE:
        settled = f"{_what(tallies)}: verified on the NAS, and nothing speaks against clearing."
        return Sign(light, "SAFE TO CLEAR", (settled, "They are cleared in ExLab staging; delete nothing by hand."))
    against = tuple(_against(light, tallies, strange, stalled))
    if light is Light.TROUBLE:
        return Sign(light, "NEEDS ATTENTION", (*against, BY_HAND))
    until = _end(tallies, now) if Light.WAIT not in strange else None
    if until is not None:
        return Sign(light, f"WAIT {duration(until - now)}", (f"{_what(tallies)}: by then every one of them may go.",))
    return Sign(light, "WAIT", against)


def of_run(run: Run, now: datetime, *, stalled: bool = False) -> Sign:
    """The sign of one run, with its reason."""
    tone, judged = Status(run.tone).code, run.judged >= run.doubts
    light = bench_light.of_run(tone, run.reason, judged=judged, stalled=stalled)
    if light is Light.SAFE:
        return Sign(light, "Safe to clear")
    why = Reason.STALLED.sentence if stalled else _why(tone, run.reason, judged=judged)
    if light is Light.TROUBLE:
        return Sign(light, "Needs attention", (why,))
    ends = judged and run.tone == Status.WAIT and run.reason not in WITHOUT_END
    left = f" {duration(run.opens_at - now)}" if ends and run.opens_at is not None and run.opens_at > now else ""
    return Sign(light, f"Wait{left}", (why,))


def _disk_trouble(root: StagingRoot, now: datetime) -> str:
    if root.problem:
        return f"Nothing is done on this staging disk. {sentence(root.problem)}"
    if hindrances := readiness.hindrances():
        return sentence(hindrances[0].reason)
    return ""


def _of_disk(light: Light, root: StagingRoot, trouble: str, now: datetime) -> Sign:
    if light is Light.WAIT or root.discovered_at is None:
        return Sign(light, "WAIT" if light is Light.WAIT else "NEEDS ATTENTION", (trouble or NOT_LOOKED_AT, BY_HAND))
    old = f"This staging disk was not looked at for {duration(abs(now - root.discovered_at))}."
    return Sign(light, "NEEDS ATTENTION", (trouble or old, BY_HAND))


def _light_of(thing: Orphan, now: datetime) -> Light:
    return bench_light.of_thing(
        may_be_written=thing.kind in MAY_BE_WRITTEN,
        over_ceiling=thing.escalated_at is not None,
        written_at=thing.modified_at or thing.first_seen_at,
        now=now,
    )


def _against(light: Light, tallies: Sequence[RunTally], strange: Sequence[Light], stalled: int) -> Iterator[str]:
    if things := strange.count(light):
        yield f"{_things(things)} in the instrument's folder: {STRANGE[light]}"
    if stalled and light is Light.TROUBLE:
        yield f"{runs(stalled)}: {Reason.STALLED.sentence}"
    rows = sorted((tally for tally in tallies if tally.light is light), key=lambda tally: -tally.runs)
    number = _number(tallies)
    if rows and number > 1:
        yield f"{_number(rows):,} of {runs(number)} {STAYS[light]}"
    for row in rows[:REASONS]:
        yield f"{runs(row.runs)}: {row.why}"
    if len(rows) > REASONS:
        yield "And others, for other reasons."


def _why(tone: str, reason: str, *, judged: bool) -> str:
    if not judged:
        return NOT_JUDGED
    if tone == Status.WORK.code:
        return "It is being cleared just now."
    return sentence(reason) if reason else "It is not settled yet."


def _end(tallies: Sequence[RunTally], now: datetime) -> datetime | None:
    """When the last of those that wait may go; None if that is not known of each."""
    ends = [tally.until for tally in tallies if tally.light is Light.WAIT]
    known = [end for end in ends if end is not None and end > now]
    return max(known) if known and len(known) == len(ends) else None


def _things(number: int) -> str:
    if number > MANY_THINGS:
        return f"More than {MANY_THINGS:,} things"
    return "1 thing" if number == 1 else f"{number:,} things"


def _number(tallies: Sequence[RunTally]) -> int:
    return sum(tally.runs for tally in tallies)


def _what(tallies: Sequence[RunTally]) -> str:
    number, size = _number(tallies), sum(tally.bytes for tally in tallies)
    return f"{runs(number) if number == 1 else f'All {runs(number)}'}, {in_units(size)} logical"
