"""The promises, each checked against what was noted before, with no code of the product.

 1 twin          every byte that was staged is still there or identical on the NAS; metadata, and what a
                desktop laid: there or in the tombstone
 2 recorded      something is missing: it was authorised before; the clear is over: it says so
 3 not torn      at the run's path lies the complete run or nothing, at every moment
 4 once          one `cleared` entry, one `authorised`, one `completed`
 5 converges     after recovery nothing is active or left over, and another recovery and discovery change nothing
 6 contained     nothing else has changed; receipts are laid on the NAS after the clear, under new names only
 7 fail closed   what cannot be known leads to nothing being removed
 8 own only      names that only look like ours, and neighbours, stay
 9 truthful      the ledger counts what went, no more and no less
10 append-only   history and ledger rows are only ever added
11 fresh         a change before the commit brings the run back, the very same inodes
12 durable       all of this holds after a power failure too
"""

import functools
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cleanup.clears import recovery
from cleanup.runs import discovery
from tests.faults.stage import (
    DESKTOP_FILE,
    LATER,
    Stage,
    Subject,
    Thing,
    Things,
    census,
    differences,
    hexadecimal,
    look,
    same,
)
from tests.tools.lab import METADATA

RECORD = f"{METADATA}/ingest.json"
_ACTIVE = ("queued", "intent", "committed")


@dataclass(frozen=True)
class Violation:
    promise: int
    point: str
    words: str

    def __str__(self) -> str:
        return f"promise {self.promise} broken at {self.point}: {self.words}"


Broken = Iterator[tuple[int, str]]


def violations(point: str, *broken: Broken) -> list[Violation]:
    return [Violation(promise, point, words) for each in broken for promise, words in each]


def in_power_failure(found: list[Violation]) -> list[Violation]:
    """Turn the promise of each violation into 12, durable."""
    return [replace(violation, promise=12) for violation in found]


def at_every_moment(stage: Stage) -> Broken:
    subject = stage.subject
    at_path, fenced = look(subject.path), look(fence_of(stage))
    yield from _not_torn(subject, at_path)
    yield from _kept(stage, at_path, fenced)
    yield from _recorded_first(subject, at_path, fenced)
    yield from _contained(stage)
    yield from _append_only(subject)


def when_settled(stage: Stage, *, may_leave: bool = False) -> Broken:
    yield from at_every_moment(stage)
    subject = stage.subject
    if subject.state() != "cleared":
        yield from _back(stage)
    elif may_leave and stage.ours():
        yield from _partly_gone(stage)
    else:
        yield from _gone(stage)
    active = [attempt for attempt in subject.attempts() if attempt["phase"] in _ACTIVE]
    if active:
        yield 5, f"an attempt is still {active[0]['phase']} ({active[0]['detail']})"
    if not may_leave and (left := stage.ours()):
        yield 5, f"left over: {', '.join(path.name for path in left)}"
    yield from _tidy(stage)


def when_looked_at_again(stage: Stage) -> Broken:
    subject = stage.subject
    before = look(stage.lab.staging), subject.ledger(), subject.events(), subject.state()
    recovery.recover(now=stage.now + LATER)
    if stage.is_thorough():
        discovery.discover(stage.root, now=stage.now + LATER)
    after = look(stage.lab.staging), subject.ledger(), subject.events(), subject.state()
    if not same(before[0], after[0]):
        yield 5, f"a second recovery changed the disk: {differences(before[0], after[0])}"
    if before[1:] != after[1:]:
        yield 5, "a second recovery or a discovery changed the database"


def fence_of(stage: Stage) -> Path:
    return next((path for path in stage.ours() if path.is_dir()), stage.folder / ".exlab-clearing")


def _not_torn(subject: Subject, at_path: Things) -> Broken:
    missing = subject.expected.keys() - at_path.keys()
    if at_path and missing and at_path["."].ino == subject.before["."].ino:
        yield 3, f"the run at its path lacks {', '.join(sorted(missing))}"


def _kept(stage: Stage, at_path: Things, fenced: Things) -> Broken:
    """Promise 1, for the last state: bytes that were changed meanwhile have no twin."""
    subject = stage.subject
    gone = {
        name: thing
        for name, thing in subject.expected.items()
        if thing.kind == "-" and not any(thing.same_as(place.get(name)) for place in (at_path, fenced))
    }
    twin = look(subject.twin) if gone else {}
    for name, thing in gone.items():
        copy = twin.get(name)
        if name == DESKTOP_FILE:
            if not any(thing.content == tombstone.get(f"desktop/{name}") for tombstone in _tombstones(stage)):
                yield 1, f"{name} is gone and not in a tombstone"
        elif not name.startswith(f"{METADATA}/"):
            if copy is None or copy.content != thing.content:
                yield 1, f"{name} is gone and has no twin"
        elif not any(thing.content in _versions(tombstone, name) for tombstone in _tombstones(stage)):
            yield 1, f"{name} is gone and not in a tombstone"


def _recorded_first(subject: Subject, at_path: Things, fenced: Things) -> Broken:
    """Promise 2: before the first file goes, the ledger and the record on disk say so; the record goes last."""
    there = at_path or fenced
    missing = {
        name for name, thing in subject.expected.items() if thing.kind == "-" and not thing.same_as(there.get(name))
    } - {subject.record}
    if not missing:
        return
    if not any(row["kind"] == "authorised" for row in subject.ledger()):
        yield 2, f"{len(missing)} files are gone or changed, and nothing was authorised"
    others = [name for name, thing in fenced.items() if thing.kind == "-" and name != subject.record]
    record = fenced.get(subject.record)
    if record is None:
        if others:
            yield 2, f"the record is gone while {others[0]} is still there"
    elif _last_state(record.content) != "cleared":
        yield 2, "files are gone, and the record on disk does not say so"


