"""Times the audit's pages with very many clears, in a database of its own.

    PYTHONPATH=. python bench/audit.py --clears 1000000 --engine sqlite
    PYTHONPATH=. python bench/audit.py --clears 1000000 --engine postgresql

Five rows of the ledger to a clear, spread over a year. Asks each page five times as an auditor, with ten thousand
clears and with all. Prints the medians of the time that passed and that this process worked, with the number of
queries; then what a row takes to write, with and without the sums. `--check` also compares the sums with the rows. A
million clears take some minutes to make, and some GB in a temporary directory that is removed at the end.
"""

import argparse
import logging
import statistics
import time
from datetime import UTC, datetime
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from throwaway import ENGINES, database

TIMES = 5
FEW = 10_000
YEAR = 2025
SECONDS = 364 * 86_400
MULTIPLIER = 2_654_435_761
KINDS = ("authorised", "completed", "accepted", "set_aside", "refused")
LEVELS = "CASE i % 10 WHEN 0 THEN 'size' WHEN 1 THEN 'record' ELSE 'checksum' END"


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the audit's pages.")
    parser.add_argument("--clears", type=int, default=100_000)
    parser.add_argument("--engine", choices=ENGINES, default="sqlite")
    parser.add_argument("--check", action="store_true", help="compare the sums with the rows")
    options = parser.parse_args()
    with database(options.engine):
        _measure(options)


def _measure(options: argparse.Namespace) -> None:
    logging.disable(logging.INFO)
    made = 0
    for number in sorted({min(FEW, options.clears), options.clears}):
        _fill(made, number)
        made = number
        print(f"{options.engine}: {number:,} clears, {number * len(KINDS):,} rows of the ledger", flush=True)
        for title, address in _pages():
            _time(title, address)
    if options.check:
        from cleanup.ledger import sum_check

        begun = time.perf_counter()
        print(f"  sums checked: {sum_check.differences()} in {time.perf_counter() - begun:.0f} s", flush=True)
    _time_a_clear()


def _pages() -> list[tuple[str, str]]:
    listed = f"/audit/entries/?year={YEAR}"
    return [
        ("year", f"/audit/?year={YEAR}"),
        ("range that cuts two months", f"/audit/?since={YEAR}-01-15&until={YEAR}-12-15"),
        ("entries", listed),
        ("entries of an instrument", f"{listed}&equipment=E007"),
        ("entries of a project", f"{listed}&project=P0042"),
        ("entries of a rare project", f"{listed}&project=RARE"),
        ("entries of a policy", f"{listed}&policy=3"),
        ("entries by pressure", f"{listed}&trigger=pressure"),
        ("entries by duration", f"{listed}&duration=172800"),
        ("entries of two values", f"{listed}&equipment=E007&person=user3"),
        ("refusals", f"{listed}&refusal=held"),
    ]


