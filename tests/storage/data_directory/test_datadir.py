"""Locks that die with their holder, whole plans, tombstones."""

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cleanup.storage.data_directory.datadir import DataDir, TombstoneError
from cleanup.storage.root_files import reserve
from cleanup.storage.staging.plan import Plan, PlanError, encode
from tests.storage.children import mount, with_own_mounts
from tests.tools.checkout import CHECKOUT
from tests.tools.lab import Lab

pytestmark = pytest.mark.one_engine(by="function")


Open = Callable[[Path], int]
ATTEMPT = "0123456789abcdef0123456789abcdef"
PLAN = Plan(attempt=ATTEMPT, run_path="E/P/Runs/Run_2026-04-17T14-32", ino=42, entries=())
STORY = {"attempt": ATTEMPT, "files": 7}


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    (tmp_path / "data").mkdir()
    return DataDir(str(tmp_path / "data"))


def everything(data: DataDir) -> set[str]:
    files = {str(path.relative_to(data.path)) for path in Path(data.path).rglob("*") if path.is_file()}
    return {name for name in files if not name.startswith(("locks/", ".exlab-reserve"))}


def contents(folder: Path) -> dict[bytes, tuple[bytes, int, int]]:
    return {
        os.fsencode(path.name): (path.read_bytes(), path.stat().st_mode, int(path.stat().st_mtime))
        for path in folder.iterdir()
    }


class TestLock:
    HOLDER = (
        "import sys; from cleanup.storage.data_directory.datadir import DataDir\n"
        "with DataDir(sys.argv[1]).lock('7') as free: print(free, flush=True); sys.stdin.read()"
    )

    def holder(self, data: DataDir) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", self.HOLDER, data.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=CHECKOUT,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        return process

    def test_excludes_another_process_and_dies_with_it(self, data: DataDir) -> None:
        with self.holder(data) as process:
            with data.lock("7") as free:
                assert not free
            with data.lock("8") as free:
                assert free
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=10)
            with data.lock("7") as free:
                assert free

    def test_excludes_a_second_holder_in_the_same_process(self, data: DataDir) -> None:
        with data.lock("7") as free, data.lock("7") as second:
            assert free
            assert not second
        with data.lock("7") as free:
            assert free

    def test_can_be_waited_for(self, data: DataDir) -> None:
        with self.holder(data) as process:
            assert process.stdin is not None
            process.stdin.close()
            with data.lock("7", wait=True) as free:
                assert free

    def test_ends_with_an_error_in_its_block(self, data: DataDir) -> None:
        with pytest.raises(BlockingIOError, match="mine"), data.lock("7") as free:
            assert free
            raise BlockingIOError("mine")
        with data.lock("7") as free:
            assert free

    def test_is_not_handed_on_to_a_program_that_outlives_its_holder(self, data: DataDir) -> None:
        with data.lock("7"):
            child = subprocess.Popen(["sleep", "60"], close_fds=False)
        try:
            with data.lock("7") as free:
                assert free
        finally:
            child.kill()
            child.wait()


