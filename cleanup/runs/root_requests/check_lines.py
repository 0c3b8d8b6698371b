"""What a look at a path found, line by line. The rules are those of a registration."""

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from django.conf import settings

from cleanup.lab.roots import root_checks
from cleanup.lab.roots.root_checks import RegistrationError
from cleanup.models import StagingRoot
from cleanup.rules.quantities import say_about, say_count
from cleanup.storage.mounts.nas_mount_kinds import MountKind, kind_of
from cleanup.storage.mounts.places import Place
from cleanup.storage.nas.top_look import TopLook

PASS, WAIT, BLOCK = "pass", "wait", "block"


@dataclass(frozen=True)
class CheckLine:
    """One thing that was looked at; `verdict`: `pass`, `wait` (see whether it is meant) or `block`."""

    name: str
    verdict: str
    said: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def fits(lines: list[CheckLine]) -> bool:
    """Whether nothing speaks against a registration."""
    return all(line.verdict != BLOCK for line in lines)


def of_staging(look: TopLook, root: StagingRoot) -> list[CheckLine]:
    """What speaks for and against a folder as a staging root.

    `root`: unsaved with the name asked for, or the registered root that would lie there.
    """
    lines = list(of_folder(look, "staging root"))
    if not fits(lines):
        return lines
    own = root.token if root.pk is not None else ""
    seen = StagingRoot(pk=root.pk, name=root.name, host=root.host, path=look.real, token=look.token)
    lines += [*_filesystem(look), *_other_roots(look, seen), *_marker(look, own), *_free(look), *_runs(look)]
    return lines


def of_folder(look: TopLook, what: str) -> Iterator[CheckLine]:
    """Yield whether a path is a folder that may be registered at all; ends at the first obstacle."""
    if look.missing:
        yield CheckLine("exists", BLOCK, "There is no such folder on this host.")
        return
    if look.problem:
        yield CheckLine("exists", BLOCK, f"It cannot be looked at: {look.problem.rstrip('.')}.")
        return
    yield CheckLine("exists", PASS, "It is there.")
    if not look.is_directory:
        yield CheckLine("folder", BLOCK, "It is no folder.")
        return
    if look.real != look.path:
        yield CheckLine("folder", BLOCK, f"A link leads to {look.real}: give that path.")
        return
    yield CheckLine("folder", PASS, "It is a folder, reached without a link.")
    yield from refused("system", lambda: root_checks.refuse_system(look.real, what))
    if not look.writable:
        yield CheckLine("rights", BLOCK, "The account of the worker may not write at its top, so it can clear nothing.")
    else:
        yield CheckLine("rights", PASS, "The account of the worker may read and write there.")


def refused(name: str, check: Callable[[], None], passed: str = "") -> Iterator[CheckLine]:
    """Yield the refusal of a rule, else `passed` if given."""
    try:
        check()
    except RegistrationError as error:
        yield CheckLine(name, BLOCK, str(error))
    else:
        if passed:
            yield CheckLine(name, PASS, passed)


def _filesystem(look: TopLook) -> Iterator[CheckLine]:
    if not look.place:
        yield CheckLine("filesystem", BLOCK, "The mount on which it lies cannot be told.")
        return
    mount = Place.from_json(look.place).mount
    if kind_of(mount) is MountKind.LOCAL:
        yield CheckLine("filesystem", PASS, f"{mount.fstype}, a disk of this host.")
    else:
        words = f"{mount.fstype}: no plain disk of this host. Registering tries whether runs can be removed safely."
        yield CheckLine("filesystem", WAIT, words)


def _other_roots(look: TopLook, seen: StagingRoot) -> Iterator[CheckLine]:
    def check() -> None:
        root_checks.refuse_overlaps(look.real, "", seen)
        root_checks.refuse_known_tokens(seen)

    known = StagingRoot.objects.filter(host=seen.host, path=look.real).exclude(pk=seen.pk).first()
    if known is not None:
        retired = " It is retired: take it up again on its page." if known.retired_at is not None else ""
        yield CheckLine("others", BLOCK, f"{known.name} lies there.{retired}")
        return
    yield from refused("others", check, "No other staging root or NAS root lies there.")
    try:
        shared = os.stat(settings.EXLAB_DATA_DIR).st_dev == look.place.get("device")
    except OSError:
        shared = False
    if shared:
        words = "The data directory of this program lies on the same disk. When runs fill it, nothing can be written."
        yield CheckLine("data", WAIT, words)


def _marker(look: TopLook, own: str) -> Iterator[CheckLine]:
    if look.bad_token:
        yield CheckLine("marker", BLOCK, "The marker .exlab-root at its top is not readable: it holds no UUID.")
    elif look.empty:
        words = "The folder is empty: is its disk mounted? Nothing is done in it before it holds a marker."
        yield CheckLine("marker", WAIT, words)
    elif not look.token:
        yield CheckLine("marker", PASS, "No marker yet. Registering lays one, so that the disk is known again.")
    elif own and own == look.token:
        yield CheckLine("marker", PASS, "It carries the marker of this staging root.")
    else:
        yield CheckLine("marker", PASS, "It carries a marker already, which is taken over.")


def _free(look: TopLook) -> Iterator[CheckLine]:
    yield CheckLine("space", PASS, f"{say_about(look.free_bytes)} of {say_about(look.total_bytes)} free.")


def _runs(look: TopLook) -> Iterator[CheckLine]:
    if not look.runs:
        words = "No runs are seen. They are looked for in INSTRUMENT/PROJECT/Runs/Run_DATE."
        yield CheckLine("runs", WAIT, words)
        return
    number = f"More than {look.runs:,} runs" if look.more_runs else say_count(look.runs, "run")
    yield CheckLine("runs", PASS, f"{number} of {', '.join(look.instruments[:5])}{_more(len(look.instruments) - 5)}.")


def _more(number: int) -> str:
    return f" and {number} more" if number > 0 else ""
