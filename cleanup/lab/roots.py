"""Staging roots: registered once, known by the tokens at their tops."""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from typing import Self

from django.conf import settings
from django.db import transaction

from cleanup.lab import first_nights, twins, two_places
from cleanup.lab.nas import nas_roots
from cleanup.lab.two_places import Remarks
from cleanup.models import StagingRoot
from cleanup.storage import errors, handles, linux, markers, reserve, run_paths, tokens
from cleanup.storage.datadir import DataDir
from cleanup.storage.nas import ways
from cleanup.storage.staging import fences
from cleanup.storage.twin_paths import NAMED, LayoutError, parse_layout

# Pairs of runs with one twin that a registration tells of.
_COLLISIONS_TOLD = 3


class RegistrationError(Exception):
    """Why a staging root cannot be registered, as a sentence for a person."""


class Laid:
    """What a registration has laid at the tops of roots, so that one that is refused leaves nothing behind."""

    def __init__(self) -> None:
        self._found: list[tuple[str, bytes]] = []

    @classmethod
    @contextmanager
    def unless_refused(cls) -> Iterator[Self]:
        """Take away at the end of a block what was laid in it, if the block ends with an error."""
        laid = cls()
        with ExitStack() as refused:
            refused.callback(laid._take_back)
            yield laid
            refused.pop_all()

    def note(self, path: str, name: bytes) -> None:
        """A file of this name was made at the top of a root; one that was there before is none of these."""
        self._found.append((path, name))

    def _take_back(self) -> None:
        for path, name in reversed(self._found):
            with suppress(OSError), handles.opened(handles.open_root(path)) as root:
                markers.take_back(root, name)


def register(
    name: str,
    path: str,
    *,
    nas_path: str = "",
    nas_layout: str | None = None,
    instrument_nas: Mapping[str, str] | None = None,
    allow_same_filesystem: bool = False,
    allow_union_nas: bool = False,
    nas_writes_through: bool = False,
    accept_empty: bool = False,
    now: datetime,
) -> StagingRoot:
    """Register a staging root of this host with its NAS root, or complete a registration made earlier.

    `nas_layout` says where twins lie below a NAS root (None: as it is, at first `run-path`); `instrument_nas` gives
    instruments, by equipment, NAS roots of their own. The flags can be given later, and stay.

    Lays a token at the top of each, or adopts the one that is there; a directory that is empty may be a mount point
    without its disk, so it gets no token unless `accept_empty`, and nothing is done there until it has one. Also tries
    the rename that a clear needs, and lays the reserves. The same name and path again is harmless.

    A NAS whose mount makes it no second place is registered all the same, since mounts change and every comparison
    judges them anew: `remarks` says what stands against it now.

    Raises RegistrationError for whatever must not be a staging root.
    """
    if not name or not name.isprintable() or len(name) > 64 or name != name.strip():
        raise RegistrationError("A staging root needs a short printable name.")
    path = _real_directory(path, "staging root")
    nas_path = _real_directory(nas_path, "NAS root") if nas_path else ""
    own = _instrument_places(instrument_nas or {})
    if missing := linux.missing_calls():
        raise RegistrationError(f"This kernel lacks {', '.join(missing)}, without which nothing can be cleared safely.")
    root = _root_named(name, path, now)
    before = first_nights.place_of(root) if root.pk is not None else None
    for nas in (nas_path, *own.values()):
        _refuse_overlaps(path, nas, root)
    _set_nas(root, nas_path, nas_layout)
    root.allow_same_filesystem = allow_same_filesystem or root.allow_same_filesystem
    root.allow_union_nas = allow_union_nas or root.allow_union_nas
    root.nas_writes_through = nas_writes_through or root.nas_writes_through
    for nas in filter(None, [root.nas_path, *own.values()]):
        _refuse_same_filesystem(root, nas)
    with Laid.unless_refused() as laid:
        _lay_tokens(root, own, laid, accept_empty=accept_empty)
        _refuse_known_tokens(root)
        _mark_nas_roots(root, laid)
        DataDir(str(settings.EXLAB_DATA_DIR)).lay_reserve()
        with transaction.atomic():
            root.full_clean(exclude=["token", "nas_token"])
            root.save()
            if first_nights.place_of(root) != before:
                first_nights.came(root, now, note="its NAS is another one" if before else "it was registered")
    twins.note_places(root)
    return root


