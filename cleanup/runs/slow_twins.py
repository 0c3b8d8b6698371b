"""Runs whose twins keep silent: noted with the run, so that the others have their turn before it is asked again."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F

from cleanup.lab.nas import NotAsked, Reader, Readers
from cleanup.models import ClearAttempt, Run
from cleanup.rules.facts import Facts, Finding
from cleanup.rules.reasons import Reason
from cleanup.rules.slowness import pause_after
from cleanup.storage.nas import client


def note(run: Run, reason: str, detail: str, *, now: datetime) -> None:
    """Note that the twin of a run kept silent when the NAS was asked, if that is what came of it.

    Where the whole NAS is silent the run gets no pause, but it comes last in the next sweep: it may be the cause.
    """
    if not client.is_silence(reason, detail):
        return
    slow = reason == Reason.NAS_SLOW
    times = run.nas_slow_times + slow
    run.nas_slow_times, run.nas_retry_at = times, now + (pause_after(times) if slow else timedelta(0))
    Run.objects.filter(pk=run.pk).update(nas_slow_times=times, nas_retry_at=run.nas_retry_at, doubts=F("doubts") + 1)


def learn(attempt: ClearAttempt, reason: str, detail: str, *, now: datetime) -> None:
    """Note of the run of an attempt what that has shown of its twin."""
    if client.is_silence(reason, detail):
        note(attempt.run, reason, detail, now=now)
    elif attempt.proof_id is not None or reason == Reason.NAS_CHECKSUM_MISMATCH:
        forget(attempt.run)  # every byte was read, even if something else stopped the clear after that


def forget(run: Run) -> None:
    """The twin has answered in time."""
    if run.nas_retry_at is not None:
        run.nas_slow_times, run.nas_retry_at = 0, None
        Run.objects.filter(pk=run.pk).update(nas_slow_times=0, nas_retry_at=None, doubts=F("doubts") + 1)


@dataclass(frozen=True)
class TwinListing:
    """What discovery asks of one run's twin, no more often than its silences allow.

    Only silences at names and sizes count: discovery asks for no bytes. `at_once`: a person asks, and no pause counts.
    """

    run: Run
    readers: Readers
    now: datetime
    at_once: bool = False

    @property
    def reader(self) -> Reader:
        """The reader that discovery asks: while the twin's pause lasts, one that answers as the twin did."""
        before = _silence_stored(self.run)
        if before is not None and self._pauses:
            return StillSilent(before)
        return self.readers.of(self.run)

    def learn(self, facts: Facts) -> None:
        """Note what a look has shown of the twin."""
        findings = facts.proof.findings if facts.proof else ()
        silence = next((found for found in findings if found.reason is Reason.NAS_SLOW), None)
        if silence is not None and not self._pauses:
            note(self.run, silence.reason, silence.detail, now=self.now)
        elif silence is None and facts.twin is not None and _silence_stored(self.run) is not None:
            forget(self.run)

    @property
    def _pauses(self) -> bool:
        return not self.at_once and self.run.nas_retry_at is not None and self.now < self.run.nas_retry_at


class StillSilent(NotAsked):
    """What stands in for the reader of a twin whose pause lasts: it says what it said before."""

    def __init__(self, before: Finding) -> None:
        self._before = before

    def read(self, twin: str, **how: Any) -> client.Listing:  # noqa: ANN401
        """Raises NasError, always."""
        raise client.NasError(self._before)


def _silence_stored(run: Run) -> Finding | None:
    """The silence that discovery saw last of a run's twin, as it was stored; None if it saw none."""
    proof = run.facts.get("proof") if isinstance(run.facts, dict) else None
    for finding in proof.get("findings", ()) if isinstance(proof, dict) else ():
        if finding.get("reason") == Reason.NAS_SLOW:
            return Finding(Reason.NAS_SLOW, finding["detail"])
    return None
