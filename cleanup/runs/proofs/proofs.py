"""The proof: whether the NAS holds every byte of a run, and still does. The gates decide by its findings."""

import errno
import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator
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
from cleanup.runs.proofs.digests import DigestsSoFar
from cleanup.storage import hash_pool, linux, run_paths
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
    return _compare(
        run, scanned, reader, listed, staging=staging, with_bytes=False, recent=recent, progress=lambda size: None
    )


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
    """Read every byte on both sides and compare it with the manifest: level `checksum`.

    Without a manifest the sides are compared with each other. `progress` gets the bytes read since its last call.
    `so_far`: digests of an interrupted reading, which are not read again if it was made with the `evidence` that is
    `vouched`; both sides must still show that. New digests are noted there in any case.
    """
    goes_on = so_far if vouched else None
    compared = _compare(
        run, scanned, reader, listed, staging=staging, with_bytes=True, recent=False, progress=progress, so_far=goes_on
    )
    compared = _only_as_vouched(compared, vouched, run, scanned, listed)
    _note(compared.listing, so_far)
    proof, listing = replace(compared.proof, level=ProofLevel.CHECKSUM), compared.listing
    if proof.findings or listing is None:
        return Compared(proof, listing)
    files = scanned.data_files
    expected = _expected(files, listed, listing)
    wrong = _nas_differences(files, listing, expected)
    try:
        wrong += _staged_differences(opened, files, expected, progress, so_far, goes_on=bool(vouched))
    except OSError as error:
        return Compared(replace(proof, findings=(_unreadable(error),)), listing)
    if wrong:
        finding = Finding(Reason.NAS_CHECKSUM_MISMATCH, name_some(wrong))
        return Compared(replace(proof, findings=(finding,)), listing)
    return Compared(proof, listing)


def _nas_differences(
    files: list[run_tree.Entry], listing: client.Listing, expected: Callable[[bytes], bytes | None]
) -> list[str]:
    return [
        f"{show(entry.path)} on the NAS"
        for entry in files
        if not expected(entry.path) or listing.files[entry.path].digest != expected(entry.path)
    ]


def _unreadable(error: OSError) -> Finding:
    name = f"{error.filename}: " if isinstance(error.filename, str) else ""
    reason = Reason.PERMISSION_DENIED if error.errno == errno.EACCES else Reason.STAGING_IO_ERROR
    return Finding(reason, f"{name}{os.strerror(error.errno or 0)}")


def _expected(
    files: Collection[run_tree.Entry], listed: manifest.Manifest | None, listing: client.Listing
) -> Callable[[bytes], bytes | None]:
    # Where the manifest agrees with the NAS, one copy of the digests is enough.
    paths = {entry.path for entry in files}
    if listed is None or _agree(listed, listing, paths):
        return lambda path: listing.files[path].digest
    return listed.digests_of(paths).get


def _agree(listed: manifest.Manifest, listing: client.Listing, paths: Collection[bytes]) -> bool:
    equal = (listing.files[path].digest == digest for path, digest in listed.items() if path in paths)
    return sum(equal) == len(paths)


def _staged_differences(
    opened: int,
    files: list[run_tree.Entry],
    expected: Callable[[bytes], bytes | None],
    progress: Callable[[int], None],
    so_far: DigestsSoFar | None,
    *,
    goes_on: bool,
) -> list[str]:
    found: list[str] = []
    if so_far is not None and goes_on:
        known = {entry.path: digest for entry in files if (digest := so_far.of(entry.path)[0])}
        found += [f"{show(path)} in staging" for path, digest in known.items() if digest != expected(path)]
        files = [entry for entry in files if entry.path not in known]

    def take(entry: run_tree.Entry, digest: bytes, status: linux.FileStatus) -> None:
        if so_far is not None:
            so_far.note_staged(entry.path, digest)
        if digest != expected(entry.path) or (status.ino, status.size) != (entry.ino, entry.size):
            found.append(f"{show(entry.path)} in staging")

    hash_pool.hash_all(opened, files, take, beat=progress)
    return found


