"""Staging roots: registered once, known by the tokens at their tops."""

import errno
import os
from contextlib import ExitStack
from datetime import datetime

from django.conf import settings
from django.db import transaction

from cleanup.models import StagingRoot
from cleanup.staging import kernel, layout, tree
from cleanup.staging.datadir import DataDir


class RegistrationError(Exception):
    """Why a staging root cannot be registered, as a sentence for a person."""


def register(
    name: str,
    path: str,
    *,
    nas_path: str = "",
    allow_same_filesystem: bool = False,
    accept_empty: bool = False,
    now: datetime,
) -> StagingRoot:
    """Register a staging root of this host with its NAS root, or complete a registration made earlier.

    Lays a token at the top of each, or adopts the one that is there; a directory that is empty may be a mount point
    without its disk, so it gets no token unless `accept_empty`, and nothing is done there until it has one. Also tries
    the rename that a clear needs, and lays the reserves. The same name and path again is harmless.

    Raises RegistrationError for whatever must not be a staging root.
    """
    if not name or not name.isprintable() or len(name) > 64 or name != name.strip():
        raise RegistrationError("A staging root needs a short printable name.")
    path = _real_directory(path, "staging root")
    nas_path = _real_directory(nas_path, "NAS root") if nas_path else ""
    if missing := kernel.missing_calls():
        raise RegistrationError(f"This kernel lacks {', '.join(missing)}, without which nothing can be cleared safely.")
    existing = StagingRoot.objects.filter(name=name).first()
    if existing and (existing.host, existing.path) != (settings.EXLAB_HOST, path):
        raise RegistrationError(f"The name {name} stands for {existing.path} on {existing.host} already.")
    _refuse_overlaps(path, nas_path, existing)
    root = existing or StagingRoot(name=name, host=settings.EXLAB_HOST, path=path, created_at=now)
    if nas_path and root.nas_path and root.nas_path != nas_path:
        raise RegistrationError(f"{name} has the NAS root {root.nas_path} already.")
    root.nas_path = nas_path or root.nas_path
    root.allow_same_filesystem = allow_same_filesystem or root.allow_same_filesystem
    _refuse_same_filesystem(root)
    root.token = _token(root.path, root.token, accept_empty=accept_empty, staging=True)
    if root.nas_path:
        root.nas_token = _token(root.nas_path, root.nas_token, accept_empty=accept_empty, staging=False)
    _refuse_known_tokens(root)
    DataDir(str(settings.EXLAB_DATA_DIR)).lay_reserve()
    with transaction.atomic():
        root.full_clean(exclude=["token", "nas_token"])
        root.save()
    return root


def inspect_place(root: StagingRoot, *, path: str = "", nas_path: str = "") -> StagingRoot:
    """A registered root as it would be in another place, unsaved, with the tokens that were found there. Reads only.

    An empty `path` or `nas_path` leaves that side as it is. An empty staging token is laid by `prepare_place`; a NAS
    root must carry one, since nobody would know it again if its share were not mounted just now.

    Raises RegistrationError for whatever must not be a staging root.
    """
    moved = StagingRoot.objects.get(pk=root.pk)
    moved.path = _real_directory(path, "staging root") if path else root.path
    moved.nas_path = _real_directory(nas_path, "NAS root") if nas_path else root.nas_path
    if path or nas_path:
        _refuse_overlaps(moved.path, moved.nas_path, root)
        _refuse_same_filesystem(moved)
    if path:
        moved.token = _carried(moved.path)
    if nas_path:
        moved.nas_token = _carried(moved.nas_path)
        if not moved.nas_token:
            raise RegistrationError(
                f"{moved.nas_path} carries no token: is the NAS mounted? {_by_hand(moved.nas_path)}"
            )
    _refuse_known_tokens(moved)
    for here, token, other in (
        (moved.path, moved.token, root.nas_token),
        (moved.nas_path, moved.nas_token, root.token),
    ):
        if token and token == other:
            raise RegistrationError(f"{here} carries the token of the other side of {root.name}: it is that very disk.")
    return moved


def prepare_place(moved: StagingRoot) -> None:
    """Make a staging root ready in its new place: token, rename and reserve as for `register`.

    Raises RegistrationError where that cannot be done.
    """
    moved.token = _token(moved.path, moved.token, accept_empty=False, staging=True)
    if not moved.token:
        raise RegistrationError(f"{moved.path} is empty by now: is its disk mounted?")


