"""Times the pages of runs with very many rows, in a database of its own.

    python bench/runs.py --runs 1000000 --staged 0.5 --engine sqlite
    python bench/runs.py --runs 1000000 --staged 0.5 --engine postgresql

Asks each page five times as an operator, and prints the median with the number of queries: of the time that passed,
and of this process's processor time (with SQLite all there is; PostgreSQL's own processes are not in it). `--staged`
is the share of runs on the staging disk; `--only` selects pages by the start of their name. PostgreSQL comes from the
wheel of the tests. A million runs take a minute or two to make, and 4 GB in a temporary directory that is removed at
the end, also after Ctrl-C.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from throwaway import ENGINES, HERE, database

TIMES = 5
INSTRUMENTS = 40
PROJECTS = 400
# One staged run in N has these codes: tone, reason, state.
KINDS = (
    (1, "", "sync_verified"),
    (1, "", "sync_verified"),
    (3, "not_sync_verified", "sync_queued"),
    (2, "not_in_manifest", "sync_verified"),
    (1, "", "sync_verified"),
    (3, "held", "sync_verified"),
    (2, "nas_missing_file", "sync_verified"),
)
MULTIPLIER = 2_654_435_761


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the list of runs.")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--staged", type=float, default=0.5)
    parser.add_argument("--history", type=int, default=0, help="entries of each run's history")
    parser.add_argument("--engine", choices=ENGINES, default="sqlite")
    parser.add_argument("--only", default="")
    parser.add_argument("--explain", action="store_true", help="show the plan of each slow statement")
    options = parser.parse_args()
    with database(options.engine):
        _measure(options)


def _measure(options: argparse.Namespace) -> None:
    begun = time.monotonic()
    _make(options.runs, options.staged, options.history)
    print(f"{options.engine}: {options.runs:,} runs made in {time.monotonic() - begun:.0f} s")
    for title, address in _pages():
        if title.startswith(options.only):
            _time(title, address, explain=options.explain)


def _make(number: int, staged: float, history: int) -> None:
    from django.db import connection

    from cleanup.lab.roots import registration
    from cleanup.models import Heartbeat, Instrument, Project, Run
    from cleanup.runs import discovery
    from tests.tools.lab import Lab

    now = datetime.now(UTC)
    lab = Lab(HERE / "lab")
    lab.run(verified_at=now - timedelta(days=6))
    root = registration.register(
        "lab", str(lab.staging), nas_path=str(lab.nas), allow_same_filesystem=True, accept_empty=True, now=now
    )
    discovery.discover(root, now=now)
    pattern = Run.objects.get()
    Instrument.objects.bulk_create(Instrument(root=root, equipment=f"E{i:03}") for i in range(INSTRUMENTS))
    Project.objects.bulk_create(Project(code=f"P{i:04}", title=f"Project {i} of many") for i in range(PROJECTS))
    Heartbeat.objects.create(cluster="exlab-clear", host="bench", at=now)
    columns = {
        **{field.column: f"r.{field.column}" for field in Run._meta.local_concrete_fields if not field.primary_key},
        **_columns(number, staged, sqlite=connection.vendor == "sqlite"),
    }
    quoted = ", ".join(f'"{name}"' for name in columns)
    statement = f"""INSERT INTO cleanup_run ({quoted})
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {number - 1})
        SELECT {", ".join(columns.values())} FROM n, cleanup_run r WHERE r.id = {pattern.pk}"""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        cursor.execute(_WORDS.format(last=pattern.pk))
        if history:
            cursor.execute(_HISTORY.format(last=pattern.pk, last_position=history - 1))
        cursor.execute("ANALYZE")
        if connection.vendor == "postgresql":
            cursor.execute("VACUUM cleanup_run")
            cursor.execute("VACUUM cleanup_runword")
    _clear_some(100, now)


def _columns(number: int, staged: float, *, sqlite: bool) -> dict[str, str]:
    here = f"(i % 1000 < {round(staged * 1000)})"

    def of_kind(position: int) -> str:
        cases = " ".join(f"WHEN {index} THEN '{kind[position]}'" for index, kind in enumerate(KINDS))
        return f"CASE (i / 1000) % {len(KINDS)} {cases} END"

    def ago(seconds: str) -> str:
        if sqlite:
            return f"strftime('%Y-%m-%d %H:%M:%S', 'now', '-' || ({seconds}) || ' seconds')"
        return f"now() - ({seconds}) * interval '1 second'"

    equipment, project, leaf = (
        _padded("E", f"i % {INSTRUMENTS}", 3, sqlite),
        _padded("P", f"(i / 7) % {PROJECTS}", 4, sqlite),
        _leaf(sqlite),
    )
    tone = of_kind(0) if sqlite else f"CAST({of_kind(0)} AS integer)"
    return {
        "run_path": f"{equipment} || '/' || {project} || '/Runs/' || {leaf}",
        "identity": "i || ':-:-'" if sqlite else "CAST(i AS text) || ':-:-'",
        "equipment": equipment,
        "project": project,
        "leaf": leaf,
        "state": f"CASE WHEN {here} THEN {of_kind(2)} ELSE 'cleared' END",
        "verified_at": f"CASE WHEN (i / 1000) % 7 = 2 THEN NULL ELSE {ago('i % 7000000')} END",
        "cleared_at": f"CASE WHEN {here} THEN NULL ELSE {ago('i % 5000000')} END",
        "bytes": f"(CAST(i AS bigint) * {MULTIPLIER}) % 400000000000",
        "allocated_bytes": f"(CAST(i AS bigint) * {MULTIPLIER}) % 400000000000",
        "files": f"(CAST(i AS bigint) * {MULTIPLIER}) % 9000",
        "here": here,
        "tone": f"CASE WHEN {here} THEN CAST({tone} AS integer) ELSE 4 END",
        "reason": f"CASE WHEN {here} THEN {of_kind(1)} ELSE '' END",
        "doubts": "1",
        "judged": "1",
        "judge_after": "NULL" if sqlite else "CAST(NULL AS timestamptz)",
    }


def _leaf(sqlite: bool) -> str:
    """A run each three minutes."""
    if sqlite:
        return "'Run_' || strftime('%Y-%m-%dT%H-%M', '2020-01-01', '+' || (i * 3) || ' minutes')"
    return "'Run_' || to_char(timestamp '2020-01-01' + i * interval '3 minutes', 'YYYY-MM-DD\"T\"HH24-MI')"


_WORDS = """INSERT INTO cleanup_runword (run_id, kind, text)
    SELECT id, 'd', substr(leaf, 5, 10) FROM cleanup_run WHERE id > {last}
    UNION ALL SELECT id, 't', substr(leaf, 16, 5) FROM cleanup_run WHERE id > {last}"""
# As many entries of each run as `--history` says.
_HISTORY = """INSERT INTO cleanup_ingestevent (run_id, position, state, at, at_text, host, extra, digest, first_seen_at)
    WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {last_position})
    SELECT r.id, n.i, 'sync_queued', r.first_seen_at, '', 'lab-pc', '{{}}', r.id || '-' || n.i, r.first_seen_at
    FROM n, cleanup_run r WHERE r.id > {last}"""


def _clear_some(number: int, now: datetime) -> None:
    """A batch that waits."""
    from cleanup.models import ClearAttempt, ClearBatch, Run

    batch = ClearBatch.objects.create(actor="ada", digest="0" * 64, created_at=now)
    runs = Run.objects.here().order_by("-pk")[:number]
    ClearAttempt.objects.bulk_create(
        ClearAttempt(
            run=run, batch=batch, host="bench", actor="ada", requester="operator", created_at=now, phase_at=now
        )
        for run in runs
    )


def _padded(prefix: str, number: str, width: int, sqlite: bool) -> str:
    zeros = "0" * width
    text = f"({number})" if sqlite else f"CAST(({number}) AS text)"
    return (
        f"'{prefix}' || substr('{zeros}' || {text}, -{width}, {width})"
        if sqlite
        else (f"'{prefix}' || right('{zeros}' || {text}, {width})")
    )


def _pages() -> Iterator[tuple[str, str]]:
    from django.urls import reverse

    from cleanup.models import ClearBatch, Run
    from cleanup.web import paging

    runs = reverse("run-list")
    yield "overview", reverse("overview")
    yield "list", runs
    for sort, order in paging.ORDERS.items():
        deep = paging.page_of(Run.objects.here(), order, among=Run.objects.all(), before=_near_the_end(order), size=50)
        yield f"sort {sort or 'as they stand'}", f"{runs}?sort={sort}" if sort else runs
        yield f"sort {sort or 'as they stand'}, deep", f"{runs}?sort={sort}&after={deep.after}".replace("sort=&", "")
    yield "cleared", f"{runs}?state=cleared"
    for filters in (
        "root=lab",
        "verdict=go",
        "verdict=block",
        "equipment=E007",
        "equipment=E007&verdict=go",
        "project=P0042",
        "project=P0042&sort=oldest",
        "kind=experimental",
        "kind=test",
        "state=sync_queued",
        "state=unreadable",
        "reason=not_in_manifest",
        "reason=nas_timeout",
        "q=E007",
        "q=of+many",
        "q=2022-04-17",
        "q=14-33",
        "q=17t14-33+e007",
        "q=2022",
        "q=run",
        "q=nothing+of+the+kind",
        "state=cleared&q=nothing",
        "state=cleared&q=e00",
        "state=cleared&q=e007+2022",
        "state=cleared&q=14-33",
        "state=cleared&project=P0042",
    ):
        yield f"filter {filters}", f"{runs}?{filters}"
    staged = Run.objects.here().order_by("pk")[7]
    yield "run", reverse("run-detail", args=[staged.pk])
    yield "page that asks", reverse("clear-run", args=[staged.pk])
    yield "batch", reverse("batch", args=[ClearBatch.objects.get().pk])
    yield "batch, progress", reverse("batch-progress", args=[ClearBatch.objects.get().pk])
    seen = ",".join(f"{pk}.1" for pk in Run.objects.here().values_list("pk", flat=True)[:50])
    yield "changes, none", f"{reverse('run-changes')}?seen={seen}"
    yield "changes, all", f"{reverse('run-changes')}?seen={seen.replace('.1', '.0')}"


def _near_the_end(order: Any) -> str:
    """A place nine tenths down the order, found without a count."""
    from cleanup.models import Run
    from cleanup.web import paging

    runs = Run.objects.here()
    for key in order.keys:
        if key.expression is not None:
            runs = runs.annotate(**{key.name: key.expression})
    rows = runs.order_by(*(key.ordering(False) for key in order.keys)).values_list(*(key.name for key in order.keys))
    row = rows[int(runs.count() * 0.9) : int(runs.count() * 0.9) + 1][0]
    return paging._write(order, row)


def _time(title: str, address: str, *, explain: bool) -> None:
    from django.contrib.auth.models import Group, User
    from django.db import connection, reset_queries
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    user, new = User.objects.get_or_create(username="operator")
    if new:
        user.groups.add(Group.objects.get(name="operator"))
    client = Client()
    client.force_login(user)
    taken, worked = [], []
    for _ in range(TIMES):
        begun, before = time.perf_counter(), time.process_time()
        answer = client.get(address)
        taken.append(time.perf_counter() - begun)
        worked.append(time.process_time() - before)
        assert answer.status_code in (200, 204, 302), (address, answer.status_code)
        if sum(taken) > 20:
            break
    reset_queries()
    with CaptureQueriesContext(connection) as queries:
        client.get(address)
    passed, own = (statistics.median(times) * 1000 for times in (taken, worked))
    print(f"{title:45} {passed:8.0f} ms, {own:6.0f} of this process  {len(queries):3} queries", flush=True)
    slow = [query for query in queries.captured_queries if float(query["time"]) > 0.05]
    for query in slow:
        print(f"    {query['time']} s: {query['sql'][:600] if explain else query['sql'][:110]}")
        if explain and query["sql"].startswith("SELECT"):
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN {'QUERY PLAN ' if connection.vendor == 'sqlite' else ''}{query['sql']}")
                for line in cursor.fetchall():
                    print("        ", *line)


if __name__ == "__main__":
    main()
