"""A demonstration lab below the data directory.

It lies on one filesystem and most bytes are holes, so it proves nothing about a real NAS.
"""

import hashlib
import json
import logging
import os
import secrets
import tempfile
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group, User

from cleanup.clears import protocol, refusal
from cleanup.lab import policy_versions
from cleanup.lab.roots import disk_usage, registration
from cleanup.models import Run, StagingRoot
from cleanup.rules.policies.policy import Mode
from cleanup.rules.states import State
from cleanup.runs import discovery
from cleanup.runs.holds import holds
from cleanup.runs.orphans import orphans
from cleanup.storage.staging.metadata import LEFT_BY_THE_WIZARD

logger = logging.getLogger(__name__)

ROOT_NAME = "demo"
HOST = "labpc-04"
MIB = 1 << 20
METADATA = ".exlab-wizard"

_USERS = ("admin", "operator", "viewer", "auditor")
_ACQUISITION = timedelta(hours=1, minutes=37)
_SYNC = timedelta(minutes=6, seconds=43)

_PROJECTS = {
    "PROJ-0007": "Enzyme kinetics",
    "PROJ-0042": "Cortex Q3 Pilot",
    "PROJ-0051": "Hippocampus atlas",
    "PROJ-0060": "Immune panel",
    "PROJ-0073": "Membrane proteins",
}


@dataclass(frozen=True)
class Demo:
    base: Path
    passwords: dict[str, str]


@dataclass(frozen=True)
class DemoFiles:
    """Data files of `size` bytes each."""

    folder: str
    suffix: str
    count: int
    size: int


_SHAPES = {
    "CONFOCAL_01": DemoFiles("tiles", "tif", 24, 8 * MIB),
    "CRYO_EM_01": DemoFiles("movies", "mrc", 12, 32 * MIB),
    "FLOW_01": DemoFiles("export", "fcs", 16, 3 * MIB),
    "PLATE_READER_02": DemoFiles("raw", "csv", 2, 64 << 10),
    "SEQUENCER_01": DemoFiles("reads", "fastq.gz", 6, 48 * MIB),
}


@dataclass(frozen=True)
class Planned:
    """One run to build; `age` counts from its verification, real or expected."""

    equipment: str
    project: str
    age: timedelta
    state: State = State.SYNC_VERIFIED
    test: bool = False
    awkward: str = ""
    to_clear: bool = False
    scale: int = 1

    @property
    def shape(self) -> DemoFiles:
        shape, hour = _SHAPES[self.equipment], self.age % timedelta(days=1) / timedelta(days=1)
        return replace(shape, count=round(shape.count * (0.15 if self.test else self.scale * (0.6 + hour))))


