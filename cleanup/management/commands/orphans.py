"""List what on the staging disks belongs to no run."""

from datetime import datetime
from typing import Any

from django.core.management.base import CommandParser

from cleanup.management.base import LabCommand, add_root_argument, find_roots, now
from cleanup.models import Orphan, OrphanKind
from cleanup.runs.orphans import orphans
from cleanup.runs.orphans.orphans import Inspected
from cleanup.text import values


class Command(LabCommand):
    help = "List what belongs to no known run, with size, age and a safe next step. Changes nothing on disk."

    def add_arguments(self, parser: CommandParser) -> None:
        add_root_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        at = now()
        roots = find_roots(options["root"], at_work=True)
        passes = [done for root in roots if (done := orphans.inspect(root, now=at, seconds=None))]
        found = list(orphans.listed().filter(root__in=roots).select_related("root", "run"))
        problems = [
            {"root": done.root.name, "reason": done.problem.reason, "detail": done.problem.detail}
            for done in passes
            if done.problem
        ]
        waiting = sum(done.waiting for done in passes)
        answer = {
            "root": roots[0].name if len(roots) == 1 else None,
            "now": at,
            "listed": len(found),
            "waiting": waiting,
            "problems": problems,
            "orphans": [_as_json(orphan) for orphan in found],
        }
        lines = [line for orphan in found for line in _as_lines(orphan, at, several=len(roots) > 1)]
        lines += [_said(done) for done in passes if done.problem]
        lines.append(f"{len(found)} listed, {waiting} seen too recently to be called orphans")
        self.report(options["json"], answer, "\n".join(lines))


def _as_json(orphan: Orphan) -> dict[str, Any]:
    return {
        "root": orphan.root.name,
        "path": orphan.path,
        "kind": orphan.kind,
        "reason": orphan.reason,
        "detail": orphan.detail,
        "files": orphan.files,
        "bytes": orphan.bytes,
        "modified_at": orphan.modified_at,
        "first_seen_at": orphan.first_seen_at,
        "escalated_at": orphan.escalated_at,
        "next_step": orphans.next_step(orphan),
    }


def _as_lines(orphan: Orphan, at: datetime, *, several: bool) -> list[str]:
    path = f"{orphan.root.name}: {orphan.path}" if several else orphan.path
    age = f"last written {values.ago(orphan.modified_at, at)}, " if orphan.modified_at else ""
    size = f"{values.files(orphan.files)}, {values.exact_bytes(orphan.bytes)}"
    over = "; past the ceiling: an admin decides" if orphan.escalated_at else ""
    way_out = (
        f" If it will not come back: mark_gone {orphan.path} --reason …" if orphan.kind == OrphanKind.MISSING else ""
    )
    return [
        f"{orphan.kind:10} {path}  {size}; {age}first seen {values.ago(orphan.first_seen_at, at)}{over}",
        f"{'':10} {values.sentence(orphan.reason)} {values.advice(orphan.reason)}{way_out} {orphan.detail}".rstrip(),
    ]


def _said(done: Inspected) -> str:
    return f"{done.root.name}: {done.problem.reason.sentence} {done.problem.detail}" if done.problem else ""
