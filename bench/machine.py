"""What was measured on, and with which versions."""

import hashlib
import os
import platform
import sqlite3
import ssl
import subprocess
from pathlib import Path

from bench import peers
from cleanup.storage import handles
from cleanup.storage.mounts import mountinfo


def describe(place: Path) -> dict[str, str]:
    """The machine, the filesystem of `place`, and the programs, each in a few words."""
    return {
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "load": ", ".join(f"{load:.1f}" for load in os.getloadavg()),
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": _filesystem(place),
        "python": f"{platform.python_version()}, {ssl.OPENSSL_VERSION}, SQLite {sqlite3.sqlite_version}"
        + ("" if "sha256" in hashlib.algorithms_available else ", no sha256"),
        **{name: _version(name) for name in peers.PROGRAMS},
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _filesystem(place: Path) -> str:
    with handles.opened(os.open(place, handles.DIRECTORY)) as folder:
        mount = mountinfo.mount_of(folder)
    return f"{mount.fstype} ({mount.source})"


def _version(name: str) -> str:
    if peers.missing([name]):
        return "missing"
    words = [name, "version" if name == "rclone" else "--version"]
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"})
    return next(iter(done.stdout.splitlines()), "unknown")
