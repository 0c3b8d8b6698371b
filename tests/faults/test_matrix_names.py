"""The fault matrix: names, shapes and sizes that break other programs are cleared to the last byte."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cleanup.rules.reasons import Reason
from tests.faults.cases import MANIFEST, Case, Stage, clears, matrix
from tests.tools.lab import METADATA

pytestmark = pytest.mark.one_engine


def named(*names: bytes) -> Case:
    """Files of these names with different bytes, listed as GNU sha256sum lists them."""
    files = {os.fsdecode(name): b"content of " + name for name in names}
    return clears(built={"files": files}, spoil=escape_manifest)


def shaped(files: dict[str, bytes], **more: Any) -> Case:
    return clears(built={"files": files}, **more)


def escape_manifest(run: Path) -> None:
    """A newline, carriage return or backslash in a name makes a line that begins with a backslash."""
    path = run / MANIFEST
    before = path.stat()
    lines = []
    for file in sorted(run.rglob("*")):
        name = str(file.relative_to(run))
        if not file.is_file() or name.startswith(METADATA + "/"):
            continue
        escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        lines.append(("\\" if escaped != name else "") + f"{digest}  {escaped}\n")
    path.write_bytes("".join(lines).encode("utf-8", "surrogateescape"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def unescaped(run: Path) -> None:
    escape_manifest(run)
    path = run / MANIFEST
    path.write_bytes(b"".join(line.removeprefix(b"\\") for line in path.read_bytes().splitlines(keepends=True)))


def lock_folders(stage: Stage) -> None:
    """Every folder of the run is read-only, its own included, as an instrument leaves it."""
    for folder in [*stage.path.rglob("*/"), stage.path]:
        folder.chmod(0o555)


def lock_files(stage: Stage) -> None:
    for path in stage.path.rglob("*"):
        if path.is_file():
            path.chmod(0o444)


def make_sparse(run: Path, twin: Path) -> None:
    for place in (run, twin):
        os.truncate(place / "sparse.raw", 64 << 20)


HUGE = {"sparse.raw": b""}

CASES = {
    "a newline": named(b"new\nline", b"\nfirst", b"last\n"),
    "a carriage return": named(b"carriage\rreturn", b"end\r"),
    "a backslash": named(b"back\\slash", b"\\", b"\\n"),
    "not utf-8": named(b"latin-\xf8", b"\xff\xfe", b"half-\xe2\x82"),
    "leading dashes": named(b"-rf", b"--no-preserve-root", b"- "),
    "spaces": named(b" ", b"  two", b"at its end ", b"in the middle"),
    "what a shell would take": named(b"*", b"?", b"$(reboot)", b"`id`", b"~", b"a;b", b"a|b", b"'\"", b"%s{0}"),
    "dots": named(b"...", b"..a", b".hidden", b"a."),
    "what looks like a checksum line": named(b"0" * 64 + b"  x", b"# comment", b"*star"),
    "two spellings of one letter": named("\u00e9.tif".encode(), "e\u0301.tif".encode()),
    "upper and lower case": named(b"tile.tif", b"TILE.TIF", b"Tile.tif"),
    "control and bidi characters": named(b"\x01\x1b[31m", "\u202egnp.exe".encode(), b"\x7f"),
    "the longest name": named(b"n" * 255, "\u00e9".encode() * 127),
    "our own names": named(b".exlab-root", b".exlab-reserve", b".exlab-clearing-" + b"0" * 32),
    "a nested metadata folder": named(f"tiles/{METADATA}/ingest.json".encode(), f"tiles/{METADATA}/notes".encode()),
    "names of metadata at the top": named(b"ingest.json", b"checksums.sha256"),
    "a newline that is not escaped": Case(
        Reason.MANIFEST_UNREADABLE, built={"files": {"new\nline": b"1"}}, spoil=lambda run: unlisted_newline(run)
    ),
    "empty files": shaped({"empty": b"", "also/empty": b""}),
    "nothing but the wizard's files": shaped({}),
    "empty folders": clears(lambda s: (s.path / "empty/within/empty").mkdir(parents=True), built={"files": {}}),
    "127 levels": shaped({"d/" * 126 + "file": b"deep"}),
    "long names in long folders": shaped({("n" * 200 + "/") * 15 + "file": b"far"}),
    "a thousand files": shaped({f"{number:04}.tif": b"%d" % number for number in range(1000)}),
    "read-only folders": clears(lock_folders),
    "read-only files": clears(lock_files),
    "a sticky folder": clears(lambda s: (s.path / "tiles").chmod(0o1777)),
    "a sparse file": clears(built={"files": HUGE}),
}


def unlisted_newline(run: Path) -> None:
    digest = hashlib.sha256(b"1").hexdigest()
    path = run / MANIFEST
    path.write_bytes(path.read_bytes() + f"{digest}  new\nline\n".encode())


RARE = {
    "a carriage return",
    "dots",
    "what looks like a checksum line",
    "two spellings of one letter",
    "upper and lower case",
    "names of metadata at the top",
    "empty folders",
    "long names in long folders",
    "a thousand files",
    "read-only files",
    "a sticky folder",
}


@matrix("names", CASES, rare=RARE)
def test_names(play: Callable[..., None], case: Case, asker: str) -> None:
    play(case, asker)
