"""The files of a run that the process of a NAS shall read, on their way there: lines of some hundred paths."""

import itertools
import json
import os
from collections.abc import Collection, Container, Iterable, Iterator
from typing import NamedTuple

from cleanup.storage.packed_rows import TOGETHER, PackedRows, place_of
from cleanup.storage.staging.tree_entries import Paths


class _Wanted(NamedTuple):
    path: bytes


def lines(wanted: Collection[bytes], without: Container[bytes] = ()) -> Iterator[bytes]:
    """Yields JSON lists of paths, those of `without` apart, in the order of a scan; the last is empty."""
    is_ordered = isinstance(wanted, Paths) and wanted.is_ordered
    paths = (path for path in (wanted if is_ordered else sorted(wanted, key=place_of)) if path not in without)
    while some := list(itertools.islice(paths, TOGETHER)):
        yield json.dumps(list(map(os.fsdecode, some))).encode() + b"\n"
    yield b"[]\n"


class WantedFiles(Container[bytes]):
    """Paths of a request, packed."""

    def __init__(self, sent: Iterable[str | bytes]) -> None:
        """Takes the `lines` of a request, and none that comes after."""
        self._rows = PackedRows(_Wanted, "", is_ordered=True)
        for line in sent:
            paths = json.loads(line)
            if not paths:
                break
            self._rows.extend([_Wanted(os.fsencode(path)) for path in paths])

    def __contains__(self, path: object) -> bool:
        return isinstance(path, bytes) and self._rows.get(path) is not None
