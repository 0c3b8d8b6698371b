"""Files that lie set aside."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db.models import Count, Q, QuerySet

from cleanup.lab.people import permissions
from cleanup.models import AsideState, Run, SetAside
from cleanup.models.aggregates import bytes_sum
from cleanup.runs.set_aside import set_aside_recovery

SHOWN = 50
# A page tells this long that a file was taken away.
_TOLD = timedelta(days=30)


@dataclass(frozen=True)
class Asides:
    """The first files, and the number and logical bytes of all."""

    rows: list[SetAside]
    count: int
    bytes: int

    @property
    def more(self) -> int:
        return max(self.count - len(self.rows), 0)


def of_run(run: Run, now: datetime) -> Asides | None:
    """Also those that were taken away lately."""
    told = Q(state=AsideState.TAKEN, state_at__gt=now - _TOLD) | Q(state=AsideState.DONE)
    return _shown(run.set_aside.filter(told))


def seen_by(user: User) -> Asides | None:
    return _shown(
        SetAside.objects.there().filter(permissions.places(user, permissions.VIEW).q("run__root", "run__equipment"))
    )


def _shown(found: QuerySet[SetAside]) -> Asides | None:
    rows = list(found.select_related("run__root").defer("run__facts")[:SHOWN])
    if not rows:
        return None
    for row in rows:
        row.where = set_aside_recovery.where(row)
    if len(rows) < SHOWN:
        return Asides(rows, len(rows), sum(row.size for row in rows))
    totals = found.order_by().aggregate(count=Count("pk"), bytes=bytes_sum("size", default=0))
    return Asides(rows, totals["count"], int(totals["bytes"]))
