"""One process at a time makes proofs on a NAS root, over all hosts; after failures the NAS is left alone for longer.

The lease ends by the database's clock when its holder has given no sign of life. The breaker of clears is another
matter (`nas_breaker`): nothing here opens it.
"""

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import DateTimeField, ExpressionWrapper, Q, QuerySet, Value
from django.db.models.functions import Now
from django.utils import timezone

from cleanup.models import ProvingLease
from cleanup.rules.facts import Finding

# Beside the time in which a NAS may be silent: its holder gives a sign more often.
LASTS = timedelta(seconds=90)
_FIRST_PAUSE = timedelta(minutes=5)
LONGEST_PAUSE = timedelta(hours=4)
_MOST_DETAIL = 400
_TELLING_SECONDS = 1.0


@dataclass(frozen=True)
class NasLease:
    """The right to make proofs on one NAS root."""

    nas: str
    holder: str
    bytes_per_second: int

    def renew(self) -> bool:
        """Put its end off; False if it is another's by now."""
        return bool(self._mine().update(until=_end()))

    def step_back(self, problem: Finding) -> None:
        """Leave the NAS alone, twice as long after each failure in a row."""
        failures = self._mine().values_list("failures", flat=True).first() or 0
        self._mine().update(
            failures=failures + 1,
            again_after=timezone.now() + pause_after(failures + 1),
            reason=str(problem.reason),
            detail=problem.detail[:_MOST_DETAIL],
        )

    def succeeded(self) -> None:
        """Forget its failures."""
        self._mine().exclude(failures=0).update(failures=0, again_after=None, reason="", detail="")

    def note_speed(self, read: int, seconds: float) -> None:
        """Note how fast it is read; `read`: the bytes of both sides. A short reading tells nothing."""
        if seconds > _TELLING_SECONDS:
            self._mine().update(bytes_per_second=int(read / seconds))

    def _mine(self) -> "QuerySet[ProvingLease]":
        return ProvingLease.objects.filter(nas=self.nas, holder=self.holder)


def pause_after(failures: int) -> timedelta:
    """Return how long no proof is tried on a NAS, or of a run, by its number of failures in a row."""
    doublings = min(max(failures - 1, 0), 10)
    pause: timedelta = min(_FIRST_PAUSE * 2**doublings, LONGEST_PAUSE)
    return pause


@contextlib.contextmanager
def taken(nas: str) -> Iterator[NasLease | None]:
    """Hold the lease of a NAS root for a block; None if another process has it, or the NAS is left alone by this host.

    `nas`: the token of the NAS root.
    """
    now = timezone.now()
    row, _new = ProvingLease.objects.get_or_create(nas=nas, defaults={"until": now})
    same_host = row.host == settings.EXLAB_HOST
    if same_host and row.again_after is not None and now < row.again_after <= now + LONGEST_PAUSE:
        yield None
        return
    holder = uuid.uuid4().hex
    free = ProvingLease.objects.filter(Q(holder="") | Q(until__lt=Now()), nas=nas)
    afresh = {} if same_host else {"failures": 0, "again_after": None, "reason": "", "detail": ""}
    if not free.update(holder=holder, host=settings.EXLAB_HOST, until=_end(), **afresh):
        yield None
        return
    try:
        yield NasLease(nas, holder, row.bytes_per_second)
    finally:
        ProvingLease.objects.filter(nas=nas, holder=holder).update(holder="", until=Now())


def free(host: str) -> int:
    """End the leases of a host whose provers are all gone, as at the start of its processes."""
    return ProvingLease.objects.filter(host=host).exclude(holder="").update(holder="", until=Now())


def _end() -> "ExpressionWrapper[Any]":
    silence = timedelta(seconds=settings.EXLAB_NAS_TIMEOUT)
    return ExpressionWrapper(Now() + Value(LASTS + silence), output_field=DateTimeField())
