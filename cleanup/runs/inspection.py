"""Facts: what one run looks like on disk, in the database and on the NAS, ready for the gates.

A quick look compares names and sizes and is what pages and lists decide from, with its age. A full look re-reads every
byte where the policy asks for that; only a full look may authorise a clear.
"""

import heapq
import json
import os
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Prefetch, prefetch_related_objects

from cleanup.lab import markers, readiness, twins
from cleanup.lab.nas import NotAsked, Reader, record_places
from cleanup.lab.opening import OpenRun, Unreachable, reached
from cleanup.models import ClearAttempt, Proof, Run
from cleanup.rules.gates import (
    MAX_FAILURES,
    AcceptedFacts,
    Decision,
    Facts,
    Finding,
    FutureFiles,
    LargeFile,
    OnlyHere,
    ProofFacts,
    TwinFacts,
    evaluate,
)
from cleanup.rules.policy import Policy, ProofLevel, ScopedPolicy, effective_policy, verified_at
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State, first_illegal_step
from cleanup.runs import accepted as accepting
from cleanup.runs import differences, first_sights, held, proofs, returned
from cleanup.runs.future_dates import future_files, instant
from cleanup.runs.only_here import only_here
from cleanup.runs.proofs import NAMES_SHOWN, name_some
from cleanup.storage import desktop_files, linux
from cleanup.storage.nas import client
from cleanup.storage.run_paths import RunPath, show
from cleanup.storage.staging import (
    fences,
    hold_file,
    ingest,
    manifest,
    near_misses,
    own_storage,
    records,
    run_tree,
    unexpected,
    writers,
)
from cleanup.storage.staging.hold_file import HoldFile
from cleanup.storage.staging.records import RecordFormat, Records

# The attribute of a run that holds what `look_up_failures` has found.
_LOOKED_UP = "last_failed"
_NOT_STORED = (
    "fresh",
    "other_attempt",
    "host_findings",
    "failures",
    "last_failure",
    "nas_retry_at",
    "holds",
    "budget_finding",
    "breaker_finding",
)
# Left out while it is as it was before there was such a thing, so that an upgrade makes nothing about a run new.
_STORED_IF_SET = ("returned", "accepted")
# What people alone are shown: no gate asks for it, so it makes nothing about a run new.
ONLY_SHOWN = ("data_files", "data_bytes", "desktop_files", "desktop_bytes", "largest", "twin", "locks")
# So many of the largest files are kept, with so many characters of their paths.
LARGEST_SHOWN = 10
_LONGEST_PATH = 300
# A hold file that was taken away while we looked: it held then, and the next look sees that it does no more.
GONE_HOLD = HoldFile("", "")


@dataclass(frozen=True)
class Look:
    """One look at a run: the facts, and what a plan is made from.

    `record` are the bytes of its record, of the format `form`. `listing` is what the NAS held, `evidence` what tells
    whether either side has changed since, and `reused` the earlier proof that this look relies on, if it does. `hold`
    is the run's hold file, if there is one. `by_signature`: there is no manifest, and the record's sizes and times
    stand in for it. `read` is the comparison of every byte, where it was made for this look.
    """

    facts: Facts
    scan: run_tree.Scan | None = None
    hold: HoldFile | None = None
    listed: manifest.Manifest | None = None
    record: bytes = b""
    form: RecordFormat = records.INGEST
    by_signature: bool = False
    listing: client.Listing | None = None
    evidence: str = ""
    reused: Proof | None = None
    read: proofs.Compared | None = None


def read_records(opened: OpenRun, *places: RunPath) -> Records:
    """The run's records, accepted where they name one of `places`. Raises IngestError."""
    found = records.read(opened.run, *places)
    history = found.main.history
    illegal = first_illegal_step([State(entry.state) for entry in history])
    if illegal is not None:
        before = history[illegal - 1].state if illegal else "the beginning"
        detail = f"history entry {illegal + 1} says {history[illegal].state} after {before}"
        raise ingest.IngestError("ingest_disagrees", detail)
    return found


