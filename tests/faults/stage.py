"""The explorers' stage: a small lab, one run after the other in it, and what must be true of each.

Everything is noted before the product touches it, and read again with the standard library and SQL alone.
"""

import contextlib
import math
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock
from uuid import UUID

from django.db import connection
from django.test import override_settings
from django.utils import timezone

from cleanup.clears import nas_history, nas_questions, protocol
from cleanup.lab.roots import opening, registration
from cleanup.models import Run, StagingRoot
from cleanup.runs import discovery, work_progress
from cleanup.runs.proofs import verify_again
from cleanup.storage import run_paths
from cleanup.storage.nas import client
from cleanup.storage.staging import writers
from tests.faults.means import OneReader
from tests.tools.lab import METADATA, Lab, read_sync_state, write_sync_state

FOLDER = "CONFOCAL_01/PROJ-0042/Runs"
NEIGHBOUR = f"{FOLDER}/Run_2026-01-01T00-00"
UNKNOWN_ATTEMPT = "5" * 32  # the id of an attempt that does not exist

RESERVE = ".exlab-reserve"
LOOK_ALIKES = (
    f".exlab-clearing-{UNKNOWN_ATTEMPT}",
    ".exlab-clearing-",
    ".exlab-clearing-notes",
    "Run_2026-01-01T00-00-copy",
)

# How often the checks that take long have their turn.
_SELDOM = 5
# How many runs are laid at once.
_AT_ONCE = 6

# A proof may be used again for a day. Unless a stage says otherwise, every attempt is made after that, so that each one
# reads every byte anew.
_BETWEEN = timedelta(hours=25)
# From when on an attempt whose process was lost is recovery's.
LATER = timedelta(minutes=3)

# In every run, and in no twin and no manifest.
DESKTOP_FILE = "wells/.DS_Store"
_LARGE = b"pixels " * 700
_DATA = {
    "plate.raw": _LARGE,
    "wells/a1.raw": b"first well",
    "wells/a1-again.raw": b"first well",
    "locked/calibration.raw": b"read-only",
    "marker": b"",
}


class Thing(NamedTuple):
    kind: str
    ino: int
    mode: int
    size: int
    mtime_ns: int
    links: int
    allocated: int
    content: bytes

    def same_as(self, other: "Thing | None") -> bool:
        return other is not None and _essence(self) == _essence(other)


def _essence(thing: Thing) -> tuple[object, ...]:
    return thing.kind, thing.ino, thing.mode, thing.size, thing.mtime_ns if thing.kind != "d" else 0, thing.content


Things = dict[str, Thing]


def look(top: Path) -> Things:
    found: Things = {}
    pending = [(str(top), ".")]
    while pending:
        path, name = pending.pop()
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue
        kind = stat.filemode(status.st_mode)[0]
        content = b""
        if kind == "d":
            below = "" if name == "." else f"{name}/"
            pending += [(f"{path}/{entry}", below + entry) for entry in os.listdir(path)]
        elif kind == "l":
            content = os.fsencode(os.readlink(path))
        elif kind == "-":
            content = _read(path, status.st_size)
        size = 0 if kind == "d" else status.st_size
        blocks = status.st_blocks * 512
        mode = stat.S_IMODE(status.st_mode)
        found[name] = Thing(kind, status.st_ino, mode, size, status.st_mtime_ns, status.st_nlink, blocks, content)
    return found


