"""The manifest of checksums, as GNU `sha256sum` writes it, kept packed in memory."""

import hashlib
import io
import os
import re
import zlib
from array import array
from binascii import unhexlify
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from cleanup.storage import handles, run_paths
from cleanup.storage.staging import near_misses

# Three million lines take under 200 MB and a few seconds.
MAX_BYTES = 1 << 30
# Size of one read, and the longest line: a kernel takes no path of this length.
_PART = 1 << 20
_LINE = re.compile(rb"(?P<escaped>\\)?(?P<hex>[0-9a-fA-F]{64}) [ *](?P<path>.+)", re.DOTALL)
_ESCAPES = {b"\\\\": b"\\", b"\\n": b"\n", b"\\r": b"\r"}
# An ordinary line: nothing escaped, no odd path. A part with any other line is read line by line.
_PLAIN = re.compile(rb"^([0-9a-fA-F]{64}) [ *](?:\./)?+((?!\.{0,2}[/\n])[^\n]+)\n", re.MULTILINE)
# Signs of an odd path; a search for each is far faster than one expression for all.
_ODD = (b"\0", b"//", b"/\n", b"/./", b"/.\n", b"/../", b"/..\n")
# An unsorted manifest is checked for repeats in shares, because all paths at once would take too much memory.
_SHARES = 16


class ManifestError(Exception):
    """Why a manifest is not accepted: a reason's code and the detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class _Pack:
    # Paths are joined by zero bytes and compressed; the digests follow in the same order.

    paths: bytes
    digests: bytes

    @classmethod
    def of(cls, entries: Mapping[bytes, bytes]) -> "_Pack":
        return cls.packed(entries, b"".join(entries.values()))

    @classmethod
    def packed(cls, paths: Iterable[bytes], digests: bytes) -> "_Pack":
        return cls(zlib.compress(b"\0".join(paths), 1), digests)

    def __iter__(self) -> Iterator[bytes]:
        return iter(zlib.decompress(self.paths).split(b"\0"))

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        for number, path in enumerate(self):
            yield path, self.digests[32 * number : 32 * number + 32]


@dataclass(frozen=True)
class Manifest:
    """The checksums by relative path, and the file's own digest in hex.

    Each access unpacks again: prefer `digests_of`.
    """

    packs: tuple[_Pack, ...] = field(repr=False)
    sha256: str

    def paths(self) -> Iterator[bytes]:
        for pack in self.packs:
            yield from pack

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Yields each path once, with its SHA-256 digest."""
        for pack in self.packs:
            yield from pack.items()

    def digests_of(self, paths: Collection[bytes]) -> dict[bytes, bytes]:
        """Returns the digests of the listed among `paths`."""
        return {path: digest for path, digest in self.items() if path in paths}

    @property
    def entries(self) -> dict[bytes, bytes]:
        """Returns every digest by path: for small manifests only."""
        return dict(self.items())


def read(run: int) -> Manifest:
    """Reads the manifest of the run open as `run`.

    Raises ManifestError with `manifest_missing`, `manifest_empty` or `manifest_unreadable`.
    """
    try:
        with handles.opened_file(run, run_paths.METADATA + b"/" + run_paths.MANIFEST) as descriptor:
            return _read(lambda: os.read(descriptor, _PART))
    except FileNotFoundError:
        raise ManifestError("manifest_missing") from None
    except OSError as error:
        raise ManifestError("manifest_unreadable", os.strerror(error.errno or 0)) from None


def parse(data: bytes) -> Manifest:
    """Reads a manifest's bytes. Raises ManifestError as `read`."""
    stream = io.BytesIO(data)
    return _read(lambda: stream.read(_PART))


