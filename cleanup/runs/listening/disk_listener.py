"""Listens to the staging disks of this host, and looks at the runs where something has changed."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from django.conf import settings
from django.utils import timezone

from cleanup.lab.roots import opening
from cleanup.models import StagingRoot
from cleanup.runs import discovery
from cleanup.runs.listening import watched_root
from cleanup.runs.listening.due_paths import DuePaths, RunPlace
from cleanup.runs.listening.watched_root import FolderKind, WatchedFolder, WatchedRoot
from cleanup.storage import handles, inotify, run_paths
from cleanup.storage.inotify import FolderChange, FolderEvent, FolderWatches
from cleanup.storage.staging import metadata

logger = logging.getLogger(__name__)

# A whole list of all folders, though nothing was heard: a disk may have been mounted.
_SURVEY_SECONDS = 60.0
_SOON_SECONDS = 0.3
# Times as long as a survey took it rests before the next.
_SPARED = 4
_POLL_SECONDS = 3.0
# More changes than these are left to a pass of the whole root.
_MOST_AT_ONCE = 100


@dataclass
class DiskListener:
    """Listens until it is closed. `ask_for_pass` has all disks of this host looked at, where events were lost.

    Call `step` over and over; it returns within a second, apart from the looks.
    """

    ask_for_pass: Callable[[], object]
    watches: FolderWatches = field(default_factory=FolderWatches)
    roots: dict[int, WatchedRoot] = field(default_factory=dict)
    due: DuePaths = field(default_factory=DuePaths)
    _folders: dict[int, WatchedFolder] = field(default_factory=dict)
    _next_survey: float = 0.0
    _next_poll: float = 0.0
    _busy_until: float = 0.0

    def step(self) -> None:
        """Listen for half a second, and look at the runs whose turn it is."""
        now = time.monotonic()
        if now >= self._next_survey:
            self._next_survey = now + _SURVEY_SECONDS
            self._survey_all(now)
            ended = time.monotonic()
            self._busy_until = ended + _SPARED * (ended - now)
        for event in self.watches.read(0.5):
            self._hear(event, time.monotonic())
        if time.monotonic() >= self._next_poll:
            self._next_poll = time.monotonic() + _POLL_SECONDS
            self._poll_all()
        for place in self.due.take(time.monotonic()):
            self._look(place)

    def _survey_all(self, now: float) -> None:
        for root in watched_root.of_this_host(settings.EXLAB_HOST):
            known = self.roots.setdefault(root.pk, WatchedRoot(root.pk))
            try:
                with opening.open_root(root) as descriptor:
                    known.polled = known.polled or not watched_root.hears(descriptor)
                    is_new = known.runs is None and root.discovered_at is None
                    changed = known.survey(descriptor)
                    self._watch(known, descriptor)
            except opening.Unreachable:
                continue  # discovery says so on the pages
            if is_new or len(changed) > _MOST_AT_ONCE:  # pages promise the first look within a minute
                self.ask_for_pass()
                continue
            for path in changed:
                self.due.note(RunPlace(root.pk, path), now)

    def _watch(self, known: WatchedRoot, root: int) -> None:
        if known.polled:
            return
        heard = {folder: watch for watch, folder in self._folders.items() if folder.root == known.key}
        for folder in known.folders.values():
            if folder in heard:
                continue
            try:
                with handles.opened(handles.open_beneath(root, folder.path or b".")) as descriptor:
                    self._folders[self.watches.add(descriptor)] = folder
            except inotify.NoMoreWatches as error:
                logger.warning("a staging disk is asked every few seconds instead of listened to: %s", error)
                known.polled = True
                return
            except OSError:
                continue

    def _hear(self, event: FolderEvent, now: float) -> None:
        if event.change & FolderChange.LOST:
            logger.warning("changes on the staging disks came faster than they were heard: all are looked at")
            self.ask_for_pass()
            return
        folder = self._folders.get(event.watch)
        if folder is None:
            return
        if event.change & (FolderChange.ENDED | FolderChange.UNMOUNT):
            del self._folders[event.watch]
            self._survey_soon(now)
            return
        self._note(folder, event.name, now)

    def _note(self, folder: WatchedFolder, name: bytes, now: float) -> None:
        if folder.kind is FolderKind.RECORDS:
            if not metadata.may_be_lock(name):
                self.due.note(RunPlace(folder.root, folder.run_path), now)
            return
        if folder.kind is FolderKind.RUN:
            if name == run_paths.METADATA:
                self._survey_soon(now)
            return
        if folder.kind is FolderKind.RUNS:
            path = watched_root.run_path_of(folder.path + b"/" + name)
            if not path:
                return
            self.due.note(RunPlace(folder.root, path), now)
        self._survey_soon(now)

    def _survey_soon(self, now: float) -> None:
        self._next_survey = min(self._next_survey, max(now + _SOON_SECONDS, self._busy_until))

    def _poll_all(self) -> None:
        polled = [known for known in self.roots.values() if known.polled]
        for root in StagingRoot.objects.filter(pk__in=[known.key for known in polled]) if polled else ():
            try:
                with opening.open_root(root) as descriptor:
                    for folder in self.roots[root.pk].poll(descriptor):
                        if folder.kind is FolderKind.RECORDS:
                            self.due.note(RunPlace(root.pk, folder.run_path), time.monotonic())
                        else:
                            self._survey_soon(time.monotonic())
            except opening.Unreachable:
                continue

    def _look(self, place: RunPlace) -> None:
        root = StagingRoot.objects.filter(pk=place.root).first()
        if root is None:
            self.roots.pop(place.root, None)
            return
        try:
            found = discovery.look_at_path(root, run_paths.parse_run_path(place.path), now=timezone.now())
        except opening.Unreachable:
            return
        if found is None:  # a pass is under way, which may have been there already
            self.due.note(place, time.monotonic())