def _read(path: str, size: int) -> bytes:
    """Read the whole file by descriptor: a point reads some 200, and a file object takes longer."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(descriptor, size + 1)
        while len(content) > size and (more := os.read(descriptor, 1 << 20)):  # it has grown meanwhile
            content += more
        return content
    finally:
        os.close(descriptor)


def same(before: Things, after: Things) -> bool:
    return before.keys() == after.keys() and all(thing.same_as(after[name]) for name, thing in before.items())


def differences(before: Things, after: Things) -> str:
    everywhere = before.keys() | after.keys()
    other = [name for name in everywhere if name not in before or not before[name].same_as(after.get(name))]
    return ", ".join(sorted(other))


@dataclass(frozen=True)
class Census:
    files: int
    bytes: int
    allocated: int


def census(things: Things) -> Census:
    by_inode: dict[int, list[Thing]] = {}
    for thing in things.values():
        if thing.kind == "-":
            by_inode.setdefault(thing.ino, []).append(thing)
    return Census(
        files=len(by_inode),
        bytes=sum(names[0].size for names in by_inode.values()),
        allocated=sum(names[0].allocated for names in by_inode.values() if names[0].links == len(names)),
    )


@dataclass
class Subject:
    """One verified run before anything touched it; `expected` follows the test's own changes.

    `twin` is where the copy lies on the other storage itself, not where a mount shows it.
    """

    run: Run
    path: Path
    twin: Path
    before: Things
    twin_before: Things
    expected: Things
    ledger_before: list[dict[str, Any]] = field(default_factory=list)
    watched: bool = True  # it has an `ingest.json`, and with it a history

    @property
    def record(self) -> str:
        return f"{METADATA}/{'ingest' if self.watched else 'sync_state'}.json"

    @property
    def history(self) -> list[str]:
        return ["staging", "complete", "sync_queued", "sync_verified"] if self.watched else []

    @property
    def census(self) -> Census:
        return census(self.before)

    def rows(self, table: str, columns: str, order: str) -> list[dict[str, Any]]:
        return select(f"SELECT {columns} FROM {table} WHERE run_id = %s ORDER BY {order}", [self.run.pk])

    def ledger(self) -> list[dict[str, Any]]:
        return self.rows("cleanup_ledgerentry", "*", "id")

    def events(self) -> list[dict[str, Any]]:
        return self.rows("cleanup_ingestevent", "*", "position")

    def attempts(self) -> list[dict[str, Any]]:
        return self.rows("cleanup_clearattempt", "*", "created_at")

    def state(self) -> str:
        return str(select("SELECT state FROM cleanup_run WHERE id = %s", [self.run.pk])[0]["state"])


def select(sql: str, parameters: list[Any]) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def hexadecimal(key: object) -> str:
    """An attempt's id as its files are named; the engines store it differently."""
    return UUID(str(key)).hex


