"""Facts: what one run looks like on disk, in the database and on the NAS, ready for the gates.

A quick look compares names and sizes and is what pages and lists decide from, with its age. A full look re-reads every
byte where the policy asks for that; only a full look may authorise a clear.
"""

import contextlib
import errno
import heapq
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db.models import Prefetch, prefetch_related_objects

from cleanup import proving, readiness
from cleanup.models import ClearAttempt, Proof, Run, StagingRoot
from cleanup.policy.gates import (
    MAX_FAILURES,
    Decision,
    Facts,
    Finding,
    Held,
    LargeFile,
    ProofFacts,
    TwinFacts,
    evaluate,
)
from cleanup.policy.lifecycle import State, first_illegal_step
from cleanup.policy.reasons import Reason
from cleanup.policy.retention import Policy, ProofLevel, ScopedPolicy, effective_policy, verified_at
from cleanup.proving import NAMES_SHOWN, Reader, name_some
from cleanup.staging import holdfile, ingest, kernel, layout, manifest, nas, tree, writers
from cleanup.staging.datadir import DataDir
from cleanup.staging.holdfile import HoldFile
from cleanup.staging.layout import Problem, RunPath, UnsafePath, show

# The attribute of a run that holds what `look_up_failures` has found.
_LOOKED_UP = "last_failed"
_NOT_STORED = (
    "fresh",
    "other_attempt",
    "host_findings",
    "failures",
    "last_failure",
    "holds",
    "budget_finding",
    "breaker_finding",
)
# What people alone are shown: no gate asks for it, so it makes nothing about a run new.
ONLY_SHOWN = ("data_files", "data_bytes", "largest", "twin")
# So many of the largest files are kept, with so many characters of their paths.
LARGEST_SHOWN = 10
_LONGEST_PATH = 300
# A hold file that was taken away while we looked: it held then, and the next look sees that it does no more.
GONE_HOLD = HoldFile("", "")
# The end of the calendar as far as file times are concerned: with a zone's offset 9999 would overflow.
_LATEST = datetime(9990, 1, 1, tzinfo=UTC)


class Unreachable(Exception):
    """A run, or its root, cannot be opened: the finding that says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(f"{finding.reason}: {finding.detail}")
        self.finding = finding


@dataclass(frozen=True)
class OpenRun:
    """Descriptors of a staging root, a run's parent and the run itself, opened without following a link."""

    root: int
    parent: int
    run: int


@dataclass(frozen=True)
class Look:
    """One look at a run: the facts, and what a plan is made from.

    `listing` is what the NAS held, `evidence` what tells whether either side has changed since, and `reused` the
    earlier proof that this look relies on, if it does. `hold` is the run's hold file, if there is one.
    """

    facts: Facts
    scan: tree.Scan | None = None
    hold: HoldFile | None = None
    listed: manifest.Manifest | None = None
    record: bytes = b""
    listing: nas.Listing | None = None
    evidence: str = ""
    reused: Proof | None = None


def data_dir() -> DataDir:
    """The data directory of this host."""
    return DataDir(str(settings.EXLAB_DATA_DIR))


def reader_for(root: StagingRoot) -> contextlib.AbstractContextManager[Reader]:
    """A process that reads the NAS root of a staging root, behind the breaker of that NAS root."""
    return proving.reader_for(root)


@contextlib.contextmanager
def open_root(root: StagingRoot) -> Iterator[int]:
    """The staging root, if it is on this host, there, and the right one. Raises Unreachable, `root_not_mounted`."""
    if root.host != settings.EXLAB_HOST:
        raise Unreachable(Finding(Reason.ROOT_NOT_MOUNTED, f"it belongs to host {root.host}"))
    try:
        descriptor = layout.open_root(root.path)
    except OSError as error:
        raise Unreachable(Finding(Reason.ROOT_NOT_MOUNTED, os.strerror(error.errno or 0))) from None
    with layout.opened(descriptor):
        try:
            layout.check_token(descriptor, root.token)
        except layout.WrongToken as error:
            detail = f"it carries {error.found}" if error.found else "no token file at its top"
            raise Unreachable(Finding(Reason.ROOT_NOT_MOUNTED, detail)) from None
        except OSError as error:
            raise Unreachable(Finding(Reason.STAGING_IO_ERROR, os.strerror(error.errno or 0))) from None
        yield descriptor


