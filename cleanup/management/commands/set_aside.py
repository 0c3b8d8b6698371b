"""Move unlisted files out of a run, or back, or list them."""

import os
import sys
from typing import Any

from django.core.management.base import CommandParser

from cleanup.lab.roots.opening import Unreachable
from cleanup.management.base import (
    FAILED,
    LabCommand,
    UsageError,
    add_root_argument,
    add_user_argument,
    find_roots,
    find_run,
    now,
    reason_text,
    user_named,
)
from cleanup.models import Run, SetAside, StagingRoot
from cleanup.runs.set_aside import set_aside, set_aside_recovery
from cleanup.runs.set_aside.set_aside import NotSetAside
from cleanup.text import values


class Command(LabCommand):
    help = (
        "Move files that a run's manifest does not list into .exlab-set-aside beside the run, so that the run can be "
        "cleared. Nothing is removed, and nothing is replaced."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run_path", nargs="?", metavar="RUN_PATH")
        parser.add_argument("files", nargs="*", metavar="FILE", help="Their paths in the run; none: show which may be.")
        parser.add_argument(
            "--undo", action="store_true", help="Put them back to where they lay; no FILE: all of them."
        )
        parser.add_argument("--list", action="store_true", help="List what lies set aside.")
        parser.add_argument("--reason", type=reason_text, default="", metavar="TEXT", help="Why; kept in the ledger.")
        add_user_argument(parser, "Who says so; by default the account that runs this command.")
        add_root_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        at = now()
        roots = find_roots(options["root"], at_work=True)
        if options["list"]:
            self._list(options, roots)
            return
        if not options["run_path"]:
            raise UsageError("Name a run, or say --list.")
        run = find_run(options["run_path"], roots)
        paths = [os.fsencode(file) for file in options["files"]]
        try:
            if options["undo"] or paths:
                self._act(run, paths, options, at)
            else:
                self._show(run, options)
        except (NotSetAside, Unreachable) as refused:
            answer = {"root": run.root.name, "run_path": run.run_path, "refused": str(refused), "files": []}
            self.report(options["json"], answer, f"nothing more was done: {refused}")
            sys.exit(FAILED)

    def _show(self, run: Run, options: dict[str, Any]) -> None:
        found = set_aside.extras(run)
        files = [{"file": extra.shown, "bytes": extra.size} for extra in found]
        answer = {"root": run.root.name, "run_path": run.run_path, "may_be_set_aside": files}
        lines = [f"{values.files(len(found))} may be set aside", *(f"  {extra.shown}" for extra in found)]
        self.report(options["json"], answer, "\n".join(lines))

    def _act(self, run: Run, paths: list[bytes], options: dict[str, Any], at: Any) -> None:  # noqa: ANN401
        reason, actor = options["reason"].strip(), user_named(options["user"])
        if not reason:
            raise UsageError("Say why with --reason.")
        if options["undo"]:
            rows = _rows(run, paths)
            for row in rows:
                set_aside.put_back(row, actor=actor, reason=reason)
        else:
            rows = set_aside.set_aside(run, paths, actor=actor, reason=reason, now=at)
        answer = {"root": run.root.name, "run_path": run.run_path, "refused": None, "files": list(map(_as_json, rows))}
        done = "put back" if options["undo"] else "set aside"
        self.report(options["json"], answer, f"{values.files(len(rows))} {done}")

    def _list(self, options: dict[str, Any], roots: list[StagingRoot]) -> None:
        rows = list(SetAside.objects.there().filter(run__root__in=roots).select_related("run__root"))
        lines = [f"{values.files(len(rows))} set aside"]
        lines += [f"  {set_aside_recovery.where(row)} ({row.size} bytes), by {row.actor}: {row.note}" for row in rows]
        self.report(options["json"], {"set_aside": list(map(_as_json, rows))}, "\n".join(lines))


def _rows(run: Run, paths: list[bytes]) -> list[SetAside]:
    rows = {row.name: row for row in SetAside.objects.there().filter(run=run)}
    for path in paths:
        if path not in rows:
            raise UsageError(f"{os.fsdecode(path)} of this run is not set aside.")
    return [rows[path] for path in dict.fromkeys(paths or rows)]


def _as_json(row: SetAside) -> dict[str, Any]:
    return {
        "root": row.run.root.name,
        "run_path": row.run_path,
        "file": row.path,
        "where": set_aside_recovery.where(row),
        "bytes": row.size,
        "state": row.state,
        "actor": row.actor,
        "reason": row.note,
        "at": row.at,
    }
