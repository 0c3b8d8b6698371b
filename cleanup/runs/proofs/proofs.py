"""The proof: whether the NAS holds every byte of a run, and still does. The gates decide by its findings."""

import errno
import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.db.models import Exists

from cleanup.lab.nas.nas_roots import twin_of, with_way_out
from cleanup.lab.nas.nas_transport import Reader
from cleanup.lab.roots import two_places
from cleanup.models import Difference, Proof, Run
from cleanup.rules.facts import Finding, ProofFacts
from cleanup.rules.policies.policy import ProofLevel
from cleanup.rules.reasons import Reason
from cleanup.runs.proofs.both_sides import BothSides
from cleanup.runs.proofs.digests import DigestsSoFar
from cleanup.storage import run_paths
from cleanup.storage.mounts.inode_kinds import keeps_inodes
from cleanup.storage.mounts.places import Place
from cleanup.storage.nas import client
from cleanup.storage.run_paths import show
from cleanup.storage.staging import manifest, run_tree

NAMES_SHOWN = 3
# How long a proof may be reused while neither side changes.
PROOF_MAX_AGE = timedelta(hours=24)
# A second change within the grain of the filesystem's clock leaves the time as it is.
_GRAIN = timedelta(seconds=2)


@dataclass(frozen=True)
class Compared:
    """A comparison, and the NAS listing behind it.

    `missing` and `other_size` count staged data files.
    """

    proof: ProofFacts
    listing: client.Listing | None = None
    missing: int = 0
    other_size: int = 0


def compare_names(
    run: Run,
    scanned: run_tree.Scan,
    reader: Reader,
    listed: manifest.Manifest | None,
    *,
    staging: int,
    recent: bool = False,
) -> Compared:
    """Compare every data file with the NAS by name and size: level `size`.

    `staging` is the open root; `recent` as for `nas.NasReader.read`.
    """
    files = scanned.data_files

    def ask(twin: str) -> client.Listing:
        return reader.read(twin, with_bytes=False, recent=recent, wanted=files.paths)

    return _compare(run, scanned, files, ask, listed, staging=staging)


def compare_bytes(
    run: Run,
    opened: int,
    scanned: run_tree.Scan,
    listed: manifest.Manifest | None,
    reader: Reader,
    progress: Callable[[int], None],
    *,
    staging: int,
    so_far: DigestsSoFar | None = None,
    vouched: str = "",
    pace: int = 0,
) -> Compared:
    """Read every byte on both sides, at once, and compare it with the manifest: level `checksum`.

    Without a manifest the sides are compared with each other. `progress` gets the bytes read since its last call; what
    it raises ends the reading. `pace`: bytes a second read on the NAS at most, 0: no limit.

    `so_far`: digests of an interrupted reading, which are not read again if it was made with the `evidence` that is
    `vouched`; both sides must still show that. New digests are noted there in any case.
    """
    files = scanned.data_files
    with BothSides(opened, files, progress, so_far=so_far, goes_on=bool(vouched), pace=pace) as sides:
        compared = _compare(run, scanned, files, lambda twin: sides.listing(reader, twin), listed, staging=staging)
        compared = _only_as_vouched(compared, vouched, run, scanned, listed) if so_far is not None else compared
        proof, listing = replace(compared.proof, level=ProofLevel.CHECKSUM), compared.listing
        if proof.findings or listing is None:
            return Compared(proof, listing)
        expected = _expected(files, listed, listing)
        try:
            wrong = _nas_differences(files, listing, expected) + _staged_differences(sides, expected)
        except OSError as error:
            return Compared(replace(proof, findings=(_unreadable(error),)), listing)
    if wrong:
        finding = Finding(Reason.NAS_CHECKSUM_MISMATCH, name_some(wrong))
        return Compared(replace(proof, findings=(finding,)), listing)
    return Compared(proof, listing)


def _only_as_vouched(
    compared: Compared, vouched: str, run: Run, scanned: run_tree.Scan, listed: manifest.Manifest | None
) -> Compared:
    # Digests read earlier say nothing of a file that was written since.
    if not vouched or compared.listing is None or vouched == _full_digest(run, scanned, listed, compared.listing):
        return compared
    finding = Finding(Reason.NOT_COMPARED, "a side has changed since its reading was interrupted")
    return replace(compared, proof=replace(compared.proof, findings=(*compared.proof.findings, finding)))


def _nas_differences(
    files: Sequence[run_tree.Entry], listing: client.Listing, expected: Callable[[bytes], bytes | None]
) -> list[str]:
    return [
        f"{show(entry.path)} on the NAS"
        for entry in files
        if not expected(entry.path) or listing.files[entry.path].digest != expected(entry.path)
    ]


def _staged_differences(sides: BothSides, expected: Callable[[bytes], bytes | None]) -> list[str]:
    return [
        f"{show(entry.path)} in staging"
        for entry, digest, is_still_there in sides.staged()
        if digest != expected(entry.path) or not is_still_there
    ]


