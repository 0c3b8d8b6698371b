"""Mismatches: what database, disks, NAS and data directory tell otherwise of one another."""

import enum
import shlex
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

# So many of each kind are listed; the others are counted.
LISTED = 200


class _Said(NamedTuple):
    """`step` is the one safe next step; `command` is what to type for it, or empty."""

    sentence: str
    step: str
    command: str = ""


class MismatchKind(enum.StrEnum):
    """Kinds of mismatches, the urgent ones first. Scripts depend on the codes."""

    NAS_MISSING = "nas_missing"
    NAS_DIFFERS = "nas_differs"
    LOST_CLEAR = "lost_clear"
    DOUBTED_CLEAR = "doubted_clear"
    DOUBTED_RECEIPT = "doubted_receipt"
    CLEARED_BUT_THERE = "cleared_but_there"
    FENCE_STAYED = "fence_stayed"
    STRAY_FENCE = "stray_fence"
    MISSING = "missing"
    LEDGER_DIFFERS = "ledger_differs"
    END_MISSING = "end_missing"
    LEDGER_MISSING = "ledger_missing"
    HISTORY_MISSING = "history_missing"
    HISTORY_ALONE = "history_alone"
    TOMBSTONE_MISSING = "tombstone_missing"
    RECEIPT_MISSING = "receipt_missing"
    UNKNOWN_RUN = "unknown_run"
    SHELL = "shell"
    ORPHAN = "orphan"
    TOMBSTONE_LEFT = "tombstone_left"
    PLAN_LEFT = "plan_left"
    DRAFT_LEFT = "draft_left"
    LOCKS_UNKNOWN = "locks_unknown"

    @property
    def sentence(self) -> str:
        return _SAID[self].sentence

    @property
    def is_serious(self) -> bool:
        """Whether data or its account may be wrong; the others are leftovers, and what the next look settles."""
        order = list(MismatchKind)
        return order.index(self) <= order.index(MismatchKind.RECEIPT_MISSING)

    @property
    def step(self) -> str:
        return _SAID[self].step


