"""Clears of many runs at once: what would go and what would stay, the wish for exactly that, and how far it is.

A person decides by a preview. What is asked for afterwards is decided anew, and nothing is queued unless it comes to
the very same; then the clears are queued together or not at all. Each of them still asks every gate by itself.
"""

import hashlib
import json
import logging
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property

from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.db.models import Count, Exists, F, Max, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import Coalesce
from django_q.models import OrmQ

from cleanup import access, clearing, gathering, judging, proving, queueing, readiness
from cleanup.judging import Source
from cleanup.models import (
    ClearAttempt,
    ClearBatch,
    LedgerEntry,
    LedgerKind,
    Phase,
    Proof,
    RetentionPolicy,
    Run,
    RunQuerySet,
    StagingRoot,
    Tone,
)
from cleanup.policy.gates import Finding
from cleanup.policy.lifecycle import State
from cleanup.policy.reasons import Reason
from cleanup.policy.retention import Policy, ProofLevel, ScopedPolicy, effective_policy

logger = logging.getLogger(__name__)

# As many runs go at once; the others are for the next batch.
MAX_RUNS = 1000
# Above one of these a person types a number, so that nobody clears a whole disk by a click that went astray.
CONFIRM_ABOVE_RUNS = 20
CONFIRM_ABOVE_BYTES = 10**12
# So far the runs are counted that are left for the next batch, and the reasons why others stay.
COUNTED = 20_000
# Paused so long, a batch may have been forgotten; so many of them are told of at once.
FORGOTTEN_AFTER = timedelta(hours=1)
FORGOTTEN_AT_ONCE = 20
# A time left is a guess. It is made only after so much of the way, so long a time, and while something moves.
_GUESS_AFTER_RUNS = 2
_GUESS_AFTER = timedelta(seconds=10)
_MOVES = timedelta(minutes=2)
# However small a run is, its checks and its record take this long.
_FOR_EACH_RUN = timedelta(seconds=1)
_ENDED = (Phase.DONE, Phase.REFUSED, Phase.ABORTED, Phase.CONFLICT)
_STAYED = (Phase.REFUSED, Phase.ABORTED, Phase.CONFLICT)
# What a person is told who may see a run and not clear it; no gate says it.
NOT_PERMITTED = "not_permitted"


