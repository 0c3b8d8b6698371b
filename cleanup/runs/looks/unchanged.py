"""Runs that need no look: the last one found nothing against them, and disk and database are as they were then."""

import hashlib
import math
import os
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cleanup.lab.roots import opening
from cleanup.models import Run, StagingRoot
from cleanup.rules.facts import Facts
from cleanup.rules.states import State
from cleanup.storage import linux
from cleanup.storage.run_paths import RunPath
from cleanup.storage.staging import tree_digest

# Each run is looked at as a whole within this time, with its copy on the NAS, though nothing has changed. Passes come
# every five minutes, and each takes its share.
LOOKED_AT_WITHIN = timedelta(hours=24)
_SHARE = timedelta(minutes=5) / LOOKED_AT_WITHIN
# A change within the grain of a filesystem's clock may leave the times as they are.
GRAIN_SECONDS = 2.0
# Raise it when looks ask for more than before.
_FORM = 1


def digest_of(root: StagingRoot, opened: opening.OpenRun, path: RunPath) -> str:
    """Return the digest of an open run's tree, to be kept with the look that follows; empty if it may not be kept."""
    try:
        beside = _beside(root, opened.parent)
        found = tree_digest.of_run(opened.parent, os.fsencode(path.leaf), beside)
        if found.ino != linux.status(opened.run).ino:
            return ""
    except OSError:
        return ""
    is_settled = found.newest_ns < time.time_ns() - int(GRAIN_SECONDS * linux.SECOND)
    return found.sha if is_settled and path.is_usual else ""


def _beside(root: StagingRoot, parent: int) -> bytes:
    nas = root.nas_path, root.nas_token, root.nas_layout, root.instrument_nas
    flags = root.allow_same_filesystem, root.allow_union_nas, root.nas_writes_through
    said = _FORM, root.path, root.token, nas, flags
    return hashlib.sha256(repr(said).encode()).digest() + tree_digest.of_parent(parent)


def keep(run: Run, tree: str, facts: Facts, now: datetime) -> None:
    """Set what is remembered of a look, to be written with it: nothing where time or the NAS may change the facts."""
    kept = tree if _is_plain(run, facts) else ""
    if run.seen and tree and run.seen != tree:
        run.changed_at = now
    run.seen = kept


def _is_plain(run: Run, facts: Facts) -> bool:
    found = facts.ingest_findings + facts.path_findings + facts.tree_findings + facts.twin_findings
    unusual = (facts.future, facts.hold_file, facts.accepted, facts.twin_unnamed, facts.only_here, run.nas_retry_at)
    if found or facts.kept_local or any(each is not None for each in unusual) or run.state == State.CLEARED:
        return False
    return facts.proof is None or not (facts.proof.findings or facts.proof.found_at)


def forget(runs: Iterable[int]) -> None:
    """Look at these runs again in the next pass."""
    Run.objects.filter(pk__in=list(runs)).update(seen="")


@dataclass
class RememberedRuns:
    """The runs of a root that a pass may leave out, by their paths: key and digest. `left_out`: those that it has."""

    root: StagingRoot
    rows: dict[bytes, tuple[int, str]]
    due: dict[bytes, int] = field(default_factory=dict)
    left_out: list[tuple[int, bytes]] = field(default_factory=list)

    @classmethod
    def of(cls, root: StagingRoot) -> "RememberedRuns":
        """Read them, without those whose turn it is to be looked at as a whole."""
        remembered = Run.objects.remembered().filter(root=root).order_by()
        rows = {os.fsencode(path): (key, sha) for path, key, sha in remembered.values_list("run_path", "pk", "seen")}
        oldest = remembered.order_by("looked_at")[: math.ceil(len(rows) * _SHARE)]
        due = {os.fsencode(path): key for path, key in oldest.values_list("run_path", "pk")}
        for path in due:
            rows.pop(path, None)
        return cls(root, rows, due)

    def leave_out(self, folder: int, above: bytes, names: list[bytes]) -> list[bytes]:
        """Return which names in an open folder must be looked at. Raises OSError."""
        rest, rows, beside = [], self.rows, b""
        for name in names:
            path = above + b"/" + name
            if (known := rows.get(path)) is None:
                rest.append(name)
                continue
            beside = beside or _beside(self.root, folder)
            if _has_changed(folder, name, beside, known[1]):
                rest.append(name)
            else:
                self.left_out.append((known[0], path))
        return rest

    def not_met(self, present: Collection[str]) -> list[int]:
        """Return the keys of those that were neither left out nor are at the paths `present`."""
        met = {path for _key, path in self.left_out} | set(map(os.fsencode, present))
        keys = {path: key for path, (key, _sha) in self.rows.items()} | self.due
        return [keys[path] for path in keys.keys() - met]


def _has_changed(folder: int, name: bytes, beside: bytes, known: str) -> bool:
    try:
        return tree_digest.of_run(folder, name, beside).sha != known
    except OSError:
        return True