@contextlib.contextmanager
def open_run(root: int, run_path: str, *, name: bytes | None = None) -> Iterator[OpenRun]:
    """A run beneath an open root; `name` stands in for its leaf where it has been fenced. Raises Unreachable."""
    try:
        path = layout.parse_run_path(run_path)
    except UnsafePath as error:
        raise Unreachable(Finding(Reason.UNSAFE_PATH, str(error))) from None
    with contextlib.ExitStack() as stack:
        try:
            parent = stack.enter_context(layout.opened(layout.open_beneath(root, path.parent)))
            run = stack.enter_context(layout.opened(layout.open_beneath(parent, name or os.fsencode(path.leaf))))
        except OSError as error:
            raise Unreachable(way_blocked(error)) from None
        yield OpenRun(root, parent, run)


@contextlib.contextmanager
def reached(run: Run) -> Iterator[tuple[OpenRun, Reader]]:
    """A run with its root and its NAS reader, for one look. Raises Unreachable."""
    with (
        open_root(run.root) as root,
        open_run(root, run.run_path) as opened,
        reader_for(run.root) as reader,
    ):
        yield opened, reader


def way_blocked(error: OSError) -> Finding:
    """The finding for an error met on the way to a run."""
    reasons = {
        errno.ENOENT: Reason.MISSING_DIRECTORY,
        errno.ELOOP: Reason.UNSAFE_PATH,
        errno.ENOTDIR: Reason.UNSAFE_PATH,
        errno.EXDEV: Reason.MOUNT_INSIDE,
        errno.EACCES: Reason.PERMISSION_DENIED,
        errno.EPERM: Reason.PERMISSION_DENIED,
    }
    return Finding(reasons.get(error.errno or 0, Reason.STAGING_IO_ERROR), os.strerror(error.errno or 0))


def read_ingest(opened: OpenRun, run_path: RunPath) -> tuple[ingest.Ingest, bytes]:
    """The run's record, accepted, and its bytes. Raises IngestError."""
    try:
        data = layout.read_file(opened.run, tree.INGEST_PATH, ingest.MAX_BYTES)
    except FileNotFoundError:
        raise ingest.IngestError("ingest_unreadable", "there is none") from None
    except OSError as error:
        raise ingest.IngestError("ingest_unreadable", os.strerror(error.errno or 0)) from None
    record = ingest.parse(data, run_path)
    illegal = first_illegal_step([State(entry.state) for entry in record.history])
    if illegal is not None:
        before = record.history[illegal - 1].state if illegal else "the beginning"
        detail = f"history entry {illegal + 1} says {record.history[illegal].state} after {before}"
        raise ingest.IngestError("ingest_disagrees", detail)
    return record, data


def identity(status: kernel.Status | tree.Scan, record: ingest.Ingest | None) -> str:
    """What a run's directory is known by: inode, birth time where there is one, and the first history entry."""
    first = record.history[0].digest[:32] if record else "-"
    return f"{status.ino}:{status.birth_ns or '-'}:{first}"


def same_identity(recorded: str, seen: str) -> bool:
    """Whether two identities are one run's; a part that is not known, written `-`, says nothing."""
    return all(
        "-" in (ours, theirs) or ours == theirs
        for ours, theirs in zip(recorded.split(":"), seen.split(":"), strict=True)
    )