class Fate(StrEnum):
    """What becomes of a run when it is asked for."""

    CLEARS = "clears"
    FULL = "clears, every byte compared"
    AGAIN = "clears, tried again"
    STAYS = "stays"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One run of a preview. `reason` and `detail` say why it stays, or what stopped the last try.

    `proof` is a comparison of every byte that the clear may use again, where nothing has changed since. `mark` is a
    digest of what is shown of this run alone.
    """

    run: Run
    fate: Fate
    policy: Policy
    reason: str = ""
    detail: str = ""
    opens_at: datetime | None = None
    proof: Proof | None = None
    attempt: ClearAttempt | None = None
    changed: bool = False

    @property
    def goes(self) -> bool:
        return self.fate is not Fate.STAYS

    @property
    def nas_path(self) -> str:
        """Where the run's twin lies, as this host sees the NAS; empty where no NAS root is registered."""
        return f"{self.run.root.nas_path}/{self.run.run_path}" if self.run.root.nas_path else ""

    @property
    def on_trust(self) -> bool:
        """Whether it goes without anybody asking the NAS: the wizard's record alone says that a twin is there."""
        return self.policy.proof is ProofLevel.RECORD or not self.nas_path

    @property
    def allocated_bytes(self) -> int | None:
        """What was seen of the run's blocks; the column beside it follows a moment later."""
        size: int | None = (self.run.facts or {}).get("allocated_bytes")
        return size

    @property
    def sort_key(self) -> tuple[int, int]:
        return -(self.run.bytes or 0), -self.run.pk

    @property
    def mark(self) -> str:
        return hashlib.sha256(self.shown).hexdigest()[:12]

    @property
    def shown(self) -> bytes:
        """All of what a person decides by that may not change under their hands; no age is among it."""
        run = self.run
        return json.dumps(
            [
                run.pk,
                run.identity,
                run.files,
                run.bytes,
                self.allocated_bytes,
                self.fate,
                self.reason,
                self.policy.version,
                self.policy.proof,
                run.root.path,
                self.nas_path,
            ]
        ).encode()


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that stay for one reason."""

    reason: str
    items: tuple[Item, ...]

    @property
    def bytes(self) -> int:
        return sum(item.run.bytes or 0 for item in self.items)


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a person is shown before any clear, the largest first. Bytes are logical unless the name says otherwise.

    `unknown` are the keys of runs asked for that there are none of, or that this person may not see.
    """

    items: tuple[Item, ...]
    unknown: tuple[int, ...] = ()

    @cached_property
    def going(self) -> tuple[Item, ...]:
        return tuple(item for item in self.items if item.goes)

    @cached_property
    def staying(self) -> tuple[Item, ...]:
        return tuple(item for item in self.items if not item.goes)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Those that stay, by reason, most bytes first."""
        by_reason: dict[str, list[Item]] = {}
        for item in self.staying:
            by_reason.setdefault(item.reason, []).append(item)
        groups = (Group(reason=reason, items=tuple(items)) for reason, items in by_reason.items())
        return tuple(sorted(groups, key=lambda group: -group.bytes))

    @cached_property
    def files(self) -> int:
        return sum(item.run.files or 0 for item in self.going)

    @cached_property
    def bytes(self) -> int:
        return sum(item.run.bytes or 0 for item in self.going)

    @cached_property
    def allocated_bytes(self) -> int | None:
        """What the disk gets back, as far as blocks tell; None if that is not known of every run."""
        sizes = [item.allocated_bytes for item in self.going]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @cached_property
    def roots(self) -> tuple[StagingRoot, ...]:
        """The staging roots from which runs go."""
        roots = {item.run.root_id: item.run.root for item in self.going}
        return tuple(sorted(roots.values(), key=lambda root: root.name))

    @cached_property
    def full_comparisons(self) -> int:
        return sum(item.fate is Fate.FULL for item in self.going)

    @cached_property
    def on_trust(self) -> int:
        """How many runs go on the wizard's record alone."""
        return sum(item.on_trust for item in self.going)

    @cached_property
    def changed(self) -> tuple[Item, ...]:
        """The runs that are not as they were shown before."""
        return tuple(item for item in self.items if item.changed)

    @cached_property
    def keys(self) -> str:
        """The runs with the marks of what is shown of them, for the one field in which a form brings them back."""
        return " ".join([*(f"{item.run.pk}.{item.mark}" for item in self.items), *map(str, self.unknown)])

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of everything that a person decides by."""
        seen = hashlib.sha256(json.dumps(sorted(self.unknown)).encode())
        for item in sorted(self.items, key=lambda item: item.run.pk):
            seen.update(item.shown)
        return seen.hexdigest()

    @property
    def confirms(self) -> bool:
        """Whether so much goes that a person has to type a number."""
        return len(self.going) > CONFIRM_ABOVE_RUNS or self.bytes > CONFIRM_ABOVE_BYTES

    @property
    def number(self) -> int:
        """The number that is typed: of the runs, or of the one run's files."""
        return len(self.going) if len(self.going) != 1 else self.files


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Runs by their keys, each with the mark that it carried when it was shown (empty: it was not)."""

    marks: dict[int, str]

    @classmethod
    def parse(cls, text: str) -> "Asked":
        """Read `Preview.keys` back, at most as many as go at once; what is no key is dropped."""
        marks: dict[int, str] = {}
        for word in text.split():
            key, _dot, mark = word.partition(".")
            if len(marks) < MAX_RUNS and key.isascii() and key.isdigit() and 0 < int(key[:19]) < 2**63:
                marks[int(key[:19])] = mark[:12]
        return cls(marks=marks)

    @classmethod
    def of(cls, keys: Iterable[int]) -> "Asked":
        return cls(marks=dict.fromkeys(list(keys)[:MAX_RUNS], ""))


@dataclass(frozen=True, kw_only=True)
class Staying:
    """How many runs of a staging root stay for one reason, and their logical bytes."""

    tone: Tone
    reason: str
    runs: int
    bytes: int


class Changed(Exception):
    """What is asked for is no longer what was shown. Nothing has been queued; `preview` is how it is now."""

    def __init__(self, preview: Preview) -> None:
        super().__init__("the runs are not as they were shown")
        self.preview = preview


class NotConfirmed(Exception):
    """So much goes only with its number typed. Nothing has been queued."""

    def __init__(self, preview: Preview) -> None:
        super().__init__(f"{preview.number} was not typed")
        self.preview = preview


# Before


def safe_on(user: User | AnonymousUser, root: StagingRoot) -> RunQuerySet:
    """The runs of a staging root that were safe to clear when they were judged, and that somebody may clear."""
    return access.runs(user, access.CLEAR).here().filter(root=root, tone=Tone.GO)


def choose(runs: RunQuerySet) -> Asked:
    """The largest of some runs, as many as go at once."""
    largest = runs.order_by(Coalesce("bytes", 0).desc(), F("pk").desc())
    return Asked.of(largest.values_list("pk", flat=True)[:MAX_RUNS])


def left_over(runs: RunQuerySet, asked: Asked) -> int:
    """How many of some runs are left for the next batch, counted as far as COUNTED; none while more may go at once."""
    if len(asked.marks) < MAX_RUNS:
        return 0
    return runs.exclude(pk__in=list(asked.marks)).order_by()[:COUNTED].count()


def staying_on(user: User | AnonymousUser, root: StagingRoot) -> list[Staying]:
    """Why the other runs of a staging root stay, as they were judged; of the first COUNTED runs of each kind."""
    sums: dict[tuple[Tone, str], tuple[int, int]] = {}
    for tone in (Tone.BLOCK, Tone.WAIT, Tone.WORK):
        runs = access.runs(user).here().filter(root=root, tone=tone).order_by()
        for reason, size in runs.values_list("reason", "bytes")[:COUNTED]:
            number, total = sums.get((tone, reason), (0, 0))
            sums[tone, reason] = number + 1, total + (size or 0)
    stays = (Staying(tone=tone, reason=reason, runs=n, bytes=size) for (tone, reason), (n, size) in sums.items())
    return sorted(stays, key=lambda one: -one.bytes)


def preview(
    user: User | AnonymousUser, asked: Asked, now: datetime, *, hindrances: tuple[Finding, ...] | None = None
) -> Preview:
    """What would become of some runs, decided by the gates on stored facts; at most MAX_RUNS.

    What somebody may not see is counted, not named; what somebody may see and not clear stays. `hindrances` are those
    of this host, where the caller has asked for them already.
    """
    keys = list(asked.marks)[:MAX_RUNS]
    visible = access.runs(user).filter(pk__in=keys)
    permitted = set(access.runs(user, access.CLEAR).filter(pk__in=keys).values_list("pk", flat=True))
    attempts = judging.latest_attempts(visible)
    proofs = _whole_proofs(keys, now)
    policies = RetentionPolicy.objects.scoped()
    hindrances = readiness.hindrances() if hindrances is None else hindrances
    items: list[Item] = []
    for run in visible.with_root():
        item = _decide(run, attempts.get(run.pk), policies, hindrances, now)
        if run.pk not in permitted:
            item = replace(item, fate=Fate.STAYS, reason=NOT_PERMITTED, detail="", opens_at=None)
        known = asked.marks[run.pk]
        items.append(replace(item, proof=proofs.get(run.pk), changed=bool(known) and known != item.mark))
    found = {item.run.pk for item in items}
    return Preview(
        items=tuple(sorted(items, key=lambda item: item.sort_key)),
        unknown=tuple(key for key in keys if key not in found),
    )


def _decide(
    run: Run,
    attempt: ClearAttempt | None,
    policies: Sequence[ScopedPolicy],
    hindrances: tuple[Finding, ...],
    now: datetime,
) -> Item:
    item = Item(run=run, fate=Fate.STAYS, policy=effective_policy(policies, run.scope), attempt=attempt)
    if run.gone_at is not None:
        return replace(item, reason=Reason.IDENTITY_MISMATCH, detail="it was declared gone")
    if run.state == State.CLEARED:
        return replace(item, reason=Reason.ALREADY_CLEARED)
    if run.root.problem:
        return replace(item, reason=run.root.problem)
    active = attempt is not None and attempt.is_active
    decision = gathering.stored_decision(run, policies, now, other_attempt=active, hindrances=hindrances)
    if not decision.worth_trying or active:
        refusal = decision.main_refusal(operator=True)
        if refusal is None or refusal.reason is None:  # it is being cleared, and nothing else speaks against it
            return replace(item, reason=Reason.ALREADY_CLEARING)
        return replace(item, reason=refusal.reason, detail=refusal.detail, opens_at=refusal.opens_at)
    if decision.needs_full_comparison:
        return replace(item, fate=Fate.FULL, reason=Reason.CHANGED_SINCE_VERIFICATION)
    # One that a person stopped says nothing of the run.
    stopped = attempt is not None and attempt.reason == Reason.WITHDRAWN
    judgement = judging.judge(run, None if stopped else attempt, decision)
    if judgement.source in (Source.FAILURE, Source.PARKED):
        last = attempt.detail if attempt is not None and judgement.source is Source.FAILURE else ""
        return replace(item, fate=Fate.AGAIN, reason=judgement.reason, detail=last)
    return replace(item, fate=Fate.CLEARS)


def _whole_proofs(keys: Iterable[int], now: datetime) -> dict[int, Proof]:
    """The latest comparison of every byte of each run that a clear may still use, by the run's key."""
    recent = Proof.objects.filter(run__in=list(keys), level=ProofLevel.CHECKSUM).exclude(evidence="")
    recent = recent.filter(at__gt=now - proving.PROOF_MAX_AGE, at__lte=now)
    return {proof.run_id: proof for proof in recent.order_by("at")}


