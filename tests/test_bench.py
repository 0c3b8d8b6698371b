"""`python -m bench`: each kind of row works, the numbers are what was measured, and nothing stays behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from bench import machine, peers, report
from bench.measuring import Cost
from bench.rows import ROWS, Row
from tests.tools.checkout import CHECKOUT
from tests.tools.disks import tmp_path as tmp_path

pytestmark = pytest.mark.one_engine


def started(place: Path, environment: dict[str, str], *words: str) -> subprocess.Popen[str]:
    # In the database of this test, which has its tables already.
    environment = {**environment, "TEST_DATABASE_URL": environment["DATABASE_URL"]}
    words = (sys.executable, "-m", "bench", "--quick", "--scale", "0.0001", "--dir", str(place), *words)
    return subprocess.Popen(
        words, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


# Each of our sides, of theirs, and of the trees; `.ci/run` takes all rows.
SOME = ("clear-s1-size", "clear-s1-proven", "hash-s1", "clear-s2-checksum", "remove-s3", "size-s3")


def test_the_quick_comparison_measures_each_kind_of_row(tmp_path: Path, subprocess_env: dict[str, str]) -> None:
    """Takes three seconds: the start of Django, and sixteen small measurements."""
    place, results = tmp_path / "scratch", tmp_path / "speed.json"
    place.mkdir()
    chosen = [word for name in SOME for word in ("--row", name)]
    bench = started(place, subprocess_env, *chosen, "--rounds", "1", "--json", str(results))
    out, err = bench.communicate()
    assert (bench.returncode, err) == (0, "")
    told = json.loads(results.read_text())
    assert [row["name"] for row in told["rows"]] == list(SOME)
    # The readme and the sign of completeness lie beside the data.
    assert [row["files"] for row in told["rows"]] == [12, 12, 12, 6, 6, 6]
    for row in told["rows"]:
        assert row["work"] in out
        assert row["ours"]["cpu_seconds"][0] > 0
        for peer in row["peers"]:
            assert peer["missing"] or peer["ratio"]["median"] > 0
    assert told["machine"]["filesystem"] == machine.describe(place)["filesystem"]
    assert told["machine"]["rm"].startswith("rm (")
    assert list(place.iterdir()) == []


@pytest.mark.exhaustive
def test_an_interrupted_comparison_leaves_nothing(tmp_path: Path, subprocess_env: dict[str, str]) -> None:
    """Takes some seconds: the start of Django, and the first rows."""
    bench = started(tmp_path, subprocess_env, "--rounds", "100000")
    assert bench.stdout is not None
    while not bench.stdout.readline().startswith("work "):
        assert bench.poll() is None
    assert list(tmp_path.glob("*/main/bench"))
    bench.send_signal(signal.SIGTERM)
    _out, err = bench.communicate()
    assert bench.returncode == 128 + signal.SIGTERM, err
    assert list(tmp_path.iterdir()) == []


STOPPED_DURING_A_FORK = """
import os, signal, sys
from bench import measuring
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
os.register_at_fork(before=lambda: os.kill(os.getpid(), signal.SIGTERM))
measuring.apart(signal.pause)
"""


def test_a_signal_during_a_fork_is_not_lost() -> None:
    done = subprocess.run([sys.executable, "-c", STOPPED_DURING_A_FORK], cwd=CHECKOUT, check=False, timeout=60)
    assert done.returncode == 7


def test_the_kinds_are_all_of_them() -> None:
    def kinds(rows: Iterable[Row]) -> set[str]:
        return {side.name for row in rows for side in (row.ours, *row.peers)}

    chosen = [row for row in ROWS if row.name in SOME]
    assert kinds(chosen) == kinds(ROWS)
    assert {row.shape for row in chosen} == {row.shape for row in ROWS}


def cost(seconds: float) -> Cost:
    return Cost(seconds, own_cpu=seconds / 2, children_cpu=seconds / 4, peak_mib=80)


def measured(**more: Any) -> report.Measured:
    first = ROWS[0].peers[0].name
    told = {"ours": [cost(2.0), cost(0.9), cost(4.0)], "peers": {first: [cost(1.0), cost(1.0), cost(5.0)]}}
    return report.Measured(ROWS[0], files=3, bytes=30, **{**told, "missing": {}, **more})


def test_a_ratio_is_that_of_one_round() -> None:
    row = measured()
    assert row.ratios(ROWS[0].peers[0].name).each == (2.0, 0.9, 0.8)
    assert row.met  # the median is the goal itself
    line, ours, theirs = report.lines(row)
    assert line.split()[-7:] == ["0.90", "0.90", "0.80", "to", "2.00", "yes", "0.90"]
    assert ours.split() == ["ours", "2.000", "1.500", "0.500", "80"]
    assert theirs.split()[-4:] == ["1.000", "0.750", "0.250", "80"]
    assert not measured(ours=[cost(2.0), cost(0.91), cost(4.0)]).met


def test_a_missing_program_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rm").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    assert peers.missing(("rclone", "rm")) == ["rclone"]
    row = measured(peers={}, missing={ROWS[0].peers[0].name: "rclone"})
    assert row.met is None
    assert row.as_json()["peers"] == [{"name": ROWS[0].peers[0].name, "missing": "rclone"}]
    assert report.lines(row)[-1].endswith("left out: rclone is not installed")


@pytest.mark.exhaustive
def test_an_instrument_writes_as_fast_beside_the_prover(tmp_path: Path, subprocess_env: dict[str, str]) -> None:
    """Takes half a minute for each of at most three tries: other tests write to the same disk."""
    environment = {**subprocess_env, "TEST_DATABASE_URL": subprocess_env["DATABASE_URL"], "PYTHONPATH": "."}
    words = (sys.executable, "bench/acquisition.py", "--pairs", "5", "--seconds", "2", "--dir", str(tmp_path))
    shares: list[float] = []
    while len(shares) < 3 and max(shares, default=0) < 0.95:
        told = subprocess.run(words, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True)
        shares.append(float(told.stdout.splitlines()[-1].split()[3]))
    assert max(shares) >= 0.95, shares
