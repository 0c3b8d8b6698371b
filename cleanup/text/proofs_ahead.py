"""How far proofs ahead of a click are, in one short sentence for a run or a disk."""

from datetime import datetime, timedelta

from django.utils import timezone

from cleanup.models import ProvingRun
from cleanup.rules.reasons import Reason
from cleanup.runs.proofs.proofs import PROOF_MAX_AGE
from cleanup.runs.proving.proving_counts import DiskProofs
from cleanup.runs.proving.waits import Wait
from cleanup.text.values import ago, count, visible

Phase = ProvingRun.Phase

_WAITS = {
    Wait.INSTRUMENT: "the instrument is writing",
    Wait.PRESSURE: "the disk is busy",
    Wait.CLEAR: "a run is being cleared",
    Wait.HOURS: "an admin allows it only at other hours",
    Wait.TAKEN_OVER: "a clear reads this run now",
    Wait.LEASE: "another worker reads this NAS",
    Wait.SLOW: "at the speed that an admin allows, the run takes too long",
    Wait.FRESH: "the copy on the NAS was just written",
}
# A reading that gives no sign for so long has ended.
_SILENT = timedelta(minutes=5)


def of_run(row: ProvingRun | None, now: datetime) -> str:
    """`Proven 2 h ago.`, `Being proven: 40 %.`, `Will be proven at about 10:20.`; empty if nothing is to be said."""
    if row is None:
        return ""
    if row.phase == Phase.PROVEN and row.proven_at is not None:
        older = "; a clear reads every byte again" if row.proven_at <= now - PROOF_MAX_AGE else ""
        return f"Proven {ago(row.proven_at, now)}{older}."
    reads = row.phase == Phase.READING and row.progress_at is not None and now - row.progress_at < _SILENT
    if reads or (row.phase == Phase.WAITING and row.reason == Wait.TIME):
        return f"Being proven: {percent(row.read_bytes, row.planned_bytes)} %."
    if row.phase in (Phase.WAITING, Phase.PUT_OFF) and row.reason:
        again = row.again_after if row.phase == Phase.PUT_OFF else row.expected_at
        later = f"; tried again at about {_clock(again, now)}" if again is not None and again > now else ""
        return f"Proving waits: {_why(row.reason)}{later}."
    if row.phase == Phase.WAITING and row.expected_at is not None:
        return f"Will be proven at about {_clock(max(row.expected_at, now), now)}."
    return ""


def of_disk(found: DiskProofs | None, may_go: int) -> str:
    """`12 of 14 runs that may go are proven; 1 being proven: 40 %.`; empty where no proof is made ahead."""
    if found is None or not may_go:
        return ""
    proven = min(found.proven, may_go)
    parts = [f"{count(proven)} of {count(may_go)} runs that may go {'is' if proven == 1 else 'are'} proven"]
    if found.reading:
        parts.append(f"{count(found.reading)} being proven: {percent(found.read_bytes, found.planned_bytes)} %")
    elif found.waits:
        parts.append(f"proving waits: {_why(found.waits)}")
    return f"{'; '.join(parts)}."


def percent(read: int, planned: int) -> int:
    """Never 100 before the end."""
    return min(99, 100 * read // planned) if planned > 0 else 0


def _why(code: str) -> str:
    if code in _WAITS:
        return _WAITS[Wait(code)]
    try:
        words = Reason(code).sentence.rstrip(".")
    except ValueError:
        return visible(code)
    return words if words[1:2].isupper() else words[:1].lower() + words[1:]


def _clock(at: datetime, now: datetime) -> str:
    local = timezone.localtime(at)
    return f"{local:%H:%M}" if local.date() == timezone.localtime(now).date() else f"{local:%Y-%m-%d %H:%M}"
