"""What a clear would do with the runs that an operator asks for."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import F
from django.db.models.functions import Coalesce

from cleanup.lab import readiness
from cleanup.lab.nas.nas_roots import nas_flags, twin_of
from cleanup.lab.people import permissions
from cleanup.models import ClearAttempt, Proof, RetentionPolicy, Run, RunQuerySet, StagingRoot, Status
from cleanup.rules.facts import AcceptedFacts, Finding
from cleanup.rules.policies.effective import effective_policy
from cleanup.rules.policies.policy import Policy, ProofLevel, ScopedPolicy
from cleanup.rules.reasons import Reason
from cleanup.runs import run_status, shown_runs
from cleanup.runs.facts import stored_facts
from cleanup.runs.proofs import proofs as run_proofs
from cleanup.runs.run_status import JudgedRun, Source

# A larger request goes in several batches.
MAX_RUNS = 1000
# Above one of these the operator types a number, so that a wrong click clears no whole disk.
CONFIRM_ABOVE_RUNS = 20
CONFIRM_ABOVE_BYTES = 10**12
# Counting of the other runs stops here.
COUNTED = 20_000
# The reason shown for a run that the user may see but not clear; no gate gives it.
NOT_PERMITTED = "not_permitted"


class Fate(StrEnum):
    """What happens to a run that is asked for."""

    CLEARS = "clears"
    FULL = "clears, every byte compared"
    AGAIN = "clears, tried again"
    STAYS = "stays"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One run of a preview. `reason` says why it stays, or what stopped the last try.

    `proof` is a whole comparison that the clear may reuse; `mark` is a digest of what is shown.
    """

    run: Run
    fate: Fate
    policy: Policy
    judged: JudgedRun
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
        return twin_of(self.run).full_path

    @property
    def on_trust(self) -> bool:
        """Whether the clear relies on the wizard's record without asking the NAS."""
        by_record = self.policy.proof is ProofLevel.RECORD and self.run.returned_at is None
        return by_record or not self.nas_path

    @property
    def only_here(self) -> str:
        """In words what the NAS lacks besides bytes; empty if nothing."""
        found = stored_facts.only_here_of(self.run)
        return found.words if found else ""

    @property
    def accepted(self) -> AcceptedFacts | None:
        return stored_facts.accepted(self.run)

    @property
    def allocated_bytes(self) -> int | None:
        return stored_facts.allocated_bytes(self.run)

    @property
    def sort_key(self) -> tuple[int, int]:
        return -(self.run.bytes or 0), -self.run.pk

    @property
    def mark(self) -> str:
        return hashlib.sha256(self.shown).hexdigest()[:12]

    @property
    def shown(self) -> bytes:
        """What the operator decides by, as JSON. No age: it would change by itself."""
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
                # After a stop by an operator an older preview is not valid.
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
    """What the operator is shown before a clear, largest run first. Bytes are logical unless named otherwise.

    `unknown`: keys of missing runs and of runs that the user may not see.
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
        """By reason, most bytes first."""
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
        """None if it is not known of every run."""
        sizes = [item.allocated_bytes for item in self.going]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @cached_property
    def roots(self) -> tuple[StagingRoot, ...]:
        roots = {item.run.root_id: item.run.root for item in self.going}
        return tuple(sorted(roots.values(), key=lambda root: root.name))

    @cached_property
    def full_comparisons(self) -> int:
        return sum(item.fate is Fate.FULL for item in self.going)

    @cached_property
    def on_trust(self) -> int:
        return sum(item.on_trust for item in self.going)

    @cached_property
    def changed(self) -> tuple[Item, ...]:
        return tuple(item for item in self.items if item.changed)

    @cached_property
    def keys(self) -> str:
        """The runs with their marks, as one form field; `RequestedRuns.parse` reads it."""
        return " ".join([*(f"{item.run.pk}.{item.mark}" for item in self.items), *map(str, self.unknown)])

    @cached_property
    def digest(self) -> str:
        seen = hashlib.sha256(json.dumps(sorted(self.unknown)).encode())
        for item in sorted(self.items, key=lambda item: item.run.pk):
            seen.update(item.shown)
        return seen.hexdigest()

    @property
    def confirms(self) -> bool:
        return len(self.going) > CONFIRM_ABOVE_RUNS or self.bytes > CONFIRM_ABOVE_BYTES

    @property
    def number(self) -> int:
        """The count of runs, or of a single run's files."""
        return len(self.going) if len(self.going) != 1 else self.files


@dataclass(frozen=True, kw_only=True)
class RequestedRuns:
    """Runs by key, each with its mark; empty for a run that was not shown."""

    marks: dict[int, str]

    @classmethod
    def parse(cls, text: str) -> "RequestedRuns":
        """Read `ClearPreview.keys`, at most MAX_RUNS; skip what is no key."""
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
    """The runs of a staging root that stay for one reason: count and logical bytes."""

    tone: Status
    reason: str
    runs: int
    bytes: int


def safe_on(user: User | AnonymousUser, root: StagingRoot) -> RunQuerySet:
    """Return the runs of a root judged safe to clear that the user may clear."""
    return permissions.runs(user, permissions.CLEAR).here().filter(root=root, tone=Status.GO)


