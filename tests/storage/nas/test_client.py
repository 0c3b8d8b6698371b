"""The NAS, read by a real child process."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage import handles, linux
from cleanup.storage.nas import protocol, reader_process, server
from cleanup.storage.nas.client import HowToRead, NasError, NasReader
from cleanup.storage.nas.processes import Process
from cleanup.storage.root_files import tokens
from tests.faults import means
from tests.storage.children import mount, with_own_mounts
from tests.tools import warm
from tests.tools.checkout import CHECKOUT
from tests.tools.lab import RUN_PATH, Lab

pytestmark = pytest.mark.one_engine(by="function")


OTHER_RUN = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-18T09-10"


def a_frame_of_files() -> bytes:
    batch = protocol.FileBatch(with_digests=False)
    with handles.opened(handles.open_root("/")) as here:
        batch.add(b"whole.tif", linux.status(here))
    return protocol.frame({"files": batch})


WHOLE = a_frame_of_files()


@pytest.fixture(autouse=True)
def _started_as_outside_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """How the reader process starts, and what it inherits, is tested here."""
    monkeypatch.setattr(reader_process, "start", warm.real_start)


@pytest.fixture
def token(lab: Lab) -> str:
    with handles.opened(handles.open_root(str(lab.nas))) as root:
        return tokens.lay_token(root)


@pytest.fixture
def reader(lab: Lab, token: str) -> Iterator[NasReader]:
    with NasReader(str(lab.nas), token, timeout=30) as reader:
        yield reader


def problem_of(reader: NasReader, run_path: str = RUN_PATH, *, with_bytes: bool = False) -> tuple[str, str]:
    with pytest.raises(NasError) as refused:
        reader.read(run_path, with_bytes=with_bytes)
    assert refused.value.problem.detail.isprintable()
    return refused.value.problem.reason, refused.value.problem.detail


def never_ready(tmp_path: Path) -> Path:
    """An interpreter that stops at once, as a reader of a hanging mount does."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nkill -STOP $$\n")
    program.chmod(0o755)
    return program


def child_of(reader: NasReader) -> "subprocess.Popen[bytes]":
    assert reader._child is not None
    return reader._child


class TestListing:
    def test_names_sizes_times_and_inodes_of_data_files(self, lab: Lab, reader: NasReader) -> None:
        lab.run()
        twin = lab.twin()
        listing = reader.read(RUN_PATH, with_bytes=False)
        files = {os.fsencode(path.relative_to(twin)): path.stat() for path in twin.rglob("*") if path.is_file()}
        data = {name: status for name, status in files.items() if not name.startswith(b".exlab-wizard/")}
        assert listing.device == twin.stat().st_dev
        assert {name: (found.size, found.mtime_ns, found.ino) for name, found in listing.files.items()} == {
            name: (status.st_size, status.st_mtime_ns, status.st_ino) for name, status in data.items()
        }
        assert {found.digest for found in listing.files.values()} == {None}

    def test_bytes_are_hashed_when_asked_for(self, lab: Lab, reader: NasReader) -> None:
        lab.run()
        listing = reader.read(RUN_PATH, with_bytes=True)
        assert {name: found.digest for name, found in listing.files.items()} == {
            name: hashlib.sha256((lab.twin() / os.fsdecode(name)).read_bytes()).digest() for name in listing.files
        }

    def test_one_child_reads_many_runs(self, lab: Lab, reader: NasReader) -> None:
        lab.run()
        lab.run(OTHER_RUN, files={"only.tif": b"x"})
        first = reader.read(RUN_PATH, with_bytes=False)
        child = child_of(reader)
        assert b"only.tif" in reader.read(OTHER_RUN, with_bytes=True).files
        assert reader.read(RUN_PATH, with_bytes=False) == first
        assert child_of(reader) is child

    def test_many_files_with_any_names(self, lab: Lab, reader: NasReader) -> None:
        names = {b"\xff\xfe.tif", b"line\nbreak", b"-rf", b'"quote\\', *(b"%05d" % number for number in range(800))}
        lab.run(files={os.fsdecode(name): b"x" for name in names})
        assert names <= reader.read(RUN_PATH, with_bytes=False).files.keys()

    def test_a_nested_metadata_folder_is_data(self, lab: Lab, reader: NasReader) -> None:
        lab.run(files={"deep/.exlab-wizard/ingest.json": b"{}"})
        files = reader.read(RUN_PATH, with_bytes=False).files
        assert b"deep/.exlab-wizard/ingest.json" in files
        assert not [name for name in files if name.startswith(b".exlab-wizard")]

    def test_an_empty_twin_holds_nothing(self, lab: Lab, reader: NasReader) -> None:
        lab.twin().mkdir(parents=True)
        assert reader.read(RUN_PATH, with_bytes=True).files == {}

    def test_links_and_special_files_are_no_copy(self, lab: Lab, tmp_path: Path, reader: NasReader) -> None:
        run = lab.run(files={"a.tif": b"a", "tiles/b.tif": b"b", "c.tif": b"c"})
        twin = lab.twin()
        (twin / "a.tif").unlink()
        (twin / "a.tif").symlink_to(run / "a.tif")
        (twin / "tiles/b.tif").unlink()
        (twin / "tiles").rmdir()
        (twin / "tiles").symlink_to(run / "tiles")
        (twin / "c.tif").unlink()
        os.mkfifo(twin / "c.tif")
        assert reader.read(RUN_PATH, with_bytes=True).files.keys() == {b"README.md", b"run_complete"}

    def test_progress_adds_up_at_the_end_of_a_long_reading(self, lab: Lab, token: str) -> None:
        lab.run()
        script = (
            "import sys; from cleanup.storage.nas import server\nserver.BEAT_SECONDS = 0\nserver.serve(*sys.argv[1:])"
        )
        request = json.dumps({"twin": RUN_PATH, "with_bytes": True}).encode()
        said = subprocess.run(
            [sys.executable, "-c", script, lab.nas, token], input=request, capture_output=True, check=True, cwd=CHECKOUT
        ).stdout
        frames = protocol.Frames()
        frames.add(said)
        answers = list(iter(frames.take, None))
        batches = [answer["files"] for answer in answers if "files" in answer]
        read = sum(file.size for batch in batches for _path, file in batch.files() if file.digest)
        assert sum(answer["beat"] for answer in answers if "beat" in answer) == read > 0


