"""The notice of an instrument: how long its data stays, by the rules in force and by what happened."""

from collections.abc import Iterator
from datetime import timedelta

from cleanup.ledger.kept_times import KeptTimes
from cleanup.rules.policies.policy import ProofLevel
from cleanup.rules.policies.promise import Promise
from cleanup.rules.quantities import say_hours
from cleanup.text.values import runs

PROOFS = {
    ProofLevel.CHECKSUM: "Every byte is compared with its checksum before data goes.",
    ProofLevel.SIZE: "The names and sizes of all files are compared with the copy before data goes, not every byte.",
    ProofLevel.RECORD: "Before data goes, the record of its verification is checked. The files are not compared again.",
}
# The proofs of the ledger that compare every byte.
_BYTES = frozenset({"checksum", "accepted"})


def rules(promise: Promise) -> list[str]:
    """What the rules in force say, in sentences."""
    return [*_stays(promise), PROOFS[promise.proof]]


def _stays(promise: Promise) -> Iterator[str]:
    if not promise.scheduled:
        yield "Data stays until a person clears it. No automatic clearing takes data of this instrument."
        yield "A person may clear a run as soon as its copy on the NAS is verified."
        return
    after = "its copy on the NAS is verified"
    if promise.retain_hours:
        yield f"Automatic clearing keeps data at least {say_hours(promise.retain_hours)} after {after}."
    else:
        yield f"Automatic clearing may take data as soon as {after}."
    if promise.differing:
        yield "Some runs are kept longer, or only a person clears them."
    if promise.crowded_hours is not None:
        crowded = f"earlier, but not before {say_hours(promise.crowded_hours)}" if promise.crowded_hours else "at once"
        yield f"When the staging disk is too full, it may take data {crowded}."
    yield f"A person may clear a run earlier, as soon as {after}."


def happened(kept: KeptTimes, promise: Promise) -> list[str]:
    """What was cleared in the time of the numbers, in sentences."""
    return list(_happened(kept, promise))


def _happened(kept: KeptTimes, promise: Promise) -> Iterator[str]:
    if kept.clears:
        yield f"{runs(len(kept.clears))} {_were(len(kept.clears))} cleared."
    else:
        yield "No run was cleared."
    lengths, median = kept.lengths, kept.median
    if lengths and median is not None:
        yield f"Shortest time from verification to clearing: {at_least(lengths[0])}. Median: {at_least(median)}."
    if unknown := len(kept.clears) - len(lengths):
        yield f"The time is not known for {runs(unknown)}."
    if lengths and promise.scheduled and promise.retain_hours:
        yield _earlier(kept, promise.retain_hours)
    untold = kept.levels.get("", 0)
    weaker = sum(number for level, number in kept.levels.items() if level not in _BYTES) - untold
    if untold:
        yield f"How the copy was compared is not known for {runs(untold)}."
    if weaker:
        yield f"Not every byte was compared for {runs(weaker)}."
    if kept.clears and not untold and not weaker:
        yield "Every byte was compared for all of them." if len(kept.clears) > 1 else "Every byte was compared."
    if kept.by_others:
        by = f"{runs(kept.by_others)} {_were(kept.by_others)} cleared by another program"
        yield f"{by}; these numbers do not tell how."


def _earlier(kept: KeptTimes, hours: float) -> str:
    early = kept.earlier_than(hours)
    if not early.total:
        return f"None went earlier than {say_hours(hours)}."
    parts = (
        (early.by_hand, "by a person"),
        (early.crowded, "because the disk was too full"),
        (early.otherwise, "by another rule"),
    )
    said = ", ".join(f"{number:,} {why}" for number, why in parts if number)
    return f"{early.total:,} went earlier than {say_hours(hours)}: {said}."


def at_least(length: timedelta) -> str:
    """`45 s`, `31 h`, `6 days`: never longer than it was."""
    seconds = max(int(length.total_seconds()), 0)
    for word, size, least in (("days", 86_400, 4), ("h", 3_600, 2), ("min", 60, 2)):
        if seconds >= least * size:
            return f"{seconds // size:,} {word}"
    return f"{seconds} s"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"
