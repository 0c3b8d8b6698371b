"""How far proofs ahead are, in one sentence."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cleanup.models import ProvingRun
from cleanup.runs.proving.proving_counts import DiskProofs
from cleanup.runs.proving.waits import Wait
from cleanup.text import proofs_ahead

pytestmark = pytest.mark.one_engine

NOW = datetime(2026, 6, 15, 8, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def row(**fields: Any) -> ProvingRun:
    return ProvingRun(phase_at=NOW, **fields)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, ""),
        (row(phase="asked", asked_at=NOW), ""),
        (row(phase="differs", reason="nas_checksum_mismatch"), ""),
        (row(phase="proven", proven_at=NOW - 2 * HOUR), "Proven 2 h ago."),
        (row(phase="proven", proven_at=NOW - 49 * HOUR), "Proven 2 days ago; a clear reads every byte again."),
        (row(phase="reading", planned_bytes=10, read_bytes=4, progress_at=NOW), "Being proven: 40 %."),
        (row(phase="reading", planned_bytes=10, read_bytes=12, progress_at=NOW), "Being proven: 99 %."),
        (row(phase="reading", planned_bytes=0, read_bytes=0, progress_at=NOW), "Being proven: 0 %."),
        (row(phase="reading", planned_bytes=10, read_bytes=4, progress_at=NOW - HOUR), ""),
        (row(phase="waiting", planned_bytes=10, read_bytes=4, reason="time_is_over"), "Being proven: 40 %."),
        (row(phase="waiting", expected_at=NOW + 2 * HOUR), "Will be proven at about 10:00."),
        (row(phase="waiting", expected_at=NOW - 2 * HOUR), "Will be proven at about 08:00."),
        (row(phase="waiting", expected_at=NOW + 25 * HOUR), "Will be proven at about 2026-06-16 09:00."),
        (row(phase="waiting", reason=Wait.INSTRUMENT), "Proving waits: the instrument is writing."),
        (
            row(phase="waiting", reason=Wait.HOURS, expected_at=NOW + 2 * HOUR),
            "Proving waits: an admin allows it only at other hours; tried again at about 10:00.",
        ),
        (
            row(phase="put_off", reason="nas_timeout", again_after=NOW + HOUR),
            "Proving waits: the NAS did not answer in time; tried again at about 09:00.",
        ),
        (row(phase="put_off", reason="of_a_later_version"), "Proving waits: of_a_later_version."),
    ],
)
def test_a_run(found: ProvingRun | None, said: str) -> None:
    assert proofs_ahead.of_run(found, NOW) == said


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, ""),
        (DiskProofs(proven=12), "12 of 14 runs that may go are proven."),
        (DiskProofs(proven=20), "14 of 14 runs that may go are proven."),
        (
            DiskProofs(proven=1, reading=1, read_bytes=4, planned_bytes=10, waits=Wait.CLEAR),
            "1 of 14 runs that may go is proven; 1 being proven: 40 %.",
        ),
        (DiskProofs(waits=Wait.CLEAR), "0 of 14 runs that may go are proven; proving waits: a run is being cleared."),
    ],
)
def test_a_disk(found: DiskProofs | None, said: str) -> None:
    assert proofs_ahead.of_disk(found, 14) == said
    assert proofs_ahead.of_disk(found, 0) == ""


def test_each_wait_has_its_words() -> None:
    waits = set(Wait) - {Wait.TIME}
    said = {proofs_ahead.of_run(row(phase="waiting", reason=wait), NOW) for wait in waits}
    assert len(said) == len(waits)
    assert not [words for words in said if "_" in words]
