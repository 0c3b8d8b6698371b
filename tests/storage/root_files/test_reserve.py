import errno
import os
from pathlib import Path

import pytest

from cleanup.storage import handles
from cleanup.storage.root_files import reserve
from cleanup.storage.staging import fences
from tests.storage.children import mount, with_own_mounts
from tests.storage.staging.trees import Open

pytestmark = pytest.mark.one_engine(by="function")


class TestReserve:
    def test_is_laid_once_and_released_once(self, tmp_path: Path, open_directory: Open) -> None:
        root = open_directory(tmp_path)
        reserve.lay_reserve(root)
        reserve.lay_reserve(root)
        status = (tmp_path / ".exlab-reserve").stat()
        assert status.st_size == reserve.RESERVE_BYTES
        assert status.st_blocks * 512 >= reserve.RESERVE_BYTES
        assert reserve.release_reserve(root)
        assert not reserve.release_reserve(root)
        assert os.listdir(tmp_path) == []

    def test_other_errors_do_not_touch_it(self, tmp_path: Path, open_directory: Open) -> None:
        root = open_directory(tmp_path)
        reserve.lay_reserve(root)

        def fails() -> None:
            raise PermissionError(errno.EACCES, "no")

        with pytest.raises(PermissionError):
            reserve.with_reserve(root, fails)
        assert (tmp_path / ".exlab-reserve").exists()

    def test_a_full_disk_is_helped_once(self, tmp_path: Path, open_directory: Open) -> None:
        root = open_directory(tmp_path)
        reserve.lay_reserve(root)
        tries: list[bool] = []

        def fails_once() -> str:
            tries.append((tmp_path / ".exlab-reserve").exists())
            if len(tries) == 1:
                raise OSError(errno.EDQUOT, "quota")
            return "done"

        assert reserve.with_reserve(root, fails_once) == "done"
        assert tries == [True, False]
        assert (tmp_path / ".exlab-reserve").exists()

    def test_on_a_disk_that_is_really_full(self, tmp_path: Path) -> None:
        (tmp_path / "small").mkdir()

        def on_a_small_disk() -> tuple[str, bytes, bool, bool, list[str]]:
            small = tmp_path / "small"
            mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", small)
            root = handles.open_root(str(small))
            reserve.lay_reserve(root)
            like = small.stat()
            with (small / "filler").open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(b"x" * 4096)
                except OSError as error:
                    full = errno.errorcode[error.errno or 0]
            reserve.with_reserve(root, lambda: fences.prepare_record(root, b"record", b"y" * 9000, like))
            kept, taken = (small / "record").read_bytes(), not (small / ".exlab-reserve").exists()
            try:
                fences.prepare_record(root, b"too large", b"y" * (4 << 20), like)
            except OSError:
                left = not (small / "too large").exists()
            (small / "filler").unlink()
            reserve.renew_reserve(root)
            return full, kept, taken, left, sorted(os.listdir(small))

        full, kept, taken, left, names = with_own_mounts(on_a_small_disk)
        assert full == "ENOSPC"
        assert kept == b"y" * 9000
        assert taken
        assert left
        assert names == [".exlab-reserve", "record"]


def test_a_reserve_that_a_crash_left_unfinished_is_made_anew(tmp_path: Path, open_directory: Open) -> None:
    (tmp_path / ".exlab-reserve").touch()
    directory = open_directory(tmp_path)
    reserve.lay_reserve(directory)
    assert (tmp_path / ".exlab-reserve").stat().st_size == reserve.RESERVE_BYTES
    whole = (tmp_path / ".exlab-reserve").stat().st_ino
    reserve.lay_reserve(directory)
    assert (tmp_path / ".exlab-reserve").stat().st_ino == whole
