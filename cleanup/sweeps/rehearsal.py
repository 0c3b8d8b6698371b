"""Rehearsals: a timed sweep only notes the runs that a version would clear; clean nights promote the version.

A run of these that should not have gone is a surprise and sends the version back.
"""

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from django.db import transaction
from django.db.models import Max, Prefetch

from cleanup.lab import policy_versions
from cleanup.lab.people import os_account
from cleanup.lab.policy_versions import Superseded
from cleanup.lab.roots import first_nights
from cleanup.lab.roots.first_nights import LATELY, Waiting
from cleanup.models import (
    ClearAttempt,
    Outcome,
    Phase,
    RetentionPolicy,
    Run,
    StagingRoot,
    Surprise,
    Sweep,
    SweepKind,
    SweptRun,
)
from cleanup.rules import short_texts
from cleanup.rules.policies.effective import limits_of
from cleanup.rules.policies.policy import Policy, Stage
from cleanup.rules.policies.rehearsal import SURPRISING_AT_CLEAR, clean_nights, ready
from cleanup.rules.pressure import Cause
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.sweeps import rehearsed_runs
from cleanup.sweeps.rehearsed_runs import WOULD_CLEAR, SaidOfRun

logger = logging.getLogger(__name__)

# The author of versions that the program writes.
SCHEDULE = "schedule"


@dataclass
class Settled:
    """What one call of `settle` has changed."""

    surprises: list[Surprise] = field(default_factory=list)
    promoted: list[RetentionPolicy] = field(default_factory=list)
    sent_back: list[RetentionPolicy] = field(default_factory=list)
    roots: list[StagingRoot] = field(default_factory=list)


def settle(now: datetime, root: StagingRoot | None = None) -> Settled:
    """Notes surprises, sends back and promotes versions, after a timed sweep of one root or of all.

    A second call is harmless.
    """
    settled = Settled()
    for each in StagingRoot.objects.active() if root is None else [root]:
        for run, number, finding in rehearsed_runs.surprises_since_rehearsal(each, now):
            note_surprise(run, [number], finding.reason, finding.detail, now)
    in_force = RetentionPolicy.objects.in_force()
    concerned = [version for version in in_force if root is None or version.root_id in (None, root.pk)]
    nights = nights_by_version([version for version in concerned if version.rehearsal == Stage.REHEARSING], now)
    for version in concerned:
        surprise = Surprise.objects.filter(policy_version=version.version).order_by("at", "pk").first()
        try:
            if version.rehearsal == Stage.PROMOTED and surprise is not None:
                settled.sent_back.append(send_back(version, author=SCHEDULE, reason=_name(surprise), now=now))
            elif (had := nights.get(version.version)) is not None and ready(version.rehearsal_nights, had):
                promoted = promote(version, SCHEDULE, now, note=_after(had))
                first_nights.leave_out(version, promoted, _begun([version])[version.version], now)
                settled.promoted.append(promoted)
        except Superseded:
            logger.info("policy version %d was changed by another person", version.version)
    for waiting in first_nights.waiting(now, root):
        if not _surprises_new_root(waiting, now) and waiting.ready:
            first_nights.over(waiting.root, now, author=SCHEDULE, note=_after(waiting.nights))
            settled.roots.append(waiting.root)
    return settled


def promote_root(root: StagingRoot, author: str, now: datetime, *, note: str = "") -> None:
    """Ends the first nights of a staging root. Raises Superseded."""
    with transaction.atomic():
        # The lock: of two promotions at once the second one finds nothing to promote.
        StagingRoot.objects.select_for_update(of=("self",)).get(pk=root.pk)
        if not first_nights.waiting(now, root):
            raise Superseded(f"{root.name} is not in its first nights")
        first_nights.over(root, now, author=author, note=note)


def _surprises_new_root(waiting: Waiting, now: datetime) -> bool:
    """Note the runs that should not have gone in the first nights of a root; return whether there was one."""
    said = SweptRun.objects.filter(kind=SweepKind.TIMED, action=WOULD_CLEAR, reason=Reason.REHEARSAL)
    rows = said.filter(root=waiting.root, last__started_at__gte=waiting.since).order_by("pk")
    staged = rows.exclude(run__state=State.CLEARED).filter(run__gone_at=None)
    last, found = rehearsed_runs.last_rows(staged), False
    of_runs = Prefetch("run", queryset=Run.objects.with_root())
    latest = {row.run_id: row for row in staged.select_related("first", "last").prefetch_related(of_runs)}
    for row in latest.values():
        if finding := rehearsed_runs.surprise(SaidOfRun(0, row, row), last[row.run_id], now):
            first_nights.surprised(row.run, now, note=f"{row.run.run_path}: {finding.reason} {finding.detail}".rstrip())
            found = True
    return found


