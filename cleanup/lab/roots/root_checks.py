"""What must not be a staging root or its NAS root."""

import os

from django.conf import settings

from cleanup.lab.nas.nas_roots import nas_roots
from cleanup.models import StagingRoot
from cleanup.storage.nas import way_to_twin
from cleanup.storage.root_files import markers

# The system's own folders, with all below them, and those in which only folders may be registered.
_SYSTEM = ("/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/sbin", "/sys", "/usr")
_SYSTEM_TOPS = ("/dev", "/home", "/root", "/run", "/tmp", "/var")  # noqa: S108  # a name to refuse


class RegistrationError(Exception):
    """A staging root cannot be registered; the message is a sentence."""


def real_directory(path: str, what: str) -> str:
    try:
        real = os.path.realpath(path, strict=True)
    except OSError as error:
        raise RegistrationError(f"The {what} {path} cannot be found: {os.strerror(error.errno or 0)}.") from None
    if not os.path.isdir(real):
        raise RegistrationError(f"The {what} {path} is not a directory.")
    refuse_system(real, what)
    return real


def refuse_name(name: str) -> None:
    """Raises RegistrationError for what names no staging root."""
    if not name or not name.isprintable() or len(name) > 64 or name != name.strip():
        raise RegistrationError("A staging root needs a short printable name.")


def refuse_system(real: str, what: str) -> None:
    """Refuse a folder of the system, given without links. Raises RegistrationError."""
    if real == "/":
        raise RegistrationError(f"The {what} must not be /.")
    if real in _SYSTEM_TOPS or any(real == top or real.startswith(f"{top}/") for top in _SYSTEM):
        raise RegistrationError(f"The {what} must not be {real}: that is a folder of the system.")


def refuse_overlaps(path: str, nas_path: str, root: StagingRoot) -> None:
    """Refuse a root that lies in another: twins must not be staging copies.

    Raises RegistrationError.
    """
    others = StagingRoot.objects.filter(host=settings.EXLAB_HOST)
    if root.pk is not None:
        others = others.exclude(pk=root.pk)
    taken = [(other.path, f"the staging root {other.name}") for other in others]
    taken += [(nas.path, f"the NAS root of {other.name}") for other in others for nas in nas_roots(other)]
    if nas_path:
        taken.append((nas_path, "its own NAS root"))
    for other_path, what in taken:
        if _overlap(path, other_path):
            raise RegistrationError(f"{path} and {what}, {other_path}, lie one in the other.")
    for other in others:
        if nas_path and _overlap(nas_path, other.path):
            raise RegistrationError(f"The NAS root {nas_path} and the staging root {other.name} lie one in the other.")
    data = os.path.realpath(settings.EXLAB_DATA_DIR)
    if data == path or data.startswith(path + "/"):
        raise RegistrationError(f"The data directory {data} lies in {path}; keep it elsewhere.")


def _overlap(one: str, other: str) -> bool:
    return os.path.commonpath([one, other]) in (one, other)


def refuse_same_filesystem(root: StagingRoot, nas_path: str) -> None:
    if not nas_path or root.allow_same_filesystem:
        return
    try:
        one = os.stat(root.path).st_dev == os.stat(nas_path).st_dev
    except OSError as error:
        raise RegistrationError(f"{error.filename} cannot be found: {os.strerror(error.errno or 0)}.") from None
    if one:
        raise RegistrationError(
            f"{nas_path} lies on the same filesystem as {root.path}: that is no second copy. "
            "Is the NAS mounted? For a trial, --allow-same-filesystem accepts it."
        )


def refuse_known_tokens(root: StagingRoot) -> None:
    """Refuse a root with another's token: it is the same disk.

    On one disk runs would prove themselves. Raises RegistrationError.
    """
    others = StagingRoot.objects.exclude(pk=root.pk)
    staging = {other.token: other.name for other in others if other.token}
    taken = staging | {nas.token: f"the NAS root of {other.name}" for other in others for nas in nas_roots(other)}
    if root.token and root.token in taken:
        raise RegistrationError(f"{root.path} carries the token of {taken[root.token]}: it is that very disk.")
    if root.token:
        staging[root.token] = root.name
    for nas in nas_roots(root):
        if nas.token in staging:
            raise RegistrationError(
                f"{nas.path} carries the token of the staging root {staging[nas.token]}: it is no second copy, "
                "but that very disk. If the token file was only copied there, remove it there."
            )


def refuse_staging_marker(root: int, path: str) -> None:
    """Refuse a NAS root that shows a staging disk: runs would prove themselves.

    Raises RegistrationError, OSError.
    """
    try:
        way_to_twin.Ways(path).ask(root, b".", recent=False)
    except markers.IsStaging as error:
        raise RegistrationError(
            f"{path} shows a staging disk: {error.problem.detail}. Mount the NAS alone. "
            "If a mirror copied the marker there, delete it there."
        ) from None
