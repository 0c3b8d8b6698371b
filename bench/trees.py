"""The trees of the comparison: runs as the wizard lays them, on a staging disk and on a NAS."""

import random
import shutil
import subprocess
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench import measuring
from tests.tools.lab import METADATA, Lab

_FIRST = datetime(2026, 4, 17, 14, 0, tzinfo=UTC)
_POOL_BYTES = 8 << 20
# Larger files share some contents: in memory at once, two gigabytes would be much.
_LARGE, _LARGE_KINDS = 1 << 16, 7


@dataclass(frozen=True)
class Shape:
    """Data files, dealt out to folders; their sizes in bytes lie between `smallest` and `largest`."""

    name: str
    files: int
    folders: int
    smallest: int
    largest: int

    def scaled(self, scale: float) -> "Shape":
        """The same with fewer files and folders, at least four files in two folders."""
        return replace(self, files=max(4, round(self.files * scale)), folders=max(2, round(self.folders * scale)))


S1 = Shape("S1", 100_000, 400, 1 << 10, 4 << 10)
S2 = Shape("S2", 2_000, 20, (2 << 30) // 2_000, (2 << 30) // 2_000)
S3 = Shape("S3", 40_000, 20_000, 1 << 10, 1 << 10)


class Tree:
    """One verified run: its copy on the NAS stays, and staged copies are made from that."""

    def __init__(self, shape: Shape, lab: Lab, scratch: Path) -> None:
        self.shape = shape
        self._lab = lab
        self._above = f"BENCH_01/{shape.name}/Runs"
        self._at = _FIRST
        self._metadata = scratch / f"metadata-{shape.name}"
        self._copies = scratch / f"copies-{shape.name}"
        measuring.apart(self._lay)
        counted = [path.stat().st_size for path in self._data()]
        # What a clear counts: the data and the metadata of the staged run.
        beside = [path.stat().st_size for path in (self._metadata / "staging").iterdir()]
        self.data = (len(counted), sum(counted))
        self.everything = (len(counted) + len(beside), sum(counted) + sum(beside))

    @property
    def run_path(self) -> str:
        return f"{self._above}/{self._leaf}"

    @property
    def _leaf(self) -> str:
        return f"Run_{self._at:%Y-%m-%dT%H-%M}"

    @property
    def twin(self) -> Path:
        """The copy on the NAS, the same data in every round."""
        return self._lab.nas / self.run_path

    def _data(self) -> list[Path]:
        found = self.twin.rglob("*")
        return [path for path in found if path.is_file() and path.parent != self.twin / METADATA]

    def _lay(self) -> None:
        run = self._lab.run(self.run_path, files=self._contents(), verified_at=datetime.now(UTC) - timedelta(days=6))
        for name, place in (("staging", run), ("nas", self.twin)):
            shutil.copytree(place / METADATA, self._metadata / name)
        shutil.rmtree(run)
        self._copies.mkdir()

    def _contents(self) -> dict[str, bytes]:
        shape, chance = self.shape, random.Random(self.shape.name)
        pool = chance.randbytes(_POOL_BYTES)
        shared = [pool[start : start + shape.largest] for start in range(_LARGE_KINDS)]
        contents = {}
        for number in range(shape.files):
            size = chance.randint(shape.smallest, shape.largest)
            start = chance.randrange(_POOL_BYTES - size)
            content = shared[number % _LARGE_KINDS] if size >= _LARGE else pool[start : start + size]
            contents[f"d{number % shape.folders:05}/f{number:06}.dat"] = content
        return contents

    def copy(self) -> Path:
        """A staged copy in a place that no staging root knows. Takes seconds."""
        place = self._copies / self._leaf
        self._copy_to(place)
        return place

    def stage(self) -> Path:
        """A staged copy beneath the staging root: each time another run, whose copy on the NAS is this twin."""
        former, twin = self._leaf, self.twin
        self._at += timedelta(minutes=1)
        twin.rename(self.twin)
        shutil.rmtree(self.twin / METADATA)  # the last clear wrote there
        for path in self._metadata.glob("*/*"):
            path.write_bytes(path.read_bytes().replace(former.encode(), self._leaf.encode()))
        shutil.copytree(self._metadata / "nas", self.twin / METADATA)
        place = self._lab.staging / self.run_path
        self._copy_to(place)
        return place

    def _copy_to(self, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", "--reflink=never", self.twin, place], check=True)
        shutil.rmtree(place / METADATA)
        shutil.copytree(self._metadata / "staging", place / METADATA)

    def remove(self) -> None:
        for place in (self.twin, self._copies, self._metadata):
            shutil.rmtree(place)


def settle(place: Path, twin: Path, *, reads: bool) -> None:
    """Write out what was copied; for a side that reads, read every file once, so that all find a warm cache."""
    subprocess.run(["sync", "-f", place], check=True)
    for folder in {place, twin} if reads else ():
        words = ["find", str(folder), "-type", "f", "-exec", "cat", "{}", "+"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
