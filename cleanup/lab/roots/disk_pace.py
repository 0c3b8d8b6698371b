"""How fast a staging disk has filled in the last hours, without what clears gave back meanwhile."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import F, OuterRef, Subquery
from django.db.models.functions import Coalesce, Least

from cleanup.models import DiskUsage, LedgerEntry, LedgerKind, StagingRoot
from cleanup.rules.disk_alarm import WINDOW, Arrived, MeasuredFill, pace

# (began, ended, bytes on the disk)
_Freed = tuple[datetime, datetime, int]


def fill_of_root(root: StagingRoot, now: datetime) -> MeasuredFill | None:
    """The fill of a root's disk as last measured, and its pace; None if it was never measured. Two questions."""
    samples = list(DiskUsage.objects.filter(root=root, at__gte=now - WINDOW, at__lte=now).order_by("at"))
    last = samples[-1] if samples else DiskUsage.objects.filter(root=root, at__lte=now).order_by("at").last()
    if last is None:
        return None
    return MeasuredFill(
        at=last.at,
        total_bytes=last.total_bytes,
        free_bytes=last.free_bytes,
        bytes_an_hour=pace(_arrived(samples, _freed(root, samples[0].at))) if samples else None,
    )


def _arrived(samples: Iterable[DiskUsage], freed: list[_Freed]) -> list[Arrived]:
    """A long clear gives its bytes back little by little: each measurement counts the part until then."""
    return [
        Arrived(
            one.at,
            one.total_bytes
            - one.free_bytes
            + round(sum(size * _part(one.at, began, ended) for began, ended, size in freed)),
        )
        for one in samples
    ]


def _part(at: datetime, began: datetime, ended: datetime) -> float:
    if at >= ended:
        return 1.0
    return (at - began) / (ended - began) if at > began else 0.0


def _freed(root: StagingRoot, since: datetime) -> list[_Freed]:
    """What each clear gave back: the measured bytes, at most the allocated ones, else those."""
    rows: Any = LedgerEntry.objects.freeing().filter(root_name=root.name, at__gt=since).order_by()
    authorised = LedgerEntry.objects.filter(attempt=OuterRef("attempt"), kind=LedgerKind.AUTHORISED).order_by()
    given_back = Coalesce(Least(F("measured_bytes"), F("allocated_bytes")), F("allocated_bytes"))
    told = rows.annotate(began=Subquery(authorised.values("at")[:1]), size=given_back)
    return [(began or at, at, size) for began, at, size in told.values_list("began", "at", "size")]