def _root_named(name: str, path: str, now: datetime) -> StagingRoot:
    """The staging root of this name as it is registered on this host, or a new one. Raises RegistrationError."""
    existing = StagingRoot.objects.filter(name=name).first()
    if existing and (existing.host, existing.path) != (settings.EXLAB_HOST, path):
        raise RegistrationError(f"The name {name} stands for {existing.path} on {existing.host} already.")
    return existing or StagingRoot(name=name, host=settings.EXLAB_HOST, path=path, created_at=now)


def _set_nas(root: StagingRoot, nas_path: str, nas_layout: str | None) -> None:
    """Give a staging root its NAS root and a layout, where they are named. Raises RegistrationError."""
    if nas_path and root.nas_path and root.nas_path != nas_path:
        raise RegistrationError(f"{root.name} has the NAS root {root.nas_path} already.")
    root.nas_path = nas_path or root.nas_path
    if nas_layout is not None:
        root.nas_layout = _layout(nas_layout)
        if root.pk is not None:
            _refuse_collisions(root)


def _lay_tokens(root: StagingRoot, own: Mapping[str, str], laid: Laid, *, accept_empty: bool) -> None:
    """Lay or adopt the tokens of a staging root, its NAS root, and those of its instruments by equipment."""
    root.token = _token(root.path, root.token, laid, accept_empty=accept_empty, staging=True)
    if root.nas_path:
        root.nas_token = _token(root.nas_path, root.nas_token, laid, accept_empty=accept_empty, staging=False)
    for equipment, path in own.items():
        _register_instrument(root, equipment, path, laid, accept_empty=accept_empty)


def _instrument_places(given: Mapping[str, str]) -> dict[str, str]:
    """The NAS roots of instruments by equipment, as real directories. Raises RegistrationError."""
    for equipment in given:
        if not run_paths.is_folder_name(equipment):
            raise RegistrationError(f"{run_paths.show(equipment.encode())} is no name that an instrument can have.")
    return {equipment: _real_directory(path, f"NAS root of {equipment}") for equipment, path in given.items()}


def _register_instrument(root: StagingRoot, equipment: str, path: str, laid: Laid, *, accept_empty: bool) -> None:
    """Give an instrument a NAS root of its own, with the token that is there or gets laid."""
    known = root.instrument_nas.get(equipment, {"path": path, "token": ""})
    if known["path"] != path:
        raise RegistrationError(f"{equipment} has the NAS root {known['path']} already.")
    token = _token(path, known["token"], laid, accept_empty=accept_empty, staging=False)
    root.instrument_nas = {**root.instrument_nas, equipment: {"path": path, "token": token}}


def _layout(text: str) -> str:
    try:
        return parse_layout(text)
    except LayoutError as error:
        raise RegistrationError(str(error)) from None


def _refuse_collisions(root: StagingRoot) -> None:
    """A template of one's own must keep the known runs apart; under a layout with a name their runs are blocked."""
    pairs = twins.collisions(root, root.nas_layout) if root.nas_layout not in NAMED else []
    if pairs:
        one, other = pairs[0]
        raise RegistrationError(f"Under the layout {root.nas_layout} the runs {one} and {other} would have one twin.")


