"""The runs of the demo: what lies on its staging disk today, and what was cleared before."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from cleanup.rules.states import State

KIB = 1 << 10
_DAY = timedelta(days=1)

PROJECTS = {
    "PROJ-0007": "Enzyme kinetics",
    "PROJ-0042": "Cortex Q3 Pilot",
    "PROJ-0051": "Hippocampus atlas",
    "PROJ-0060": "Immune panel",
    "PROJ-0073": "Membrane proteins",
    "PROJ-0088": "Plasma lipids",
}
# By the names that the data wizard knows them by; `operator` is also an account of the demo.
PEOPLE = {
    "PROJ-0007": "jlee",
    "PROJ-0042": "operator",
    "PROJ-0051": "mkeller",
    "PROJ-0060": "asmith",
    "PROJ-0073": "jlee",
    "PROJ-0088": "operator",
}


@dataclass(frozen=True)
class DemoFiles:
    """Data files of `size` bytes each."""

    folder: str
    suffix: str
    count: int
    size: int


_SHAPES = {
    "CONFOCAL_01": DemoFiles("tiles", "tif", 24, 160 * KIB),
    "CRYO_EM_01": DemoFiles("movies", "mrc", 12, 640 * KIB),
    "FLOW_01": DemoFiles("export", "fcs", 16, 96 * KIB),
    "MASS_SPEC_01": DemoFiles("spectra", "raw", 4, 512 * KIB),
    "PLATE_READER_02": DemoFiles("raw", "csv", 2, 48 * KIB),
    "SEQUENCER_01": DemoFiles("reads", "fastq.gz", 6, 960 * KIB),
}


@dataclass(frozen=True)
class Planned:
    """One run to build; `age` counts from its verification, real or expected.

    `share`: of the files' full size, smaller on a small disk.
    """

    equipment: str
    project: str
    age: timedelta
    state: State = State.SYNC_VERIFIED
    test: bool = False
    awkward: str = ""
    to_clear: bool = False
    scale: float = 1
    share: float = 1

    @property
    def shape(self) -> DemoFiles:
        shape, hour = _SHAPES[self.equipment], self.age % _DAY / _DAY
        count = round(shape.count * (0.15 if self.test else self.scale * (0.6 + hour)))
        return replace(shape, count=max(count, 1), size=max(round(shape.size * self.share), 256))

    @property
    def is_copied(self) -> bool:
        return self.state in (State.SYNC_VERIFIED, State.CLEARED)

    @property
    def bytes(self) -> int:
        """About its logical size, on one side."""
        return self.shape.count * self.shape.size


@dataclass(frozen=True)
class PastWeeks:
    """Some runs that came together and were cleared one after another.

    `ago`: when the program first looked at them. Each clear is given by the time since that look.
    """

    ago: timedelta
    runs: tuple[Planned, ...]
    cleared_after: tuple[timedelta, ...]


def planned_runs() -> list[Planned]:
    return [
        Planned("CONFOCAL_01", "PROJ-0042", timedelta(days=31.13)),
        Planned("CONFOCAL_01", "PROJ-0042", timedelta(days=24.41)),
        Planned("CONFOCAL_01", "PROJ-0042", timedelta(days=17.27), scale=2),
        Planned("CONFOCAL_01", "PROJ-0042", timedelta(days=9.62)),
        Planned("CONFOCAL_01", "PROJ-0051", timedelta(days=12.35)),
        Planned("CONFOCAL_01", "PROJ-0051", timedelta(days=5.08)),
        Planned("CONFOCAL_01", "PROJ-0051", timedelta(days=3.55)),
        Planned("CRYO_EM_01", "PROJ-0073", timedelta(days=21.47)),
        Planned("CRYO_EM_01", "PROJ-0073", timedelta(days=14.19), scale=2),
        Planned("CRYO_EM_01", "PROJ-0073", timedelta(days=6.71)),
        Planned("FLOW_01", "PROJ-0060", timedelta(days=19.32)),
        Planned("FLOW_01", "PROJ-0060", timedelta(days=8.66)),
        Planned("FLOW_01", "PROJ-0042", timedelta(days=4.24)),
        Planned("PLATE_READER_02", "PROJ-0007", timedelta(days=11.51)),
        Planned("PLATE_READER_02", "PROJ-0007", timedelta(days=7.11)),
        Planned("PLATE_READER_02", "PROJ-0007", timedelta(days=2.38)),
        Planned("SEQUENCER_01", "PROJ-0060", timedelta(days=15.58)),
        Planned("SEQUENCER_01", "PROJ-0060", timedelta(days=10.29)),
        # nothing speaks against any of these: a green light at the bench
        Planned("MASS_SPEC_01", "PROJ-0088", timedelta(days=13.44)),
        Planned("MASS_SPEC_01", "PROJ-0088", timedelta(days=6.31)),
        Planned("MASS_SPEC_01", "PROJ-0088", timedelta(days=1.72)),
        # the policy for test runs keeps them 24 hours
        Planned("CONFOCAL_01", "PROJ-0042", timedelta(hours=18), test=True),
        Planned("CRYO_EM_01", "PROJ-0073", timedelta(hours=11), test=True),
        Planned("FLOW_01", "PROJ-0060", timedelta(hours=3), test=True),
        # on their way
        Planned("CONFOCAL_01", "PROJ-0051", timedelta(minutes=-30), State.STAGING),
        Planned("CRYO_EM_01", "PROJ-0073", timedelta(minutes=-60), State.STAGING),
        Planned("SEQUENCER_01", "PROJ-0060", timedelta(minutes=-90), State.STAGING),
        Planned("PLATE_READER_02", "PROJ-0007", timedelta(minutes=-75), State.STAGING),
        Planned("CONFOCAL_01", "PROJ-0042", timedelta(hours=5), State.COMPLETE),
        Planned("FLOW_01", "PROJ-0060", timedelta(hours=4), State.COMPLETE),
        Planned("SEQUENCER_01", "PROJ-0060", timedelta(hours=9), State.COMPLETE),
        Planned("CONFOCAL_01", "PROJ-0051", timedelta(hours=7), State.SYNC_QUEUED),
        Planned("CRYO_EM_01", "PROJ-0073", timedelta(hours=6), State.SYNC_QUEUED),
        Planned("FLOW_01", "PROJ-0042", timedelta(hours=2), State.SYNC_QUEUED),
        # these two have stood still for days
        Planned("FLOW_01", "PROJ-0060", timedelta(days=9.4), State.COMPLETE),
        Planned("CRYO_EM_01", "PROJ-0073", timedelta(days=8.3), State.SYNC_QUEUED),
        # the program itself clears these while it makes the demo
        Planned("FLOW_01", "PROJ-0060", timedelta(days=40.44), to_clear=True),
        Planned("PLATE_READER_02", "PROJ-0007", timedelta(days=38.07), to_clear=True),
        Planned("FLOW_01", "PROJ-0042", timedelta(days=35.53), to_clear=True),
        # awkward
        Planned("CONFOCAL_01", "PROJ-0042", timedelta(days=13.17), awkward="extra file"),
        Planned("FLOW_01", "PROJ-0060", timedelta(days=16.49), awkward="no twin"),
        Planned("PLATE_READER_02", "PROJ-0007", timedelta(days=9.36), awkward="broken record"),
        Planned("CONFOCAL_01", "PROJ-0051", timedelta(days=8.22), awkward="newer file"),
        Planned("FLOW_01", "PROJ-0042", timedelta(minutes=1)),  # written a minute ago: it must be quiet first
        Planned("SEQUENCER_01", "PROJ-0060", timedelta(days=6.61), awkward="short twin"),
        Planned("CRYO_EM_01", "PROJ-0073", timedelta(days=4.15), awkward="future schema"),
        # another program called it cleared and left its files: a person must look
        Planned("CONFOCAL_01", "PROJ-0051", timedelta(days=20.26), State.CLEARED),
    ]


# What came in a fortnight of the past, and its size beside that of a run of today.
_FORTNIGHT = (
    ("CONFOCAL_01", "PROJ-0042", 0.5),
    ("FLOW_01", "PROJ-0060", 0.9),
    ("MASS_SPEC_01", "PROJ-0088", 0.6),
    ("SEQUENCER_01", "PROJ-0060", 0.3),
    ("CONFOCAL_01", "PROJ-0051", 0.4),
    ("PLATE_READER_02", "PROJ-0007", 1.0),
    ("CRYO_EM_01", "PROJ-0073", 0.3),
)
_EACH = 2
_HALF_A_YEAR = 215
# Their copies stay on the NAS, so they are small.
_PAST_SHARE = 0.3
# Some months had more to clear than others.
_BUSY = (1.0, 1.6, 0.8, 1.3, 2.0)


def past_weeks() -> Iterator[PastWeeks]:
    """The past that was cleared, the oldest first: the last half year by fortnights, the one before it by months."""
    starts = [*range(365, _HALF_A_YEAR, -30), *range(_HALF_A_YEAR - 1, 31, -14)]
    for number, start in enumerate(starts):
        busy = _BUSY[number % len(_BUSY)]
        runs = tuple(
            _of_past(equipment, project, start - 1.43 * each + 0.31, scale * busy)
            for each, (equipment, project, scale) in enumerate(_chosen(number, 1 if start > _HALF_A_YEAR else _EACH))
        )
        test = replace(_of_past("CONFOCAL_01", "PROJ-0042", start - 3.37, 1), test=True)
        seen = timedelta(days=start - 5.02)
        after = tuple(timedelta(days=0.4 + 1.87 * each) for each in range(len(runs) + 1))
        yield PastWeeks(seen, (*runs, test) if number % 2 else runs, after[: len(runs) + number % 2])


def _of_past(equipment: str, project: str, days: float, scale: float) -> Planned:
    return Planned(equipment, project, timedelta(days=days), scale=scale, share=_PAST_SHARE)


def _chosen(number: int, how_many: int) -> list[tuple[str, str, float]]:
    first = number * _EACH
    return [_FORTNIGHT[each % len(_FORTNIGHT)] for each in range(first, first + how_many)]
