"""A packed listing is a mapping of all its files, in whatever order they come; requests name theirs in parts."""

import random

import pytest

from cleanup.storage.nas import wanted_files
from cleanup.storage.nas.listed_twins import ListedTwins, TwinFile
from cleanup.storage.nas.wanted_files import WantedFiles
from cleanup.storage.packed_rows import TOGETHER, place_of

pytestmark = pytest.mark.one_engine(by="function")

PATHS = sorted(
    {b"%s/t_%d" % (folder, number) for number in range(900) for folder in (b"a", b"a-b", b"c/\xff\n")}, key=place_of
)
FILES = [
    (path, TwinFile(number, -number, number, b"%032d" % number if number % 3 else None, 7))
    for number, path in enumerate(PATHS)
]


@pytest.mark.parametrize("order", ["scan", "names", "none", "late"])
def test_lists_each_file_once_in_every_order(order: str) -> None:
    sent = list(FILES)
    if order == "names":
        sent.sort()
    elif order == "none":
        random.Random(1).shuffle(sent)
    elif order == "late":  # what is not read comes in batches of its own
        sent = [one for one in FILES if one[1].digest] + [one for one in FILES if not one[1].digest]
    listed = ListedTwins()
    for start in range(0, len(sent), 500):
        listed.extend(sent[start : start + 500])
    assert dict(listed) == dict(FILES) and len(listed) == len(FILES)
    assert sorted(listed.values(), key=lambda file: file.size) == [file for _, file in FILES]
    assert all(listed[path] == file and path in listed for path, file in FILES[::7])
    assert b"a/none" not in listed and listed.get(b"") is None
    with pytest.raises(KeyError):
        listed[b"a"]
    listed[PATHS[5]] = listed[PATHS[5]]._replace(digest=b"x" * 32)
    listed[b"new"] = FILES[0][1]
    assert len(listed) == len(FILES) + 1 == len(set(listed)) and listed[PATHS[5]].digest == b"x" * 32


@pytest.mark.parametrize("number", [0, 1, TOGETHER, len(PATHS)])
def test_a_request_names_its_files_and_ends(number: int) -> None:
    wanted = PATHS[:number]
    random.Random(2).shuffle(wanted)
    sent = [*wanted_files.lines(wanted, without={PATHS[0]}), b'{"the next": "request"}\n']
    waiting = iter(sent)
    found = WantedFiles(waiting)
    assert list(waiting) == sent[-1:]
    assert {path for path in [*PATHS, b"a", b""] if path in found} == set(wanted) - {PATHS[0]}