_LEAVE_IT = "Leave it: it does no harm, and a later look may need it."
_SAID = {
    MismatchKind.NAS_MISSING: _Said(
        "The copy on the NAS is missing, although the run is verified.",
        "Clear nothing of this instrument. Look for the copy on the NAS: in its trash, its snapshots and its backup.",
        "why {path} --root {root}",
    ),
    MismatchKind.NAS_DIFFERS: _Said(
        "The copy on the NAS holds less than what was proven.",
        "Clear nothing of this instrument. Look on the NAS for the files, in its snapshots and its backup.",
        "why {path} --root {root}",
    ),
    MismatchKind.LOST_CLEAR: _Said(
        "A run was cleared, and the database does not know of it: it is older than the data directory.",
        "Bring the history back. This removes nothing.",
        "reconcile --apply --without-nas",
    ),
    MismatchKind.DOUBTED_CLEAR: _Said(
        "An archive or a receipt tells of a clear that the database does not know. Perhaps it was not done.",
        "Look at the place of the run on the staging disk. Nothing is changed until it is sure.",
        "orphans",
    ),
    MismatchKind.DOUBTED_RECEIPT: _Said(
        "A receipt tells of a clear that the database does not know, and the receipt cannot be trusted.",
        "Check the receipt with verify_receipt, and look for a copy of it on the NAS. Nothing is taken from it.",
        "reconcile",
    ),
    MismatchKind.CLEARED_BUT_THERE: _Said(
        "The database says cleared, and the run is on the staging disk.",
        "Let the program look at the disk again. It never removes this run by itself.",
        "discover --root {root}",
    ),
    MismatchKind.FENCE_STAYED: _Said(
        "A run was cleared, and the folder to which it was moved for that is still there.",
        "Let the recovery settle it: it removes only what the plan of that clear names.",
        "recover",
    ),
    MismatchKind.STRAY_FENCE: _Said(
        "Something lies under the name of a clear, and no clear will settle it. A whole run may be in it.",
        "Look into it before anything else. The page of problems names it.",
        "orphans --root {root}",
    ),
    MismatchKind.MISSING: _Said(
        "The database says staged, and the run is not on the staging disk.",
        "Look for it, perhaps its folder was renamed. If it will not come back, mark it as gone.",
        "mark_gone {path} --root {root} --reason …",
    ),
    MismatchKind.LEDGER_DIFFERS: _Said(
        "The ledger and the clear name different numbers.",
        "Let the ledger be checked: it tells whether a row was changed. Then look at the run's receipt and history.",
        "verify_ledger",
    ),
    MismatchKind.END_MISSING: _Said(
        "A clear has ended, and the ledger has no row of its end.",
        "Let the ledger be checked: it tells whether a row was changed. Then look at the run's receipt and history.",
        "verify_ledger",
    ),
    MismatchKind.LEDGER_MISSING: _Said(
        "The run is cleared, and the ledger has no row that allowed it.",
        "Let the ledger be checked: it tells whether a row was changed. Then look at the run's receipt and history.",
        "verify_ledger",
    ),
    MismatchKind.HISTORY_MISSING: _Said(
        "The ledger says that the run was cleared, and the run's history does not.",
        "Look at the run's history, and compare with a backup of the database.",
        "why {path} --root {root}",
    ),
    MismatchKind.HISTORY_ALONE: _Said(
        "The run's history ends with a clear, and the run does not count as cleared.",
        "Look at the run's history, and compare with a backup of the database.",
        "why {path} --root {root}",
    ),
    MismatchKind.TOMBSTONE_MISSING: _Said(
        "A run was cleared, and its archive is not in the data directory.",
        "Look for it in the backup of the data directory. The copy on the NAS is not touched by this.",
        "check",
    ),
    MismatchKind.RECEIPT_MISSING: _Said(
        "A clear has ended, and it has no receipt.",
        "Let the recovery write it.",
        "recover",
    ),
    MismatchKind.UNKNOWN_RUN: _Said(
        "A run on the staging disk is not in the database.",
        "Let the program look at the disk again.",
        "discover --root {root}",
    ),
    MismatchKind.SHELL: _Said(
        "An empty folder of the data wizard lies at the path of a cleared run.",
        "Remove it on the page of problems: what is in it is kept.",
        "orphans --root {root}",
    ),
    MismatchKind.ORPHAN: _Said(
        "Something on the staging disk is no known run.",
        "See the page of problems: each has its own next step there.",
        "orphans --root {root}",
    ),
    MismatchKind.TOMBSTONE_LEFT: _Said("An archive of an attempt that has removed nothing is still there.", _LEAVE_IT),
    MismatchKind.PLAN_LEFT: _Said("A plan of an attempt that has removed nothing is still there.", _LEAVE_IT),
    MismatchKind.DRAFT_LEFT: _Said("A file in the data directory was not written to its end.", _LEAVE_IT),
    MismatchKind.LOCKS_UNKNOWN: _Said(
        "The data directory has locks of runs that the database does not know: it may be older than the directory.",
        "Compare with the last backup of the database. Locks themselves do no harm.",
        "reconcile",
    ),
}


@dataclass(frozen=True)
class Mismatch:
    """One mismatch. `root` and `run_path` may be empty; `run` is the key of the run's row, if there is one."""

    kind: MismatchKind
    root: str = ""
    run_path: str = ""
    run: int | None = None
    detail: str = ""

    @property
    def command(self) -> str:
        """What to type for the next step; empty where nothing is to be done."""
        command = _SAID[self.kind].command
        if not self.root:
            command = command.partition(" --root")[0]
        return command.format(path=shlex.quote(self.run_path), root=shlex.quote(self.root))

    def as_json(self) -> dict[str, Any]:
        """As rows keep it."""
        return asdict(self)


@dataclass
class Mismatches:
    """The first mismatches of each kind, and how many there are."""

    counts: Counter[str] = field(default_factory=Counter)
    listed: list[Mismatch] = field(default_factory=list)
    # Runs that one mismatch explains: another look need not tell of them.
    explained: set[int] = field(default_factory=set)

    def add(self, mismatch: Mismatch) -> None:
        self.counts[mismatch.kind] += 1
        if self.counts[mismatch.kind] <= LISTED:
            self.listed.append(mismatch)

    @property
    def in_order(self) -> list[Mismatch]:
        """The urgent kinds first."""
        order = list(MismatchKind)
        return sorted(self.listed, key=lambda each: (order.index(each.kind), each.root, each.run_path, each.detail))


def from_json(counts: dict[str, int], listed: list[dict[str, Any]]) -> Mismatches:
    """The mismatches that a row keeps; kinds of another version are left out."""
    known = [each for each in listed if each.get("kind") in set(MismatchKind)]
    found = [Mismatch(**{**each, "kind": MismatchKind(each["kind"])}) for each in known]
    return Mismatches(Counter({kind: count for kind, count in counts.items() if kind in set(MismatchKind)}), found)
