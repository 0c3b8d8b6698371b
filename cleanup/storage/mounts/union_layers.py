"""The directories that a union mount shows as one."""

import glob
import os
import re
from collections.abc import Iterable, Iterator

from cleanup.storage.mounts.fuse import Server, servers_of
from cleanup.storage.mounts.mountinfo import Mount

# The mounting program escapes a separator within a path.
_COLON = re.compile(r"(?<!\\):+")
_ESCAPED = re.compile(r"\\(.)")
# Only mhddfs separates its branches by commas.
_LIST = re.compile(r":|,(?=/)")
# mergerfs, unionfs-fuse and aufs write this behind a branch: =RW, =NC,20G, =ro+wh.
_MODE = re.compile(r"=(rw|ro|nc|rr)([,+].*)?$", re.IGNORECASE)
_MERGERFS_BRANCHES = "user.mergerfs.branches"
_BRANCHED = {"fuse.mergerfs", "fuse.mhddfs", "fuse.unionfs", "fuse.unionfs-fuse"}
# Programs that show one directory in another way, and name it as their source.
_VIEWS = {"fuse", "fuse.bindfs", "fuse.encfs", "fuse.gocryptfs", "fuse.cryfs", "ecryptfs"}


def layers_of(mount: Mount) -> list[str]:
    """Returns the known directories beneath a union mount; none for others."""
    if mount.fstype == "overlay":
        return list(_overlay(mount.options))
    if mount.fstype == "fuse.fuse-overlayfs":
        return [path for server in servers_of(mount) for path in _served_overlay(server)]
    if mount.fstype in _BRANCHED:
        return branches_of(mount)
    if mount.fstype == "aufs":
        return list(_aufs(mount))
    if mount.fstype in _VIEWS and mount.source.startswith("/"):
        return [mount.source]
    return []


def branches_of(mount: Mount) -> list[str]:
    """Returns the branches of mergerfs and its like."""
    if mount.fstype == "fuse.mergerfs":
        try:
            said = os.getxattr(f"{mount.mount_point}/.mergerfs", _MERGERFS_BRANCHES)
        except OSError:
            pass  # it may be set to answer no attributes
        else:
            return list(split_branches(os.fsdecode(said)))
    found = [path for server in servers_of(mount) for path in _served_branches(server)]
    return [path for path in [*found, *split_branches(mount.source)] if path != mount.mount_point]


def split_branches(text: str) -> Iterator[str]:
    """Yields the directories of a list such as `/a=RW:/b=NC,20G`."""
    for branch in _LIST.split(text):
        if path := _MODE.sub("", branch):
            yield path


def _overlay(options: Iterable[str]) -> Iterator[str]:
    for option in options:
        name, _, value = option.partition("=")
        if name == "lowerdir":
            for path in _COLON.split(value):
                yield _ESCAPED.sub(r"\1", path)
        elif name in ("upperdir", "lowerdir+", "datadir+"):
            yield _ESCAPED.sub(r"\1", value)


def _served_overlay(server: Server) -> Iterator[str]:
    for name, value in server.options():
        if name in ("lowerdir", "upperdir"):
            yield from filter(None, map(server.resolve, _COLON.split(value)))


def _served_branches(server: Server) -> Iterator[str]:
    # Every argument may be a list of branches; a path that is no directory drops out when it is opened.
    for argument in server.arguments[1:]:
        if argument.startswith("-") or "/" not in argument:
            continue
        for path in split_branches(argument):
            resolved = server.resolve(path)
            yield from glob.glob(resolved) or [resolved]


def _aufs(mount: Mount) -> Iterator[str]:
    for option in mount.options:
        name, _, value = option.partition("=")
        if name == "si":
            for path in glob.glob(f"/sys/fs/aufs/si_{glob.escape(value)}/br[0-9]*"):
                with open(path) as file:
                    yield from split_branches(file.read().strip())
        elif name in ("br", "dirs"):
            yield from split_branches(value)
        elif option.startswith("br:"):
            yield from split_branches(option[3:])