# The wish


def place(
    user: User,
    asked: Asked,
    *,
    digest: str,
    key: uuid.UUID,
    typed: int | None = None,
    note: str = "",
    now: datetime,
) -> ClearBatch:
    """Queue the clears that a preview has shown, all in one transaction with their tasks.

    `digest` is that of the preview and `key` the batch's, made with the preview: the same wish that comes twice leads
    to one batch. Raises Changed, NotConfirmed or AlreadyClearing, and nothing is queued then.
    """
    gathering.data_dir().relieve()
    with transaction.atomic():
        _lock(access.runs(user).filter(pk__in=list(asked.marks)))
        placed = ClearBatch.objects.filter(pk=key, actor=user.get_username(), digest=digest).first()
        if placed is not None:
            return placed
        shown = _expect_as_shown(user, asked, digest, typed, now)
        if ClearBatch.objects.filter(pk=key).exists():  # somebody else's, or made from another preview
            raise Changed(shown)
        batch = ClearBatch.objects.create(pk=key, actor=user.get_username(), note=note, digest=digest, created_at=now)
        queueing.request_many([(item.run, item.policy.version) for item in shown.going], batch=batch, now=now)
    return batch


def place_one(
    user: User, run: Run, *, digest: str, typed: int | None = None, note: str = "", now: datetime
) -> ClearAttempt:
    """Queue the clear of one run, as its preview has shown it; it has no batch.

    Raises Changed, NotConfirmed or AlreadyClearing, and nothing is queued then.
    """
    gathering.data_dir().relieve()
    asked = Asked.of([run.pk])
    with transaction.atomic():
        _lock(access.runs(user).filter(pk=run.pk))
        (item,) = _expect_as_shown(user, asked, digest, typed, now).going
        return queueing.request_clear(item.run, actor=user.get_username(), note=note, now=now)


