"""Times the check of the ledger's chain with very many rows, in a database of its own.

    python bench/ledger.py --rows 1000000 --engine sqlite
    python bench/ledger.py --rows 1000000 --engine postgresql

Prints how long `verify_ledger` computes, how much of that its own process did, and the most memory that it took.
PostgreSQL comes from the wheel of the tests. A million rows take a minute or two to make, and 2 GB in a temporary
directory that is removed at the end, also after Ctrl-C.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from throwaway import ENGINES, HERE, database

MOST_ROWS = 10_000_000
AT_ONCE = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the check of the ledger.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--engine", choices=ENGINES, default="sqlite")
    options = parser.parse_args()
    with database(options.engine):
        _measure(min(options.rows, MOST_ROWS), options.engine)


def _measure(rows: int, engine: str) -> None:
    from cleanup.ledger import verification

    begun = time.monotonic()
    _fill(rows)
    print(f"{engine}: {rows:,} rows made in {time.monotonic() - begun:.0f} s", flush=True)
    before, begun, computed = _most_memory(), time.monotonic(), time.process_time()
    found = verification.verify()
    taken, computed = time.monotonic() - begun, time.process_time() - computed
    assert found.bad is None and found.position == rows, found
    print(f"{engine}: verified in {taken:.1f} s ({computed:.1f} s of them on our processor), ", end="")
    print(f"{(_most_memory() - before) / 1024:.0f} MB more memory than before")


def _most_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _fill(number: int) -> None:
    from django.db import connection, transaction

    from cleanup.models import LedgerHead

    head = LedgerHead.objects.get()
    for first in range(0, number, AT_ONCE):
        with transaction.atomic(), connection.cursor() as cursor:
            entries, links = _chained(head, list(_entries(first, min(AT_ONCE, number - first))))
            _insert(cursor, "cleanup_ledgerlink", links)
            _insert(cursor, "cleanup_ledgerentry", entries)
            head.save()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _entries(first: int, number: int) -> Iterator[Any]:
    from cleanup.ledger import entries
    from cleanup.models import LedgerKind

    attempt = _attempt()
    at = datetime(2024, 1, 1, tzinfo=UTC)
    for i in range(first, first + number):
        entry = entries.ledger_entry(attempt, LedgerKind.REFUSED, at + timedelta(seconds=i * 60, microseconds=i % 1000))
        entry.files, entry.bytes, entry.allocated_bytes = i % 9000, i * 2_654_435_761 % 10**12, i * 4096
        entry.measured_bytes = None if i % 3 else i * 4096
        entry.run_path = f"E{i % 40:03}/P{i % 400:04}/Runs/Run_{i:09}"
        entry.equipment, entry.project, entry.reason = f"E{i % 40:03}", f"P{i % 400:04}", "not_in_manifest"
        entry.detail = f"µ-data/{i}.raw and 3 others" if i % 5 else ""
        yield entry


_KEPT: list[Any] = []


def _attempt() -> Any:
    from cleanup.lab.roots import registration
    from cleanup.models import ClearAttempt, Requester, Run
    from cleanup.runs import discovery
    from tests.tools.lab import Lab

    if not _KEPT:
        now = datetime.now(UTC)
        lab = Lab(HERE / "lab")
        lab.run(verified_at=now - timedelta(days=6))
        root = registration.register(
            "lab", str(lab.staging), nas_path=str(lab.nas), allow_same_filesystem=True, accept_empty=True, now=now
        )
        discovery.discover(root, now=now)
        run = Run.objects.with_root().get()
        _KEPT.append(
            ClearAttempt.objects.create(
                run=run, requester=Requester.SCHEDULE, policy_version=7, plan_sha256="ab" * 32, phase="refused",
                decided_by={"mode": {"version": 7, "scope": "root=lab"}, "retain_hours": {"version": 3, "scope": ""}},
                created_at=now, phase_at=now,
            )
        )  # fmt: skip
    return _KEPT[0]


def _chained(head: Any, rows: list[Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    from cleanup.ledger import chain
    from cleanup.models import LedgerEntry

    entries, links = [], []
    for row in rows:
        head.position += 1
        head.last_entry += 1
        row.pk = head.last_entry
        content = chain.content_digest(row)
        head.sha256 = chain.link_digest(head.sha256, content)
        links.append(
            {
                "position": head.position,
                "entry_id": row.pk,
                "form": chain.FORM,
                "content_sha256": content,
                "sha256": head.sha256,
            }
        )
        entries.append(
            {field.column: _prepared(field, getattr(row, field.attname)) for field in LedgerEntry._meta.fields}
        )
    return entries, links


def _prepared(field: Any, value: Any) -> Any:
    from django.db import connection

    return field.get_db_prep_save(value, connection)


def _insert(cursor: Any, table: str, rows: list[dict[str, Any]]) -> None:
    from django.db import connection

    columns = ", ".join(f'"{name}"' for name in rows[0])
    if connection.vendor == "postgresql":
        with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(list(row.values()))
        return
    marks = ", ".join(["%s"] * len(rows[0]))
    cursor.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", [list(row.values()) for row in rows])


if __name__ == "__main__":
    main()
