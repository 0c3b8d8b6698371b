"""Mounts that show the staging disk in place of the NAS, and the signs by which a clear notices.

Each is mounted over the NAS root of a lab that was registered correctly: mounts change later.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from cleanup.lab.roots import laid_markers as lab_markers
from cleanup.lab.roots import two_places
from cleanup.models import StagingRoot
from cleanup.storage.nas import challenge, way_to_twin
from tests.faults import mounts
from tests.faults.means import mounted
from tests.tools.lab import Lab

Arrangement = Callable[[Lab, StagingRoot], AbstractContextManager[None]]


def archive_of(lab: Lab) -> Path:
    """Where the true NAS of a lab lies while something else is mounted in its place."""
    return lab.base / "archive"


def _aside(lab: Lab) -> Path:
    lab.nas.rename(archive_of(lab))
    lab.nas.mkdir()
    return archive_of(lab)


@contextmanager
def rclone(lab: Lab, remote: str, *options: str) -> Iterator[None]:
    config = lab.base / "rclone.conf"
    config.write_text(f"[nas]\n{remote}\n")
    cache = lab.base / "rclone-cache"
    command = ("rclone", "--config", config, "--cache-dir", cache, "mount", "nas:", lab.nas, "--allow-other", *options)
    with mounts.served(lab.nas, *command):
        yield


def _upstreams(lab: Lab) -> str:
    return f"type = union\nupstreams = {archive_of(lab)} {lab.staging}"


@contextmanager
def union_by_rclone(lab: Lab, root: StagingRoot) -> Iterator[None]:
    _aside(lab)
    with rclone(lab, _upstreams(lab)):
        yield


@contextmanager
def union_by_mergerfs(lab: Lab, root: StagingRoot) -> Iterator[None]:
    with mounts.mergerfs(lab.nas, _aside(lab), lab.staging):
        yield


@contextmanager
def folder_by_mergerfs(lab: Lab, root: StagingRoot) -> Iterator[None]:
    """A union with one instrument's folder: it leaves out the top of the staging disk."""
    StagingRoot.objects.filter(pk=root.pk).update(nas_layout="{project}/{kind}/{leaf}")
    folder = lab.staging / "CONFOCAL_01"
    with mounts.mergerfs(lab.nas, _aside(lab), folder):
        yield


@contextmanager
def overlay(lab: Lab, root: StagingRoot) -> Iterator[None]:
    archive = _aside(lab)
    with ExitStack() as stack:
        # No layer may lie on an overlay, as a container's disk does.
        layers = lab.base / "layers"
        layers.mkdir()
        stack.enter_context(mounted("-t", "tmpfs", "tmpfs", layers))
        (layers / "upper").mkdir()
        (layers / "work").mkdir()
        upper, work = layers / "upper", layers / "work"
        stack.enter_context(mounts.overlay(lab.nas, archive, lab.staging, upper=upper, work=work))
        yield


@contextmanager
def bind(lab: Lab, root: StagingRoot) -> Iterator[None]:
    """The staging root itself; its token is registered for the NAS root."""
    _aside(lab)
    StagingRoot.objects.filter(pk=root.pk).update(nas_token=root.token)
    with mounted("--bind", lab.staging, lab.nas):
        yield


@contextmanager
def bind_of_a_folder(lab: Lab, root: StagingRoot) -> Iterator[None]:
    _aside(lab)
    token = str(uuid.uuid4())
    (lab.staging / "CONFOCAL_01/.exlab-root").write_text(token)
    StagingRoot.objects.filter(pk=root.pk).update(nas_token=token, nas_layout="{project}/{kind}/{leaf}")
    with mounted("--bind", lab.staging / "CONFOCAL_01", lab.nas):
        yield


@contextmanager
def bindfs(lab: Lab, root: StagingRoot) -> Iterator[None]:
    """A share of the staging disk, mounted again: the same files under other numbers."""
    _aside(lab)
    StagingRoot.objects.filter(pk=root.pk).update(nas_token=root.token)
    with mounts.served(lab.nas, "bindfs", lab.staging, lab.nas):
        yield


@contextmanager
def sshfs(lab: Lab, root: StagingRoot) -> Iterator[None]:
    """The staging disk over the network, from a server on this host; names are kept for 20 s."""
    _aside(lab)
    StagingRoot.objects.filter(pk=root.pk).update(nas_token=root.token)
    with mounts.sshfs(lab.nas, lab.staging):
        yield


ARRANGEMENTS: dict[str, Arrangement] = {
    "union by rclone": union_by_rclone,
    "union by mergerfs": union_by_mergerfs,
    "union with a folder": folder_by_mergerfs,
    "overlay": overlay,
    "bind": bind,
    "bind of a folder": bind_of_a_folder,
    "bindfs": bindfs,
    "sshfs": sshfs,
}


# The signs, each of which tells alone, and how it is left out


def without_markers() -> Iterator[AbstractContextManager[Any]]:
    yield mock.patch.object(way_to_twin.Ways, "ask", lambda *args, **kwargs: ())
    yield mock.patch.object(way_to_twin, "expect_none", lambda *args: None)
    yield mock.patch.object(lab_markers, "nas_on_staging", lambda *args: None)


def _not_asked_in(what: str) -> AbstractContextManager[Any]:
    real = challenge._expect_absent

    def expect(root: int, place: bytes, names: Any, where: str) -> None:
        if not where.startswith(what):
            real(root, place, names, where)

    return mock.patch.object(challenge, "_expect_absent", expect)


SIGNS: dict[str, Callable[[], Iterator[AbstractContextManager[Any]]]] = {
    "markers": without_markers,
    "names beside the twin": lambda: iter([_not_asked_in("the folder")]),
    "a challenge in the twin": lambda: iter([_not_asked_in("the twin")]),
    "what lies beneath": lambda: iter([mock.patch.object(two_places, "findings", lambda *args: iter(()))]),
    "files opened anew": lambda: iter([mock.patch.object(challenge, "is_plain_local", lambda descriptor: True)]),
}


@contextmanager
def without(*signs: str) -> Iterator[None]:
    with ExitStack() as stack:
        for sign in signs:
            for patch in SIGNS[sign]():
                stack.enter_context(patch)
        yield
