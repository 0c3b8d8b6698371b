"""An archive of many old runs as rows, and a stand-in for a clear, for tests that only count runs.

The rows copy a real run's, so gates and policies treat them alike. The stand-in writes a clear's rows and
touches no disk.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from cleanup.clears.queue import ClearRequest
from cleanup.clears.run_action import Action, RunAction
from cleanup.models import Run, StagingRoot
from cleanup.rules.policies.policy import Policy
from cleanup.runs import discovery
from tests.tools.lab import Lab
from tests.tools.rows import clear_rows

SIZE = 1_000
FOLDER = "PROJ-0001/Runs"


def archive(
    lab: Lab, root: StagingRoot, seen_at: datetime, *, runs: int, equipment: str = "FLOW_01", days: float = 100
) -> list[Run]:
    pattern = Run.objects.filter(run_path="FLOW_01/PROJ-0001/Runs/Run_2026-01-01T10-00").first()
    if pattern is None:
        path = "FLOW_01/PROJ-0001/Runs/Run_2026-01-01T10-00"
        lab.run(path, files={"a.bin": b"x"}, verified_at=seen_at - timedelta(days=days))
        discovery.discover(root, now=seen_at)
        pattern = Run.objects.get(run_path=path)
        Run.objects.filter(pk=pattern.pk).update(bytes=0, gone_at=seen_at)  # the pattern alone is no part of it
    known: dict[str, Any] = Run.objects.filter(pk=pattern.pk).values().get()
    taken = Run.objects.count()
    made = []
    for number in range(taken, taken + runs):
        at = seen_at - timedelta(days=days) + timedelta(minutes=number)
        facts = {**known["facts"], "verified_at": at.isoformat()}
        fields = {
            "run_path": f"{equipment}/{FOLDER}/Run_{at:%Y-%m-%dT%H-%M-%S}",
            "equipment": equipment,
            "facts": facts,
        }
        fields |= {
            "id": None,
            "root_id": root.pk,
            "bytes": SIZE,
            "verified_at": at,
            "first_seen_at": seen_at,
            "gone_at": None,
        }
        fields |= {"identity": f"{known['identity']}-{number}", "twin_key": "", "twin_place": ""}
        made.append(Run(**{**known, **fields}))
    Run.objects.bulk_create(made)
    return list(
        Run.objects.filter(root=root, first_seen_at=seen_at, equipment=equipment, gone_at=None).order_by("verified_at")
    )


def clears_rows(*, until: int | None = None) -> Callable[..., RunAction]:
    """Replaces `passing.take`; after `until` runs the process dies."""
    count = 0

    def take(run: Run, policy: Policy, now: datetime, *, request: ClearRequest, dry_run: bool) -> RunAction:
        nonlocal count
        if until is not None and count >= until:
            raise SystemExit
        count += 1
        at, size = timezone.now(), run.bytes or 0
        attempt = clear_rows(
            run,
            at,
            files=1,
            size=size,
            requester=request.requester,
            actor=request.actor,
            cause=request.cause,
            sweep=request.sweep,
            let_go=request.let_go,
        )
        Run.objects.filter(pk=run.pk).update(state="cleared", cleared_at=at)
        told = {"files": 1, "bytes": size, "attempt": attempt}
        return RunAction(run.root.name, run.run_path, Action.CLEARED, request.cause, **told)

    return take
