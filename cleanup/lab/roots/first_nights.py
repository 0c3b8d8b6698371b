"""First nights: on a root that is new under a policy in force, sweeps only rehearse.

A root with its old token is new in another place or with another NAS: the token is copied with the disk.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Max

from cleanup.models import (
    Outcome,
    RetentionPolicy,
    RootEvent,
    RootNote,
    Run,
    StagingRoot,
    Sweep,
    SweepKind,
)
from cleanup.rules import short_texts
from cleanup.rules.policies.policy import Mode, ScopedPolicy, Stage
from cleanup.rules.policies.rehearsal import clean_nights, nights_wanted, ready
from cleanup.rules.reasons import Reason

# More nights than any version can ask for.
LATELY = timedelta(days=400)


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A staging root in its first nights."""

    root: StagingRoot
    versions: tuple[int, ...]  # in force elsewhere, only rehearsed here
    since: datetime  # the root came, was left out of a promotion, or had its last surprise
    nights: int  # clean so far
    wanted: int  # 0: only an operator ends them

    @property
    def ready(self) -> bool:
        return ready(self.wanted, self.nights)

    def as_json(self) -> dict[str, Any]:
        """Scripts depend on this shape."""
        return {
            "root": self.root.name,
            "versions": list(self.versions),
            "since": self.since,
            "nights": self.nights,
            "wanted": self.wanted,
        }

    @property
    def sentence(self) -> str:
        numbers = ", ".join(map(str, self.versions))
        plural = "version" if len(self.versions) == 1 else "versions"
        clean = f"{self.wanted} clean nights" if self.wanted > 1 else "one clean night"
        until = f"until {clean} are over" if self.wanted > 1 else f"until {clean} is over"
        until = until if self.wanted else "until a person promotes it"
        so_far = f" ({self.nights} so far)" if self.nights else ""
        return (
            f"{self.root.name} is new: {until}{so_far}, the schedule takes nothing there by policy {plural} {numbers}, "
            "and only records what it would clear."
        )


def place_of(root: StagingRoot) -> tuple[object, ...]:
    """What makes a root the approved one: place, token and NAS roots."""
    own = sorted((name, place["path"], place["token"]) for name, place in root.instrument_nas.items())
    return root.host, root.path, root.token, root.nas_path, root.nas_token, root.nas_layout, own


def retired(root: StagingRoot, now: datetime, *, author: str, note: str = "") -> RootNote:
    """Record that a root is not looked at any more."""
    return _note(root, RootEvent.RETIRED, now, author=author, note=note)


def changed(root: StagingRoot, now: datetime, *, author: str, note: str) -> RootNote:
    """Record that an admin has changed what is registered of a root; `note`: what."""
    return _note(root, RootEvent.CHANGED, now, author=author, note=note)


def came(root: StagingRoot, now: datetime, *, note: str = "", author: str = "") -> RootNote:
    """Record that a root is new: earlier promotions do not cover it."""
    return _note(root, RootEvent.CAME, now, note=note, author=author)


def surprised(run: Run, now: datetime, *, note: str) -> RootNote:
    """Record that first nights would have taken a run that must stay."""
    return _note(run.root, RootEvent.SURPRISE, now, note=note, run=run)


def over(root: StagingRoot, now: datetime, *, author: str, note: str = "") -> RootNote:
    """Record that first nights are over: promotions up to now cover the root."""
    return _note(root, RootEvent.OVER, now, author=author, note=note)


def leave_out(version: RetentionPolicy, promoted: RetentionPolicy, since: datetime, now: datetime) -> list[RootNote]:
    """Record the roots that a promotion by nights leaves out: too few nights had runs.

    `since`: when the nights of `version` began. A person's promotion covers every root.
    """
    active = StagingRoot.objects.active()
    roots = active if version.root_id is None else active.filter(pk=version.root_id)
    return [
        RootNote.objects.create(root=root, event=RootEvent.UNSEEN, policy_version=promoted.version, at=now)
        for root in roots
        if not ready(version.rehearsal_nights, clean_nights(since, _passes_with_runs(root, since, now), now))
    ]


def waiting(
    now: datetime, root: StagingRoot | None = None, *, scoped: list[ScopedPolicy] | None = None
) -> list[Waiting]:
    """The staging roots in their first nights, or only `root`; `scoped`: the policies, where they were read."""
    scoped = RetentionPolicy.objects.scoped() if scoped is None else scoped
    if not any(policy.layers_on for policy in scoped):
        return []
    roots = [root] if root is not None else StagingRoot.objects.active().order_by("name")
    return [found for each in roots if (found := _waiting_on(each, scoped, now))]


def _waiting_on(root: StagingRoot, scoped: Iterable[ScopedPolicy], now: datetime) -> Waiting | None:
    here = [policy for policy in scoped if policy.scope.root in (None, root.name)]
    behind = sorted(number for policy in here if (number := _not_covering(policy, root)))
    scheduled = any(
        version.mode is Mode.SCHEDULED for policy in here for version in policy.approval_on(root.name).versions
    )
    if not behind or not scheduled:
        return None
    events = (RootEvent.CAME, RootEvent.UNSEEN, RootEvent.SURPRISE)
    since = RootNote.objects.filter(root=root, event__in=events).aggregate(at=Max("at"))["at"]
    wanted = [
        nights_wanted(nights)
        for nights in RetentionPolicy.objects.filter(version__in=behind).values_list("rehearsal_nights", flat=True)
    ]
    return Waiting(
        root=root,
        versions=tuple(behind),
        since=since,
        nights=clean_nights(since, _passes_with_runs(root, since, now), now),
        wanted=max(wanted) if all(wanted) else 0,
    )


def _not_covering(policy: ScopedPolicy, root: StagingRoot) -> int:
    """The newest promoted version that does not cover this root; 0 if none."""
    layers = policy.layers_on.get(root.name)
    if layers is None:
        return 0
    later = layers.versions if layers.absent else layers.versions[1:]
    return max((version.version for version in later if version.stage is Stage.PROMOTED), default=0)


def _passes_with_runs(root: StagingRoot, since: datetime, now: datetime) -> list[datetime]:
    """Sweeps that saw no run prove nothing."""
    done = Sweep.objects.filter(root=root, kind=SweepKind.TIMED, outcome=Outcome.DONE, scanned__gt=0)
    done = done.filter(started_at__gte=max(since, now - LATELY)).exclude(reason=Reason.ROOT_NOT_MOUNTED)
    return list(done.order_by().values_list("started_at", flat=True))


def _note(
    root: StagingRoot, event: RootEvent, now: datetime, *, author: str = "", note: str = "", run: Run | None = None
) -> RootNote:
    return RootNote.objects.create(
        root=root,
        event=event,
        policy_version=RetentionPolicy.objects.newest_version(),
        run=run,
        at=now,
        author=author,
        note=short_texts.shorten(note),
    )