def _fill(begin: int, end: int) -> None:
    """Make the clears `begin` + 1 to `end` with their rows, links and sums."""
    from django.apps import apps
    from django.db import connection, transaction

    from cleanup.models import ClearAttempt, LedgerEntry, LedgerHead, LedgerLink, Run, StagingRoot
    from cleanup.models.triggers import install, remove

    begun = time.monotonic()
    now = datetime.now(UTC)
    fields = {"host": "lab-pc", "path": "/nonexistent", "discovered_at": now}
    root, _new = StagingRoot.objects.get_or_create(name="lab", defaults=fields)
    dialect = _Dialect(begin, end, sqlite=connection.vendor == "sqlite")
    pattern = Run(root=root, first_seen_at=now, verified_at=now, state="cleared", run_kind="experimental", here=False)
    pattern.doubts = pattern.judged = 1
    _insert(pattern, dialect.run(), begin, end)
    attempt = ClearAttempt(phase="done", host="lab-pc", requester="operator", created_at=now, phase_at=now)
    _insert(attempt, dialect.attempt(), begin, end)
    remove(connection)
    for position, kind in enumerate(KINDS, 1):
        key = f"({len(KINDS)} * (CAST(i AS bigint) - 1) + {position})"
        link = LedgerLink(content_sha256="0" * 64, sha256="0" * 64)
        entry = LedgerEntry(at=now, kind=kind, root_name="lab", run_kind="experimental", host="lab-pc")
        entry.policy_version, entry.reason = 3, "held" if kind == "refused" else ""
        of_entry = dialect.entry(freeing=kind in ("authorised", "completed"))
        with transaction.atomic():  # a link's reference is asked for at the commit
            _insert(link, {"position": key, "entry_id": key}, begin, end)
            _insert(entry, {"id": key, **of_entry}, begin, end)
    install(using="default")
    newest = end * len(KINDS)
    LedgerHead.objects.update(position=newest, last_entry=newest)
    made = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM cleanup_daysum")
    import_module("cleanup.migrations.0026_day_sums").fill(apps, SimpleNamespace(connection=connection))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE" if dialect.sqlite else "VACUUM ANALYZE")
    print(f"rows made in {made - begun:.0f} s, added up in {time.monotonic() - made:.0f} s", flush=True)


def _insert(pattern: Any, columns: dict[str, str], begin: int, end: int) -> None:
    """Rows like a pattern, with these columns as expressions of the number i."""
    from django.db import connection

    fields = [
        field for field in pattern._meta.local_concrete_fields if field.column in columns or not field.primary_key
    ]
    values = {field.column: field.get_db_prep_save(getattr(pattern, field.attname), connection) for field in fields}
    given = [values[field.column] for field in fields if field.column not in columns]
    casts = {field.column: f"CAST(%s AS {field.db_type(connection)})" for field in fields}
    quoted = ", ".join(f'"{field.column}"' for field in fields)
    chosen = ", ".join(columns.get(field.column, casts[field.column]) for field in fields)
    # Between doubled signs: an expression may ask for a remainder.
    chosen = chosen.replace("%", "%%").replace("%%s", "%s")
    statement = f"""INSERT INTO {pattern._meta.db_table} ({quoted})
        WITH RECURSIVE n(i) AS (SELECT {begin + 1} UNION ALL SELECT i + 1 FROM n WHERE i < {end})
        SELECT {chosen} FROM n"""
    with connection.cursor() as cursor:
        cursor.execute(statement, given)


