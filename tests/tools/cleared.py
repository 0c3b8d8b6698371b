"""Many random clears as rows of the ledger, written through the book, and what they come to, counted independently."""

import random
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from cleanup.ledger import book
from cleanup.models import ClearAttempt, LedgerEntry, Phase, Run, StagingRoot

INSTRUMENTS = ("FLOW_01", "CONFOCAL_01", "CRYOEM_K3", "SEQ 02", 'Ünusual, "one"')
PEOPLE = ("ada", "bob", "carol", "")
CAUSES = ("retention", "max_bytes", "retention+max_bytes", "free_space", "")
PROOFS = ("checksum", "checksum", "checksum", "size", "record", "accepted", "")
REASONS = ("held", "nas_unreachable", "not_in_manifest")
VERSIONS = (None, 1, 2, 7)
# Days on which clocks change somewhere, beside midnight or at it.
DAYS = ("2026-03-29", "2026-10-25", "2026-03-08", "2026-11-01", "2025-12-31", "2026-01-01", "2026-02-28", "2026-06-30")
ROWS_AT_ONCE = 400


@dataclass
class OneClear:
    """The rows of one attempt in their order, and when its run was verified."""

    verified_at: datetime | None
    rows: list[dict[str, Any]] = field(default_factory=list)


def random_clears(number: int, seed: int, zone: str) -> list[OneClear]:
    """Clears of 2025-12 to 2026-12, many of them beside midnights of `zone`."""
    chance = random.Random(seed)
    return [_one(chance, ZoneInfo(zone)) for _ in range(number)]


def write(root: StagingRoot, clears: Iterable[OneClear]) -> None:
    clears = list(clears)
    runs, attempts = [], []
    for number, clear in enumerate(clears):
        first = clear.rows[0]
        leaf = f"Run_{uuid.uuid4().hex}"
        runs.append(
            Run(
                root=root,
                run_path=f"{first['equipment']}/{first['project']}/Runs/{leaf}",
                equipment=first["equipment"],
                project=first["project"],
                run_kind="experimental",
                leaf=leaf,
                state="cleared",
                here=False,
                verified_at=clear.verified_at,
                first_seen_at=first["at"],
                identity=f"{number}",
            )
        )
    runs = Run.objects.bulk_create(runs, batch_size=500)
    for run, clear in zip(runs, clears, strict=True):
        first = clear.rows[0]
        fields = {name: first[name] for name in ("actor", "requester", "typed_by", "cause", "decided_by")}
        attempts.append(
            ClearAttempt(
                run=run, phase=Phase.DONE, host=root.host, created_at=first["at"], phase_at=first["at"], **fields
            )
        )
    ClearAttempt.objects.bulk_create(attempts, batch_size=500)
    rows = []
    for run, attempt, clear in zip(runs, attempts, clears, strict=True):
        for row in clear.rows:
            rows.append(
                LedgerEntry(run=run, attempt=attempt, run_path=run.run_path, run_kind=run.run_kind, host="h", **row)
            )
    # In the order of time, as they are written; those of one attempt keep theirs.
    rows.sort(key=lambda row: row.at)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        with book.writing():
            book.write(*rows[start : start + ROWS_AT_ONCE])


