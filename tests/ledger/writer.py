"""A process that writes to the ledger: `python -m tests.ledger.writer NAME TRANSACTIONS`.

It says that it is ready and waits for a line. Each third of its transactions is rolled back; the others write one or
two rows. At the end it says how many rows it wrote.
"""

import contextlib
import sys
import time
from datetime import UTC, datetime

from django.db import OperationalError

AT = datetime(2026, 6, 15, 8, 0, tzinfo=UTC)
_TRIES = 20


class _Regret(Exception):
    pass


def main(name: str, transactions: int) -> None:
    import django

    django.setup()
    _say("ready")
    sys.stdin.readline()
    written = sum(_with_patience(name, number) for number in range(transactions))
    _say(str(written))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _with_patience(name: str, number: int) -> int:
    time.sleep(0.002)  # gives the others their turn, or a busy machine lets one process write all of its rows first
    for _ in range(_TRIES):
        with contextlib.suppress(OperationalError):  # a busy machine: the lock did not come in time
            return _transaction(name, number)
    raise TimeoutError


def _transaction(name: str, number: int) -> int:
    from django.conf import settings

    from cleanup.ledger import book
    from tests.ledger.book_rows import key_row

    rows = [key_row(AT, number, actor=name, host=settings.EXLAB_HOST) for _ in range(1 + number % 3)]
    try:
        with book.writing():
            for row in rows:
                book.write(row)
            if number % 3 == 2:
                raise _Regret
    except _Regret:
        return 0
    return len(rows)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
