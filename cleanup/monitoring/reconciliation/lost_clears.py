"""The clears of which only the data directory tells: which are sure, and which are in doubt."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from cleanup.monitoring.reconciliation import lost_receipts, tombstones
from cleanup.monitoring.reconciliation.evidence import DoubtedClear, Evidence, SignedClear
from cleanup.monitoring.reconciliation.findings import Mismatch, Mismatches, MismatchKind
from cleanup.monitoring.reconciliation.tombstones import LostClear
from cleanup.storage.staging.records import Record

RECEIPTS = "receipts"


@dataclass
class LostClears:
    """What was found so far; `doubts` by attempt."""

    lost: list[LostClear] = field(default_factory=list)
    doubts: dict[str, tuple[Evidence, DoubtedClear]] = field(default_factory=dict)

    @property
    def presumed(self) -> dict[int, Record]:
        return {lost.run.pk: lost.record for lost in self.lost if lost.run}


def find(
    archives: Collection[str],
    receipts: Mapping[str, list[str]],
    refused: Mapping[str, DoubtedClear],
    into: Mismatches,
) -> list[LostClear]:
    """Return the clears that can be brought back, the earliest first, and tell of all.

    `archives`: unknown attempts (hex) with a tombstone; `receipts`: the names of unknown attempts' receipts; `refused`:
    those that could not be brought back.
    """
    found = LostClears()
    evidence = _evidence(archives, receipts, into)
    waiting = [each for each in evidence if each.attempt not in refused]
    # A run may have been cleared, copied back and cleared again: what speaks against the second clear is that the
    # database knows the first run, and that is about to change.
    while waiting:
        known = len(found.lost)
        _judge(waiting, found)
        freed = found.presumed
        waiting = [each for each, doubt in found.doubts.values() if doubt.run in freed]
        if len(found.lost) == known:
            break
    for lost in found.lost:
        _tell_of_lost(lost, into)
    for each, doubt in found.doubts.values():
        _tell_of_doubt(each.name, doubt, into)
    for each in evidence:
        if each.attempt in refused:
            _tell_of_doubt(each.name, refused[each.attempt], into)
    return found.lost


def _evidence(archives: Collection[str], receipts: Mapping[str, list[str]], into: Mismatches) -> list[Evidence]:
    attempts = sorted({*archives, *receipts})
    told = tombstones.recovered_plans() if attempts else set()
    signed, doubts = lost_receipts.read_all(receipts, attempts)
    found = []
    for attempt in attempts:
        evidence = _of(attempt, attempt in archives, signed.get(attempt))
        if evidence.plan_sha256 in told:
            # It stands in the ledger already.
            doubts = {name: doubt for name, doubt in doubts.items() if name not in receipts.get(attempt, ())}
        elif evidence.archive is not None or evidence.receipt is not None:
            found.append(evidence)
        elif evidence.unread:
            _tell_of_doubt(f"tombstones/{attempt}.tar.gz", DoubtedClear(evidence.unread), into)
    for name, doubt in doubts.items():
        into.add(Mismatch(MismatchKind.DOUBTED_RECEIPT, detail=f"{RECEIPTS}/{name}: {doubt}"))
    return found


def _of(attempt: str, has_archive: bool, receipt: SignedClear | None) -> Evidence:
    if not has_archive:
        return Evidence(attempt, None, receipt)
    try:
        archive = tombstones.read_story(attempt)
    except DoubtedClear as doubt:
        return Evidence(attempt, None, receipt, unread=str(doubt))
    if receipt is not None and archive["plan_sha256"] != receipt.story["plan_sha256"]:
        return Evidence(attempt, None, receipt, unread="it names another plan than the signed receipt")
    return Evidence(attempt, archive, receipt)


def _judge(waiting: Iterable[Evidence], found: LostClears) -> None:
    presumed = found.presumed
    by_folder: dict[tuple[int, str, str], list[LostClear]] = {}
    for evidence in waiting:
        found.doubts.pop(evidence.attempt, None)
        try:
            lost = tombstones.judge(evidence, presumed)
        except DoubtedClear as doubt:
            found.doubts[evidence.attempt] = evidence, doubt
            continue
        by_folder.setdefault(lost.key, []).append(lost)
    for several in by_folder.values():
        last = max(several, key=lambda lost: lost.left_ns)
        for lost in several:
            # Of two attempts on one folder the earlier was undone, unless both wrote the same end: a run that comes
            # back to its path gets the entry of its former clear again.
            if lost is last or tombstones.same_end(lost.record, last.record):
                found.lost.append(lost)
            else:
                said = "a later attempt on the same folder is told of too"
                undone = DoubtedClear(said, root=lost.root.name, run_path=str(lost.path))
                found.doubts[lost.attempt] = lost.evidence, undone
    found.lost.sort(key=lambda lost: lost.left_ns)


def _tell_of_doubt(name: str, doubt: DoubtedClear, into: Mismatches) -> None:
    into.add(Mismatch(MismatchKind.DOUBTED_CLEAR, doubt.root, doubt.run_path, doubt.run, f"{name}: {doubt}"))


def _tell_of_lost(lost: LostClear, into: Mismatches) -> None:
    run = lost.run.pk if lost.run else None
    at = f"{lost.cleared_at:%Y-%m-%d %H:%M:%S} UTC" if lost.cleared_at else "an unknown time"
    said = f"cleared at {at} by {lost.story.get('actor') or 'the schedule'}; {lost.evidence.name}"
    if lost.evidence.unread:
        said = f"{said}; its archive counts for nothing: {lost.evidence.unread}"
    into.add(Mismatch(MismatchKind.LOST_CLEAR, lost.root.name, str(lost.path), run, said))
    if run is not None:
        into.explained.add(run)