class Stage:
    """A staging root with a neighbour, names that only look like the product's, and one run at a time."""

    def __init__(
        self,
        base: Path,
        root: StagingRoot,
        lab: Lab,
        data: Path,
        now: datetime,
        *,
        new_data: bool,
        record: str,
        returned: bool,
        accepted: bool,
        when_furnished: Callable[[], object],
        make_folder: Callable[[Path], object],
    ) -> None:
        """`new_data`: every attempt is the first in its data directory.

        `returned`: every run was cleared and copied back, half of them before the NAS was told. `accepted`:
        no run has a manifest, and an admin accepted its bytes, which needs copies on a separate disk.
        `when_furnished` is called when the NAS has more copies.
        """
        self.record = record
        self.returned = returned
        self.accepted = accepted
        self.base = base
        self.lab = lab
        self.root = root
        self.marker = f".exlab-staging-{root.token}"
        self.data = data
        self.new_data = new_data
        self.when_furnished = when_furnished
        self.make_folder = make_folder
        self.now = now
        self.between = _BETWEEN
        self._made = 0
        self._turn = 0
        self._spare: list[tuple[str, Path]] = []
        self.thorough = False
        self.folder = lab.staging / FOLDER
        self.canary = base / "canary"
        self.canary.mkdir()
        (self.canary / "precious").write_bytes(b"not a run")
        _furnish(lab, NEIGHBOUR)
        self._place_look_alikes()
        discovery.discover(self.root, now=self.now)
        self.subject = self.fresh()

    def _place_look_alikes(self) -> None:
        for name in LOOK_ALIKES:
            (self.folder / name).mkdir()
            (self.folder / name / "plate.raw").write_bytes(b"somebody's")
        (self.folder / f".exlab-clearing-{UNKNOWN_ATTEMPT}.ingest.json").write_bytes(b"{}")

    def fresh(self) -> Subject:
        if not self._spare:
            self._furnish_some()
        run_path, aside = self._spare.pop()
        path = self.lab.staging / run_path
        aside.rename(path)
        self._introduce(run_path)
        run = Run.objects.staged().with_root().get(run_path=run_path, root=self.root)
        twin = self.lab.twin(run_path)
        before = look(path)
        watched = self.record != "sync_state"
        self.subject = Subject(run, path, twin, before, look(twin), expected=before, watched=watched)
        self.around = self.surroundings()
        return self.subject

    def _furnish_some(self) -> None:
        """Lay several runs at once, each aside until its turn: a mount needs to look anew only once."""
        for _ in range(_AT_ONCE):
            self._made += 1
            run_path = f"{FOLDER}/Run_2026-02-01T{self._made // 60:02}-{self._made % 60:02}"
            aside = self.base / f"spare-{self._made}"
            self._spare.append((run_path, aside))
            (self.lab.staging / run_path).parent.mkdir(parents=True, exist_ok=True)
            self.make_folder(self.lab.staging / run_path)
            _furnish(self.lab, run_path, self.record).rename(aside)
        self.when_furnished()

    def _introduce(self, run_path: str) -> None:
        self._discover(run_path)
        if self.returned:
            self._copy_back(run_path, told=bool(len(self._spare) % 2))
            self._discover(run_path)
        if self.accepted:
            self._accept(run_path)

    def _discover(self, run_path: str) -> None:
        path = run_paths.parse_run_path(run_path)
        discovery.look_at_path(self.root, path, now=self.now)

    def _copy_back(self, run_path: str, *, told: bool) -> None:
        run = Run.objects.with_root().get(run_path=run_path, root=self.root)
        protocol.clear_run(run, now=self.now)
        if told:
            nas_history.tell(now=timezone.now() + LATER, runs=[run])
        shutil.copytree(self.lab.twin(run_path), self.lab.staging / run_path)
        _shape(self.lab.staging / run_path)

    def _accept(self, run_path: str) -> None:
        (self.lab.staging / run_path / METADATA / "checksums.sha256").unlink()
        run = Run.objects.with_root().get(run_path=run_path, root=self.root)
        check = verify_again.request(run, actor="ada", now=self.now)
        verify_again.perform(check, now=self.now)
        verify_again.accept(check, actor="eve", note="compared by hand", now=self.now)

    def next_attempt(self) -> datetime:
        """Prepare an attempt that does all that the first one on a new host does; return its instant."""
        self.now += self.between
        for kept in self.data.glob("*/*"):
            kept.unlink()
        for folder in (self.data / name for name in ("locks", "plans", "removals", "tombstones")):
            folder.mkdir(exist_ok=True)
            if self.new_data:
                folder.rmdir()
        for reserve in (self.data / RESERVE, self.lab.staging / RESERVE):
            if not reserve.exists():
                reserve.write_bytes(bytes(1 << 20))
        # Each attempt makes what a root registered by an earlier version lacks.
        (self.lab.staging / self.marker).unlink(missing_ok=True)
        self.subject.ledger_before = self.subject.ledger()
        return self.now

    def is_thorough(self) -> bool:
        """Whether a slow check has its turn; always, if the stage was asked for that."""
        self._turn += 1
        return self.thorough or self._turn % _SELDOM == 0

    def ours(self) -> list[Path]:
        names = [f".exlab-clearing-{hexadecimal(attempt['id'])}" for attempt in self.subject.attempts()]
        both = [self.folder / f"{name}{suffix}" for name in names for suffix in ("", ".ingest.json")]
        return [path for path in both if os.path.lexists(path)]

    def place(self) -> Path:
        ino = self.subject.before["."].ino
        names = [self.subject.path, *(path for path in self.ours() if path.is_dir())]
        return next((path for path in names if path.exists() and path.stat().st_ino == ino), self.base / "nowhere")

    def surroundings(self) -> Things:
        mine = {self.subject.path.name, *(path.name for path in self.ours())}
        there = look(self.lab.staging)
        there.pop(self.marker, None)
        found = {f"staging/{name}": thing for name, thing in there.items() if _is_foreign(name, mine)}
        found |= {f"twin/{name}": thing for name, thing in look(self.subject.twin).items()}
        # A challenge that was moved away with the run is removed there: it belongs to the product.
        own = {f".exlab-challenge-{hexadecimal(attempt['id'])}" for attempt in self.subject.attempts()}
        outside = {name: thing for name, thing in look(self.canary).items() if Path(name).name not in own}
        return found | {f"canary/{name}": thing for name, thing in outside.items()}


