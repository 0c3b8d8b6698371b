"""What would become of some runs if an operator asked to clear them."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import F
from django.db.models.functions import Coalesce

from cleanup.lab import permissions, readiness
from cleanup.lab.nas import nas_flags, twin_of
from cleanup.models import ClearAttempt, Proof, RetentionPolicy, Run, RunQuerySet, StagingRoot, Status
from cleanup.rules.effective import effective_policy
from cleanup.rules.facts import AcceptedFacts, Finding
from cleanup.rules.policy import Policy, ProofLevel, ScopedPolicy
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs import proofs as run_proofs
from cleanup.runs import run_status, stored_facts
from cleanup.runs.run_status import Source

# As many runs go at once; the others are for the next batch.
MAX_RUNS = 1000
# Above one of these a person types a number, so that no whole disk is cleared by a click that went astray.
CONFIRM_ABOVE_RUNS = 20
CONFIRM_ABOVE_BYTES = 10**12
# So far the runs are counted that are left for the next batch, and the reasons why others stay.
COUNTED = 20_000
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

    `proof` is a whole comparison that the clear may use again. `mark` is a digest of what is shown of this run.
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
        return twin_of(self.run).full_path

    @property
    def on_trust(self) -> bool:
        """Whether it goes without a question to the NAS: the wizard's record alone says that a twin is there."""
        by_record = self.policy.proof is ProofLevel.RECORD and self.run.returned_at is None
        return by_record or not self.nas_path

    @property
    def only_here(self) -> str:
        """What the run has besides its bytes and the NAS lacks, in words; empty if nothing. It goes with the run."""
        found = stored_facts.only_here_of(self.run)
        return found.words if found else ""

    @property
    def accepted(self) -> AcceptedFacts | None:
        """The bytes that an admin has accepted in place of its manifest; a clear reads every byte then."""
        return stored_facts.accepted(self.run)

    @property
    def allocated_bytes(self) -> int | None:
        """What was seen of the run's blocks; the column beside it follows a moment later."""
        return stored_facts.allocated_bytes(self.run)

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
                self.only_here,
                self.policy.version,
                self.policy.proof,
                run.root.path,
                run.root.token,
                twin_of(run).root.token,
                nas_flags(run.root),
                self.nas_path,
                # What an operator has stopped is asked for again by a look that knows of it, not by an older one.
                str(self.attempt.pk) if self.attempt is not None else "",
                self.accepted.key if self.accepted is not None else None,
            ]
        ).encode()


@dataclass(frozen=True, kw_only=True)
class StayingGroup:
    """Runs that stay for one reason."""

    reason: str
    items: tuple[Item, ...]

    @property
    def bytes(self) -> int:
        return sum(item.run.bytes or 0 for item in self.items)


@dataclass(frozen=True, kw_only=True)
class ClearPreview:
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
    def groups(self) -> tuple[StayingGroup, ...]:
        """Those that stay, by reason, most bytes first."""
        by_reason: dict[str, list[Item]] = {}
        for item in self.staying:
            by_reason.setdefault(item.reason, []).append(item)
        groups = (StayingGroup(reason=reason, items=tuple(items)) for reason, items in by_reason.items())
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
class RequestedRuns:
    """Runs by their keys, each with the mark that it carried when it was shown (empty: it was not)."""

    marks: dict[int, str]

    @classmethod
    def parse(cls, text: str) -> "RequestedRuns":
        """Read `ClearPreview.keys` back, at most as many as go at once; what is no key is dropped."""
        marks: dict[int, str] = {}
        for word in text.split():
            key, _dot, mark = word.partition(".")
            if len(marks) < MAX_RUNS and key.isascii() and key.isdigit() and 0 < int(key[:19]) < 2**63:
                marks[int(key[:19])] = mark[:12]
        return cls(marks=marks)

    @classmethod
    def of(cls, keys: Iterable[int]) -> "RequestedRuns":
        return cls(marks=dict.fromkeys(list(keys)[:MAX_RUNS], ""))


@dataclass(frozen=True, kw_only=True)
class Staying:
    """How many runs of a staging root stay for one reason, and their logical bytes."""

    tone: Status
    reason: str
    runs: int
    bytes: int


def safe_on(user: User | AnonymousUser, root: StagingRoot) -> RunQuerySet:
    """The runs of a staging root that were safe to clear when they were judged, and that a user may clear."""
    return permissions.runs(user, permissions.CLEAR).here().filter(root=root, tone=Status.GO)


