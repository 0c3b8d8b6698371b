"""A run on disk, as ExLab-Wizard's watcher, writer and verifier leave it."""

import hashlib
import json
import os
import random
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from cleanup.demo.planned import PEOPLE, PROJECTS, Planned
from cleanup.rules.states import State
from cleanup.storage.staging.metadata import LEFT_BY_THE_WIZARD

HOST = "labpc-04"
METADATA = ".exlab-wizard"
_ACQUISITION = timedelta(hours=1, minutes=37)
_SYNC = timedelta(minutes=6, seconds=43)
_NOISE_BYTES = 4 << 20


class WrittenRun:
    """One planned run; `staged` and `twin` are the folders that `write` makes."""

    def __init__(self, planned: Planned, now: datetime, staged: Path, nas: Path) -> None:
        self.planned = planned
        self.verified_at = (now - planned.age).replace(microsecond=0)
        self.complete_at = self.verified_at - _SYNC
        self.started_at = self.complete_at - _ACQUISITION
        self.last_write_at = min(self.complete_at, now - timedelta(seconds=20))
        kind, folder = ("TestRun", "TestRuns") if planned.test else ("Run", "Runs")
        self.leaf = f"{kind}_{self.started_at:%Y-%m-%dT%H-%M}"
        self.run_path = f"{planned.equipment}/{planned.project}/{folder}/{self.leaf}"
        self.staged = staged
        self.twin = nas / self.run_path
        self._sha256: dict[str, str] = {}
        self._bytes = 0

    def write(self) -> None:
        copied = self.planned.is_copied
        has_twin = copied and self.planned.awkward != "no twin"
        places = [self.staged, self.twin] if has_twin else [self.staged]
        self._write_data(places)
        for place in places:
            self._write_metadata(place)
        for lock in (name for name in LEFT_BY_THE_WIZARD if name.endswith(".lock")):
            (self.staged / METADATA / lock).touch()
        if has_twin:
            self._date(self.twin)
        if copied:
            self._make_awkward()
        self._date(self.staged)
        if self.planned.awkward == "newer file":
            after = (self.verified_at + timedelta(hours=2)).timestamp()
            os.utime(self._first_file(self.staged), (after, after))

    def _data(self) -> Iterator[tuple[str, bytes]]:
        shape, planned = self.planned.shape, self.planned
        name = PROJECTS[planned.project]
        yield "README.md", f"# {self.leaf}\n\n{name} on {planned.equipment}, invented for the demo\n".encode()
        for number in range(shape.count):
            file = f"{shape.folder}/{shape.folder[:-1]}_{number:04}.{shape.suffix}"
            content = _table(shape.size) if shape.suffix == "csv" else noise(f"{self.run_path}/{file}", shape.size)
            yield file, content
        if planned.state is not State.STAGING:
            yield "run_complete", b"done\n"

    def _write_data(self, places: list[Path]) -> None:
        for place in places:
            (place / self.planned.shape.folder).mkdir(parents=True)
        for name, content in self._data():
            for place in places:
                (place / name).write_bytes(content)
            self._sha256[name] = hashlib.sha256(content).hexdigest()
            self._bytes += len(content)

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
        if planned.is_copied:
            lines = [f"{digest}  {name}\n" for name, digest in sorted(self._sha256.items())]
            _write_private(folder / "checksums.sha256", "".join(lines))

    @property
    def _run_kind(self) -> str:
        return "test" if self.planned.test else "experimental"

    def _ingest(self) -> dict[str, object]:
        received = {"files_received": len(self._sha256), "bytes_received": self._bytes}
        history = [
            {"state": "staging", "at": _text(self.started_at), "host": HOST},
            {"state": "complete", "at": _text(self.complete_at), "host": HOST, **received},
            {"state": "sync_queued", "at": _text(self.complete_at + timedelta(seconds=5)), "host": HOST},
            {"state": "sync_verified", "at": _text(self.verified_at), "host": HOST, "nas_path": self.run_path},
            {"state": "cleared", "at": _text(self.verified_at + timedelta(days=1)), "host": HOST},
        ]
        return {
            "schema_version": "2.0" if self.planned.awkward == "future schema" else "1.1",
            "project_name": PROJECTS[self.planned.project],
            "equipment_id": self.planned.equipment,
            "run_kind": self._run_kind,
            "run_path": self.run_path,
            "transport": "smb_mount",
            "current_state": self.planned.state.value,
            "history": history[: list(State).index(self.planned.state) + 1],
        }

    def _creation(self) -> dict[str, object]:
        planned, person = self.planned, PEOPLE[self.planned.project]
        template = f"{planned.equipment.lower()}_run"
        return {
            "schema_version": "1.9",
            "created_at": _text(self.started_at),
            "created_by": person,
            "level": "run",
            "run_kind": self._run_kind,
            "lims_project": {
                "uid": str(uuid.uuid5(uuid.NAMESPACE_URL, self.run_path)),
                "short_id": planned.project,
                "name_at_creation": PROJECTS[planned.project],
                "source": "demo",
            },
            "template": {
                "name": template,
                "version": "2.1",
                "source_path": f"templates/{template}",
                "run_scope": "both",
            },
            "variables": {
                "project_name": PROJECTS[planned.project],
                "operator": person,
                "run_date": _text(self.started_at),
            },
            "paths": {"local": f"/demo/{self.run_path}", "nas": f"//demo/{self.run_path}"},
            "orchestrator": {"enabled": True, "host": HOST, "label": "Demo"},
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
def _noise_block() -> bytes:
    return random.Random(_NOISE_BYTES).randbytes(_NOISE_BYTES)  # noqa: S311


def noise(name: str, size: int) -> bytes:
    """Bytes that are no zeros and another file's nowhere near; one block serves all files, for speed."""
    block = _noise_block()
    first = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % (_NOISE_BYTES - 1)
    head = f"{name}\n".encode()[:size]
    rest = size - len(head)
    turned = block[first:] + block[:first] if rest > _NOISE_BYTES - first else block[first : first + rest]
    repeats = -(-rest // len(turned)) if turned else 0
    return head + (turned * repeats)[:rest]


@cache
def _table(size: int) -> bytes:
    lines = ["well,cycle,absorbance\n"]
    wells = [f"{row}{column}" for row in "ABCDEFGH" for column in range(1, 13)]
    values = random.Random(size)  # noqa: S311
    length, number = len(lines[0]), 0
    while length < size:
        lines.append(f"{wells[number % len(wells)]},{number // len(wells)},{values.random():.4f}\n")
        length, number = length + len(lines[-1]), number + 1
    return "".join(lines).encode()[:size]


def _text(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _write_private(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)
