"""The cost of measuring the space that a removal frees: .venv/bin/python bench/freed_space.py, as root.

On an image of each filesystem with an mkfs it removes 100 MB, three times as one file and three times as
2,000. It prints medians: the removal, the measuring before and after, and the share freed by then.
"""

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cleanup.storage import freed_space

SIZE = 100_000_000
TIMES = 3


@contextlib.contextmanager
def disk(base: Path, kind: str) -> Iterator[Path]:
    image, place = base / f"{kind}.img", base / kind
    place.mkdir()
    subprocess.run(["truncate", "-s", "1G", image], check=True)
    subprocess.run([f"mkfs.{kind}", "-q", image], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def written(folder: Path, files: int) -> int:
    """Write files of 100 MB together; return their allocated bytes."""
    folder.mkdir()
    for number in range(files):
        (folder / str(number)).write_bytes(os.urandom(SIZE // files))
    os.sync()
    return sum(file.stat().st_blocks * 512 for file in folder.iterdir())


def removed(top: Path, counter: Path, files: int) -> tuple[float, float, float]:
    """Milliseconds of a removal and of its measuring, and the share that came back."""
    size = written(top / "run", files)
    descriptor = os.open(top, os.O_RDONLY)
    began = time.perf_counter()
    with freed_space.watched(descriptor, str(counter), planned=size) as space:
        ready = time.perf_counter()
        for file in (top / "run").iterdir():
            file.unlink()
        (top / "run").rmdir()
        done = time.perf_counter()
        gain = space.gain(size, patience=lambda: freed_space.PATIENCE_SECONDS)
    measured = time.perf_counter()
    os.close(descriptor)
    return 1000 * (done - ready), 1000 * (ready - began + measured - done), (gain.bytes or 0) / size


def main() -> None:
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    with tempfile.TemporaryDirectory() as name:
        for kind in filter(lambda kind: shutil.which(f"mkfs.{kind}"), ("ext4", "xfs", "btrfs")):
            with disk(Path(name), kind) as top:
                for files in (1, 2000):
                    tries = [removed(top, Path(name) / "count", files) for _ in range(TIMES)]
                    removal, added, share = (statistics.median(column) for column in zip(*tries, strict=True))
                    told = f"removal {removal:6.1f} ms, measuring {added:5.1f} ms, {share:.0%} back"
                    print(f"{kind:6} {files:5,} files: {told}")


if __name__ == "__main__":
    main()
