"""The data directory against the rows."""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from cleanup.models import ClearAttempt
from cleanup.monitoring.reconciliation.data_directory import receipts_lacking
from tests.monitoring.reconciliation.scene import FIRST, SECOND, Place
from tests.monitoring.reconciliation.scene import place as place
from tests.monitoring.reconciliation.scene import untouched as untouched

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

UNKNOWN = "7" * 32


def test_a_tombstone_that_is_gone(place: Place) -> None:
    place.clear()
    name = f"{ClearAttempt.objects.get().pk.hex}.tar.gz"
    (place.data / "tombstones" / name).rename(place.data / name)
    assert place.found(bounds=None) == {"tombstone_missing": [f"{FIRST} tombstones/{name}"]}


def test_leftovers_are_told_and_stay(place: Place, untouched: Callable[..., Any]) -> None:
    place.clear()
    for name in ("plans/" + UNKNOWN, f"tombstones/{UNKNOWN}.tar.gz.part", "locks/999999", "plans/of-nobody.part"):
        (place.data / name).write_text("")
    old = (timezone.now() - timedelta(hours=2)).timestamp()
    os.utime(place.data / f"tombstones/{UNKNOWN}.tar.gz.part", (old, old))
    with untouched():
        found = place.found(bounds=None)
    assert found["plan_left"] == [f"plans/{UNKNOWN}, of which the database knows nothing"]
    assert found["draft_left"] == [f"tombstones/{UNKNOWN}.tar.gz.part"]  # the other may be in work
    assert found["locks_unknown"][0].endswith("the first is locks/999999")
    assert len(found) == 3
    assert (place.data / "plans" / UNKNOWN).exists()


def test_an_empty_data_directory_is_no_fault(place: Place) -> None:
    assert place.found(bounds=None) == {}


def test_receipts_that_lack_since_there_are_any(place: Place) -> None:
    place.clear(FIRST)
    place.clear(SECOND)
    first, second = ClearAttempt.objects.order_by("created_at")
    assert "receipt_missing" not in place.found(bounds=None)
    ended = timezone.now() - timedelta(days=2)
    ClearAttempt.objects.update(phase_at=ended)
    (place.data / "receipts").mkdir()
    receipt = place.data / "receipts" / f"receipt-{first.pk.hex}-1.json"
    receipt.write_text("{}")
    os.utime(receipt, ((ended - timedelta(hours=1)).timestamp(),) * 2)
    assert place.found(bounds=None)["receipt_missing"] == [f"{SECOND} the attempt {second.pk.hex}"]
    assert receipts_lacking(
        [f"receipt-{first.pk.hex}-12.json", "key-0123456789abcdef.pem"], [first.pk.hex, UNKNOWN]
    ) == [UNKNOWN]