class TestPlans:
    def test_a_plan_comes_back(self, data: DataDir) -> None:
        written = encode(PLAN)
        data.write_plan(ATTEMPT, written)
        assert data.read_plan(ATTEMPT, hashlib.sha256(written).hexdigest()) == PLAN
        assert everything(data) == {f"plans/{ATTEMPT}"}
        assert stat.S_IMODE(os.stat(f"{data.path}/plans/{ATTEMPT}").st_mode) == 0o600

    @pytest.mark.parametrize("sha256", ["", "0" * 64])
    def test_another_plan_is_refused(self, data: DataDir, sha256: str) -> None:
        data.write_plan(ATTEMPT, encode(PLAN))
        with pytest.raises(PlanError, match="not the one"):
            data.read_plan(ATTEMPT, sha256)

    def test_a_damaged_plan_is_refused(self, data: DataDir) -> None:
        written = encode(PLAN)
        data.write_plan(ATTEMPT, written)
        os.truncate(f"{data.path}/plans/{ATTEMPT}", len(written) - 1)
        with pytest.raises(PlanError, match="not the one"):
            data.read_plan(ATTEMPT, hashlib.sha256(written).hexdigest())

    def test_a_missing_plan_is_told(self, data: DataDir) -> None:
        with pytest.raises(PlanError, match="gone"):
            data.read_plan(ATTEMPT, "0" * 64)

    def test_a_plan_that_is_no_file_is_told(self, data: DataDir) -> None:
        Path(data.path, "plans", ATTEMPT).mkdir(parents=True)
        with pytest.raises(PlanError, match="cannot be read: Is a directory"):
            data.read_plan(ATTEMPT, "0" * 64)

    def test_discard_forgets_and_may_come_twice(self, data: DataDir, lab: Lab, open_directory: Open) -> None:
        data.write_plan(ATTEMPT, encode(PLAN))
        data.write_tombstone(ATTEMPT, open_directory(lab.run()), STORY, b"{}")
        data.write_plan("another", encode(PLAN))
        data.discard(ATTEMPT)
        data.discard(ATTEMPT)
        assert everything(data) == {"plans/another"}

    def test_a_data_directory_may_lie_behind_a_link(self, tmp_path: Path, data: DataDir) -> None:
        (tmp_path / "link").symlink_to("data")
        DataDir(str(tmp_path / "link")).write_plan(ATTEMPT, encode(PLAN))
        assert everything(data) == {f"plans/{ATTEMPT}"}


class TestTombstones:
    def test_tar_reads_the_whole_metadata_and_the_final_record(
        self, data: DataDir, lab: Lab, tmp_path: Path, open_directory: Open
    ) -> None:
        run = lab.run()
        metadata = run / ".exlab-wizard"
        odd = metadata / os.fsdecode(b"wizard.\xff\n.log")
        odd.write_bytes(b"odd")
        os.link(odd, metadata / "wizard.again.log")
        before = contents(metadata)
        data.write_tombstone(ATTEMPT, open_directory(run), STORY, b'{"current_state":"cleared"}')

        (tmp_path / "out").mkdir()
        subprocess.run(["tar", "-xpzf", data.tombstone_path(ATTEMPT), "-C", tmp_path / "out"], check=True)
        assert json.loads((tmp_path / "out/tombstone.json").read_bytes()) == STORY
        assert (tmp_path / "out/ingest.json").read_bytes() == b'{"current_state":"cleared"}'
        assert contents(tmp_path / "out/metadata") == before
        with tarfile.open(data.tombstone_path(ATTEMPT)) as archive:
            member = archive.getmember("metadata/ingest.json")
            assert (member.uid, member.gid) == (os.geteuid(), os.getegid())

    def test_is_private_and_written_anew_when_a_clear_is_tried_again(
        self, data: DataDir, lab: Lab, open_directory: Open
    ) -> None:
        run = open_directory(lab.run())
        data.write_tombstone(ATTEMPT, run, STORY, b"first")
        data.write_tombstone(ATTEMPT, run, STORY, b"second")
        assert everything(data) == {f"tombstones/{ATTEMPT}.tar.gz"}
        assert stat.S_IMODE(os.stat(data.tombstone_path(ATTEMPT)).st_mode) == 0o600
        with tarfile.open(data.tombstone_path(ATTEMPT)) as archive:
            record = archive.extractfile("ingest.json")
            assert record is not None
            assert record.read() == b"second"

    @pytest.mark.parametrize("kind", ["symlink", "directory", "symlinked metadata", "no metadata"])
    def test_nothing_is_left_of_one_that_fails(
        self, kind: str, data: DataDir, lab: Lab, tmp_path: Path, open_directory: Open
    ) -> None:
        run = lab.run()
        metadata = run / ".exlab-wizard"
        (tmp_path / "secret").write_bytes(b"secret")
        if kind == "symlink":
            (metadata / "wizard.x.log").symlink_to(tmp_path / "secret")
        elif kind == "directory":
            (metadata / "wizard.x.log").mkdir()
        else:
            metadata.rename(tmp_path / "metadata")
            if kind == "symlinked metadata":
                metadata.symlink_to(tmp_path / "metadata")
        with pytest.raises(OSError, match=r"symbolic|directory"):
            data.write_tombstone(ATTEMPT, open_directory(run), STORY, b"{}")
        assert everything(data) == set()

    def test_a_failure_keeps_what_stood_there_before(self, data: DataDir, lab: Lab, open_directory: Open) -> None:
        run = lab.run()
        data.write_tombstone(ATTEMPT, open_directory(run), STORY, b"{}")
        before = Path(data.tombstone_path(ATTEMPT)).read_bytes()
        (run / ".exlab-wizard/wizard.x.log").mkdir()
        with pytest.raises(IsADirectoryError):
            data.write_tombstone(ATTEMPT, open_directory(run), STORY, b"{}")
        assert Path(data.tombstone_path(ATTEMPT)).read_bytes() == before


