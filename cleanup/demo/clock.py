"""A clock that is set back, so that the product itself makes the demo's past.

Every step of a clear takes its instant from `timezone.now`. While the demo is made, before any other part of the
program runs in this process, it tells an earlier time: ledger, receipts, tombstones and pages then tell the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from django.utils import timezone


@contextmanager
def set_back(at: datetime) -> Iterator[None]:
    """Let `timezone.now` tell `at`, and run on from there. No other thread may need the time meanwhile."""
    true_now = timezone.now
    began = true_now()
    timezone.now = lambda: at + (true_now() - began)
    try:
        yield
    finally:
        timezone.now = true_now