def choose(runs: RunQuerySet) -> RequestedRuns:
    """Return the largest runs, at most MAX_RUNS."""
    largest = runs.order_by(Coalesce("bytes", 0).desc(), F("pk").desc())
    return RequestedRuns.of(largest.values_list("pk", flat=True)[:MAX_RUNS])


def left_over(runs: RunQuerySet, asked: RequestedRuns) -> int:
    """Return how many runs are left for the next batch, counted up to COUNTED."""
    if len(asked.marks) < MAX_RUNS:
        return 0
    return runs.exclude(pk__in=list(asked.marks)).order_by()[:COUNTED].count()


def staying_on(user: User | AnonymousUser, root: StagingRoot) -> list[Staying]:
    """Return why a root's other runs stay, as judged; the first COUNTED runs of each tone."""
    here = permissions.runs(user).here().filter(root=root).order_by()
    some = (here.filter(tone=tone).values("pk")[:COUNTED] for tone in (Status.BLOCK, Status.WAIT, Status.WORK))
    first, *others = (
        Run.objects.filter(pk__in=keys).order_by().values_list("tone", "reason", "bytes") for keys in some
    )
    sums: dict[tuple[int, str], tuple[int, int]] = {}
    for tone, reason, size in first.union(*others, all=True):
        number, total = sums.get((tone, reason), (0, 0))
        sums[tone, reason] = number + 1, total + (size or 0)
    stays = (
        Staying(tone=Status(tone), reason=reason, runs=n, bytes=size) for (tone, reason), (n, size) in sums.items()
    )
    return sorted(stays, key=lambda one: -one.bytes)


def preview(
    user: User | AnonymousUser,
    asked: RequestedRuns,
    now: datetime,
    *,
    hindrances: tuple[Finding, ...] | None = None,
    breakers: Mapping[int, Finding] | None = None,
) -> ClearPreview:
    """Return what a clear would do, by the gates on stored facts; at most MAX_RUNS.

    Runs that the user may not see are counted, not named. `hindrances` are this host's, `breakers` the open ones.
    """
    keys = list(asked.marks)[:MAX_RUNS]
    visible = permissions.runs(user).filter(pk__in=keys)
    shown = shown_runs.read(visible)
    proofs = whole_proofs(keys, now)
    policies = RetentionPolicy.objects.scoped()
    hindrances = readiness.hindrances() if hindrances is None else hindrances
    breakers = run_status.open_breakers() if breakers is None else breakers
    items: list[Item] = []
    stored_facts.look_up_failures(shown.runs)
    stored_facts.look_up_histories(shown.runs)
    for run in shown.runs:
        item = _decide(run, shown.attempts.get(run.pk), policies, now, hindrances=hindrances, breakers=breakers)
        if not permissions.may(user, permissions.CLEAR, run):
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
    now: datetime,
    *,
    hindrances: tuple[Finding, ...],
    breakers: Mapping[int, Finding],
) -> Item:
    breaker = breakers.get(run.root_id)  # stops the schedule alone, and the page says so
    judged = run_status.judge_now(run, attempt, policies, now, hindrances=hindrances, breaker=breaker)
    item = Item(run=run, fate=Fate.STAYS, policy=effective_policy(policies, run.scope), judged=judged, attempt=attempt)
    if run.gone_at is not None:
        return replace(item, reason=Reason.IDENTITY_MISMATCH, detail="it was declared gone")
    decision = judged.decision
    if decision is None:
        return replace(item, reason=Reason.ALREADY_CLEARED)
    if run.root.problem:
        return replace(item, reason=run.root.problem)
    if not decision.worth_trying or (attempt is not None and attempt.is_active):
        refusal = decision.main_refusal(operator=True)
        if refusal is None or refusal.reason is None:  # the run is being cleared, and no gate refuses it
            return replace(item, reason=Reason.ALREADY_CLEARING)
        return replace(item, reason=refusal.reason, detail=refusal.detail, opens_at=refusal.opens_at)
    if decision.needs_full_comparison:
        known = decision.main_refusal(operator=True)
        reason, detail = (known.reason, known.detail) if known and decision.is_known_to_differ else (None, "")
        return replace(item, fate=Fate.FULL, reason=reason or Reason.CHANGED_SINCE_VERIFICATION, detail=detail)
    status = judged.status
    if status.source in (Source.FAILURE, Source.PARKED):
        last = attempt.detail if attempt is not None and status.source is Source.FAILURE else ""
        return replace(item, fate=Fate.AGAIN, reason=status.reason, detail=last)
    return replace(item, fate=Fate.CLEARS)


def whole_proofs(keys: Iterable[int], now: datetime) -> dict[int, Proof]:
    """Return the comparisons of every byte that a clear may reuse, by run."""
    recent = Proof.objects.filter(run__in=list(keys), level=ProofLevel.CHECKSUM).exclude(evidence="")
    recent = recent.filter(at__gt=now - run_proofs.PROOF_MAX_AGE, at__lte=now, run__difference=None)
    return {proof.run_id: proof for proof in recent.order_by("at")}
