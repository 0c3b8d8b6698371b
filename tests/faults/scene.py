"""One discovered run and what must be true of it before and after, counted without product code."""

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cleanup.clears import queue
from cleanup.clears.queue import ClearRequest
from cleanup.models import ClearAttempt, LedgerEntry, Phase, Requester, Run
from cleanup.runs import discovery
from tests.tools.lab import RUN_PATH, Lab, Seen, census, read_ingest, snapshot


@dataclass(frozen=True)
class Scene:
    lab: Lab
    root: Any
    now: datetime
    run: Run
    path: Path
    twin: Path
    files: int
    bytes: int
    entries: dict[str, Seen]
    inodes: dict[str, int]
    twin_entries: dict[str, Seen]

    def attempt(self) -> ClearAttempt:
        return queue.new_attempt(self.run, ClearRequest(requester=Requester.OPERATOR, actor="ada"), now=self.now)

    def kinds(self) -> list[str]:
        return list(self.run.ledger.order_by("pk").values_list("kind", flat=True))

    def states(self) -> list[str]:
        return list(self.run.events.order_by("position").values_list("state", flat=True))

    def history(self) -> list[str]:
        """The history of a verified run before the clear; a `sync_state.json` alone tells none."""
        return ["staging", "complete", "sync_queued", "sync_verified"] if self.run.record_format == "ingest" else []

    def leftovers(self) -> list[str]:
        return sorted(entry.name for entry in self.path.parent.iterdir() if entry.name.startswith(".exlab-clearing-"))

    def assert_whole(self) -> None:
        assert snapshot(self.path) == self.entries
        assert inodes(self.path) == self.inodes
        assert self.leftovers() == []
        self.assert_twin_untouched()
        self.run.refresh_from_db()
        assert (self.run.state, self.run.cleared_at) == ("sync_verified", None)
        assert self.states() == self.history()
        assert not self.run.ledger.filter(kind__in=["authorised", "completed", "partial"]).exists()

    def assert_cleared(self) -> None:
        assert not self.path.exists()
        assert self.path.parent.is_dir()
        assert self.leftovers() == []
        self.assert_twin_untouched()
        self.run.refresh_from_db()
        assert self.run.state == "cleared"
        assert self.run.cleared_at is not None
        assert self.states() == [*self.history(), "cleared"]
        (authorised,) = self.run.ledger.filter(kind="authorised")
        assert (authorised.files, authorised.bytes) == (self.files, self.bytes)
        assert self.run.ledger.filter(kind="completed").count() == 1
        self.assert_freed(self.files, self.bytes)
        attempt = self.run.attempts.get(phase=Phase.DONE)
        assert attempt.reason == ""
        assert (attempt.freed_files, attempt.freed_bytes) == (self.files, self.bytes)

    def assert_freed(self, files: int, size: int) -> None:
        totals = LedgerEntry.objects.filter(run=self.run).totals()
        assert (totals["files"], totals["bytes"]) == (files, size)

    def assert_twin_untouched(self) -> None:
        assert (snapshot(self.twin) if self.twin.exists() else {}) == self.twin_entries


def set_scene(lab: Lab, root: Any, now: datetime, run_path: str = RUN_PATH, **how: Any) -> Scene:
    path = lab.run(run_path, **how)
    discovery.discover(root, now=now)
    return scene_of(lab, root, now, run_path, path)


def scene_of(lab: Lab, root: Any, now: datetime, run_path: str, path: Path) -> Scene:
    twin = lab.twin(run_path)
    files, size = census(path)
    return Scene(
        lab=lab,
        root=root,
        now=now,
        run=Run.objects.with_root().filter(run_path=run_path).latest("pk"),
        path=path,
        twin=twin,
        files=files,
        bytes=size,
        entries=snapshot(path),
        inodes=inodes(path),
        twin_entries=snapshot(twin) if twin.exists() else {},
    )


def inodes(path: Path) -> dict[str, int]:
    return {str(entry.relative_to(path)): entry.lstat().st_ino for entry in [path, *path.rglob("*")]}


def everything(lab: Lab) -> tuple[dict[str, Seen], dict[str, int], dict[str, Seen]]:
    return snapshot(lab.staging), inodes(lab.staging), snapshot(lab.nas) if lab.nas.exists() else {}


def states_on_disk(run: Path) -> list[str]:
    return [entry["state"] for entry in read_ingest(run)["history"]]


def is_root() -> bool:
    return os.geteuid() == 0
