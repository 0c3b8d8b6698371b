"""Choices of packed entries, their counts and their differences are those of plain lists."""

import hashlib
import json
import os
import random
from collections.abc import Iterable

import pytest

from cleanup.storage.packed_rows import TOGETHER, place_of
from cleanup.storage.run_paths import show
from cleanup.storage.staging import plan, run_tree, tree_entries
from cleanup.storage.staging.run_tree import Count, Entry, Scan

pytestmark = pytest.mark.one_engine(by="function")

FOLDERS = [b"", b"a/", b"a-b/", b"a.b/", b"a/b/", b"a/b-/", b"\xff/", b".exlab-wizard/", b".exlab-hold/", b"tiles/"]


def made(number: int, seed: int = 3) -> list[Entry]:
    """Entries of a run in the order of a scan; some are hard links, metadata, locks or files of desktops."""
    chance = random.Random(seed)
    found = {b".exlab-wizard/ingest.json.lock": entry(b".exlab-wizard/ingest.json.lock", 99, size=0)}
    for folder in FOLDERS[1:]:
        for step in range(1, folder.count(b"/") + 1):
            path = b"/".join(folder.split(b"/")[:step])
            found[path] = entry(path, 2, is_file=False)
    while len(found) < number:
        path = chance.choice(FOLDERS) + chance.choice([b"well_%d", b"._%d", b"\n %d", b"%d.json.lock"]) % len(found)
        nlink = chance.choice([1, 1, 1, 2, 3])
        found[path] = entry(path, chance.randrange(50) if nlink > 1 else 100 + len(found), nlink=nlink)
    return sorted(found.values(), key=lambda entry: place_of(entry.path))


def entry(path: bytes, ino: int, *, is_file: bool = True, nlink: int = 1, size: int | None = None) -> Entry:
    size = (ino * 7 if is_file else 0) if size is None else size
    return Entry(path, is_file, ino, nlink, size, size // 512 * 512, ino * 1000, ino * 1001)


def as_first_written(entries: Iterable[Entry], left: Iterable[bytes]) -> Count:
    """The count with every inode in a dictionary."""
    files = [one for one in entries if one.is_file]
    names: dict[int, list[Entry]] = {}
    for one in files:
        names.setdefault(one.ino, []).append(one)
    gone = [of for of in names.values() if not {one.path for one in of} & set(left)]
    free = sum(of[-1].allocated for of in gone if of[-1].nlink <= len(of))
    return Count(len(gone), sum(of[-1].size for of in gone), free)


@pytest.mark.parametrize("number", [40, 3 * TOGETHER])
def test_are_chosen_and_counted_as_plain_lists(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_entries, "_SORTED_AT_ONCE", TOGETHER)
    entries = made(number)
    desktop = frozenset(one.path for one in entries if one.path.startswith(b"tiles/._"))
    scan = Scan(1, None, 1, tree_entries.packed(entries, is_ordered=True), (), desktop=desktop)
    data = [one for one in entries if one.is_file and run_tree.is_data(one.path) and one.path not in desktop]
    assert 0 < len(data) < len(entries) - len(desktop) and list(scan.data_files) == data
    assert len(scan.data_files) == len(data) and scan.data_files[-1] == data[-1] and scan.data_files[2:9] == data[2:9]
    assert list(scan.compared) == [one for one in entries if not run_tree.is_lock(one)]
    assert scan.metadata_files == [one for one in entries if one.is_file and run_tree.is_metadata(one.path)]
    assert list(scan.compared.by_path()) == sorted(scan.compared, key=lambda one: one.path)
    assert list(scan.data_files.by_path()) == sorted(data)
    chosen = {one.path for one in data}
    assert {one.path for one in entries if one.path in scan.data_files.paths} == chosen == set(scan.data_files.paths)
    totals = scan.totals
    assert (totals.whole, totals.data) == (as_first_written(entries, ()), as_first_written(data, ()))
    assert (totals.data_files, totals.data_bytes) == (len(data), sum(one.size for one in data))
    assert totals.newest_ns == max(one.mtime_ns for one in data)
    assert totals.desktop_bytes == sum(one.size for one in entries if one.path in desktop)
    assert totals.locks == sum(map(run_tree.is_lock, entries)) == len(entries) - len(scan.compared)
    for left in ({one.path for one in entries[::5]}, {one.path for one in entries}):
        assert run_tree.freed(scan.entries, left) == as_first_written(entries, left)


def test_two_scans_differ_as_their_lists_do() -> None:
    before, chance = made(2 * TOGETHER + 9), random.Random(1)
    after = [one for one in before if chance.random() > 0.01]
    after += [entry(b"tiles/new_%d" % number, 900 + number) for number in range(5)]
    after = [one._replace(ctime_ns=5) if chance.random() < 0.01 else one for one in after]
    after = [one._replace(size=1 << 40) if chance.random() < 0.01 else one for one in after]
    after.sort(key=lambda one: place_of(one.path))
    for strict, same in ((True, Entry.is_unchanged), (False, Entry.same_as)):
        old = {one.path: one for one in before if not run_tree.is_lock(one)}
        new = {one.path: one for one in after if not run_tree.is_lock(one)}
        words = [f"{show(path)} is gone" for path in old.keys() - new.keys()]
        words += [f"{show(path)} is new" for path in new.keys() - old.keys()]
        words += [f"{show(path)} has changed" for path in old.keys() & new.keys() if not same(old[path], new[path])]
        for found in (after, tree_entries.packed(after, is_ordered=True), after[::-1]):
            assert run_tree.differences(tree_entries.packed(before), found, strict=strict) == sorted(words)
    assert run_tree.differences(before, before[::-1]) == []


def test_a_plan_has_the_bytes_that_json_gives_it() -> None:
    odd = [b'"quoted"', b"back\\slash", b"\x7f", b"~ ", b"caf\xe9", "größe".encode()]
    entries = made(2 * TOGETHER) + [entry(path, 90 + number) for number, path in enumerate(odd)]
    many = plan.Plan("ab12", "E/P/Runs/R", 42, tree_entries.packed(entries), modified_ns=7)
    lines = [json.dumps([os.fsdecode(path), *rest]) for path, *rest in entries]
    assert plan.encode(many).decode().splitlines()[1:] == lines
    for number in (1, 50, TOGETHER):
        plain = plan.Plan("ab12", "E/P/Runs/R", 42, [entry(b"well !#[]~%d" % at, at) for at in range(number)])
        lines = [json.dumps([os.fsdecode(path), *rest]) for path, *rest in plain.entries]
        assert plan.encode(plain).decode().splitlines()[1:] == lines
    data = plan.encode(many)
    again = plan.decode(data, hashlib.sha256(data).hexdigest())
    assert again == many and again.counted == as_first_written(entries, ())