def quick_look(run: Run, opened: OpenRun, reader: Reader, now: datetime) -> Look:
    """What can be seen of a run without reading its bytes: record, tree, manifest, and names and sizes on the NAS."""
    scanned = tree.scan(opened.run)
    record, data, ingest_findings = _compare_record(run, opened)
    known = _recorded(run)
    verified = verified_at(record.history) if record else known.verified_at
    path_findings = _findings(scanned.problems)
    if not same_identity(run.identity, identity(scanned, record)):
        path_findings += (Finding(Reason.IDENTITY_MISMATCH),)
    if not tree.may_write(opened.parent) or kernel.status(opened.parent).is_fixed:
        path_findings += (Finding(Reason.PERMISSION_DENIED, "the folder that holds the run may not be written"),)
    counted = tree.count(scanned.entries)
    hold = (holdfile.read(opened.run) or GONE_HOLD) if scanned.is_held else None
    data_files = scanned.data_files
    newer = [entry for entry in data_files if verified is not None and entry.mtime_ns > _nanoseconds(verified)]
    facts = replace(
        known,
        gathered_at=now,
        ingest_state=State(record.current_state) if record else None,
        ingest_findings=ingest_findings,
        verified_at=verified,
        path_findings=path_findings,
        files=counted.files,
        bytes=counted.bytes,
        allocated_bytes=counted.allocated,
        newest_data_at=_instant(max((entry.mtime_ns for entry in data_files), default=None)),
        newer_files=tuple(show(entry.path) for entry in newer[:NAMES_SHOWN]),
        newer_count=len(newer),
        hold_file=hold.text if hold else None,
        data_files=len(data_files),
        data_bytes=sum(entry.size for entry in data_files),
    )
    if facts.recorded_state is not State.SYNC_VERIFIED:
        return Look(replace(facts, largest=_largest(data_files, None)), scanned, hold, None, data)
    listed, tree_findings = _compare_manifest(opened, scanned)
    compared = proving.compare_names(run, scanned, reader, listed)
    facts = replace(
        facts,
        tree_findings=tree_findings,
        proof=compared.proof,
        largest=_largest(data_files, compared.listing),
        twin=_describe_twin(len(data_files), compared),
    )
    return Look(facts, scanned, hold, listed, data, compared.listing)


def quick_decision(run: Run, policy: Policy, now: datetime) -> Decision:
    """The gates on a quick look made now; an unreachable run's decision says so."""
    try:
        with reached(run) as (opened, reader):
            facts = quick_look(run, opened, reader, now).facts
    except Unreachable as error:
        facts = unreachable_facts(run, error.finding, now)
    other = run.active_attempt is not None
    return evaluate(replace(facts, other_attempt=other, host_findings=readiness.hindrances()), policy, now)


def look(
    run: Run,
    opened: OpenRun,
    reader: Reader,
    policy: Policy,
    now: datetime,
    *,
    operator: bool,
    progress: Callable[[int], None] = lambda size: None,
) -> tuple[Look, Decision]:
    """A full look and the decision on it. Bytes are only read if nothing else speaks against the clear.

    They are not read either where a proof of the last day still holds, because nothing on either side has changed.
    The result authorises a clear only if its facts are `fresh` and the decision is clearable (for an operator) or due.
    """
    seen = quick_look(run, opened, reader, now)
    busy = find_writers(seen.scan, [os.fsencode(run.leaf)]) if seen.scan else ()
    tree_findings = seen.facts.tree_findings + busy
    facts = replace(seen.facts, tree_findings=tree_findings, host_findings=readiness.hindrances())
    seen = replace(seen, facts=facts)
    decision = evaluate(facts, policy, now)
    against = {refusal.reason for refusal in decision.refusals(operator=operator)}
    if against - {Reason.CHANGED_SINCE_VERIFICATION}:
        return seen, decision
    if policy.proof is ProofLevel.CHECKSUM:
        seen = _with_bytes(seen, run, opened, reader, now, progress)
    seen = replace(seen, facts=replace(seen.facts, fresh=True))
    return seen, evaluate(seen.facts, policy, now)


