"""One delivery to the NAS for all that may wait for it: what is due is handed over, what fails is tried again.

No clear waits for it. What differs is a value, `Outbox`; the row that is delivered keeps why the NAS does not have it.
"""

import logging
import operator
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from cleanup.lab.nas.nas_roots import NasRoot, twin_of
from cleanup.lab.nas.nas_transport import Reader
from cleanup.lab.roots import opening
from cleanup.models import ClearAttempt, NasBreaker, Receipt, Run
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage import errors
from cleanup.storage.nas import client

logger = logging.getLogger(__name__)

Item = TypeVar("Item", ClearAttempt, Receipt)

# The pause doubles after each failed try, up to a day.
FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=24)
# The operator has to act first, so there is no hurry.
SLOW = frozenset({Reason.NAS_NOT_WRITABLE, Reason.UNSAFE_PATH, Reason.MOUNT_INSIDE, Reason.SPECIAL_FILE})
# A longer pass begins no further try: the caller has other work. Each NAS gets its part of this time.
_PASS_SECONDS = 30.0


class Undelivered(Exception):
    """Why the NAS takes nothing of an item."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.detail)
        self.finding = finding


@dataclass(frozen=True)
class Outbox(Generic[Item]):
    """What is delivered. Its rows have `told_at` to `tell_detail`.

    `lock`: of the data directory; one pass at a time, so that one process alone waits for a NAS that hangs;
    `to_run`: the way from a row to its run, as `attempt__run`;
    `items`: the rows of this host that may be delivered at all;
    `hand_over`: delivers one, or raises Undelivered or NasError;
    `title`: its name in the log;
    `final`: reasons with which another try would find the same.
    """

    lock: str
    to_run: str
    items: Callable[[], QuerySet[Item]]
    hand_over: Callable[[Item, Reader], None]
    title: Callable[[Item], str]
    final: frozenset[Reason]

    def due(self, now: datetime, runs: Sequence[Run] | None) -> list[Item]:
        """Return the rows that are due, of this host or of some runs, the longest due first."""
        found = self.items().filter(told_at=None, tell_after__lte=now)
        if runs is not None:
            found = found.filter(**{f"{self.to_run}__in": runs})
        return list(found.select_related(f"{self.to_run}__root").order_by("tell_after", "pk"))

    def run_of(self, item: Item) -> Run:
        run: Run = operator.attrgetter(self.to_run.replace("__", "."))(item)
        return run


def deliver(outbox: Outbox[Item], *, now: datetime, runs: Iterable[Run] | None = None) -> int:
    """Deliver what is due on this host, or of some of its runs; returns how many arrived.

    Never raises: what fails is logged, kept with the row and tried again.
    """
    some = None if runs is None else list(runs)
    try:
        try:
            with opening.data_dir().lock(outbox.lock) as free:
                return _deliver_all(outbox, outbox.due(now, some), now) if free else 0
        except OSError as error:
            finding = Finding(Reason.LOOK_FAILED, f"in the data directory: {errors.words_of(error)}")
            for item in outbox.due(now, some):
                _note(outbox, item, finding, now, pause=FIRST_PAUSE)
            return 0
    except Exception:  # a clear or a recovery must not fail for this
        logger.exception("nothing can be delivered to the NAS")
        return 0


def _deliver_all(outbox: Outbox[Item], items: list[Item], now: datetime) -> int:
    by_nas: dict[NasRoot, list[Item]] = {}
    for item in items:
        try:
            nas = twin_of(outbox.run_of(item)).root
        except Exception:  # one damaged row must not stop the others
            logger.exception("no place on the NAS can be named for %s", outbox.title(item))
            _note(outbox, item, Finding(Reason.LOOK_FAILED, "no place on the NAS can be named for it"), now)
        else:
            by_nas.setdefault(nas, []).append(item)
    arrived = 0
    for nas, its_items in by_nas.items():
        try:
            # Its own time, however long another NAS took: a slow one must not starve the others.
            arrived += _deliver_to(outbox, nas, its_items, now, until=time.monotonic() + _PASS_SECONDS / len(by_nas))
        except Exception:  # one NAS must not stop the others
            logger.exception("nothing can be delivered to the NAS at %s", nas.path)
    return arrived


def _deliver_to(outbox: Outbox[Item], nas: NasRoot, items: list[Item], now: datetime, *, until: float) -> int:
    arrived, failed = 0, True
    run = outbox.run_of(items[0])
    with opening.reader_for(run.root) as readers:
        reader = readers.of(run)
        for place, item in enumerate(items):
            # A reader that has given up fails its other items at once, so they need no time.
            if not reader.given_up:
                if failed and (breaker := _open_breaker(nas)):
                    _leave(outbox, items[place:], breaker, now)
                    break
                if time.monotonic() >= until:
                    break
            failed = not _deliver_one(outbox, item, nas, reader, now)
            arrived += not failed
    return arrived


def _open_breaker(nas: NasRoot) -> NasBreaker | None:
    here = NasBreaker.objects.filter(host=settings.EXLAB_HOST, token=nas.token, open_until__gt=timezone.now())
    return here.first() if nas.path else None


def _leave(outbox: Outbox[Item], items: list[Item], breaker: NasBreaker, now: datetime) -> None:
    assert breaker.open_until is not None  # noqa: S101
    finding = Finding(Reason(breaker.reason), breaker.detail)
    for item in items:
        _note(outbox, item, finding, now, pause=breaker.open_until - timezone.now())


def _deliver_one(outbox: Outbox[Item], item: Item, nas: NasRoot, reader: Reader, now: datetime) -> bool:
    try:
        if not nas.path:
            raise Undelivered(Finding(Reason.NAS_NOT_CONFIGURED))
        if reader.given_up:
            raise Undelivered(Finding(Reason.NAS_TIMEOUT, "it did not answer earlier in this pass"))
        outbox.hand_over(item, reader)
    except Undelivered as error:
        _note(outbox, item, error.finding, now)
        return False
    except client.NasError as error:
        _note(outbox, item, Finding(Reason(error.problem.reason), error.problem.detail), now)
        return False
    except Exception:  # one item must not stop the others
        logger.exception("%s cannot be delivered to the NAS", outbox.title(item))
        _note(outbox, item, Finding(Reason.LOOK_FAILED), now)
        return False
    done = {"told_at": now, "tell_after": None, "tell_reason": "", "tell_detail": ""}
    if type(item)._default_manager.filter(pk=item.pk, told_at=None).update(**done):
        logger.info("the NAS has %s", outbox.title(item))
    return True


def _note(outbox: Outbox[Item], item: Item, finding: Finding, now: datetime, *, pause: timedelta | None = None) -> None:
    """With `pause` the NAS was not asked: no try."""
    tries = item.tell_tries + (pause is None)
    after = None if finding.reason in outbox.final else now + (pause or pause_after(tries, finding.reason))
    type(item)._default_manager.filter(pk=item.pk, told_at=None, tell_tries=item.tell_tries).update(
        tell_after=after, tell_tries=tries, tell_reason=finding.reason, tell_detail=finding.detail
    )
    logger.info("the NAS does not have %s: %s %s", outbox.title(item), finding.reason, finding.detail)


def pause_after(tries: int, reason: Reason) -> timedelta:
    """Return how long to wait after `tries` failed tries, the last for `reason`."""
    if reason in SLOW:
        return LONGEST_PAUSE
    doublings = min(max(tries - 1, 0), 11)
    return min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)
