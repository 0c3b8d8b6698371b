"""Desktop and NAS files, known by name."""

from dataclasses import dataclass

import pytest

from cleanup.storage.staging import desktop_files

pytestmark = pytest.mark.one_engine(by="function")


@dataclass(frozen=True)
class File:
    path: bytes
    size: int = 10


@pytest.mark.parametrize(
    "path", [b".DS_Store", b"THUMBS.DB", b"a/desktop.INI", b"@EADIR/x/y", b"._plate.raw", b"a/._b"]
)
@pytest.mark.parametrize("place", [0, 499, 500, 1199])
def test_one_among_many_is_a_candidate(path: bytes, place: int) -> None:
    files = [File(b"plate/well_%d.tif" % number) for number in range(1200)]
    assert list(desktop_files.candidates(files)) == []
    files[place] = File(path)
    assert files[place] in list(desktop_files.candidates(files))


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (b".DS_Store", True),
        (b"tiles/.ds_store", True),
        (b"THUMBS.DB", True),
        (b"Desktop.ini", True),
        (b"tiles/@eaDir/t_0000.tif@SynoEAStream", True),
        (b"@EADIR/x/y", True),
        (b".exlab-wizard/.DS_Store", True),
        (b"my.DS_Store", False),
        (b"Thumbs.db.tif", False),
        (b"desktop.ini.bak", False),
        (b"@eaDir", False),  # a file of that name
        (b"thumbs.db/plate.raw", False),
        (b"._plate.raw", False),  # only its beginning tells
        ("de\u017fktop.ini".encode(), False),  # folded by more than ASCII it would be one
    ],
)
def test_is_one_by_its_exact_name(path: bytes, named: bool) -> None:
    assert desktop_files.is_named(path) is named


def test_only_as_many_as_a_tombstone_keeps() -> None:
    large = File(b"Thumbs.db", desktop_files.MAX_FILE_BYTES + 1)
    full = [File(b"%d/Thumbs.db" % number, desktop_files.MAX_FILE_BYTES) for number in range(5)]
    assert desktop_files.bounded([large, *reversed(full)]) == {file.path for file in full[:4]}
    assert desktop_files.bounded([File(b"a/.DS_Store", desktop_files.MAX_FILE_BYTES)]) == {b"a/.DS_Store"}


def test_a_listed_one_may_be_missing() -> None:
    listed = {b"plate.raw", b"._plate.raw", b"._other.raw", b"a/.DS_Store", b"Thumbs.db"}
    assert desktop_files.expected(listed, {b"plate.raw"}, ()) == {b"plate.raw", b"._other.raw"}
    assert desktop_files.expected(listed, {b"plate.raw"}, {b"._other.raw"}) == {b"plate.raw"}
    assert b"Thumbs.db" in desktop_files.expected(listed, {b"Thumbs.db"}, ())  # too large to be none


@pytest.mark.parametrize("name", [b".nfs00000000018a2c4f00000001", b".fuse_hidden0000000a00000001", b".nfs"])
def test_knows_what_was_deleted_while_it_was_open(name: bytes) -> None:
    assert desktop_files.is_open(b"tiles/" + name)
    assert not desktop_files.is_open(name + b".tif")


def test_knows_the_folders_of_systems() -> None:
    for name in (b"$Recycle.Bin", b"System Volume Information", b"lost+found", b"#recycle", b"@Recycle", b"@eaDir"):
        assert desktop_files.is_system_folder(name)
    assert not desktop_files.is_system_folder(b"CONFOCAL_01")