def identity(status: linux.Status | run_tree.Scan, record: Records | None) -> str:
    """What a run's directory is known by: inode, birth time where there is one, and what its record began with.

    That is the first history entry, or `creation.json` where the record has no history.
    """
    return f"{status.ino}:{status.birth_ns or '-'}:{record.origin if record else '-'}"


def same_identity(recorded: str, seen: str) -> bool:
    """Whether two identities are one run's; a part that is not known, written `-`, says nothing.

    Neither does the beginning of a history beside a `creation.json`: a run may get a record of the other format.
    """
    return all(
        "-" in (ours, theirs) or ours == theirs or _of_creation(ours) != _of_creation(theirs)
        for ours, theirs in zip(recorded.split(":"), seen.split(":"), strict=True)
    )


def _of_creation(part: str) -> bool:
    return part.startswith(records.OF_CREATION)


def quick_look(
    run: Run,
    opened: OpenRun,
    reader: Reader,
    now: datetime,
    *,
    recent: bool = False,
    seen: tuple[Records, run_tree.Scan] | None = None,
    for_granted: timedelta = timedelta(0),
) -> Look:
    """What can be seen of a run without reading its bytes: record, tree, manifest, and names and sizes on the NAS.

    `recent`: what the folders on the way to the twin have shown in the last minute will do. `seen` are records and
    tree, if the caller has read them already. A difference of bytes that was found is taken `for_granted` for so long
    while nothing has changed on either side.
    """
    known_record, scanned = seen or (None, run_tree.scan(opened.run))
    record, ingest_findings = _compare_record(run, opened, known_record)
    data_files = scanned.data_files
    recorded = _as_recorded(_recorded(run), run, record, scanned, now)
    path_findings = _findings(scanned.problems)
    if not same_identity(run.identity, identity(scanned, record)):
        path_findings += (Finding(Reason.IDENTITY_MISMATCH),)
    if not run_tree.may_write(opened.parent) or linux.status(opened.parent).is_fixed:
        path_findings += (Finding(Reason.PERMISSION_DENIED, "the folder that holds the run may not be written"),)
    path_findings += _findings(filter(None, [own_storage.objection(opened.parent, opened.run)]))
    counted = run_tree.count(scanned.entries)
    hold = (hold_file.read(opened.run) or GONE_HOLD) if scanned.is_held else None
    newer = _newer(record, recorded.verified_at, data_files)
    future = future_files(data_files, lambda: _stored_future(run), now)
    facts = replace(
        recorded,
        gathered_at=now,
        ingest_findings=ingest_findings + _cleared_by_the_wizard(record, data_files),
        path_findings=path_findings,
        files=counted.files,
        bytes=counted.bytes,
        allocated_bytes=counted.allocated,
        newest_data_at=_instant(max((entry.mtime_ns for entry in data_files), default=None)),
        newer_files=tuple(show(entry.path) for entry in newer[:NAMES_SHOWN]),
        newer_count=len(newer),
        future=future,
        hold_file=hold.text if hold else None,
        kept_local=_name_files(record.kept_local) if record and record.kept_local else "",
        data_files=len(data_files),
        data_bytes=sum(entry.size for entry in data_files),
        desktop_files=len(scanned.desktop),
        desktop_bytes=sum(entry.size for entry in scanned.entries if entry.path in scanned.desktop),
        locks=len(scanned.entries) - len(scanned.compared),
    )
    look = Look(facts, scanned, hold)
    if record is not None:
        look = replace(look, record=record.main.data, form=record.main.format)
    if facts.recorded_state is not State.SYNC_VERIFIED:
        return replace(look, facts=replace(facts, largest=_largest(data_files, None)))
    listed, by_signature, tree_findings = _compare_manifest(opened, scanned, record, now)
    compared = proofs.compare_names(run, scanned, reader, listed, staging=opened.root, recent=recent)
    compared = _without_nas_on_staging(run, opened, compared)
    accepted = accepting.facts_of(accepting.standing(run), run, scanned, listed, compared.listing)
    known = differences.standing(run, compared, scanned, listed)
    if accepted is not None and accepted.holds:
        known = None  # that they are not as the manifest says is known, and settled
    if known is not None and timedelta(0) <= now - known.at < for_granted:
        compared = differences.counted(compared, known)
    asked = compared.listing is not None or isinstance(reader, NotAsked)
    facts = replace(
        facts,
        only_here=only_here(run, opened.run, scanned, reader) if asked else None,
        twin_findings=twins.ambiguous(run),
        twin_unnamed=twins.unnamed(run, compared.listing),
        tree_findings=tree_findings,
        proof=compared.proof,
        accepted=accepted,
        largest=_largest(data_files, compared.listing),
        twin=_describe_twin(len(data_files), compared),
    )
    return replace(look, facts=facts, listed=listed, by_signature=by_signature, listing=compared.listing)


