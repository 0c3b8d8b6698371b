"""The directories of this host that a mount of rclone shows."""

import os
import re
from collections.abc import Iterator, Mapping

from cleanup.storage.mounts.fuse import Server, servers_of
from cleanup.storage.mounts.mountinfo import Mount

Remotes = Mapping[str, Mapping[str, str]]

# A limit for remotes of remotes, so that a circle ends.
_DEEPEST = 5
# How a union treats one of its upstreams.
_TREATMENT = re.compile(r":(ro|nc|writeback)$")
_QUOTED_OR_PLAIN = r"(?:remote|upstreams)=(?:\"([^\"]*)\"|'([^']*)'|([^,:]*))"


def local_paths(mount: Mount) -> list[str]:
    """Returns the directories of this host that a mount shows, by its configuration."""
    found = [mount.source] if mount.source.startswith("/") else []
    for server in servers_of(mount):
        remotes = read(server)
        for argument in server.arguments[1:]:
            if ":" in argument and not argument.startswith("-"):
                found += _expand(argument, remotes, _DEEPEST)
    return found


def read(server: Server) -> Remotes:
    """Returns a process's remotes; none if the configuration is unreadable or encrypted."""
    given = [value for name, value in server.options() if name == "config"]
    variables = dict(variable.partition("=")[::2] for variable in server.environment)
    home = variables.get("XDG_CONFIG_HOME") or f"{variables.get('HOME', '')}/.config"
    path = (given or [variables.get("RCLONE_CONFIG") or f"{home}/rclone/rclone.conf"])[-1]
    import configparser  # long to import, and needed by few mounts

    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        with open(server.resolve(path), encoding="utf-8", errors="surrogateescape") as file:
            parser.read_file(file)
    except (OSError, configparser.Error):
        return {}
    return {name: parser[name] for name in parser.sections()}


def _expand(remote: str, remotes: Remotes, depth: int) -> Iterator[str]:
    if remote.startswith("/"):
        yield remote
    if remote.startswith("/") or not depth:
        return
    if remote.startswith(":"):  # the command line describes it whole
        head, _, below = remote.rpartition(":")
        targets = ["".join(match) for match in re.findall(_QUOTED_OR_PLAIN, head)]
    else:
        name, _, below = remote.partition(":")
        section = remotes.get(name, {})
        targets = [section[key] for key in ("remote", "upstreams") if key in section]
    for target in targets:
        for folder, one in _split(target):
            # Each upstream of a `combine` is one folder and shows nothing below the others.
            inner = below.removeprefix(folder).strip("/") if f"{below}/".startswith(f"{folder}/") else below
            if folder and below and inner == below:
                continue
            for path in _expand(one, remotes, depth - 1):
                yield os.path.normpath(f"{path}/{inner}")


def _split(target: str) -> Iterator[tuple[str, str]]:
    import shlex  # as above

    try:
        words = shlex.split(target)
    except ValueError:
        words = target.split()
    for word in words:
        upstream = _TREATMENT.sub("", word)
        name, equals, rest = upstream.partition("=")
        yield (name, rest) if equals and "/" not in name and ":" not in name else ("", upstream)