def _lock(runs: RunQuerySet) -> None:
    """Let nobody change these runs until the transaction ends: a hold, a look and an attempt all lock the run's row.

    Always in the same order, so that two who lock many cannot wait for one another.
    """
    list(runs.order_by("pk").select_for_update(no_key=True).values_list("pk", flat=True))


def _expect_as_shown(user: User, asked: Asked, digest: str, typed: int | None, now: datetime) -> Preview:
    found = preview(user, asked, now)
    if found.digest != digest or not found.going:
        raise Changed(found)
    if found.confirms and typed != found.number:
        raise NotConfirmed(found)
    return found


# Pause, go on, stop


def pause(batch: ClearBatch, *, actor: str, now: datetime) -> bool:
    """Begin no other run of a batch; what is under way is finished. False: there was nothing to pause.

    When this returns, no attempt begins any more that had not begun.
    """
    waiting = ClearAttempt.objects.filter(batch=batch, phase=Phase.QUEUED)
    if not waiting.exists():
        return False
    open_one = ClearBatch.objects.filter(pk=batch.pk, paused_at=None, stopped_at=None)
    return bool(open_one.update(paused_at=now, paused_by=actor))


def resume(batch: ClearBatch, *, now: datetime) -> bool:
    """Let a paused batch go on: its waiting attempts are queued again. False: it was not paused."""
    with transaction.atomic():
        paused = _locked(batch, paused_at__isnull=False, stopped_at=None)
        if paused is None or paused.paused_at is None:
            return False
        seconds = paused.paused_seconds + max((now - paused.paused_at).total_seconds(), 0)
        ClearBatch.objects.filter(pk=batch.pk).update(paused_at=None, paused_by="", paused_seconds=seconds)
        _enqueue_again(batch, now)
    return True