class _Dialect:
    """The columns of clear number i."""

    def __init__(self, begin: int, end: int, *, sqlite: bool) -> None:
        self.sqlite = sqlite
        self._spread = f"(CAST(i - {begin} - 1 AS bigint) * {SECONDS} / {end - begin})"

    def _at(self, earlier: str = "0") -> str:
        seconds = f"{int(datetime(YEAR, 1, 1, tzinfo=UTC).timestamp())} + {self._spread} - {earlier}"
        return f"datetime({seconds}, 'unixepoch')" if self.sqlite else f"to_timestamp({seconds})"

    def _text(self, prefix: str, number: str, width: int) -> str:
        zeros = "0" * width
        return f"'{prefix}' || substr('{zeros}' || CAST({number} AS text), length(CAST({number} AS text)) + 1)"

    def _uuid(self) -> str:
        return "printf('%032x', i)" if self.sqlite else "CAST(lpad(to_hex(i), 32, '0') AS uuid)"

    def _of_run(self) -> dict[str, str]:
        equipment, project = self._text("E", "i % 12", 3), self._text("P", "i % 60", 4)
        rare = f"CASE WHEN i % 9973 = 0 THEN 'RARE' ELSE {project} END"
        path = f"{equipment} || '/' || {project} || '/Runs/' || {self._text('Run_', 'i', 9)}"
        return {"run_path": path, "equipment": equipment, "project": rare}

    def run(self) -> dict[str, str]:
        of_run = {**self._of_run(), "leaf": self._text("Run_", "i", 9), "identity": "CAST(i AS text)"}
        return {"id": "i", **of_run, "verified_at": self._at("3600 * (i % 400)"), "cleared_at": self._at()}

    def attempt(self) -> dict[str, str]:
        return {"id": self._uuid(), "run_id": "i", "created_at": self._at(), "phase_at": self._at()}

    def entry(self, *, freeing: bool) -> dict[str, str]:
        scope = '{"root": null, "equipment": "E007", "project": null, "run_kind": null}'
        sources = [
            f'"{name}": {{"value": "{value}", "version": %d, "scope": {scope}}}'.replace('"24.0"', "24.0")
            for name, value in (("mode", "scheduled"), ("retain_hours", "24.0"), ("proof", "checksum"))
        ]
        by = [("{" + ", ".join(sources) + "}").replace("%d", str(version)) for version in (1, 2, 3)]
        decided = f"CASE i % 3 WHEN 0 THEN '{by[0]}' WHEN 1 THEN '{by[1]}' ELSE '{by[2]}' END"
        size = f"((CAST(i AS bigint) * {MULTIPLIER}) % 400000000000)"
        columns = {
            "at": self._at(),
            "run_id": "i",
            "attempt_id": self._uuid(),
            **self._of_run(),
            "requester": "CASE i % 2 WHEN 0 THEN 'operator' ELSE 'schedule' END",
            "actor": "CASE i % 2 WHEN 0 THEN 'user' || CAST(i % 15 AS text) ELSE '' END",
            "cause": "CASE i % 4 WHEN 1 THEN 'retention' WHEN 3 THEN 'free_space' ELSE '' END",
            "decided_by": decided if self.sqlite else f"CAST({decided} AS jsonb)",
            "proof_level": LEVELS,
        }
        sizes = {"files": "i % 9000", "bytes": size, "allocated_bytes": size}
        sizes["measured_bytes"] = f"CASE i % 5 WHEN 0 THEN {size} ELSE NULL END"
        return {**columns, **sizes} if freeing else columns


def _time(title: str, address: str) -> None:
    from django.contrib.auth.models import Group, User
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    user, new = User.objects.get_or_create(username="auditor")
    if new:
        user.groups.add(Group.objects.get(name="auditor"))
    client = Client()
    client.force_login(user)
    taken, worked = [], []
    for _ in range(TIMES):
        begun, cpu = time.perf_counter(), time.process_time()
        answer = client.get(address)
        taken.append(time.perf_counter() - begun)
        worked.append(time.process_time() - cpu)
        assert answer.status_code == 200, (address, answer.status_code)
        if sum(taken) > 20:
            break
    with CaptureQueriesContext(connection) as queries:
        client.get(address)
    median, cpu = (statistics.median(times) * 1000 for times in (taken, worked))
    print(f"  {title:30} {median:8.0f} ms, {cpu:.0f} of this process  {len(queries):3} queries", flush=True)
    for query in queries.captured_queries:
        if float(query["time"]) > 0.1:
            print(f"      {query['time']} s: {query['sql'][:300]}")


def _time_a_clear() -> None:
    """The two rows of a clear, with and without the sums, one after the other."""
    from django.utils import timezone

    from cleanup.ledger import book, sums
    from cleanup.models import LedgerEntry

    rows = list(LedgerEntry.objects.filter(kind="completed").order_by("pk")[:200])
    add, taken = sums.add, {True: [], False: []}
    for number, row in enumerate(rows):
        with_sums = number % 2 == 0
        sums.add = add if with_sums else lambda rows: None
        row._state.adding, row.pk, row.kind, row.at = True, None, "partial", timezone.now()
        begun = time.perf_counter()
        book.write(row)
        taken[with_sums].append(time.perf_counter() - begun)
    sums.add = add
    with_them, without = (statistics.median(taken[which]) * 1000 for which in (True, False))
    print(f"  a row that frees: {with_them:.2f} ms to write with the sums, {without:.2f} ms without", flush=True)


if __name__ == "__main__":
    main()
