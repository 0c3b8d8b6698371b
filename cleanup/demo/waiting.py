"""What waits for a person in the demo: a hold that ends soon, a pause that was forgotten, a folder left empty."""

import os
import uuid
from datetime import datetime, timedelta
from pathlib import Path

from django.contrib.auth.models import User
from django.db import transaction

from cleanup.clears import batches
from cleanup.clears.preview import RequestedRuns, preview
from cleanup.demo import accounts
from cleanup.models import ClearBatch, Run, StagingRoot
from cleanup.runs.holds import holds
from cleanup.storage.staging.metadata import LEFT_BY_THE_WIZARD

PERSON = "operator"
_PAUSED_FOR = timedelta(hours=3)
_OF_BATCH = {"equipment": "FLOW_01", "project": "PROJ-0060"}


def leave_shell(run: Path, now: datetime) -> None:
    """The folder that a wizard makes anew when it has waited for the lock of a run that was cleared meanwhile."""
    metadata = run / ".exlab-wizard"
    metadata.mkdir(parents=True, exist_ok=True)
    for name in (name for name in LEFT_BY_THE_WIZARD if name.endswith(".lock")):
        (metadata / name).touch()
    at = (now - timedelta(days=6)).timestamp()
    for path in (*metadata.iterdir(), metadata, run):
        os.utime(path, (at, at))


def hold_one(root: StagingRoot, now: datetime) -> None:
    run = Run.objects.verified().with_root().filter(root=root, equipment="SEQUENCER_01").order_by("verified_at").first()
    if run is not None:
        until = now + timedelta(days=2)
        since = now - timedelta(days=5)
        holds.hold(run, owner=PERSON, reason="read again for a figure", until=until, now=since)


def pause_batch(root: StagingRoot, now: datetime) -> ClearBatch | None:
    """Ask for the clear of a few runs and pause it at once, some hours ago; None where that cannot be."""
    user = User.objects.filter(username=PERSON, last_name=accounts.MARK).first()
    if user is None:
        return None
    asked_at = now - _PAUSED_FOR
    old = Run.objects.verified().filter(root=root, verified_at__lt=asked_at - timedelta(days=5), **_OF_BATCH)
    asked = RequestedRuns.of(list(old.values_list("pk", flat=True)))
    shown = preview(user, asked, asked_at)
    if not shown.going:
        return None
    with transaction.atomic():  # no worker may begin one in between
        batch = batches.place(user, asked, digest=shown.digest, key=uuid.uuid4(), note="for the weekend", now=asked_at)
        batches.pause(batch, actor=PERSON, now=asked_at)
    return batch
