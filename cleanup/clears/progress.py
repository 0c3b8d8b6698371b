"""How far a batch of clears is, read from its attempts alone."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max, Q, QuerySet
from django.db.models.functions import Coalesce

from cleanup.models import ClearAttempt, ClearBatch, Phase
from cleanup.models.aggregates import bytes_sum
from cleanup.rules.freed import say_fill, say_freed
from cleanup.rules.reasons import Reason

# The time left is guessed only after this many runs, this long, and while something moves.
_GUESS_AFTER_RUNS = 2
_GUESS_AFTER = timedelta(seconds=10)
_MOVES = timedelta(minutes=2)
# The least time for a run's checks and its record.
_FOR_EACH_RUN = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True)
class Work:
    """A run under way; `to_compare` is the bytes to read on both sides."""

    attempt: ClearAttempt
    to_compare: int


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a batch is; a run counts once. Bytes are logical unless named otherwise.

    `cleared` includes `incomplete`; `stayed` were refused or put back; `again` wait for another try. `measured_bytes`
    came back of `measured_of_bytes` removed, unknown for `unmeasured` runs.
    """

    batch: ClearBatch
    now: datetime
    runs: int
    cleared: int
    incomplete: int
    stayed: int
    withdrawn: int
    waiting: int
    again: int
    under_way: tuple[Work, ...]
    total_bytes: int
    settled_bytes: int
    freed_files: int
    freed_bytes: int
    freed_allocated_bytes: int
    measured_bytes: int
    measured_of_bytes: int
    unmeasured: int
    ended_at: datetime | None
    moved_at: datetime
    reasons: tuple[tuple[str, int], ...]

    @property
    def given_back(self) -> str:
        return say_freed(self.measured_of_bytes, self.measured_bytes) if self.measured_of_bytes else ""

    @property
    def open(self) -> bool:
        return bool(self.waiting or self.again or self.under_way)

    @property
    def paused(self) -> bool:
        return self.batch.paused_at is not None and self.open

    @property
    def settled(self) -> int:
        return self.cleared + self.stayed + self.withdrawn

    @property
    def percent(self) -> int:
        """By bytes, else by runs; 100 only at the end."""
        if not self.open:
            return 100
        whole, done = (self.total_bytes, self.settled_bytes) if self.total_bytes else (self.runs, self.settled)
        return min(99, 100 * done // max(whole, 1))

    @property
    def active(self) -> timedelta:
        """The time at work or in the queue, without pauses."""
        end = self.ended_at or self.batch.paused_at or self.now
        span = end - self.batch.began_at - timedelta(seconds=self.batch.paused_seconds)
        return max(span, timedelta(0))

    @property
    def bytes_per_second(self) -> float | None:
        """Bytes freed per second of active time; None before the first."""
        seconds = self.active.total_seconds()
        return self.freed_bytes / seconds if self.freed_bytes and seconds >= 1 else None

    @property
    def whole_bytes_per_second(self) -> int | None:
        return None if self.bytes_per_second is None else round(self.bytes_per_second)

    @property
    def left(self) -> timedelta | None:
        """A guess from the speed so far; None where it would not be fair."""
        speed = self.bytes_per_second
        fair = self.cleared >= _GUESS_AFTER_RUNS and self.active >= _GUESS_AFTER and not self.paused
        if not (self.open and speed and fair and self.now - self.moved_at < _MOVES):
            return None
        runs = self.waiting + self.again + len(self.under_way)
        return runs * _FOR_EACH_RUN + timedelta(seconds=max(self.total_bytes - self.settled_bytes, 0) / speed)

    @property
    def left_minutes(self) -> int | None:
        return None if self.left is None else -(-self.left // timedelta(minutes=1))


def measure(batch: ClearBatch, now: datetime) -> Progress:
    """Return how far a batch is."""
    attempts = ClearAttempt.objects.filter(batch=batch).last_tries().order_by()
    sums = _sums(attempts)
    at_work = attempts.filter(phase__in=[Phase.INTENT, Phase.COMMITTED]).select_related("run__root")
    begun = list(at_work.order_by("created_at", "pk"))
    for attempt in begun:  # what is removed so far of the runs under way
        sums["settled_bytes"] += attempt.done_bytes
        sums["freed_bytes"] += attempt.done_bytes
        sums["freed_files"] += attempt.done_files
    under_way = tuple(
        Work(attempt=attempt, to_compare=max(2 * (attempt.run.bytes or 0), attempt.compared_bytes)) for attempt in begun
    )
    stayed = attempts.filter(phase__in=ClearAttempt.FAILED, again_after=None).exclude(reason=Reason.WITHDRAWN)
    why = stayed.values_list("reason")
    reasons = tuple(why.annotate(runs=Count("pk")).order_by("-runs", "reason"))
    if sums["waiting"] or sums["again"] or under_way:
        sums["ended_at"] = None
    sums["moved_at"] = max(batch.began_at, sums["moved_at"] or batch.began_at, *(one.phase_at for one in begun))
    return Progress(batch=batch, now=now, under_way=under_way, reasons=reasons, **sums)


def _sums(attempts: "QuerySet[ClearAttempt]") -> dict[str, Any]:
    again = Q(again_after__isnull=False)
    done, ended = Q(phase=Phase.DONE), Q(phase__in=[Phase.DONE, *ClearAttempt.FAILED]) & ~again
    withdrawn = Q(phase=Phase.ABORTED, reason=Reason.WITHDRAWN)
    return attempts.aggregate(
        runs=Count("pk"),
        cleared=Count("pk", filter=done),
        incomplete=Count("pk", filter=done & Q(reason=Reason.REMOVAL_INCOMPLETE)),
        stayed=Count("pk", filter=Q(phase__in=ClearAttempt.FAILED) & ~withdrawn & ~again),
        withdrawn=Count("pk", filter=withdrawn),
        waiting=Count("pk", filter=Q(phase=Phase.QUEUED)),
        again=Count("pk", filter=again),
        total_bytes=bytes_sum("run__bytes", default=0),
        settled_bytes=bytes_sum("run__bytes", filter=ended, default=0),
        freed_files=bytes_sum("freed_files", default=0),
        freed_bytes=bytes_sum("freed_bytes", default=0),
        measured_of_bytes=bytes_sum("freed_allocated_bytes", filter=Q(measured_bytes__isnull=False), default=0),
        measured_bytes=bytes_sum("measured_bytes", default=0),
        freed_allocated_bytes=bytes_sum("freed_allocated_bytes", default=0),
        unmeasured=Count("pk", filter=~Q(unmeasured="")),
        ended_at=Max("phase_at", filter=ended),
        moved_at=Max(Coalesce("progress_at", "phase_at")),
    )


def disks(attempts: "QuerySet[ClearAttempt]") -> list[tuple[str, str]]:
    """Return (staging root, disk fill before and after), as in `100 % → 34 %`.

    Roots whose fill is unknown are left out.
    """
    known = attempts.filter(disk_bytes__isnull=False).order_by("phase_at")
    names = known.order_by("run__root__name").values_list("run__root__name", flat=True).distinct()
    return [(name, _fuller(known.filter(run__root__name=name))) for name in names]


def _fuller(attempts: "QuerySet[ClearAttempt]") -> str:
    columns = attempts.values_list("disk_bytes", "disk_free_before", "disk_free_after")
    first, last = columns.first(), columns.last()
    return say_fill(last[0], first[1], last[2]) if first and last else ""
