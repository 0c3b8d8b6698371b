"""The sentence for each unusable data directory; looking changes nothing."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from exlab import places
from exlab.reading import WrongSettings
from tests.faults import means
from tests.storage.children import NOBODY
from tests.tools import engines
from tests.tools.lab import outlines
from tests.tools.ordinary import being_nobody

pytestmark = pytest.mark.one_engine(by="function")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that all users can reach, unlike those of pytest."""
    place = Path(tempfile.mkdtemp(dir=engines.HERE))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@contextmanager
def where_it_can_be_made(wanted: AbstractContextManager[object]) -> Iterator[None]:
    try:
        with wanted:
            yield
    except means.Unavailable as missing:
        means.skip_or_fail(missing)


def trouble(path: Path, *, deep: bool = False) -> str:
    before = outlines(path.parent)
    said = places.trouble(path, deep=deep)
    assert outlines(path.parent) == before, "looking has changed something"
    assert said.startswith("EXLAB_DATA_DIR: ") or not said
    assert "\n" not in said
    return said


def test_one_that_is_well(place: Path) -> None:
    assert trouble(place / "data") == ""
    assert trouble(place / "deep" / "below" / "data") == ""
    (place / "data").mkdir(mode=0o700)
    for folder in ("locks", "plans", "static", "lost+found"):
        (place / "data" / folder).mkdir(mode=0o700)
    (place / "link").symlink_to("data")
    assert [trouble(place / name, deep=True) for name in ("data", "link")] == ["", ""]


def test_a_file_in_its_place(place: Path) -> None:
    (place / "data").touch()
    assert "is a file and no directory; move it away or name another place" in trouble(place / "data")
    assert f"{place / 'data'} is no directory, so" in trouble(place / "data" / "below")


def test_a_link_to_nothing(place: Path) -> None:
    (place / "data").symlink_to("gone")
    assert "links to gone, which is not there" in trouble(place / "data")
    (place / "data").unlink()
    (place / "data").symlink_to("data")
    assert "Too many levels of symbolic links" in trouble(place / "data")


def test_a_disk_that_may_only_be_read(place: Path) -> None:
    (place / "disk").mkdir()
    with where_it_can_be_made(means.mounted("-t", "tmpfs", "-o", "ro", "tmpfs", place / "disk")):
        assert "Read-only file system); mount it for writing or name another place." in trouble(place / "disk")
        assert "cannot be made (Read-only file system in" in trouble(place / "disk" / "data")


def test_a_full_disk(place: Path) -> None:
    with where_it_can_be_made(means.tiny_disk(place / "disk")):
        assert trouble(place / "disk") == ""
        means.fill(place / "disk")
        assert "No space left on device); make room on its disk" in trouble(place / "disk")
        assert "No space left on device" in trouble(place / "disk" / "data")


def test_a_full_disk_with_its_reserve_can_still_record_a_clear(place: Path) -> None:
    with where_it_can_be_made(means.tiny_disk(place / "disk")):
        (place / "disk" / places.RESERVE).write_bytes(b"\0" * (1 << 20))
        means.fill(place / "disk")
        assert trouble(place / "disk") == ""


def test_one_that_belongs_to_another_user(place: Path) -> None:
    (place / "data").mkdir(mode=0o700)
    with where_it_can_be_made(being_nobody()):
        said = places.trouble(place / "data")
        made = places.trouble(place / "new" / "data")
    account = said.partition("give it to ")[2].partition(" ")[0]
    assert f"Permission denied); give it to {account} by `sudo chown -R {account}: {place / 'data'}`" in said
    assert f"sudo install -d -m 700 -o {account} {place / 'new' / 'data'}" in made
    assert "chown" not in made, "the folder above is another's and stays so"


def test_one_behind_a_folder_that_may_not_be_entered(place: Path) -> None:
    (place / "closed" / "data").mkdir(parents=True)
    (place / "closed").chmod(0o700)
    with where_it_can_be_made(being_nobody()):
        said = [places.trouble(place / "closed" / "data" / more) for more in ("", "below")]
    assert "cannot be reached (Permission denied in" in said[0]
    assert f"enter {place / 'closed'} or name another place." in said[0]
    assert f"{place / 'closed'} or name another place." in said[1]


