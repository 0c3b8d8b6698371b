"""The start of retention: the recorded verification, or our first sight of it if later.

An instrument's clock may be days behind. A history that was old at our first sight counts as recorded.
"""

from datetime import datetime

from cleanup.models import IngestEvent, Run
from cleanup.rules.states import State
from cleanup.runs.holds import keeping_holds


def counted_from(run: Run, verified_at: datetime | None, seen_at: datetime | None) -> datetime | None:
    """Return the start of retention where it is not the recorded verification; else None.

    `seen_at`: the first sight of the verification under this row. Sights before a rename count too.
    """
    if verified_at is None or seen_at is None:
        return None
    met_at = run.first_seen_at
    for other in (alike.other for alike in keeping_holds.alike_runs(run)):
        met_at = min(met_at, other.first_seen_at)
        seen_at = min(seen_at, _first_sight(other, verified_at) or seen_at)
    return max(verified_at, seen_at) if met_at < seen_at else None


def _first_sight(run: Run, verified_at: datetime) -> datetime | None:
    known = IngestEvent.objects.filter(run=run, state=State.SYNC_VERIFIED, at=verified_at)
    return known.order_by("position").values_list("first_seen_at", flat=True).first()