def _as_recorded(known: Facts, run: Run, record: Records | None, scanned: run_tree.Scan, now: datetime) -> Facts:
    """What the database knows of a run's state, with what its record says of it and of its verification."""
    if record is None:
        return known
    if record.main.history:
        state = State(record.main.current_state)
        verified = verified_at(record.main.history)
        since = first_sights.counted_from(run, verified, known.verified_first_seen_at)
        kept_from = returned.kept_from(run, since)
        return replace(known, ingest_state=state, verified_at=verified, kept_from=kept_from)
    # The state follows from the files, and may fall back: the database learns of it by discovery, and until then the
    # lesser of the two counts.
    data_files = scanned.data_files
    differences = record.compare(data_files, scanned.desktop)
    states = [State(record.state(data_files, differences, whole=not scanned.problems))]
    states += [known.recorded_state] if known.recorded_state is not None else []
    state = min(states, key=list(State).index)
    sight = run.record_sights.filter(digest=record.main.digest).first()
    seen, verified = sight.first_seen_at if sight else now, record.verified_at
    return replace(
        known,
        recorded_state=known.recorded_state and state,
        ingest_state=state,
        verified_at=verified,
        verified_first_seen_at=seen,
        kept_from=returned.kept_from(run, verified and max(verified, seen)),
        unverified=_name_differences(differences) if differences.open_files else "",
    )


def counted_anew(run: Run, facts: Facts) -> Facts:
    """The facts of a run of which was learnt just now that it may be another one, which was seen here before."""
    if not run.events.exists():
        return facts
    since = first_sights.counted_from(run, facts.verified_at, facts.verified_first_seen_at)
    return replace(facts, kept_from=returned.kept_from(run, since))


def _newer(record: Records | None, verified: datetime | None, data_files: list[run_tree.Entry]) -> list[run_tree.Entry]:
    """The data files that are newer than the verification. One whose time is that of its signature is not changed."""
    if verified is None or (record is not None and not record.main.history):
        return []
    return [entry for entry in data_files if entry.mtime_ns > _nanoseconds(verified)]


def _cleared_by_the_wizard(record: Records | None, data_files: list[run_tree.Entry]) -> tuple[Finding, ...]:
    """What the wizard called cleared, and data is there all the same: kept by it, or come since."""
    if record is None or record.cleared_at is None or not data_files:
        return ()
    names = _name_files([entry.path for entry in data_files])
    return (
        Finding(
            Reason.ALREADY_CLEARED,
            f"the wizard cleared it at {record.cleared_at:%Y-%m-%d %H:%M} UTC, as sync_state.json says, yet data is "
            f"still here: {names}",
        ),
    )


