"""Find the run at a path among the staging roots of this host."""

import logging
import os
from collections.abc import Sequence
from datetime import datetime

from django.conf import settings
from django.utils import timezone
from django.utils.asyncio import async_unsafe

from cleanup.clears import protocol
from cleanup.clears.refusal import Refused
from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import Unreachable
from cleanup.models import Run, StagingRoot
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs import discovery
from cleanup.storage import errors, run_paths

logger = logging.getLogger(__name__)

Place = tuple[StagingRoot, str]


@async_unsafe("Await aclear_run in a coroutine: clear_run works in the thread that calls it.")
def clear(
    wanted: Run | str | os.PathLike[str], *, now: datetime | None = None, actor: str = "", note: str = ""
) -> tuple[int, int]:
    """Clear a run or the run at a path; returns (file count, bytes freed). Raises as `now.clear_run`."""
    now = timezone.now() if now is None else now
    if timezone.is_naive(now):
        raise ValueError("now needs a time zone, as in datetime.now(UTC).")
    run = wanted if isinstance(wanted, Run) else find(os.fsdecode(wanted), now=now)
    return (0, 0) if run is None else protocol.clear_run(run, now=now, actor=actor, note=note)


def find(path: str, *, now: datetime) -> Run | None:
    """Return the run at an absolute path, or below the one staging root that has it; None: nothing lies there.

    Raises Refused for what is no run of this host, ValueError for a path in several staging roots.
    """
    if not path or "\0" in path:
        raise ValueError("clear_run needs the path of a run.")
    roots = list(StagingRoot.objects.filter(host=settings.EXLAB_HOST))
    places = _beneath_roots(path, roots) if os.path.isabs(path) else _below_each(path, roots)
    known = [place for place in places if _known(*place) is not None]
    place = _only(path, known or [place for place in places if _lies_there(*place)])
    if place is not None:
        return _run_at(*place, now)
    if not places:
        _refuse_if_there(path, roots)
    return None


def _only(path: str, places: Sequence[Place]) -> Place | None:
    names = sorted({root.name for root, _below in places})
    if len(names) > 1:
        raise ValueError(f"{path} stands for runs in {', '.join(names)}: name it by its absolute path.")
    return places[0] if places else None


def _beneath_roots(path: str, roots: Sequence[StagingRoot]) -> list[Place]:
    # By the path's spelling first, then by where its folders lead.
    spelt = "/" + path.strip("/")
    places = [_beneath(_without_detours(spelt), root, root.path) for root in roots]
    if not any(place is not None and _known(*place) for place in places):
        real = _with_real_folders(spelt)
        places += [_beneath(real, root, os.path.realpath(root.path)) for root in roots]
    return list(dict.fromkeys(filter(None, places)))


def _beneath(path: str, root: StagingRoot, top: str) -> Place | None:
    return (root, path.removeprefix(f"{top}/")) if path.startswith(f"{top}/") else None


def _without_detours(path: str) -> str:
    # The meaning of `..` depends on links.
    return "" if ".." in path.split("/") else os.path.normpath(path)


def _with_real_folders(path: str) -> str:
    # A link to a run is no run, so the last step is not followed.
    folder, _, leaf = path.rpartition("/")
    return "" if leaf in (".", "..", "") else os.path.join(os.path.realpath(folder or "/"), leaf)


def _below_each(path: str, roots: Sequence[StagingRoot]) -> list[Place]:
    below = _without_detours(path)
    if not below or not roots:
        detail = f"{path} leads out of its staging root" if roots else "no staging root is registered on this host"
        raise Refused(Finding(Reason.UNSAFE_PATH, detail))
    return [(root, below) for root in roots]


def _known(root: StagingRoot, below: str) -> Run | None:
    if not _is_text(below):
        return None
    runs = Run.objects.with_root().filter(root=root, run_path=below, gone_at=None)
    return runs.staged().first() or runs.order_by("-cleared_at").first()


def _is_text(name: str) -> bool:
    # The database cannot keep a path that is not UTF-8.
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _run_at(root: StagingRoot, below: str, now: datetime) -> Run:
    run = _known(root, below)
    if run is not None and (run.state == State.SYNC_VERIFIED or _is_out_of_sight(root, below)):
        return run
    path = _run_path(below)
    _expect_spelling(root, below)
    try:
        seen = discovery.look_at_path(root, path, now=now)
    except Unreachable as error:
        raise Refused(error.finding) from None
    run = _known(root, below)
    if run is None or run.state == State.CLEARED:
        raise Refused(_why_not(seen, run))
    return run


def _expect_spelling(root: StagingRoot, below: str) -> None:
    # A disk may find one run under many spellings, but it has one row, its holds and its policy.
    folder = root.path
    for name in below.split("/"):
        try:
            listed = os.listdir(folder)
        except OSError as error:
            raise Refused(errors.way_blocked(error)) from None
        if name not in listed:
            raise Refused(Finding(Reason.UNSAFE_PATH, f"{folder} lists no {name}: the disk spells it otherwise"))
        folder = os.path.join(folder, name)


def _is_out_of_sight(root: StagingRoot, below: str) -> bool:
    try:
        return not _lies_there(root, below)
    except Refused:
        return True


def _run_path(below: str) -> run_paths.RunPath:
    try:
        return run_paths.parse_run_path(below)
    except errors.UnsafePath as error:
        raise Refused(Finding(Reason.UNSAFE_PATH, str(error))) from None


def _why_not(seen: discovery.Discovered | None, run: Run | None) -> Finding:
    for _path, reason, detail in seen.problems if seen else ():
        return Finding(reason, detail)
    if run is not None:
        return Finding(Reason.ALREADY_CLEARED, "yet something lies at its path")
    return Finding(Reason.UNKNOWN_DIRECTORY)


def _lies_there(root: StagingRoot, below: str) -> bool:
    try:
        with opening.open_root(root):
            os.lstat(os.path.join(root.path, below))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Refused(errors.way_blocked(error)) from None
    except Unreachable as error:
        raise Refused(error.finding) from None
    return True


def _refuse_if_there(path: str, roots: Sequence[StagingRoot]) -> None:
    known = ", ".join(root.path for root in roots) or "none"
    detail = f"{path} lies beneath no staging root of this host ({known})"
    try:
        os.lstat(path)
    except FileNotFoundError:
        logger.warning("nothing to clear: %s, and nothing is there", detail)
    except OSError as error:
        raise Refused(errors.way_blocked(error)) from None
    else:
        raise Refused(Finding(Reason.UNSAFE_PATH, detail))
