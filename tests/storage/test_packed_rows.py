"""Packed rows are the same sequence as the rows themselves, and a search finds each of them."""

import random
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleanup.storage import packed_rows
from cleanup.storage.packed_rows import COUNT, DIGEST, NUMBER, TOGETHER, TRUTH, PackedRows, place_of

pytestmark = pytest.mark.one_engine(by="function")


class OddRow(NamedTuple):
    path: bytes
    is_file: bool
    ino: int
    mtime_ns: int
    digest: bytes | None


COLUMNS = TRUTH + COUNT + NUMBER + DIGEST


def rows(number: int, seed: int = 1) -> list[OddRow]:
    chance = random.Random(seed)
    names = [b"a", b"a-b", b"a.b", b"a0", b"\xff\xfe", b"line\nbreak", b" ", b"well_%d"]
    paths = set[bytes]()
    while len(paths) < number:
        steps = [chance.choice(names) for _ in range(chance.randrange(4))]
        paths.add(b"/".join([*steps, b"%d" % chance.randrange(10 * number)]))
    return [
        OddRow(
            path,
            chance.random() < 0.5,
            chance.randrange(1 << 64),
            chance.randrange(-(1 << 63), 1 << 63),
            chance.choice([None, chance.randbytes(32)]),
        )
        for path in sorted(paths, key=place_of)
    ]


@pytest.mark.parametrize("number", [0, 1, TOGETHER, TOGETHER + 1, 2 * TOGETHER, 2 * TOGETHER + 7])
@pytest.mark.parametrize("is_ordered", [True, False])
def test_are_the_rows_themselves(number: int, is_ordered: bool) -> None:
    expected = rows(number)
    if not is_ordered:
        random.Random(2).shuffle(expected)
    packed = PackedRows(OddRow, COLUMNS, is_ordered=is_ordered)
    for start in range(0, number, 700):
        packed.extend(expected[start : start + 700])
    assert list(packed) == expected and packed == tuple(expected) and tuple(expected) == packed
    assert list(reversed(packed)) == expected[::-1] and len(packed) == number
    assert [packed[place] for place in range(0, number, 97)] == expected[::97]
    assert [packed[place - number] for place in range(0, number, 97)] == expected[::97]
    assert packed[5:9] == expected[5:9]
    assert all(type(row) is OddRow for row in packed)
    for row in expected[::3]:
        assert packed.get(row.path) == row and packed.get(row.path + b"\0") is None
    assert packed.get(b"") is None
    if number > 1:
        assert packed != expected[1:] and packed != [*expected[1:], expected[0]]


def test_a_row_that_fits_in_no_column_stays_as_it_is() -> None:
    odd = [OddRow(b"%d" % place, True, 1 << 70, -(1 << 90), None) for place in range(3 * TOGETHER)]
    packed = PackedRows(OddRow, COLUMNS, odd)
    assert list(packed) == odd and packed[TOGETHER] == odd[TOGETHER] and packed.get(b"7") == odd[7]


def test_a_folder_has_its_own_rows_alone() -> None:
    many = rows(TOGETHER + 900, 5) + [OddRow(b"flat/%05d" % place, True, 1, 1, None) for place in range(2 * TOGETHER)]
    packed = PackedRows(OddRow, COLUMNS, sorted(many, key=lambda row: place_of(row.path)), is_ordered=True)
    folders = {row.path.rpartition(b"/")[0] for row in many}
    for folder in set(sorted(folders)[::7]) | {b"flat", b"", b"a/none", b"zz"}:
        expected = sorted(row for row in many if row.path.rpartition(b"/")[0] == folder)
        assert [row for some in packed.in_folder(folder) for row in some] == expected


@given(
    st.lists(st.lists(st.binary(min_size=1, max_size=3).filter(lambda name: b"/" not in name), max_size=4), max_size=9)
)
def test_the_order_is_that_of_a_walk_that_takes_the_last_folder_first(steps: list[list[bytes]]) -> None:
    tree: dict[bytes, Any] = {}
    for way in steps:
        here = tree
        for name in way:
            here = here.setdefault(name, {})
    walked, pending = list[bytes](), [(b"", tree)]
    while pending:
        above, here = pending.pop()
        for name in sorted(here):
            walked.append(above + name)
            pending.append((above + name + b"/", here[name]))
    assert walked == sorted(walked, key=place_of)


def test_a_large_table_takes_little_memory() -> None:
    packed = PackedRows(OddRow, TRUTH + COUNT + NUMBER + DIGEST)
    for start in range(0, 20 * TOGETHER, TOGETHER):
        names = range(start, start + TOGETHER)
        packed.extend(OddRow(b"plate/well_%07d.bin" % at, True, at, 10**18 + at * 7919, None) for at in names)
    size = sum(len(part.paths) + len(part.numbers) for part in packed._parts)
    assert size < 12 * len(packed)
    assert len(packed) - len(packed._tail) >= packed_rows.TOGETHER * 19
