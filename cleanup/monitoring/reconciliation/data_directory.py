"""The data directory against the database: tombstones, plans, locks, receipts. Reads only, and takes no lock."""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from uuid import UUID

from django.db.models import Q

from cleanup.lab.roots import opening
from cleanup.models import ClearAttempt, Phase, Run
from cleanup.monitoring.reconciliation import lost_clears, lost_receipts
from cleanup.monitoring.reconciliation.evidence import DoubtedClear
from cleanup.monitoring.reconciliation.findings import Mismatch, Mismatches, MismatchKind
from cleanup.monitoring.reconciliation.lost_clears import RECEIPTS
from cleanup.monitoring.reconciliation.tombstones import LostClear

TOMBSTONES, PLANS, LOCKS = "tombstones", "plans", "locks"
_TOMBSTONE = re.compile(r"([0-9a-f]{32})\.tar\.gz")
_PLAN = re.compile(r"([0-9a-f]{32})")
_RECEIPT = re.compile(r"receipt-([0-9a-f]{32})-\d+\.json")
_AT_ONCE = 500
_STAYED = (Phase.REFUSED, Phase.ABORTED)
# A receipt is written a little after its clear.
_RECEIPT_GRACE = timedelta(days=1)


def look(
    host: str, into: Mismatches, *, now: datetime, refused: Mapping[str, DoubtedClear] = MappingProxyType({})
) -> list[LostClear]:
    """Compare the data directory of this host with its rows; returns the clears that only this directory tells of.

    `refused`: attempts (hex) whose clears could not be brought back.
    """
    kept, signed = names(TOMBSTONES), names(RECEIPTS)
    ids, receipts = _ids(kept, _TOMBSTONE), lost_receipts.by_attempt(signed)
    phases = _phases(ids | receipts.keys())
    unknown = {attempt: found for attempt, found in receipts.items() if attempt not in phases}
    lost = lost_clears.find(ids - phases.keys(), unknown, refused, into)
    for attempt in sorted(each for each in receipts if phases.get(each) in _STAYED):
        said = f"{RECEIPTS}/{receipts[attempt][0]}: the database says that the attempt ended as {phases[attempt]}"
        into.add(Mismatch(MismatchKind.DOUBTED_CLEAR, detail=said))
    _left(ids, phases, MismatchKind.TOMBSTONE_LEFT, into)
    _missing(host, ids, into)
    plans = _ids(names(PLANS), _PLAN)
    planned = _phases(plans)
    _left(plans, planned, MismatchKind.PLAN_LEFT, into)
    for attempt in sorted(plans - planned.keys() - ids - receipts.keys()):
        into.add(Mismatch(MismatchKind.PLAN_LEFT, detail=f"{PLANS}/{attempt}, of which the database knows nothing"))
    for folder, found in ((TOMBSTONES, kept), (PLANS, names(PLANS))):
        for name in sorted(found):
            if name.endswith(".part") and _is_old(folder, name, now):
                into.add(Mismatch(MismatchKind.DRAFT_LEFT, detail=f"{folder}/{name}"))
    _locks(names(LOCKS), into)
    _receipts(host, signed, into, now=now)
    return lost


def names(folder: str) -> list[str]:
    """The names in a folder of the data directory; none where it is not there."""
    try:
        return os.listdir(_in(folder))
    except FileNotFoundError:
        return []


def _in(*parts: str) -> str:
    return os.path.join(opening.data_dir().path, *parts)


def _ids(found: Iterable[str], pattern: re.Pattern[str]) -> set[str]:
    return {match[1] for match in map(pattern.fullmatch, found) if match}


def _phases(ids: Collection[str]) -> dict[str, str]:
    listed, phases = sorted(ids), dict[str, str]()
    for some in _chunks(listed):
        rows = ClearAttempt.objects.filter(pk__in=[UUID(each) for each in some]).order_by()
        phases |= {key.hex: phase for key, phase in rows.values_list("pk", "phase")}
    return phases


def _chunks(listed: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(listed), _AT_ONCE):
        yield listed[start : start + _AT_ONCE]


def _left(ids: Collection[str], phases: dict[str, str], kind: MismatchKind, into: Mismatches) -> None:
    folder = PLANS if kind is MismatchKind.PLAN_LEFT else TOMBSTONES
    for some in _chunks(sorted(each for each in ids if phases.get(each) in _STAYED)):
        rows = ClearAttempt.objects.filter(pk__in=[UUID(each) for each in some], phase__in=_STAYED).order_by("pk")
        for row in rows.select_related("run__root").defer("decision", "run__facts"):
            said = f"{folder}/{row.pk.hex}: the attempt ended as {row.phase}"
            into.add(Mismatch(kind, row.run.root.name, row.run.run_path, row.run_id, said))


def _missing(host: str, ids: Collection[str], into: Mismatches) -> None:
    done = ClearAttempt.objects.clears().filter(host=host, phase__in=[Phase.COMMITTED, Phase.DONE]).order_by("pk")
    for key, run, path, root in done.values_list("pk", "run_id", "run__run_path", "run__root__name").iterator():
        # Asked once more: the clear may be younger than the list of names.
        if key.hex not in ids and not os.path.lexists(opening.data_dir().tombstone_path(key.hex)):
            into.add(Mismatch(MismatchKind.TOMBSTONE_MISSING, root, path, run, f"{TOMBSTONES}/{key.hex}.tar.gz"))


def _is_old(folder: str, name: str, now: datetime) -> bool:
    try:
        written = datetime.fromtimestamp(os.lstat(_in(folder, name)).st_mtime, UTC)
    except FileNotFoundError:
        return False  # it has got its name
    return abs(now - written) > timedelta(hours=1)


def _locks(found: Iterable[str], into: Mismatches) -> None:
    # Keys only grow: a larger one was given by a database that is gone.
    newest = Run.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    keys = sorted(int(name) for name in found if name.isascii() and name.isdecimal())
    if unknown := [key for key in keys if key > newest]:
        said = f"{len(unknown):,} of {len(keys):,}, the first is {LOCKS}/{unknown[0]}"
        into.add(Mismatch(MismatchKind.LOCKS_UNKNOWN, detail=said))


def _receipts(host: str, found: Collection[str], into: Mismatches, *, now: datetime) -> None:
    # Clears from before the first receipt have none.
    dated = [os.lstat(_in(RECEIPTS, name)).st_mtime for name in found if _RECEIPT.fullmatch(name)]
    if not dated:
        return
    since = datetime.fromtimestamp(min(dated), UTC)
    ended = ClearAttempt.objects.clears().filter(host=host, phase=Phase.DONE).order_by("pk")
    wanted = ended.filter(Q(phase_at__gte=since) & Q(phase_at__lt=now - _RECEIPT_GRACE))
    named = wanted.values_list("pk", "run_id", "run__run_path", "run__root__name")
    rows = {row[0].hex: row for row in named.iterator()}
    for attempt in receipts_lacking(found, rows):
        _key, run, path, root = rows[attempt]
        into.add(Mismatch(MismatchKind.RECEIPT_MISSING, root, path, run, f"the attempt {attempt}"))


def receipts_lacking(found: Iterable[str], attempts: Iterable[str]) -> list[str]:
    """The attempts (hex) of which no name in a folder of receipts tells."""
    there = _ids(found, _RECEIPT)
    return [attempt for attempt in attempts if attempt not in there]