def _is_foreign(name: str, mine: set[str]) -> bool:
    """Whether an entry is not the subject's; the folder that holds the subject changes with it."""
    below = name.removeprefix(f"{FOLDER}/")
    return name not in (FOLDER, ".", RESERVE) and (below == name or below.split("/")[0] not in mine)


def _furnish(lab: Lab, run_path: str, record: str = "ingest") -> Path:
    path = lab.run(run_path, files=_DATA, record=record)
    _shape(path)
    if record != "ingest":
        said = read_sync_state(path)
        first, again = (said["files"][f"wells/{name}.raw"] for name in ("a1", "a1-again"))
        again["synced_signature"] = first["synced_signature"]
        write_sync_state(path, said)
    return path


def _shape(path: Path) -> None:
    folder = path / "wells"
    (folder / "a1-again.raw").unlink()
    os.link(folder / "a1.raw", folder / "a1-again.raw")
    (path / "empty" / "within").mkdir(parents=True)
    (path / DESKTOP_FILE).write_bytes(b"Bud1")  # a person has looked into the folder with a Mac
    (path / "locked").chmod(0o500)


@contextlib.contextmanager
def staged(
    base: Path,
    now: datetime,
    *,
    new_data: bool = False,
    record: str = "ingest",
    returned: bool = False,
    accepted: bool = False,
    nas_path: Path | None = None,
    when_furnished: Callable[[], object] = lambda: None,
    read_by: type[client.NasReader] = client.NasReader,
    make_folder: Callable[[Path], object] = Path.mkdir,
    **flags: bool,
) -> Iterator[Stage]:
    """A stage below `base`, with a data directory and one NAS reader for everything.

    `nas_path` is where the product sees the NAS, if not where the lab keeps it; `read_by` reads it there;
    `flags` are the root's.
    """
    data = base / "data"
    lab = Lab(base / "lab")
    flags = {"allow_same_filesystem": True, **flags}
    with override_settings(EXLAB_DATA_DIR=data), contextlib.ExitStack() as stack:
        root = registration.register(
            f"stage-{base.name}",
            str(lab.staging),
            nas_path=str(nas_path or lab.nas),
            accept_empty=True,
            now=now,
            **flags,
        )
        reader = stack.enter_context(read_by(root.nas_path, root.nas_token, staging=root.token))
        one = mock.patch.object(opening, "reader_for", lambda root: contextlib.nullcontext(OneReader(reader)))
        stack.enter_context(one)
        # Progress is written once a second: on a busy machine the same clear would take other steps each time.
        for noting in (work_progress, nas_questions):
            stack.enter_context(mock.patch.object(noting, "_PROGRESS_SECONDS", math.inf))
        # Other writers are not explored here, and reading `/proc` twice a clear is slow.
        stack.enter_context(mock.patch.object(writers, "find_writers", return_value=[]))
        stage = Stage(
            base,
            root,
            lab,
            data,
            now,
            new_data=new_data,
            record=record,
            returned=returned,
            accepted=accepted,
            when_furnished=when_furnished,
            make_folder=make_folder,
        )
        try:
            yield stage
        finally:
            _let_go(base)


def _let_go(base: Path) -> None:
    for path in base.rglob("locked"):
        path.chmod(0o700)
