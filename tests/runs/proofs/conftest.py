"""What the tests of proofs share."""

from typing import Any

import pytest

from cleanup.storage import hashing


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The files that were read for their SHA-256."""
    paths: list[bytes] = []
    hash_file = hashing.hash_file

    def noted(directory: int, path: bytes, **how: Any) -> Any:
        paths.append(path)
        return hash_file(directory, path, **how)

    monkeypatch.setattr(hashing, "hash_file", noted)
    return paths
