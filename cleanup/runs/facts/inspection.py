"""Looks at one run on disk, in the database and on the NAS, as facts for the gates.

A quick look compares names and sizes; only a full look may authorise a clear.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cleanup.lab import readiness
from cleanup.lab.nas import shared_twins
from cleanup.lab.nas.nas_transport import NotAsked, Reader
from cleanup.lab.roots import laid_markers
from cleanup.lab.roots.opening import OpenRun, Unreachable, reached
from cleanup.models import Proof, Run
from cleanup.rules.decisions import Decision
from cleanup.rules.due_date import verified_at
from cleanup.rules.facts import Facts, Finding, ProofFacts
from cleanup.rules.gates import evaluate
from cleanup.rules.policies.policy import Policy, ProofLevel
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs import first_sights
from cleanup.runs.facts import beside, findings, identity, shown_facts, stored_facts
from cleanup.runs.facts.beside import Beside
from cleanup.runs.facts.future_dates import future_files, instant_if_known
from cleanup.runs.facts.only_here import only_here
from cleanup.runs.moved_or_gone import returned
from cleanup.runs.proofs import accepted_bytes as accepting
from cleanup.runs.proofs import differences, proofs
from cleanup.runs.proofs.proofs import NAMES_SHOWN
from cleanup.runs.proofs.resumption import Resumption
from cleanup.storage import linux
from cleanup.storage.nas import client
from cleanup.storage.run_paths import show
from cleanup.storage.staging import hold_file, manifest, own_storage, records, run_tree
from cleanup.storage.staging.hold_file import HoldFile
from cleanup.storage.staging.records import RecordFormat, Records

# Taken away during the look: this look holds the run, the next one does not.
GONE_HOLD = HoldFile("", "")


@dataclass(frozen=True)
class Look:
    """One look at a run: the facts, and what a plan needs.

    `record`: the bytes, in the format `form`. `evidence` changes with either side. `by_signature`: the record's sizes
    and times replace a manifest. `read`: the comparison of bytes, if made, and `since` the instant of its first byte.
    `differs`, `proven`: whether earlier comparisons may have found a difference, or none.
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
    since: datetime | None = None
    differs: bool = True
    proven: bool = True


def quick_look(
    run: Run,
    opened: OpenRun,
    reader: Reader,
    now: datetime,
    *,
    recent: bool = False,
    seen: tuple[Records, run_tree.Scan | None] | None = None,
    for_granted: timedelta = timedelta(0),
    known_beside: Beside | None = None,
) -> Look:
    """Look at a run without reading its bytes: record, tree, manifest, and names and sizes on the NAS.

    `recent` allows a NAS listing of the last minute. A known difference counts `for_granted` this long. `known_beside`:
    as `beside.ask` has told a moment ago.
    """
    known_record, known_scan = seen or (None, None)
    scanned = known_scan or run_tree.scan(opened.run)
    record, ingest_findings = findings.compare_record(run, opened, known_record)
    look = _look_at_disk(run, opened, scanned, record, ingest_findings, now)
    if look.facts.recorded_state is not State.SYNC_VERIFIED:
        return replace(look, facts=replace(look.facts, largest=shown_facts.largest(scanned.data_files, None)))
    listed, by_signature, tree_findings = findings.compare_manifest(opened, scanned, record, now)
    look = replace(look, facts=replace(look.facts, tree_findings=tree_findings))
    look = replace(look, listed=listed, by_signature=by_signature)
    return _with_names(
        look, scanned, run, opened, reader, now, recent=recent, for_granted=for_granted, known_beside=known_beside
    )


def _look_at_disk(
    run: Run,
    opened: OpenRun,
    scanned: run_tree.Scan,
    record: Records | None,
    ingest_findings: tuple[Finding, ...],
    now: datetime,
) -> Look:
    data_files = scanned.data_files
    recorded = _as_recorded(stored_facts.recorded(run), run, record, scanned, now)
    path_findings = _path_findings(run, opened, scanned, record)
    facts = _with_counts(recorded, scanned)
    hold = (hold_file.read(opened.run) or GONE_HOLD) if scanned.is_held else None
    # Most runs have nothing newer, and none in the future: the newest file tells that.
    newest, verified = instant_if_known(scanned.totals.newest_ns), recorded.verified_at
    late = data_files if newest is not None and (newest > now or (verified and newest >= verified)) else ()
    newer = findings.newer_files(record, verified, late)
    facts = replace(
        facts,
        gathered_at=now,
        ingest_findings=ingest_findings + findings.cleared_by_the_wizard(record, data_files),
        path_findings=path_findings,
        newest_data_at=newest,
        newer_files=tuple(show(entry.path) for entry in newer[:NAMES_SHOWN]),
        newer_count=len(newer),
        future=future_files(late, lambda: stored_facts.future(run), now),
        hold_file=hold.text if hold else None,
        kept_local=findings.name_files(record.kept_local) if record and record.kept_local else "",
    )
    look = Look(facts, scanned, hold)
    return look if record is None else replace(look, record=record.main.data, form=record.main.format)


