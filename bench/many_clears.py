"""Very many clears with their rows of the ledger, links and sums, made by the database itself; for measurements.

Five rows of the ledger to a clear, spread over `YEAR`: two refusals, `authorised`, `completed` and one that frees
nothing. The chain is whole and the sums are right, so that `verify_ledger` finds nothing.
"""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

YEAR = 2025
KINDS = ("refused", "refused", "authorised", "completed", "set_aside")
INSTRUMENTS, PROJECTS, PEOPLE = 40, 400, 30
_SECONDS = 364 * 86_400
_MULTIPLIER = 2_654_435_761
_AT_ONCE = 50_000  # clears in one transaction
_LINKS_AT_ONCE = 5_000
_LEVELS = "CASE i % 10 WHEN 0 THEN 'size' WHEN 1 THEN 'record' ELSE 'checksum' END"


def make(begin: int, end: int) -> None:
    """Make the clears `begin` + 1 to `end`, and say how long it took."""
    from django.apps import apps
    from django.db import connection

    from cleanup.models.triggers import install, remove

    times = [time.monotonic()]
    dialect = _Dialect(begin, end, sqlite=connection.vendor == "sqlite")
    if dialect.sqlite:
        _run("PRAGMA synchronous=OFF", "PRAGMA cache_size=-500000")
    remove(connection)
    for first in range(begin, end, _AT_ONCE):
        _make_some(dialect, first, min(first + _AT_ONCE, end))
    times.append(time.monotonic())
    _link()
    install(using="default")
    times.append(time.monotonic())
    if not dialect.sqlite:
        _run("VACUUM ANALYZE")  # autovacuum is off here
    _run("ANALYZE", "DELETE FROM cleanup_daysum")
    import_module("cleanup.migrations.0026_day_sums").fill(apps, SimpleNamespace(connection=connection))
    times.append(time.monotonic())
    _run(
        *(("ANALYZE", "PRAGMA synchronous=FULL", "PRAGMA cache_size=-2000") if dialect.sqlite else ("VACUUM ANALYZE",))
    )
    connection.close()
    rows, links, sums = (after - before for before, after in pairwise(times))
    print(f"{end:,} clears: rows made in {rows:.0f} s, linked in {links:.0f} s, added up in {sums:.0f} s", flush=True)


def served() -> float:
    """Return the seconds that this connection's process of PostgreSQL has worked; on a busy machine they tell more."""
    from django.db import connection

    if connection.vendor != "postgresql":
        return 0.0
    connection.ensure_connection()
    told = Path(f"/proc/{connection.connection.info.backend_pid}/stat").read_text().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


def _make_some(dialect: "_Dialect", begin: int, end: int) -> None:
    from django.db import transaction

    from cleanup.models import ClearAttempt, Instrument, LedgerEntry, Project, Run, StagingRoot

    now = datetime.now(UTC)
    fields = {"host": "lab-pc", "path": "/nonexistent", "discovered_at": now}
    root, new = StagingRoot.objects.get_or_create(name="lab", defaults=fields)
    if new:
        Instrument.objects.bulk_create(Instrument(root=root, equipment=f"E{i:03}") for i in range(INSTRUMENTS))
        Project.objects.bulk_create(Project(code=f"P{i:04}", title=f"Project {i} of many") for i in range(PROJECTS))
    run = Run(root=root, first_seen_at=now, state="cleared", run_kind="experimental", here=False)
    run.doubts = run.judged = 1
    run.tone = 4
    attempt = ClearAttempt(phase="done", host="lab-pc", created_at=now, phase_at=now)
    entry = LedgerEntry(at=now, root_name="lab", run_kind="experimental", host="lab-pc", policy_version=3)
    entry.plan_sha256 = "0123456789abcdef" * 4
    with transaction.atomic():
        _insert(run, dialect.run(), begin, end)
        _insert(attempt, dialect.attempt(), begin, end)
        _insert(entry, dialect.entry(), begin, end, rows=len(KINDS))


