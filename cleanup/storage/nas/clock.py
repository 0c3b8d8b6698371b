"""The NAS's clock: the time that its server gives to a new folder."""

import contextlib
import os
import time
import uuid
from typing import NamedTuple

from cleanup.storage import linux
from cleanup.storage.mounts import places
from cleanup.storage.mounts.mountinfo import Mount, mount_of

PREFIX = b".exlab-clock-"
# The filesystems whose server dates a new folder. Other kinds may do so too, but are not asked.
SERVER_DATES = frozenset({"cifs", "fuse.sshfs", "nfs", "nfs4", "smb3"})
_MOUNTS = "/proc/self/mounts"


class NoClock(Exception):
    """Why a NAS root has no clock that is independent of this host's."""


class Reading(NamedTuple):
    """The server's clock between two readings of ours, in nanoseconds since 1970."""

    before_ns: int
    server_ns: int
    after_ns: int


def any_mounted() -> bool:
    """Whether this host has a mount whose server dates new folders. Touches no mount."""
    with open(_MOUNTS, "rb") as table:
        return any(os.fsdecode(line.split(b" ")[2]) in SERVER_DATES for line in table)


def read(root: int) -> Reading:
    """Returns the time of an open NAS root's server. Raises NoClock, OSError."""
    expect_own_clock(mount_of(root))
    # A folder holds no bytes that a client could keep back and date itself.
    name = PREFIX + uuid.uuid4().hex.encode()  # no cache can know this name
    before = time.time_ns()
    try:
        os.mkdir(name, 0o700, dir_fd=root)
    except OSError as error:
        raise NoClock(f"nothing may be written there ({os.strerror(error.errno or 0)})") from None
    try:
        # No client sets ctime; `fresh`, because attributes may be cached.
        server = linux.status(root, name, fresh=True).ctime_ns
    finally:
        os.rmdir(name, dir_fd=root)
    return Reading(before, server, time.time_ns())


def expect_own_clock(mount: Mount) -> None:
    """Raises NoClock unless a mount's server is known to be another host."""
    # On a local filesystem, or one that this host serves, the time comes from our own kernel and proves nothing.
    if mount.fstype not in SERVER_DATES:
        raise NoClock(f"its times are not a server's (it is mounted as {mount.fstype})")
    remote = places.remote_of(mount)
    if remote is None:
        raise NoClock(f"its mount does not tell its server ({mount.source})")
    hosts, own = remote[0], places.own_names()
    addresses = {address for host in hosts for address in _addresses(host)}
    if not addresses:
        raise NoClock(f"where its server is cannot be told ({mount.source})")
    if (hosts | addresses) & own or any(address.startswith("127.") for address in addresses):
        raise NoClock(f"it is served from this host, or through it ({mount.source})")


def _addresses(host: str) -> set[str]:
    import socket  # long to import, and needed by few questions

    with contextlib.suppress(OSError, UnicodeError):
        return {str(found[4][0]).partition("%")[0] for found in socket.getaddrinfo(host, None)}
    return set()