def _with_bytes(
    seen: Look, run: Run, opened: OpenRun, reader: Reader, now: datetime, progress: Callable[[int], None]
) -> Look:
    """The look with every byte compared, now or for a proof that still holds."""
    scan, listed, listing = seen.scan, seen.listed, seen.listing
    if scan is None or listed is None or listing is None:
        return seen
    evidence = proving.evidence(run, scan, listed, listing, now)
    earlier = proving.reusable(run, evidence, now)
    if earlier is not None:
        proof = ProofFacts(
            level=ProofLevel(earlier.level),
            files=earlier.files,
            bytes=earlier.bytes,
            manifest_sha256=earlier.manifest_sha256,
            reused_from=earlier.at,
        )
        return replace(seen, facts=replace(seen.facts, proof=proof), evidence=evidence, reused=earlier)
    compared = proving.compare_bytes(run, opened.run, scan, listed, reader, progress)
    if compared.listing is not None and not compared.proof.findings:
        evidence = proving.evidence(run, scan, listed, compared.listing, now)
    facts = replace(seen.facts, proof=compared.proof)
    return replace(seen, facts=facts, listing=compared.listing, evidence=evidence)


def unreachable_facts(run: Run, finding: Finding, now: datetime) -> Facts:
    """The facts of a run that cannot be opened."""
    return replace(_recorded(run), gathered_at=now, path_findings=(finding,))


def stored_facts(
    run: Run, *, other_attempt: bool = False, hindrances: tuple[Finding, ...] = (), breaker: Finding | None = None
) -> Facts:
    """What discovery saw last of a run, with what the database knows by now.

    `hindrances` are those of `readiness`, asked once for a whole page, and so is `breaker`, of the run's staging root.

    Facts that another version of this program has stored in another shape are as good as none: the next pass of
    discovery writes them anew.
    """
    try:
        facts = thaw(run.facts)
    except (AttributeError, KeyError, TypeError, ValueError):
        facts = _recorded(run)
    return replace(
        facts,
        recorded_state=_state(run.state),
        other_attempt=other_attempt,
        host_findings=hindrances,
        failures=run.failures,
        last_failure=_last_failure(run),
        holds=_holds(run),
        breaker_finding=breaker,
    )


def look_up_failures(runs: Iterable[Run]) -> None:
    """Ask at once how the last attempts of these runs failed, of those that are parked: no query for each of them."""
    parked = [run for run in runs if run.failures >= MAX_FAILURES]
    latest = ClearAttempt.objects.exclude(phase__in=ClearAttempt.ACTIVE).exclude(reason="")[:1]
    prefetch_related_objects(parked, Prefetch("attempts", queryset=latest, to_attr=_LOOKED_UP))


def stored_allocated_bytes(run: Run) -> int | None:
    """How many bytes of blocks discovery saw last of a run; None where it saw none, or where that is no number."""
    size = run.facts.get("allocated_bytes") if isinstance(run.facts, dict) else None
    return size if isinstance(size, int) else None


def stored_decision(
    run: Run,
    policies: Iterable[ScopedPolicy],
    now: datetime,
    *,
    other_attempt: bool = False,
    hindrances: tuple[Finding, ...] = (),
    breaker: Finding | None = None,
) -> Decision:
    """The decision that pages and lists show: the gates on stored facts."""
    facts = stored_facts(run, other_attempt=other_attempt, hindrances=hindrances, breaker=breaker)
    return evaluate(facts, effective_policy(policies, run.scope), now)


def freeze(facts: Facts) -> dict[str, Any]:
    """Facts as JSON, without what is true of one moment only or stands in the database anyway."""
    frozen = asdict(facts)
    for name in _NOT_STORED:
        del frozen[name]
    if frozen["proof"]:
        del frozen["proof"]["reused_from"]  # discovery never compares bytes
    # With lists for tuples, as the database returns them.
    as_stored: dict[str, Any] = json.loads(json.dumps(frozen, default=datetime.isoformat))
    return as_stored


