"""The rows of the comparison: a tree, our side, the sides of others, and the goal for ours divided by the first."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import ours, peers, trees
from bench.measuring import Work
from bench.trees import Shape, Tree


@dataclass(frozen=True)
class Side:
    """Who works on what: `lay` makes the place, `begin` what is measured there. Only `begin` runs in the child."""

    name: str
    lay: Callable[[Tree], Path]
    begin: Callable[[Tree, Path], Work]
    programs: tuple[str, ...] = ()
    reads: bool = False  # its files, and those of the twin


@dataclass(frozen=True)
class Row:
    """One line of the table. `level`: the proof that the policy asks for, in rows of a clear."""

    name: str
    work: str
    shape: Shape
    goal: float
    ours: Side
    peers: tuple[Side, ...]
    level: str = ""


# Places: a run beneath the staging root, a copy elsewhere, or the twin, which stays.


def _staged(tree: Tree) -> Path:
    return tree.stage()


def _copied(tree: Tree) -> Path:
    return tree.copy()


def _twin(tree: Tree) -> Path:
    return tree.twin


# Our sides


def _clear(tree: Tree, place: Path) -> Work:
    return ours.clear(place, tree.everything)


def _clear_proven(tree: Tree, place: Path) -> Work:
    return ours.clear_proven(place, tree.everything)


def _remove(tree: Tree, place: Path) -> Work:
    return ours.remove(place, tree.everything)


def _size(tree: Tree, place: Path) -> Work:
    return ours.size(place, tree.data)


def _hash(tree: Tree, place: Path) -> Work:
    return ours.check_hashes(place, tree.data)


# Theirs


def _by_size_and_rm(tree: Tree, place: Path) -> Work:
    def work() -> None:
        peers.rclone_check(place, tree.twin, "--size-only")
        peers.rm(place)

    return work


def _by_sums_and_rm(tree: Tree, place: Path) -> Work:
    def work() -> None:
        peers.sha256sum(place)
        peers.sha256sum(tree.twin)
        peers.rm(place)

    return work


def _by_rclone(tree: Tree, place: Path) -> Work:
    def work() -> None:
        peers.rclone_check(place, tree.twin)
        peers.rclone_purge(place)

    return work


def _rm(tree: Tree, place: Path) -> Work:
    return lambda: peers.rm(place)


def _purge(tree: Tree, place: Path) -> Work:
    return lambda: peers.rclone_purge(place)


def _naively(tree: Tree, place: Path) -> Work:
    def work() -> None:
        counted = peers.rmtree_and_count(place)
        assert counted == tree.everything, counted

    return work


def _du(tree: Tree, place: Path) -> Work:
    return lambda: peers.du(place)


def _sums(tree: Tree, place: Path) -> Work:
    return lambda: peers.sha256sum(place)


_OUR_CLEAR = Side("clear", _staged, _clear, reads=True)
_OUR_PROVEN_CLEAR = Side("clear, proven before", _staged, _clear_proven, reads=True)
_OUR_REMOVAL = Side("removal", _copied, _remove)
_OUR_SIZE = Side("size and count", _twin, _size)
_BY_SIZE = Side("rclone check --size-only, rm -rf", _copied, _by_size_and_rm, ("rclone", "rm"), reads=True)
_BY_SUMS = Side("sha256sum -c on both, rm -rf", _copied, _by_sums_and_rm, ("sha256sum", "rm"), reads=True)
_BY_RCLONE = Side("rclone check, rclone purge", _copied, _by_rclone, ("rclone",), reads=True)
_BY_RM = Side("rm -rf", _copied, _rm, ("rm",))
_BY_PURGE = Side("rclone purge", _copied, _purge, ("rclone",))
_BY_RMTREE = Side("rglob, then rmtree", _copied, _naively)
_BY_DU = Side("du -sb", _twin, _du, ("du",))


def _clear_row(shape: Shape, level: str, goal: float, *peers_of_it: Side) -> Row:
    name = f"clear-{shape.name.lower()}-{level}"
    return Row(name, f"whole clear, {shape.name}, {level}", shape, goal, _OUR_CLEAR, peers_of_it, level)


def _removal_row(shape: Shape) -> Row:
    words = f"remove and count exactly, {shape.name}"
    return Row(f"remove-{shape.name.lower()}", words, shape, 0.75, _OUR_REMOVAL, (_BY_RM, _BY_RMTREE, _BY_PURGE))


def _size_row(shape: Shape, goal: float) -> Row:
    return Row(f"size-{shape.name.lower()}", f"size a tree, {shape.name}", shape, goal, _OUR_SIZE, (_BY_DU,))


# By tree, so that each is built once.
ROWS = (
    _clear_row(trees.S1, "size", 0.9, _BY_SIZE),
    _clear_row(trees.S1, "checksum", 0.9, _BY_SUMS, _BY_RCLONE),
    Row(
        "clear-s1-proven",
        "whole clear, S1, proven before",
        trees.S1,
        1.5,
        _OUR_PROVEN_CLEAR,
        (_BY_RM,),
        "checksum",
    ),
    _removal_row(trees.S1),
    _size_row(trees.S1, 1.8),
    Row(
        "hash-s1",
        "check the hashes of tiny files, S1",
        trees.S1,
        0.6,
        Side("hash and compare", _twin, _hash, reads=True),
        (Side("sha256sum -c", _twin, _sums, ("sha256sum",), reads=True),),
    ),
    _clear_row(trees.S2, "checksum", 0.35, _BY_SUMS, _BY_RCLONE),
    _removal_row(trees.S3),
    _size_row(trees.S3, 1.5),
)
NAMES = tuple(row.name for row in ROWS)