def _name_differences(differences: records.Differences) -> str:
    """How the files on the disk differ from those that a record vouches for, in words."""
    said = (
        ("not listed", differences.unlisted),
        ("not verified", differences.unverified),
        ("changed since their copying", differences.changed),
        ("missing", differences.missing),
    )
    return "; ".join(f"{words}: {_name_files(paths)}" for words, paths in said if paths)


def _name_files(paths: Sequence[bytes], *, of: int | None = None) -> str:
    """How many files, and the first few; `of` is their number where these are the first few alone."""
    count = len(paths) if of is None else of
    more = f" and {count - NAMES_SHOWN} more" if count > NAMES_SHOWN else ""
    names = name_some([show(path) for path in paths[:NAMES_SHOWN]])
    return f"{count} {'file' if count == 1 else 'files'}: {names}{more}"


def _without_nas_on_staging(run: Run, opened: OpenRun, compared: proofs.Compared) -> proofs.Compared:
    """A comparison proves nothing where the NAS root itself is seen on staging."""
    try:
        seen = markers.nas_on_staging(run, opened.root)
    except OSError as error:
        seen = Finding(Reason.STAGING_IO_ERROR, os.strerror(error.errno or 0))
    if seen is None:
        return compared
    proof = replace(compared.proof, findings=(seen, *compared.proof.findings))
    return replace(compared, proof=proof)


def quick_decision(run: Run, policy: Policy, now: datetime, *, for_granted: timedelta = differences.ALWAYS) -> Decision:
    """The gates on a quick look made now; an unreachable run's decision says so. `for_granted` as in `quick_look`.

    Of a run that could not be put back another folder may lie at its path, so it is not looked at.
    """
    if standing_conflict(run):
        facts = stored_facts(run)
        return evaluate(replace(facts, host_findings=readiness.hindrances()), policy, now)
    try:
        with reached(run) as (opened, reader):
            facts = quick_look(run, opened, reader, now, for_granted=for_granted).facts
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
    anew: bool = False,
    progress: Callable[[int], None] = lambda size: None,
) -> tuple[Look, Decision]:
    """A full look and the decision on it. Bytes are only read if nothing else speaks against the clear.

    They are not read either where a proof of the last day still holds, because nothing on either side has changed;
    unless they are to be read `anew`.
    A difference that was found and still stands is looked for again at an operator's word, for the schedule after a
    while. What was found different goes by its bytes alone, whatever the policy asks for, until they are equal.
    Else at `record` nothing is asked of the NAS, unless the twin's own record must name the run, or no record vouches
    for its bytes (see `Facts.wanted_proof`). The result authorises a clear only if its facts are `fresh` and the
    decision is clearable (for an operator) or due.
    """
    if differences.was_found(run):
        policy = replace(policy, proof=ProofLevel.CHECKSUM)
    by_record = _trusts_the_record(run, policy)
    if by_record and accepting.standing(run) is None:
        reader = NotAsked()
    for_granted = timedelta(0) if operator else differences.READ_AGAIN_AFTER
    seen = quick_look(run, opened, reader, now, for_granted=for_granted)
    if by_record and not seen.facts.accepts and not isinstance(reader, NotAsked):
        # An acceptance that is void changes nothing: what only staging holds is told without the NAS, too.
        seen = quick_look(run, opened, NotAsked(), now, for_granted=for_granted)
    busy = find_writers(seen.scan, [os.fsencode(run.leaf)]) if seen.scan else ()
    tree_findings = seen.facts.tree_findings + busy
    facts = replace(seen.facts, tree_findings=tree_findings, host_findings=readiness.hindrances())
    seen = replace(seen, facts=facts)
    decision = evaluate(facts, policy, now)
    against = {refusal.reason for refusal in decision.refusals(operator=operator)}
    if against - {Reason.CHANGED_SINCE_VERIFICATION}:
        return seen, decision
    if seen.facts.accepts:
        seen = _with_accepted_bytes(seen, run, opened, reader, progress)
    elif facts.wanted_proof(policy) is ProofLevel.CHECKSUM:
        seen = _with_bytes(seen, run, opened, reader, now, progress, anew=anew)
    seen = replace(seen, facts=replace(seen.facts, fresh=True))
    return seen, evaluate(seen.facts, policy, now)


