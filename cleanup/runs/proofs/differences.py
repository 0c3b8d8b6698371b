"""Differences of bytes that still stand, so that not every sweep reads a damaged twin again."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from django.conf import settings

from cleanup.models import Difference, Run, may_differ
from cleanup.rules.facts import Finding
from cleanup.rules.policies.policy import ProofLevel
from cleanup.rules.reasons import Reason
from cleanup.runs.proofs import proofs
from cleanup.runs.proofs.proofs import Compared
from cleanup.storage.staging import manifest, run_tree

# How long the schedule trusts a known difference.
READ_AGAIN_AFTER = timedelta(days=7)
# The pages trust it while nothing changes.
ALWAYS = timedelta.max


def keep(
    run: Run,
    compared: Compared,
    scanned: run_tree.Scan,
    listed: manifest.Manifest | None,
    *,
    now: datetime,
    until: datetime,
) -> None:
    """Keep the difference that a comparison from `now` to `until` found; forget it if all is equal.

    An unreadable side changes nothing. A twin written meanwhile is read again by the next sweep.
    """
    if compared.listing is None:
        return
    first = next(iter(compared.proof.findings), None)
    if first is None:
        forget(run)
    if first is None or first.reason is not Reason.NAS_CHECKSUM_MISMATCH:
        return
    found = {"at": now, "host": settings.EXLAB_HOST, "reason": first.reason, "detail": first.detail}
    is_sure = not proofs.written_between(scanned, compared.listing, now, until)
    found["evidence"] = proofs.lasting_evidence(run, scanned, listed, compared.listing) if is_sure else ""
    Difference.objects.update_or_create(run=run, defaults=found)


def note(run: Run, names: list[str], *, now: datetime) -> None:
    """Write down differing files of a comparison on request; the next sweep reads them again."""
    found = {"at": now, "host": settings.EXLAB_HOST, "evidence": "", "detail": proofs.name_some(names)}
    Difference.objects.update_or_create(run=run, defaults={**found, "reason": Reason.NAS_CHECKSUM_MISMATCH})


def forget(run: Run) -> None:
    """Forget a run's difference: both sides were compared and are equal."""
    Difference.objects.filter(run=run).delete()


def found_at(run: Run) -> datetime | None:
    """Return when the latest comparison found a difference; None: it found none."""
    return Difference.objects.filter(run=run).values_list("at", flat=True).first()


def was_found(run: Run) -> bool:
    """Return whether the latest comparison found a difference, even if something changed since."""
    return may_differ(run) and Difference.objects.filter(run=run).exists()


def standing(
    run: Run, compared: Compared, scanned: run_tree.Scan, listed: manifest.Manifest | None
) -> Difference | None:
    """Return the known difference if neither side has changed since."""
    if compared.listing is None or compared.proof.findings:
        return None
    known = Difference.objects.filter(run=run).first()
    if known is None or known.evidence != proofs.lasting_evidence(run, scanned, listed, compared.listing):
        return None
    return known


def counted(compared: Compared, known: Difference) -> Compared:
    """Return a comparison of names and sizes with the known difference of bytes."""
    proof = replace(compared.proof, level=ProofLevel.CHECKSUM, findings=(as_finding(known),), found_at=known.at)
    return replace(compared, proof=proof)


def as_finding(known: Difference) -> Finding:
    """Return the difference with its date and the date of the next reading."""
    again = known.at + READ_AGAIN_AFTER
    return Finding(
        Reason(known.reason),
        f"{known.detail}; compared on {_text(known.at)}, nothing has changed since; "
        f"the schedule reads it again from {_text(again)} on, a click at once",
    )


def _text(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
