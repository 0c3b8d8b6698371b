"""Times the check of the ledger's chain and sums with very many rows, in a database of its own.

    python bench/ledger.py --rows 1000000 --engine sqlite
    python bench/ledger.py --rows 1000000 --engine postgresql

Prints how long `verify_ledger` takes for the chain and for the sums, how much of that its own process and the server
worked, and the most memory of this process. A million rows (of 200,000 clears, `many_clears`) take a minute or two to
make, and 2 GB in a temporary directory (below TMPDIR) that is removed at the end, also after Ctrl-C.
"""

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import many_clears
from throwaway import ENGINES, database

MOST_ROWS = 10_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the check of the ledger.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--engine", choices=ENGINES, default="sqlite")
    options = parser.parse_args()
    with database(options.engine):
        _measure(min(options.rows, MOST_ROWS), options.engine)


def _measure(rows: int, engine: str) -> None:
    from cleanup.ledger import sum_check, verification

    clears = rows // len(many_clears.KINDS)
    many_clears.make(0, clears)
    print(f"{engine}: {clears * len(many_clears.KINDS):,} rows")
    verified = _time("chain", verification.verify)
    assert verified.bad is None and verified.position == clears * len(many_clears.KINDS), verified
    differences = _time("sums", sum_check.differences)
    assert differences == [], differences


def _time(title: str, check: Callable[[], Any]) -> Any:
    begun, computed, served = time.monotonic(), time.process_time(), many_clears.served()
    found = check()
    taken, computed, served = time.monotonic() - begun, time.process_time() - computed, many_clears.served() - served
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    work = f"{computed:.1f} s of them on our processor, {served:.1f} s on the server's"
    print(f"  {title}: {taken:.1f} s ({work}), {most} MiB of memory", flush=True)
    return found


if __name__ == "__main__":
    main()
