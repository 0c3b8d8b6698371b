"""Caches of mounts that hold writes back or answer from this host."""

import os
import re
from collections.abc import Callable

from cleanup.storage.mounts.fuse import Server, servers_of
from cleanup.storage.mounts.mountinfo import Mount

_OFF = {"", "off", "0", "false", "no"}
_DAVFS_CONFIGURATION = "/etc/davfs2/davfs2.conf"
# Seconds that davfs2 waits after a file is closed, where its configuration says nothing.
_DAVFS_DELAY = "10"
_WORDS = re.compile(r'"([^"]*)"|(\S+)')


def visible(mount: Mount) -> str:
    """Returns the cache that a mount has on, in words; empty for none seen."""
    if is_davfs(mount):
        return _davfs(mount)
    reader = _READERS.get(mount.fstype)
    if reader is None:
        return ""
    return next(filter(None, map(reader, servers_of(mount))), "")


def is_davfs(mount: Mount) -> bool:
    """Whether davfs2 serves a mount; its type may be plain `fuse`."""
    web = mount.source.startswith(("http://", "https://"))
    return mount.fstype in ("davfs", "fuse.davfs", "fuse.davfs2") or (mount.fstype == "fuse" and web)


def _rclone(server: Server) -> str:
    named = [value for name, value in server.options() if name.endswith("vfs-cache-mode")]
    for variable in server.environment:
        name, _, value = variable.partition("=")
        if name == "RCLONE_VFS_CACHE_MODE":
            named.insert(0, value)
    mode = named[-1].lower() if named else ""
    return "" if mode in _OFF else f"vfs-cache-mode {mode}"


def _named(*names: str) -> Callable[[Server], str]:
    def read(server: Server) -> str:
        return next((f"{name} {value}" for name, value in server.options() if name in names and value not in _OFF), "")

    return read


def _juicefs(server: Server) -> str:
    given = [value.lower() for name, value in server.options() if name == "writeback"]
    return "writeback" if given and given[-1] not in ("0", "f", "false") else ""


def _davfs(mount: Mount) -> str:
    # davfs2 uploads a closed file some seconds later, unless its configuration sets `delay_upload 0`.
    try:
        with open(_DAVFS_CONFIGURATION, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    except OSError:
        text = ""
    delay = davfs_delay(text, mount.mount_point)
    return "" if delay == "0" else f"delay_upload {delay}"


def davfs_delay(configuration: str, mount_point: str) -> str:
    """Returns the `delay_upload` seconds of a mount point from a davfs2 configuration."""
    delays: dict[str, str] = {}
    section = ""
    for line in configuration.splitlines():
        words = [quoted or plain for quoted, plain in _WORDS.findall(line.partition("#")[0])]
        if words and words[0].startswith("[") and words[-1].endswith("]"):
            section = os.path.normpath(" ".join(words)[1:-1])
        elif words[:1] == ["delay_upload"] and len(words) == 2:
            delays[section] = words[1]
    return delays.get(mount_point, delays.get("", _DAVFS_DELAY))


_READERS: dict[str, Callable[[Server], str]] = {
    "fuse.rclone": _rclone,
    "fuse.s3fs": _named("use-cache"),
    "fuse.juicefs": _juicefs,
    "fuse.goofys": _named("cache"),
    "fuse.gcsfuse": _named("cache-dir"),
    "fuse.geesefs": _named("cache"),
}
