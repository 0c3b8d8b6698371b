#!/usr/bin/env python3
"""The command line of the project: `python manage.py help`."""

import sys


def main() -> None:
    from exlab import starting

    with starting.guarded():
        starting.expect_settings()
        execute()


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
