"""Which runs are proven ahead of a click, and in which order."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, Max, OuterRef, Q, QuerySet, Subquery

from cleanup.lab.nas import nas_roots
from cleanup.models import AcceptedBytes, Difference, Proof, RetentionPolicy, Run, StagingRoot, Status
from cleanup.rules.due_date import due_at
from cleanup.rules.policies.effective import effective_policy
from cleanup.rules.policies.policy import Mode, Policy, ProofLevel, Scope, ScopedPolicy
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs.proofs.proofs import PROOF_MAX_AGE

# A run is proven once. Again only if it is due within this time of now, or was asked for within it.
SOON = timedelta(days=1)
# Runs that a person is looking at just now come first.
JUST_ASKED = timedelta(hours=1)
# A proof is renewed so long before it may not be used any more.
RENEWED_BEFORE = timedelta(hours=2)
# More runs of one host are not looked through at once; the oldest come first.
_MOST = 20_000
_FAR = timedelta(days=36_500)
_COLUMNS = ("pk", "root_id", "equipment", "project", "run_kind", "verified_at", "files", "bytes", "manifest_sha256")
_PROVING = ("phase", "asked_at", "again_after", "seen", "host")


@dataclass(frozen=True, kw_only=True)
class RunToProve:
    """A run whose turn comes; `bytes` are those of one side, `seen` changes with what is known of the run."""

    run: int
    root: int
    nas: str
    bytes: int
    due: datetime
    just_asked: bool
    seen: str

    @property
    def order(self) -> tuple[bool, datetime, int, int]:
        """Runs that a person looks at come first, then those due soonest, then the largest."""
        return not self.just_asked, self.due, -self.bytes, self.run


def to_prove(host: str, now: datetime) -> dict[str, list[RunToProve]]:
    """The runs of a host that are to be proven, by the token of their NAS root, in order."""
    roots = {root.pk: root for root in StagingRoot.objects.active().filter(host=host, problem="")}
    policies = RetentionPolicy.objects.scoped()
    known: dict[Scope, Policy] = {}
    found: defaultdict[str, list[RunToProve]] = defaultdict(list)
    for row in _rows(roots, now):
        policy = _policy_for(row, roots[row["root_id"]], policies, known)
        if policy.proof is not ProofLevel.CHECKSUM and not row["differs"]:
            continue
        nas = nas_roots.nas_root_of(roots[row["root_id"]], row["equipment"])
        due = _due(row, policy, now)
        if nas.token and is_wanted(row, due, now):
            found[nas.token].append(_run(row, nas.token, due, now))
    return {nas: sorted(runs, key=lambda each: each.order) for nas, runs in found.items()}


def is_wanted(row: Mapping[str, Any], due: datetime | None, now: datetime) -> bool:
    """Whether a run is to be read: it never was, or it is due or was asked for and its proof is old."""
    if row["again_after"] is not None and now < row["again_after"]:
        return False
    proved = row["proved"]
    if proved is None or (row["seen"] and row["phase"] == "proven" and row["seen"] != seen_of(row)):
        return True
    if proved > now - (PROOF_MAX_AGE - RENEWED_BEFORE):
        return False
    return was_asked(row, now) or (due is not None and abs(due - now) <= SOON)


def was_asked(row: Mapping[str, Any], now: datetime, within: timedelta = SOON) -> bool:
    return row["asked_at"] is not None and row["asked_at"] > now - within


def seen_of(row: Mapping[str, Any]) -> str:
    """A digest of what the lists know of a run; a run with another one is proven anew."""
    known = (row["verified_at"], row["files"], row["bytes"], row["manifest_sha256"])
    return hashlib.sha256(repr(known).encode()).hexdigest()


def row_of(run: Run) -> dict[str, Any]:
    """The columns of one run, for `seen_of`."""
    return {name: getattr(run, name) for name in _COLUMNS}


def _rows(roots: Mapping[int, StagingRoot], now: datetime) -> Iterator[dict[str, Any]]:
    whole: QuerySet[Proof] = Proof.objects.filter(level=ProofLevel.CHECKSUM, accepted=None, at__lte=now)
    newest = whole.exclude(evidence="").filter(run=OuterRef("pk")).order_by().values("run").annotate(at=Max("at"))
    may_go = Q(tone=Status.GO) | Q(tone=Status.BLOCK, reason=Reason.NAS_CHECKSUM_MISMATCH)
    runs = (
        Run.objects.here()
        .filter(may_go, root__in=list(roots), state=State.SYNC_VERIFIED)
        .exclude(Exists(AcceptedBytes.objects.standing().filter(run=OuterRef("pk"))))
        .annotate(proved=Subquery(newest.values("at")), differs=Exists(Difference.objects.filter(run=OuterRef("pk"))))
        .order_by("verified_at", "pk")
    )
    columns = [*_COLUMNS, "proved", "differs", *(f"proving__{name}" for name in _PROVING)]
    for row in runs.values(*columns)[:_MOST]:
        yield {name.removeprefix("proving__"): value for name, value in row.items()}


def _policy_for(
    row: Mapping[str, Any], root: StagingRoot, policies: Sequence[ScopedPolicy], known: dict[Scope, Policy]
) -> Policy:
    scope = Scope(root=root.name, equipment=row["equipment"], project=row["project"], run_kind=row["run_kind"])
    if scope not in known:
        known[scope] = effective_policy(policies, scope)
    return known[scope]


def _due(row: Mapping[str, Any], policy: Policy, now: datetime) -> datetime | None:
    if policy.mode is not Mode.SCHEDULED or row["verified_at"] is None:
        return None
    return due_at(row["verified_at"], policy)


def _run(row: Mapping[str, Any], nas: str, due: datetime | None, now: datetime) -> RunToProve:
    return RunToProve(
        run=row["pk"],
        root=row["root_id"],
        nas=nas,
        bytes=row["bytes"] or 0,
        due=due or now + _FAR,
        just_asked=was_asked(row, now, JUST_ASKED),
        seen=seen_of(row),
    )