def planned_runs() -> list[Planned]:
    return [
        Planned("CONFOCAL_01", "PROJ-0042", timedelta(days=31.13)),
        Planned("CONFOCAL_01", "PROJ-0042", timedelta(days=24.41)),
        Planned("CONFOCAL_01", "PROJ-0042", timedelta(days=17.27), scale=2),
        Planned("CONFOCAL_01", "PROJ-0042", timedelta(days=9.62)),
        Planned("CONFOCAL_01", "PROJ-0051", timedelta(days=12.35)),
        Planned("CONFOCAL_01", "PROJ-0051", timedelta(days=5.08)),
        Planned("CONFOCAL_01", "PROJ-0051", timedelta(days=3.55)),
        Planned("CRYO_EM_01", "PROJ-0073", timedelta(days=21.47)),
        Planned("CRYO_EM_01", "PROJ-0073", timedelta(days=14.19), scale=2),
        Planned("CRYO_EM_01", "PROJ-0073", timedelta(days=6.71)),
        Planned("FLOW_01", "PROJ-0060", timedelta(days=19.32)),
        Planned("FLOW_01", "PROJ-0060", timedelta(days=8.66)),
        Planned("FLOW_01", "PROJ-0042", timedelta(days=4.24)),
        Planned("PLATE_READER_02", "PROJ-0007", timedelta(days=11.51)),
        Planned("PLATE_READER_02", "PROJ-0007", timedelta(days=7.11)),
        Planned("PLATE_READER_02", "PROJ-0007", timedelta(days=2.38)),
        Planned("SEQUENCER_01", "PROJ-0060", timedelta(days=15.58)),
        Planned("SEQUENCER_01", "PROJ-0060", timedelta(days=10.29)),
        # the policy for test runs keeps them 24 hours
        Planned("CONFOCAL_01", "PROJ-0042", timedelta(hours=18), test=True),
        Planned("CRYO_EM_01", "PROJ-0073", timedelta(hours=11), test=True),
        Planned("FLOW_01", "PROJ-0060", timedelta(hours=3), test=True),
        # on their way
        Planned("CONFOCAL_01", "PROJ-0051", timedelta(minutes=-30), State.STAGING),
        Planned("CRYO_EM_01", "PROJ-0073", timedelta(minutes=-60), State.STAGING),
        Planned("SEQUENCER_01", "PROJ-0060", timedelta(minutes=-90), State.STAGING),
        Planned("PLATE_READER_02", "PROJ-0007", timedelta(minutes=-75), State.STAGING),
        Planned("CONFOCAL_01", "PROJ-0042", timedelta(hours=5), State.COMPLETE),
        Planned("FLOW_01", "PROJ-0060", timedelta(hours=4), State.COMPLETE),
        Planned("SEQUENCER_01", "PROJ-0060", timedelta(hours=9), State.COMPLETE),
        Planned("CONFOCAL_01", "PROJ-0051", timedelta(hours=7), State.SYNC_QUEUED),
        Planned("CRYO_EM_01", "PROJ-0073", timedelta(hours=6), State.SYNC_QUEUED),
        Planned("FLOW_01", "PROJ-0042", timedelta(hours=2), State.SYNC_QUEUED),
        # the program itself clears these while it makes the demonstration
        Planned("FLOW_01", "PROJ-0060", timedelta(days=40.44), to_clear=True),
        Planned("PLATE_READER_02", "PROJ-0007", timedelta(days=38.07), to_clear=True),
        Planned("FLOW_01", "PROJ-0042", timedelta(days=35.53), to_clear=True),
        # awkward
        Planned("CONFOCAL_01", "PROJ-0042", timedelta(days=13.17), awkward="extra file"),
        Planned("FLOW_01", "PROJ-0060", timedelta(days=16.49), awkward="no twin"),
        Planned("PLATE_READER_02", "PROJ-0007", timedelta(days=9.36), awkward="broken record"),
        Planned("CONFOCAL_01", "PROJ-0051", timedelta(days=8.22), awkward="newer file"),
        Planned("FLOW_01", "PROJ-0042", timedelta(minutes=1)),  # written a minute ago: it must be quiet first
        Planned("SEQUENCER_01", "PROJ-0060", timedelta(days=6.61), awkward="short twin"),
        Planned("CRYO_EM_01", "PROJ-0073", timedelta(days=4.15), awkward="future schema"),
    ]


def make(now: datetime) -> Demo:
    """Makes the demonstration lab, completes it, or finds it."""
    base = Path(settings.EXLAB_DATA_DIR) / "demo"
    if not base.exists():
        draft = Path(tempfile.mkdtemp(prefix="demo.part-", dir=settings.EXLAB_DATA_DIR))
        build(draft, now)
        draft.rename(base)  # the rename makes it whole or not at all
    _bring_in(base, now)
    return Demo(base, _users(base))


def build(base: Path, now: datetime) -> None:
    """Write the lab into an empty directory, with a note of the runs that `make` clears."""
    built = [Built(base, planned, now) for planned in planned_runs()]
    for run in built:
        run.write()
    _write_stray(base / "staging" / "CONFOCAL_01" / "alignment of last spring.txt", now - timedelta(days=45))
    _note(base).write_text(json.dumps([run.run_path for run in built if run.planned.to_clear]))


def _write_stray(path: Path, at: datetime) -> None:
    path.write_text("x 0.12, y -0.03\n")
    os.utime(path, (at.timestamp(), at.timestamp()))


def _note(base: Path) -> Path:
    return base / "to-clear.json"