def thaw(frozen: dict[str, Any]) -> Facts:
    """The inverse of `freeze`; what an older version did not store yet is unknown.

    Raises KeyError, TypeError or ValueError for what is of another shape.
    """
    values = dict(frozen)
    for name in ("gathered_at", "verified_at", "verified_first_seen_at", "newest_data_at"):
        values[name] = datetime.fromisoformat(values[name]) if values[name] else None
    for name in ("recorded_state", "ingest_state"):
        values[name] = _state(values[name])
    for name in ("ingest_findings", "path_findings", "tree_findings"):
        values[name] = _thaw_findings(values[name])
    values["newer_files"] = tuple(values["newer_files"])
    if values["proof"] is not None:
        proof = values["proof"]
        level, findings = ProofLevel(proof["level"]), _thaw_findings(proof["findings"])
        values["proof"] = ProofFacts(**{**proof, "level": level, "findings": findings})
    values["largest"] = tuple(LargeFile(**_thaw_at(file, "modified_at")) for file in values.get("largest", ()))
    values["twin"] = TwinFacts(**_thaw_at(values["twin"], "newest_at")) if values.get("twin") else None
    return Facts(**values)


def _thaw_at(frozen: dict[str, Any], name: str) -> dict[str, Any]:
    """The values of a record with one instant among them."""
    at = frozen[name]
    return {**frozen, name: datetime.fromisoformat(at) if at else None}


def _thaw_findings(frozen: Iterable[dict[str, str]]) -> tuple[Finding, ...]:
    return tuple(Finding(Reason(finding["reason"]), finding["detail"]) for finding in frozen)


def _recorded(run: Run) -> Facts:
    """What the database alone knows of a run."""
    event = run.events.filter(state=State.SYNC_VERIFIED).last() if run.pk else None
    return Facts(
        gathered_at=run.first_seen_at,
        recorded_state=_state(run.state),
        verified_at=run.verified_at,
        verified_first_seen_at=event.first_seen_at if event else None,
        failures=run.failures,
        last_failure=_last_failure(run),
        holds=_holds(run),
    )


def _holds(run: Run) -> tuple[Held, ...]:
    """The holds that people have laid on a run and not released; those that are over are the gate's affair."""
    return tuple(
        Held(owner=hold.owner, until=hold.until, reason=hold.reason)
        for hold in run.holds.all()
        if hold.until is not None and hold.released_at is None
    )


def _last_failure(run: Run) -> str:
    """How the latest attempt of a parked run failed, in words; empty for a run that is not parked."""
    if run.failures < MAX_FAILURES:
        return ""
    looked_up: list[ClearAttempt] | None = getattr(run, _LOOKED_UP, None)
    if looked_up is None:
        looked_up = list(run.attempts.exclude(phase__in=ClearAttempt.ACTIVE).exclude(reason="")[:1])
    if not looked_up:
        return ""
    (last,) = looked_up
    said = " ".join(part for part in (Reason(last.reason).sentence, last.detail) if part)
    return f"The last, {last.phase_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC: {said}"


def _state(text: str | None) -> State | None:
    return State(text) if text else None


def _findings(problems: Iterable[Problem]) -> tuple[Finding, ...]:
    """Problems of the disk as findings: one for each reason, with the first few details."""
    by_reason: dict[str, list[str]] = {}
    for problem in problems:
        by_reason.setdefault(problem.reason, []).append(problem.detail)
    return tuple(Finding(Reason(reason), name_some(details)) for reason, details in by_reason.items())


def _compare_record(run: Run, opened: OpenRun) -> tuple[ingest.Ingest | None, bytes, tuple[Finding, ...]]:
    """The record on disk, and what it says that the database does not."""
    try:
        record, data = read_ingest(opened, layout.parse_run_path(run.run_path))
    except ingest.IngestError as error:
        return None, b"", (Finding(Reason(error.reason), error.detail),)
    recorded = list(run.events.order_by("position").values_list("digest", flat=True))
    written = [entry.digest for entry in record.history]
    if recorded and recorded != written:
        position = next((i for i, pair in enumerate(zip(recorded, written, strict=False)) if len(set(pair)) > 1), None)
        if position is not None:
            return record, data, (Finding(Reason.INGEST_DISAGREES, f"history entry {position + 1} was rewritten"),)
        if len(written) < len(recorded):
            return record, data, (Finding(Reason.INGEST_DISAGREES, "history entries were taken away"),)
    return record, data, ()