def stop(batch: ClearBatch, *, actor: str, now: datetime) -> int:
    """Begin no run of a batch any more: what still waits is withdrawn, what is under way is finished.

    Returns how many were withdrawn. A batch that was stopped already stays as it is.
    """
    with transaction.atomic():
        found = _locked(batch, stopped_at=None)
        if found is None or not found.attempts.filter(phase=Phase.QUEUED).exists():
            return 0
        paused = 0.0 if found.paused_at is None else max((now - found.paused_at).total_seconds(), 0)
        ClearBatch.objects.filter(pk=batch.pk).update(
            stopped_at=now, stopped_by=actor, paused_at=None, paused_seconds=F("paused_seconds") + paused
        )
        return _withdraw(found, actor, now)


def forgotten(user: User | AnonymousUser, now: datetime) -> QuerySet[ClearBatch]:
    """Batches that were paused more than an hour ago and whose runs still wait, the longest first.

    At most FORGOTTEN_AT_ONCE, and those alone of which somebody may see a run that waits.
    """
    waiting = ClearAttempt.objects.filter(batch=OuterRef("pk"), phase=Phase.QUEUED, run__in=access.runs(user))
    paused = ClearBatch.objects.filter(paused_at__lte=now - FORGOTTEN_AFTER, stopped_at=None)
    return paused.filter(Exists(waiting)).order_by("paused_at", "pk")[:FORGOTTEN_AT_ONCE]


def _withdraw(batch: ClearBatch, actor: str, now: datetime) -> int:
    """End what waits; the batch is locked, so nothing of it begins meanwhile."""
    queued = batch.attempts.filter(phase=Phase.QUEUED).select_for_update(of=("self",))
    waiting = list(queued.select_related("run__root", "proof").order_by("pk"))
    runs = Run.objects.filter(pk__in=[attempt.run_id for attempt in waiting])
    _lock(runs)
    runs.doubt()
    why = {"reason": Reason.WITHDRAWN, "detail": f"by {actor}"}
    keys = [attempt.pk for attempt in waiting]
    ClearAttempt.objects.filter(pk__in=keys).update(phase=Phase.ABORTED, phase_at=now, **why)
    entries = [clearing.ledger_entry(attempt, LedgerKind.ABORTED, now, **why) for attempt in waiting]
    LedgerEntry.objects.bulk_create(entries, batch_size=100)
    logger.info("%d clears of the batch %s were withdrawn by %s", len(waiting), batch.pk, actor)
    return len(waiting)


def _locked(batch: ClearBatch, **wanted: object) -> ClearBatch | None:
    """The batch as it is now, if it is as wanted; whoever is about to begin one of its runs waits meanwhile."""
    return ClearBatch.objects.select_for_update(no_key=True).filter(pk=batch.pk, **wanted).first()


def _enqueue_again(batch: ClearBatch, now: datetime) -> None:
    """Queue the waiting attempts whose task has ended without them, or is about to: a worker may hold it already."""
    kept = {task.task_id() for task in OrmQ.objects.filter(Q(lock=None) | Q(lock__lte=now))}
    waiting = batch.attempts.filter(phase=Phase.QUEUED).select_related("run")
    lost = [attempt for attempt in waiting if attempt.task_id not in kept]
    if lost:
        queueing.enqueue(sorted(lost, key=lambda attempt: (-(attempt.run.bytes or 0), -attempt.run_id)))


# How far


