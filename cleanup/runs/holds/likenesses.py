"""Likenesses: rows that may be one run, after it was renamed, moved or copied.

A hold on one row keeps the other until the operator denies the likeness.
"""

import contextlib
import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from cleanup.lab.roots import opening
from cleanup.ledger import book, entries
from cleanup.models import Hold, HoldSource, LedgerKind, Likeness, Phase, Run
from cleanup.rules import short_texts
from cleanup.rules.facts import Facts
from cleanup.rules.likeness import UNKNOWN, Traits, likeness
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs.facts import identity
from cleanup.storage import linux

logger = logging.getLogger(__name__)

# The digest of an empty manifest, which many runs have.
_OF_NOTHING = hashlib.sha256(b"").hexdigest()
# A sign that more runs share, as from a template, identifies none.
_SHARED_BY_MANY = 20
_BY_ANOTHER = "like a third run, which may be both"


@dataclass
class KnownRuns:
    """All runs that may be found under another path, by their signs.

    `kept`: runs under a hold, and those that may be one of them.
    """

    _traits: dict[int, Traits] = field(default_factory=dict)
    _by_key: defaultdict[tuple[str, object], set[int]] = field(default_factory=lambda: defaultdict(set))
    _away: dict[int, bool] = field(default_factory=dict)
    _paths: dict[int, tuple[str, bool]] = field(default_factory=dict)
    _kept: set[int] = field(default_factory=set)
    _never_seen: set[int] = field(default_factory=set)
    _is_read: bool = False

    def like(self, run: Run, traits: Traits) -> Iterator[tuple[int, str]]:
        """Yield the keys of the runs that a run may be, each with its evidence."""
        self.read()
        for key in sorted(self._candidates(traits) - {run.pk}):
            if self._is_followed_by(key, run):
                continue  # its holds were laid on its successor
            if evidence := self._evidence(traits, key):
                yield key, evidence

    def _candidates(self, traits: Traits) -> set[int]:
        # Where many runs share a sign, only those under a hold count.
        found: set[int] = set()
        for key in traits.keys:
            sharing = self._by_key.get(key, set())
            found |= sharing if len(sharing) <= _SHARED_BY_MANY or key[0] == "inode" else sharing & self._kept
        return found

    def keep(self, key: int, like: Iterable[int]) -> None:
        """If a run may be a kept one, keep it too."""
        if not self._kept.isdisjoint(like):
            self._kept.add(key)

    def add(self, key: int, traits: Traits, path: str, *, is_gone: bool = False) -> None:
        self._never_seen.discard(key)
        for old in self._traits[key].keys if key in self._traits else ():
            self._by_key[old].discard(key)
        self._traits[key], self._paths[key] = traits, (path, is_gone)
        for new in traits.keys:
            self._by_key[new].add(key)

    def note_is_here(self, key: int) -> None:
        """Remember that this pass has just seen a run at its path."""
        self._away[key] = False

    def _evidence(self, traits: Traits, key: int) -> str:
        theirs = self._traits[key]
        if key in self._never_seen and not self._is_away(key):
            return ""  # a row of which not all signs are known: it is compared when it is looked at
        if there := likeness(traits, theirs, away=False):
            return there
        evidence = likeness(traits, theirs, away=True)
        return evidence if evidence and self._is_away(key) else ""

    def _is_followed_by(self, key: int, run: Run) -> bool:
        # Declared gone at this run's path, with only such runs in between.
        path, is_gone = self._paths[key]
        if not is_gone or (self._traits[key].root, path) != (run.root_id, run.run_path):
            return False
        # A run that stayed and was cleared ended the holds: its successor got none.
        between = Run.objects.filter(root=run.root_id, run_path=path, gone_at=None, pk__gt=key, pk__lt=run.pk)
        return not between.exists()

    def _is_away(self, key: int) -> bool:
        if key not in self._away:
            self._away[key] = is_away(Run.objects.select_related("root").defer("facts").get(pk=key))
        return self._away[key]

    def read(self) -> None:
        """Read the rows, once: before those of new runs are made, whose signs are not known yet."""
        if self._is_read:
            return
        self._is_read = True
        # A held run may lie elsewhere even if its record says cleared.
        held = Hold.objects.filter(source=HoldSource.PERSON, released_at=None).order_by().values("run")
        rows = Run.objects.filter(~Q(state=State.CLEARED) | Q(pk__in=held)).order_by().only(*_COLUMNS)
        alike = Likeness.objects.standing().filter(other__in=held).order_by()
        self._kept = {*held.values_list("run", flat=True), *alike.values_list("run", flat=True)}
        for run in rows.iterator(chunk_size=2000):
            self.add(run.pk, traits_of(run), run.run_path, is_gone=run.gone_at is not None)
            if run.looked_at is None:
                self._never_seen.add(run.pk)


