"""Checks the receipt of a clear: by itself, against the ledger if there is one, and against the NAS."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandParser
from django.db import Error as DjangoDatabaseError
from django.db import connection

from cleanup.ledger.receipts import checking, verifying
from cleanup.ledger.receipts.checking import ReceiptCheck
from cleanup.management.base import LabCommand, UsageError
from exlab import databases


class Command(LabCommand):
    help = "Check a receipt: signature, content, ledger, and the run's bytes on the NAS."
    # It needs no database.
    requires_migrations_checks = False
    requires_system_checks = ()
    acts = False

    def add_arguments(self, parser: CommandParser | ArgumentParser) -> None:
        checking.arguments(parser)
        parser.add_argument("--no-ledger", action="store_true", help="Do not ask the database of this installation.")

    def handle(self, *args: object, **options: Any) -> None:  # noqa: ANN401
        try:
            found = checking.check(options["file"], key=options["key"], nas_root=options["nas_root"])
        except (OSError, ValueError) as error:
            raise UsageError(f"--key {options['key']}: {error}") from None
        if not options["no_ledger"]:
            _ask_ledger(found)
        self.report(options["json"], found.as_json(), found.as_text())
        if found.status:
            sys.exit(found.status)


def _ask_ledger(found: ReceiptCheck) -> None:
    if unready := databases.trouble(connection):  # also keeps SQLite from making an empty file
        found.notes.append(f"no ledger was asked: {unready.said}")
        return
    if found.opened is None:
        return
    try:
        verifying.against_ledger(found.opened, found)
    except DjangoDatabaseError as error:
        found.notes.append(f"no ledger was asked: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
    except (KeyError, TypeError, ValueError):
        return  # named already
