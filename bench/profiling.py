"""Where the time of our side goes: one run of a row under cProfile."""

import cProfile
import pstats
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bench import measuring
from bench.rows import Row
from bench.trees import Tree
from cleanup.storage.nas import reader_process

_SHOWN = 25


def profile(row: Row, tree: Tree, results: Path) -> None:
    """Writes `ROW.prof`, for a clear also `ROW-nas.prof` of the process that reads the NAS; prints both."""
    mine, nas = results / f"{row.name}.prof", results / f"{row.name}-nas.prof"
    place = row.ours.lay(tree)
    measuring.apart(lambda: _profiled(row, tree, place, mine, nas))
    for title, file in (("this process", mine), ("the process that reads the NAS", nas)):
        if file.exists():
            print(f"\n{row.work}: {title}, {file}")
            pstats.Stats(str(file)).strip_dirs().sort_stats("tottime").print_stats(_SHOWN)
            pstats.Stats(str(file)).strip_dirs().sort_stats("cumulative").print_stats(_SHOWN)


def _profiled(row: Row, tree: Tree, place: Path, mine: Path, nas: Path) -> None:
    work = row.ours.begin(tree, place)
    _profile_reader(nas)
    profiler = cProfile.Profile(time.process_time)  # waiting says little on a busy machine
    profiler.runcall(work)
    profiler.dump_stats(mine)


def _profile_reader(results: Path) -> None:
    start, module = reader_process.start, reader_process.SERVER

    def start_profiled(words: Sequence[str]) -> subprocess.Popen[bytes]:
        # The profiler writes when the reader ends by itself.
        return start(["-o", str(results), "-m", module, *words])

    reader_process.SERVER, reader_process.start = "cProfile", start_profiled