def test_a_full_disk_gives_up_its_reserve_and_fails_only_after_that(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()

    def on_a_small_disk() -> tuple[bool, bool, bool, set[str]]:
        # Room for the reserve and for what a database needs besides, or the reserve would not be laid again.
        mount("-t", "tmpfs", "-o", "size=5m", "tmpfs", tmp_path / "small")
        data = DataDir(str(tmp_path / "small"))
        directory = os.open(data.path, os.O_RDONLY)
        reserve.lay_reserve(directory)
        fill(tmp_path / "small/filler")
        data.write_plan(ATTEMPT, b"x" * 500_000)
        kept_without = not (tmp_path / "small/.exlab-reserve").exists()
        failed = False
        try:
            data.write_plan("another", b"x" * 1_500_000)
        except OSError as error:
            failed = error.errno == 28
        (tmp_path / "small/filler").unlink()
        data.write_plan("third", b"x")
        return kept_without, failed, (tmp_path / "small/.exlab-reserve").exists(), everything(data)

    kept_without, failed, laid_again, files = with_own_mounts(on_a_small_disk)
    assert kept_without
    assert failed
    assert laid_again
    assert files == {f"plans/{ATTEMPT}", "plans/third"}


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 65536)
        except OSError:
            return


class TestRelief:
    def test_the_reserve_is_given_up_only_when_the_disk_is_nearly_full(
        self, data: DataDir, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data.lay_reserve()
        kept = Path(data.path) / ".exlab-reserve"
        assert not data.relieve()
        assert kept.exists()
        full = os.statvfs_result((4096, 4096, 1000, 10, 10, 100, 10, 10, 0, 255))
        monkeypatch.setattr(os, "fstatvfs", lambda descriptor: full)
        assert data.relieve()
        assert not kept.exists()
        assert not data.relieve()

    def test_a_data_directory_that_is_not_there_yet_needs_none(self, tmp_path: Path) -> None:
        assert not DataDir(str(tmp_path / "none")).relieve()


class TestReadingTombstones:
    @pytest.fixture
    def kept(self, data: DataDir, lab: Lab, open_directory: Open) -> Path:
        run = lab.run()
        data.write_tombstone(ATTEMPT, open_directory(run), STORY, b'{"current_state":"cleared"}' * 100)
        return run

    def test_tells_the_final_record(self, data: DataDir, kept: Path) -> None:
        assert data.read_record(ATTEMPT) == b'{"current_state":"cleared"}' * 100

    def test_tells_what_the_bytes_of_every_file_were_proven_to_be(self, data: DataDir, kept: Path) -> None:
        files = {path.relative_to(kept): path for path in kept.rglob("*") if path.is_file()}
        expected = {os.fsencode(name): hashlib.sha256(path.read_bytes()).digest() for name, path in files.items()}
        assert data.read_digests(ATTEMPT) == expected

    def test_tells_of_the_metadata_alone_where_the_manifest_is_no_manifest(
        self, data: DataDir, lab: Lab, open_directory: Open
    ) -> None:
        run = lab.run()
        (run / ".exlab-wizard/checksums.sha256").write_text("no manifest")
        data.write_tombstone(ATTEMPT, open_directory(run), STORY, b"{}")
        assert all(path.startswith(b".exlab-wizard/") for path in data.read_digests(ATTEMPT))

    @pytest.mark.parametrize("harm", ["gone", "cut", "no archive"])
    def test_one_that_cannot_be_read_is_an_error(self, data: DataDir, kept: Path, harm: str) -> None:
        path = Path(data.tombstone_path(ATTEMPT))
        if harm == "gone":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if harm == "cut" else b"no archive")
        with pytest.raises(TombstoneError):
            data.read_digests(ATTEMPT)