def _one(chance: random.Random, zone: ZoneInfo) -> OneClear:
    at = _instant(chance, zone)
    operator = chance.random() < 0.5
    versions = {name: chance.choice(VERSIONS) for name in ("mode", "retain_hours", "proof")}
    told = {
        "equipment": chance.choice(INSTRUMENTS),
        "project": f"PROJ-{chance.randrange(12)}",
        "root_name": chance.choice(("lab", "west")),
        "requester": "operator" if operator else "schedule",
        "actor": chance.choice(PEOPLE[:3]) if operator else chance.choice(("", "", "ada")),
        "typed_by": chance.choice(("", "labpc")) if operator else "",
        "cause": "" if operator else chance.choice(CAUSES),
        "proof_level": chance.choice(PROOFS),
        "policy_version": 7,
        "decided_by": {}
        if chance.random() < 0.1
        else {name: _source(name, version) for name, version in versions.items()},
    }
    length = chance.choice((timedelta(hours=chance.randrange(1, 100)), timedelta(days=chance.randrange(1, 900))))
    clear = OneClear(None if chance.random() < 0.05 else at - length + timedelta(seconds=chance.choice((-1, 0, 1))))

    def add(kind: str, at: datetime, **more: Any) -> None:
        clear.rows.append({**told, "kind": kind, "at": at, **more})

    shape = chance.random()
    if shape < 0.1:
        add(chance.choice(("refused", "aborted", "conflict")), at, reason=chance.choice(REASONS))
        return clear
    add("authorised", at, files=99, bytes=99_999, allocated_bytes=99_999)
    later = at + timedelta(seconds=chance.choice((0, 1, 3600, 100_000)))
    if shape < 0.18:
        add("partial", at, **_sizes(chance))
    elif shape < 0.26:
        add("partial", at, **_sizes(chance))
        add("completed", later, **_sizes(chance))
    elif shape < 0.28:
        add("completed", at, **_sizes(chance))
        add("partial", later, **_sizes(chance))
    else:
        add("completed", at, **_sizes(chance))
    return clear


def _source(name: str, version: int | None) -> dict[str, Any]:
    value = {"mode": "scheduled", "retain_hours": 24.0, "proof": "checksum"}[name]
    scope = {"root": None, "equipment": "FLOW_01", "project": None, "run_kind": None}
    return {"value": value, "version": version, "scope": None if version is None else scope}


def _instant(chance: random.Random, zone: ZoneInfo) -> datetime:
    near = timedelta(microseconds=chance.choice((-1, 0, 1, -1_000_000, 3_600_000_000, -3_600_000_000)))
    if chance.random() < 0.3:
        day = datetime.fromisoformat(chance.choice(DAYS))
        return (datetime.combine(day, time.min, tzinfo=zone).astimezone(UTC)) + near
    day = datetime(2025, 12, 15, tzinfo=UTC) + timedelta(days=chance.randrange(380))
    if chance.random() < 0.3:
        return datetime.combine(day, time.min, tzinfo=zone).astimezone(UTC) + near
    return day + timedelta(seconds=chance.randrange(86_400), microseconds=chance.randrange(1_000_000))


def _sizes(chance: random.Random) -> dict[str, Any]:
    """Sparse files, hard-linked ones that free nothing, and disks that cannot be measured."""
    size = chance.choice((0, 1, chance.randrange(2**20), chance.randrange(2**42), chance.randrange(2**62)))
    allocated = chance.choice((size, 0, chance.randrange(2**40)))
    measured = chance.choice((None, None, allocated, chance.randrange(2**40)))
    return {"files": chance.randrange(100_000), "bytes": size, "allocated_bytes": allocated, "measured_bytes": measured}


# The independent count: plain loops over the descriptions


def freeing(clears: Sequence[OneClear]) -> list[tuple[dict[str, Any], bool, OneClear]]:
    """Each row that freed something, whether it is the first of its attempt, and its clear."""
    found = []
    for clear in clears:
        seen = False
        for row in clear.rows:
            if row["kind"] in ("partial", "completed"):
                found.append((row, not seen, clear))
                seen = True
    return found


def amounts(rows: Iterable[tuple[dict[str, Any], bool, OneClear]]) -> tuple[int, ...]:
    """Runs, files, logical, allocated, measured and measured-of bytes."""
    runs = files = logical = allocated = measured = measured_of = 0
    for row, first, _clear in rows:
        runs += first
        files += row["files"]
        logical += row["bytes"]
        allocated += row["allocated_bytes"]
        if row["measured_bytes"] is not None:
            measured += row["measured_bytes"]
            measured_of += row["allocated_bytes"]
    return runs, files, logical, allocated, measured, measured_of
