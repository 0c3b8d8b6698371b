"""Times the audit's pages with very many clears, in a database of its own.

    PYTHONPATH=. python bench/audit.py --clears 1000000 --engine sqlite
    PYTHONPATH=. python bench/audit.py --clears 1000000 --engine postgresql

Five rows of the ledger to a clear, spread over a year. Asks each page five times as an auditor, with ten thousand
clears and with all. Prints the medians of the time that passed and that this process worked, what the server worked,
and the number of queries; then what a row takes to write, with and without the sums. `--check` also compares the sums
with the rows. A million clears take ten minutes to make, and 8 GB in a temporary directory (below TMPDIR) that is
removed at the end.
"""

import argparse
import logging
import statistics
import time

import many_clears
from many_clears import YEAR
from throwaway import ENGINES, database

TIMES = 5
FEW = 10_000


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
        many_clears.make(made, number)
        made = number
        print(
            f"{options.engine}: {number:,} clears, {number * len(many_clears.KINDS):,} rows of the ledger", flush=True
        )
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
    taken, worked, served = [], [], many_clears.served()
    for _ in range(TIMES):
        begun, cpu = time.perf_counter(), time.process_time()
        answer = client.get(address)
        taken.append(time.perf_counter() - begun)
        worked.append(time.process_time() - cpu)
        assert answer.status_code == 200, (address, answer.status_code)
        if sum(taken) > 20:
            break
    served = (many_clears.served() - served) * 1000 / len(taken)
    with CaptureQueriesContext(connection) as queries:
        client.get(address)
    median, cpu = (statistics.median(times) * 1000 for times in (taken, worked))
    work = f"{cpu:.0f} of this process, {served:.0f} of the server's"
    print(f"  {title:30} {median:8.0f} ms, {work}  {len(queries):3} queries", flush=True)
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
