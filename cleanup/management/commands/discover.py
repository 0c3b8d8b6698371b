"""Bring what is on disk into the database."""

from typing import Any

from django.core.management.base import CommandParser

from cleanup.lab.roots import disk_usage
from cleanup.management.base import LabCommand, add_root_argument, find_roots, now
from cleanup.runs import discovery


class Command(LabCommand):
    help = "Bring what is on disk into the database. Changes nothing on disk."

    def add_arguments(self, parser: CommandParser) -> None:
        add_root_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        at = now()
        roots = find_roots(options["root"], at_work=True)
        for root in roots:
            disk_usage.measure(root, at)
        passes = [found for root in roots if (found := discovery.discover(root, now=at, say=self.stderr.write))]
        problems = [
            {"root": found.root.name, "run_path": path, "reason": reason, "detail": detail}
            for found in passes
            for path, reason, detail in found.problems
        ]
        totals = {
            name: sum(getattr(found, name) for found in passes) for name in ("found", "new", "updated", "unchanged")
        }
        proposals = [{"root": found.root.name, **found.proposal} for found in passes if found.proposal]
        answer = {"root": roots[0].name if len(roots) == 1 else None, **totals, "problems": problems}
        if proposals:
            answer["proposals"] = proposals
        lines = [", ".join(f"{count} {name}" for name, count in totals.items())]
        lines += [
            f"{problem['run_path'] or problem['root']}: {problem['reason']} {problem['detail']}" for problem in problems
        ]
        lines += [
            f"{proposal['root']}: {proposal['found']} of {proposal['of']} verified runs have a copy under the layout "
            f"{proposal['layout']} (add_staging_root … --nas-layout {proposal['layout']})"
            for proposal in proposals
        ]
        self.report(options["json"], answer, "\n".join(lines))
