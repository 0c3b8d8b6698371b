"""Times the clear of proven runs whose NAS is far away: sshfs with a millisecond for each answer.

    PYTHONPATH=. python bench/far_nas.py
    PYTHONPATH=. python bench/far_nas.py --files 100 --runs 3 --latency 0.005

Every byte was compared before, so what is left over the network are two listings, and the look under the fence, which
opens every copy again. Prints for each run the seconds of the clear and of that look, and how often a file's answer was
waited for. Needs root, sshfs and an sftp-server.
"""

import argparse
import logging
import os
import statistics
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

from throwaway import ENGINES, HERE, database

_FIRST = datetime(2026, 4, 17, 14, 0, tzinfo=UTC)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time clears over a slow network.")
    parser.add_argument("--files", type=int, default=1000, help="files of a run, 1 to 4 KiB each")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--latency", type=float, default=0.001, help="seconds until an answer comes")
    parser.add_argument("--engine", choices=ENGINES, default="sqlite")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with database(options.engine):
        _measure(options)


def _measure(options: argparse.Namespace) -> None:
    from bench import comparison, ours
    from cleanup.clears import nas_questions
    from cleanup.lab import policy_versions
    from tests.faults import mounts
    from tests.tools.lab import Lab

    scratch, far = HERE / "far", HERE / "server"
    scratch.mkdir()
    far.mkdir()
    lab = Lab(scratch / "lab")
    leaves = [f"Run_{_FIRST + timedelta(minutes=number):%Y-%m-%dT%H-%M}" for number in range(options.runs)]
    runs, verified = [], datetime.now(UTC) - timedelta(days=6)
    for leaf in leaves:
        files = {f"d{each % 8}/f{each}.dat": os.urandom(1024 + each % 3072) for each in range(options.files)}
        runs.append(lab.run(f"BENCH_01/FAR/Runs/{leaf}", files=files, verified_at=verified))
    for path in lab.nas.iterdir():
        path.rename(far / path.name)
    reopen, told = nas_questions._reopen, dict[str, float]()
    with mounts.far_away_sshfs(lab.nas, far, seconds=options.latency) as traffic:

        def reopen_and_note(*words: object) -> None:
            traffic.requests, begun = Counter(), time.perf_counter()
            reopen(*words)  # type: ignore[arg-type]
            told.update(seconds=time.perf_counter() - begun, waits=traffic.waited_for / options.files)

        nas_questions._reopen = reopen_and_note
        comparison.register(lab)
        policy_versions.add_version(author="bench", now=datetime.now(UTC), proof="checksum")
        taken, looks = [], []
        for run in runs:
            counted = [path.stat().st_size for path in run.rglob("*") if path.is_file()]
            work, begun = ours.clear_proven(run, (len(counted), sum(counted))), time.perf_counter()
            work()
            taken.append(time.perf_counter() - begun)
            looks.append(told["seconds"])
            print(f"{taken[-1]:.3f} s, of which {looks[-1]:.3f} s to open each copy; {told['waits']:.2f} waits a file")
        print(f"clear: {_spread(taken)}; each copy opened again: {_spread(looks)}")


def _spread(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    return f"median {statistics.median(ordered):.3f} s, 95 % {ordered[int(0.95 * (len(ordered) - 1))]:.3f} s"


if __name__ == "__main__":
    main()
