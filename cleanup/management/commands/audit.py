"""Freed files and bytes."""

from typing import Any

from django.core.management.base import CommandParser
from django.db.models import Count, F
from django.db.models.functions import TruncMonth

from cleanup.management.base import LabCommand, parse_iso
from cleanup.models import LedgerEntry
from cleanup.models.sums import bytes_sum
from cleanup.templatetags import words

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
            rows = entries.freeing().order_by().values(key=_KEYS[options["by"]])
            for row in rows.annotate(
                runs=Count("run", distinct=True),
                files=bytes_sum("files"),
                freed=bytes_sum("bytes"),
                allocated=bytes_sum("allocated_bytes"),
            ).order_by("key"):
                key = row["key"].strftime("%Y-%m") if options["by"] == "month" else row["key"] or "(schedule)"
                groups.append(
                    {
                        options["by"]: key,
                        "runs": row["runs"],
                        "files": int(row["files"]),
                        "bytes_freed": int(row["freed"]),
                        "allocated_bytes": int(row["allocated"]),
                    }
                )
        totals = entries.totals()
        totals["bytes_freed"] = totals.pop("bytes")
        answer = {"since": options["since"], "by": options["by"], "groups": groups, "total": totals}
        lines = [_line(group[options["by"]], group) for group in groups] + [_line("total", totals)]
        self.report(options["json"], answer, "\n".join(lines))


def _line(name: str, freed: dict[str, Any]) -> str:
    size = words.exact_bytes(freed["bytes_freed"])
    return f"{name}: {words.runs(freed['runs'])}, {words.files(freed['files'])}, {size} freed"
