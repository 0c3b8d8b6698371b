import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cleanup.storage import handles
from tests.tools.disks import tmp_path as tmp_path


@pytest.fixture
def open_directory() -> Iterator[Callable[[Path], int]]:
    """`open_directory(path)` gives a descriptor that is closed at the end of the test."""
    with contextlib.ExitStack() as stack:
        yield lambda path: stack.enter_context(handles.opened(handles.open_root(str(path))))
