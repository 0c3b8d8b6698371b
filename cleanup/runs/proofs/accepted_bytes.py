"""Accepted bytes: an admin's statement about a run whose manifest is wrong or missing. It is bound to both sides."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from cleanup.models import AcceptedBytes, Run
from cleanup.rules.facts import AcceptedFacts, Finding
from cleanup.rules.reasons import Reason
from cleanup.runs.proofs import proofs
from cleanup.storage.nas import client
from cleanup.storage.staging import manifest, run_tree


def standing(run: Run) -> AcceptedBytes | None:
    """Return the acceptance that no admin has withdrawn, whether it holds or not."""
    return run.accepted_bytes.standing().first() if run.pk else None


def facts_of(
    accepted: AcceptedBytes | None,
    run: Run,
    scanned: run_tree.Scan,
    listed: manifest.Manifest | None,
    listing: client.Listing | None,
) -> AcceptedFacts | None:
    """Return an acceptance for the gates; it holds only if the NAS answers and is another disk."""
    if accepted is None:
        return None
    holds = listing is not None and evidence(run, scanned, listed, listing) == accepted.evidence
    return AcceptedFacts(
        key=accepted.pk,
        actor=accepted.actor,
        at=accepted.at,
        note=accepted.note,
        holds=holds and not run.root.allow_same_filesystem,
    )


def holds(
    accepted: AcceptedFacts, run: Run, scanned: run_tree.Scan, listed: manifest.Manifest | None, listing: client.Listing
) -> bool:
    """Return whether an acceptance still holds for a later listing of the NAS."""
    row = AcceptedBytes.objects.standing().filter(pk=accepted.key).first()
    return row is not None and evidence(run, scanned, listed, listing) == row.evidence


def evidence(run: Run, scanned: run_tree.Scan, listed: manifest.Manifest | None, listing: client.Listing) -> str:
    """Return a digest that changes with either side.

    It is `proofs.lasting_evidence`: the NAS may be remounted before the clear, which reads every byte anyway.
    """
    return proofs.lasting_evidence(run, scanned, listed, listing)


def may_go(key: int) -> bool:
    """Return whether an acceptance stands; call it in the commit, with the run's row locked."""
    return AcceptedBytes.objects.standing().filter(pk=key).exists()


def digest(files: Iterable[run_tree.Entry], digests: Mapping[bytes, bytes]) -> str:
    """Return the digest of data files' names and SHA-256 sums."""
    seen = hashlib.sha256()
    for path in sorted(entry.path for entry in files):
        seen.update(repr((path, digests.get(path))).encode())
    return seen.hexdigest()


def compared(
    accepted: AcceptedFacts, scanned: run_tree.Scan, listed: manifest.Manifest | None, found: proofs.Compared
) -> proofs.Compared:
    """Return a comparison of both sides, with a finding where the bytes are not the accepted ones."""
    row = AcceptedBytes.objects.standing().filter(pk=accepted.key).first()
    proof = replace(found.proof, accepted=accepted.key, manifest_sha256=listed.sha256 if listed else "")
    if proof.findings or found.listing is None:
        return replace(found, proof=proof)
    digests = {path: twin.digest for path, twin in found.listing.files.items() if twin.digest}
    if row is None or digest(scanned.data_files, digests) != row.digest:
        proof = replace(proof, findings=(Finding(Reason.ACCEPTANCE_VOID, "the bytes are others"),))
    return replace(found, proof=proof)
