"""The most memory of each process that works on one large run: the worker and its child that reads the NAS.

    python bench/memory.py --files 1000000 --dir /dev/shm

Discovers, clears at `size` and at `checksum`, and kills a clear in the middle of its removal, which `recover` then
completes. Of twenty files one has bytes, so that a million take 3 GB on a tmpfs; all are removed at the end.
"""

import argparse
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
BUILD = """
import sys
from pathlib import Path
sys.path.insert(0, {checkout!r})
from tests.tools.lab import Lab
def name(n):
    return f"well_{{n:07}}.bin" if {flat!r} else f"plate_{{n // 1000:04}}/well_{{n:07}}.bin"
Lab(Path({base!r})).run(files={{name(n): b"" if n % 20 else b"%d" % n for n in range({files})}})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the memory of a large clear.")
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--flat", action="store_true", help="all files in one folder")
    parser.add_argument("--dir", default=None, help="make the files below this folder")
    parser.add_argument("--only", default="", help="discover, size, checksum or recover")
    options = parser.parse_args()
    for step in ("size", "checksum", "recover"):
        if options.only in ("", step, "discover"):
            with _lab(options) as base:
                _measure(base, step, only_discovery=options.only == "discover")
            if options.only == "discover":
                return


@contextmanager
def _lab(options: argparse.Namespace) -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(prefix="exlab-bench-memory-", dir=options.dir))
    try:
        text = BUILD.format(checkout=str(CHECKOUT), base=str(base), files=options.files, flat=options.flat)
        subprocess.run([sys.executable, "-c", text], check=True)
        yield base
    finally:
        shutil.rmtree(base)


def _measure(base: Path, step: str, *, only_discovery: bool) -> None:
    environment = {
        **os.environ,
        "DATABASE_URL": f"sqlite:///{base}/db.sqlite3",
        "EXLAB_DATA_DIR": str(base / "data"),
        "PYTHONPATH": str(CHECKOUT),
    }
    (base / "data").mkdir()

    def run(*words: str, until: str = "") -> None:
        begun, used = time.monotonic(), _processor()
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore", "manage.py", *words],
            cwd=CHECKOUT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        held = _watch(child, base if until else None)
        answer, error = child.communicate()
        if until:
            print(f"{step}: killed in the middle of its removal")
        elif child.returncode:
            sys.exit(f"{words}: {answer.decode()} {error.decode()}")
        peaks = ", ".join(f"{name} {size >> 20} MiB" for name, size in held.items())
        seconds = time.monotonic() - begun
        print(f"{step}: {words[0]} {seconds:.1f} s, processor {_processor() - used:.2f} s; {peaks}", flush=True)
        if "--json" in words:
            print("  ", {key: value for key, value in json.loads(answer).items() if key in ("files", "cleared", "new")})

    level = "size" if step == "size" else "checksum"
    run("migrate", "-v", "0")
    run("add_staging_root", "lab", str(base / "staging"), "--nas-root", str(base / "nas"), "--allow-same-filesystem")
    run("set_policy", "--proof", level)
    run("discover", "--json")
    if only_discovery:
        return
    (path,) = (path.relative_to(base / "staging") for path in (base / "staging").glob("*/*/Runs/*"))
    if step == "recover":
        run("clear", str(path), until="half is gone")
        run("recover", "--json")
        left = list((base / "staging").glob("*/*/Runs/*"))
        assert not left, left
    else:
        run("clear", str(path), "--json")


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _watch(child: "subprocess.Popen[bytes]", kill_below: Path | None) -> dict[str, int]:
    held: dict[str, int] = {}
    while child.poll() is None:
        for pid, name in [(child.pid, "worker"), *((pid, "NAS child") for pid in _children(child.pid))]:
            with suppress(OSError):
                if name != "worker" and b"nas.server" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                    continue  # it has not begun, and counts this process's memory
                found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
                held[name] = max(held.get(name, 0), int(found[1]) * 1024 if found else 0)
        if kill_below is not None and _is_half_gone(kill_below):
            child.send_signal(signal.SIGKILL)
        time.sleep(0.02)
    return held


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _is_half_gone(base: Path) -> bool:
    fences = [path for path in base.glob("staging/*/*/Runs/.exlab-clearing-*") if path.is_dir()]
    return any(len(list(fence.glob("plate_*0"))) and _gone(fence) for fence in fences)


def _gone(fence: Path) -> bool:
    return any(not any(plate.iterdir()) for plate in fence.glob("plate_*5*"))


if __name__ == "__main__":
    main()
