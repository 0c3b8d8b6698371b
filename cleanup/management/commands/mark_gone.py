"""Say of a run whose directory is not there any more that it is gone."""

import getpass
import sys
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandParser

from cleanup import marking
from cleanup.management.base import FAILED, LabCommand, UsageError, add_root_argument, find_roots, find_run, now


class Command(LabCommand):
    help = "Mark a run as gone whose directory is not on its staging disk any more. It is not called cleared."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run_path", metavar="RUN_PATH")
        parser.add_argument("--reason", required=True, metavar="TEXT", help="Where it went; kept in the ledger.")
        parser.add_argument(
            "--user", metavar="NAME", help="Who says so; by default the account that runs this command."
        )
        add_root_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        at = now()
        roots = find_roots(options["root"])
        reason = options["reason"].strip()[: marking.MAX_REASON]
        if not reason:
            raise UsageError("Say with --reason where the run went.")
        if options["user"] and not get_user_model().objects.filter(username=options["user"]).exists():
            raise UsageError(f"No user {options['user']} is known.")
        run = find_run(options["run_path"], roots)
        refused: marking.NotGone | None = None
        try:
            marking.mark_gone(run, actor=options["user"] or getpass.getuser(), reason=reason, now=at)
        except marking.NotGone as error:
            refused = error
        answer = {
            "root": run.root.name,
            "run_path": run.run_path,
            "marked": refused is None,
            "reason": refused.finding.reason if refused and refused.finding else None,
            "detail": str(refused) if refused else "",
        }
        text = f"not marked as gone: {run.run_path}  {refused}" if refused else f"marked as gone: {run.run_path}"
        self.report(options["json"], answer, text)
        if refused:
            sys.exit(FAILED)
