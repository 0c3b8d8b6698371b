"""Freed files and bytes."""

from typing import Any

from django.core.management.base import CommandParser
from django.db.models import Count, F
from django.db.models.functions import TruncMonth

from cleanup.management.base import LabCommand, parse_iso
from cleanup.models import LedgerEntry, LedgerQuerySet
from cleanup.models.aggregates import bytes_sum
from cleanup.models.ledger import measured_sums
from cleanup.rules.freed import say_freed
from cleanup.text import values

_KEYS: dict[str, Any] = {
    "month": TruncMonth("at"),
    "equipment": F("equipment"),
    "project": F("project"),
    "operator": F("actor"),
}


class Command(LabCommand):
    help = "Account for what was freed, from the ledger."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--since", type=parse_iso, metavar="ISO")
        parser.add_argument("--by", choices=list(_KEYS))

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        entries = LedgerEntry.objects.all()
        if options["since"]:
            entries = entries.filter(at__gte=options["since"])
        groups = []
        if options["by"]:
            rows: Any = entries.freeing().order_by().values(key=_KEYS[options["by"]])
            for row in rows.annotate(
                runs=Count("run", distinct=True),
                files=bytes_sum("files"),
                freed=bytes_sum("bytes"),
                allocated=bytes_sum("allocated_bytes"),
                **measured_sums(),
            ).order_by("key"):
                key = row["key"].strftime("%Y-%m") if options["by"] == "month" else row["key"] or "(schedule)"
                groups.append(
                    {
                        options["by"]: key,
                        "runs": row["runs"],
                        "files": int(row["files"]),
                        "bytes_freed": int(row["freed"]),
                        "allocated_bytes": int(row["allocated"]),
                        "measured_bytes": int(row["measured_bytes"]),
                        "measured_of_bytes": int(row["measured_of_bytes"]),
                    }
                )
        totals = {**entries.totals(), **entries.measured()}
        totals["bytes_freed"] = totals.pop("bytes")
        answer = {"since": options["since"], "by": options["by"], "groups": groups, "total": totals}
        lines = [_line(group[options["by"]], group) for group in groups]
        if options["by"] == "operator":
            answer["typed_by"] = _typed_by(entries)
            lines += [_line(f"  {one['operator']}, typed by {one['account']}", one) for one in answer["typed_by"]]
        lines.append(_line("total", totals))
        self.report(options["json"], answer, "\n".join(lines))


def _typed_by(entries: LedgerQuerySet) -> list[dict[str, Any]]:
    """`--user` may name other users than the account."""
    typed: Any = entries.freeing().exclude(typed_by="").order_by().values("actor", "typed_by")
    rows = typed.annotate(runs=Count("run", distinct=True), files=bytes_sum("files"), freed=bytes_sum("bytes"))
    return [
        {
            "operator": row["actor"] or "(schedule)",
            "account": row["typed_by"],
            "runs": row["runs"],
            "files": int(row["files"]),
            "bytes_freed": int(row["freed"]),
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
