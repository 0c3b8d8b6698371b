"""One proof ahead of a click: what a clear would read is read, and a proof is left that the clear reuses."""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from cleanup.lab.nas.nas_transport import Reader
from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import OpenRun, Unreachable
from cleanup.models import RetentionPolicy, Run
from cleanup.rules.decisions import Decision
from cleanup.rules.facts import Finding
from cleanup.rules.policies.policy import ProofLevel
from cleanup.rules.reasons import Reason
from cleanup.runs.facts import inspection
from cleanup.runs.facts.inspection import Look
from cleanup.runs.proofs import differences, proofs
from cleanup.runs.proving import proving_rows, resuming
from cleanup.runs.proving.beats import ReadingBeat
from cleanup.runs.proving.due_proofs import RunToProve
from cleanup.runs.proving.resuming import RunDigests
from cleanup.runs.proving.waits import Stopped, Wait

# A run that cannot be read within this, at the limit of its NAS, would be read again and again.
_READ_WITHIN = proofs.PROOF_MAX_AGE - timedelta(hours=4)
_DAY = timedelta(days=1)
# These concern the NAS, not one run.
_NAS_AWAY = frozenset({Reason.NAS_NOT_MOUNTED, Reason.NAS_IDENTITY_MISMATCH, Reason.NAS_IO_ERROR, Reason.NAS_TIMEOUT})


@dataclass(frozen=True)
class ProofTry:
    """How one try ended; `away`: the NAS as a whole did not answer as it should."""

    said: str
    away: Finding | None = None


def prove(run: Run, wanted: RunToProve, beat: ReadingBeat) -> ProofTry:
    """Prove one run. Raises Stopped, with the digests so far kept, and Unreachable."""
    now, pace = timezone.now(), run.root.prove_bytes_per_second
    if pace and wanted.bytes / pace > _READ_WITHIN.total_seconds():
        return _put_off(run, Wait.SLOW, until=now + _DAY)

    def began(first: datetime, share: float) -> None:
        beat.look()
        beat.begun, beat.earlier = True, int(share * 2 * wanted.bytes)
        proving_rows.began_at(run, first, beat.earlier)

    with locked(run.pk) as free:
        if not free:  # a clear goes on with its digests
            raise Stopped(Wait.TAKEN_OVER)
        beat.look()
        proving_rows.begin(run, 2 * wanted.bytes, now)
        with opening.reached(run, counts=False) as (opened, reader), RunDigests(run, ahead=True, began=began) as kept:
            if known := _standing_difference(run, opened, reader, now):
                proving_rows.differs(run, known, now + _DAY, now)
                return ProofTry(f"{run.run_path}: {known.reason}, as before")
            began_at = time.monotonic()
            look, decision = _look(run, opened, reader, now, beat, kept, pace)
            beat.lease.note_speed(beat.read, time.monotonic() - began_at)
        return _settle(run, wanted, look, decision, now)


@contextlib.contextmanager
def locked(run: int) -> Iterator[bool]:
    """Hold the lock of those that read a run ahead, by its key; False if it is taken."""
    with opening.data_dir().lock(resuming.lock_of(run)) as free:
        yield free


def _look(
    run: Run, opened: OpenRun, reader: Reader, now: datetime, beat: ReadingBeat, kept: RunDigests, pace: int
) -> tuple[Look, Decision]:
    policy = RetentionPolicy.objects.effective_for(run)
    try:
        return inspection.look(run, opened, reader, policy, now, operator=True, progress=beat, so_far=kept, pace=pace)
    except OSError as error:
        raise Unreachable(Finding(Reason.STAGING_IO_ERROR, os.strerror(error.errno or 0))) from None


def _standing_difference(run: Run, opened: OpenRun, reader: Reader, now: datetime) -> Finding | None:
    """The difference that the last comparison found, if neither side has changed since and it is not old."""
    if not differences.was_found(run):
        return None
    facts = inspection.quick_look(run, opened, reader, now, for_granted=differences.READ_AGAIN_AFTER).facts
    known = facts.proof is not None and facts.proof.found_at is not None
    return next(iter(facts.proof.findings), None) if known and facts.proof else None


def _settle(run: Run, wanted: RunToProve, look: Look, decision: Decision, began: datetime) -> ProofTry:
    """Write down what a look has found. A difference only keeps the run; a proof is dated by its first byte."""
    now = timezone.now()
    if look.reused is not None:
        proving_rows.proven(run, look.reused.at, wanted.seen, now)
        return ProofTry(f"{run.run_path}: proven already")
    first, proof = look.since or began, look.facts.proof
    if look.read is not None and look.scan is not None:
        resuming.drop(run.pk)  # read to the end: proven, or not to be trusted
        found_at = differences.found_at(run)
        if found_at is not None and found_at >= first and not look.read.proof.findings:
            found = Finding(Reason.NOT_COMPARED, "another comparison found a difference while it was read")
            return _put_off(run, found, until=now + _DAY)
        differences.keep(run, look.read, look.scan, look.listed, now=first, until=now)
    finding = next(iter(proof.findings), None) if proof is not None else None
    if look.read is None or finding is not None or proof is None:
        return _not_proven(run, finding or _refusal(decision), now, read=look.read is not None)
    if not look.evidence:
        return _put_off(run, Wait.FRESH, until=now + _DAY)
    proofs.keep(run, proof, ProofLevel.CHECKSUM, look.evidence, first)
    proving_rows.proven(run, first, wanted.seen, now)
    return ProofTry(f"{run.run_path}: proven")


def _not_proven(run: Run, finding: Finding, now: datetime, *, read: bool) -> ProofTry:
    if finding.reason is Reason.NAS_CHECKSUM_MISMATCH:
        proving_rows.differs(run, finding, now + _DAY, now)
        Run.objects.filter(pk=run.pk).doubt()
        return ProofTry(f"{run.run_path}: {finding.reason}")
    if finding.reason in _NAS_AWAY:
        proving_rows.put_off(run, finding, now, until=now)
        return ProofTry(f"{run.run_path}: {finding.reason}", away=finding)
    # After a whole reading not again today: nothing reads a disk over and over. What has just changed is read soon.
    is_settled = read and finding.reason is not Reason.NOT_COMPARED
    return _put_off(run, finding, until=now + _DAY if is_settled else None)


def _put_off(run: Run, why: Finding | Wait, *, until: datetime | None) -> ProofTry:
    proving_rows.put_off(run, why, timezone.now(), until=until)
    return ProofTry(f"{run.run_path}: {why.said if isinstance(why, Finding) else why}")


def _refusal(decision: Decision) -> Finding:
    refusal = decision.main_refusal(operator=True)
    return Finding(refusal.reason, refusal.detail) if refusal and refusal.reason else Finding(Reason.NOT_COMPARED)