def stream(more: Callable[[], bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yields path and digest of each line, without looking for repeats; `more` gives the next bytes.

    Raises ManifestError as `read`.
    """
    number = 1
    for lines in _whole_lines(more, lambda part: None):
        paths, digests = _entries(lines, number)
        number += lines.count(b"\n")
        yield from ((path, digests[32 * at : 32 * at + 32]) for at, path in enumerate(paths))


def encode(entries: Mapping[bytes, bytes]) -> bytes:
    """Returns the bytes of a manifest, names escaped as GNU does."""
    return b"".join(_line(path, digest) for path, digest in sorted(entries.items()))


def _line(path: bytes, digest: bytes) -> bytes:
    escaped = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    mark = b"\\" if escaped != path else b""
    return mark + digest.hex().encode() + b"  " + escaped + b"\n"


def _read(more: Callable[[], bytes]) -> Manifest:
    packs: list[_Pack] = []
    sha256 = hashlib.sha256()
    number, last, in_order = 1, b"", True
    for lines in _whole_lines(more, sha256.update):
        paths, digests = _entries(lines, number)
        number += lines.count(b"\n")
        if paths:
            # In sorted order no path is listed twice.
            in_order = in_order and paths[0] > last and paths == sorted(paths)
            last = paths[-1]
            packs.append(_Pack.packed(paths, digests))
    if not packs:
        raise ManifestError("manifest_empty")
    return Manifest(tuple(packs if in_order else _without_repeats(packs)), sha256.hexdigest())


def _whole_lines(more: Callable[[], bytes], told: Callable[[bytes], object]) -> Iterator[bytes]:
    size, rest = 0, b""
    while part := more():
        told(part)
        size += len(part)
        if size > MAX_BYTES:
            raise ManifestError("manifest_unreadable", f"larger than {MAX_BYTES} bytes")
        lines, end, after = (rest + part).rpartition(b"\n")
        if len(after) > _PART:
            raise ManifestError("manifest_unreadable", f"a line is longer than {_PART} bytes")
        yield lines + end
        rest = after
    if rest:
        yield rest + b"\n"


def _entries(lines: bytes, first: int) -> tuple[list[bytes], bytes]:
    lines = lines.replace(b"\r\n", b"\n")
    plain = _PLAIN.findall(lines)
    if len(plain) == lines.count(b"\n") and not any(odd in lines for odd in _ODD):
        paths = [path for _, path in plain]
        if len(set(paths)) == len(paths):
            return paths, unhexlify(b"".join([digest for digest, _ in plain]))
    entries = _entries_by_line(lines, first)
    return list(entries), b"".join(entries.values())


def _entries_by_line(lines: bytes, first: int) -> dict[bytes, bytes]:
    if first == 1 and (encoding := near_misses.of_encoding(lines)):
        raise ManifestError("manifest_unreadable", f"it is {encoding}; the wizard writes plain UTF-8")
    entries: dict[bytes, bytes] = {}
    for number, line in enumerate(lines.split(b"\n"), start=first):
        if not line:
            continue
        path, digest = _parse_line(line, number)
        if entries.setdefault(path, digest) != digest:
            raise _contradiction(path)
    return entries


def _parse_line(line: bytes, number: int) -> tuple[bytes, bytes]:
    match = _LINE.fullmatch(line)
    if match is None:
        why = near_misses.of_manifest_line(line)
        said = f"line {number} is no checksum and path{why and ': ' + why}"
        raise ManifestError("manifest_unreadable", said)
    path = match["path"]
    if match["escaped"]:
        path = re.sub(rb"\\.", lambda found: _ESCAPES.get(found[0], found[0]), path)
    path = path.removeprefix(b"./")
    if path.startswith(b"/") or any(part in (b"", b".", b"..") for part in path.split(b"/")):
        raise ManifestError("manifest_unreadable", f"line {number} names {run_paths.show(path)}, outside the run")
    if b"\0" in path:
        raise ManifestError(
            "manifest_unreadable", f"line {number} names {run_paths.show(path)}, which no file can have"
        )
    return path, bytes.fromhex(match["hex"].decode())


def _contradiction(path: bytes) -> ManifestError:
    return ManifestError("manifest_unreadable", f"two lines give {run_paths.show(path)} two checksums")


def _without_repeats(packs: Sequence[_Pack]) -> Iterator[_Pack]:
    suspects = _listed_twice(packs)
    seen: dict[bytes, bytes] = {}
    for pack in packs:
        if not suspects or not any(hash(path) in suspects for path in pack):
            yield pack
            continue
        kept = dict(pack.items())
        for path in [path for path in kept if hash(path) in suspects]:
            if path not in seen:
                seen[path] = kept[path]
            elif seen[path] == kept.pop(path):
                continue
            else:
                raise _contradiction(path)
        if kept:
            yield _Pack.of(kept)


def _listed_twice(packs: Iterable[_Pack]) -> set[int]:
    shares = [array("q") for _ in range(_SHARES)]
    for pack in packs:
        for one in map(hash, pack):
            shares[one % _SHARES].append(one)
    return {found for share in shares for found in _repeated(share)}


def _repeated(hashes: Collection[int]) -> Iterator[int]:
    if len(set(hashes)) < len(hashes):
        yield from (one for one, other in pairwise(sorted(hashes)) if one == other)