def _trusts_the_record(run: Run, policy: Policy) -> bool:
    """Whether the record alone proves the bytes of a run for which none are accepted, and its path names its twin."""
    return policy.proof is ProofLevel.RECORD and run.returned_at is None and twins.is_named_by_path(run)


def _with_bytes(
    seen: Look,
    run: Run,
    opened: OpenRun,
    reader: Reader,
    now: datetime,
    progress: Callable[[int], None],
    *,
    anew: bool,
) -> Look:
    """The look with every byte compared, now or for a proof that still holds."""
    scan, listed, listing = seen.scan, seen.listed, seen.listing
    if scan is None or listing is None or (listed is None and not seen.by_signature):
        return seen
    evidence = proofs.evidence(run, scan, listed, listing, now)
    earlier = None if anew else proofs.reusable(run, evidence, now)
    if earlier is not None:
        proof = ProofFacts(
            level=ProofLevel(earlier.level),
            files=earlier.files,
            bytes=earlier.bytes,
            manifest_sha256=earlier.manifest_sha256,
            reused_from=earlier.at,
        )
        return replace(seen, facts=replace(seen.facts, proof=proof), evidence=evidence, reused=earlier)
    compared = proofs.compare_bytes(run, opened.run, scan, listed, reader, progress, staging=opened.root)
    if compared.listing is not None and not compared.proof.findings:
        evidence = proofs.evidence(run, scan, listed, compared.listing, now)
    facts = replace(seen.facts, proof=compared.proof)
    return replace(seen, facts=facts, listing=compared.listing, evidence=evidence, read=compared)


def _with_accepted_bytes(
    seen: Look, run: Run, opened: OpenRun, reader: Reader, progress: Callable[[int], None]
) -> Look:
    """The look with every byte of both sides compared with those that an admin has accepted, always anew.

    Such a proof has no evidence, so no later look relies on it.
    """
    accepted, scan = seen.facts.accepted, seen.scan
    if accepted is None or scan is None or seen.listing is None:
        return seen
    found = proofs.compare_bytes(run, opened.run, scan, None, reader, progress, staging=opened.root)
    found = accepting.compared(accepted, scan, seen.listed, found)
    if found.listing is not None and not accepting.holds(accepted, run, scan, seen.listed, found.listing):
        finding = Finding(Reason.ACCEPTANCE_VOID, "something changed while it was compared")
        found = replace(found, proof=replace(found.proof, findings=(finding,)))
    return replace(seen, facts=replace(seen.facts, proof=found.proof), listing=found.listing)


def standing_conflict(run: Run) -> Finding | None:
    """What speaks against every clear of a run that could not be put back; None where there is no such conflict."""
    key = run.conflict
    return conflict_of(key) if key is not None else None


def conflict_of(attempt: uuid.UUID) -> Finding:
    """The finding of an attempt that could not put its run back: it names where that lies."""
    return Finding(Reason.PATH_OCCUPIED, f"the run lies beside it as {fences.fence_name(attempt.hex).decode()}")


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
    if conflict := standing_conflict(run):  # what lies at its path is not the run
        facts = replace(facts, path_findings=(conflict,))
    return replace(
        facts,
        recorded_state=_state(run.state),
        other_attempt=other_attempt,
        host_findings=hindrances,
        failures=run.failures,
        last_failure=_last_failure(run),
        nas_retry_at=run.nas_retry_at,
        holds=held.holds_of(run),
        breaker_finding=breaker,
    )