def test_a_mount_whose_server_is_gone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(path: object) -> None:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", gone)  # as a dead process behind a FUSE mount answers
        said = places.trouble(place / "data")
    assert "cannot be reached (Transport endpoint is not connected" in said


@pytest.mark.parametrize("name", ["db.sqlite3-wal", "secret-key", "up.lock", "locks", "tombstones"])
def test_what_one_command_with_sudo_has_left(place: Path, name: str) -> None:
    data = place / "data"
    data.mkdir(mode=0o700)
    left = data / name
    left.mkdir(mode=0o700) if "." not in name and "-" not in name else left.touch(mode=0o600)
    if os.geteuid() == 0:
        os.chown(data, NOBODY, NOBODY)
    with where_it_can_be_made(being_nobody()):
        said = places.trouble(data)
    assert f"{left} belongs to root, perhaps since a command with sudo" in said
    assert said.endswith(f": {data}`.")


def test_a_lock_that_sudo_has_left_is_found_by_a_look_at_everything(place: Path) -> None:
    data, lock = place / "data", place / "data" / "locks" / "17"
    lock.parent.mkdir(parents=True)
    lock.touch(mode=0o600)
    if os.geteuid() == 0:
        os.chown(data, NOBODY, NOBODY)
        os.chown(lock.parent, NOBODY, NOBODY)
    with where_it_can_be_made(being_nobody()):
        assert (places.trouble(data), str(lock) in places.trouble(data, deep=True)) == ("", True)


def test_what_others_keep_beside_is_not_judged(place: Path) -> None:
    """A separate disk has root's `lost+found`, and the demonstration lab has files of every kind."""
    data = place / "data"
    for folder in ("lost+found", ".snapshots", "demo/staging"):
        (data / folder).mkdir(parents=True, mode=0o700)
    if os.geteuid() == 0:
        os.chown(data, NOBODY, NOBODY)
    with where_it_can_be_made(being_nobody()):
        assert places.trouble(data, deep=True) == ""


# The secret key


def test_a_secret_key_is_made_once_for_its_owner_alone(place: Path) -> None:
    assert places.kept_secret_key(place / "data") != places.kept_secret_key(place / "data")
    assert not (place / "data").exists(), "only what makes the directory keeps a key in it"
    places.make(place / "data")
    key = places.kept_secret_key(place / "data")
    assert len(key) > 50
    assert places.kept_secret_key(place / "data") == key
    assert [path.name for path in (place / "data").iterdir()] == ["secret-key"]
    assert [path.stat().st_mode & 0o777 for path in (place / "data", place / "data" / "secret-key")] == [0o700, 0o600]


@pytest.mark.parametrize(("content", "words"), [(b"\n", "is empty; take it away"), (b"\xff", "it holds no text")])
def test_a_secret_key_that_is_none(place: Path, content: bytes, words: str) -> None:
    (place / "secret-key").write_bytes(content)
    with pytest.raises(WrongSettings, match=words):
        places.kept_secret_key(place)


def test_a_secret_key_that_cannot_be_read_or_made(place: Path) -> None:
    (place / "secret-key").mkdir()
    with pytest.raises(WrongSettings, match=r"secret-key cannot be read or written \(Is a directory"):
        places.kept_secret_key(place)
    (place / "file").touch()
    with pytest.raises(WrongSettings, match="is a file and no directory"):
        places.kept_secret_key(place / "file")


def test_a_secret_key_in_another_user_s_directory(place: Path) -> None:
    """As after a first command with sudo: the whole directory has to be given back."""
    (place / "data").mkdir(mode=0o700)
    with where_it_can_be_made(being_nobody()), pytest.raises(WrongSettings) as caught:
        places.kept_secret_key(place / "data")
    assert f": {place / 'data'}` or name another place" in str(caught.value)


def test_no_draft_of_a_key_is_left_on_a_full_disk(place: Path) -> None:
    with where_it_can_be_made(means.tiny_disk(place / "disk")):
        means.fill(place / "disk")
        with pytest.raises(WrongSettings, match="make room"):
            places.kept_secret_key(place / "disk")
        assert [path.name for path in (place / "disk").iterdir()] == ["filler"]
