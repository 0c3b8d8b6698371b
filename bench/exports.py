"""Times the ledger's files and the search of past runs with very many clears, in a database of its own.

    python bench/exports.py --clears 1000000 --engine sqlite
    python bench/exports.py --clears 1000000 --engine postgresql

Each clear has five rows in the ledger, with their links (`many_clears`). Prints rows per second and the largest memory
of this process for each file, and the median of five requests for each page. A million clears take five to ten minutes
to make, and 8 GB in a temporary directory (below TMPDIR) that is removed at the end.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Iterator
from typing import Any

import many_clears
from throwaway import ENGINES, database

TIMES = 5


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
    many_clears.make(0, options.clears)
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
        "since=2025-02-01&until=2025-02-28",
        "since=2025-02-01&until=2025-02-28&person=person7",
        "q=E007",
        "q=000777",
        "q=of+many",
        "q=nothing+of+the+kind",
        "q=nothing&equipment=E007",
    ):
        yield f"past runs {query}", f"{runs}?{query}"


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
