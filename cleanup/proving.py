"""The proof: does the NAS hold every byte of a run, and is what was shown of late still true.

Nothing here decides. A comparison ends in `ProofFacts` with findings or without; `policy.gates` does the rest.
"""

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from django.conf import settings
from django.utils import timezone

from cleanup.models import NasBreaker, Proof, Run, StagingRoot
from cleanup.policy.gates import Finding, ProofFacts
from cleanup.policy.reasons import Reason
from cleanup.policy.retention import ProofLevel
from cleanup.staging import hashing, manifest, nas, tree
from cleanup.staging.layout import Problem, show

T = TypeVar("T")

NAMES_SHOWN = 3
# How long a proof may be used again while nothing on either side has changed.
PROOF_MAX_AGE = timedelta(hours=24)
# A file that is changed again within the grain of its filesystem's clock keeps its time.
_GRAIN = timedelta(seconds=2)
# How long nobody asks a NAS that hung, or that answered with an error so many times in a row.
_BREAKER_PAUSE = timedelta(minutes=5)
_BREAKER_FAILURES = 3
NOT_ASKED = "it is not asked again for five minutes"


class Reader(Protocol):
    """Whoever can say what the NAS holds of a run: `nas.NasReader`, or one behind a breaker."""

    @property
    def given_up(self) -> bool: ...

    def read(self, run_path: str, *, with_bytes: bool, progress: Callable[[int], None] = ...) -> nas.Listing: ...

    def tell(self, run_path: str, history: list[dict[str, Any]], attempt: str) -> bool: ...


class GuardedReader:
    """A reader of one NAS root behind the breaker that all processes share.

    A NAS that hung, or that answered with an error three times in a row, is not asked again for five minutes; any
    other answer of it, a refusal as well, closes the breaker. While it is open every call raises NasError at once.
    """

    def __init__(self, reader: Reader, token: str) -> None:
        self._reader = reader
        self._key = {"host": settings.EXLAB_HOST, "token": token}
        self._breaker: NasBreaker | None = None

    @property
    def given_up(self) -> bool:
        return self._reader.given_up

    def read(
        self, run_path: str, *, with_bytes: bool, progress: Callable[[int], None] = lambda size: None
    ) -> nas.Listing:
        """As `nas.NasReader.read`."""
        return self._guarded(lambda: self._reader.read(run_path, with_bytes=with_bytes, progress=progress))

    def tell(self, run_path: str, history: list[dict[str, Any]], attempt: str) -> bool:
        """As `nas.NasReader.tell`."""
        return self._guarded(lambda: self._reader.tell(run_path, history, attempt))

    def _guarded(self, ask: Callable[[], T]) -> T:
        if self._reader.given_up:  # it would only repeat itself
            raise nas.NasError(Problem(Reason.NAS_TIMEOUT, "it did not answer earlier in this pass"))
        breaker = self._state()
        if breaker.open_until is not None and timezone.now() < breaker.open_until:
            # No instant: what discovery stores of this must not be new with every pass.
            raise nas.NasError(Problem(breaker.reason, f"{breaker.detail}; {NOT_ASKED}"))
        try:
            answer = ask()
        except nas.NasError as error:
            self._note(error.problem if error.ill else None)
            raise
        self._note(None)
        return answer

    def _state(self) -> NasBreaker:
        if self._breaker is None:
            self._breaker = NasBreaker.objects.filter(**self._key).first() or NasBreaker(**self._key)
        return self._breaker

    def _note(self, problem: Problem | None) -> None:
        """Count a failure, or forget those before a good answer. Writes only what has changed."""
        breaker = self._state()
        if problem is None:
            if breaker.failures:
                breaker.failures, breaker.open_until, breaker.since = 0, None, None
                self._save(breaker)
            return
        breaker.failures += 1
        breaker.since = breaker.since or timezone.now()
        breaker.reason, breaker.detail = problem.reason, problem.detail[:400]
        if problem.reason == Reason.NAS_TIMEOUT or breaker.failures >= _BREAKER_FAILURES:
            breaker.open_until = timezone.now() + _BREAKER_PAUSE
        self._save(breaker)

    def _save(self, breaker: NasBreaker) -> None:
        values = {name: getattr(breaker, name) for name in ("failures", "since", "open_until", "reason", "detail")}
        NasBreaker.objects.update_or_create(**self._key, defaults=values)


