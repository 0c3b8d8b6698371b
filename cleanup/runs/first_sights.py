"""From when retention counts: the later of the recorded verification and our own first sight of it.

An instrument's clock may be days behind. Where an earlier state of the run was seen here, it was verified after that. A
history that was old when we first met the run counts as recorded, or an archive would be kept anew.
"""

from datetime import datetime

from cleanup.models import IngestEvent, Run
from cleanup.rules.states import State
from cleanup.runs import held


def counted_from(run: Run, verified_at: datetime | None, seen_at: datetime | None) -> datetime | None:
    """From when a run with a history is kept, where that is not its recorded verification; else None.

    `seen_at`: when its verification was first seen under this row. Sights under another row, before a rename, count
    too.
    """
    if verified_at is None or seen_at is None:
        return None
    met_at = run.first_seen_at
    for other in (alike.other for alike in held.alike_runs(run)):
        met_at = min(met_at, other.first_seen_at)
        seen_at = min(seen_at, _first_sight(other, verified_at) or seen_at)
    return max(verified_at, seen_at) if met_at < seen_at else None


def _first_sight(run: Run, verified_at: datetime) -> datetime | None:
    """When the verification of an instant was first seen under another row; None if it was not."""
    known = IngestEvent.objects.filter(run=run, state=State.SYNC_VERIFIED, at=verified_at)
    return known.order_by("position").values_list("first_seen_at", flat=True).first()