def _unreadable(error: OSError) -> Finding:
    name = f"{error.filename}: " if isinstance(error.filename, str) else ""
    reason = Reason.PERMISSION_DENIED if error.errno == errno.EACCES else Reason.STAGING_IO_ERROR
    return Finding(reason, f"{name}{os.strerror(error.errno or 0)}")


def _expected(
    files: run_tree.ChosenEntries, listed: manifest.Manifest | None, listing: client.Listing
) -> Callable[[bytes], bytes | None]:
    # Where the manifest agrees with the NAS, one copy of the digests is enough.
    paths = files.paths
    if listed is None or _agree(listed, listing, paths):
        return lambda path: listing.files[path].digest
    return listed.digests_of(paths).get


def _agree(listed: manifest.Manifest, listing: client.Listing, paths: Collection[bytes]) -> bool:
    equal = (listing.files[path].digest == digest for path, digest in listed.items() if path in paths)
    return sum(equal) == len(paths)


def _compare(
    run: Run,
    scanned: run_tree.Scan,
    files: Sequence[run_tree.Entry],
    ask: Callable[[str], client.Listing],
    listed: manifest.Manifest | None,
    *,
    staging: int,
) -> Compared:
    proof = ProofFacts(
        level=ProofLevel.SIZE,
        files=len(files),
        bytes=scanned.totals.data.bytes,
        manifest_sha256=listed.sha256 if listed else "",
    )
    twin = twin_of(run)
    if not twin.root.path:
        return Compared(replace(proof, findings=(Finding(Reason.NAS_NOT_CONFIGURED),)))
    try:
        listing = ask(twin.path)
    except client.NasError as error:
        problem = with_way_out(run, error.problem)
        return Compared(replace(proof, findings=(Finding(Reason(problem.reason), problem.detail),)))
    missing, other = [], []
    for entry in files:
        if (file := listing.files.get(entry.path)) is None:
            missing.append(entry)
        elif file.size != entry.size:
            other.append(entry)
    findings = [*two_places.findings(run.root, staging, listing.place)]
    findings += _same_filesystem(run, scanned.device, files, listing, known={found.reason for found in findings})
    for reason, entries in ((Reason.NAS_MISSING_FILE, missing), (Reason.NAS_SIZE_MISMATCH, other)):
        if entries:
            names = name_some([show(entry.path) for entry in entries])
            findings.append(Finding(reason, f"{len(entries)} of {len(files)}: {names}"))
    return Compared(replace(proof, findings=tuple(findings)), listing, len(missing), len(other))


def _same_filesystem(
    run: Run, device: int, files: Iterable[run_tree.Entry], listing: client.Listing, *, known: Collection[Reason]
) -> Iterator[Finding]:
    if listing.device == device:
        if not run.root.allow_same_filesystem and Reason.NAS_SAME_FILESYSTEM not in known:
            yield Finding(Reason.NAS_SAME_FILESYSTEM)
        one = [entry for entry in files if entry.path in listing.files and listing.files[entry.path].ino == entry.ino]
        if one:
            names = name_some([show(entry.path) for entry in one])
            yield Finding(Reason.NAS_SAME_FILESYSTEM, f"the very same file: {names}")


class Renumbered(NamedTuple):
    """Files of a twin with the same size and time that may have changed.

    `paths`: another inode number, on a mount that need not keep them. `rewritten`: another ctime.
    """

    paths: frozenset[bytes]
    rewritten: tuple[str, ...]


def changed_on_nas(
    run: Run, before: client.Listing, files: run_tree.ChosenEntries, reader: Reader, *, staging: int
) -> Finding | Renumbered | None:
    """Return what has changed on the NAS since a comparison; `files` are the plan's.

    Also checks through `staging` that the NAS is a second place.
    """
    try:
        now = reader.read(twin_of(run).path, with_bytes=False, wanted=files.paths)
    except client.NasError as error:
        return Finding(Reason(error.problem.reason), error.problem.detail)
    if one_place := next(two_places.findings(run.root, staging, now.place), None):
        return one_place
    if (now.device, now.place.mounting) != (before.device, before.place.mounting):
        return Finding(Reason.NOT_COMPARED, "another filesystem is mounted there since it was compared")
    return _changes(before, now, files)


def _changes(before: client.Listing, now: client.Listing, files: run_tree.ChosenEntries) -> Finding | Renumbered | None:
    known = 0 if keeps_inodes(now.place) and keeps_inodes(before.place) else 1
    missing, changed, rewritten, renumbered = list[bytes](), list[bytes](), list[bytes](), list[bytes]()
    for path in files.paths:
        seen, old = now.files.get(path), before.files[path]
        if seen is None:
            missing.append(path)
        elif _marks(seen)[known:] != _marks(old)[known:]:
            changed.append(path)
        else:
            rewritten += [path] if seen.ctime_ns != old.ctime_ns else []
            renumbered += [path] if seen.ino != old.ino else []
    if missing:
        return Finding(Reason.NAS_MISSING_FILE, f"gone since it was compared: {name_some(list(map(show, missing)))}")
    if changed:
        names = name_some(list(map(show, changed)))
        return Finding(Reason.NOT_COMPARED, f"changed on the NAS since it was compared: {names}")
    if not rewritten and not renumbered:
        return None
    return Renumbered(frozenset(renumbered), tuple(map(show, rewritten)))