@dataclass(frozen=True, kw_only=True)
class Work:
    """A run under way; `to_compare` are the bytes that are read on both sides, where bytes are read at all."""

    attempt: ClearAttempt
    to_compare: int


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a batch is. Bytes are logical unless the name says otherwise.

    `cleared` runs are gone, of which `incomplete` have left something; `stayed` were refused or put back, `withdrawn`
    stopped by a person before they had begun. `reasons` counts why, most frequent first.
    """

    batch: ClearBatch
    now: datetime
    runs: int
    cleared: int
    incomplete: int
    stayed: int
    withdrawn: int
    waiting: int
    under_way: tuple[Work, ...]
    total_bytes: int
    settled_bytes: int
    freed_files: int
    freed_bytes: int
    freed_allocated_bytes: int
    ended_at: datetime | None
    moved_at: datetime
    reasons: tuple[tuple[str, int], ...]

    @property
    def open(self) -> bool:
        """Whether something of it is still to come."""
        return bool(self.waiting or self.under_way)

    @property
    def paused(self) -> bool:
        return self.batch.paused_at is not None and self.open

    @property
    def settled(self) -> int:
        """The runs that are through, whatever became of them."""
        return self.cleared + self.stayed + self.withdrawn

    @property
    def percent(self) -> int:
        """How much of the way lies behind, by bytes where there are any; 100 only at its end."""
        if not self.open:
            return 100
        whole, done = (self.total_bytes, self.settled_bytes) if self.total_bytes else (self.runs, self.settled)
        return min(99, 100 * done // max(whole, 1))

    @property
    def active(self) -> timedelta:
        """How long it has been at work or in the queue, pauses apart."""
        end = self.ended_at or self.batch.paused_at or self.now
        span = end - self.batch.created_at - timedelta(seconds=self.batch.paused_seconds)
        return max(span, timedelta(0))

    @property
    def bytes_per_second(self) -> float | None:
        """Bytes freed in a second of its active time; None before anything was."""
        seconds = self.active.total_seconds()
        return self.freed_bytes / seconds if self.freed_bytes and seconds >= 1 else None

    @property
    def whole_bytes_per_second(self) -> int | None:
        """The same, without the fraction."""
        return None if self.bytes_per_second is None else round(self.bytes_per_second)

    @property
    def left(self) -> timedelta | None:
        """How long the rest takes at the speed so far; a guess, and None where none would be fair."""
        speed = self.bytes_per_second
        fair = self.cleared >= _GUESS_AFTER_RUNS and self.active >= _GUESS_AFTER and not self.paused
        if not (self.open and speed and fair and self.now - self.moved_at < _MOVES):
            return None
        runs = self.waiting + len(self.under_way)
        return runs * _FOR_EACH_RUN + timedelta(seconds=max(self.total_bytes - self.settled_bytes, 0) / speed)

    @property
    def left_minutes(self) -> int | None:
        """The same in minutes, rounded up."""
        return None if self.left is None else -(-self.left // timedelta(minutes=1))


def progress(batch: ClearBatch, now: datetime) -> Progress:
    """How far a batch is, from its rows alone."""
    attempts = ClearAttempt.objects.filter(batch=batch).order_by()
    done, ended = Q(phase=Phase.DONE), Q(phase__in=_ENDED)
    withdrawn = Q(phase=Phase.ABORTED, reason=Reason.WITHDRAWN)
    sums = attempts.aggregate(
        runs=Count("pk"),
        cleared=Count("pk", filter=done),
        incomplete=Count("pk", filter=done & Q(reason=Reason.REMOVAL_INCOMPLETE)),
        stayed=Count("pk", filter=Q(phase__in=_STAYED) & ~withdrawn),
        withdrawn=Count("pk", filter=withdrawn),
        waiting=Count("pk", filter=Q(phase=Phase.QUEUED)),
        total_bytes=Sum("run__bytes", default=0),
        settled_bytes=Sum("run__bytes", filter=ended, default=0),
        freed_files=Sum("freed_files", default=0),
        freed_bytes=Sum("freed_bytes", default=0),
        freed_allocated_bytes=Sum("freed_allocated_bytes", default=0),
        ended_at=Max("phase_at", filter=ended),
        moved_at=Max(Coalesce("progress_at", "phase_at")),
    )
    at_work = attempts.filter(phase__in=[Phase.INTENT, Phase.COMMITTED]).select_related("run__root")
    begun = list(at_work.order_by("created_at", "pk"))
    for attempt in begun:  # what is gone of the runs under way
        sums["settled_bytes"] += attempt.done_bytes
        sums["freed_bytes"] += attempt.done_bytes
        sums["freed_files"] += attempt.done_files
    under_way = tuple(
        Work(attempt=attempt, to_compare=max(2 * (attempt.run.bytes or 0), attempt.compared_bytes)) for attempt in begun
    )
    why = attempts.filter(phase__in=_STAYED).exclude(reason=Reason.WITHDRAWN).values_list("reason")
    reasons = tuple(why.annotate(runs=Count("pk")).order_by("-runs", "reason"))
    if sums["waiting"] or under_way:
        sums["ended_at"] = None
    sums["moved_at"] = max(batch.created_at, sums["moved_at"] or batch.created_at, *(one.phase_at for one in begun))
    return Progress(batch=batch, now=now, under_way=under_way, reasons=reasons, **sums)