@contextlib.contextmanager
def reader_for(root: StagingRoot) -> Iterator[Reader]:
    """A process that reads the NAS root of a staging root, behind its breaker."""
    with nas.NasReader(root.nas_path, root.nas_token, timeout=settings.EXLAB_NAS_TIMEOUT) as reader:
        yield GuardedReader(reader, root.nas_token)


@dataclass(frozen=True)
class Compared:
    """A comparison: what it showed, and the NAS listing that it was made with (None if there was none).

    `missing` and `other_size` count the staged data files that the NAS has not, or has in another size.
    """

    proof: ProofFacts
    listing: nas.Listing | None = None
    missing: int = 0
    other_size: int = 0


def compare_names(run: Run, scanned: tree.Scan, reader: Reader, listed: manifest.Manifest | None) -> Compared:
    """Whether the NAS holds every data file, by name and size. Level `size`."""
    return _compare(run, scanned, reader, listed, with_bytes=False, progress=lambda size: None)


def compare_bytes(
    run: Run,
    opened: int,
    scanned: tree.Scan,
    listed: manifest.Manifest,
    reader: Reader,
    progress: Callable[[int], None],
) -> Compared:
    """Read every staged byte and every byte on the NAS again, and compare both with the manifest. Level `checksum`.

    `opened` is the run's descriptor; `progress` is told the bytes read on either side since it was last told.
    """
    compared = _compare(run, scanned, reader, listed, with_bytes=True, progress=progress)
    proof, listing = replace(compared.proof, level=ProofLevel.CHECKSUM), compared.listing
    if proof.findings or listing is None:
        return Compared(proof, listing)
    wrong = [
        f"{show(entry.path)} on the NAS"
        for entry in scanned.data_files
        if listing.files[entry.path].digest != listed.entries.get(entry.path)
    ]
    for batch in hashing.batches(scanned.data_files):
        try:
            wrong += _staged_differences(opened, batch, listed, progress)
        except OSError as error:
            name = f"{error.filename}: " if isinstance(error.filename, str) else ""
            reason = Reason.PERMISSION_DENIED if error.errno == errno.EACCES else Reason.STAGING_IO_ERROR
            finding = Finding(reason, f"{name}{os.strerror(error.errno or 0)}")
            return Compared(replace(proof, findings=(finding,)), listing)
    if wrong:
        finding = Finding(Reason.NAS_CHECKSUM_MISMATCH, name_some(wrong))
        return Compared(replace(proof, findings=(finding,)), listing)
    return Compared(proof, listing)


def _staged_differences(
    opened: int, batch: list[tree.Entry], listed: manifest.Manifest, progress: Callable[[int], None]
) -> list[str]:
    """The files of one batch whose staged bytes are not what the manifest says."""
    hashed = hashing.hash_batch(opened, [entry.path for entry in batch], beat=progress)
    return [
        f"{show(entry.path)} in staging"
        for entry, (digest, status) in zip(batch, hashed, strict=True)
        if digest != listed.entries.get(entry.path) or (status.ino, status.size) != (entry.ino, entry.size)
    ]


def _compare(
    run: Run,
    scanned: tree.Scan,
    reader: Reader,
    listed: manifest.Manifest | None,
    *,
    with_bytes: bool,
    progress: Callable[[int], None],
) -> Compared:
    files = scanned.data_files
    proof = ProofFacts(
        level=ProofLevel.SIZE,
        files=len(files),
        bytes=tree.count(files).bytes,
        manifest_sha256=listed.sha256 if listed else "",
    )
    if not run.root.nas_path:
        return Compared(replace(proof, findings=(Finding(Reason.NAS_NOT_CONFIGURED),)))
    try:
        listing = reader.read(run.run_path, with_bytes=with_bytes, progress=progress)
    except nas.NasError as error:
        problem = error.problem
        return Compared(replace(proof, findings=(Finding(Reason(problem.reason), problem.detail),)))
    missing = [entry for entry in files if entry.path not in listing.files]
    other = [entry for entry in files if entry.path in listing.files and listing.files[entry.path].size != entry.size]
    findings = [*_same_filesystem(run, scanned.device, files, listing)]
    for reason, entries in ((Reason.NAS_MISSING_FILE, missing), (Reason.NAS_SIZE_MISMATCH, other)):
        if entries:
            names = name_some([show(entry.path) for entry in entries])
            findings.append(Finding(reason, f"{len(entries)} of {len(files)}: {names}"))
    return Compared(replace(proof, findings=tuple(findings)), listing, len(missing), len(other))


