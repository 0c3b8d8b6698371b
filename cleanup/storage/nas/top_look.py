"""A look at a folder that a person names: `python -m cleanup.storage.nas.top_look` in a process of its own.

It opens no file but the token. The process may hang in a dead mount: it is killed and left, never waited for.
"""

import contextlib
import itertools
import json
import os
import select
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from cleanup.storage import handles, run_paths
from cleanup.storage.mounts import places
from cleanup.storage.mounts.mountinfo import UnknownMount
from cleanup.storage.nas import server, way_to_twin
from cleanup.storage.root_files import markers, tokens

MODULE = "cleanup.storage.nas.top_look"
# Counting ends at so many runs, or after so long.
MOST_RUNS = 2_000
COUNTED_SECONDS = 2.0
# Entries of one folder that a count reads.
_MOST_NAMES = 5_000
_MOST_ANSWERED = 1 << 22


@dataclass(frozen=True, kw_only=True)
class TopLook:
    """What a folder shows. `problem` is empty, or why no more is known.

    `real`: its path without links. `token`: empty without one. `place`: as `places.Place.as_json`. `present`: those of
    the paths asked for that are folders below it.
    """

    path: str
    problem: str = ""
    hung: bool = False
    missing: bool = False
    real: str = ""
    is_directory: bool = False
    readable: bool = False
    writable: bool = False
    empty: bool = False
    token: str = ""
    bad_token: bool = False
    shows_staging: str = ""
    place: dict[str, Any] = field(default_factory=dict)
    total_bytes: int = 0
    free_bytes: int = 0
    runs: int = 0
    more_runs: bool = False
    instruments: tuple[str, ...] = ()
    present: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        lists = {name: tuple(values[name]) for name in ("instruments", "present")}
        return cls(**{**values, **lists})


def ask(path: str, *, seconds: float, twins: list[str] | None = None, count: bool = False) -> TopLook:
    """Look at a folder in a child process, for at most so long. Raises OSError if none can be started.

    `twins`: paths below it to look for. `count`: also count the runs below it.
    """
    child = subprocess.Popen(
        [sys.executable, "-S", "-m", MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
        start_new_session=True,
    )
    try:
        asked = json.dumps({"path": path, "twins": twins or [], "count": count}).encode()
        answer = _exchange(child, asked, time.monotonic() + seconds)
    finally:
        _leave(child)
    if answer is None:
        return TopLook(path=path, hung=True, problem=f"no answer within {seconds:.0f} s, perhaps its mount hangs")
    return TopLook.from_json(answer)


def _exchange(child: subprocess.Popen[bytes], asked: bytes, until: float) -> dict[str, Any] | None:
    assert child.stdin is not None and child.stdout is not None  # noqa: S101
    with contextlib.suppress(BrokenPipeError), child.stdin:
        child.stdin.write(asked)
    found = b""
    while (left := until - time.monotonic()) > 0 and len(found) < _MOST_ANSWERED:
        if not select.select([child.stdout], [], [], left)[0]:
            break
        if not (part := os.read(child.stdout.fileno(), 1 << 16)):
            break
        found += part
    try:
        answer: dict[str, Any] = json.loads(found)
    except ValueError:
        return None
    return answer


def _leave(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    assert child.stdout is not None  # noqa: S101
    child.stdout.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=0.3)


# In the child


def look(path: str, *, twins: list[str], count: bool) -> TopLook:
    """Look at a folder, here and now. A link on the way is followed for its name only."""
    try:
        real = os.path.realpath(path, strict=True)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        return TopLook(path=path, missing=missing, problem=_words(error))
    if not os.path.isdir(real):
        return TopLook(path=path, real=real)
    seen: dict[str, Any] = {"path": path, "real": real, "is_directory": True}
    seen["writable"] = os.access(real, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)
    try:
        with handles.opened(handles.open_root(real)) as top:
            fill = os.fstatvfs(top)
            seen |= {"total_bytes": fill.f_blocks * fill.f_frsize, "free_bytes": fill.f_bavail * fill.f_frsize}
            seen |= _place(top) | _top(top, real)
            if count:
                seen |= _count(top)
            seen["present"] = tuple(server.present(top, twins)) if twins else ()
    except OSError as error:
        return TopLook(**{**seen, "problem": _words(error)})
    return TopLook(**seen)


def _words(error: OSError) -> str:
    return os.strerror(error.errno or 0)


def _place(top: int) -> dict[str, Any]:
    try:
        return {"place": places.describe(top).as_json()}
    except UnknownMount:
        return {}


def _top(top: int, path: str) -> dict[str, Any]:
    seen: dict[str, Any] = {"readable": True, "empty": not handles.holds_anything(top)}
    try:
        seen["token"] = tokens.read_token(top) or ""
    except ValueError:
        seen["bad_token"] = True
    try:
        way_to_twin.Ways(path).ask(top, b".", recent=False)
    except markers.IsStaging as error:
        seen["shows_staging"] = error.problem.detail
    return seen


def _count(top: int) -> dict[str, Any]:
    runs, instruments, until, more = 0, [], time.monotonic() + COUNTED_SECONDS, False
    for equipment in _folders(top, b"."):
        before = runs
        for project in _folders(top, equipment):
            way = equipment + b"/" + project
            runs += sum(_is_run(name, "") for name in _folders(top, way))
            for folder in run_paths.KIND_FOLDERS:
                inside = _folders(top, way + b"/" + folder.encode())
                runs += sum(_is_run(name, folder) for name in inside)
            if more := runs > MOST_RUNS or time.monotonic() > until:
                break
        if runs > before:
            instruments.append(run_paths.show(equipment))
        if more:
            break
    return {"runs": runs, "more_runs": more, "instruments": tuple(instruments[:50])}


def _folders(top: int, path: bytes) -> list[bytes]:
    # Where a folder cannot be read, or is none, it counts nothing.
    try:
        with handles.opened(handles.open_beneath(top, path)) as folder, os.scandir(folder) as entries:
            some = itertools.islice(entries, _MOST_NAMES)
            return [os.fsencode(one.name) for one in some if one.name[:1] != "." and one.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _is_run(name: bytes, folder: str) -> bool:
    return run_paths.is_possible_leaf(os.fsdecode(name), folder)


def main() -> None:
    """Answer one question."""
    asked = json.load(sys.stdin)
    found = look(asked["path"], twins=asked["twins"], count=asked["count"])
    sys.stdout.write(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