def look_up_failures(runs: Iterable[Run]) -> None:
    """Ask at once how the last attempts of these runs failed, of those that are parked: no query for each of them."""
    parked = [run for run in runs if run.failures >= MAX_FAILURES]
    latest = ClearAttempt.objects.clears().exclude(phase__in=ClearAttempt.ACTIVE).exclude(reason="")[:1]
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
    for name in _STORED_IF_SET:
        if not frozen[name]:
            del frozen[name]
    if frozen["proof"]:
        for name in ("reused_from", "accepted"):
            del frozen["proof"][name]  # discovery never compares bytes
        if frozen["proof"]["found_at"] is None:  # as older versions have stored it, or all runs would seem changed
            del frozen["proof"]["found_at"]
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
    for name in ("ingest_findings", "path_findings", "tree_findings", "twin_findings"):
        values[name] = _thaw_findings(values.get(name, ()))
    values["newer_files"] = tuple(values["newer_files"])
    if values["proof"] is not None:
        proof = values["proof"]
        level, findings = ProofLevel(proof["level"]), _thaw_findings(proof["findings"])
        found_at = _thaw_at({"found_at": None, **proof}, "found_at")["found_at"]
        values["proof"] = ProofFacts(**{**proof, "level": level, "findings": findings, "found_at": found_at})
    values["largest"] = tuple(LargeFile(**_thaw_at(file, "modified_at")) for file in values.get("largest", ()))
    kept_from = values.get("kept_from")
    values["kept_from"] = datetime.fromisoformat(kept_from) if kept_from else None
    values["only_here"] = _thaw_only_here(values.get("only_here"))
    values["future"] = _thaw_future(values.get("future"))
    values["accepted"] = _thaw_accepted(values.get("accepted"))
    values["twin"] = TwinFacts(**_thaw_at(values["twin"], "newest_at")) if values.get("twin") else None
    return Facts(**values)


def _stored_future(run: Run) -> FutureFiles | None:
    """What an earlier look has stored of files that are dated in the future."""
    try:
        return thaw(run.facts).future
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def stored_only_here(run: Run) -> OnlyHere | None:
    """What discovery saw last of what a run has besides its bytes, and the NAS lacks."""
    found = run.facts.get("only_here") if isinstance(run.facts, dict) else None
    return _thaw_only_here(found)


def stored_accepted(run: Run) -> AcceptedFacts | None:
    """The bytes that stand in for a run's manifest, as discovery saw last; None where none do."""
    found = run.facts.get("accepted") if isinstance(run.facts, dict) else None
    accepted = _thaw_accepted(found)
    return accepted if accepted is not None and accepted.holds else None


def _thaw_accepted(frozen: dict[str, Any] | None) -> AcceptedFacts | None:
    return AcceptedFacts(**_thaw_at(frozen, "at")) if frozen else None


def _thaw_only_here(frozen: dict[str, Any] | None) -> OnlyHere | None:
    return OnlyHere(**{**frozen, "names": tuple(frozen["names"])}) if frozen else None


def _thaw_future(frozen: dict[str, Any] | None) -> FutureFiles | None:
    if not frozen:
        return None
    values = {**_thaw_at(frozen, "newest_at"), "names": tuple(frozen["names"])}
    return FutureFiles(**_thaw_at(_thaw_at(values, "others_at"), "since"))


def _thaw_at(frozen: dict[str, Any], name: str) -> dict[str, Any]:
    """The values of a record with one instant among them."""
    at = frozen[name]
    return {**frozen, name: datetime.fromisoformat(at) if at else None}


def _thaw_findings(frozen: Iterable[dict[str, str]]) -> tuple[Finding, ...]:
    return tuple(Finding(Reason(finding["reason"]), finding["detail"]) for finding in frozen)


