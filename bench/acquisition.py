"""Measures what an instrument loses while runs are proven ahead: how fast it writes with the prover, and without.

    PYTHONPATH=. python bench/acquisition.py
    PYTHONPATH=. python bench/acquisition.py --pairs 4 --seconds 3 --dir /srv/lab

The instrument writes files to the staging disk as fast as the disk takes them, and syncs each. The prover works in a
process of its own, as on a host, and is stopped and continued by signals: a pair of windows has one with it and one
without it, in turns. It always finds something to prove. Prints both for each pair, and the median of the ratios.
"""

import argparse
import logging
import os
import shutil
import signal
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from throwaway import ENGINES, HERE, database

_FIRST = datetime(2026, 4, 17, 14, 0, tzinfo=UTC)
_BLOCK = 8 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure an acquisition beside the prover.")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each window")
    parser.add_argument("--runs", type=int, default=6, help="runs of 128 MiB that are proven")
    parser.add_argument("--dir", help="make the scratch folder here: on the disk to measure")
    parser.add_argument("--engine", choices=ENGINES, default="sqlite")
    options = parser.parse_args()
    if options.dir:
        tempfile.tempdir = str(Path(options.dir).resolve())
    logging.disable(logging.WARNING)
    with database(options.engine):
        ratios = measure(HERE / "acquisition", options.pairs, options.seconds, options.runs)
    print(f"with the prover {statistics.median(ratios):.3f} of the speed without it (median of {len(ratios)})")


def measure(scratch: Path, pairs: int, seconds: float, runs: int) -> list[float]:
    """The speed with the prover divided by that without it, for each pair of windows."""
    from bench import comparison
    from cleanup.lab import policy_versions
    from cleanup.models import StagingRoot
    from cleanup.runs import discovery

    scratch.mkdir()
    lab = comparison.lay_lab(scratch)
    content = os.urandom(1 << 20)
    for number in range(runs):
        leaf = f"Run_{_FIRST + timedelta(minutes=number):%Y-%m-%dT%H-%M}"
        files = {f"f{each:03}.dat": content for each in range(128)}
        verified = datetime.now(UTC) - timedelta(days=6)
        lab.run(f"BENCH_01/PROVEN/Runs/{leaf}", files=files, verified_at=verified)
    policy_versions.add_version(author="bench", now=datetime.now(UTC), proof="checksum")
    discovery.discover(StagingRoot.objects.get(), now=datetime.now(UTC))
    acquired = lab.staging / "being-written"
    acquired.mkdir()
    prover = _start_prover()
    try:
        os.kill(prover, signal.SIGSTOP)
        _write(acquired, seconds)  # the first window finds an empty disk
        return [_pair(acquired, seconds, prover, first=number % 2 == 0) for number in range(pairs)]
    finally:
        os.kill(prover, signal.SIGKILL)
        os.waitpid(prover, 0)
        shutil.rmtree(scratch)


def _pair(place: Path, seconds: float, prover: int, *, first: bool) -> float:
    speeds = {}
    for is_on in (first, not first):
        os.kill(prover, signal.SIGCONT if is_on else signal.SIGSTOP)
        speeds[is_on] = _write(place, seconds)
    print(f"{speeds[True] / 1e6:8.0f} MB/s with the prover, {speeds[False] / 1e6:8.0f} without it", flush=True)
    return speeds[True] / speeds[False]


def _write(place: Path, seconds: float) -> float:
    """Bytes a second."""
    block, written, begun = os.urandom(_BLOCK), 0, time.perf_counter()
    file = place / "frames.raw"
    while time.perf_counter() - begun < seconds:
        with file.open("wb") as frames:
            frames.write(block)
            frames.flush()
            os.fsync(frames.fileno())
        written += _BLOCK
    return written / (time.perf_counter() - begun)


def _start_prover() -> int:
    from django.db import connections

    connections.close_all()
    child = os.fork()
    if child:
        return child
    try:
        _prove_again_and_again()
    finally:
        os._exit(1)


def _prove_again_and_again() -> None:
    from cleanup.models import Proof, ProvingRun
    from cleanup.runs.proving import prover
    from cleanup.storage import linux

    linux.come_last()
    while True:
        prover.prove_due(seconds=30)
        ProvingRun.objects.all().delete()
        Proof.objects.all().delete()
        time.sleep(0.2)


if __name__ == "__main__":
    main()