def _carried(path: str) -> str:
    """The token at the top of a directory that is not empty, or an empty text. Raises RegistrationError."""
    try:
        with layout.opened(layout.open_root(path)) as root:
            found = layout.read_token(root)
            if found is None and not layout.holds_anything(root):
                raise RegistrationError(f"{path} is empty: is its disk mounted?")
    except ValueError:
        raise RegistrationError(f"The token file at the top of {path} holds no UUID.") from None
    except OSError as error:
        raise RegistrationError(f"{path} cannot be read: {os.strerror(error.errno or 0)}.") from None
    return found or ""


def _by_hand(path: str) -> str:
    return f"Write a UUID into {path}/{layout.TOKEN.decode()} yourself, then try again."


def shares_its_disk(root: StagingRoot) -> bool:
    """Whether the data directory lies on the same filesystem as a staging root, and fills up with it."""
    try:
        return os.stat(root.path).st_dev == os.stat(settings.EXLAB_DATA_DIR).st_dev
    except OSError:
        return False


def _real_directory(path: str, what: str) -> str:
    try:
        real = os.path.realpath(path, strict=True)
    except OSError as error:
        raise RegistrationError(f"The {what} {path} cannot be found: {os.strerror(error.errno or 0)}.") from None
    if not os.path.isdir(real):
        raise RegistrationError(f"The {what} {path} is not a directory.")
    if real == "/":
        raise RegistrationError(f"The {what} must not be /.")
    return real


def _refuse_overlaps(path: str, nas_path: str, existing: StagingRoot | None) -> None:
    """No root may lie in another: what is a twin for one must never be a staging copy for the other."""
    others = StagingRoot.objects.filter(host=settings.EXLAB_HOST)
    if existing:
        others = others.exclude(pk=existing.pk)
    taken = [(other.path, f"the staging root {other.name}") for other in others]
    taken += [(other.nas_path, f"the NAS root of {other.name}") for other in others if other.nas_path]
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


def _refuse_same_filesystem(root: StagingRoot) -> None:
    if not root.nas_path or root.allow_same_filesystem:
        return
    try:
        one = os.stat(root.path).st_dev == os.stat(root.nas_path).st_dev
    except OSError as error:
        raise RegistrationError(f"{error.filename} cannot be found: {os.strerror(error.errno or 0)}.") from None
    if one:
        raise RegistrationError(
            f"{root.nas_path} lies on the same filesystem as {root.path}: that is no second copy. "
            "Is the NAS mounted? For a trial, --allow-same-filesystem accepts it."
        )


def _refuse_known_tokens(root: StagingRoot) -> None:
    """The same disk may be mounted twice, even over the network: its token gives it away.

    A NAS root that is a staging disk under another name would prove every run by the run itself.
    """
    others = StagingRoot.objects.exclude(pk=root.pk)
    staging = {other.token: other.name for other in others if other.token}
    taken = staging | {other.nas_token: f"the NAS root of {other.name}" for other in others if other.nas_token}
    if root.token and root.token in taken:
        raise RegistrationError(f"{root.path} carries the token of {taken[root.token]}: it is that very disk.")
    if root.token:
        staging[root.token] = root.name
    if root.nas_token in staging:
        raise RegistrationError(
            f"{root.nas_path} carries the token of the staging root {staging[root.nas_token]}: it is no second copy, "
            "but that very disk. If the token file was only copied there, remove it there."
        )


def _token(path: str, known: str, *, accept_empty: bool, staging: bool) -> str:
    """The token at the top of a root, laid if need be; empty where the directory is."""
    with ExitStack() as stack:
        try:
            root = stack.enter_context(layout.opened(layout.open_root(path)))
            found = layout.read_token(root)
            if known and found != known:
                carries = f"carries the token {found}" if found else "carries no token"
                raise RegistrationError(f"{path} {carries}, but {known} was registered. Is the right disk mounted?")
            if found is None and not accept_empty and not layout.holds_anything(root):
                return ""
            token = tree.lay_token(root)
            if staging:
                tree.probe(root)
                tree.lay_reserve(root)
        except ValueError:
            raise RegistrationError(f"The token file at the top of {path} holds no UUID.") from None
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOSYS):
                raise RegistrationError(f"The filesystem of {path} lacks the rename that a safe clear needs.") from None
            by_hand = "" if staging else f" {_by_hand(path)}"
            problem = os.strerror(error.errno or 0)
            raise RegistrationError(f"{path} cannot be prepared: {problem}.{by_hand}") from None
    return token
