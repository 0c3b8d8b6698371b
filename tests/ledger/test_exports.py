"""Tables as files: what spreadsheets and programs get, and that no file needs memory for all its rows."""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from cleanup.ledger import book, chain, clear_table, exports, raw_table
from cleanup.ledger.entry_filter import EntryFilter
from cleanup.ledger.period import Period, of_year
from cleanup.ledger.tables import Column, Kind, Table
from cleanup.models import LedgerEntry, LedgerLink, StagingRoot
from cleanup.rules.visible_names import visible
from tests.tools.checkout import CHECKOUT
from tests.tools.rows import clear_rows, run_row

COLUMNS = (
    Column("name", "name"),
    Column("files", "files", Kind.COUNT),
    Column("bytes", "logical bytes", Kind.BYTES),
    Column("took", "took", Kind.SECONDS),
    Column("at", "at", Kind.INSTANT),
)
AT = datetime(2026, 4, 17, 16, 32, 7, 5, tzinfo=timezone(timedelta(hours=2)))


def made(*rows: tuple[Any, ...]) -> Table:
    return Table("some", "Some", COLUMNS, rows)


def csv_of(table: Table, **how: bool) -> bytes:
    return b"".join(exports.as_csv(table, **how))


def lines_of(table: Table) -> list[dict[str, Any]]:
    return [json.loads(line) for line in b"".join(exports.as_json_lines(table)).splitlines()]


@pytest.mark.one_engine
@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_no_cell_is_a_formula(first: str) -> None:
    text = f'{first}HYPERLINK("http://example.org")'
    (_head, row) = csv.reader(io.StringIO(csv_of(made((text, 1, 2, 0.5, AT))).decode(), newline=""))
    assert row[0] == f"'{visible(text)}" and row[0][1:].isprintable()
    (line,) = lines_of(made((text, 1, 2, 0.5, AT)))
    assert line["name"] == text


@pytest.mark.one_engine(by="function")
def test_values_stay_what_they_are() -> None:
    big = 2**63 + 1
    rows = made(('a "b", c', -7, big, 1.5, AT), ("\u202eback\udc80", 0, None, None, None), ("", 1, 2, 3, AT))
    assert csv_of(rows) == (
        b"name,files,bytes,took,at\r\n"
        b'"a ""b"", c",-7,9223372036854775809,1.5,2026-04-17T14:32:07.000005Z\r\n'
        b"\\u202eback\\udc80,0,,,\r\n"
        b",1,2,3.0,2026-04-17T14:32:07.000005Z\r\n"
    )
    first, second, _third = lines_of(rows)
    assert first == {"name": 'a "b", c', "files": -7, "bytes": big, "took": 1.5, "at": "2026-04-17T14:32:07.000005Z"}
    assert second == {"name": "\u202eback\udc80", "files": 0, "bytes": None, "took": None, "at": None}
    assert csv_of(made(), bom=True) == b"\xef\xbb\xbfname,files,bytes,took,at\r\n"
    assert b"".join(exports.as_json_lines(made())) == b""
    with pytest.raises(ValueError, match="=1"):  # a text among numbers would be a cell without a guard
        csv_of(made(("a", "=1+1", 1, 1.0, AT)))


@pytest.mark.one_engine(by="function")
@pytest.mark.parametrize("write", [exports.as_csv, exports.as_json_lines])
def test_rows_are_forgotten_once_they_are_written(write: Any) -> None:
    read = 0

    def rows() -> Iterator[tuple[Any, ...]]:
        nonlocal read
        for read in range(1, 100_001):
            yield (f"{read}", read, read, 1.0, AT)

    parts = write(Table("many", "Many", COLUMNS, rows()))
    while read == 0:
        next(parts)
    assert read <= 500


@pytest.fixture
def root(db: None) -> StagingRoot:
    return StagingRoot.objects.create(name="lab", host="lab-pc", path="/srv/lab", token="t")


@pytest.fixture
def clears(root: StagingRoot, now: datetime) -> list[Any]:
    """Three clears a day apart, the second with a later row; a refusal; a row of no run."""
    made = []
    for number in range(3):
        run = run_row(root, f"FLOW_01/PROJ-{number}/Runs/Run_2026-04-1{number}T14-32", first_seen_at=now)
        at = now + number * timedelta(days=1)
        made.append(
            clear_rows(run, at, files=10, size=1000 + number, actor=f"person{number}", twin_path=f"/nas/{number}")
        )
    of_second = {"run": made[1].run, "attempt": made[1], "run_path": made[1].run.run_path, "equipment": "FLOW_01"}
    scope = {"root": None, "equipment": "FLOW_01", "project": None, "run_kind": None}
    by = {"mode": {"value": "scheduled", "version": 3, "scope": scope}, "proof": {"value": "size"}}
    same = {"at": now + timedelta(days=9), "root_name": "lab", "policy_version": 3, "decided_by": by, "reason": "held"}
    book.write(LedgerEntry(kind="refused", **of_second, **same))
    book.write(LedgerEntry(kind="partial", files=1, bytes=2**62, allocated_bytes=4096, **of_second, **same))
    book.write(LedgerEntry(kind="key", detail="\u202ekey", at=now, policy_version=0))
    return made