def _last_state(record: bytes) -> str:
    try:
        said = json.loads(record)
        if "history" not in said:
            return "cleared" if "cleared_at" in said else "staged"
        return str(said["history"][-1]["state"])
    except (ValueError, KeyError):
        return "unreadable"


def _contained(stage: Stage) -> Broken:
    after = stage.surroundings()
    if same(stage.around, after):
        return
    names = differences(stage.around, after)
    yield (8 if ".exlab-clearing-" in names or "-copy" in names else 6), f"changed: {names}"


def _append_only(subject: Subject) -> Broken:
    before = subject.ledger_before
    if subject.ledger()[: len(before)] != before:
        yield 10, "rows of the ledger have changed"


def _back(stage: Stage) -> Broken:
    subject = stage.subject
    after = look(subject.path)
    if not same(subject.expected, after):
        yield 11, f"the run did not come back as it was: {differences(subject.expected, after)}"
    if subject.state() != "sync_verified":
        yield 5, f"the run is {subject.state()}"
    if [event["state"] for event in subject.events()] != subject.history:
        yield 4, f"its history is {[event['state'] for event in subject.events()]}"
    claims = {"authorised", "completed", "partial"} & {row["kind"] for row in subject.ledger()}
    if claims:
        yield 9, f"the ledger says {', '.join(sorted(claims))} of a run that is back"


def _tidy(stage: Stage) -> Broken:
    for attempt in stage.subject.attempts():
        if attempt["reason"] == "storage_error":
            continue  # its files could not be removed; no program reads them
        name = hexadecimal(attempt["id"])
        kept = [path.name for path in (*stage.data.glob(f"plans/{name}*"), *stage.data.glob(f"tombstones/{name}*"))]
        wrong = [each for each in kept if each.endswith(".part") or attempt["phase"] != "done"]
        if wrong and attempt["phase"] not in _ACTIVE:
            yield 5, f"kept in the data directory: {', '.join(wrong)}"


def _gone(stage: Stage) -> Broken:
    subject = stage.subject
    if subject.path.exists():
        yield 5, "the run is called cleared and lies at its path"
    if [event["state"] for event in subject.events()] != [*subject.history, "cleared"]:
        yield 4, f"its history is {[event['state'] for event in subject.events()]}"
    ledger = subject.ledger()
    kinds = [row["kind"] for row in ledger]
    if kinds.count("authorised") != 1 or kinds.count("completed") != 1:
        yield 4, f"the ledger says {kinds}"
    yield from claims_what_went(stage, subject.before)
    counted = subject.census
    authorised = [(row["files"], row["bytes"]) for row in ledger if row["kind"] == "authorised"]
    if authorised[:1] != [(counted.files, counted.bytes)]:
        yield 9, f"authorised were {authorised}, there were {(counted.files, counted.bytes)}"
    phases = [attempt["phase"] for attempt in subject.attempts()]
    if phases.count("done") != 1:
        yield 5, f"its attempts are {phases}"
    name = Path(subject.record).name
    if not any(_last_state(tombstone.get(name, b"")) == "cleared" for tombstone in _tombstones(stage)):
        yield 2, "no tombstone holds the final record"


def _partly_gone(stage: Stage) -> Broken:
    kinds = [row["kind"] for row in stage.subject.ledger()]
    if kinds.count("authorised") != 1 or kinds.count("completed") or not kinds.count("partial"):
        yield 4, f"the ledger says {kinds} of a run that is partly gone"
    yield from claims_what_went(stage, what_went(stage))


def what_went(stage: Stage) -> Things:
    fenced = look(fence_of(stage))
    elsewhere = {(thing.ino, thing.content) for thing in look(stage.canary).values()}

    def is_left(name: str, thing: Thing) -> bool:
        # By inode alone a file that was made since could be taken for one that has gone.
        own = name in fenced and (fenced[name].ino == thing.ino or name == stage.subject.record)
        return own or (thing.ino, thing.content) in elsewhere

    return {name: thing for name, thing in stage.subject.before.items() if not is_left(name, thing)}


def claims_what_went(stage: Stage, went: Things) -> Broken:
    """Promise 9: compare all that the ledger says was freed with an independent count."""
    freeing = [row for row in stage.subject.ledger() if row["kind"] in ("completed", "partial")]
    claimed = {name: sum(row[name] for row in freeing) for name in ("files", "bytes", "allocated_bytes")}
    counted = census(went)
    truth = {"files": counted.files, "bytes": counted.bytes, "allocated_bytes": counted.allocated}
    if claimed != truth:
        yield 9, f"the ledger claims {claimed}, what went was {truth}"


def _tombstones(stage: Stage) -> Iterator[dict[str, bytes]]:
    for attempt in stage.subject.attempts():
        path = stage.data / "tombstones" / f"{hexadecimal(attempt['id'])}.tar.gz"
        try:
            yield _unpacked(path.read_bytes())
        except (FileNotFoundError, tarfile.ReadError, EOFError):
            continue


@functools.lru_cache(maxsize=16)
def _unpacked(archive: bytes) -> dict[str, bytes]:
    """The contents of an archive; cached because one point asks several times."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {member.name: opened.extractfile(member).read() for member in opened}  # type: ignore[union-attr]


def _versions(tombstone: dict[str, bytes], name: str) -> tuple[bytes | None, ...]:
    """What a tombstone holds of a metadata file: the original, and the record as it was published."""
    base = name.rpartition("/")[2]
    return tombstone.get(f"metadata/{base}"), tombstone.get(base)
