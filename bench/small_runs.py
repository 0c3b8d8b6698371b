"""How many small runs a worker clears in a second, and where its time goes.

    python -m bench.small_runs
    python -m bench.small_runs --runs 1000 --files 10 --engine postgresql --dir /mnt/disk

Runs of ten files, each at `checksum` with nothing proven before, one after the other in one process: as a command or
a sweep clears them (`at once`), and as a worker does what a click has queued (`from the queue`), with all that a task
does around a clear, but not the queue's own work.
"""

import argparse
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
_BATCH = 1_000  # runs that a person can ask for together


@dataclass
class _Spent:
    """Statements, durable transactions and syncs, and the seconds that passed in the first and the last."""

    statements: int = 0
    commits: int = 0
    in_database: float = 0.0
    syncs: int = 0
    in_syncs: float = 0.0

    def ask(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        begun = time.monotonic()
        try:
            return execute(sql, params, many, context)
        finally:
            self.statements += 1
            self.in_database += time.monotonic() - begun
            self.commits += sql.split(maxsplit=1)[0] in ("INSERT", "UPDATE", "DELETE") and not _is_inside()

    def commit(self, real: Callable[[], None]) -> Callable[[], None]:
        def commit() -> None:
            begun = time.monotonic()
            real()
            self.commits += 1
            self.in_database += time.monotonic() - begun

        return commit

    def sync(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def sync(descriptor: int) -> None:
            begun = time.monotonic()
            real(descriptor)
            self.syncs += 1
            self.in_syncs += time.monotonic() - begun

        return sync


def _is_inside() -> bool:
    from django.db import connection

    return connection.in_atomic_block


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.small_runs", description="Measure clears of small runs.")
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--dir", metavar="FOLDER", help="make the scratch folder here: on the filesystem to measure")
    options = parser.parse_args()
    if options.dir:
        tempfile.tempdir = str(Path(options.dir).resolve())  # before the first import that makes a folder
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    from bench.throwaway import HERE, database

    with database(options.engine):
        measure(HERE / "small", options)


def measure(place: Path, options: argparse.Namespace) -> None:
    import logging

    logging.disable(logging.WARNING)
    place.mkdir()
    print(f"{options.runs:,} runs of {options.files} files, database {options.engine}, load {os.getloadavg()[0]:.1f}")
    print(f"{'':16} runs/s  ms a run  processor ms: ours, NAS process   statements  commits  ms   syncs  ms")
    for name, work in (("at once", _at_once), ("from the queue", _from_the_queue)):
        runs = _lay(place / name.replace(" ", "-"), options)
        spent = _Spent()
        ours, children, begun = _cpu(resource.RUSAGE_SELF), _cpu(resource.RUSAGE_CHILDREN), time.monotonic()
        with _watched(spent):
            work(runs)
        passed = time.monotonic() - begun
        ours = _cpu(resource.RUSAGE_SELF) - ours
        children = _cpu(resource.RUSAGE_CHILDREN) - children
        number, ms = len(runs), 1_000 / len(runs)
        print(
            f"{name:16} {number / passed:6.1f}  {passed * ms:8.1f}  {ours * ms:19.1f}  {children * ms:11.1f}   "
            f"{spent.statements / number:10.1f}  {spent.commits / number:7.1f}  {spent.in_database * ms:4.1f}"
            f"  {spent.syncs / number:4.1f}  {spent.in_syncs * ms:4.1f}",
            flush=True,
        )


def _lay(place: Path, options: argparse.Namespace) -> list[Any]:
    from cleanup.lab import policy_versions
    from cleanup.lab.roots import registration
    from cleanup.models import Run
    from cleanup.runs import discovery
    from tests.tools.lab import Lab

    lab, now = Lab(place), datetime.now(UTC)
    files = {f"f{number:03}.dat": os.urandom(2_048) for number in range(options.files)}
    for number in range(options.runs):
        leaf = f"Run_{_FIRST + timedelta(minutes=number):%Y-%m-%dT%H-%M}"
        lab.run(f"BENCH_01/SMALL/Runs/{leaf}", files=files, verified_at=now - timedelta(days=6))
    how: dict[str, Any] = {"nas_path": str(lab.nas), "allow_same_filesystem": True, "accept_empty": True}
    root = registration.register(place.name, str(lab.staging), now=now, **how)
    policy_versions.add_version(author="bench", now=now, proof="checksum")
    discovery.discover(root, now=now)
    return list(Run.objects.with_root().filter(root=root))


def _at_once(runs: list[Any]) -> None:
    from cleanup.clears import clear_now

    report = clear_now.clear(runs, now=datetime.now(UTC), actor="bench")
    assert len(report.freeing) == len(runs), [run for run in report.runs if run.reason][:3]


def _from_the_queue(runs: list[Any]) -> None:
    from cleanup import tasks
    from cleanup.clears import queue
    from cleanup.lab.nas import kept_readers
    from cleanup.models import ClearBatch, Phase, RetentionPolicy

    now = datetime.now(UTC)
    policy = RetentionPolicy.objects.effective_for(runs[0])
    for start in range(0, len(runs), _BATCH):
        batch = ClearBatch.objects.create(actor="bench", created_at=now)
        some = [(run, policy) for run in runs[start : start + _BATCH]]
        for attempt in queue.request_many(some, batch=batch, now=now):
            said = tasks.clear(str(attempt.pk))
            assert said.endswith(Phase.DONE), said
    kept_readers.end()


@contextmanager
def _watched(spent: _Spent) -> Iterator[None]:
    from django.db import connection

    real_sync, real_commit = os.fsync, connection._commit
    os.fsync, connection._commit = spent.sync(real_sync), spent.commit(real_commit)  # type: ignore[method-assign]
    try:
        with connection.execute_wrapper(spent.ask):
            yield
    finally:
        os.fsync, connection._commit = real_sync, real_commit  # type: ignore[method-assign]


def _cpu(whose: int) -> float:
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
