"""Compares every byte of a run on both sides and with the manifest, on request. It changes and decides nothing."""

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from cleanup.lab.nas.nas_roots import twin_of
from cleanup.lab.nas.nas_transport import Reader
from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import OpenRun, Unreachable
from cleanup.models import ByteCheck, Run
from cleanup.rules.facts import Finding, Objected
from cleanup.rules.reasons import Reason
from cleanup.runs.facts import findings, inspection
from cleanup.runs.facts.inspection import Look
from cleanup.runs.proofs import accepted_bytes
from cleanup.runs.proofs.both_sides import BothSides
from cleanup.storage.nas import client
from cleanup.storage.run_paths import show

Outcome = ByteCheck.Outcome

# This many files are named; the others are counted.
NAMED = 50
# A comparison by names may find these; they are part of the answer and do not stop it.
_SHOWN = frozenset({Reason.NAS_MISSING_FILE, Reason.NAS_SIZE_MISMATCH})
_NO_MANIFEST = frozenset({Reason.MANIFEST_MISSING, Reason.MANIFEST_EMPTY, Reason.MANIFEST_UNREADABLE})


class NotComparable(Objected):
    """A run cannot be compared now; `finding` says why."""


@dataclass(frozen=True)
class ByteAnswer:
    """The result of a comparison, as `ByteCheck` keeps it."""

    outcome: Outcome
    files: int
    bytes: int
    differing: int
    against: int
    missing: int
    named: list[dict[str, str]]
    manifest: str
    manifest_sha256: str
    digest: str
    evidence: str


def compare(run: Run, now: datetime, planned: Callable[[int], None], progress: Callable[[int], None]) -> ByteAnswer:
    """Read every byte of a run on both sides and compare them.

    `planned` gets the bytes to read, `progress` those read since its last call. Raises NotComparable where a side is
    unreadable, changes, or may be the other.
    """
    try:
        with opening.reached(run) as (opened, reader):
            return _compare(run, opened, reader, now, planned, progress)
    except Unreachable as error:
        raise NotComparable(error.finding) from None
    except client.NasError as error:
        raise NotComparable(Finding(Reason(error.problem.reason), error.problem.detail)) from None
    except OSError as error:
        reason = Reason.PERMISSION_DENIED if error.errno == errno.EACCES else Reason.STAGING_IO_ERROR
        name = f"{error.filename}: " if isinstance(error.filename, str) else ""
        raise NotComparable(Finding(reason, f"{name}{os.strerror(error.errno or 0)}")) from None


def look_at(run: Run, opened: OpenRun, reader: Reader, now: datetime) -> Look:
    """Return a quick look at a run that can be compared. Raises NotComparable."""
    seen = inspection.quick_look(run, opened, reader, now)
    facts = seen.facts
    against = [*facts.ingest_findings, *facts.path_findings, *facts.twin_findings]
    if facts.proof is not None:
        against += [finding for finding in facts.proof.findings if finding.reason not in _SHOWN]
    if seen.scan is not None:
        against += findings.find_writers(seen.scan, [os.fsencode(run.leaf)])
    if against:
        raise NotComparable(against[0])
    if seen.scan is None or seen.listing is None:
        missing = [] if facts.proof is None else [each for each in facts.proof.findings if each.reason in _SHOWN]
        raise NotComparable(next(iter(missing), Finding(Reason.NOT_COMPARED, "it is not verified yet")))
    return seen


def _compare(
    run: Run,
    opened: OpenRun,
    reader: Reader,
    now: datetime,
    planned: Callable[[int], None],
    progress: Callable[[int], None],
) -> ByteAnswer:
    seen = look_at(run, opened, reader, now)
    assert seen.scan is not None and seen.listing is not None  # noqa: S101
    files = seen.scan.data_files
    size = sum(entry.size for entry in files)
    wanted = [entry.path for entry in files]
    planned(size + sum(seen.listing.files[path].size for path in wanted if path in seen.listing.files))
    with BothSides(opened.run, files, progress) as sides:
        listing = sides.listing(reader, twin_of(run).path)
        staged = _staged_digests(sides)
    # Compare names and times once more: what changed during the reading was not compared.
    after = look_at(run, opened, reader, now)
    assert after.scan is not None and after.listing is not None  # noqa: S101
    evidence = accepted_bytes.evidence(run, after.scan, after.listed, after.listing)
    if {accepted_bytes.evidence(run, seen.scan, seen.listed, each) for each in (seen.listing, listing)} != {evidence}:
        raise NotComparable(Finding(Reason.CHANGED_SINCE_VERIFICATION, "something was written while it was compared"))
    return _answer(seen, staged, listing, evidence)


def _staged_digests(sides: BothSides) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for entry, digest, is_still_there in sides.staged():
        if not is_still_there:
            raise NotComparable(Finding(Reason.CHANGED_SINCE_VERIFICATION, show(entry.path)))
        found[entry.path] = digest
    return found


def _answer(seen: Look, staged: Mapping[bytes, bytes], listing: client.Listing, evidence: str) -> ByteAnswer:
    assert seen.scan is not None  # noqa: S101
    there = {path: twin.digest for path, twin in listing.files.items() if twin.digest}
    files = seen.scan.data_files
    listed = seen.listed.digests_of(staged.keys()) if seen.listed else {}
    differing = sorted(path for path in staged if staged[path] != there.get(path))
    alike = staged.keys() - set(differing)
    against = sorted(path for path in alike if listed and staged[path] != listed.get(path))
    missing, gone = 0, list[bytes]()
    if seen.listed:
        missing, gone = findings.missing_files(seen.listed, staged, seen.scan.desktop, named=NAMED)
    manifest = next((each.reason for each in seen.facts.tree_findings if each.reason in _NO_MANIFEST), "")
    outcome = Outcome.AS_MANIFEST
    if differing:
        outcome = Outcome.DIFFERENT
    elif against or missing or (manifest and not seen.by_signature):
        outcome = Outcome.ALIKE
    named = [{"path": show(path), "case": _case(staged[path], there.get(path), listed.get(path))} for path in differing]
    named += [{"path": show(path), "case": "changed" if path in listed else "added"} for path in against]
    named += [{"path": show(path), "case": "only_on_nas" if path in listing.files else "nowhere"} for path in gone]
    return ByteAnswer(
        outcome=outcome,
        files=len(files),
        bytes=sum(entry.size for entry in files),
        differing=len(differing),
        against=len(against),
        missing=missing,
        named=named[:NAMED],
        manifest=str(manifest),
        manifest_sha256=seen.listed.sha256 if seen.listed else "",
        digest=accepted_bytes.digest(files, staged),
        evidence=evidence,
    )


def _case(staged: bytes, there: bytes | None, listed: bytes | None) -> str:
    if there is None:
        return "not_on_nas"
    if listed == staged:
        return "nas_differs"
    return "staging_differs" if listed == there else "both_differ"
