"""The way to a twin: no folder on it may show a staging marker."""

import errno
import os
import time
from dataclasses import dataclass, field

from cleanup.storage import handles, linux
from cleanup.storage.root_files import markers
from cleanup.storage.root_files.markers import IsStaging, Marks
from cleanup.storage.run_paths import show

# Discovery keeps a folder's answer this long: a folder of 10,000 runs is on the way to each of them.
KEPT_SECONDS = 60.0
# Folders kept at a time.
_MOST_KEPT = 10_000
_NOTHING = Marks((), ())
_FOLLOWED = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass
class Ways:
    """The folders on the way to twins below `path`; `marker` is the staging root's."""

    path: str
    marker: bytes = b""
    _kept: dict[bytes, tuple[float, Marks]] = field(default_factory=dict)

    def ask(self, root: int, twin: bytes, *, recent: bool) -> tuple[str, ...]:
        """Raises IsStaging if a staging marker shows on the way to a twin; OSError.

        `recent`: an answer of the last minute is enough. Returns the names that only resemble a marker.
        """
        malformed: list[str] = []
        for place, found in (*self._above(recent), *self._below(root, twin, recent)):
            expect_none(place, found)
            malformed += [show(place + b"/" + name if place else name) for name in found.malformed]
        return tuple(malformed)

    def _above(self, recent: bool) -> list[tuple[bytes, Marks]]:
        # A share of a whole staging disk may be registered by a folder in it.
        folder = os.path.dirname(os.fsencode(self.path))
        found = []
        while folder not in (b"", b"/"):
            found.append((folder, self._marks(-1, folder, recent)))
            folder = os.path.dirname(folder)
        return found

    def _below(self, root: int, twin: bytes, recent: bool) -> list[tuple[bytes, Marks]]:
        steps = twin.split(b"/")[:-1]
        found = [(b"", self._marks(root, b"", recent))]
        for count in range(1, len(steps) + 1):
            folder = b"/".join(steps[:count])
            try:
                found.append((folder, self._marks(root, folder, recent)))
            except FileNotFoundError:
                break  # then there is no twin either, and its reader says so
            except OSError as error:
                if error.errno == errno.EXDEV:
                    break  # the reader of the twin does not enter a mount either
                raise
        return found

    def _marks(self, root: int, folder: bytes, recent: bool) -> Marks:
        at, kept = self._kept.get(folder, (0.0, _NOTHING))
        if recent and at and time.monotonic() - at < KEPT_SECONDS:
            return kept
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        asked = time.monotonic()
        found = self._look(root, folder)
        self._kept[folder] = asked, found
        return found

    def _look(self, root: int, folder: bytes) -> Marks:
        # By a listing and by a lookup: caches keep the two apart.
        try:
            # Above the NAS root links are followed, as its path does.
            descriptor = os.open(folder, _FOLLOWED) if root < 0 else handles.open_beneath(root, folder or b".")
        except PermissionError:
            return self._by_name(root, folder)
        with handles.opened(descriptor):
            found = markers.marks(markers.names_in(descriptor))
            if self.marker and self.marker not in found.staging and markers.exists(descriptor, self.marker):
                return Marks((*found.staging, self.marker), found.malformed)
            return found

    def _by_name(self, root: int, folder: bytes) -> Marks:
        # A folder that may be entered but not listed is asked for the one known name.
        if not self.marker:
            return _NOTHING
        try:
            linux.status(root, folder + b"/" + self.marker)
        except (FileNotFoundError, PermissionError):
            return _NOTHING
        return Marks((self.marker,), ())


def expect_none(place: bytes, found: Marks) -> None:
    """Raises IsStaging if `found` holds a staging marker."""
    if found.staging:
        raise IsStaging(f"{show(found.staging[0])} lies in {show(place) or 'the top of the NAS root'}")