def inspect_place(
    root: StagingRoot, *, path: str = "", nas_path: str = "", instrument_nas: Mapping[str, str] | None = None
) -> StagingRoot:
    """A registered root as it would be in another place, unsaved, with the tokens that were found there. Reads only.

    An empty `path` or `nas_path` leaves that side as it is, and so do instruments that are not named. An empty staging
    token is laid by `prepare_place`; a NAS root must carry one, since it could not be known again if its share were not
    mounted just now.

    Raises RegistrationError for whatever must not be a staging root.
    """
    moved = StagingRoot.objects.get(pk=root.pk)
    moved.path = _real_directory(path, "staging root") if path else root.path
    moved.nas_path = _real_directory(nas_path, "NAS root") if nas_path else root.nas_path
    if path or nas_path:
        _refuse_overlaps(moved.path, moved.nas_path, root)
        _refuse_same_filesystem(moved, moved.nas_path)
    if path:
        moved.token = _carried(moved.path)
    if nas_path:
        moved.nas_token = _carried_by_nas(moved.nas_path)
    for equipment, place in _instrument_places(instrument_nas or {}).items():
        _refuse_overlaps(moved.path, place, root)
        _refuse_same_filesystem(moved, place)
        token = _carried_by_nas(place)
        moved.instrument_nas = {**moved.instrument_nas, equipment: {"path": place, "token": token}}
    _refuse_known_tokens(moved)
    others = [(moved.path, moved.token, nas.token) for nas in nas_roots(root)]
    others += [(nas.path, nas.token, root.token) for nas in nas_roots(moved)]
    for here, token, other in others:
        if token and token == other:
            raise RegistrationError(f"{here} carries the token of the other side of {root.name}: it is that very disk.")
    for nas in nas_roots(moved):
        if nas not in nas_roots(root):
            with suppress(OSError), handles.opened(handles.open_root(nas.path)) as directory:
                _refuse_staging_marker(directory, nas.path)
    return moved


def prepare_place(moved: StagingRoot) -> None:
    """Make a staging root ready in its new place: token, rename and reserve as for `register`.

    Raises RegistrationError where that cannot be done.
    """
    with Laid.unless_refused() as laid:
        moved.token = _token(moved.path, moved.token, laid, accept_empty=False, staging=True)
    if not moved.token:
        raise RegistrationError(f"{moved.path} is empty by now: is its disk mounted?")


def _carried(path: str) -> str:
    """The token at the top of a directory that is not empty, or an empty text. Raises RegistrationError."""
    try:
        with handles.opened(handles.open_root(path)) as root:
            found = tokens.read_token(root)
            if found is None and not handles.holds_anything(root):
                raise RegistrationError(f"{path} is empty: is its disk mounted?")
    except ValueError:
        raise RegistrationError(f"The token file at the top of {path} holds no UUID.") from None
    except OSError as error:
        raise RegistrationError(f"{path} cannot be read: {os.strerror(error.errno or 0)}.") from None
    return found or ""


def _carried_by_nas(path: str) -> str:
    """The token at the top of a NAS root, which must carry one. Raises RegistrationError."""
    token = _carried(path)
    if not token:
        raise RegistrationError(f"{path} carries no token: is the NAS mounted? {_by_hand(path)}")
    return token


def _by_hand(path: str) -> str:
    return f"Write a UUID into {path}/{tokens.TOKEN.decode()} yourself, then try again."


def remarks(root: StagingRoot) -> Remarks:
    """What a person should know of a registration that was made or completed a moment ago.

    Its problems are those of `two_places.remarks`; what it lacks yet is among the warnings. It touches the NAS in this
    process.
    """
    mounts = two_places.remarks(root)
    return Remarks(mounts.problems, (*_warnings(root), *mounts.warnings))


def _warnings(root: StagingRoot) -> Iterator[str]:
    by_path = {root.path: root.token} | {nas.path: nas.token for nas in nas_roots(root)}
    for path in (path for path, token in by_path.items() if not token):
        yield (
            f"{path} is empty, so perhaps it is not mounted: nothing is done there until this command is given again "
            "with its disk in place (or with --accept-empty)."
        )
    for one, other in twins.collisions(root, root.nas_layout)[:_COLLISIONS_TOLD]:
        yield f"{one} and {other} have one twin under the layout {root.nas_layout}: both stay."
    if not nas_roots(root):
        yield "No NAS root is registered: runs can be seen, and none can be proven."
    for path in malformed_markers(root):
        yield f"{path} begins like the marker of a staging disk and holds no UUID: it is ignored."
    if shares_its_disk(root):
        yield (
            f"The data directory {settings.EXLAB_DATA_DIR} lies on the same filesystem as {root.path}: when runs fill "
            "that disk, the database can hardly write either. Keep it elsewhere (EXLAB_DATA_DIR)."
        )


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