def _after(nights: int) -> str:
    return f"after {nights} clean {'night' if nights == 1 else 'nights'}"


def note_surprise(run: Run, versions: Iterable[int], reason: str, detail: str, now: datetime) -> bool:
    """Records that a run was about to go by these versions and should not have; returns whether that was new."""
    new = False
    for version in versions:
        _row, made = Surprise.objects.get_or_create(
            policy_version=version, run=run, defaults={"at": now, "reason": reason, "detail": detail}
        )
        new = new or made
    return new


def note_refusal(attempt: ClearAttempt, policy: Policy, now: datetime) -> bool:
    """Notes the surprise of an attempt that did not clear its run; returns whether it was new.

    A rehearsal cannot see that bytes differ or that a run changes during its clear. If the run went by pressure alone,
    the versions of the limits are sent back too.
    """
    refused = attempt.phase == Phase.REFUSED and attempt.reason in SURPRISING_AT_CLEAR
    if not refused and attempt.phase != Phase.CONFLICT:
        return False
    if Surprise.objects.filter(run=attempt.run_id, reason=attempt.reason).exists():
        return False
    # The version that is rehearsed meanwhile takes at least the runs of the approved version.
    versions = {*policy.unasked.promoted, *(policy.rehearsing if policy.meanwhile else ())}
    return note_surprise(
        attempt.run, sorted({*versions, *_pressed_by(attempt, policy)}), attempt.reason, attempt.detail, now
    )


def _pressed_by(attempt: ClearAttempt, policy: Policy) -> tuple[int, ...]:
    """The promoted versions whose limits alone let a run go; none if it was due by time."""
    causes = attempt.cause.split("+") if attempt.cause else []
    if not causes or Cause.RETENTION in causes:
        return ()
    policies = RetentionPolicy.objects.scoped(as_of=policy.version)
    return limits_of(policies, attempt.run.root.name).promoted


def nights_of(version: RetentionPolicy, now: datetime) -> int:
    """Returns the clean nights of one version so far: see `nights_by_version`."""
    return nights_by_version([version], now)[version.version]


def nights_by_version(versions: Collection[RetentionPolicy], now: datetime) -> dict[int, int]:
    """Returns the clean nights of each version so far, on the root with the fewest.

    So a lab-wide version never goes live on a root where it was not rehearsed. A night without the disk does not count.
    """
    if not versions:
        return {}
    since = _begun(versions)
    passes: dict[int, list[datetime]] = {}
    done = Sweep.objects.filter(kind=SweepKind.TIMED, outcome=Outcome.DONE)
    done = done.filter(started_at__gte=max(min(since.values()), now - LATELY))
    for root, at in done.exclude(reason=Reason.ROOT_NOT_MOUNTED).order_by().values_list("root", "started_at"):
        passes.setdefault(root, []).append(at)
    staged = list(Run.objects.staged().order_by().values_list("root", flat=True).distinct())
    nights = {}
    for version in versions:
        begun = since[version.version]
        roots = staged if version.root_id is None else [version.root_id]
        nights[version.version] = min((clean_nights(begun, passes.get(root, ()), now) for root in roots), default=0)
    return nights


def _begun(versions: Collection[RetentionPolicy]) -> dict[int, datetime]:
    """Since when nights count: a version's creation or its last surprise."""
    surprised = Surprise.objects.filter(policy_version__in=[version.version for version in versions])
    latest = dict(surprised.order_by().values_list("policy_version").annotate(at=Max("at")))
    return {each.version: max(each.created_at, latest.get(each.version, each.created_at)) for each in versions}


def promote(version: RetentionPolicy, author: str, now: datetime, *, note: str = "") -> RetentionPolicy:
    """Writes a new version with the same fields that is promoted. Raises Superseded."""
    return _restage(version, Stage.REHEARSING, Stage.PROMOTED, author, note, now)


def send_back(version: RetentionPolicy, author: str, reason: str, now: datetime) -> RetentionPolicy:
    """Writes a new version with the same fields that is rehearsed again, with the reason. Raises Superseded."""
    return _restage(version, None, Stage.REHEARSING, author, reason, now)


def _restage(
    version: RetentionPolicy, before: Stage | None, after: Stage, author: str, note: str, now: datetime
) -> RetentionPolicy:
    if version.rehearsal == after or (before is not None and version.rehearsal != before):
        raise Superseded(f"version {version.version} is {version.rehearsal}")
    scope = {name: getattr(version, name) for name in ("equipment", "project", "run_kind")}
    return policy_versions.replace_version(
        expected=version.version,
        root=version.root,
        author=author,
        typed_by=os_account.current(),
        now=now,
        stage=after,
        note=short_texts.shorten(note),
        **scope,
    )


def _name(surprise: Surprise) -> str:
    return f"{surprise.run.run_path}: {surprise.reason} {surprise.detail}".rstrip()