_COLUMNS = (
    "root",
    "run_path",
    "identity",
    "manifest_sha256",
    "verified_at",
    "equipment",
    "project",
    "run_kind",
    "leaf",
    "gone_at",
    "looked_at",
)


def traits_of(run: Run) -> Traits:
    """Return a run's signs from its row."""
    inode, birth, origin = [*run.identity.split(":"), UNKNOWN, UNKNOWN, UNKNOWN][:3]
    return Traits(
        root=run.root_id,
        inode=inode,
        birth=birth,
        origin=origin,
        manifest=run.manifest_sha256,
        verified_at=run.verified_at,
        equipment=run.equipment,
        project=run.project,
        kind=run.run_kind,
        leaf=run.leaf,
    )


def note(run: Run, facts: Facts, known: KnownRuns, *, now: datetime, is_stored_later: bool = False) -> bool:
    """Write down which runs a run may be, if its signs changed; returns whether any is new.

    Call it before the look is stored: until then nothing clears the run. `is_stored_later`: the look is stored with
    `traits` and `manifest_sha256`, so without a likeness nothing is written now.
    """
    another = any(finding.reason is Reason.IDENTITY_MISMATCH for finding in facts.path_findings)
    if another or run.state == State.CLEARED:
        return False
    known.note_is_here(run.pk)
    seen = facts.proof.manifest_sha256 if facts.proof else ""
    if seen and seen != _OF_NOTHING:
        run.manifest_sha256 = seen
    traits = traits_of(run)
    digest = hashlib.sha256(repr((run.run_path, traits)).encode()).hexdigest()
    if run.traits == digest:
        return False
    found = dict(known.like(run, traits))
    known.add(run.pk, traits, run.run_path)
    known.keep(run.pk, found)
    run.traits = digest
    if found or not is_stored_later:
        with transaction.atomic() if found else contextlib.nullcontext():
            Run.objects.filter(pk=run.pk).update(traits=digest, manifest_sha256=run.manifest_sha256)
            _link(run, found, now)
    return bool(found)


def deny(run: Run, others: Iterable[int], *, actor: str, note: str, now: datetime) -> int:
    """Write down that the operator denies these likenesses; returns how many are new. Later looks keep to it.

    Raises ValueError for a too long reason.
    """
    note, keys = short_texts.not_too_long(note), list(others)
    pairs = Q(run=run, other__in=keys) | Q(run__in=keys, other=run)
    with book.writing():
        standing = list(Likeness.objects.standing().filter(run=run, other__in=keys).select_related("other"))
        Likeness.objects.standing().filter(pairs).update(denied_at=now, denied_by=actor, note=note)
        Run.objects.filter(pk__in=[run.pk, *keys]).doubt()
        for alike in standing:
            entries.write_entry(
                run,
                kind=LedgerKind.REREGISTERED,
                actor=actor,
                now=now,
                reason="",
                detail=f"not the same run as {alike.other.run_path} ({alike.evidence}); {note}",
            )
    for alike in standing:
        logger.info("%s is not the same run as %s, says %s", run.run_path, alike.other.run_path, actor)
    return len(standing)


def is_away(run: Run) -> bool:
    """Return whether a run is not at its path now; true where the disk does not answer."""
    if run.gone_at is not None or run.state == State.CLEARED:
        return True
    if run.root.host != settings.EXLAB_HOST:
        return run.problem == Reason.MISSING_DIRECTORY
    if run.active_attempt is not None or run.attempts.filter(phase=Phase.CONFLICT).exists():
        return False  # it is in its fence
    try:
        with opening.open_root(run.root) as root, opening.open_run(root, run.run_path) as opened:
            seen = identity.of(linux.status(opened.run), None)
            return not identity.same(run.identity, seen)
    except (opening.Unreachable, OSError):
        return True


def _link(run: Run, found: dict[int, str], now: datetime) -> None:
    further = Likeness.objects.standing().filter(run__in=found).exclude(other=run).values_list("other", flat=True)
    found = {**dict.fromkeys(further, _BY_ANOTHER), **found}
    if not found:
        return
    rows = [Likeness(run=run, other_id=key, evidence=evidence, found_at=now) for key, evidence in found.items()]
    rows += [Likeness(run_id=key, other=run, evidence=evidence, found_at=now) for key, evidence in found.items()]
    Likeness.objects.bulk_create(rows, ignore_conflicts=True)  # a denied likeness stays denied
    Run.objects.filter(pk__in=[run.pk, *found]).doubt()
    logger.info("%s may be %s", run.run_path, ", ".join(f"run {key}: {why}" for key, why in sorted(found.items())))