class TestProves:
    def test_nothing_without_a_token(self, lab: Lab, reader: NasReader) -> None:
        lab.run()
        (lab.nas / ".exlab-root").unlink()
        assert problem_of(reader) == ("nas_not_mounted", "no token file at its top")

    def test_nothing_without_a_directory(self, lab: Lab, token: str) -> None:
        for path in (lab.base / "nowhere", ""):
            with NasReader(str(path), token) as reader:
                assert problem_of(reader) == ("nas_not_mounted", "its directory is missing")

    def test_nothing_when_no_token_was_ever_registered(self, lab: Lab, token: str) -> None:
        lab.run()
        with NasReader(str(lab.nas), "") as reader:
            assert problem_of(reader)[0] == "nas_not_mounted"

    def test_nothing_when_another_nas_is_mounted(self, lab: Lab, reader: NasReader) -> None:
        lab.run()
        other = "11111111-2222-3333-4444-555555555555"
        (lab.nas / ".exlab-root").write_text(other)
        assert problem_of(reader) == ("nas_identity_mismatch", f"it carries {other}")
        (lab.nas / ".exlab-root").write_text("rubbish")
        assert problem_of(reader) == ("nas_identity_mismatch", "it carries unreadable")

    def test_nothing_once_it_has_been_unmounted_under_a_living_child(
        self, lab: Lab, token: str, reader: NasReader
    ) -> None:
        lab.run()
        reader.read(RUN_PATH, with_bytes=False)
        lab.nas.rename(lab.base / "gone")
        lab.nas.mkdir()
        assert problem_of(reader)[0] == "nas_not_mounted"

    def test_nothing_of_a_run_that_is_not_there(self, lab: Lab, reader: NasReader) -> None:
        lab.run()
        assert problem_of(reader, OTHER_RUN) == ("nas_missing_file", "the NAS holds no such run")
        assert problem_of(reader, "NOBODY/X/Runs/Run_2026-04-18T09-10")[0] == "nas_missing_file"
        assert reader.read(RUN_PATH, with_bytes=False).files  # and goes on

    @pytest.mark.parametrize("run_path", ["..", "../staging/CONFOCAL_01", "/etc", "CONFOCAL_01/../.."])
    def test_nothing_outside_its_root(self, run_path: str, lab: Lab, reader: NasReader) -> None:
        lab.run()
        assert problem_of(reader, run_path)[0] == "nas_io_error"

    @pytest.mark.parametrize("step", [1, 2, 3, 4])
    def test_nothing_behind_a_link(self, step: int, lab: Lab, tmp_path: Path, reader: NasReader) -> None:
        lab.run()
        linked = lab.nas.joinpath(*RUN_PATH.split("/")[:step])
        linked.rename(tmp_path / "moved")
        linked.symlink_to(tmp_path / "moved")
        assert problem_of(reader)[0] == "nas_io_error"

    def test_nothing_where_a_file_lies_instead(self, lab: Lab, reader: NasReader) -> None:
        lab.twin().parent.mkdir(parents=True)
        lab.twin().touch()
        assert problem_of(reader) == ("nas_io_error", f"{RUN_PATH}: Not a directory")

    def test_nothing_when_nested_too_deeply(self, lab: Lab, reader: NasReader) -> None:
        lab.run(files={"d/" * 130 + "file": b"x"})
        reason, detail = problem_of(reader)
        assert reason == "nas_io_error"
        assert "nested too deeply" in detail

    def test_nothing_behind_another_mount_and_says_so_legibly(self, lab: Lab, token: str, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        mounted = Path(os.fsdecode(os.fsencode(lab.twin()) + b"/tiles/\xff\x1b"))
        mounted.mkdir(parents=True)

        def on_a_bind_mount() -> tuple[str, str]:
            mount("--bind", tmp_path / "elsewhere", mounted)
            with NasReader(str(lab.nas), token, timeout=30) as reader:
                return problem_of(reader)

        reason, detail = with_own_mounts(on_a_bind_mount)
        assert reason == "nas_mount_below"
        where = f"tiles/{chr(92)}xff{chr(92)}x1b"
        assert detail == f"another filesystem is mounted at {where} in the copy itself", "by its whole path in the twin"


class Counted:
    def __init__(self, *, most: int = 3) -> None:
        self.noted: list[Process] = []
        self.most = most

    def note(self, process: Process) -> None:
        self.noted.append(process)

    def may_ask_again(self) -> bool:
        return len(self.noted) < self.most


class TestSlowTwin:
    """A read is silent while the NAS answers others; the child is stopped, or not."""

    def test_is_that_runs_affair_alone(self, lab: Lab, token: str) -> None:
        lab.run()
        lab.run(OTHER_RUN)
        with NasReader(str(lab.nas), token, timeout=30) as reader:
            reader.read(RUN_PATH, with_bytes=False)
            reader._timeout = 1.5
            os.kill(child_of(reader).pid, signal.SIGSTOP)
            with pytest.raises(NasError) as refused:
                reader.read(RUN_PATH, with_bytes=True)
            assert refused.value.problem == Finding(Reason.NAS_SLOW, "silent for 1.5 s, while the NAS itself answered")
            assert not refused.value.ill
            assert not reader.given_up
            assert reader.read(OTHER_RUN, with_bytes=True).files

    def test_no_further_reader_is_started_beyond_the_limit(self, lab: Lab, token: str) -> None:
        with NasReader(str(lab.nas), token, timeout=30, abandoned=Counted(most=0)) as reader:
            reader.present([])
            reader._timeout = 0.3
            os.kill(child_of(reader).pid, signal.SIGSTOP)
            assert problem_of(reader) == ("nas_timeout", "silent for 0.3 s")

    def test_a_token_that_is_gone_is_no_answer(self, lab: Lab, token: str) -> None:
        with NasReader(str(lab.nas), token, timeout=30) as reader:
            reader.present([])
            reader._timeout = 0.5
            (lab.nas / ".exlab-root").unlink()
            os.kill(child_of(reader).pid, signal.SIGSTOP)
            assert problem_of(reader)[0] == "nas_timeout"

    def test_an_error_of_one_file_is_that_runs_affair_and_names_the_file(
        self, lab: Lab, token: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        lab.run(files={"tiles/deep/t.tif": b"t" * 100})
        bad = lab.twin() / "tiles/deep/t.tif"
        try:
            with (
                means.nas_failing(monkeypatch, tmp_path, bad, "read", "error=EIO"),
                NasReader(str(lab.nas), token, timeout=30) as reader,
                pytest.raises(NasError) as refused,
            ):
                reader.read(RUN_PATH, with_bytes=True)
        except means.Unavailable as missing:
            means.skip_or_fail(missing)
        assert refused.value.problem == Finding(Reason.NAS_IO_ERROR, f"tiles/deep/t.tif: {os.strerror(errno.EIO)}")
        assert not refused.value.ill

    def test_threads_that_hang_give_no_sign_of_life(
        self, lab: Lab, token: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A thread that reads large files hangs. It takes two seconds."""
        lab.run(files={"a.tif": b"a" * 900_000, "b.tif": b"b" * 900_000})
        hangs = lab.twin() / "a.tif"
        try:
            with (
                means.nas_failing(monkeypatch, tmp_path, hangs, "read", "delay_enter=60000000"),
                NasReader(str(lab.nas), token, timeout=30) as reader,
            ):
                reader.present([])
                reader._timeout = 1.6  # longer than the server is ever silent
                with pytest.raises(NasError, match=r"silent for 1\.6 s"):
                    reader.read(RUN_PATH, with_bytes=True, how=HowToRead(threads=2))
        except means.Unavailable as missing:
            means.skip_or_fail(missing)

    def test_an_error_of_the_token_too_is_the_nas(
        self, lab: Lab, token: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        lab.run()
        try:
            with (
                means.nas_failing(monkeypatch, tmp_path, lab.nas / ".exlab-root", "read", "error=EIO"),
                NasReader(str(lab.nas), token, timeout=30) as reader,
                pytest.raises(NasError) as refused,
            ):
                reader.read(RUN_PATH, with_bytes=True)
        except means.Unavailable as missing:
            means.skip_or_fail(missing)
        assert refused.value.ill


class TestSilentChild:
    """A mount that hangs, played by stopped children."""

    def test_is_given_up_and_not_waited_for(
        self, lab: Lab, token: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        lab.run()
        with NasReader(str(lab.nas), token, timeout=30) as reader:
            reader.read(RUN_PATH, with_bytes=False)
            reader._timeout = 0.3
            child = child_of(reader)
            os.kill(child.pid, signal.SIGSTOP)
            monkeypatch.setattr(sys, "executable", str(never_ready(tmp_path)))
            started = time.monotonic()
            assert problem_of(reader) == ("nas_timeout", "silent for 0.3 s")
            assert problem_of(reader, OTHER_RUN) == ("nas_timeout", "it did not answer earlier in this pass")
        assert time.monotonic() - started < 2
        assert child.wait(timeout=10) == -signal.SIGKILL

    def test_is_not_waited_for_at_the_end_either(self, lab: Lab, token: str) -> None:
        lab.run()
        with NasReader(str(lab.nas), token) as reader:
            reader.read(RUN_PATH, with_bytes=False)
            child = child_of(reader)
            os.kill(child.pid, signal.SIGSTOP)
            started = time.monotonic()
        assert time.monotonic() - started < 5
        assert child.wait(timeout=10) == -signal.SIGKILL


class TestChild:
    def test_killed_is_an_error_and_the_next_question_gets_a_new_one(self, lab: Lab, reader: NasReader) -> None:
        lab.run()
        first = reader.read(RUN_PATH, with_bytes=False)
        child = child_of(reader)
        child.kill()
        child.wait()
        assert problem_of(reader) == ("nas_io_error", "the reading process ended")
        assert reader.read(RUN_PATH, with_bytes=False) == first
        assert child_of(reader) is not child

    def test_killed_in_the_middle_of_an_answer_proves_nothing(self, lab: Lab, reader: NasReader) -> None:
        # Far more than the pipe and one reading from it can hold.
        lab.run(files={f"{number:06}{'x' * 200}.tif": b"" for number in range(1500)})
        reader._ask({"twin": RUN_PATH, "with_bytes": False})
        reader._answer()
        child_of(reader).kill()
        with pytest.raises(NasError, match="the reading process ended"):
            while "device" not in reader._answer():
                pass
        assert len(reader.read(RUN_PATH, with_bytes=False).files) == 1502

    def test_an_answer_broken_off_is_never_taken_for_the_next_runs(self, lab: Lab, reader: NasReader) -> None:
        lab.run(files={f"{number:06}.tif": b"" for number in range(1000)})
        lab.run(OTHER_RUN, files={"other.tif": b"x"})
        reader.read(OTHER_RUN, with_bytes=False)
        reader._ask({"twin": RUN_PATH, "with_bytes": False})
        reader._answer()  # as when the progress callback raises
        assert reader.read(OTHER_RUN, with_bytes=False).files.keys() == {b"other.tif", b"README.md", b"run_complete"}

    @pytest.mark.parametrize(
        ("then", "seconds", "detail"),
        [
            (WHOLE[:-2], 0, "the reading process ended"),
            (WHOLE[:-2], 60, "silent for 0.5 s"),
            (b"Traceback (most recent call last)", 0, "the reading process failed: no frame where one begins"),
            (WHOLE[:3] + b"\xff" * 8, 0, f"the reading process failed: a frame of {(1 << 32) - 1} bytes"),
            (WHOLE[:-1] + b"X", 0, "the reading process failed: a frame with a wrong checksum"),
            (protocol.frame({"told": True}), 0, "the reading process failed: an answer to another question"),
        ],
        ids=["dies", "hangs", "other words", "a length beyond the limit", "a changed byte", "another answer"],
    )
    def test_that_breaks_off_in_the_middle_of_a_frame_proves_nothing(
        self, token: str, lab: Lab, monkeypatch: pytest.MonkeyPatch, then: bytes, seconds: int, detail: str
    ) -> None:
        """A whole frame of files comes before."""
        script = (
            "import os, sys, time\nsys.stdin.readline()\n"
            "os.write(1, bytes.fromhex(sys.argv[1]))\ntime.sleep(int(sys.argv[2]))"
        )
        words = [sys.executable, "-S", "-c", script, (WHOLE + then).hex(), str(seconds)]
        monkeypatch.setattr(
            reader_process,
            "start",
            lambda _words: subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE),
        )
        with NasReader(str(lab.nas), token, timeout=0.5 if seconds else 30) as reader:
            assert problem_of(reader)[1] == detail

    def test_inherits_no_descriptor_of_ours(self, lab: Lab, tmp_path: Path, reader: NasReader) -> None:
        lab.run()
        with (tmp_path / "locked").open("w") as ours:
            os.set_inheritable(ours.fileno(), True)
            reader.read(RUN_PATH, with_bytes=False)
            folder = f"/proc/{child_of(reader).pid}/fd"
            open_files = {os.path.realpath(f"{folder}/{number}") for number in os.listdir(folder)}
        assert str(tmp_path / "locked") not in open_files
        assert {name for name in open_files if name.startswith("/") and not name.startswith("/proc/")} <= {
            os.path.realpath("/proc/self/fd/2"),
            str(lab.nas),
            os.devnull,
        }

    def test_a_reader_of_the_commands_errors_does_not_wait_for_it(self, lab: Lab, token: str) -> None:
        """A hanging reader outlives the command; a pipe on the command's output must end with the command."""
        script = (
            "import os, signal, sys\nfrom cleanup.storage.nas.client import NasReader\n"
            "reader = NasReader(sys.argv[1], sys.argv[2])\nreader.present([])\n"
            "os.kill(reader._child.pid, signal.SIGSTOP)\nprint(reader._child.pid, flush=True)\nos._exit(0)"
        )
        said = subprocess.run(
            [sys.executable, "-c", script, lab.nas, token], capture_output=True, check=True, cwd=CHECKOUT, timeout=20
        )
        left = int(said.stdout)
        try:
            assert "cleanup.storage.nas.server" in Path(f"/proc/{left}/cmdline").read_text()
        finally:
            os.kill(left, signal.SIGKILL)

    def test_a_fault_of_its_own_is_told_and_logged(
        self, lab: Lab, reader: NasReader, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Its standard error goes nowhere, so its answer carries the fault."""
        lab.run()
        reader.present([])
        reader._send(child_of(reader).stdin.fileno(), b"no request\n")  # type: ignore[union-attr]
        reason, detail = problem_of(reader)
        assert reason == "nas_io_error"
        assert detail.startswith("the reading process failed: JSONDecodeError")
        assert "Traceback" in caplog.text
        assert reader.read(RUN_PATH, with_bytes=False).files  # by a new one

    def test_leaves_nothing_open_and_no_process_behind(self, lab: Lab, token: str) -> None:
        lab.run()
        before = os.listdir("/proc/self/fd")
        with NasReader(str(lab.nas), token) as reader:
            reader.read(RUN_PATH, with_bytes=False)
            child = child_of(reader)
        assert child.returncode == 0
        for _ in range(3):
            with NasReader(str(lab.nas), token) as reader:
                reader.read(RUN_PATH, with_bytes=False)
                child_of(reader).kill()
                problem_of(reader)
        assert len(os.listdir("/proc/self/fd")) == len(before)

    def test_is_not_made_before_it_is_needed(self, lab: Lab) -> None:
        with NasReader(str(lab.nas), "token") as reader:
            assert reader._child is None


def test_an_unreadable_folder_is_an_error_and_not_a_missing_file(lab: Lab, token: str) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything; `test_nothing_behind_another_mount` sees the same way of an error")
    lab.run()
    (lab.twin() / "tiles").chmod(0)
    try:
        with NasReader(str(lab.nas), token) as reader:
            assert problem_of(reader) == ("nas_io_error", "tiles: Permission denied")
    finally:
        (lab.twin() / "tiles").chmod(0o700)


@pytest.mark.parametrize("with_bytes", [False, True])
def test_a_time_that_no_message_carries_is_an_error_that_names_the_file(
    lab: Lab, reader: NasReader, with_bytes: bool
) -> None:
    lab.run(files={"a.bin": b"a", "b.bin": b"b"})
    os.utime(lab.twin() / "a.bin", (9_300_000_000, 9_300_000_000))  # in the year 2264
    assert problem_of(reader, with_bytes=with_bytes) == ("nas_io_error", f"a.bin: {os.strerror(errno.EOVERFLOW)}")
    only_here = reader.read(RUN_PATH, with_bytes=with_bytes, wanted=[b"b.bin"])
    assert b"b.bin" in only_here.files, "one that no staged file asks for is left out"
    assert b"a.bin" not in only_here.files


def test_open_nas_gives_the_right_root_and_leaks_nothing(lab: Lab, token: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with handles.opened(server.open_nas(str(lab.nas), token)) as root:
        assert os.fstat(root).st_ino == lab.nas.stat().st_ino
    for wrong in ("", "11111111-2222-3333-4444-555555555555"):
        with pytest.raises(NasError):
            server.open_nas(str(lab.nas), wrong)
    assert len(os.listdir("/proc/self/fd")) == before


class TestAnchors:
    INSTALLATION = "0b4b2a3e-6c0f-4b0e-9f3c-123456789abc"

    def test_lines_are_added_at_the_top_and_read_again(self, lab: Lab, reader: NasReader) -> None:
        assert list(reader.anchors(self.INSTALLATION)) == []
        reader.anchor(self.INSTALLATION, "one")
        reader.anchor(self.INSTALLATION, "two")
        assert list(reader.anchors(self.INSTALLATION)) == [b"one\ntwo\n"]
        assert {path.name for path in lab.nas.iterdir()} == {".exlab-root", f".exlab-ledger-{self.INSTALLATION}"}

    def test_a_file_that_cannot_be_written_is_a_problem_of_that_file(self, lab: Lab, reader: NasReader) -> None:
        (lab.nas / f".exlab-ledger-{self.INSTALLATION}").symlink_to("elsewhere")
        with pytest.raises(NasError) as refused:
            reader.anchor(self.INSTALLATION, "one")
        assert (refused.value.problem.reason, refused.value.ill) == (Reason.NAS_IO_ERROR, False)
        assert not (lab.nas / "elsewhere").exists()

    def test_a_nas_that_shows_a_staging_disk_gets_none(self, lab: Lab, reader: NasReader) -> None:
        (lab.nas / f".exlab-staging-{self.INSTALLATION}").touch()
        with pytest.raises(NasError) as refused:
            reader.anchor(self.INSTALLATION, "one")
        assert refused.value.problem.reason == Reason.NAS_IS_STAGING
        assert list(reader.anchors(self.INSTALLATION)) == []

    def test_an_installation_that_is_no_uuid_opens_nothing(self, lab: Lab, reader: NasReader) -> None:
        with pytest.raises(NasError, match="the reading process failed"):
            list(reader.anchors("../x"))
