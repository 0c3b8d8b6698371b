"""The demo's past: the product itself finds and clears its runs, by a clock that is set back.

Everything of it says so: the staging root is called `demo`, the person is `demo`, and each receipt has the note.
"""

import logging
from pathlib import Path

from django.utils import timezone

from cleanup.clears import protocol, receipt_delivery
from cleanup.clears.queue import ClearRequest
from cleanup.demo import clock
from cleanup.demo.building import COMING
from cleanup.demo.demo_plan import DemoBatch, DemoClear
from cleanup.models import Phase, Requester, Run, StagingRoot
from cleanup.rules.pressure import Cause
from cleanup.runs import discovery
from cleanup.runs.orphans import orphans

logger = logging.getLogger(__name__)

ACTOR = "demo"
NOTE = "A part of the demo's past: cleared when the demo was made, and dated back."
_TAKEN_AWAY = "taken away by hand"


def live_through(root: StagingRoot, base: Path, batch: DemoBatch) -> None:
    """Bring one batch of the past in and clear it. What was done before is not done again."""
    with clock.set_back(batch.seen_at):
        move_in(base, batch)
        discovery.discover(root, now=timezone.now())
    for one in batch.clears:
        with clock.set_back(one.at):
            _clear(root, one)
    if batch.taken_away:
        with clock.set_back(batch.seen_at):
            _take_away(base, batch)
            discovery.discover(root, now=timezone.now())
            orphans.inspect(root, now=timezone.now())


def move_in(base: Path, batch: DemoBatch) -> None:
    """Move what comes to its place on the staging disk."""
    for name, path in batch.moves.items():
        come, place = base / COMING / name, base / "staging" / path
        if come.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            come.rename(place)


def _clear(root: StagingRoot, one: DemoClear) -> None:
    run = Run.objects.verified().with_root().filter(root=root, run_path=one.run_path).first()
    if run is None:
        return
    if one.by_schedule:
        request = ClearRequest(requester=Requester.SCHEDULE, cause=Cause.RETENTION, note=NOTE)
    else:
        request = ClearRequest(requester=Requester.OPERATOR, actor=ACTOR, note=NOTE)
    attempt = protocol.attempt_now(run, request, now=timezone.now())
    if attempt.phase != Phase.DONE:  # one run too many does not spoil the demo
        logger.warning("%s was not cleared: %s %s", run.run_path, attempt.reason, attempt.detail)
    receipt_delivery.tell_and_deliver(now=timezone.now(), runs=[run])


def _take_away(base: Path, batch: DemoBatch) -> None:
    for path in batch.taken_away:
        place = base / "staging" / path
        if place.exists():
            away = base / _TAKEN_AWAY / place.name
            away.parent.mkdir(exist_ok=True)
            place.rename(away)
