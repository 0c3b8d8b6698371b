"""Staging roots: registered once, known by the tokens at their tops."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime

from django.conf import settings
from django.db import transaction

from cleanup.lab.nas import shared_twins
from cleanup.lab.nas.nas_roots import nas_roots
from cleanup.lab.roots import first_nights, root_checks, root_tokens, two_places
from cleanup.lab.roots.root_checks import RegistrationError as RegistrationError
from cleanup.lab.roots.root_tokens import Laid
from cleanup.lab.roots.two_places import Remarks
from cleanup.models import StagingRoot
from cleanup.storage import handles, linux, run_paths
from cleanup.storage.data_directory.datadir import DataDir
from cleanup.storage.root_files import markers
from cleanup.storage.twin_paths import NAMED, LayoutError, parse_layout

# Pairs of runs named in a registration.
_COLLISIONS_TOLD = 3


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
    author: str = "",
    now: datetime,
) -> StagingRoot:
    """Register a staging root of this host with its NAS root, or complete a registration.

    `nas_layout`: where twins lie (None: unchanged, at first `run-path`). `instrument_nas`: by equipment. A given flag
    stays. `author` stands in the root's notes. Repeatable. An empty directory may be an unmounted disk: without
    `accept_empty` it gets no token, and without one nothing is done there. For a NAS that is no second place see
    `remarks`. Raises RegistrationError.
    """
    root_checks.refuse_name(name)
    path = root_checks.real_directory(path, "staging root")
    nas_path = root_checks.real_directory(nas_path, "NAS root") if nas_path else ""
    own = _instrument_places(instrument_nas or {})
    if missing := linux.missing_calls():
        raise RegistrationError(f"This kernel lacks {', '.join(missing)}, without which nothing can be cleared safely.")
    root = _root_named(name, path, now)
    before = _registered(root) if root.pk is not None else None
    for nas in (nas_path, *own.values()):
        root_checks.refuse_overlaps(path, nas, root)
    _set_nas(root, nas_path, nas_layout)
    root.allow_same_filesystem |= allow_same_filesystem
    root.allow_union_nas |= allow_union_nas
    root.nas_writes_through |= nas_writes_through
    for nas in filter(None, [root.nas_path, *own.values()]):
        root_checks.refuse_same_filesystem(root, nas)
    _prepare(root, own, before, now, author, accept_empty=accept_empty)
    shared_twins.note_places(root)
    return root


def _prepare(
    root: StagingRoot,
    own: Mapping[str, str],
    before: tuple[object, ...] | None,
    now: datetime,
    author: str,
    *,
    accept_empty: bool,
) -> None:
    """`before`: the registered place, None for a new root."""
    with root_tokens.Laid.unless_refused() as laid:
        _lay_tokens(root, own, laid, accept_empty=accept_empty)
        root_checks.refuse_known_tokens(root)
        root_tokens.mark_nas_roots(root, laid)
        DataDir(str(settings.EXLAB_DATA_DIR)).lay_reserve()
        with transaction.atomic():
            root.full_clean(exclude=["token", "nas_token"])
            if before is not None:
                _expect_as_before(root, before)
            root.save()
            if before is None or first_nights.place_of(root) != before[0]:
                note = "its NAS is another one" if before else "it was registered"
                first_nights.came(root, now, note=note, author=author)


def _registered(root: StagingRoot) -> tuple[object, ...]:
    """What a registration changes of a known root, or must not undo."""
    flags = (root.allow_same_filesystem, root.allow_union_nas, root.nas_writes_through)
    return first_nights.place_of(root), flags, root.retired_at


def _expect_as_before(root: StagingRoot, before: tuple[object, ...]) -> None:
    # A look at a NAS may take minutes, in which an admin retires or moves the root.
    if _registered(StagingRoot.objects.select_for_update(of=("self",)).get(pk=root.pk)) != before:
        raise RegistrationError(f"{root.name} was changed or retired meanwhile. Nothing was done.")


def _root_named(name: str, path: str, now: datetime) -> StagingRoot:
    existing = StagingRoot.objects.filter(name=name).first()
    if existing and (existing.host, existing.path) != (settings.EXLAB_HOST, path):
        raise RegistrationError(f"The name {name} stands for {existing.path} on {existing.host} already.")
    if existing and existing.retired_at is not None:
        raise RegistrationError(f"{name} is retired. `reregister --root {name} --all` takes it up again.")
    return existing or StagingRoot(name=name, host=settings.EXLAB_HOST, path=path, created_at=now)


def _set_nas(root: StagingRoot, nas_path: str, nas_layout: str | None) -> None:
    if nas_path and root.nas_path and root.nas_path != nas_path:
        raise RegistrationError(f"{root.name} has the NAS root {root.nas_path} already.")
    root.nas_path = nas_path or root.nas_path
    if nas_layout is not None:
        root.nas_layout = _layout(nas_layout)
        if root.pk is not None:
            _refuse_collisions(root)


def _lay_tokens(root: StagingRoot, own: Mapping[str, str], laid: Laid, *, accept_empty: bool) -> None:
    root.token = root_tokens.laid_token(root.path, root.token, laid, accept_empty=accept_empty, staging=True)
    if root.nas_path:
        root.nas_token = root_tokens.laid_token(
            root.nas_path, root.nas_token, laid, accept_empty=accept_empty, staging=False
        )
    for equipment, path in own.items():
        _register_instrument(root, equipment, path, laid, accept_empty=accept_empty)


def _instrument_places(given: Mapping[str, str]) -> dict[str, str]:
    for equipment in given:
        if not run_paths.is_folder_name(equipment):
            raise RegistrationError(f"{run_paths.show(equipment.encode())} is no name that an instrument can have.")
    return {
        equipment: root_checks.real_directory(path, f"NAS root of {equipment}") for equipment, path in given.items()
    }


def _register_instrument(root: StagingRoot, equipment: str, path: str, laid: Laid, *, accept_empty: bool) -> None:
    known = root.instrument_nas.get(equipment, {"path": path, "token": ""})
    if known["path"] != path:
        raise RegistrationError(f"{equipment} has the NAS root {known['path']} already.")
    token = root_tokens.laid_token(path, known["token"], laid, accept_empty=accept_empty, staging=False)
    root.instrument_nas = {**root.instrument_nas, equipment: {"path": path, "token": token}}


def _layout(text: str) -> str:
    try:
        return parse_layout(text)
    except LayoutError as error:
        raise RegistrationError(str(error)) from None


def _refuse_collisions(root: StagingRoot) -> None:
    """Only for custom templates: a named layout blocks the runs instead."""
    pairs = shared_twins.collisions(root, root.nas_layout) if root.nas_layout not in NAMED else []
    if pairs:
        one, other = pairs[0]
        raise RegistrationError(
            f"Under the layout {root.nas_layout} the runs {one} and {other} would have one copy on the NAS."
        )


def inspect_place(
    root: StagingRoot, *, path: str = "", nas_path: str = "", instrument_nas: Mapping[str, str] | None = None
) -> StagingRoot:
    """A registered root as it would be elsewhere, unsaved. Reads only.

    Empty or unnamed paths stay. A NAS root must carry a token, or it is not known again when its share is unmounted.
    Raises RegistrationError.
    """
    moved = StagingRoot.objects.get(pk=root.pk)
    moved.path = root_checks.real_directory(path, "staging root") if path else root.path
    moved.nas_path = root_checks.real_directory(nas_path, "NAS root") if nas_path else root.nas_path
    if path or nas_path:
        root_checks.refuse_overlaps(moved.path, moved.nas_path, root)
        root_checks.refuse_same_filesystem(moved, moved.nas_path)
    if path:
        moved.token = root_tokens.carried(moved.path)
    if nas_path:
        moved.nas_token = root_tokens.carried_by_nas(moved.nas_path)
    for equipment, place in _instrument_places(instrument_nas or {}).items():
        root_checks.refuse_overlaps(moved.path, place, root)
        root_checks.refuse_same_filesystem(moved, place)
        token = root_tokens.carried_by_nas(place)
        moved.instrument_nas = {**moved.instrument_nas, equipment: {"path": place, "token": token}}
    root_checks.refuse_known_tokens(moved)
    others = [(moved.path, moved.token, nas.token) for nas in nas_roots(root)]
    others += [(nas.path, nas.token, root.token) for nas in nas_roots(moved)]
    for here, token, other in others:
        if token and token == other:
            raise RegistrationError(f"{here} carries the token of the other side of {root.name}: it is that very disk.")
    for nas in nas_roots(moved):
        if nas not in nas_roots(root):
            with suppress(OSError), handles.opened(handles.open_root(nas.path)) as directory:
                root_checks.refuse_staging_marker(directory, nas.path)
    return moved


def prepare_place(moved: StagingRoot) -> None:
    """Lay token, marker and reserve in a new place. Raises RegistrationError."""
    with Laid.unless_refused() as laid:
        moved.token = root_tokens.laid_token(moved.path, moved.token, laid, accept_empty=False, staging=True)
    if not moved.token:
        raise RegistrationError(f"{moved.path} is empty by now: is its disk mounted?")


def remarks(root: StagingRoot) -> Remarks:
    """Mount problems of a registration, and warnings. Touches the NAS in this process."""
    mounts = two_places.remarks(root)
    return Remarks(mounts.problems, (*_warnings(root), *mounts.warnings))


def _warnings(root: StagingRoot) -> Iterator[str]:
    by_path = {root.path: root.token} | {nas.path: nas.token for nas in nas_roots(root)}
    for path in (path for path, token in by_path.items() if not token):
        yield (
            f"{path} is empty, so perhaps it is not mounted: nothing is done there until this command is given again "
            "with its disk in place (or with --accept-empty)."
        )
    for one, other in shared_twins.collisions(root, root.nas_layout)[:_COLLISIONS_TOLD]:
        yield f"{one} and {other} have one copy on the NAS under the layout {root.nas_layout}: both stay."
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
    """Whether the data directory lies on a staging root's filesystem."""
    try:
        return os.stat(root.path).st_dev == os.stat(settings.EXLAB_DATA_DIR).st_dev
    except OSError:
        return False


def malformed_markers(root: StagingRoot) -> list[str]:
    """Paths on NAS roots that begin like a staging marker without a UUID."""
    found = []
    for nas in nas_roots(root):
        with suppress(OSError), handles.opened(handles.open_root(nas.path)) as directory:
            found += [
                f"{nas.path}/{run_paths.show(name)}" for name in markers.marks(markers.names_in(directory)).malformed
            ]
    return found
