"""Differences of bytes that were found and still stand: a damaged twin is not read anew by every sweep.

A difference only keeps a run, so it needs less than a proof. A twin that was mended with its old size and times is
found after a week, or at a person's click.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from django.conf import settings

from cleanup.models import Difference, Run
from cleanup.rules.facts import Finding
from cleanup.rules.policy import ProofLevel
from cleanup.rules.reasons import Reason
from cleanup.runs import proofs
from cleanup.runs.proofs import Compared
from cleanup.storage.staging import manifest, run_tree

# The schedule takes a difference for granted for so long.
READ_AGAIN_AFTER = timedelta(days=7)
# And pages for as long as nothing has changed.
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
    """Write down what a comparison of every byte found, made from `now` to `until`; or that all is equal.

    Where a side could not be read to its end, what was known stays. A twin that was written meanwhile is read again by
    the next sweep.
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
    """Write down that a comparison for a person found files different: from now on only their bytes count.

    The next sweep reads them all the same.
    """
    found = {"at": now, "host": settings.EXLAB_HOST, "evidence": "", "detail": proofs.name_some(names)}
    Difference.objects.update_or_create(run=run, defaults={**found, "reason": Reason.NAS_CHECKSUM_MISMATCH})


def forget(run: Run) -> None:
    """Take nothing for granted of a run any more: both sides were compared, and are the same."""
    Difference.objects.filter(run=run).delete()


def was_found(run: Run) -> bool:
    """Whether the latest comparison of every byte found a difference, even if something has changed since."""
    return Difference.objects.filter(run=run).exists()


def standing(
    run: Run, compared: Compared, scanned: run_tree.Scan, listed: manifest.Manifest | None
) -> Difference | None:
    """The difference that was found of a run, if neither side has changed since; `compared`: names and sizes of now."""
    if compared.listing is None or compared.proof.findings:
        return None
    known = Difference.objects.filter(run=run).first()
    if known is None or known.evidence != proofs.lasting_evidence(run, scanned, listed, compared.listing):
        return None
    return known


def counted(compared: Compared, known: Difference) -> Compared:
    """A comparison of names and sizes with the difference that is known of the bytes."""
    proof = replace(compared.proof, level=ProofLevel.CHECKSUM, findings=(as_finding(known),), found_at=known.at)
    return replace(compared, proof=proof)


def as_finding(known: Difference) -> Finding:
    """What was found, when, and when it is looked for again."""
    again = known.at + READ_AGAIN_AFTER
    return Finding(
        Reason(known.reason),
        f"{known.detail}; compared on {_text(known.at)}, nothing has changed since; "
        f"the schedule reads it again from {_text(again)} on, a click at once",
    )


def _text(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
