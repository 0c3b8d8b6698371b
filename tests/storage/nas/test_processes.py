import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cleanup.storage.nas.processes import open_beneath, process_of

pytestmark = pytest.mark.one_engine(by="function")


@pytest.fixture
def child(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    (tmp_path / "nas/run/tiles").mkdir(parents=True)
    (tmp_path / "nas/run/tiles/t.tif").touch()
    script = "import sys; files = [open(path) for path in sys.argv[1:]]; print(flush=True); input()"
    paths = [tmp_path / "nas/run/tiles/t.tif", tmp_path / "other"]
    paths[1].touch()
    with subprocess.Popen(
        [sys.executable, "-c", script, *paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_an_ended_process_is_not_alive_even_if_not_waited_for(
    child: "subprocess.Popen[bytes]",
) -> None:
    process = process_of(child.pid)
    assert process is not None
    assert process.is_living()
    child.send_signal(signal.SIGSTOP)
    assert process.is_living()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not process.is_living(), "what is left of it is no process any more"
    child.wait()
    assert not process.is_living()
    assert process_of(child.pid) is None


def test_another_process_with_its_number_is_not_it(child: "subprocess.Popen[bytes]") -> None:
    process = process_of(child.pid)
    assert process is not None
    assert not replace(process, started=process.started - 1).is_living()


def test_the_deepest_path_below_a_folder_that_it_has_open(child: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    assert open_beneath(child.pid, str(tmp_path / "nas")) == "run/tiles/t.tif"
    assert open_beneath(child.pid, str(tmp_path / "nas/run/til")) == ""
    assert open_beneath(2**22 + 1, str(tmp_path)) == ""
