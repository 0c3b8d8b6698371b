"""The manifest in the format of GNU `sha256sum`; no line leads out of the run."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleanup.rules.reasons import Reason
from cleanup.storage.staging import manifest
from cleanup.storage.staging.manifest import ManifestError, parse, read
from tests.tools.checkout import CHECKOUT
from tests.tools.lab import Lab

pytestmark = pytest.mark.one_engine(by="function")


A, B = hashlib.sha256(b"a"), hashlib.sha256(b"b")
HEX = A.hexdigest().encode()
OTHER = B.hexdigest().encode()


def line(path: bytes, separator: bytes = b"  ", digest: bytes = HEX) -> bytes:
    return digest + separator + path + b"\n"


def reason_of(data: bytes) -> str:
    with pytest.raises(ManifestError) as refused:
        parse(data)
    assert refused.value.detail.isprintable()
    return refused.value.reason


class TestParse:
    def test_one_line_per_file(self) -> None:
        data = line(b"a.tif") + line(b"tiles/b.tif", digest=OTHER)
        parsed = parse(data)
        assert parsed.entries == {b"a.tif": A.digest(), b"tiles/b.tif": B.digest()}
        assert parsed.sha256 == hashlib.sha256(data).hexdigest()

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(line(b"a", b" *"), id="binary"),
            pytest.param(line(b"./a"), id="from find"),
            pytest.param(line(b"a").rstrip(), id="no last line break"),
            pytest.param(line(b"a").replace(b"\n", b"\r\n"), id="CRLF"),
            pytest.param(b"\n" + line(b"a") + b"\n\r\n", id="empty lines"),
            pytest.param(line(b"a", digest=HEX.upper()), id="capital hex"),
            pytest.param(line(b"a") * 3, id="the same line again"),
            pytest.param(line(b"a") + line(b"./a"), id="the same file by another spelling"),
        ],
    )
    def test_ways_to_write_one_file(self, data: bytes) -> None:
        assert parse(data).entries == {b"a": A.digest()}

    @pytest.mark.parametrize(
        ("written", "path"),
        [
            (line(b" a"), b" a"),
            (line(b"a "), b"a "),
            (line(b"*a"), b"*a"),
            (line(b"a  b"), b"a  b"),
            (line(b"-rf"), b"-rf"),
            (line(b"\xff\xfe.tif"), b"\xff\xfe.tif"),
            (line("µ.tif".encode()), "µ.tif".encode()),
            (line(b"a\tb\rc"), b"a\tb\rc"),
            (line(b"..."), b"..."),
            (line(b"..a/b.."), b"..a/b.."),
            (line(b"a\\nb"), b"a\\nb"),
            (b"\\" + line(b"a\\nb\\\\c\\rd"), b"a\nb\\c\rd"),
            (b"\\" + line(b"a\\\\nb"), b"a\\nb"),
            (b"\\" + line(b"a\\x\\"), b"a\\x\\"),
        ],
    )
    def test_odd_names(self, written: bytes, path: bytes) -> None:
        assert set(parse(written).entries) == {path}

    @pytest.mark.parametrize("data", [b"", b"\n", b"\r\n\n\r\n"])
    def test_no_line_is_empty(self, data: bytes) -> None:
        assert reason_of(data) == "manifest_empty"

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(line(b"/etc/passwd"), id="absolute"),
            pytest.param(line(b".//etc/passwd"), id="absolute behind a dot"),
            pytest.param(line(b"../a"), id="above"),
            pytest.param(line(b"a/../../b"), id="above in the middle"),
            pytest.param(line(b"a/.."), id="above at the end"),
            pytest.param(line(b"././a"), id="dots twice"),
            pytest.param(line(b"a/./b"), id="dot inside"),
            pytest.param(line(b"a//b"), id="empty part"),
            pytest.param(line(b"a/"), id="folder"),
            pytest.param(line(b"."), id="dot"),
            pytest.param(line(b".."), id="two dots"),
            pytest.param(line(b"./"), id="nothing behind the dot"),
            pytest.param(b"\\" + line(b"..\\n/../a"), id="above in an escaped name"),
            pytest.param(line(b"a", digest=HEX[:-1]), id="short hex"),
            pytest.param(line(b"a", digest=HEX + b"0"), id="long hex"),
            pytest.param(line(b"a", digest=b"g" * 64), id="no hex"),
            pytest.param(line(b"a", b" "), id="one space"),
            pytest.param(line(b"a", b"\t"), id="tab"),
            pytest.param(line(b""), id="no name"),
            pytest.param(HEX + b"\n", id="hex alone"),
            pytest.param(b"# comment\n" + line(b"a"), id="comment"),
            pytest.param(b"SHA256 (a) = " + HEX + b"\n", id="BSD format"),
            pytest.param(line(b"a") + HEX[:20], id="truncated"),
            pytest.param(line(b"a") + line(b"a", digest=OTHER), id="contradiction"),
            pytest.param(line(b"a") + b"\\" + line(b"a", digest=OTHER), id="contradiction behind an escape"),
            pytest.param(line(b"a\nb"), id="raw line break"),
            pytest.param(b"\0" * 100, id="zeros"),
        ],
    )
    def test_refuses(self, data: bytes) -> None:
        assert reason_of(data) == "manifest_unreadable"

    def test_names_the_line(self) -> None:
        with pytest.raises(ManifestError, match=r"line 3 names \.\./\\x1bx, outside the run"):
            parse(line(b"a") * 2 + line(b"../\x1bx"))

    @given(st.lists(st.binary(max_size=90) | st.just(line(b"a")), max_size=4))
    def test_arbitrary_bytes_are_read_or_refused(self, lines: list[bytes]) -> None:
        try:
            parsed = parse(b"".join(lines))
        except ManifestError as error:
            assert Reason(error.reason)
        else:
            assert all(len(digest) == 32 for digest in parsed.entries.values())

    @given(st.binary(min_size=1, max_size=80))
    def test_no_path_leads_out(self, path: bytes) -> None:
        for data in (line(path), b"\\" + line(path)):
            try:
                entries = parse(data).entries
            except ManifestError:
                continue
            for found in entries:
                assert not os.path.isabs(found)
                assert os.path.normpath(b"/run/" + found).startswith(b"/run/")


def listing(paths: Iterable[bytes]) -> bytes:
    return b"".join(line(path, digest=hashlib.sha256(path).hexdigest().encode()) for path in paths)


class TestLarge:
    PATHS: ClassVar = [b"tiles/plane_%02d/t_%06d.tif" % (number % 37, number) for number in range(30_000)]

    @pytest.mark.parametrize("order", ["as made", "sorted", "CRLF"])
    def test_is_read_whole(self, order: str) -> None:
        data = listing(sorted(self.PATHS) if order == "sorted" else self.PATHS)
        if order == "CRLF":
            data = data.replace(b"\n", b"\r\n")
        parsed = parse(data)
        assert len(parsed.packs) > 1
        assert parsed.entries == {path: hashlib.sha256(path).digest() for path in self.PATHS}
        assert parsed.sha256 == hashlib.sha256(data).hexdigest()
        assert len(list(parsed.paths())) == len(self.PATHS)
        some = {*self.PATHS[::1000], b"not listed"}
        assert parsed.digests_of(some) == {path: hashlib.sha256(path).digest() for path in self.PATHS[::1000]}

    def test_a_line_that_stands_in_two_parts_counts_once(self) -> None:
        parsed = parse(
            listing(self.PATHS)
            + listing([self.PATHS[7], b"./" + self.PATHS[8]]).replace(
                hashlib.sha256(b"./" + self.PATHS[8]).hexdigest().encode(),
                hashlib.sha256(self.PATHS[8]).hexdigest().encode(),
            )
        )
        assert sorted(parsed.paths()) == sorted(self.PATHS)

    def test_contradictions_are_found_across_parts(self) -> None:
        with pytest.raises(ManifestError, match=f"two lines give {self.PATHS[7].decode()} two checksums"):
            parse(listing(self.PATHS) + line(self.PATHS[7]))

    @pytest.mark.parametrize("odd", [b"../a", b"/a", b"a//b", b"a/..", b"a/", b"./", b"a\0b"])
    def test_an_odd_line_among_plain_ones_is_found_and_numbered(self, odd: bytes) -> None:
        with pytest.raises(ManifestError, match=r"line 20001 names .*, (outside the run|which no file can have)"):
            parse(listing(self.PATHS[:20_000]) + line(odd) + listing(self.PATHS[20_000:]))

    def test_a_line_without_an_end_is_not_collected(self) -> None:
        with pytest.raises(ManifestError, match="a line is longer than 1048576 bytes"):
            parse(HEX + b"  " + b"a" * (3 << 20))


@pytest.mark.parametrize(
    ("lines", "order"),
    [
        (150_000, "sorted"),
        (150_000, "as made"),
        pytest.param(3_000_000, "sorted", marks=pytest.mark.exhaustive),
        pytest.param(3_000_000, "as made", marks=pytest.mark.exhaustive),
    ],
)
def test_millions_of_lines_take_little_room_and_time(lines: int, order: str, tmp_path: Path) -> None:
    """Three million lines: under 300 MB and 10 s of processor time, in a separate process; others in
    proportion.

    Takes 2 s for each small manifest and a minute for each large one, mostly to write it.
    """
    numbers: Iterable[int] = range(lines)
    if order == "as made":
        numbers = (number * 7919 % lines for number in numbers)
    (tmp_path / ".exlab-wizard").mkdir()
    with (tmp_path / ".exlab-wizard/checksums.sha256").open("wb") as file:
        for number in numbers:
            digest = hashlib.sha256(b"%d" % number).hexdigest().encode()
            file.write(line(b"tiles/plane_0042/stack_%07d.tif" % number, digest=digest))
    script = (
        "import os, re, sys, time\nfrom cleanup.storage.staging import manifest\n"
        "room = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) / 1024\n"
        "run, before, began = os.open(sys.argv[1], os.O_RDONLY), room(), time.process_time()\n"
        "listed = manifest.read(run)\nseconds = time.process_time() - began\n"
        "print(sum(1 for _ in listed.paths()), before, room(), seconds)"
    )
    said = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, check=True, text=True, cwd=CHECKOUT
    ).stdout
    listed, before, room, seconds = map(float, said.split())
    share = lines / 3_000_000
    assert listed == lines
    assert room < before + (300 - before) * share + 15, f"{room} MB; one part and what Python makes of it take 15"
    assert room < 300
    assert seconds < 10 * share + 0.5


def test_reads_what_sha256sum_writes(tmp_path: Path) -> None:
    contents = {
        b"plain.tif": b"1",
        b"with space": b"2",
        b"line\nbreak": b"3",
        b"back\\slash": b"4",
        b"carriage\rreturn": b"5",
        b"end\r": b"6",
        b"-rf": b"7",
        b"\xff\xfe": b"8",
        b"*star": b"9",
    }
    for name, content in contents.items():
        (tmp_path / os.fsdecode(name)).write_bytes(content)
    for option in ("--text", "--binary"):
        data = subprocess.run(
            [b"sha256sum", option.encode(), b"--", *contents], cwd=tmp_path, capture_output=True, check=True
        ).stdout
        assert parse(data).entries == {name: hashlib.sha256(content).digest() for name, content in contents.items()}


class TestRead:
    def test_a_verified_run(self, lab: Lab, open_directory: Callable[[Path], int]) -> None:
        run = lab.run()
        listed = read(open_directory(run))
        assert listed == parse((run / ".exlab-wizard/checksums.sha256").read_bytes())
        assert b"README.md" in listed.entries

    def test_missing(self, lab: Lab, open_directory: Callable[[Path], int]) -> None:
        run = lab.run(state="complete")
        assert refused(open_directory(run)) == "manifest_missing"

    def test_missing_with_its_folder(self, tmp_path: Path, open_directory: Callable[[Path], int]) -> None:
        assert refused(open_directory(tmp_path)) == "manifest_missing"

    @pytest.mark.parametrize("kind", ["directory", "symlink", "symlinked folder", "fifo", "too large"])
    def test_what_is_no_readable_file(
        self,
        kind: str,
        lab: Lab,
        tmp_path: Path,
        open_directory: Callable[[Path], int],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        run = lab.run()
        path = run / ".exlab-wizard/checksums.sha256"
        path.rename(tmp_path / "elsewhere")
        if kind == "directory":
            path.mkdir()
        elif kind == "symlink":
            path.symlink_to(tmp_path / "elsewhere")
        elif kind == "symlinked folder":
            path.parent.rename(tmp_path / "metadata")
            (tmp_path / "elsewhere").rename(tmp_path / "metadata/checksums.sha256")
            path.parent.symlink_to(tmp_path / "metadata")
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            (tmp_path / "elsewhere").rename(path)
            assert read(open_directory(run))
            monkeypatch.setattr(manifest, "MAX_BYTES", path.stat().st_size - 1)
        assert refused(open_directory(run)) == "manifest_unreadable"


def refused(run: int) -> str:
    with pytest.raises(ManifestError) as error:
        read(run)
    return error.value.reason
