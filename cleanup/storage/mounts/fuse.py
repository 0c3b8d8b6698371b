"""The programs that serve FUSE mounts, with their command lines and settings."""

import contextlib
import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass

from cleanup.storage.mounts.mountinfo import Mount

_SETTINGS = {"RCLONE_VFS_CACHE_MODE", "RCLONE_CONFIG", "XDG_CONFIG_HOME", "HOME"}


@dataclass(frozen=True, slots=True)
class Server:
    """A process that serves a mount; empty `folder`: unknown working folder."""

    arguments: tuple[str, ...]
    folder: str = ""
    environment: tuple[str, ...] = ()

    def options(self) -> Iterator[tuple[str, str]]:
        """Yields each option and value, names in small letters with `-` for `_`."""
        arguments = self.arguments[1:]
        for position, argument in enumerate(arguments):
            following = arguments[position + 1] if position + 1 < len(arguments) else ""
            if argument.startswith("--"):
                name, equals, value = argument[2:].partition("=")
                # The next argument may be the value, or another option: both readings are given.
                yield _plain(name), value if equals else following
            if argument in ("-o", "--option"):
                yield from _comma_options(following)
            elif argument.startswith("-o"):
                yield from _comma_options(argument[2:])

    def short(self, letter: str) -> Iterator[str]:
        """Yields the values of a short option: `-p 22` or `-p22`."""
        arguments = self.arguments[1:]
        for argument, following in zip(arguments, (*arguments[1:], ""), strict=True):
            if argument.startswith(f"-{letter}"):
                yield argument[2:] or following

    def resolve(self, path: str) -> str:
        """Returns a path as the process means it; empty if unknown."""
        if not path.startswith("/") and not self.folder:
            return ""
        return os.path.normpath(os.path.join(self.folder, path))


def _comma_options(text: str) -> Iterator[tuple[str, str]]:
    for option in text.split(","):
        name, _, value = option.partition("=")
        yield _plain(name), value


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "-")


def servers_of(mount: Mount) -> list[Server]:
    """Returns the visible processes of this host that serve a FUSE mount."""
    program = mount.fstype.partition(".")[2] or "dav"
    found = []
    for path in glob.glob("/proc/[0-9]*"):
        server = _server(path)
        # A host has hundreds of processes: only those that may serve such a mount are examined.
        if server is None or not (_names(server, mount.mount_point) or program in "\0".join(server.arguments)):
            continue
        # By the FUSE connection that it holds; by its arguments where the kernel does not name the connection.
        held = _connections(path)
        if os.minor(mount.device) in held if held else held is None and _names(server, mount.mount_point):
            found.append(server)
    return found


def _server(process: str) -> Server | None:
    try:
        with open(f"{process}/cmdline", "rb") as file:
            arguments = os.fsdecode(file.read()).rstrip("\0").split("\0")
    except OSError:
        return None
    folder, environment = "", ""
    with contextlib.suppress(OSError):
        folder = os.readlink(f"{process}/cwd")
        with open(f"{process}/environ", "rb") as file:
            environment = os.fsdecode(file.read())
    # An environment holds passwords, so only the settings of a mount are kept.
    settings = (variable for variable in environment.split("\0") if variable.partition("=")[0] in _SETTINGS)
    return Server(tuple(arguments), folder, tuple(settings))


def _names(server: Server, mount_point: str) -> bool:
    # The last step of a path is not resolved: the mount itself would answer.
    meant = filter(None, map(server.resolve, filter(None, server.arguments[1:])))
    return any(mount_point in (path, _without_links(path)) for path in meant)


def _without_links(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


def _connections(process: str) -> set[int] | None:
    found, unknown = set(), False
    try:
        names = os.listdir(f"{process}/fd")
    except OSError:
        return None
    for name in names:
        try:
            if os.readlink(f"{process}/fd/{name}") == "/dev/fuse":
                connection = _connection(f"{process}/fdinfo/{name}")
                found |= connection
                unknown |= not connection
        except (OSError, ValueError):
            continue
    return None if unknown and not found else found


def _connection(path: str) -> set[int]:
    with open(path, "rb") as file:
        return {int(line.partition(b":")[2]) for line in file if line.startswith(b"fuse_connection:")}
