"""Measures how the cost of a clear grows with its files, and with the runs cleared before, and draws both.

    PYTHONPATH=. python bench/growth.py
    PYTHONPATH=. python bench/growth.py --clears 0,100000 --files 5000,25000 --rounds 1 --out /tmp

Processor time of the whole clear with the process that reads the NAS; the median of some rounds. Each number of runs
cleared before has a database of its own, made in the way of `many_clears`. Writes `growth-files.svg` and
`growth-clears.svg`. Everything else lies in a temporary folder (below TMPDIR, up to 9 GB for a million clears).
"""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from throwaway import ENGINES, HERE, database

FILES = (5_000, 25_000, 50_000, 100_000)
CLEARS = (0, 10_000, 100_000, 1_000_000)
LEVELS = ("size", "checksum")
# Runs of this many files show what the ledger costs, not the disk.
FILES_OF_A_SMALL_RUN, SMALL_RUNS = 10, 15


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how the cost of a clear grows.")
    parser.add_argument("--files", type=_numbers, default=FILES, help="numbers of files, with commas")
    parser.add_argument("--clears", type=_numbers, default=CLEARS, help="numbers of runs cleared before")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", choices=ENGINES, default="sqlite")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="the folder of the pictures")
    parser.add_argument("--one", choices=("files", "clears"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return _measure_one(options)
    by_files = _apart(options, "files", options.files)
    by_clears = {str(number): _apart(options, "clears", (number,))[str(number)] for number in options.clears}
    with database("sqlite"):  # the pictures are drawn as the pages draw theirs
        _draw(options.out / "growth-files.svg", "Processor time of a clear, by files", by_files, "s")
        _draw(
            options.out / "growth-clears.svg",
            "Processor time of a small clear, by runs cleared before",
            by_clears,
            "ms",
            even=True,
        )
    return None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _apart(options: argparse.Namespace, which: str, numbers: Sequence[int]) -> dict[str, dict[str, float]]:
    """By number: what each kind of clear costs; measured in a process and a database of its own."""
    words = [sys.executable, __file__, "--one", which, f"--{which}", ",".join(map(str, numbers))]
    words += ["--rounds", str(options.rounds), "--engine", options.engine]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    costs: dict[str, dict[str, float]] = json.loads(done.stdout)
    for number, kinds in costs.items():
        said = ", ".join(f"{kind} {cost:.4g}" for kind, cost in kinds.items())
        print(f"{int(number):>9,} {which:6} {said}", flush=True)
    return costs


def _measure_one(options: argparse.Namespace) -> None:
    logging.disable(logging.WARNING)
    # What is measured is the only thing that this process prints.
    with redirect_stdout(sys.stderr), database(options.engine):
        costs = _by_files(options) if options.one == "files" else _by_clears(options.clears[0])
    print(json.dumps(costs))


def _by_files(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    from bench import comparison, trees
    from bench.rows import ROWS

    scratch = HERE / "growth"
    scratch.mkdir()
    lab, costs = comparison.lay_lab(scratch), dict[str, dict[str, float]]()
    rows = {row.level: row for row in ROWS if row.name in {f"clear-s1-{level}" for level in LEVELS}}
    for number in options.files:
        shape = replace(trees.S1.scaled(number / trees.S1.files), name=f"S1-{number}")
        with comparison.laid_tree(shape, 1, lab, scratch) as tree:
            for level, row in rows.items():
                comparison.set_level(row)
                rounds = [comparison.take_turn(row.ours, tree) for _ in range(options.rounds)]
                costs.setdefault(str(number), {})[level] = statistics.median(cost.cpu for cost in rounds)
                costs[str(number)][f"MiB at {level}"] = max(cost.peak_mib for cost in rounds)
    return costs


def _by_clears(before: int) -> dict[str, dict[str, float]]:
    import many_clears

    from bench import comparison, measuring, ours
    from tests.tools.lab import Lab

    scratch = HERE / "growth"
    scratch.mkdir()
    if before:
        many_clears.make(0, before)
    lab: Lab = comparison.lay_lab(scratch, name="staged")
    first = datetime(2026, 4, 17, 14, 0, tzinfo=UTC)
    rounds = []
    for number in range(SMALL_RUNS):
        leaf = f"Run_{first + timedelta(minutes=number):%Y-%m-%dT%H-%M}"
        files = {f"f{each}.dat": os.urandom(2048) for each in range(FILES_OF_A_SMALL_RUN)}
        run = lab.run(f"BENCH_01/SMALL/Runs/{leaf}", files=files, verified_at=datetime.now(UTC) - timedelta(days=6))
        counted = [path.stat().st_size for path in run.rglob("*") if path.is_file()]
        expected = len(counted), sum(counted)
        rounds.append(measuring.measured(lambda run=run, expected=expected: ours.clear(run, expected)))
    return {str(before): {"a clear of ten files": 1000 * statistics.median(cost.cpu for cost in rounds)}}


def _draw(file: Path, title: str, costs: dict[str, dict[str, float]], unit: str, *, even: bool = False) -> None:
    """`even`: the numbers stand at equal distances, because each is a multiple of the one before."""
    from cleanup.web.audit.plot import Plot, PlotKind, PlotSeries, draw

    places = {number: place if even else int(number) for place, number in enumerate(costs)}
    kinds = [kind for kind in next(iter(costs.values())) if "MiB" not in kind]
    plot = Plot(
        kind=PlotKind.LINES,
        title=title,
        series=[
            PlotSeries(title=kind, values=[(places[number], of[kind]) for number, of in costs.items()])
            for kind in kinds
        ],
        say=lambda number: f"{number:.4g} {unit}",
        labels=[(place, f"{int(number):,}") for number, place in places.items()],
        highest=1.1 * max(of[kind] for of in costs.values() for kind in kinds),
    )
    file.write_bytes(draw(plot))
    print(file)


if __name__ == "__main__":
    main()
