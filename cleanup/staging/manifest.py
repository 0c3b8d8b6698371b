"""The manifest of checksums: one `<hex>  <relative path>` per line, in the format of GNU `sha256sum`."""

import hashlib
import os
import re
from dataclasses import dataclass

from cleanup.staging import layout

MAX_BYTES = 1 << 30
_LINE = re.compile(rb"(?P<escaped>\\)?(?P<hex>[0-9a-fA-F]{64}) [ *](?P<path>.+)", re.DOTALL)
_ESCAPES = {b"\\\\": b"\\", b"\\n": b"\n", b"\\r": b"\r"}


class ManifestError(Exception):
    """Why a manifest is not accepted: the code of a reason and what exactly is wrong."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Manifest:
    """The verified checksums: relative path (bytes, as on disk) to SHA-256 digest, and the file's own digest in hex."""

    entries: dict[bytes, bytes]
    sha256: str


def read(run: int) -> Manifest:
    """Read the manifest of the run that is open as `run`.

    Raises ManifestError with `manifest_missing`, `manifest_empty` or `manifest_unreadable`.
    """
    try:
        data = layout.read_file(run, layout.METADATA + b"/" + layout.MANIFEST, MAX_BYTES)
    except FileNotFoundError:
        raise ManifestError("manifest_missing") from None
    except OSError as error:
        raise ManifestError("manifest_unreadable", os.strerror(error.errno or 0)) from None
    return parse(data)


def parse(data: bytes) -> Manifest:
    """Read the bytes of a manifest. Raises ManifestError with `manifest_empty` or `manifest_unreadable`."""
    if len(data) > MAX_BYTES:
        raise ManifestError("manifest_unreadable", f"larger than {MAX_BYTES} bytes")
    entries: dict[bytes, bytes] = {}
    for number, line in enumerate(data.split(b"\n"), start=1):
        line = line.removesuffix(b"\r")
        if not line:
            continue
        path, digest = _parse_line(line, number)
        if entries.setdefault(path, digest) != digest:
            raise ManifestError("manifest_unreadable", f"line {number} contradicts an earlier one")
    if not entries:
        raise ManifestError("manifest_empty")
    return Manifest(entries, hashlib.sha256(data).hexdigest())


def _parse_line(line: bytes, number: int) -> tuple[bytes, bytes]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ManifestError("manifest_unreadable", f"line {number} is no checksum and path")
    path = match["path"]
    if match["escaped"]:
        path = re.sub(rb"\\.", lambda found: _ESCAPES.get(found[0], found[0]), path)
    path = path.removeprefix(b"./")
    if path.startswith(b"/") or any(part in (b"", b".", b"..") for part in path.split(b"/")):
        raise ManifestError("manifest_unreadable", f"line {number} names {layout.show(path)}, outside the run")
    return path, bytes.fromhex(match["hex"].decode())
