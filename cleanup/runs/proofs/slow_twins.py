"""Runs whose twins did not answer in time, noted so that the others come first."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F

from cleanup.lab.nas.nas_transport import NotAsked, Reader, Readers
from cleanup.models import ClearAttempt, Run
from cleanup.rules.facts import Facts, Finding
from cleanup.rules.reasons import Reason
from cleanup.rules.silent_twins import pause_after
from cleanup.storage.nas import client


def note(run: Run, reason: str, detail: str, *, now: datetime) -> None:
    """Note that a run's twin did not answer.

    If the whole NAS was silent, the run gets no pause but comes last: it may be the cause.
    """
    if not client.is_silence(reason, detail):
        return
    slow = reason == Reason.NAS_SLOW
    times = run.nas_slow_times + slow
    run.nas_slow_times, run.nas_retry_at = times, now + (pause_after(times) if slow else timedelta(0))
    Run.objects.filter(pk=run.pk).update(nas_slow_times=times, nas_retry_at=run.nas_retry_at, doubts=F("doubts") + 1)


def learn(attempt: ClearAttempt, reason: str, detail: str, *, now: datetime) -> None:
    """Note what an attempt has shown of its run's twin."""
    if client.is_silence(reason, detail):
        note(attempt.run, reason, detail, now=now)
    elif attempt.proof_id is not None or reason == Reason.NAS_CHECKSUM_MISMATCH:
        forget(attempt.run)  # every byte was read, even if the clear stopped later


def forget(run: Run) -> None:
    """Note that the twin has answered in time."""
    if run.nas_retry_at is not None:
        run.nas_slow_times, run.nas_retry_at = 0, None
        Run.objects.filter(pk=run.pk).update(nas_slow_times=0, nas_retry_at=None, doubts=F("doubts") + 1)


@dataclass(frozen=True)
class TwinListing:
    """What discovery asks of one twin, with pauses after its silences; none if asked `at_once`."""

    run: Run
    readers: Readers
    now: datetime
    at_once: bool = False

    @property
    def reader(self) -> Reader:
        """During the pause, one that repeats the last answer."""
        before = _silence_stored(self.run)
        if before is not None and self._pauses:
            return StillSilent(before)
        return self.readers.of(self.run)

    def learn(self, facts: Facts) -> None:
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
    """Replaces the reader during the twin's pause and repeats its last answer."""

    def __init__(self, before: Finding) -> None:
        self._before = before

    def read(self, twin: str, **how: Any) -> client.Listing:  # noqa: ANN401
        raise client.NasError(self._before)


def _silence_stored(run: Run) -> Finding | None:
    proof = run.facts.get("proof") if isinstance(run.facts, dict) else None
    for finding in proof.get("findings", ()) if isinstance(proof, dict) else ():
        if finding.get("reason") == Reason.NAS_SLOW:
            return Finding(Reason.NAS_SLOW, finding["detail"])
    return None
