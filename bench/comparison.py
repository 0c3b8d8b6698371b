"""The comparison: builds each tree, lets the sides take turns, and tells what came out."""

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from django.db import connections

from bench import machine, measuring, peers, profiling, report, trees
from bench.measuring import Cost
from bench.report import Measured
from bench.rows import NAMES, ROWS, Row, Side
from bench.trees import Shape, Tree
from cleanup.lab import policy_versions
from cleanup.lab.roots import registration
from tests.tools.lab import Lab


def run(options: argparse.Namespace, scratch: Path) -> None:
    """Measure the rows that are asked for; print them, and write them as JSON."""
    wanted = {options.profile} if options.profile else set(options.row) or set(NAMES)
    if unknown := wanted - set(NAMES):
        sys.exit(f"no row {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    logging.disable(logging.WARNING)
    scratch.mkdir()
    lab = lay_lab(scratch)
    chosen = [row for row in ROWS if row.name in wanted]
    if options.profile:
        with laid_tree(chosen[0].shape, options.scale, lab, scratch) as tree:
            set_level(chosen[0])
            return profiling.profile(chosen[0], tree, Path.cwd())
    told = _begin(options, scratch)
    for shape, rows in groupby(chosen, lambda row: row.shape):
        with laid_tree(shape, options.scale, lab, scratch) as tree:
            for row in rows:
                measured = _measure(row, tree, options.rounds)
                told["rows"].append(measured.as_json())
                print("\n".join(report.lines(measured)), flush=True)
                if options.json:  # after each row: an interrupted comparison has measured something too
                    options.json.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    return None


def _begin(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    at, described = datetime.now(UTC).isoformat(timespec="seconds"), machine.describe(scratch)
    for name, value in {"at": at, **described}.items():
        print(f"{name:11} {value}")
    rounds = "1 round" if options.rounds == 1 else f"{options.rounds} rounds"
    print(f"\n{rounds}, trees at {options.scale:g} of their size, database {options.engine}\n")
    print("\n".join(report.head()), flush=True)
    known = {name: getattr(options, name) for name in ("scale", "rounds", "engine")}
    return {"at": at, **known, "machine": described, "rows": []}


def lay_lab(scratch: Path, name: str = "lab") -> Lab:
    """A staging disk and a NAS beside each other, registered by this name."""
    lab = Lab(scratch / "lab")
    register(lab, name)
    return lab


def register(lab: Lab, name: str = "lab") -> None:
    """Register both as they lie."""
    paths, now = (str(lab.staging), str(lab.nas)), datetime.now(UTC)
    registration.register(name, paths[0], nas_path=paths[1], allow_same_filesystem=True, accept_empty=True, now=now)


@contextmanager
def laid_tree(shape: Shape, scale: float, lab: Lab, scratch: Path) -> Iterator[Tree]:
    """A tree of this shape; it goes at the end."""
    connections.close_all()  # the children make their own
    tree = Tree(shape.scaled(scale), lab, scratch)
    try:
        yield tree
    finally:
        tree.remove()


def set_level(row: Row) -> None:
    """Make a policy that asks for the proof of this row."""
    if row.level:
        policy_versions.add_version(author="bench", now=datetime.now(UTC), proof=row.level)
    connections.close_all()


def _measure(row: Row, tree: Tree, rounds: int) -> Measured:
    set_level(row)
    missing = {side.name: ", ".join(lacking) for side in row.peers if (lacking := peers.missing(side.programs))}
    there = [side for side in row.peers if side.name not in missing]
    # The goal's peer goes first in each round, ours next.
    turns = [*there[:1], row.ours, *there[1:]]
    costs: dict[str, list[Cost]] = {side.name: [] for side in turns}
    for _ in range(rounds):
        for side in turns:
            costs[side.name].append(take_turn(side, tree))
    files, size = tree.data
    return Measured(row, files, size, costs.pop(row.ours.name), costs, missing)


def take_turn(side: Side, tree: Tree) -> Cost:
    """Let one side work once."""
    place = side.lay(tree)
    trees.settle(place, tree.twin, reads=side.reads)
    return measuring.measured(lambda: side.begin(tree, place))
