"""A run with its parent open, and ways to change it."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cleanup.storage import handles
from cleanup.storage.staging import fences, removal, run_tree
from cleanup.storage.staging.removal import Removal
from cleanup.storage.staging.run_tree import Entry

Open = Callable[[Path], int]


ATTEMPT = "0123456789abcdef0123456789abcdef"


FENCE = f".exlab-clearing-{ATTEMPT}"


NOW_NS = 1_781_510_400_000_000_000  # 2026-06-15 08:00 UTC


HOUR_NS = 3600 * 1_000_000_000


def scan(path: Path) -> run_tree.Scan:
    with handles.opened(handles.open_root(str(path))) as descriptor:
        return run_tree.scan(descriptor)


def problems(path: Path) -> list[tuple[str, str]]:
    return told(scan(path))


def told(seen: run_tree.Scan) -> list[tuple[str, str]]:
    return [(problem.reason, problem.detail) for problem in seen.problems]


def write(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def odd(path: Path, name: bytes) -> Path:
    return Path(os.fsdecode(os.fsencode(path) + b"/" + name))


@dataclass
class Scene:
    run: Path
    parent: int
    plan: tuple[Entry, ...] = ()
    record: dict[str, int] | None = None
    fenced: int = -1

    @property
    def fence(self) -> Path:
        return self.run.with_name(FENCE)

    def prepare(self) -> None:
        """Plan, fence, prepare and publish, as a clear does before its first removal."""
        self.plan = scan(self.run).entries
        self.to_fence()
        self.record = fences.prepare_record(
            self.parent,
            fences.prepared_name(ATTEMPT),
            b'{"cleared":1}',
            (self.fence / ".exlab-wizard/ingest.json").stat(),
        )
        fences.publish(self.parent, fences.prepared_name(ATTEMPT), self.fenced)

    def to_fence(self) -> None:
        fences.fence(self.parent, self.run.name.encode(), fences.fence_name(ATTEMPT))
        self.fenced = handles.open_beneath(self.parent, fences.fence_name(ATTEMPT))

    def remove(self, **options: object) -> Removal:
        assert self.record is not None
        return removal.remove(
            self.parent,
            fences.fence_name(ATTEMPT),
            self.fenced,
            self.plan,
            record=self.record,
            **options,  # type: ignore[arg-type]
        )


def replace_file(path: Path) -> None:
    status = path.stat()
    twin = path.with_name("twin")
    twin.write_bytes(path.read_bytes())
    os.utime(twin, ns=(status.st_atime_ns, status.st_mtime_ns))
    twin.rename(path)


def rewrite_in_secret(path: Path) -> None:
    """Write other bytes and keep size and modification time, as a copying tool leaves them."""
    status = path.stat()
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def digests_of(run: Path) -> dict[bytes, bytes]:
    return {
        os.fsencode(path.relative_to(run)): hashlib.sha256(path.read_bytes()).digest()
        for path in run.rglob("*")
        if path.is_file()
    }


def replace_directory(path: Path) -> None:
    old = path.rename(path.with_name("old"))
    path.mkdir()
    for entry in old.iterdir():
        entry.rename(path / entry.name)
    old.rmdir()
