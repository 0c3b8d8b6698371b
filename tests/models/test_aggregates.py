"""Sums of bytes, also where sparse files claim more than any disk holds."""

from datetime import datetime
from typing import Any

import pytest
from django.db.models import Q

from cleanup.models import LedgerEntry, Run
from cleanup.models.aggregates import bytes_sum, exact_bytes_sum
from cleanup.runs import discovery
from tests.tools.lab import Lab

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "sizes",
    [[0, 1], [2**32 - 1, 2**32, 2**32 + 1], [2**53 + 1, 1, 2**60 + 3], [2**62 + 5, 2**62 + 7, 2**62 + 9]],
    ids=["small", "about four gigabytes", "beyond what a float holds", "beyond what a number holds"],
)
def test_they_are_exact_or_nearly_so(lab: Lab, root: Any, now: datetime, sizes: list[int]) -> None:
    lab.run()
    discovery.discover(root, now=now)
    run = Run.objects.get()
    Run.objects.filter(pk=run.pk).update(bytes=sizes[0])
    for number, size in enumerate(sizes[1:]):
        run.pk, run.run_path, run.bytes = None, f"{run.run_path}-{number}", size
        run.save()
    found = Run.objects.aggregate(
        sum=bytes_sum("bytes"),
        none=bytes_sum("bytes", filter=Q(pk=0)),
        zero=bytes_sum("bytes", filter=Q(pk=0), default=0),
    )
    assert int(found["sum"]) == (sum(sizes) if sum(sizes) < 2**63 else pytest.approx(sum(sizes)))
    assert (found["none"], found["zero"]) == (None, 0)
    exact = Run.objects.aggregate(
        sum=exact_bytes_sum("bytes"),
        none=exact_bytes_sum("bytes", filter=Q(pk=0)),
        zero=exact_bytes_sum("bytes", filter=Q(pk=0), default=0),
    )
    assert exact == {"sum": sum(sizes), "none": None, "zero": 0}


def test_the_ledger_of_nothing_is_nothing() -> None:
    assert LedgerEntry.objects.totals() == {"runs": 0, "files": 0, "bytes": 0, "allocated_bytes": 0}
