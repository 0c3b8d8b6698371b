"""Whether the NAS still holds a cleared run: names and sizes, asked when a person wants to know."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from django.conf import settings

from cleanup.lab.nas.nas_roots import Twin, twin_of, twin_then, with_way_out
from cleanup.lab.roots import opening
from cleanup.models import ClearAttempt, Run
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.runs.proofs.proofs import name_some
from cleanup.storage.nas import client
from cleanup.storage.run_paths import show
from cleanup.storage.staging import desktop_files, run_tree
from cleanup.storage.staging.plan import PlanError

# A page reads no longer plan; it compares numbers then.
LARGEST_PLAN = 100_000  # files


class StillThere(StrEnum):
    """What the NAS said. `listed`: it holds files, and nothing is known here to compare them with."""

    THERE = "there"
    DIFFERS = "differs"
    LISTED = "listed"
    GONE = "gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class NasAnswer:
    """What the NAS holds of a run at `path`: files and logical bytes, and those at the clear.

    `by_name`: each file was compared, else only the sums. `finding`: why nothing was learnt, or where it is not.
    """

    said: StillThere
    path: str
    at: datetime
    files: int = 0
    bytes: int = 0
    files_then: int | None = None
    bytes_then: int | None = None
    by_name: bool = False
    names: str = ""  # some of those that differ
    finding: Finding | None = None


def ask(run: Run, clear: ClearAttempt | None, now: datetime) -> NasAnswer:
    """Ask the NAS for a cleared run. It may take as long as the NAS may be silent; raises nothing for a NAS that fails.

    `clear`: the attempt that cleared it, None for a clear by another program.
    """
    recorded = clear.twin_path if clear else ""
    twin = twin_then(run, recorded) if recorded else twin_of(run)
    path = recorded or twin.full_path
    if why_not := _not_asked(run, twin, path):
        return NasAnswer(StillThere.UNKNOWN, path, now, finding=why_not)
    try:
        with opening.reader_for(run.root) as readers:
            listing = readers.of(run).read(twin.path, with_bytes=False)
    except client.NasError as error:
        problem = with_way_out(run, error.problem)
        gone = error.problem.reason == Reason.NAS_MISSING_FILE
        return NasAnswer(StillThere.GONE if gone else StillThere.UNKNOWN, path, now, finding=problem)
    there = {name: file.size for name, file in listing.files.items()}
    expected = planned_data(clear) if clear and clear.planned_files <= LARGEST_PLAN else None
    return _by_number(clear, there, path, now) if expected is None else _by_name(expected, there, path, now)


def _not_asked(run: Run, twin: Twin, path: str) -> Finding | None:
    if not twin.root.path:
        return Finding(Reason.NAS_NOT_CONFIGURED)
    if twin.full_path != path:
        return Finding(Reason.NAS_NOT_CONFIGURED, f"{path} lies beneath no NAS root that the run has now")
    if run.root.host != settings.EXLAB_HOST:
        return Finding(Reason.NAS_NOT_MOUNTED, f"host {run.root.host} reads this NAS; ask on a page of that host")
    return None


def planned_data(clear: ClearAttempt | None) -> dict[bytes, int] | None:
    """Return the sizes of the files that the copy of a cleared run must have; None without a plan to read here.

    Files of desktops are no data: they were never compared, and NAS systems remove them.
    """
    if clear is None or clear.host != settings.EXLAB_HOST:
        return None
    try:
        plan = opening.data_dir().read_plan(clear.pk.hex, clear.plan_sha256)
    except (PlanError, OSError):
        return None
    files = {entry.path: entry.size for entry in plan.entries if entry.is_file and run_tree.is_data(entry.path)}
    return {path: size for path, size in files.items() if not desktop_files.may_be_missing(path, files)}


def _by_name(expected: Mapping[bytes, int], there: Mapping[bytes, int], path: str, now: datetime) -> NasAnswer:
    missing = [name for name in expected if name not in there]
    other = [name for name, size in expected.items() if name in there and there[name] != size]
    held = [name for name in expected if name in there]
    return NasAnswer(
        StillThere.DIFFERS if missing or other else StillThere.THERE,
        path,
        now,
        files=len(held),
        bytes=sum(there[name] for name in held),
        files_then=len(expected),
        bytes_then=sum(expected.values()),
        by_name=True,
        names=name_some([show(os.fsencode(name)) for name in (*missing, *other)]),
    )


def _by_number(clear: ClearAttempt | None, there: Mapping[bytes, int], path: str, now: datetime) -> NasAnswer:
    files, size = len(there), sum(there.values())
    proof = clear.proof if clear else None
    if proof is None or not proof.files:
        return NasAnswer(StillThere.LISTED, path, now, files=files, bytes=size)
    # More than then is no loss: files of NAS systems come by themselves.
    less = files < proof.files or size < proof.bytes
    said = StillThere.DIFFERS if less else StillThere.THERE
    return NasAnswer(said, path, now, files=files, bytes=size, files_then=proof.files, bytes_then=proof.bytes)