def _refuse_overlaps(path: str, nas_path: str, root: StagingRoot) -> None:
    """No root may lie in another: what is a twin for one must never be a staging copy for the other."""
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


def _refuse_same_filesystem(root: StagingRoot, nas_path: str) -> None:
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


def _refuse_known_tokens(root: StagingRoot) -> None:
    """The same disk may be mounted twice, even over the network: its token gives it away.

    A NAS root that is a staging disk under another name would prove every run by the run itself.
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


def _lay_staging_marker(root: int, path: str, token: str, laid: Laid) -> None:
    """Raises OSError where it cannot be made, RegistrationError where it is not seen."""
    marker = markers.staging_marker(token)
    if reserve.with_reserve(root, lambda: markers.lay_marker(root, marker)):
        laid.note(path, marker)
    if not markers.is_seen(root, marker):
        raise RegistrationError(f"{path} does not show what is written there: {run_paths.show(marker)} is not seen.")


def _refuse_staging_marker(root: int, path: str) -> None:
    """A NAS root at which, or above which, a staging disk is seen would prove its runs by themselves.

    Raises RegistrationError, OSError.
    """
    try:
        ways.Ways(path).ask(root, b".", recent=False)
    except markers.IsStaging as error:
        raise RegistrationError(
            f"{path} shows a staging disk: {error.problem.detail}. Mount the NAS alone. "
            "If a mirror copied the marker there, delete it there."
        ) from None


def _mark_nas_roots(root: StagingRoot, laid: Laid) -> None:
    """Lay the marker of each NAS root where it may be written; without it the token alone tells the NAS.

    One that is not mounted just now is left alone: nothing is laid on an empty mount point. Nor where a staging disk is
    seen, of which `two_places.remarks` speaks.
    """
    for nas in nas_roots(root):
        seen = (OSError, errors.WrongToken, RegistrationError)
        with suppress(*seen), handles.opened(handles.open_root(nas.path)) as directory:
            tokens.check_token(directory, nas.token)
            _refuse_staging_marker(directory, nas.path)
            marker = markers.nas_marker(nas.token)
            if markers.lay_marker(directory, marker):
                laid.note(nas.path, marker)


def malformed_markers(root: StagingRoot) -> list[str]:
    """What begins like a staging marker and holds no UUID at the tops of a root's NAS roots, by path."""
    found = []
    for nas in nas_roots(root):
        with suppress(OSError), handles.opened(handles.open_root(nas.path)) as directory:
            found += [
                f"{nas.path}/{run_paths.show(name)}" for name in markers.marks(markers.names_in(directory)).malformed
            ]
    return found


def _token(path: str, known: str, laid: Laid, *, accept_empty: bool, staging: bool) -> str:
    """The token at the top of a root, laid if need be; empty where the directory is."""
    with ExitStack() as stack:
        try:
            root = stack.enter_context(handles.opened(handles.open_root(path)))
            found = tokens.read_token(root)
            if known and found != known:
                carries = f"carries the token {found}" if found else "carries no token"
                raise RegistrationError(f"{path} {carries}, but {known} was registered. Is the right disk mounted?")
            if found is None and not accept_empty and not handles.holds_anything(root):
                return ""
            if found is None and not staging:
                _refuse_staging_marker(root, path)  # before anything is written there
            token = tokens.lay_token(root)
            if found is None:
                laid.note(path, tokens.TOKEN)
            if staging:
                fences.probe(root)
                if reserve.lay_reserve(root):
                    laid.note(path, reserve.RESERVE)
                _lay_staging_marker(root, path, token, laid)
        except ValueError:
            raise RegistrationError(f"The token file at the top of {path} holds no UUID.") from None
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOSYS):
                raise RegistrationError(f"The filesystem of {path} lacks the rename that a safe clear needs.") from None
            by_hand = "" if staging else f" {_by_hand(path)}"
            problem = os.strerror(error.errno or 0)
            raise RegistrationError(f"{path} cannot be prepared: {problem}.{by_hand}") from None
    return token
