"""What timed sweeps will take, by their own decisions and today's facts.

A task stores it: pages ask often, and deciding takes a while.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from cleanup.lab import task_queues
from cleanup.lab.roots import first_nights
from cleanup.models import Forecast, RetentionPolicy, RootEvent, RootNote, Run, StagingRoot, Sweep, SweepKind
from cleanup.models.aggregates import bytes_sum
from cleanup.rules.announcements import AnnouncedAmount, told_until
from cleanup.rules.policies.effective import effective_policy, limits_of
from cleanup.rules.policies.policy import Mode, ScopedPolicy, Stage
from cleanup.rules.policies.rehearsal import ready
from cleanup.sweeps import breakers, policy_preview, rehearsal

# A page takes a forecast of this age; the task that announces looks more often.
KEPT_FOR = timedelta(minutes=15)


@dataclass(frozen=True, kw_only=True)
class Coming:
    """Bytes are logical."""

    at: datetime
    by_instrument: dict[str, AnnouncedAmount]


@dataclass(frozen=True, kw_only=True)
class Foreseen:
    """The sweeps of one root that take something until an instant.

    `rehearsed`: what the last one only notes. `first_of`: versions that clear for the first time. `stops`: why a
    breaker stops the sweep at `stops_at`.
    """

    at: datetime
    until: datetime
    staged_bytes: int = 0
    passes: list[Coming] = field(default_factory=list)
    rehearsed: dict[str, AnnouncedAmount] = field(default_factory=dict)
    keys: list[int] = field(default_factory=list)
    first_of: list[int] = field(default_factory=list)
    stops: str = ""
    stops_at: datetime | None = None

    @property
    def amount(self) -> AnnouncedAmount:
        return total(amount for coming in self.passes for amount in coming.by_instrument.values())

    def as_json(self) -> dict[str, Any]:
        said = asdict(self)
        said |= {name: said[name].isoformat() for name in ("at", "until")}
        said["stops_at"] = self.stops_at and self.stops_at.isoformat()
        said["passes"] = [{**coming, "at": coming["at"].isoformat()} for coming in said["passes"]]
        return said

    @classmethod
    def parse(cls, said: dict[str, Any]) -> "Foreseen":
        instants = {name: datetime.fromisoformat(said[name]) for name in ("at", "until")}
        passes = [
            Coming(at=datetime.fromisoformat(one["at"]), by_instrument=_amounts(one["by_instrument"]))
            for one in said["passes"]
        ]
        stops_at = said["stops_at"] and datetime.fromisoformat(said["stops_at"])
        return cls(
            **{**said, **instants, "passes": passes, "rehearsed": _amounts(said["rehearsed"]), "stops_at": stops_at}
        )


def total(amounts: Iterable[AnnouncedAmount]) -> AnnouncedAmount:
    return sum(amounts, start=AnnouncedAmount())


def foresee(root: StagingRoot, now: datetime, scoped: list[ScopedPolicy] | None = None) -> Foreseen:
    """What the sweeps of a root will take, as far ahead as operators are told now; writes nothing."""
    until = told_until(now, ZoneInfo(timezone.get_default_timezone_name()))
    scoped = RetentionPolicy.objects.scoped() if scoped is None else scoped
    nothing = Foreseen(at=now, until=until, staged_bytes=_staged_bytes(root))
    if not is_scheduled(root, scoped) or breakers.standing(root) is not None:
        return nothing
    instants = task_queues.passes_between(root.host, now, until)
    policies = _Policies(root, scoped, instants)
    found = policy_preview.outlooks(root, instants, policies.at)
    going = [run for outlook in found for run in outlook.going]
    stopped = bool(found and found[-1].sights)
    if stopped:  # it stops before it takes any run
        going = going[: len(going) - len(found[-1].going)]
    kept = found[:-1] if stopped else found
    return replace(
        nothing,
        passes=[
            Coming(at=at, by_instrument=_by_instrument(outlook.going))
            for at, outlook in zip(instants, kept, strict=False)
            if outlook.going
        ],
        rehearsed=_by_instrument(found[-1].rehearsed) if found else {},
        keys=[run.pk for run in going],
        first_of=_first_of(root, going, policies.at(until), policies.new_here),
        stops=" ".join(found[-1].sights) if stopped else "",
        stops_at=instants[len(found) - 1] if stopped else None,
    )


def keep(root: StagingRoot, foreseen: Foreseen, version: int) -> None:
    """Store a forecast for the pages; `version` is the newest of any policy."""
    said = {"at": foreseen.at, "policy_version": version, "coming": foreseen.as_json()}
    Forecast.objects.update_or_create(root=root, defaults=said)


def of_roots(
    roots: Iterable[StagingRoot], scoped: list[ScopedPolicy], now: datetime, *, kept_for_pages: bool = False
) -> dict[int, Foreseen]:
    """The forecasts by root key, made again if old, or if the policies are newer. A page that only looks writes
    nothing.
    """
    wanted = {root.pk: root for root in roots if is_scheduled(root, scoped)}
    kept = {row.root_id: row for row in _kept(wanted, now)} if wanted else {}
    version = max((policy.version for policy in scoped), default=0)
    found = {}
    for key, root in wanted.items():
        row = kept.get(key)
        if row is not None and row.policy_version == version:
            found[key] = Foreseen.parse(row.coming)
        else:
            found[key] = foresee(root, now, scoped)
            if kept_for_pages:
                keep(root, found[key], version)
    return found


def _kept(roots: Iterable[int], now: datetime) -> "QuerySet[Forecast]":
    """Forecasts that are recent, and newer than the last sweep and the last note of the root."""
    passes = Sweep.objects.filter(root=OuterRef("root"), kind=SweepKind.TIMED).order_by("-pk")
    rows = Forecast.objects.filter(root__in=roots, at__gt=now - KEPT_FOR, at__lte=now)
    noted = RootNote.objects.filter(root=OuterRef("root"), at__gte=OuterRef("at"))
    begun = rows.exclude(Exists(noted)).annotate(begun_at=Subquery(passes.values("started_at")[:1]))
    return begun.filter(Q(begun_at=None) | Q(begun_at__lte=F("at")))


def is_scheduled(root: StagingRoot, scoped: Iterable[ScopedPolicy]) -> bool:
    return any(policy.mode is Mode.SCHEDULED and policy.scope.root in (None, root.name) for policy in scoped)


class _Policies:
    """The policies as each sweep finds them: the end of nights in one sweep promotes for the next.

    `new_here`: versions that the first nights keep from this root.
    """

    def __init__(self, root: StagingRoot, scoped: list[ScopedPolicy], instants: list[datetime]) -> None:
        self._root, self._scoped = root, scoped
        self._promoted: dict[int, datetime] = {}
        self._over: datetime | None = None
        self.new_here: tuple[int, ...] = ()
        for at in instants if any(policy.layers_on for policy in scoped) else ():
            found = first_nights.waiting(at, root)
            self.new_here = found[0].versions if found else ()
            if not found or found[0].ready:
                self._over = at if found else None
                break
        rehearsed = [one for one in RetentionPolicy.objects.in_force() if one.rehearsal == Stage.REHEARSING]
        for at in instants:
            waiting = [one for one in rehearsed if one.version not in self._promoted]
            if not waiting:
                break
            nights = rehearsal.nights_by_version(waiting, at)
            ended = [one for one in waiting if ready(one.rehearsal_nights, nights[one.version])]
            self._promoted |= {one.version: at for one in ended}

    def at(self, instant: datetime) -> list[ScopedPolicy]:
        return [self._as_of(policy, instant) for policy in self._scoped]

    def _as_of(self, policy: ScopedPolicy, instant: datetime) -> ScopedPolicy:
        if self._over is not None and self._over < instant:
            covered = {name: layers for name, layers in policy.layers_on.items() if name != self._root.name}
            policy = replace(policy, layers_on=covered)
        is_promoted = self._promoted.get(policy.version, instant) < instant
        return replace(policy, stage=Stage.PROMOTED, layers=None) if is_promoted else policy


def _first_of(root: StagingRoot, going: list[Run], policies: list[ScopedPolicy], new_here: Iterable[int]) -> list[int]:
    """The versions that let these runs go and have cleared nothing on the root yet.

    `new_here`: versions that the first nights keep from it; after the first nights all count.
    """
    scopes = {run.scope for run in going}
    behind: set[int] = set()
    for scope in scopes:
        policy = effective_policy(policies, scope).unasked
        behind |= {*policy.promoted, *policy.unrehearsed}
    limits = limits_of(policies, root.name).unasked
    behind |= {*limits.promoted, *limits.unrehearsed} if going else set()
    passes = Sweep.objects.filter(root=root, kind=SweepKind.TIMED)
    newest = passes.order_by("-policy_version").values_list("policy_version", flat=True).first() or 0
    last = passes.order_by("-pk").first()
    over = RootNote.objects.filter(root=root, event=RootEvent.OVER)
    if last is not None and over.filter(at__gt=last.started_at).exists():
        newest = 0
    stage = {policy.version: policy.stage for policy in RetentionPolicy.objects.scoped()}
    return sorted(
        version
        for version in behind
        if version > newest or version in new_here or stage.get(version) is Stage.REHEARSING
    )


def _by_instrument(runs: Iterable[Run]) -> dict[str, AnnouncedAmount]:
    found: dict[str, AnnouncedAmount] = {}
    for run in runs:
        found[run.equipment] = found.get(run.equipment, AnnouncedAmount()) + AnnouncedAmount(
            runs=1, bytes=run.bytes or 0
        )
    return found


def _amounts(said: dict[str, dict[str, int]]) -> dict[str, AnnouncedAmount]:
    return {name: AnnouncedAmount(**amount) for name, amount in said.items()}


def _staged_bytes(root: StagingRoot) -> int:
    return int(Run.objects.here().filter(root=root).aggregate(bytes=bytes_sum("bytes"))["bytes"] or 0)


def shown(foreseen: Foreseen, sees: Iterable[str]) -> Iterator[Coming]:
    names = set(sees)
    for coming in foreseen.passes:
        mine = {name: amount for name, amount in coming.by_instrument.items() if name in names}
        if mine:
            yield replace(coming, by_instrument=mine)