def _insert(pattern: Any, columns: dict[str, str], begin: int, end: int, *, rows: int = 1) -> None:
    """Rows like a pattern, with these columns as expressions of the clear i; `rows` of each, by their place p."""
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
        WITH RECURSIVE n(r) AS (
            SELECT CAST({begin * rows} AS bigint) UNION ALL SELECT r + 1 FROM n WHERE r < {end * rows - 1}
        )
        SELECT {chosen} FROM (SELECT r, r / {rows} + 1 AS i, r %% {rows} AS p FROM n) AS numbers"""
    with connection.cursor() as cursor:
        cursor.execute(statement, given)


def _link() -> None:
    """Write the links of the rows that have none, and the head."""
    from django.db import transaction

    from cleanup.models import LedgerHead

    head = LedgerHead.objects.get()
    while True:
        with transaction.atomic():
            links = list(_some_links(head))
            if not links:
                return
            _insert_links(links)
            head.save()


def _some_links(head: Any) -> Iterator[tuple[Any, ...]]:
    from django.db import connection

    from cleanup.ledger import chain, linked_rows

    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {linked_rows.columns()} FROM cleanup_ledgerentry e WHERE e.id > {head.last_entry} ORDER BY e.id "
            f"LIMIT {_LINKS_AT_ONCE}"
        )
        rows = cursor.fetchall()
    for row in rows:
        content = chain.digest(linked_rows.content_of(row))
        head.sha256 = chain.link_digest(head.sha256, content)
        head.position += 1
        head.last_entry += 1
        yield head.position, head.last_entry, chain.FORM, content, head.sha256


def _insert_links(links: list[tuple[Any, ...]]) -> None:
    from django.db import connection

    columns = "cleanup_ledgerlink (position, entry_id, form, content_sha256, sha256)"
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with cursor.copy(f"COPY {columns} FROM STDIN") as copy:
                for link in links:
                    copy.write_row(link)
            return
        cursor.executemany(f"INSERT INTO {columns} VALUES (%s, %s, %s, %s, %s)", links)


def _run(*statements: str) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


class _Dialect:
    """The columns of clear number i, and of its row p of the ledger."""

    def __init__(self, begin: int, end: int, *, sqlite: bool) -> None:
        self.sqlite = sqlite
        self._spread = f"((i - {begin} - 1) * {_SECONDS} / {end - begin})"

    def run(self) -> dict[str, str]:
        leaf = self._text("Run_", "i", 9)
        of_run = {**self._of_run(), "leaf": leaf, "identity": "CAST(i AS text)", "cleared_for": self._actor()}
        at = {"verified_at": self._at("3600 * (i % 400)"), "cleared_at": self._at(), "first_seen_at": self._at()}
        return {"id": "i", **of_run, **at, **self._sizes("1 = 1", measured=False)}

    def attempt(self) -> dict[str, str]:
        copy = f"'/mnt/nas/' || {self._of_run()['run_path']}"
        at = {"created_at": self._at(), "phase_at": self._at()}
        return {"id": self._uuid(), "run_id": "i", **self._asked(), **at, "twin_path": copy}

    def entry(self) -> dict[str, str]:
        kinds = " ".join(f"WHEN {place} THEN '{kind}'" for place, kind in enumerate(KINDS))
        columns = {
            "id": "r + 1",
            "at": self._at("0", "p"),
            "kind": f"CASE p {kinds} END",
            "run_id": "i",
            "attempt_id": self._uuid(),
            **self._of_run(),
            **self._asked(),
            "cause": "CASE i % 6 WHEN 0 THEN 'retention' WHEN 3 THEN 'free_space' ELSE '' END",
            "decided_by": self._decided_by(),
            "proof_level": _LEVELS,
            "reason": "CASE p WHEN 0 THEN 'held' WHEN 1 THEN 'retention_not_elapsed' ELSE '' END",
        }
        return {**columns, **self._sizes("p IN (2, 3)", measured=True)}

    def _of_run(self) -> dict[str, str]:
        equipment, project = self._text("E", f"i % {INSTRUMENTS}", 3), self._text("P", f"(i / 7) % {PROJECTS}", 4)
        rare = f"CASE WHEN i % 9973 = 0 THEN 'RARE' ELSE {project} END"
        path = f"{equipment} || '/' || {project} || '/Runs/' || {self._text('Run_', 'i', 9)}"
        return {"run_path": path, "equipment": equipment, "project": rare}

    def _asked(self) -> dict[str, str]:
        """A third by the schedule."""
        return {"requester": "CASE i % 3 WHEN 0 THEN 'schedule' ELSE 'operator' END", "actor": self._actor()}

    def _actor(self) -> str:
        return f"CASE i % 3 WHEN 0 THEN '' ELSE 'person' || CAST(i % {PEOPLE} AS text) END"

    def _decided_by(self) -> str:
        scope = '{"root": null, "equipment": "E007", "project": null, "run_kind": null}'
        sources = [
            f'"{name}": {{"value": {value}, "version": %d, "scope": {scope}}}'
            for name, value in (("mode", '"scheduled"'), ("retain_hours", "24.0"), ("proof", '"checksum"'))
        ]
        by = [("{" + ", ".join(sources) + "}").replace("%d", str(version)) for version in (1, 2, 3)]
        decided = f"CASE i % 3 WHEN 0 THEN '{by[0]}' WHEN 1 THEN '{by[1]}' ELSE '{by[2]}' END"
        return decided if self.sqlite else f"CAST({decided} AS jsonb)"

    def _sizes(self, condition: str, *, measured: bool) -> dict[str, str]:
        size = f"((i * {_MULTIPLIER}) % 400000000000)"
        known = f"CASE WHEN {condition} THEN {size} ELSE 0 END"
        sizes = {"files": f"CASE WHEN {condition} THEN i % 9000 ELSE 0 END", "bytes": known, "allocated_bytes": known}
        if measured:
            sizes["measured_bytes"] = f"CASE WHEN {condition} AND i % 5 = 0 THEN {size} ELSE NULL END"
        return sizes

    def _at(self, earlier: str = "0", later: str = "0") -> str:
        seconds = f"{int(datetime(YEAR, 1, 1, tzinfo=UTC).timestamp())} + {self._spread} - {earlier} + {later}"
        return f"datetime({seconds}, 'unixepoch')" if self.sqlite else f"to_timestamp({seconds})"

    def _text(self, prefix: str, number: str, width: int) -> str:
        zeros = "0" * width
        return f"'{prefix}' || substr('{zeros}' || CAST({number} AS text), length(CAST({number} AS text)) + 1)"

    def _uuid(self) -> str:
        """Scattered, as random keys are."""
        scattered = f"(i * {_MULTIPLIER}) % 4294967296"
        if self.sqlite:
            return f"printf('%08x%024x', {scattered}, i)"
        return f"CAST(lpad(to_hex({scattered}), 8, '0') || lpad(to_hex(i), 24, '0') AS uuid)"