def _bring_in(base: Path, now: datetime) -> None:
    staging, nas = str(base / "staging"), str(base / "nas")
    root = registration.register(ROOT_NAME, staging, nas_path=nas, allow_same_filesystem=True, now=now)
    if not root.policies.exists():
        # For this root only: a real lab in the same database keeps its own policies.
        add = partial(policy_versions.add_version, root=root, author="demo", now=now)
        # The version for test runs clears from the first day; the other is rehearsed until an operator promotes it.
        add(mode=Mode.MANUAL)
        add(mode=Mode.SCHEDULED, retain_hours=24, run_kind="test", rehearse=False)
        plates: dict[str, Any] = {"equipment": "PLATE_READER_02", "note": "plates are kept five days"}
        add(mode=Mode.SCHEDULED, retain_hours=24 * 5, rehearsal_nights=0, **plates)
    if root.discovered_at is None:
        disk_usage.measure(root, now)
        discovery.discover(root, now=now)
        orphans.inspect(root, now=now)
        _hold_one(root, now)
    to_clear = json.loads(_note(base).read_text())
    for run in Run.objects.verified().with_root().filter(root=root, run_path__in=to_clear):
        try:
            protocol.clear_run(run, actor="operator", note="checked on the NAS", now=now)
        except refusal.Refused as refused:  # one run too many does not spoil the demonstration
            logger.warning("%s was not cleared: %s", run.run_path, refused)


def _hold_one(root: StagingRoot, now: datetime) -> None:
    run = Run.objects.verified().with_root().filter(root=root, equipment="SEQUENCER_01").order_by("verified_at").first()
    if run is not None:
        until = now + timedelta(days=2)
        since = now - timedelta(days=5)
        holds.hold(run, owner="operator", reason="read again for a figure", until=until, now=since)


def _users(base: Path) -> dict[str, str]:
    """The users with their passwords, made once and readable only by this user."""
    path = base / "passwords.txt"
    kept = dict(line.split(": ", 1) for line in path.read_text().splitlines()) if path.exists() else {}
    missing = [name for name in _USERS if not User.objects.filter(username=name).exists()]
    kept |= {name: secrets.token_urlsafe(9) for name in missing if name not in kept}
    with open(path, "w", opener=partial(os.open, mode=0o600)) as file:
        file.writelines(f"{name}: {password}\n" for name, password in kept.items())
    for name in missing:
        user = User(username=name, is_staff=name == "admin", is_superuser=name == "admin")
        user.set_password(kept[name])
        user.save()
        if name != "admin":
            user.groups.add(Group.objects.get(name=name))
    return kept


