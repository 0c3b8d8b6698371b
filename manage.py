#!/usr/bin/env python3
"""The command line of the project: `python manage.py help`."""

import sys


def main() -> None:
    from exlab import starting

    with starting.guarded():
        try:
            starting.expect_settings()
        except Exception:  # whatever keeps the program from starting
            check_without_settings()
            raise
        execute()


def check_without_settings() -> None:
    """A receipt outlives its installation: it is checked also where nothing else can be done."""
    if sys.argv[1:2] == ["verify_receipt"]:
        from cleanup.ledger.receipts import checking

        sys.exit(checking.main(sys.argv[2:]))


def execute() -> None:
    from django.core.management import execute_from_command_line
    from django.db import OperationalError

    try:
        execute_from_command_line(sys.argv)
    except OperationalError as error:
        from cleanup.lab import lock_waits

        if not lock_waits.is_at_fault(error):
            raise
        sys.exit(lock_waits.say(error))


if __name__ == "__main__":
    main()
