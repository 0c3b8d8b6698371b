"""Whether two runs may be one: then a hold of one keeps both.

Folders are renamed and copied, records rewritten, so one sign is enough. A wrong yes keeps a run until an operator
denies it; a wrong no would end a hold.
"""

from dataclasses import dataclass
from datetime import datetime

UNKNOWN = "-"


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a run is known by; `inode`, `birth`, `origin`: `-` if unknown."""

    root: int  # key of its staging root
    inode: str
    birth: str
    origin: str
    manifest: str  # SHA-256 of one with at least one line, else empty
    verified_at: datetime | None
    equipment: str
    project: str
    kind: str
    leaf: str

    @property
    def keys(self) -> tuple[tuple[str, object], ...]:
        """A run like this one shares at least one."""
        found: list[tuple[str, object]] = [("inode", self.inode)]
        found += [("origin", self.origin)] if self.origin != UNKNOWN else []
        found += [("manifest", self.manifest)] if self.manifest else []
        for place in (("equipment", self.equipment), ("project", self.project)):
            found.append(("leaf", (*place, self.kind, self.leaf)))
            found += [("verified", (*place, self.verified_at))] if self.verified_at else []
        return tuple(found)


def same_folder(ours: Traits, theirs: Traits) -> bool:
    """Whether inode and birth time are known and equal."""
    return ours.inode == theirs.inode and UNKNOWN not in (ours.birth, theirs.birth) and ours.birth == theirs.birth


def likeness(ours: Traits, theirs: Traits, *, away: bool) -> str:
    """Why a run may be the other one, in words, or empty.

    `away`: the other is not at its place now. While it is, only copies count, not a start or verification in the same
    second.
    """
    if same_folder(ours, theirs):
        return "the same folder, by inode and time of birth"
    if ours.manifest and ours.manifest == theirs.manifest and (away or _same_name_or_times(ours, theirs)):
        return "the same manifest"
    if ours.origin != UNKNOWN and ours.origin == theirs.origin and (away or _same_name_and_times(ours, theirs)):
        return "the same beginning of its record"
    return _of_one_away(ours, theirs) if away else ""


def _of_one_away(ours: Traits, theirs: Traits) -> str:
    """It may have been renamed, copied and rewritten."""
    if ours.root == theirs.root and ours.inode == theirs.inode and UNKNOWN in (ours.birth, theirs.birth):
        return "the same folder, by its inode"
    if not (ours.equipment == theirs.equipment or ours.project == theirs.project) or ours.kind != theirs.kind:
        return ""
    if ours.leaf == theirs.leaf:
        return "the same name under the same instrument or project"
    if ours.verified_at is not None and ours.verified_at == theirs.verified_at:
        return "verified in the same second"
    return ""


def _same_name_or_times(ours: Traits, theirs: Traits) -> bool:
    same_times = ours.origin == theirs.origin != UNKNOWN or ours.verified_at == theirs.verified_at
    return same_times or ours.leaf == theirs.leaf


def _same_name_and_times(ours: Traits, theirs: Traits) -> bool:
    """Signs of a copy without a manifest: its name and its history."""
    if ours.verified_at is None or (ours.manifest and theirs.manifest):
        return False
    return (ours.kind, ours.leaf, ours.verified_at) == (theirs.kind, theirs.leaf, theirs.verified_at)
