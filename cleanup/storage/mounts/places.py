"""Where a directory really lies. Unseen storage is left out, so a comparison proves sameness, never difference."""

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from cleanup.storage import linux
from cleanup.storage.mounts import block_devices, caches, rclone, union_layers
from cleanup.storage.mounts.fuse import servers_of
from cleanup.storage.mounts.mountinfo import Mount, mount_of

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK
# A limit for unions of unions, so that a loop ends.
_DEEPEST = 4
_BTRFS_FS_INFO = 0x8400941F
_GET_UUID = 0x80111500
_BTRFS_INFO_BYTES = 1024


@dataclass(frozen=True)
class Place:
    """Where a directory lies, as values.

    `path` in the filesystem, `name` on this host; `signs`: names of the storage, the same everywhere; `beneath`: the
    layers of a union; `shown`: directories of this host that are served here; `cache`: the cache that holds writes
    back; `mounting`: identity of the mount, or empty.
    """

    mount: Mount
    device: int
    path: str
    name: str
    signs: tuple[str, ...] = ()
    beneath: tuple["Place", ...] = ()
    shown: tuple["Place", ...] = ()
    cache: str = ""
    mounting: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        mount = values["mount"]
        return cls(
            mount=Mount(**{**mount, "options": tuple(mount["options"])}),
            device=values["device"],
            path=values["path"],
            name=values["name"],
            signs=tuple(values["signs"]),
            beneath=tuple(cls.from_json(one) for one in values["beneath"]),
            shown=tuple(cls.from_json(one) for one in values["shown"]),
            cache=values["cache"],
            mounting=values["mounting"],
        )

    def all_beneath(self) -> Iterator["Place"]:
        """Yields this place and every layer beneath it."""
        yield self
        for layer in self.beneath:
            yield from layer.all_beneath()

    @property
    def remote(self) -> tuple[frozenset[str], str] | None:
        return remote_of(self.mount)


def describe(descriptor: int) -> Place:
    """Returns where an open directory lies. Raises UnknownMount, OSError."""
    return _describe(descriptor, _DEEPEST)


def _describe(descriptor: int, depth: int) -> Place:
    mount = mount_of(descriptor)
    name = os.readlink(f"/proc/self/fd/{descriptor}")
    device = os.fstat(descriptor).st_dev
    signs = {
        *source_signs(mount),
        *_asked_signs(descriptor, mount),
        *block_devices.signs(device),
        *block_devices.signs(mount.device),
    }
    place = Place(
        mount=mount,
        device=device,
        path=_joined(mount.root, _below(name, mount.mount_point)),
        name=name,
        signs=tuple(sorted(signs)),
        cache=caches.visible(mount),
        mounting=_mounting(descriptor),
    )
    if not depth:
        return place
    inner = place.path.strip("/")
    return replace(
        place,
        beneath=tuple(_open_all(union_layers.layers_of(mount), inner, depth, device)),
        shown=tuple(_open_all(_served_from(mount), inner, depth, device)),
    )


def _mounting(descriptor: int) -> str:
    number = linux.mounting(descriptor)
    if number is None:
        return ""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return f"{file.read().strip()} {number}"


def _open_all(directories: list[str], inner: str, depth: int, device: int) -> Iterator[Place]:
    # `inner` need not exist there. Skipped are a directory that cannot be opened, a relative path, which only the
    # mounting program could resolve, and a directory on this `device`, which the mount itself covers by now.
    for directory in dict.fromkeys(filter(os.path.isabs, directories)):
        with contextlib.suppress(OSError):
            descriptor = os.open(directory, _DIRECTORY)
            try:
                if os.fstat(descriptor).st_dev == device:
                    continue
                place = _describe(descriptor, depth - 1)
            finally:
                os.close(descriptor)
            yield replace(place, path=_joined(place.path, inner), name=_joined(place.name, inner))


def _below(name: str, mount_point: str) -> str:
    if mount_point == "/":
        return name.strip("/")
    return name[len(mount_point) + 1 :] if name.startswith(f"{mount_point}/") else ""


def _joined(top: str, inner: str) -> str:
    return f"{top.rstrip('/')}/{inner}".rstrip("/") or "/"