def _same_filesystem(run: Run, device: int, files: Iterable[tree.Entry], listing: nas.Listing) -> Iterator[Finding]:
    if listing.device == device:
        if not run.root.allow_same_filesystem:
            yield Finding(Reason.NAS_SAME_FILESYSTEM)
        one = [entry for entry in files if entry.path in listing.files and listing.files[entry.path].ino == entry.ino]
        if one:
            names = name_some([show(entry.path) for entry in one])
            yield Finding(Reason.NAS_SAME_FILESYSTEM, f"the very same file: {names}")


def changed_on_nas(run: Run, before: nas.Listing, files: Iterable[tree.Entry], reader: Reader) -> Finding | None:
    """What keeps the NAS listing of a comparison from being true now, asked again just before the commit.

    `files` are the data files that the plan removes; more files on the NAS than those are no matter.
    """
    try:
        now = reader.read(run.run_path, with_bytes=False)
    except nas.NasError as error:
        return Finding(Reason(error.problem.reason), error.problem.detail)
    if now.device != before.device:
        return Finding(Reason.NOT_COMPARED, "another filesystem is mounted there since it was compared")
    paths = [entry.path for entry in files]
    missing = [show(path) for path in paths if path not in now.files]
    if missing:
        return Finding(Reason.NAS_MISSING_FILE, f"gone since it was compared: {name_some(missing)}")
    changed = [show(path) for path in paths if _marks(now.files[path]) != _marks(before.files[path])]
    if changed:
        return Finding(Reason.NOT_COMPARED, f"changed on the NAS since it was compared: {name_some(changed)}")
    return None


def _marks(twin: nas.Twin) -> tuple[int, int, int]:
    """What tells that a file on the NAS has changed."""
    return twin.ino, twin.size, twin.mtime_ns


def evidence(run: Run, scanned: tree.Scan, listed: manifest.Manifest, listing: nas.Listing, at: datetime) -> str:
    """The digest of everything by which a change on either side would show; empty if no later look could be sure.

    The staged entries' inode, size, mtime and ctime, the NAS files' inode, size and mtime, the manifest's digest, and
    which roots they are. Not sure: a file on the NAS that was written a moment before it was read.
    """
    twins = [(entry.path, listing.files[entry.path]) for entry in scanned.data_files if entry.path in listing.files]
    newest = max((twin.mtime_ns for _path, twin in twins), default=0)
    if newest >= (at - _GRAIN).timestamp() * 1e9:
        return ""
    seen = hashlib.sha256()
    seen.update(repr((run.root.token, run.root.nas_token, run.run_path, scanned.ino, listed.sha256)).encode())
    for entry in sorted(scanned.entries, key=lambda entry: entry.path):
        marks = (entry.path, entry.is_file, entry.ino, entry.size, entry.mtime_ns, entry.ctime_ns)
        seen.update(repr(marks).encode())
    for path, twin in sorted(twins, key=lambda pair: pair[0]):
        seen.update(repr((path, *_marks(twin))).encode())
    return seen.hexdigest()


def reusable(run: Run, found: str, now: datetime) -> Proof | None:
    """The newest proof by checksum with this evidence, a day old at the most. None: read it all anew."""
    if not found:
        return None
    by_bytes = run.proofs.filter(level=ProofLevel.CHECKSUM, evidence=found)
    return by_bytes.filter(at__gt=now - PROOF_MAX_AGE, at__lte=now).order_by("-at").first()


def keep(run: Run, proof: ProofFacts, level: ProofLevel, evidence: str, now: datetime) -> Proof:
    """Write down a proof that was made now; at `record` it says that nothing was compared but the record."""
    return Proof.objects.create(
        run=run,
        level=level,
        at=now,
        host=settings.EXLAB_HOST,
        files=proof.files,
        bytes=proof.bytes,
        manifest_sha256=proof.manifest_sha256,
        evidence=evidence,
    )


def name_some(names: list[str]) -> str:
    """The first few of many names, with the number of the others."""
    shown = ", ".join(name for name in names[:NAMES_SHOWN] if name)
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"