def _path_findings(run: Run, opened: OpenRun, scanned: run_tree.Scan, record: Records | None) -> tuple[Finding, ...]:
    found = findings.of_problems(scanned.problems)
    if not identity.same(run.identity, identity.of(scanned, record)):
        found += (Finding(Reason.IDENTITY_MISMATCH),)
    if not run_tree.may_write(opened.parent) or linux.status(opened.parent).is_fixed:
        found += (Finding(Reason.PERMISSION_DENIED, "the folder that holds the run may not be written"),)
    return found + findings.of_problems(filter(None, [own_storage.objection(opened.parent, opened.run)]))


def _with_counts(facts: Facts, scanned: run_tree.Scan) -> Facts:
    totals = scanned.totals
    return replace(
        facts,
        files=totals.whole.files,
        bytes=totals.whole.bytes,
        allocated_bytes=totals.whole.allocated,
        data_files=totals.data_files,
        data_bytes=totals.data_bytes,
        desktop_files=len(scanned.desktop),
        desktop_bytes=totals.desktop_bytes,
        locks=totals.locks,
    )


def _with_names(
    look: Look,
    scanned: run_tree.Scan,
    run: Run,
    opened: OpenRun,
    reader: Reader,
    now: datetime,
    *,
    recent: bool,
    for_granted: timedelta,
    known_beside: Beside | None,
) -> Look:
    listed, data_files = look.listed, scanned.data_files
    compared = proofs.compare_names(run, scanned, reader, listed, staging=opened.root, recent=recent)
    compared = _without_nas_on_staging(run, opened, compared)
    has = beside.ask(run) if known_beside is None else known_beside
    standing = accepting.standing(run) if has.accepted else None
    accepted = accepting.facts_of(standing, run, scanned, listed, compared.listing)
    known = differences.standing(run, compared, scanned, listed) if has.different else None
    if accepted is not None and accepted.holds:
        known = None  # the acceptance settles it
    if known is not None and timedelta(0) <= now - known.at < for_granted:
        compared = differences.counted(compared, known)
    asked = compared.listing is not None or isinstance(reader, NotAsked)
    facts = replace(
        look.facts,
        only_here=only_here(run, opened.run, scanned, reader) if asked else None,
        twin_findings=shared_twins.ambiguous(run) if has.shared else (),
        twin_unnamed=shared_twins.unnamed(run, compared.listing),
        proof=compared.proof,
        accepted=accepted,
        largest=shown_facts.largest(data_files, compared.listing),
        twin=shown_facts.describe_twin(len(data_files), compared),
    )
    return replace(look, facts=facts, listing=compared.listing, differs=has.different, proven=has.proven)


def _as_recorded(known: Facts, run: Run, record: Records | None, scanned: run_tree.Scan, now: datetime) -> Facts:
    if record is None:
        return known
    if record.main.history:
        state = State(record.main.current_state)
        verified = verified_at(record.main.history)
        since = first_sights.counted_from(run, verified, known.verified_first_seen_at)
        kept_from = returned.kept_from(run, since)
        return replace(known, ingest_state=state, verified_at=verified, kept_from=kept_from)
    # The state follows from the files and may fall back before discovery writes it down: the lesser one counts.
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
        unverified=findings.name_differences(differences) if differences.open_files else "",
    )


def counted_anew(run: Run, facts: Facts) -> Facts:
    """Return the facts of a run that was just found to be like another."""
    if not run.events.exists():
        return facts
    since = first_sights.counted_from(run, facts.verified_at, facts.verified_first_seen_at)
    return replace(facts, kept_from=returned.kept_from(run, since))


def _without_nas_on_staging(run: Run, opened: OpenRun, compared: proofs.Compared) -> proofs.Compared:
    # A comparison proves nothing where the NAS root itself lies on staging.
    try:
        seen = laid_markers.nas_on_staging(run, opened.root)
    except OSError as error:
        seen = Finding(Reason.STAGING_IO_ERROR, os.strerror(error.errno or 0))
    if seen is None:
        return compared
    proof = replace(compared.proof, findings=(seen, *compared.proof.findings))
    return replace(compared, proof=proof)


