"""Small laboratories on disk, exactly as ExLab-Wizard's watcher, writer and verifier leave them."""

import hashlib
import json
import os
import re
import shutil
import stat
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

STATES = ("staging", "complete", "sync_queued", "sync_verified", "cleared")
HOST = "labpc-04"
METADATA = ".exlab-wizard"
RUN_PATH = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-32"

# How long the writer takes from one entry of the history to the next.
_ACQUISITION = timedelta(hours=1, minutes=37)
_QUEUEING = timedelta(seconds=5)
_SYNC = timedelta(minutes=6, seconds=38)
_CLEARED_AFTER = timedelta(hours=30)


def some_files(count: int = 4, size: int = 4096) -> dict[str, bytes]:
    """Data files as a confocal run has them, every one with other bytes."""
    tiles = {
        f"tiles/t_{number:04}.tif": hashlib.sha256(b"%d" % number).digest() * (size // 32) for number in range(count)
    }
    return {"stack.ome.xml": b"<OME/>" * 300, **tiles}


@dataclass(frozen=True)
class Lab:
    """A staging root and the NAS root that mirrors it, below `base`."""

    base: Path

    def __post_init__(self) -> None:
        self.staging.mkdir(parents=True, exist_ok=True)
        self.nas.mkdir(parents=True, exist_ok=True)

    @property
    def staging(self) -> Path:
        return self.base / "staging"

    @property
    def nas(self) -> Path:
        return self.base / "nas"

    def twin(self, run_path: str = RUN_PATH) -> Path:
        return self.nas / run_path

    def run(
        self,
        run_path: str = RUN_PATH,
        *,
        files: dict[str, bytes] | None = None,
        state: str = "sync_verified",
        verified_at: datetime | None = None,
        twin: bool = True,
        twin_state: str | None = None,
        project_name: str = "Cortex Q3 Pilot",
        transport: str = "smb_mount",
    ) -> Path:
        """Build one run and return its directory.

        `files` are the data files beside README.md and run_complete. `verified_at` is the instant of `sync_verified`,
        also in states before it, where it sets when the run would get there; by default it follows from the leaf's
        date. Only a verified run has a manifest and a twin; `twin_state` is the state at which the twin's
        `ingest.json` was copied.
        """
        equipment, project, kind_folder, leaf = run_path.split("/")
        kind = "test" if kind_folder == "TestRuns" else "experimental"
        started = _leaf_date(leaf)
        verified_at = verified_at or started + _ACQUISITION + _QUEUEING + _SYNC
        started = min(started, verified_at - _ACQUISITION - _QUEUEING - _SYNC)
        reached = STATES.index(state)

        run = self.staging / run_path
        metadata = run / METADATA
        metadata.mkdir(parents=True)
        data = {"README.md": f"# {leaf}\n\n{project_name} on {equipment}\n".encode()}
        data |= some_files() if files is None else files
        if reached >= STATES.index("complete"):
            data["run_complete"] = b"done\n"
        for name, content in data.items():
            path = run / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

        def ingest_at(some_state: str) -> bytes:
            return _ingest(run_path, equipment, kind, project_name, transport, some_state, started, verified_at, data)

        _write_private(metadata / "ingest.json", ingest_at(state))
        (metadata / "ingest.json.lock").touch()
        (metadata / "creation.json").write_text(_creation(run_path, equipment, project, kind, project_name, started))
        log = (
            f"{_text(started)} [INFO ] [host:{HOST}] [equip:{equipment}] [proj:{project}] [kind:{kind}] "
            f"Creation started: new_run on {equipment}/{project}\n"
        )
        (metadata / f"wizard.{HOST}.log").write_text(log)
        verified = reached >= STATES.index("sync_verified")
        if verified:
            _write_private(metadata / "checksums.sha256", manifest_of(data))
        if verified and twin:
            copy = self.nas / run_path
            shutil.copytree(run, copy, ignore=lambda folder, names: {"ingest.json.lock"} & set(names))
            _write_private(copy / METADATA / "ingest.json", ingest_at(twin_state or state))
            date_everything(copy, started, started + _ACQUISITION)
        date_everything(run, started, started + _ACQUISITION)
        return run


def manifest_of(data: dict[str, bytes]) -> bytes:
    """The manifest as the verifier writes it: one line per data file, in the order of their names."""
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(data.items())]
    return "".join(lines).encode("utf-8", "surrogateescape")