def source_signs(mount: Mount) -> Iterator[str]:
    """Yields the ZFS pool or the device that a mount's source names."""
    if mount.fstype == "zfs":
        yield f"the ZFS pool {mount.source.partition('/')[0]}"
    if mount.source.startswith("/dev/") and not mount.is_fuse:  # many programs name /dev/fuse as their source
        yield f"the device {os.path.realpath(mount.source)}"


def filesystem_of(descriptor: int) -> str:
    """Returns a filesystem's name, one for all subvolumes and datasets that share space.

    Raises UnknownMount, OSError.
    """
    mount = mount_of(descriptor)
    signs = (*source_signs(mount), *_asked_signs(descriptor, mount))
    shared = (sign for sign in signs if sign.startswith(("the btrfs", "the ZFS")))
    return next(shared, f"device number {os.fstat(descriptor).st_dev}")


def _asked_signs(descriptor: int, mount: Mount) -> Iterator[str]:
    if mount.fstype == "btrfs":
        info = _ask(descriptor, _BTRFS_FS_INFO, _BTRFS_INFO_BYTES)
        if info is not None and any(info[16:32]):
            yield f"the btrfs filesystem {uuid.UUID(bytes=bytes(info[16:32]))}"
        return
    found = _ask(descriptor, _GET_UUID, 17)
    if found is not None and found[0] == 16 and any(found[1:17]):
        yield f"the filesystem {uuid.UUID(bytes=bytes(found[1:17]))}"


def _ask(descriptor: int, request: int, size: int) -> bytearray | None:
    answer = bytearray(size)
    try:
        fcntl.ioctl(descriptor, request, answer)
    except OSError:
        return None
    return answer


def remote_of(mount: Mount) -> tuple[frozenset[str], str] | None:
    """Returns a mount's server names and the path there; None without `host:/path`.

    A share's path begins with two slashes: it is no path in the server's filesystem.
    """
    if mount.fstype == "fuse.rclone":
        return None  # before the colon stands a name of its configuration, not a host
    if mount.source.startswith("//"):
        host, _, path = mount.source[2:].partition("/")
        path = f"//{path.casefold()}"
    else:
        host, colon, path = mount.source.partition(":/")
        if mount.source.startswith("["):
            host, colon, path = mount.source.partition("]:/")
        if not colon or "/" in host:
            return None
        path = f"/{path}"
    host = host.rpartition("@")[2].strip("[]").lower()
    if not host or host in ("http", "https"):
        return None
    return frozenset({host, *mount.values("addr")}), path.rstrip("/") or "/"


def _served_from(mount: Mount) -> list[str]:
    remote = remote_of(mount)
    if remote is not None:
        hosts, path = remote
        # NFS 4 calls the top of a server's exports `/`, wherever it lies; a share's name is no path.
        is_path = not path.startswith("//") and (path != "/" or mount.fstype != "nfs4")
        return [path] if is_path and hosts & own_names() and not _through_a_tunnel(mount) else []
    if mount.fstype == "fuse.rclone":
        return rclone.local_paths(mount)
    return [mount.source] if mount.is_fuse and mount.source.startswith("/") else []


def _through_a_tunnel(mount: Mount) -> bool:
    # Behind an unusual port of this host another host may answer.
    if mount.fstype == "fuse.sshfs":
        ports = [value for server in servers_of(mount) for name, value in server.options() if name == "port"]
        ports += [value for server in servers_of(mount) for value in server.short("p")]
        return bool(set(ports) - {"22"})
    return bool({*mount.values("port")} - {"0", "2049"})


def own_names() -> frozenset[str]:
    """Returns the names and addresses of this host. Asks no other host."""
    name = os.uname().nodename.lower()
    found = {"localhost", "localhost.localdomain", "ip6-localhost", "::1", name, name.partition(".")[0]}
    return frozenset(found | set(_addresses()))


def _addresses() -> Iterator[str]:
    import socket  # long to import, and needed by few mounts

    with contextlib.suppress(OSError), open("/proc/net/fib_trie") as file:
        address = ""
        for line in file:
            words = line.split()
            if words[:1] == ["|--"]:
                address = words[1]
            elif words[:3] == ["/32", "host", "LOCAL"]:
                yield address
    with contextlib.suppress(OSError), open("/proc/net/if_inet6") as file:
        for line in file:
            yield socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[0]))