def quick_decision(run: Run, policy: Policy, now: datetime, *, for_granted: timedelta = differences.ALWAYS) -> Decision:
    """Return the decision on a quick look made now.

    A run that could not be put back is not looked at: another folder may be at its path.
    """
    if identity.standing_conflict(run):
        facts = stored_facts.facts_of(run)
        return evaluate(replace(facts, host_findings=readiness.hindrances()), policy, now)
    try:
        with reached(run) as (opened, reader):
            facts = quick_look(run, opened, reader, now, for_granted=for_granted).facts
    except Unreachable as error:
        facts = stored_facts.unreachable_facts(run, error.finding, now)
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
    so_far: Resumption | None = None,
    pace: int = 0,
) -> tuple[Look, Decision]:
    """Make a full look and decide on it; read bytes only if nothing else refuses.

    A proof of the last day is reused if neither side changed, unless `anew`. After a known difference only bytes count.
    At level `record` the NAS is asked only if the record cannot name or prove the twin. A reading goes on where
    `so_far` has one of the same bytes, except `anew`; `pace`: as `proofs.compare_bytes`.

    It authorises a clear only if its facts are `fresh` and the decision is clearable (for an operator) or due.
    """
    if differences.was_found(run):
        policy = replace(policy, proof=ProofLevel.CHECKSUM)
    reader, seen = _look_first(run, opened, reader, policy, now, operator=operator)
    busy = findings.find_writers(seen.scan, [os.fsencode(run.leaf)]) if seen.scan else ()
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
        resumed, listings = None if anew else so_far, [seen.listing]
        seen = replace(seen, listing=None)
        seen = _with_bytes(seen, listings, run, opened, reader, now, progress, anew=anew, so_far=resumed, pace=pace)
    seen = replace(seen, facts=replace(seen.facts, fresh=True))
    return seen, evaluate(seen.facts, policy, now)


def _look_first(
    run: Run, opened: OpenRun, reader: Reader, policy: Policy, now: datetime, *, operator: bool
) -> tuple[Reader, Look]:
    by_record = _trusts_the_record(run, policy)
    if by_record and accepting.standing(run) is None:
        reader = NotAsked()
    for_granted = timedelta(0) if operator else differences.READ_AGAIN_AFTER
    seen = quick_look(run, opened, reader, now, for_granted=for_granted)
    if by_record and not seen.facts.accepts and not isinstance(reader, NotAsked):
        # A void acceptance changes nothing: show what only staging holds without the NAS, too.
        seen = quick_look(run, opened, NotAsked(), now, for_granted=for_granted)
    return reader, seen


def _trusts_the_record(run: Run, policy: Policy) -> bool:
    return policy.proof is ProofLevel.RECORD and run.returned_at is None and shared_twins.is_named_by_path(run)


def _with_bytes(
    seen: Look,
    listings: list[client.Listing | None],
    run: Run,
    opened: OpenRun,
    reader: Reader,
    now: datetime,
    progress: Callable[[int], None],
    *,
    anew: bool,
    so_far: Resumption | None,
    pace: int,
) -> Look:
    # `listings` holds the only reference to the one of `seen`: a listing of many files must go before the next comes.
    scan, listed, listing = seen.scan, seen.listed, listings.pop()
    if scan is None or listing is None or (listed is None and not seen.by_signature):
        return replace(seen, listing=listing)
    evidence = proofs.evidence(run, scan, listed, listing, now)
    earlier = proofs.reusable(run, evidence, now) if seen.proven and not anew else None
    if earlier is not None:
        facts = replace(seen.facts, proof=_again(earlier))
        return replace(seen, facts=facts, evidence=evidence, reused=earlier, listing=listing)
    kept, since = so_far.resume(evidence, scan.data_files, listing.files, now) if so_far and evidence else (None, now)
    del listing
    vouched = evidence if since < now else ""  # what was read earlier counts
    compared = proofs.compare_bytes(
        run, opened.run, scan, listed, reader, progress, staging=opened.root, so_far=kept, vouched=vouched, pace=pace
    )
    if compared.listing is not None and not compared.proof.findings:
        evidence = proofs.evidence(run, scan, listed, compared.listing, since)
    facts = replace(seen.facts, proof=compared.proof)
    return replace(seen, facts=facts, listing=compared.listing, evidence=evidence, read=compared, since=since)


def _again(earlier: Proof) -> ProofFacts:
    return ProofFacts(
        level=ProofLevel(earlier.level),
        files=earlier.files,
        bytes=earlier.bytes,
        manifest_sha256=earlier.manifest_sha256,
        reused_from=earlier.at,
    )


def _with_accepted_bytes(
    seen: Look, run: Run, opened: OpenRun, reader: Reader, progress: Callable[[int], None]
) -> Look:
    # Every byte is read again each time: an acceptance leaves no evidence.
    accepted, scan = seen.facts.accepted, seen.scan
    if accepted is None or scan is None or seen.listing is None:
        return seen
    found = proofs.compare_bytes(run, opened.run, scan, None, reader, progress, staging=opened.root)
    found = accepting.compared(accepted, scan, seen.listed, found)
    if found.listing is not None and not accepting.holds(accepted, run, scan, seen.listed, found.listing):
        finding = Finding(Reason.ACCEPTANCE_VOID, "something changed while it was compared")
        found = replace(found, proof=replace(found.proof, findings=(finding,)))
    return replace(seen, facts=replace(seen.facts, proof=found.proof), listing=found.listing)
