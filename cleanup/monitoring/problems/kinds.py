"""Kinds of problems, how urgent they are, and what makes two of them alike."""

import enum
import hashlib
from dataclasses import dataclass
from datetime import datetime

from cleanup.models import AlertKind, ClearBatch, Orphan, Run, StagingRoot, SweepBreaker
from cleanup.rules.reasons import Reason


class ProblemKind(enum.StrEnum):
    """Problems without an alert; the others have the kind of their alert."""

    OF_HOST = "of_host"
    OF_ROOT = "of_root"
    OF_NAS = "of_nas"
    UNWATCHED = "unwatched"
    RUNS = "runs"
    PAUSED = "paused"
    CALLED_OFF = "called_off"
    BREAKER = "breaker"
    LEFT = "left"  # an orphan: an alert has the other name


class Urgency(enum.IntEnum):
    NOTHING_GOES = 0
    NOBODY_WORKS = 1
    FULL = 2
    UNFINISHED = 3
    BLOCKED = 4
    STALLED = 5
    HOLDS = 6

    @property
    def title(self) -> str:
        return _TITLES[self]


_TITLES = {
    Urgency.NOTHING_GOES: "Nothing can be cleared",
    Urgency.NOBODY_WORKS: "Something does not work or is not watched",
    Urgency.FULL: "A disk is too full",
    Urgency.UNFINISHED: "Clears that did not come to a good end",
    Urgency.BLOCKED: "Runs that are blocked",
    Urgency.STALLED: "Runs that do not move on",
    Urgency.HOLDS: "Holds to think of",
}
_OF_KIND: dict[str, Urgency] = {
    AlertKind.CLUSTER: Urgency.NOBODY_WORKS,
    AlertKind.HOST: Urgency.NOBODY_WORKS,
    AlertKind.SCHEDULE: Urgency.NOBODY_WORKS,
    AlertKind.PRESSURE: Urgency.FULL,
    AlertKind.DISK: Urgency.FULL,
    AlertKind.STALLED_ATTEMPT: Urgency.UNFINISHED,
    AlertKind.CONFLICT: Urgency.UNFINISHED,
    AlertKind.ORPHAN: Urgency.BLOCKED,
    AlertKind.STALLED_RUN: Urgency.STALLED,
    AlertKind.HOLD: Urgency.HOLDS,
    AlertKind.TWIN: Urgency.BLOCKED,
    ProblemKind.OF_HOST: Urgency.NOTHING_GOES,
    ProblemKind.OF_ROOT: Urgency.NOTHING_GOES,
    ProblemKind.OF_NAS: Urgency.NOTHING_GOES,
    ProblemKind.UNWATCHED: Urgency.NOBODY_WORKS,
    ProblemKind.PAUSED: Urgency.UNFINISHED,
    ProblemKind.CALLED_OFF: Urgency.UNFINISHED,
    ProblemKind.BREAKER: Urgency.FULL,
    ProblemKind.LEFT: Urgency.BLOCKED,
}
# A clear began, or failed again and again: the operator must look at what is left.
_UNFINISHED = frozenset(
    {
        Reason.ALREADY_CLEARED,
        Reason.REMOVAL_INCOMPLETE,
        Reason.PATH_OCCUPIED,
        Reason.INTERRUPTED,
        Reason.PLAN_MISSING,
        Reason.STRAY_FENCE,
        Reason.DATABASE_ERROR,
        Reason.STORAGE_ERROR,
        Reason.PARKED,
    }
)
# Where the guide tells how.
_GUIDE = {
    Urgency.NOTHING_GOES: "when-something-is-wrong",
    Urgency.NOBODY_WORKS: "when-something-is-wrong",
    Urgency.FULL: "free-the-disk-in-under-a-minute",
    Urgency.UNFINISHED: "when-something-is-wrong",
    Urgency.BLOCKED: "it-will-not-clear-and-i-want-to-know-why",
    Urgency.STALLED: "it-will-not-clear-and-i-want-to-know-why",
    Urgency.HOLDS: "keep-a-run-for-longer",
}
_OF_A_STOP = "what-goes-by-itself"


@dataclass(frozen=True, order=True)
class ProblemKey:
    """What alike problems share: kind, reason, and their staging root (0: none) or another place, such as a host.

    It stays the same while members come and go, and after a restart.
    """

    kind: str
    reason: str = ""
    root: int = 0
    place: str = ""

    @property
    def slug(self) -> str:
        """Its name in an address."""
        parts = "\0".join((self.kind, self.reason, str(self.root), self.place))
        return hashlib.sha256(parts.encode()).hexdigest()[:20]

    @property
    def urgency(self) -> Urgency:
        if self.kind == ProblemKind.RUNS:
            return Urgency.UNFINISHED if self.reason in _UNFINISHED else Urgency.BLOCKED
        return _OF_KIND[self.kind]

    @property
    def guide(self) -> str:
        """The heading of the guide that tells how."""
        return _OF_A_STOP if self.kind == ProblemKind.BREAKER else _GUIDE[self.urgency]


@dataclass(frozen=True, kw_only=True)
class OpenProblem:
    """One thing that waits for an operator.

    `runs`, `bytes` (logical) and `looked_at`: of a group of blocked runs; `until`: when a NAS is asked again.
    """

    key: ProblemKey
    detail: str = ""
    root: StagingRoot | None = None
    run: Run | None = None
    host: str = ""
    batch: ClearBatch | None = None
    breaker: SweepBreaker | None = None
    orphan: Orphan | None = None
    since: datetime | None = None
    until: datetime | None = None
    looked_at: datetime | None = None
    runs: int = 0
    bytes: int = 0

    @property
    def kind(self) -> str:
        return self.key.kind

    @property
    def reason(self) -> str:
        return self.key.reason

    @property
    def urgency(self) -> Urgency:
        return self.key.urgency


# Kinds that are no alert's.
OURS = frozenset(map(str, ProblemKind))


def alert_key(kind: str, reason: str, root: int | None, subject: str) -> ProblemKey:
    """The group of an alert; without a staging root its place is the host that the subject names."""
    if kind == AlertKind.SCHEDULE and reason == Reason.BREAKER_OPEN and root:  # some see no breakers, but their alert
        return ProblemKey(ProblemKind.BREAKER, reason, root)
    return ProblemKey(kind, reason, root or 0, "" if root else place_of_alert(subject))


def place_of_alert(subject: str) -> str:
    """The host in the subject of an alert that is about no staging root."""
    return subject.removeprefix("clock:").partition(":")[0]
