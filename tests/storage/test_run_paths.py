import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleanup.storage import run_paths
from cleanup.storage.errors import UnsafePath
from cleanup.storage.run_paths import RunPath, parse_run_path, show
from tests.tools.lab import RUN_PATH

pytestmark = pytest.mark.one_engine(by="function")


class TestRunPath:
    def test_the_four_steps(self) -> None:
        path = parse_run_path(RUN_PATH)
        assert path == RunPath("CONFOCAL_01", "PROJ-0042", "Runs", "Run_2026-04-17T14-32")
        assert str(path) == RUN_PATH
        assert path.parent == b"CONFOCAL_01/PROJ-0042/Runs"
        assert path.run_kind == "experimental"

    def test_a_test_run(self) -> None:
        assert parse_run_path("E/P/TestRuns/TestRun_2026-04-17T09-12").run_kind == "test"

    def test_seconds_as_older_writers_add_them(self) -> None:
        assert parse_run_path("E/P/Runs/Run_2026-04-17T14-32-59").leaf == "Run_2026-04-17T14-32-59"

    @pytest.mark.parametrize(
        "name", ["FLOW 01", "Zeiss (neu)", "Messgerät", "顕微鏡", "-rf", "a.b", "a\\b", "~", "x" * 255]
    )
    def test_names_that_a_lab_may_choose(self, name: str) -> None:
        path = f"{name}/{name}/Runs/Run_2026-04-17T14-32"
        assert str(parse_run_path(path)) == path

    @pytest.mark.parametrize(
        "leaf",
        [
            "Run_calibration",
            "Run_2026-04-17",
            "Run_2026-04-17T14:32",
            "Run_2026-04-17T14-32-",
            "Run_2026-04-17T14-32-5",
            "Run_2026-04-17T14-32-59-01",
            "Run_2026-04-17T14-32.bak",
            "Run_26-04-17T14-32",
            "Run_٢٠٢٦-04-17T14-32",
            "Run_Kalibrierung µm",
            f"Run_{'x' * 60}",
        ],
    )
    def test_leaves_that_only_a_record_makes_a_run(self, leaf: str) -> None:
        path = parse_run_path(f"E/P/Runs/{leaf}")
        assert (str(path), path.run_kind, path.is_usual) == (f"E/P/Runs/{leaf}", "experimental", False)
        assert parse_run_path(RUN_PATH).is_usual

    @pytest.mark.parametrize(
        ("leaf", "kind"), [("Run_2026-04-17T14-32", "experimental"), ("TestRun_x", "test"), ("Run_x", "experimental")]
    )
    def test_a_run_in_its_project_itself(self, leaf: str, kind: str) -> None:
        path = parse_run_path(f"E/P/{leaf}")
        assert path == RunPath("E", "P", "", leaf)
        assert (str(path), path.parent, path.run_kind) == (f"E/P/{leaf}", b"E/P", kind)
        assert not path.is_usual

    @pytest.mark.parametrize(
        "leaf",
        [
            "Run_",
            f"Run_{'x' * 61}",
            "Run_2026-04-17T14-32 ",
            "Run_2026-04-17T14-32\n",
            "Run_a\tb",
            "Run_\udcff",
            "Run",
            " Run_2026-04-17T14-32",
            "run_2026-04-17T14-32",
            "Run2026-04-17T14-32",
            "TestRun_2026-04-17T14-32",
            ".exlab-clearing-0123456789abcdef",
            "",
            ".",
            "..",
        ],
    )
    def test_leaves_that_are_no_run(self, leaf: str) -> None:
        with pytest.raises(UnsafePath):
            parse_run_path(f"E/P/Runs/{leaf}")

    def test_a_run_in_the_folder_of_the_other_kind(self) -> None:
        with pytest.raises(UnsafePath, match="not the name of a run below TestRuns"):
            parse_run_path("E/P/TestRuns/Run_2026-04-17T14-32")

    @pytest.mark.parametrize(
        "name",
        [
            *("", ".", "..", ".hidden", " a", "a ", "a\u00a0"),
            *("a\nb", "a\0b", "a\x1bb", "a\x7fb", "\u202ea", "\udcff", "\ud800"),
            *("x" * 256, "µ" * 128),
        ],
    )
    def test_names_that_no_folder_may_have(self, name: str) -> None:
        assert not run_paths.is_folder_name(name)
        for path in (f"{name}/P/Runs/Run_2026-04-17T14-32", f"E/{name}/Runs/Run_2026-04-17T14-32"):
            with pytest.raises(UnsafePath):
                parse_run_path(path)

    @pytest.mark.parametrize(
        "path",
        [
            "",
            "/",
            "E",
            f"/{RUN_PATH}",
            f"{RUN_PATH}/",
            f"./{RUN_PATH}",
            f"../{RUN_PATH}",
            f"{RUN_PATH}/..",
            RUN_PATH.replace("/", "\\"),
            RUN_PATH.replace("/", "//"),
            "E/P/runs/Run_2026-04-17T14-32",
            "E/P/Other/Run_2026-04-17T14-32",
            "E/Runs/Run_2026-04-17T14-32",
            "E/TestRuns/TestRun_2026-04-17T14-32",
            "E/P/Run_2026-04-17T14-32/Run_2026-04-17T14-32",
            "E/Run_2026-04-17T14-32",
            "E//Run_2026-04-17T14-32",
        ],
    )
    def test_paths_of_another_shape(self, path: str) -> None:
        with pytest.raises(UnsafePath):
            parse_run_path(path)

    @given(st.text() | st.lists(st.text(max_size=3) | st.sampled_from(RUN_PATH.split("/")), max_size=5).map("/".join))
    def test_any_text_is_a_run_path_or_unsafe(self, text: str) -> None:
        try:
            path = parse_run_path(text)
        except UnsafePath as error:
            assert str(error).isprintable()
        else:
            assert str(path) == text
            assert os.path.normpath(text) == text
            assert not text.startswith("/")


class TestShow:
    @pytest.mark.parametrize(
        ("name", "shown"),
        [
            (b"plain name.tif", "plain name.tif"),
            ("µ-顕微鏡".encode(), "µ-顕微鏡"),
            (b"\xff\xfe", r"\xff\xfe"),
            (b"a\nb\tc", r"a\nb\tc"),
            (b"\x1b[2J", r"\x1b[2J"),
            ("a\u202eb".encode(), r"a\u202eb"),
            (b"", ""),
        ],
    )
    def test_says_a_name_so_that_it_can_be_read(self, name: bytes, shown: str) -> None:
        assert show(name) == shown

    @given(st.binary())
    def test_any_name_is_printable_and_can_be_stored(self, name: bytes) -> None:
        assert show(name).isprintable()
        assert show(name).encode() or not name