def choose(runs: RunQuerySet) -> RequestedRuns:
    """The largest of some runs, as many as go at once."""
    largest = runs.order_by(Coalesce("bytes", 0).desc(), F("pk").desc())
    return RequestedRuns.of(largest.values_list("pk", flat=True)[:MAX_RUNS])


def left_over(runs: RunQuerySet, asked: RequestedRuns) -> int:
    """How many of some runs are left for the next batch, counted as far as COUNTED; none while more may go at once."""
    if len(asked.marks) < MAX_RUNS:
        return 0
    return runs.exclude(pk__in=list(asked.marks)).order_by()[:COUNTED].count()


def staying_on(user: User | AnonymousUser, root: StagingRoot) -> list[Staying]:
    """Why the other runs of a staging root stay, as they were judged; of the first COUNTED runs of each kind."""
    sums: dict[tuple[Status, str], tuple[int, int]] = {}
    for tone in (Status.BLOCK, Status.WAIT, Status.WORK):
        runs = permissions.runs(user).here().filter(root=root, tone=tone).order_by()
        for reason, size in runs.values_list("reason", "bytes")[:COUNTED]:
            number, total = sums.get((tone, reason), (0, 0))
            sums[tone, reason] = number + 1, total + (size or 0)
    stays = (Staying(tone=tone, reason=reason, runs=n, bytes=size) for (tone, reason), (n, size) in sums.items())
    return sorted(stays, key=lambda one: -one.bytes)


def preview(
    user: User | AnonymousUser, asked: RequestedRuns, now: datetime, *, hindrances: tuple[Finding, ...] | None = None
) -> ClearPreview:
    """What would become of some runs, by the gates on stored facts; at most MAX_RUNS.

    Runs that the user may not see are counted, not named; those they may see and not clear stay. `hindrances` are this
    host's, where the caller has them.
    """
    keys = list(asked.marks)[:MAX_RUNS]
    visible = permissions.runs(user).filter(pk__in=keys)
    permitted = set(permissions.runs(user, permissions.CLEAR).filter(pk__in=keys).values_list("pk", flat=True))
    attempts = run_status.latest_attempts(visible)
    proofs = _whole_proofs(keys, now)
    policies = RetentionPolicy.objects.scoped()
    hindrances = readiness.hindrances() if hindrances is None else hindrances
    items: list[Item] = []
    runs = list(visible.with_root())
    stored_facts.look_up_failures(runs)
    for run in runs:
        item = _decide(run, attempts.get(run.pk), policies, hindrances, now)
        if run.pk not in permitted:
            item = replace(item, fate=Fate.STAYS, reason=NOT_PERMITTED, detail="", opens_at=None)
        known = asked.marks[run.pk]
        items.append(replace(item, proof=proofs.get(run.pk), changed=bool(known) and known != item.mark))
    found = {item.run.pk for item in items}
    return ClearPreview(
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
    decision = stored_facts.decision(run, policies, now, other_attempt=active, hindrances=hindrances)
    if not decision.worth_trying or active:
        refusal = decision.main_refusal(operator=True)
        if refusal is None or refusal.reason is None:  # it is being cleared, and nothing else speaks against it
            return replace(item, reason=Reason.ALREADY_CLEARING)
        return replace(item, reason=refusal.reason, detail=refusal.detail, opens_at=refusal.opens_at)
    if decision.needs_full_comparison:
        known = decision.main_refusal(operator=True)
        reason, detail = (known.reason, known.detail) if known and decision.is_known_to_differ else (None, "")
        return replace(item, fate=Fate.FULL, reason=reason or Reason.CHANGED_SINCE_VERIFICATION, detail=detail)
    judgement = run_status.judge(run, attempt, decision)
    if judgement.source in (Source.FAILURE, Source.PARKED):
        last = attempt.detail if attempt is not None and judgement.source is Source.FAILURE else ""
        return replace(item, fate=Fate.AGAIN, reason=judgement.reason, detail=last)
    return replace(item, fate=Fate.CLEARS)


def _whole_proofs(keys: Iterable[int], now: datetime) -> dict[int, Proof]:
    """The latest comparison of every byte of each run that a clear may still use, by the run's key."""
    recent = Proof.objects.filter(run__in=list(keys), level=ProofLevel.CHECKSUM).exclude(evidence="")
    recent = recent.filter(at__gt=now - run_proofs.PROOF_MAX_AGE, at__lte=now, run__difference=None)
    return {proof.run_id: proof for proof in recent.order_by("at")}
