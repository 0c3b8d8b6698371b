"""Whether two runs may be one and the same, by what is known of each: then a hold of one keeps the other as well.

Folders are renamed and copied, records are written anew, so any one of several signs is enough. A wrong yes keeps a run
until a person says otherwise; a wrong no would end a person's hold.
"""

from dataclasses import dataclass
from datetime import datetime

UNKNOWN = "-"


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a run is known by. `root` is the key of its staging root.

    `inode`, `birth` and `origin` are the parts of its identity, `-` if unknown. `manifest`: SHA-256 of one with at
    least one line, else empty.
    """

    root: int
    inode: str
    birth: str
    origin: str
    manifest: str
    verified_at: datetime | None
    equipment: str
    project: str
    kind: str
    leaf: str

    @property
    def keys(self) -> tuple[tuple[str, object], ...]:
        """Signs of which another run must share at least one to be like this one."""
        found: list[tuple[str, object]] = [("inode", self.inode)]
        found += [("origin", self.origin)] if self.origin != UNKNOWN else []
        found += [("manifest", self.manifest)] if self.manifest else []
        for place in (("equipment", self.equipment), ("project", self.project)):
            found.append(("leaf", (*place, self.kind, self.leaf)))
            found += [("verified", (*place, self.verified_at))] if self.verified_at else []
        return tuple(found)


def same_folder(ours: Traits, theirs: Traits) -> bool:
    """Whether inode and birth time of both are known and equal: no two folders share both."""
    return ours.inode == theirs.inode and UNKNOWN not in (ours.birth, theirs.birth) and ours.birth == theirs.birth


def likeness(ours: Traits, theirs: Traits, *, away: bool) -> str:
    """By what a run may be another one, in words; empty if by nothing.

    `away`: the other one does not lie at its place now. While it does, only copies count: to have begun or been
    verified in the same second does not.
    """
    if same_folder(ours, theirs):
        return "the same folder, by inode and time of birth"
    if ours.manifest and ours.manifest == theirs.manifest and (away or _same_name_or_times(ours, theirs)):
        return "the same manifest"
    if ours.origin != UNKNOWN and ours.origin == theirs.origin and (away or _same_name_and_times(ours, theirs)):
        return "the same beginning of its record"
    return _of_one_away(ours, theirs) if away else ""


def _of_one_away(ours: Traits, theirs: Traits) -> str:
    """Further signs, where the other run is not at its place: it may have been renamed, copied and written anew."""
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
