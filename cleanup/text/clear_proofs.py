"""What is compared before runs go, said once where it is the same for all of them."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from cleanup.clears.preview import Fate, Item
from cleanup.rules.policies.policy import ProofLevel

READ_AGAIN = "Every byte is read again."
PROVEN = "Every byte was compared within the last day; again only if anything has changed."
SAID = {
    ProofLevel.SIZE: "Names and sizes; bytes are not read.",
    ProofLevel.RECORD: "The wizard's record is trusted.",
}


@dataclass(frozen=True)
class CommonProof:
    """What holds for each of several runs; `looked_at`: the oldest look at one of them, None if one had none."""

    words: str
    looked_at: datetime | None


def common_proof(items: Collection[Item]) -> CommonProof | None:
    """None where runs differ, or where one has something of its own to say."""
    said = {_said(item) for item in items}
    if len(said) != 1 or "" in said:
        return None
    looks = [item.run.looked_at for item in items]
    known = [look for look in looks if look is not None]
    return CommonProof(said.pop(), min(known) if len(known) == len(looks) else None)


def _said(item: Item) -> str:
    if item.fate is not Fate.CLEARS or item.accepted is not None:
        return ""
    if item.policy.proof is ProofLevel.CHECKSUM:
        return PROVEN if item.proof is not None else READ_AGAIN
    return SAID[item.policy.proof]
