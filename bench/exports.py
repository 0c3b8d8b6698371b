"""Times the ledger's files and the search of past runs with very many clears, in a database of its own.

    python bench/exports.py --clears 1000000 --engine sqlite
    python bench/exports.py --clears 1000000 --engine postgresql

Each clear has five rows in the ledger (three refusals, `authorised`, `completed`), with their links. Prints rows per
second and the largest memory of this process for each file, and the median of five requests for each page. A million
clears take five to ten minutes to make, and 6 GB in a temporary directory that is removed at the end.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from throwaway import ENGINES, database

TIMES = 5
ROWS = 5  # of the ledger for each clear
DIGEST = "0123456789abcdef" * 4
DECIDED = (
    '{"mode":{"value":"scheduled","version":3,"scope":{"root":null,"equipment":"E001","project":null,"run_kind":null}},'
    '"retain_hours":{"value":24,"version":3,"scope":{"root":null,"equipment":"E001","project":null,"run_kind":null}},'
    '"proof":{"value":"checksum","version":null,"scope":null}}'
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time files of the ledger and the search of past runs.")
    parser.add_argument("--clears", type=int, default=100_000)
    parser.add_argument("--engine", choices=ENGINES, default="sqlite")
    parser.add_argument("--explain", action="store_true", help="show the plan of each slow statement")
    parser.add_argument("--only", default="", help="files or pages whose name begins with one of these: clears,past")
    options = parser.parse_args()
    with database(options.engine):
        _measure(options)


def _measure(options: argparse.Namespace) -> None:
    begun = time.monotonic()
    _make(options.clears)
    print(f"{options.engine}: {options.clears:,} clears made in {time.monotonic() - begun:.0f} s", flush=True)
    for title, write in _files():
        if title.startswith(tuple(options.only.split(","))):
            _stream(title, write)
    for title, address in _pages():
        if title.startswith(tuple(options.only.split(","))):
            _time(title, address, explain=options.explain)


def _files() -> Iterator[tuple[str, Any]]:
    from cleanup.ledger import exports

    for name in ("clears", "ledger"):
        yield f"{name}.csv", lambda name=name: exports.as_csv(exports.table(name, None))
        yield f"{name}.jsonl", lambda name=name: exports.as_json_lines(exports.table(name, None))


def _stream(title: str, write: Any) -> None:
    begun, spent, rows, size = time.perf_counter(), time.process_time(), 0, 0
    for part in write():
        rows += part.count(b"\n")
        size += len(part)
    taken, spent = time.perf_counter() - begun, time.process_time() - spent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    rates = f"{rows / taken:8,.0f} rows/s, {rows / spent:8,.0f} by processor time"
    print(f"{title:15} {rows:9,} rows {rates}, {size >> 20:6} MiB; {peak} MiB of memory", flush=True)


def _pages() -> Iterator[tuple[str, str]]:
    from django.urls import reverse

    from cleanup.models import Run
    from cleanup.web import paging

    runs = reverse("past-run-list")
    yield "past runs", runs
    number = Run.objects.count()
    nine_tenths = Run.objects.filter(pk=number // 10).values_list("cleared_at", "pk").get()
    yield "past runs, deep", f"{runs}?after={paging._write(paging.CLEARED_ORDER, nine_tenths)}"
    for query in (
        "equipment=E007",
        "project=P0042",
        "person=person7",
        "person=nobody",
        "equipment=E007&person=person9",
        "since=2023-02-01&until=2023-02-28",
        "since=2023-02-01&until=2023-02-28&person=person7",
        "q=E007",
        "q=000777",
        "q=of+many",
        "q=nothing+of+the+kind",
        "q=nothing&equipment=E007",
    ):
        yield f"past runs {query}", f"{runs}?{query}"


def _make(number: int) -> None:
    from django.db import connection, transaction

    from cleanup.models import Instrument, LedgerHead, Project, StagingRoot

    root = StagingRoot.objects.create(name="lab", host="bench", path="/srv/lab", token="t", nas_path="/mnt/nas")
    Instrument.objects.bulk_create(Instrument(root=root, equipment=f"E{i:03}") for i in range(40))
    Project.objects.bulk_create(Project(code=f"P{i:04}", title=f"Project {i} of many") for i in range(400))
    now = datetime.now(UTC)
    with transaction.atomic(), connection.cursor() as cursor:
        for statement in _statements(number, root.pk, now, sqlite=connection.vendor == "sqlite"):
            cursor.execute(statement)
        LedgerHead.objects.update(position=number * ROWS, last_entry=number * ROWS, sha256=DIGEST)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        if connection.vendor == "postgresql":
            cursor.execute("VACUUM")


def _statements(number: int, root: int, now: datetime, *, sqlite: bool) -> Iterator[str]:
    """Rows by the database alone. Clear i was made i minutes after 2023 began, by one of 30 people."""
    from cleanup.models import ClearAttempt, LedgerEntry, Run

    if sqlite:
        at = "strftime('%Y-%m-%d %H:%M:%S', '2023-01-01', '+' || i || ' minutes')"
        key, leaf = "printf('%032x', i)", "'Run_' || printf('%09d', i)"
        equipment, project = "printf('E%03d', i % 40)", "printf('P%04d', (i / 7) % 400)"
    else:
        at = "timestamptz '2023-01-01 00:00+00' + i * interval '1 minute'"
        key, leaf = "lpad(to_hex(i), 32, '0')::uuid", "'Run_' || lpad(i::text, 9, '0')"
        equipment, project = "'E' || lpad((i % 40)::text, 3, '0')", "'P' || lpad(((i / 7) % 400)::text, 4, '0')"
    actor = "CASE WHEN i % 3 = 0 THEN '' ELSE 'person' || (i % 30) END"
    requester = "CASE WHEN i % 3 = 0 THEN 'schedule' ELSE 'operator' END"
    path = f"{equipment} || '/' || {project} || '/Runs/' || {leaf}"
    series = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {number})"
    place = {"run_path": path, "equipment": equipment, "project": project, "run_kind": "'experimental'"}
    sizes = {"files": "i % 9000", "bytes": "CAST(i % 400000 AS bigint) * 1000000"}
    yield _insert(
        Run,
        series,
        {
            **place,
            **sizes,
            "id": "i",
            "root_id": str(root),
            "identity": "'x'",
            "leaf": leaf,
            "state": "'cleared'",
            "verified_at": at,
            "cleared_at": at,
            "cleared_for": actor,
            "first_seen_at": at,
            "here": "false",
            "tone": "4",
            "judged": "1",
        },
    )
    yield _insert(
        ClearAttempt,
        series,
        {
            "id": key,
            "run_id": "i",
            "kind": "'clear'",
            "phase": "'done'",
            "host": "'bench'",
            "requester": requester,
            "actor": actor,
            "created_at": at,
            "phase_at": at,
            "twin_path": f"'/mnt/nas/' || {path}",
        },
    )
    entry = {
        **place,
        **sizes,
        "at": at,
        "run_id": "i",
        "attempt_id": key,
        "root_name": "'lab'",
        "requester": requester,
        "actor": actor,
        "host": "'bench'",
        "policy_version": "3",
        "decided_by": f"'{DECIDED}'",
        "proof_level": "'checksum'",
        "allocated_bytes": "CAST(i % 400000 AS bigint) * 1000000",
        "plan_sha256": f"'{DIGEST}'",
    }
    for position in range(ROWS):
        row = f"(i - 1) * {ROWS} + {position + 1}"
        kind = ("refused", "refused", "refused", "authorised", "completed")[position]
        digests = f"'{DIGEST}', '{DIGEST}'"
        yield f"""INSERT INTO cleanup_ledgerlink (position, entry_id, form, content_sha256, sha256)
            {series} SELECT {row}, {row}, 1, {digests} FROM n"""
        yield _insert(LedgerEntry, series, {**entry, "id": row, "kind": f"'{kind}'"})


def _insert(model: Any, series: str, given: dict[str, str]) -> str:
    columns = {}
    for field in model._meta.local_concrete_fields:
        if field.column in given:
            columns[field.column] = given[field.column]
        elif field.null:
            continue
        else:
            columns[field.column] = _literal(field)
    quoted = ", ".join(f'"{name}"' for name in columns)
    return f"INSERT INTO {model._meta.db_table} ({quoted}) {series} SELECT {', '.join(columns.values())} FROM n"


def _literal(field: Any) -> str:
    value = field.get_default()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return {"JSONField": f"'{'[]' if value == [] else '{}'}'"}.get(field.get_internal_type(), f"'{value or ''}'")


def _time(title: str, address: str, *, explain: bool) -> None:
    from django.contrib.auth.models import Group, User
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    user, new = User.objects.get_or_create(username="auditor")
    if new:
        user.groups.add(Group.objects.get(name="auditor"))
    client = Client()
    client.force_login(user)
    taken = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        answer = client.get(address)
        taken.append(time.perf_counter() - begun)
        assert answer.status_code == 200, (address, answer.status_code)
    with CaptureQueriesContext(connection) as queries:
        client.get(address)
    print(f"{title:45} {statistics.median(taken) * 1000:8.0f} ms  {len(queries):3} queries", flush=True)
    for query in [query for query in queries.captured_queries if float(query["time"]) > 0.05] if explain else ():
        print(f"    {query['time']} s: {query['sql'][:900]}")
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {'QUERY PLAN ' if connection.vendor == 'sqlite' else ''}{query['sql']}")
            for line in cursor.fetchall():
                print("        ", *line)


if __name__ == "__main__":
    main()