class Built:
    """One run on disk as ExLab-Wizard's watcher, writer and verifier leave it."""

    def __init__(self, base: Path, planned: Planned, now: datetime) -> None:
        self.planned = planned
        self.verified_at = (now - planned.age).replace(microsecond=0)
        self.complete_at = self.verified_at - _SYNC
        self.started_at = self.complete_at - _ACQUISITION
        self.last_write_at = min(self.complete_at, now - timedelta(seconds=20))
        kind, folder = ("TestRun", "TestRuns") if planned.test else ("Run", "Runs")
        self.leaf = f"{kind}_{self.started_at:%Y-%m-%dT%H-%M}"
        self.run_path = f"{planned.equipment}/{planned.project}/{folder}/{self.leaf}"
        self.staged = base / "staging" / self.run_path
        self.twin = base / "nas" / self.run_path

    def write(self) -> None:
        self._write_data(self.staged)
        self._write_metadata(self.staged)
        for lock in (name for name in LEFT_BY_THE_WIZARD if name.endswith(".lock")):
            (self.staged / METADATA / lock).touch()
        if self.planned.state is State.SYNC_VERIFIED:
            if self.planned.awkward != "no twin":
                self._write_data(self.twin)
                self._write_metadata(self.twin)
                self._date(self.twin)
            self._make_awkward()
        self._date(self.staged)
        if self.planned.awkward == "newer file":
            after = (self.verified_at + timedelta(hours=2)).timestamp()
            os.utime(self._first_file(self.staged), (after, after))

    @cached_property
    def data(self) -> dict[str, bytes | int]:
        """Each file's bytes, or the number of its zeros."""
        shape, planned = self.planned.shape, self.planned
        name = _PROJECTS[planned.project]
        files: dict[str, bytes | int] = {"README.md": f"# {self.leaf}\n\n{name} on {planned.equipment}\n".encode()}
        files |= {f"{shape.folder}/{shape.folder[:-1]}_{n:04}.{shape.suffix}": shape.size for n in range(shape.count)}
        if planned.state is not State.STAGING:
            files["run_complete"] = b"done\n"
        return files

    def _write_data(self, run: Path) -> None:
        for name, content in self.data.items():
            path = run / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "wb") as file:
                if isinstance(content, int):
                    file.truncate(content)  # a hole: reads as zeros and takes no space
                else:
                    file.write(content)

    def _write_metadata(self, run: Path) -> None:
        folder = run / METADATA
        folder.mkdir()
        _write_private(folder / "ingest.json", json.dumps(self._ingest(), separators=(",", ":")))
        (folder / "creation.json").write_text(json.dumps(self._creation()))
        planned = self.planned
        (folder / f"wizard.{HOST}.log").write_text(
            f"{_text(self.started_at)} [INFO ] [host:{HOST}] [equip:{planned.equipment}] [proj:{planned.project}] "
            f"[kind:{self._run_kind}] Creation started: new_run on {planned.equipment}/{planned.project}\n"
        )
        if planned.state is State.SYNC_VERIFIED:
            lines = [f"{_sha256(content)}  {name}\n" for name, content in sorted(self.data.items())]
            _write_private(folder / "checksums.sha256", "".join(lines))

    @property
    def _run_kind(self) -> str:
        return "test" if self.planned.test else "experimental"

    def _ingest(self) -> dict[str, object]:
        size = sum(content if isinstance(content, int) else len(content) for content in self.data.values())
        received = {"files_received": len(self.data), "bytes_received": size}
        history = [
            {"state": "staging", "at": _text(self.started_at), "host": HOST},
            {"state": "complete", "at": _text(self.complete_at), "host": HOST, **received},
            {"state": "sync_queued", "at": _text(self.complete_at + timedelta(seconds=5)), "host": HOST},
            {"state": "sync_verified", "at": _text(self.verified_at), "host": HOST, "nas_path": self.run_path},
        ]
        return {
            "schema_version": "2.0" if self.planned.awkward == "future schema" else "1.1",
            "project_name": _PROJECTS[self.planned.project],
            "equipment_id": self.planned.equipment,
            "run_kind": self._run_kind,
            "run_path": self.run_path,
            "transport": "smb_mount",
            "current_state": self.planned.state.value,
            "history": history[: list(State).index(self.planned.state) + 1],
        }

    def _creation(self) -> dict[str, object]:
        return {
            "schema_version": "1.9",
            "created_at": _text(self.started_at),
            "level": "run",
            "run_kind": self._run_kind,
            "lims_project": {
                "short_id": self.planned.project,
                "name_at_creation": _PROJECTS[self.planned.project],
                "source": "demo",
            },
            "orchestrator": {"enabled": True, "host": HOST, "label": "Demonstration"},
            "sync_status": "pending",
        }

    def _make_awkward(self) -> None:
        match self.planned.awkward:
            case "extra file":
                (self.staged / self.planned.shape.folder / "notes after the run.txt").write_text("do not lose me\n")
            case "broken record":
                record = self.staged / METADATA / "ingest.json"
                os.truncate(record, record.stat().st_size // 2)
            case "short twin":
                path = self._first_file(self.twin)
                os.truncate(path, path.stat().st_size - 1)
                self._date(self.twin)

    def _first_file(self, run: Path) -> Path:
        return min((run / self.planned.shape.folder).iterdir())

    def _date(self, run: Path) -> None:
        """Set the modification times, the deepest paths first so that folders keep theirs."""
        everything = sorted([run, *run.rglob("*")], reverse=True)
        step = (self.last_write_at - self.started_at) / len(everything)
        for number, path in enumerate(everything, 1):
            last = path.name == "run_complete"
            at = (self.last_write_at if last else self.started_at + step * number).timestamp()
            os.utime(path, (at, at))


@cache
def _zeros_sha256(size: int) -> str:
    digest = hashlib.sha256()
    for _ in range(size // MIB):
        digest.update(bytes(MIB))
    digest.update(bytes(size % MIB))
    return digest.hexdigest()


def _sha256(content: bytes | int) -> str:
    return _zeros_sha256(content) if isinstance(content, int) else hashlib.sha256(content).hexdigest()


def _text(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _write_private(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)
