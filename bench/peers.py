"""What a careful person types instead: other programs, in this process's children."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.tools.lab import METADATA

PROGRAMS = ("rm", "du", "sha256sum", "rclone")
_MANIFEST = f"{METADATA}/checksums.sha256"
# The records differ on both sides, so a person leaves them out of a comparison.
_WITHOUT_RECORDS = ("--exclude", f"/{METADATA}/**")


def missing(programs: Sequence[str]) -> list[str]:
    return [name for name in programs if shutil.which(name) is None]


def rm(place: Path) -> None:
    _run("rm", "-rf", place)


def du(place: Path) -> None:
    _run("du", "-sb", place)


def sha256sum(place: Path) -> None:
    _run("sha256sum", "--quiet", "-c", _MANIFEST, at=place)


def rclone_check(place: Path, twin: Path, *options: str) -> None:
    _run("rclone", "check", *options, *_WITHOUT_RECORDS, place, twin)


def rclone_purge(place: Path) -> None:
    _run("rclone", "purge", place)


def rmtree_and_count(place: Path) -> tuple[int, int]:
    """The naive way: count with `rglob`, then `rmtree`."""
    sizes = [path.stat().st_size for path in place.rglob("*") if path.is_file()]
    shutil.rmtree(place)
    return len(sizes), sum(sizes)


def _run(*words: str | Path, at: Path | None = None) -> None:
    # No configuration of the person who runs this takes part.
    environment = os.environ | {"LC_ALL": "C", "RCLONE_CONFIG": os.devnull}
    done = subprocess.run(
        words, cwd=at, env=environment, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    if done.returncode:
        raise RuntimeError(f"{words[0]} ended with {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")