def _recorded(run: Run) -> Facts:
    """What the database alone knows of a run."""
    event = run.events.filter(state=State.SYNC_VERIFIED).last() if run.pk else None
    seen = event.first_seen_at if event else None
    return Facts(
        gathered_at=run.first_seen_at,
        recorded_state=_state(run.state),
        verified_at=run.verified_at,
        verified_first_seen_at=seen,
        kept_from=returned.kept_from(run, first_sights.counted_from(run, run.verified_at, seen)),
        returned=run.returned_at is not None,
        failures=run.failures,
        last_failure=_last_failure(run),
        nas_retry_at=run.nas_retry_at,
        holds=held.holds_of(run),
    )


def _last_failure(run: Run) -> str:
    """How the latest attempt of a parked run failed, in words; empty for a run that is not parked."""
    if run.failures < MAX_FAILURES:
        return ""
    looked_up: list[ClearAttempt] | None = getattr(run, _LOOKED_UP, None)
    if looked_up is None:
        looked_up = list(run.attempts.clears().exclude(phase__in=ClearAttempt.ACTIVE).exclude(reason="")[:1])
    if not looked_up:
        return ""
    (last,) = looked_up
    said = " ".join(part for part in (Reason(last.reason).sentence, last.detail) if part)
    return f"The last, {last.phase_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC: {said}"


def _state(text: str | None) -> State | None:
    return State(text) if text else None


def _findings(problems: Iterable[Finding]) -> tuple[Finding, ...]:
    """Problems of the disk as findings: one for each reason, with the first few details."""
    by_reason: dict[str, list[str]] = {}
    for problem in problems:
        by_reason.setdefault(problem.reason, []).append(problem.detail)
    return tuple(Finding(Reason(reason), name_some(details)) for reason, details in by_reason.items())


def _compare_record(run: Run, opened: OpenRun, record: Records | None) -> tuple[Records | None, tuple[Finding, ...]]:
    """The records on disk, unless they have been read, and what they say that the database does not."""
    try:
        record = returned.as_staged(run, record or read_records(opened, *record_places(run)))
    except ingest.IngestError as error:
        return None, (Finding(Reason(error.reason), error.detail),)
    recorded = list(run.events.order_by("position").values_list("digest", flat=True))
    written = [entry.digest for entry in record.main.history]
    if recorded and not written:
        return record, (Finding(Reason.INGEST_DISAGREES, "ingest.json is gone, and with it the history"),)
    if recorded and recorded != written:
        position = next((i for i, pair in enumerate(zip(recorded, written, strict=False)) if len(set(pair)) > 1), None)
        if position is not None:
            return record, (Finding(Reason.INGEST_DISAGREES, f"history entry {position + 1} was rewritten"),)
        if len(written) < len(recorded):
            return record, (Finding(Reason.INGEST_DISAGREES, "history entries were taken away"),)
    return record, ()


def _compare_manifest(
    opened: OpenRun, scanned: run_tree.Scan, record: Records | None, now: datetime
) -> tuple[manifest.Manifest | None, bool, tuple[Finding, ...]]:
    """The manifest, whether the record's signatures stand in for it, and how the tree differs from both."""
    findings = _findings(unexpected.problems(scanned, _nanoseconds(now))) + _compare_listed(scanned, record)
    try:
        listed = manifest.read(opened.run)
    except manifest.ManifestError as error:
        if error.reason == "manifest_missing" and record is not None and not record.main.history:
            return None, True, findings
        return None, False, (*findings, Finding(Reason(error.reason), error.detail))
    staged = {entry.path for entry in scanned.data_files}
    extra = staged.difference(listed.paths())
    still_open = {path for path in extra if desktop_files.is_open(path)}
    missing, first = missing_files(listed, staged, scanned.desktop)
    for reason, paths in ((Reason.WRITER_ACTIVE, still_open), (Reason.NOT_IN_MANIFEST, extra - still_open)):
        if paths:
            why = near_misses.of_names(extra, first)
            more = _say_more(reason, paths) + (why and f"; {why}")
            findings += (Finding(reason, _name_files(sorted(paths)) + more),)
    if missing:
        findings += (Finding(Reason.MISSING_FILE, _name_files(first, of=missing)),)
    elif len(extra) == len(staged):
        findings += (Finding(Reason.MANIFEST_EMPTY),)
    return listed, False, findings


