"""Digests come back in their order, from memory and from the file beside it, also where the disk is full."""

import hashlib
import os
from pathlib import Path

import pytest

from cleanup.storage import spilled_digests
from cleanup.storage.spilled_digests import SpilledDigests
from tests.storage.children import mount, with_own_mounts

pytestmark = pytest.mark.one_engine(by="function")

MANY = [hashlib.sha256(b"%d" % number).digest() for number in range(5000)]


def kept(folder: Path, digests: list[bytes]) -> tuple[list[bytes], int]:
    """What comes back, and how many bytes lay in the file."""
    spilled = SpilledDigests(str(folder))
    for digest in digests:
        spilled.add(digest)
    try:
        return list(spilled), os.fstat(spilled._file.fileno()).st_size if spilled._file else 0
    finally:
        spilled.close()


def test_come_back_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spilled_digests, "IN_MEMORY", 40_000)
    assert kept(tmp_path, MANY) == (MANY, 160_000)
    assert kept(tmp_path, MANY[:9]) == (MANY[:9], 0)
    assert kept(tmp_path / "gone", MANY) == (MANY, 0)
    assert list(tmp_path.iterdir()) == []


def test_stay_in_memory_where_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spilled_digests, "IN_MEMORY", 40_000)

    def on_a_small_disk() -> tuple[list[bytes], int]:
        mount("-t", "tmpfs", "-o", "size=64k", "none", tmp_path)
        return kept(tmp_path, MANY)

    found, size = with_own_mounts(on_a_small_disk)
    assert found == MANY and 0 < size < 160_000