def _compare(
    run: Run,
    scanned: run_tree.Scan,
    reader: Reader,
    listed: manifest.Manifest | None,
    *,
    staging: int,
    with_bytes: bool,
    recent: bool,
    progress: Callable[[int], None],
    so_far: DigestsSoFar | None = None,
) -> Compared:
    files = scanned.data_files
    proof = ProofFacts(
        level=ProofLevel.SIZE,
        files=len(files),
        bytes=run_tree.count(files).bytes,
        manifest_sha256=listed.sha256 if listed else "",
    )
    twin = twin_of(run)
    if not twin.root.path:
        return Compared(replace(proof, findings=(Finding(Reason.NAS_NOT_CONFIGURED),)))
    try:
        known = {entry.path: digest for entry in files if so_far and (digest := so_far.of(entry.path)[1])}
        wanted = [entry.path for entry in files if entry.path not in known]
        listing = reader.read(twin.path, with_bytes=with_bytes, recent=recent, wanted=wanted, progress=progress)
    except client.NasError as error:
        problem = with_way_out(run, error.problem)
        return Compared(replace(proof, findings=(Finding(Reason(problem.reason), problem.detail),)))
    _take_over(listing, known)
    missing = [entry for entry in files if entry.path not in listing.files]
    other = [entry for entry in files if entry.path in listing.files and listing.files[entry.path].size != entry.size]
    findings = [*two_places.findings(run.root, staging, listing.place)]
    findings += _same_filesystem(run, scanned.device, files, listing, known={found.reason for found in findings})
    for reason, entries in ((Reason.NAS_MISSING_FILE, missing), (Reason.NAS_SIZE_MISMATCH, other)):
        if entries:
            names = name_some([show(entry.path) for entry in entries])
            findings.append(Finding(reason, f"{len(entries)} of {len(files)}: {names}"))
    return Compared(replace(proof, findings=tuple(findings)), listing, len(missing), len(other))


def _take_over(listing: client.Listing, known: dict[bytes, bytes]) -> None:
    for path, digest in known.items():
        if path in listing.files:
            listing.files[path] = replace(listing.files[path], digest=digest)


def _note(listing: client.Listing | None, so_far: DigestsSoFar | None) -> None:
    for path, twin in listing.files.items() if listing else ():
        if twin.digest is not None and so_far is not None:
            so_far.note_nas(path, twin.digest)


def _only_as_vouched(
    compared: Compared, vouched: str, run: Run, scanned: run_tree.Scan, listed: manifest.Manifest | None
) -> Compared:
    # Digests read earlier say nothing of a file that was written since.
    if not vouched or compared.listing is None or vouched == _full_digest(run, scanned, listed, compared.listing):
        return compared
    finding = Finding(Reason.NOT_COMPARED, "a side has changed since its reading was interrupted")
    return replace(compared, proof=replace(compared.proof, findings=(*compared.proof.findings, finding)))


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
    run: Run, before: client.Listing, files: Iterable[run_tree.Entry], reader: Reader, *, staging: int
) -> Finding | Renumbered | None:
    """Return what has changed on the NAS since a comparison; `files` are the plan's.

    Also checks through `staging` that the NAS is a second place.
    """
    paths = [entry.path for entry in files]
    try:
        now = reader.read(twin_of(run).path, with_bytes=False, wanted=paths)
    except client.NasError as error:
        return Finding(Reason(error.problem.reason), error.problem.detail)
    if one_place := next(two_places.findings(run.root, staging, now.place), None):
        return one_place
    if (now.device, now.place.mounting) != (before.device, before.place.mounting):
        return Finding(Reason.NOT_COMPARED, "another filesystem is mounted there since it was compared")
    missing = [show(path) for path in paths if path not in now.files]
    if missing:
        return Finding(Reason.NAS_MISSING_FILE, f"gone since it was compared: {name_some(missing)}")
    known = 0 if keeps_inodes(now.place) and keeps_inodes(before.place) else 1
    changed = [path for path in paths if _marks(now.files[path])[known:] != _marks(before.files[path])[known:]]
    if changed:
        names = name_some([show(path) for path in changed])
        return Finding(Reason.NOT_COMPARED, f"changed on the NAS since it was compared: {names}")
    rewritten = [path for path in paths if now.files[path].ctime_ns != before.files[path].ctime_ns]
    renumbered = [path for path in paths if now.files[path].ino != before.files[path].ino]
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
    newest = max((listing.files[path].mtime_ns for path in _on_both(scanned, listing)), default=0)
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
    twins = (listing.files[path] for path in _on_both(scanned, listing))
    return any(first <= twin.mtime_ns / 1e9 <= last for twin in twins)


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
    for entry in sorted(scanned.compared, key=lambda entry: entry.path):
        # Each lock that comes or goes changes this folder's time; its entries are compared themselves.
        times = () if entry.path == run_paths.METADATA else (entry.mtime_ns, entry.ctime_ns)
        seen.update(repr((entry.path, entry.is_file, entry.ino, entry.size, *times)).encode())
    for path in sorted(_on_both(scanned, listing)):
        seen.update(repr((path, *marks(listing.files[path]))).encode())
    return seen.hexdigest()


def _on_both(scanned: run_tree.Scan, listing: client.Listing) -> Iterator[bytes]:
    return (entry.path for entry in scanned.data_files if entry.path in listing.files)


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
    return Proof.objects.create(
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
