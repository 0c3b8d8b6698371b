"""The NAS begins to show the staging disk, or what is gone, during a clear.

The copies lie on a separate disk, the far storage, and the product sees it through a mount. At one operation
the far storage loses its copy of the run. From then on the mount shows the staged run, a copy on the same
disk, or remembered names. The run must never go: the invariants look at the far storage itself, not at the
mount.

After the last question that could tell, no program can know what becomes of the NAS, so from there on the
copy stays.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cleanup.storage.nas import client
from tests.faults import means, mounts
from tests.faults.explorer import (
    NEVER,
    At,
    Explored,
    clear,
    expect_hit,
    recover,
    rehearse,
    renew,
    settle,
    the_commit,
)
from tests.faults.invariants import Violation
from tests.faults.means import mounted, tiny_disk
from tests.faults.seam import Killed, Operation
from tests.faults.stage import FOLDER, Stage, staged

# Names that a mount has looked up may be remembered for as long as a test takes.
_LONG = 3600
# The delay of the next attempt where the proof is to be used again.
_WITHIN_A_PROOF = timedelta(hours=1)


@dataclass(frozen=True)
class Place:
    """`disk` holds the copies in `far`; `seen` is the NAS root that the product knows.

    `scratch` lies on the disk of the staging root.
    """

    base: Path

    @property
    def disk(self) -> Path:
        return self.base / "disk"

    @property
    def far(self) -> Path:
        return self.disk / "nas"

    @property
    def seen(self) -> Path:
        return self.base / "seen"

    @property
    def staging(self) -> Path:
        return self.base / "stage" / "lab" / "staging"

    @property
    def kept_at(self) -> Path:
        return self.base / "stage" / "lab" / "nas"

    @property
    def scratch(self) -> Path:
        return self.base / "scratch"


@dataclass(frozen=True)
class Lie:
    """One way in which the NAS shows what it does not hold; `begins` runs at the operation.

    `lists`: no listing tells it, and the last question to the NAS is a listing.
    """

    name: str
    kind: str
    begins: Callable[[Place, Stage], AbstractContextManager[None]]
    lists: bool = False

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Setting:
    """How the NAS is mounted, and the lies that can begin there.

    `serves` gives what to call after more copies came to the far storage. `reused`: the run was proven an
    hour ago, so no byte is read. `one_disk`: the root accepts copies on its own disk, so the device number
    tells nothing.
    """

    name: str
    serves: Callable[[Place], AbstractContextManager[Callable[[], object]]]
    lies: tuple[Lie, ...]
    reused: bool = False
    one_disk: bool = False

    def __str__(self) -> str:
        return self.name


# How the NAS is mounted


@contextlib.contextmanager
def _directly(place: Place) -> Iterator[Callable[[], object]]:
    with mounted("--bind", place.far, place.seen):
        yield lambda: None


@contextlib.contextmanager
def _by_a_server(place: Place) -> Iterator[Callable[[], object]]:
    with merged(place.seen, place.far):
        yield lambda: None


@contextlib.contextmanager
def _remembering_names(place: Place) -> Iterator[Callable[[], object]]:
    with contextlib.ExitStack() as stack:

        def anew() -> None:
            stack.close()
            stack.enter_context(remembering(place, str(place.far)))

        anew()
        yield anew


def merged(at: Path, *branches: Path) -> AbstractContextManager[None]:
    return mounts.mergerfs(at, *branches, options="nonempty,category.create=ff,cache.entry=0,cache.attr=0")


def remembering(place: Place, remote: str) -> AbstractContextManager[None]:
    """A mount of a remote, or of the union `pool:`, that remembers every name it has listed."""
    config = place.base / "remotes.conf"
    config.write_text(f"[pool]\ntype = union\nupstreams = {place.far} {place.staging}\n")
    options = ("--config", str(config), "--allow-non-empty", "--dir-cache-time", f"{_LONG}s")
    return mounts.rclone(place.seen, remote, place.base / "remotes-cache", *options)


# How it lies


def _union(place: Place, stage: Stage) -> AbstractContextManager[None]:
    return merged(place.seen, place.far, place.staging)


def _remembering_union(place: Place, stage: Stage) -> AbstractContextManager[None]:
    return remembering(place, "pool:")


def _overlay(place: Place, stage: Stage) -> AbstractContextManager[None]:
    return mounts.overlay(place.seen, place.far, place.staging)


def _root_link(place: Place, stage: Stage) -> AbstractContextManager[None]:
    return mounted("--bind", place.staging, place.seen)


@contextlib.contextmanager
def _folder_link(place: Place, stage: Stage) -> Iterator[None]:
    with mounted("--bind", stage.folder, place.far / FOLDER):
        yield


@contextlib.contextmanager
def _run_link(place: Place, stage: Stage) -> Iterator[None]:
    twin = place.far / FOLDER / stage.subject.path.name
    made = not twin.exists()
    if made:
        twin.mkdir()
    try:
        with mounted("--bind", stage.place(), twin):
            yield
    finally:
        if made:
            twin.rmdir()


@contextlib.contextmanager
def _nothing_more(place: Place, stage: Stage) -> Iterator[None]:
    yield


@contextlib.contextmanager
def _snapshot(place: Place, stage: Stage) -> Iterator[None]:
    with (
        _copied(place.staging, place.scratch / "snapshot") as snapshot,
        mounts.overlay(place.seen, place.far, snapshot),
    ):
        yield


@contextlib.contextmanager
def _copy_on_this_disk(place: Place, stage: Stage) -> Iterator[None]:
    """A union with copies on the staging disk, as of a program that has not sent them yet."""
    copies = place.scratch / "copies"
    with _copied(stage.place(), copies / stage.subject.run.run_path), mounts.overlay(place.seen, place.far, copies):
        yield


@contextlib.contextmanager
def _copy_and_folder(place: Place, stage: Stage) -> Iterator[None]:
    copies, view = place.scratch / "copies", place.scratch / "view"
    linked = view / FOLDER
    linked.mkdir(parents=True, exist_ok=True)
    with (
        _copied(stage.place(), copies / stage.subject.run.run_path),
        mounted("--bind", stage.folder, linked),
        merged(place.seen, place.far, copies, view),
    ):
        yield


@contextlib.contextmanager
def _copied(source: Path, target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "--archive", str(source), str(target)], check=True)
    try:
        yield target
    finally:
        shutil.rmtree(target)


UNION = Lie("a union", "a union", _union)
REMOTE_UNION = Lie("a union that remembers names", "a union", _remembering_union)
SNAPSHOT = Lie("an overlay over a snapshot of staging", "an overlay", _snapshot)
COPY_AND_FOLDER = Lie("a union with a copy and a folder of staging", "a union", _copy_and_folder)
OVERLAY = Lie("an overlay", "an overlay", _overlay)
COPY = Lie("an overlay over a copy on the staging disk", "an overlay", _copy_on_this_disk)
ROOT_LINK = Lie("a link to the staging root", "a link", _root_link)
FOLDER_LINK = Lie("a link to the folder of runs", "a link", _folder_link)
RUN_LINK = Lie("a link to the run", "a link", _run_link)
CACHE = Lie("a cache of names", "a cache", _nothing_more, lists=True)

DIRECT = Setting(
    "mounted directly",
    _directly,
    (OVERLAY, REMOTE_UNION, SNAPSHOT, COPY_AND_FOLDER, COPY, UNION, ROOT_LINK),
)
ONE_DISK = Setting(
    "mounted directly, with one disk for both accepted", _directly, (OVERLAY, REMOTE_UNION, UNION), one_disk=True
)
SERVED = Setting("through a server", _by_a_server, (RUN_LINK, FOLDER_LINK))
REMEMBERED = Setting("remembering names", _remembering_names, (CACHE,))
REUSED = Setting("remembering names, with a proof of the last hour", _remembering_names, (CACHE,), reused=True)
SETTINGS = (DIRECT, ONE_DISK, SERVED, REMEMBERED, REUSED)


# The explorer


class ReaderHere(means.ReaderHere):
    """Reads the NAS in this process, where a sign can be left out; the seam sees each question."""

    def _ask(self, request: dict[str, Any], more: Iterable[bytes] = ()) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.write(nowhere, b"?")
        os.close(nowhere)
        super()._ask(request, more)
        self._answers = iter(list(self._answers))  # or the mount would be held open until the next question


class Begins(At):
    def __init__(self, number: int, place: Place, stage: Stage, lie: Lie, *, lost: bool) -> None:
        super().__init__(number)
        self.place = place
        self.stage = stage
        self.lie = lie
        self.lost = lost
        self._mounts = contextlib.ExitStack()
        self._away = place.disk / "away"

    def happen(self, operation: Operation, do: Callable[[], Any]) -> Any:
        if self.lost:
            self._twin.rename(self._away)
        self.stage.around = self.stage.surroundings()
        self._mounts.enter_context(self.lie.begins(self.place, self.stage))
        return do()

    def end(self) -> None:
        self._mounts.close()

    def give_back(self) -> None:
        if self._away.exists():
            self._away.rename(self._twin)
        self.stage.around = self.stage.surroundings()

    @property
    def _twin(self) -> Path:
        return self.place.far / FOLDER / self.stage.subject.path.name

    def __str__(self) -> str:
        return f"the NAS becomes {self.lie} before {super().__str__()}"


@contextlib.contextmanager
def apart(
    base: Path, now: datetime, setting: Setting, *, read_by: type[client.NasReader] = client.NasReader
) -> Iterator[tuple[Place, Stage]]:
    """A stage whose copies lie on a separate disk, with the NAS mounted in this way. Raises Unavailable."""
    place = Place(base)
    for path in (place.disk, place.seen, place.kept_at, place.scratch):
        path.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(tiny_disk(place.disk, "64m"))
        place.far.mkdir()
        stack.enter_context(mounted("--bind", place.far, place.kept_at))
        anew = stack.enter_context(setting.serves(place))
        stage = stack.enter_context(
            staged(
                base / "stage",
                now,
                nas_path=place.seen,
                when_furnished=anew,
                read_by=read_by,
                allow_same_filesystem=setting.one_disk,
                allow_union_nas=True,
                nas_writes_through=True,
            )
        )
        if setting.reused:
            stage.between = _WITHIN_A_PROOF
        yield place, stage


def one_place(
    place: Place,
    stage: Stage,
    setting: Setting,
    *,
    late: int | None = None,
    every: int = 1,
    skip: int = 0,
    after: str = "",
    limit: int = NEVER,
) -> list[Explored]:
    """The lie begins before each operation up to the commit.

    `late` makes a sample: every lie begins once before the first question to the NAS and `late` times later.
    `every` takes every nth operation, after `skip`. `after`: begin only when this function is done. Returns
    one result for each kind of lie.
    """
    explored = {lie.kind: Explored(lie.kind, limit=limit) for lie in setting.lies}
    operations = _rehearse(stage, setting)
    first = max((operation.number for operation in operations if operation.function == after), default=0)
    before = operations[first : the_commit(operations)]
    *_earlier, last_but_one, last = [operation.number for operation in before if operation.kind == "ask"]
    for turn, lie in enumerate(setting.lies):
        for operation in before[skip::every] if late is None else _sample(before, late, turn, len(setting.lies)):
            if setting.reused:
                _prove(stage)
            lost = operation.number <= (last_but_one if lie.lists else last)
            found = _explore(stage, Begins(operation.number, place, stage, lie, lost=lost), operation)
            explored[lie.kind].add(found)
            if explored[lie.kind].enough:
                return list(explored.values())
            renew(stage, found)
    return list(explored.values())


def _sample(operations: list[Operation], late: int, turn: int, turns: int) -> list[Operation]:
    asked = next(place for place, operation in enumerate(operations, 1) if operation.kind == "ask")
    early, rest = operations[:asked], operations[asked:]
    places = [(number * turns + turn) * len(rest) // (late * turns) for number in range(late)]
    return [early[turn % len(early)], *(rest[place] for place in places)]


def _explore(stage: Stage, act: Begins, operation: Operation) -> list[Violation]:
    try:
        clear(stage, act)
    finally:
        act.end()
    expect_hit(act, operation)
    found = settle(stage, str(act))
    act.give_back()
    return found


def _rehearse(stage: Stage, setting: Setting) -> list[Operation]:
    if setting.reused:
        _prove(stage)
    return rehearse(stage)


def _prove(stage: Stage) -> None:
    def killed(operation: Operation, do: Callable[[], Any]) -> Any:
        if operation.function == "fence":
            raise Killed
        return do()

    clear(stage, killed)
    recover(stage)