def date_everything(top: Path, first: datetime, last: datetime) -> None:
    """Spread the modification times of everything beneath `top`, and its own, over a span."""
    everything = [top, *top.rglob("*")]
    step = (last - first) / (len(everything) + 1)
    for number, path in enumerate(sorted(everything, reverse=True), 1):
        at = int((first + step * number).timestamp())
        os.utime(path, (at, at), follow_symlinks=False)


def touch(path: Path, at: datetime) -> None:
    """Set one entry's modification time."""
    os.utime(path, (at.timestamp(), at.timestamp()), follow_symlinks=False)


def read_ingest(run: Path) -> dict:
    """The parsed `ingest.json` of a run."""
    return json.loads((run / METADATA / "ingest.json").read_bytes())


@dataclass(frozen=True)
class Seen:
    """One entry as `snapshot` saw it; `content` is the SHA-256 of a file, the target of a link."""

    kind: str
    mode: int
    size: int
    mtime_ns: int
    content: str


def snapshot(path: Path) -> dict[str, Seen]:
    """Everything at and below `path`, by its name relative to it: equal snapshots mean byte for byte as before."""
    seen: dict[str, Seen] = {}
    for entry in [path, *sorted(path.rglob("*"))]:
        status = entry.lstat()
        content = ""
        if entry.is_symlink():
            content = os.readlink(entry)
        elif stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(entry.read_bytes()).hexdigest()
        size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
        kind = stat.filemode(status.st_mode)[0]
        name = str(entry.relative_to(path))
        seen[name] = Seen(kind, stat.S_IMODE(status.st_mode), size, status.st_mtime_ns, content)
    return seen


def census(path: Path) -> tuple[int, int]:
    """Files and logical bytes below `path`, counted without any code of the product."""
    files = [entry.lstat() for entry in path.rglob("*") if not entry.is_symlink() and entry.is_file()]
    return len(files), sum(status.st_size for status in files)


def _leaf_date(leaf: str) -> datetime:
    found = re.search(r"\d{4}-\d\d-\d\dT\d\d-\d\d", leaf)
    if found is None:
        return datetime(2026, 4, 17, 14, 32, tzinfo=UTC)
    return datetime.strptime(found[0], "%Y-%m-%dT%H-%M").replace(tzinfo=UTC)


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _ingest(
    run_path: str,
    equipment: str,
    kind: str,
    project_name: str,
    transport: str,
    state: str,
    started: datetime,
    verified_at: datetime,
    data: dict[str, bytes],
) -> bytes:
    size = sum(len(content) for content in data.values())
    instants = {
        "staging": started,
        "complete": verified_at - _SYNC - _QUEUEING,
        "sync_queued": verified_at - _SYNC,
        "sync_verified": verified_at,
        "cleared": verified_at + _CLEARED_AFTER,
    }
    more: dict[str, dict[str, object]] = {
        "complete": {"files_received": len(data), "bytes_received": size},
        "sync_verified": {"nas_path": run_path},
    }
    history = [
        {"state": name, "at": _text(instants[name]), "host": HOST, **more.get(name, {})}
        for name in STATES[: STATES.index(state) + 1]
    ]
    record = {
        "schema_version": "1.1",
        "project_name": project_name,
        "equipment_id": equipment,
        "run_kind": kind,
        "run_path": run_path,
        "transport": transport,
        "current_state": state,
        "history": history,
    }
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()


def _creation(run_path: str, equipment: str, project: str, kind: str, project_name: str, started: datetime) -> str:
    template = f"{equipment.lower()}_run"
    record = {
        "schema_version": "1.9",
        "created_at": _text(started),
        "created_by": "asmith",
        "level": "run",
        "run_kind": kind,
        "lims_project": {
            "uid": str(uuid.uuid5(uuid.NAMESPACE_URL, run_path)),
            "short_id": project,
            "name_at_creation": project_name,
            "source": "live",
        },
        "template": {
            "name": template,
            "version": "2.1",
            "source_path": f"templates/{template}",
            "run_scope": "both",
        },
        "variables": {"project_name": project_name, "operator": "asmith", "run_date": _text(started)},
        "paths": {"local": f"/data/lab/{run_path}", "nas": f"//nas01/lab/{run_path}"},
        "orchestrator": {"enabled": True, "host": HOST, "label": "Lab Acquisition Station 01"},
        "sync_status": "pending",
    }
    return json.dumps(record)


def _write_private(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
