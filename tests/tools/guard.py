"""The removal guard: tests can remove or rename nothing outside their own directories."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tools import engines
from tests.tools.checkout import CHECKOUT

# Caches of Python and the test tools in a checkout.
HOUSEKEEPING = [CHECKOUT / name for name in (".hypothesis", ".pytest_cache", "test-results")]


REMOVALS = frozenset({"os.remove", "os.rmdir", "shutil.rmtree"})
WATCHED = REMOVALS | {"os.rename"}


class RemovalOutsideTests(BaseException):
    """Not an Exception, so that no product handler takes it for a disk error."""


class Guard:
    """An audit hook on removals and renames. Hooks stay for ever, so this one can be switched off."""

    def __init__(self) -> None:
        self.allowed: list[bytes] = []
        self.active = False
        self.violations: list[str] = []

    def allow(self, *directories: Path) -> None:
        self.allowed += [os.fsencode(directory.resolve()) for directory in directories]

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event in REMOVALS:
            path, directory, *_rest = (*arguments, None)
            self.check(event, path, directory)
        elif event == "os.rename":
            source, target, source_directory, target_directory = arguments
            self.check(event, source, source_directory)
            self.check(event, target, target_directory)

    def check(self, event: str, path: Any, directory: int | None = None) -> None:
        """Raise unless `path`, relative to a directory's descriptor, lies where tests may remove."""
        place = place_of(path, directory)
        if self._is_allowed(place):
            return
        self.violations.append(f"{event} {os.fsdecode(place)}")
        raise RemovalOutsideTests(self.violations[-1])

    def guarded(self, rename: Callable[..., None]) -> Callable[..., None]:
        """Wrap the rename that Python lacks, which raises no audit event."""

        def checked(source_directory: int, source: bytes, target_directory: int, target: bytes) -> None:
            if self.active:
                self.check("renameat2", source, source_directory)
                self.check("renameat2", target, target_directory)
            rename(source_directory, source, target_directory, target)

        return checked

    def _is_allowed(self, place: bytes) -> bool:
        # Hypothesis tidies up after itself with `os.renames`, which tries the folder above as well.
        if b"/__pycache__/" in place or Path(os.fsdecode(place)) in HOUSEKEEPING:
            return True
        return any(place.startswith(directory + b"/") for directory in self.allowed)


def place_of(path: Any, directory: int | None = None) -> bytes:
    """The absolute name of an entry. Links on the way are followed, the entry itself is not."""
    name = os.fsencode(path)
    if not name.startswith(b"/"):
        name = (os.getcwdb() if directory in (None, -1) else _name_of(directory)) + b"/" + name
    parent, leaf = os.path.split(name.rstrip(b"/"))
    return os.path.realpath(parent) + b"/" + leaf


def _name_of(directory: int) -> bytes:
    """The path of an open directory, or of the nearest one above with a path that the kernel can spell."""
    try:
        return os.readlink(f"/proc/self/fd/{directory}".encode())
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
    above = os.open("..", os.O_PATH | os.O_DIRECTORY, dir_fd=directory)
    try:
        return _name_of(above)
    finally:
        os.close(above)


GUARD = Guard()


def _audited(event: str, arguments: tuple[Any, ...], watched: frozenset[str] = WATCHED) -> None:
    """Tell the guard. All that Python opens comes by here too, and a method would take longer to let it pass."""
    if event in watched:
        GUARD.hook(event, arguments)


@pytest.fixture(scope="session", autouse=True)
def _removal_guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    from cleanup.storage import linux

    GUARD.allow(tmp_path_factory.getbasetemp(), engines.HERE, engines.ON_DISK, *HOUSEKEEPING)
    sys.addaudithook(_audited)
    linux.rename_noreplace = GUARD.guarded(linux.rename_noreplace)
    GUARD.active = True
    yield
    GUARD.active = False


@pytest.fixture
def removal_guard() -> Guard:
    return GUARD


@pytest.fixture(autouse=True)
def _nothing_removed_outside() -> Iterator[None]:
    """Fail the test even where the guard's exception was lost, as in a thread."""
    yield
    violations, GUARD.violations = GUARD.violations, []
    assert not violations, "removed or renamed outside the tests' own directories"