def test_the_ledger_as_json_lines_is_enough_to_check_the_chain(clears: list[Any]) -> None:
    lines = lines_of(exports.table("ledger", None))
    assert len(lines) == LedgerEntry.objects.count() == 9
    head, links = book.head(), {link.position: link for link in LedgerLink.objects.all()}
    before = chain.beginning(head.installation, began_after=0, unvouched=0)
    for position, line in enumerate(lines, 1):
        link = {name: line.pop(f"link_{name}") for name in ("position", "form", "content_sha256", "sha256")}
        line["decided_by"] = json.loads(line["decided_by"])
        content = hashlib.sha256(json.dumps(line, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()
        before = chain.link_digest(before, content)
        assert (link["position"], link["content_sha256"], link["sha256"]) == (position, content, before)
        assert links[position].sha256 == before
    assert before == head.sha256


def test_a_clear_is_one_row_whenever_its_rows_were_written(clears: list[Any], now: datetime) -> None:
    lines = lines_of(exports.table("clears", None))
    assert [line["attempt_id"] for line in lines] == [clear.pk.hex for clear in clears]
    assert [(line["files"], line["bytes"]) for line in lines] == [(10, 1000), (11, 1001 + 2**62), (10, 1002)]
    assert [lines[0][name] for name in ("person", "trigger", "outcome")] == ["person0", "click", "complete"]
    assert lines[1]["copy_path"] == "/nas/1" and lines[1]["run_id"] == clears[1].run_id
    # By the day of its first row: once, in one period alone.
    day = (now + timedelta(days=1)).date()
    inside, later = Period(day, day), Period(day + timedelta(days=3), date(2026, 12, 31))
    assert [line["run_id"] for line in lines_of(exports.table("clears", inside))] == [clears[1].run_id]
    assert lines_of(exports.table("clears", later)) == []
    assert [line["kind"] for line in lines_of(exports.table("ledger", later))] == ["refused", "partial"]
    assert lines_of(exports.table("ledger", Period(date(2026, 2, 1), date(2026, 1, 1)))) == []


def test_more_rows_than_one_query_reads(clears: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {name: lines_of(exports.table(name, None)) for name in ("ledger", "clears")}
    for module in (raw_table, clear_table):
        monkeypatch.setattr(module, "_AT_ONCE", 2)
    assert {name: lines_of(exports.table(name, None)) for name in whole} == whole


def test_a_filter_finds_by_what_the_rows_say(clears: list[Any], now: datetime) -> None:
    def found(**chosen: Any) -> list[int]:
        return [line["run_id"] for line in lines_of(clear_table.table(EntryFilter(**chosen)))]

    first, second, third = (clear.run_id for clear in clears)
    assert found(person="person1") == [second] and found(person="nobody") == []
    assert found(project="PROJ-2") == [third] and found(equipment="FLOW_01") == [first, second, third]
    assert found(root="other") == [] and found(root="lab", since=now + timedelta(hours=1)) == [second, third]
    assert found(until=now + timedelta(days=1)) == [first]
    # By a policy version: the partial row names it, and is the only one of its clear that does.
    assert [entry.kind for entry in EntryFilter(policy=3).entries().order_by("pk")] == ["refused", "partial"]
    assert found(policy=0) == [first, second, third]


@pytest.mark.one_engine(by="function")
def test_an_unknown_table_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        exports.table("secrets", None)


@pytest.mark.one_engine(by="function")
@pytest.mark.parametrize("name", exports.names())
def test_the_document_has_every_column_with_its_kind_in_its_order(db: None, name: str) -> None:
    text = (CHECKOUT / "docs/exports.md").read_text()
    section = text.partition(f"## Columns: {name}\n")[2].partition("\n## ")[0]
    told = re.findall(r"^\| `(\w+)` \| (\w+) \|", section, re.MULTILINE)
    table = exports.table(name, of_year(2026))
    assert told == [(column.name, column.kind.value) for column in table.columns] != []
    assert table.name == name


@pytest.mark.one_engine(by="function")
def test_the_ledgers_file_has_each_column_of_the_newest_form() -> None:
    names = [column.name for column in raw_table.COLUMNS]
    assert names[: -len(raw_table._LINK)] == list(chain.FIELDS[chain.FORM])
    assert exports.in_utc(AT) == "2026-04-17T14:32:07.000005Z" and AT.astimezone(UTC).hour == 14