def _say_more(reason: Reason, paths: Collection[bytes]) -> str:
    """What the names of the files tell of them besides."""
    if reason is Reason.WRITER_ACTIVE:
        return "; the name says that it was deleted while a program had it open"
    large = reason is Reason.NOT_IN_MANIFEST and any(map(desktop_files.is_named, paths))
    return "; of desktops or NAS systems, and larger than what is kept with a run" if large else ""


def missing_files(
    listed: manifest.Manifest, staged: Collection[bytes], desktop: Collection[bytes], *, named: int = NAMES_SHOWN
) -> tuple[int, list[bytes]]:
    """How many data files a manifest lists that must be staged and are not, and the first `named` of them.

    Counted, not collected: a manifest of millions of lines may lie beside a few files.
    """

    def away() -> Iterator[bytes]:
        return (
            path for path in listed.paths() if path not in staged and path not in desktop and run_tree.is_data(path)
        )

    mains = listed.digests_of({desktop_files.main_of(path) for path in away() if desktop_files.is_beside(path)})

    def missing() -> Iterator[bytes]:
        return (path for path in away() if not desktop_files.may_be_missing(path, mains))

    return sum(1 for _ in missing()), heapq.nsmallest(named, missing())


def _compare_listed(scanned: run_tree.Scan, record: Records | None) -> tuple[Finding, ...]:
    """How the tree differs from what a record lists. By itself it has said so with the state, but for what is gone."""
    if record is None or record.cleared_at is not None:
        return ()
    differences = record.compare(scanned.data_files, scanned.desktop)
    if record.main.history:
        said = _name_differences(differences)
        return (Finding(Reason.SYNC_STATE_DIFFERS, said),) if said else ()
    if differences.missing:
        return (Finding(Reason.MISSING_FILE, f"listed in sync_state.json: {_name_files(differences.missing)}"),)
    return ()


def _largest(files: Sequence[run_tree.Entry], listing: client.Listing | None) -> tuple[LargeFile, ...]:
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


def _describe_twin(staged: int, compared: proofs.Compared) -> TwinFacts | None:
    """What the NAS holds of a run that has so many staged data files; None where it was not compared."""
    if compared.listing is None:
        nothing_there = any(finding.reason is Reason.NAS_MISSING_FILE for finding in compared.proof.findings)
        return TwinFacts(files=0, bytes=0, missing=staged) if nothing_there else None
    # What only the NAS has by such a name is not counted. What lies beside another file may be anything there.
    twins = [file for path, file in compared.listing.files.items() if not desktop_files.is_named(path)]
    return TwinFacts(
        files=len(twins),
        bytes=sum(twin.size for twin in twins),
        newest_at=_instant(max((twin.mtime_ns for twin in twins), default=None)),
        missing=compared.missing,
        other_size=compared.other_size,
        more=len(twins) - (staged - compared.missing),
    )


def find_writers(scanned: run_tree.Scan, names: Collection[bytes]) -> tuple[Finding, ...]:
    """`writer_active` if a process has a file of the run open for writing; `names` are the run's directory's names."""
    # A program that holds one of the wizard's locks is asked for by the lock itself.
    files = {entry.ino for entry in scanned.compared if entry.is_file and not hold_file.is_hold(entry.path)}
    busy = writers.find_writers(scanned.device, files, names)
    return (Finding(Reason.WRITER_ACTIVE, name_some(busy)),) if busy else ()


def _nanoseconds(instant: datetime) -> int:
    since = instant - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000


def _instant(nanoseconds: int | None) -> datetime | None:
    return None if nanoseconds is None else instant(nanoseconds)
