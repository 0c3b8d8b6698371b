"""The directory of a test on a real disk: the others are in memory, where numbers, errors and durability differ."""

import re
import tempfile
from pathlib import Path

import pytest

from tests.tools import engines


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest) -> Path:
    """In the place of pytest's; a folder's `conftest.py` imports it."""
    name = re.sub(r"\W", "_", request.node.name)[:30]
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=engines.ON_DISK))
