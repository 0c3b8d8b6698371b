"""Where the time of our side goes: one run of a row under cProfile."""

import cProfile
import pstats
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import measuring
from bench.measuring import Work
from bench.rows import Row
from bench.trees import Tree
from cleanup.storage.nas import reader_process

_SHOWN = 25


def profile(row: Row, tree: Tree, results: Path) -> None:
    """Writes `ROW.prof`, for a clear also `ROW-nas.prof` of the process that reads the NAS; prints both."""
    mine, nas = results / f"{row.name}.prof", results / f"{row.name}-nas.prof"
    place = row.ours.lay(tree)
    measuring.apart(lambda: _profiled(row.ours.begin, tree, place, mine, nas))
    for title, file in (("this process", mine), ("the process that reads the NAS", nas)):
        if file.exists():
            print(f"\n{row.work}: {title}, {file}")
            pstats.Stats(str(file)).strip_dirs().sort_stats("tottime").print_stats(_SHOWN)
            pstats.Stats(str(file)).strip_dirs().sort_stats("cumulative").print_stats(_SHOWN)


def _profiled(begin: object, tree: Tree, place: Path, mine: Path, nas: Path) -> None:
    assert callable(begin)
    work: Work = begin(tree, place)
    _profile_reader(nas)
    profiler = cProfile.Profile()
    profiler.runcall(work)
    profiler.dump_stats(mine)


def _profile_reader(results: Path) -> None:
    start = reader_process.start

    def under_profile(words: Sequence[str]) -> subprocess.Popen[bytes]:
        # The same words, after those of the profiler; its results are written when the reader ends by itself.
        former, module = sys.executable, reader_process.SERVER
        reader_process.SERVER = "cProfile"
        try:
            return start(["-o", str(results), "-m", module, *words])
        finally:
            sys.executable, reader_process.SERVER = former, module

    reader_process.start = under_profile