def _compare_manifest(opened: OpenRun, scanned: tree.Scan) -> tuple[manifest.Manifest | None, tuple[Finding, ...]]:
    """The manifest, and how the tree differs from it."""
    findings = _findings(tree.unexpected_metadata(scanned))
    try:
        listed = manifest.read(opened.run)
    except manifest.ManifestError as error:
        return None, (*findings, Finding(Reason(error.reason), error.detail))
    staged = {entry.path for entry in scanned.data_files}
    expected = {path for path in listed.entries if tree.is_data(path)}
    for reason, paths in (
        (Reason.NOT_IN_MANIFEST, staged - expected),
        (Reason.MISSING_FILE, expected - staged),
    ):
        if paths:
            names = name_some([show(path) for path in sorted(paths)])
            findings += (Finding(reason, f"{len(paths)} {'file' if len(paths) == 1 else 'files'}: {names}"),)
    if not expected:
        findings += (Finding(Reason.MANIFEST_EMPTY),)
    return listed, findings


def _largest(files: Sequence[tree.Entry], listing: nas.Listing | None) -> tuple[LargeFile, ...]:
    """The largest data files, the first by name of equal ones, with the sizes of their twins."""
    if not files:
        return ()
    # Sizes first: to order whole entries costs far more, and few are as large as the last one that is shown.
    least = heapq.nlargest(LARGEST_SHOWN, (entry.size for entry in files))[-1]
    large = [entry for entry in files if entry.size >= least]
    found = []
    for entry in heapq.nsmallest(LARGEST_SHOWN, large, key=lambda entry: (-entry.size, entry.path)):
        twin = listing.files.get(entry.path) if listing is not None else None
        found.append(
            LargeFile(
                path=_cut(show(entry.path)),
                bytes=entry.size,
                modified_at=_instant(entry.mtime_ns),
                nas_bytes=twin.size if twin is not None else None,
            )
        )
    return tuple(found)


def _cut(name: str) -> str:
    """A name that is not too long to be kept: its beginning, and its end, which tells most."""
    half = _LONGEST_PATH // 2
    return name if len(name) <= _LONGEST_PATH else f"{name[: half - 1]}…{name[-half:]}"


def _describe_twin(staged: int, compared: proving.Compared) -> TwinFacts | None:
    """What the NAS holds of a run that has so many staged data files; None where it was not compared."""
    if compared.listing is None:
        nothing_there = any(finding.reason is Reason.NAS_MISSING_FILE for finding in compared.proof.findings)
        return TwinFacts(files=0, bytes=0, missing=staged) if nothing_there else None
    twins = compared.listing.files.values()
    return TwinFacts(
        files=len(twins),
        bytes=sum(twin.size for twin in twins),
        newest_at=_instant(max((twin.mtime_ns for twin in twins), default=None)),
        missing=compared.missing,
        other_size=compared.other_size,
        more=len(twins) - (staged - compared.missing),
    )


def find_writers(scanned: tree.Scan, names: Collection[bytes]) -> tuple[Finding, ...]:
    """`writer_active` if a process has a file of the run open for writing; `names` are the run's directory's names."""
    files = {entry.ino for entry in scanned.entries if entry.is_file and not holdfile.is_hold(entry.path)}
    busy = writers.find_writers(scanned.device, files, names)
    return (Finding(Reason.WRITER_ACTIVE, name_some(busy)),) if busy else ()


def _nanoseconds(instant: datetime) -> int:
    since = instant - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000


def _instant(nanoseconds: int | None) -> datetime | None:
    """A file time as an instant. Forged ones stay far ahead, but where every zone can show them."""
    if nanoseconds is None:
        return None
    return datetime.fromtimestamp(min(max(nanoseconds / 1e9, 0), _LATEST.timestamp()), tz=UTC)
