"""Freed files and bytes."""

import argparse
from collections.abc import Callable, Iterator
from datetime import datetime
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
from cleanup.text import values


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
        parser.add_argument("--csv", action="store_true")
        parser.add_argument("--jsonl", action="store_true", help="JSON Lines.")
        parser.add_argument("--bom", action="store_true", help="Begin a CSV with a byte order mark.")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        _refuse_contradictions(options)
        by = list(dict.fromkeys(freed_groups.SAME.get(name, name) for name in options["by"]))
        chosen = _filter_of(options)
        if options["csv"] or options["jsonl"]:
            table = clear_table.table(chosen) if options["runs"] else freed_groups.table(chosen.entries(), by)
            self._write(exports.as_csv(table, bom=options["bom"]) if options["csv"] else exports.as_json_lines(table))
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
    names = [column.name for column in table.columns]
    return (dict(zip(names, row, strict=True)) for row in table.rows)


def _clear_line(clear: dict[str, Any]) -> str:
    who = f"{clear['person']} ({clear['trigger']})" if clear["person"] else clear["trigger"]
    size = f"{values.files(clear['files'])}, {values.exact_bytes(clear['bytes'])}"
    left = ", files are left" if clear["outcome"] == "partial" else ""
    proof = clear["proof_level"] or "no"
    path = f"{clear['root_name']}:{clear['run_path']}"
    return values.visible(f"{values.instant(clear['cleared_at'])}  {path}  {size}{left}; {who}, {proof} proof")


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
