"""Freed files and bytes."""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any

from django.core.management.base import CommandParser
from django.db.models import Count

from cleanup.lab import days
from cleanup.ledger import clear_table, exports, freed_groups
from cleanup.ledger.dimensions import Trigger
from cleanup.ledger.entry_filter import EntryFilter
from cleanup.ledger.tables import Table
from cleanup.management.base import LabCommand, UsageError, add_root_argument
from cleanup.models import LedgerQuerySet
from cleanup.models.aggregates import exact_bytes_sum
from cleanup.rules.freed import say_freed
from cleanup.runs import file_names
from cleanup.runs.file_names import Candidate, FileSearch, NotRead
from cleanup.text import values

_AT_ONCE = 1_000  # clears between two words on how far a search is
_WHY = {
    NotRead.ELSEWHERE: "their lists are on the host {}",
    NotRead.OTHER_PROGRAM: "no clear of this program",
    NotRead.GONE: "their lists are gone from the data directory",
    NotRead.UNREADABLE: "their lists cannot be read or were changed",
}


class Command(LabCommand):
    help = "Account for what was freed, from the ledger."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--since", type=_since, metavar="WHEN", help="From this day or instant on.")
        parser.add_argument("--until", type=_until, metavar="WHEN", help="To the end of this day, or this instant.")
        parser.add_argument(
            "--by",
            choices=[*freed_groups.KEYS, *freed_groups.SAME],
            action="append",
            default=[],
            help="Add up by this, and by more if it is given again. `person` is `operator`: who asked for the clear.",
        )
        add_root_argument(parser)
        parser.add_argument("--equipment", metavar="E", help="Only this instrument.")
        parser.add_argument("--project", metavar="P", help="Only this project.")
        parser.add_argument("--user", metavar="NAME", help="Only what this person asked for.")
        parser.add_argument("--policy", type=int, metavar="VERSION", help="Only what this policy version decided.")
        parser.add_argument("--trigger", choices=[trigger.value for trigger in Trigger])
        parser.add_argument("--runs", action="store_true", help="One line for each clear.")
        parser.add_argument("--file", metavar="TEXT", help="Only clears of runs that had a file with this in its path.")
        parser.add_argument("--csv", action="store_true")
        parser.add_argument("--jsonl", action="store_true", help="JSON Lines.")
        parser.add_argument("--bom", action="store_true", help="Begin a CSV with a byte order mark.")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        _refuse_contradictions(options)
        by = list(dict.fromkeys(freed_groups.SAME.get(name, name) for name in options["by"]))
        chosen = _filter_of(options)
        if options["file"]:
            self._with_file(clear_table.table(chosen), options)
        elif options["csv"] or options["jsonl"]:
            table = clear_table.table(chosen) if options["runs"] else freed_groups.table(chosen.entries(), by)
            self._write_table(table, options)
        elif options["runs"] and not options["json"]:
            for clear in _records(clear_table.table(chosen)):
                self.stdout.write(_clear_line(clear))
        else:
            self._account(chosen, by, options)

    def _account(self, chosen: EntryFilter, by: list[str], options: dict[str, Any]) -> None:
        entries = chosen.entries()
        names = ("root", "equipment", "project", "user", "policy", "trigger")
        answer: dict[str, Any] = {
            "since": options["since"],
            "until": options["until"],
            "by": by[0] if len(by) == 1 else by or None,
            "filters": {name: options[name] for name in names if options[name] is not None},
        }
        groups = freed_groups.groups(entries, by) if by else []
        answer["groups"] = [{**dict(zip(by, group.keys, strict=True)), **group.sums} for group in groups]
        answer["total"] = freed_groups.total(entries)
        lines = [_line(" · ".join(group.keys), group.sums) for group in groups]
        if by == ["operator"]:
            answer["typed_by"] = _typed_by(entries)
            lines += [_line(f"  {one['operator']}, typed by {one['account']}", one) for one in answer["typed_by"]]
        if options["runs"]:
            answer["runs"] = list(_records(clear_table.table(chosen)))
        lines.append(_line("total", answer["total"]))
        self.report(options["json"], answer, "\n".join(lines))

    def _with_file(self, table: Table, options: dict[str, Any]) -> None:
        """The clears whose lists of files have a name, with these names; how far it looked stands on stderr."""
        said = FileSearch()
        found = file_names.look_through(self._told(table, said), options["file"], said)
        if options["csv"] or options["jsonl"]:
            self._write_table(replace(table, rows=(row for (_run, row), _names in found)), options)
        else:
            for (_run, row), names in found:
                self.stdout.write(_clear_line(_record(table, row)))
                for name in names.names:
                    self.stdout.write(f"  {name}")
                if names.more:
                    self.stdout.write("  and more")
        self.stderr.write(_looked(said))

    def _told(self, table: Table, said: FileSearch) -> Iterator[list[Candidate]]:
        """The rows of a table of clears, some at a time."""
        run_at = [column.name for column in table.columns].index("run_id")
        rows = iter(table.rows)
        while some := list(islice(rows, _AT_ONCE)):
            if said.last:
                self.stderr.write(_looked(said))
            yield [(row[run_at], row) for row in some]

    def _write_table(self, table: Table, options: dict[str, Any]) -> None:
        self._write(exports.as_csv(table, bom=options["bom"]) if options["csv"] else exports.as_json_lines(table))

    def _write(self, parts: Iterator[bytes]) -> None:
        # As bytes where that is possible: the terminal's encoding may know fewer characters than UTF-8.
        buffer = getattr(self.stdout._out, "buffer", None)
        for part in parts:
            if buffer is None:
                self.stdout.write(part.decode(), ending="")
            else:
                buffer.write(part)