def _marks(twin: client.TwinFile) -> tuple[int, int, int]:
    return twin.ino, twin.size, twin.mtime_ns


def evidence(
    run: Run, scanned: run_tree.Scan, listed: manifest.Manifest | None, listing: client.Listing, at: datetime
) -> str:
    """Return a digest that changes with either side; empty if a NAS file was just written.

    It covers the staged entries without locks, NAS files, manifest, roots, and the NAS mount: another disk may have
    equal inodes and times.
    """
    newest = max((twin.mtime_ns for _, twin in _on_both(scanned.data_files, listing)), default=0)
    if newest >= (at - _GRAIN).timestamp() * 1e9:
        return ""
    return _full_digest(run, scanned, listed, listing)


def _full_digest(run: Run, scanned: run_tree.Scan, listed: manifest.Manifest | None, listing: client.Listing) -> str:
    mounted = map(_storage, listing.place.all_beneath())
    return _digest(run, scanned, listed, listing, mounted, lambda twin: (*_marks(twin), twin.ctime_ns))


def lasting_evidence(
    run: Run, scanned: run_tree.Scan, listed: manifest.Manifest | None, listing: client.Listing
) -> str:
    """Return a weaker `evidence`, for a difference (which only keeps a run) and accepted bytes.

    Without the mount, so that a damaged disk may come back, and without unstable inode numbers.
    """
    numbered = keeps_inodes(listing.place)

    def marks(twin: client.TwinFile) -> tuple[int, ...]:
        return (twin.ino if numbered else 0, twin.size, twin.mtime_ns, twin.ctime_ns)

    return _digest(run, scanned, listed, listing, (), marks)


def written_between(scanned: run_tree.Scan, listing: client.Listing, since: datetime, until: datetime) -> bool:
    """Return whether a twin file is dated between two instants, within the clock's grain."""
    first, last = (since - _GRAIN).timestamp(), (until + _GRAIN).timestamp()
    return any(first <= twin.mtime_ns / 1e9 <= last for _, twin in _on_both(scanned.data_files, listing))


def _digest(
    run: Run,
    scanned: run_tree.Scan,
    listed: manifest.Manifest | None,
    listing: client.Listing,
    mounted: Iterable[object],
    marks: Callable[[client.TwinFile], tuple[int, ...]],
) -> str:
    seen = hashlib.sha256()
    place = twin_of(run)
    places = (run.root.token, place.root.token, run.run_path, place.path, scanned.ino, listed.sha256 if listed else "")
    seen.update(repr((*places, *mounted)).encode())
    for entry in scanned.compared.by_path():
        # Each lock that comes or goes changes this folder's time; its entries are compared themselves.
        times = () if entry.path == run_paths.METADATA else (entry.mtime_ns, entry.ctime_ns)
        seen.update(repr((entry.path, entry.is_file, entry.ino, entry.size, *times)).encode())
    for path, twin in _on_both(scanned.data_files.by_path(), listing):
        seen.update(repr((path, *marks(twin))).encode())
    return seen.hexdigest()


def _on_both(files: Iterable[run_tree.Entry], listing: client.Listing) -> Iterator[tuple[bytes, client.TwinFile]]:
    twins = ((entry.path, listing.files.get(entry.path)) for entry in files)
    return ((path, twin) for path, twin in twins if twin is not None)


def _storage(place: Place) -> tuple[object, ...]:
    return place.mount.fstype, place.mount.source, place.path, place.signs, place.mounting


def reusable(run: Run, found: str, now: datetime) -> Proof | None:
    """Return the newest proof with this evidence, at most a day old; None: read again.

    None after a difference, until all is equal: a restored time does not restore bytes.
    """
    if not found:
        return None
    differs = Difference.objects.filter(run=run)
    by_bytes = run.proofs.filter(~Exists(differs), level=ProofLevel.CHECKSUM, evidence=found, accepted=None)
    return by_bytes.filter(at__gt=now - PROOF_MAX_AGE, at__lte=now).order_by("-at").first()


def keep(run: Run, proof: ProofFacts, level: ProofLevel, evidence: str, now: datetime) -> Proof:
    """Write down a proof made now."""
    kept = made(run, proof, level, evidence, now)
    kept.save()
    return kept


def made(run: Run, proof: ProofFacts, level: ProofLevel, evidence: str, now: datetime) -> Proof:
    """Return a proof made now, unsaved."""
    return Proof(
        run=run,
        level=level,
        at=now,
        host=settings.EXLAB_HOST,
        files=proof.files,
        bytes=proof.bytes,
        manifest_sha256=proof.manifest_sha256,
        evidence=evidence,
        accepted_id=proof.accepted,
    )


def name_some(names: list[str]) -> str:
    """Return the first names, and the number of the others."""
    shown = ", ".join(name for name in names[:NAMES_SHOWN] if name)
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"
