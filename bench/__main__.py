"""Compares the product with the tools that a careful person uses, side by side, row by row.

    python -m bench --quick
    python -m bench --row clear-s1-size --row remove-s1 --rounds 3 --json speed.json
    python -m bench --profile clear-s1-checksum

A round takes each side once: a peer, ours, then the other peers; so a busy machine is as busy for all of them. The
ratio is ours divided by theirs in the same round; the table has its median and its range. Copies are made before each
measurement, written out, and read once where the work reads them. A clear is the whole clear, in a database of its
own, in a process that has started before, as a worker has. Everything lies in one scratch folder on one filesystem; it
needs 8 GB for all rows and is removed at the end, also after Ctrl-C.
"""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

QUICK_SCALE, QUICK_ROUNDS = 0.02, 3
ROUNDS = 5
ENGINES = ("sqlite", "postgresql")


def main() -> None:
    options = _options()
    if options.dir:
        tempfile.tempdir = str(Path(options.dir).resolve())  # before the first import that makes a folder
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    from bench.throwaway import HERE, database

    # After the environment for Django's settings is set.
    with database(options.engine):
        from bench import comparison

        comparison.run(options, HERE / "bench")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Compare with rm, du, sha256sum and rclone.")
    parser.add_argument("--quick", action="store_true", help="smaller trees and three rounds: about a minute")
    parser.add_argument("--row", action="append", default=[], metavar="NAME", help="this row only; may be repeated")
    parser.add_argument("--rounds", type=int, help=f"times that each side works; {ROUNDS}, or {QUICK_ROUNDS} if quick")
    parser.add_argument("--scale", type=float, help=f"share of the files in each tree; 1, or {QUICK_SCALE} if quick")
    parser.add_argument("--json", metavar="FILE", help="write the results there too")
    parser.add_argument("--dir", metavar="FOLDER", help="make the scratch folder here: on the filesystem to measure")
    parser.add_argument("--engine", choices=ENGINES, default="sqlite", help="the database of the clears")
    parser.add_argument("--profile", metavar="ROW", help="profile our side of one row instead; writes ROW.prof here")
    options = parser.parse_args()
    options.scale = options.scale or (QUICK_SCALE if options.quick else 1.0)
    options.rounds = max(1, options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS))
    options.json = options.json and Path(options.json).resolve()
    return options


if __name__ == "__main__":
    main()