def _since(text: str) -> datetime:
    return _read(text, days.read_since)


def _until(text: str) -> datetime:
    return _read(text, lambda given: days.read_until(given).at)


def _read(text: str, read: Callable[[str], datetime]) -> datetime:
    try:
        return read(text)
    except (days.NoInstant, OverflowError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _refuse_contradictions(options: dict[str, Any]) -> None:
    if sum(bool(options[name]) for name in ("json", "csv", "jsonl")) > 1:
        raise UsageError("Name one of --json, --csv and --jsonl.")
    if options["bom"] and not options["csv"]:
        raise UsageError("--bom is for --csv.")
    if options["runs"] and options["by"]:
        raise UsageError("--runs lists clears, --by adds them up: name one of the two.")
    if options["file"] is not None and (not options["file"].strip() or options["json"] or not options["runs"]):
        raise UsageError(
            "--file names a part of a file's path, for --runs, with --csv and --jsonl but not with --json."
        )


def _filter_of(options: dict[str, Any]) -> EntryFilter:
    return EntryFilter(
        since=options["since"],
        until=options["until"],
        equipment=options["equipment"] or "",
        project=options["project"] or "",
        person=options["user"],
        root=options["root"] or "",
        policy=options["policy"],
        trigger=Trigger(options["trigger"]) if options["trigger"] else None,
    )


def _records(table: Table) -> Iterator[dict[str, Any]]:
    return (_record(table, row) for row in table.rows)


def _record(table: Table, row: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip((column.name for column in table.columns), row, strict=True))


def _looked(said: FileSearch) -> str:
    """`Looked through the files of 1,240 runs. Not looked into: 12 runs (their lists are on the host pc-2).`"""
    told = f"Looked through the files of {values.runs(said.looked)}."
    unread = [f"{values.runs(number)} ({_WHY[why].format(host)})" for (why, host), number in said.unread.most_common()]
    return f"{told} Not looked into: {', '.join(unread)}." if unread else told


def _clear_line(clear: dict[str, Any]) -> str:
    who = f"{clear['person']} ({clear['trigger']})" if clear["person"] else clear["trigger"]
    size = f"{values.files(clear['files'])}, {values.exact_bytes(clear['bytes'])}"
    left = ", files are left" if clear["outcome"] == "partial" else ""
    proof = clear["proof_level"] or "no"
    path = f"{clear['root_name']}:{clear['run_path']}"
    return values.visible(f"{values.exact_instant(clear['cleared_at'])}  {path}  {size}{left}; {who}, {proof} proof")


def _typed_by(entries: LedgerQuerySet) -> list[dict[str, Any]]:
    """`--user` may name other users than the account."""
    typed: Any = entries.freeing().exclude(typed_by="").order_by().values("actor", "typed_by")
    rows = typed.annotate(
        runs=Count("run", distinct=True), files=exact_bytes_sum("files"), freed=exact_bytes_sum("bytes")
    )
    return [
        {
            "operator": row["actor"] or freed_groups.SCHEDULE,
            "account": row["typed_by"],
            "runs": row["runs"],
            "files": row["files"],
            "bytes_freed": row["freed"],
        }
        for row in rows.order_by("actor", "typed_by")
    ]


def _line(name: str, freed: dict[str, Any]) -> str:
    size = values.exact_bytes(freed["bytes_freed"])
    name = values.visible(name)
    told = f"{name}: {values.runs(freed['runs'])}, {values.files(freed['files'])}, {size} freed"
    if not freed.get("measured_of_bytes"):
        return told
    return f"{told}; on disks {say_freed(freed['measured_of_bytes'], freed['measured_bytes'])}"
