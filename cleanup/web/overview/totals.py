"""The sums of the runs that a user sees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Count, Q
from django.db.models.functions import Coalesce

from cleanup.lab.people import permissions
from cleanup.models import ClearAttempt, LedgerEntry, RunQuerySet, Status
from cleanup.models.aggregates import bytes_sum
from cleanup.rules.policies.policy import ScopedPolicy
from cleanup.runs.proving import proving_counts
from cleanup.web.overview.disk_bar import RunSum
from cleanup.web.runs.run_rows import opening_within_a_day

# Many staged runs take long to sum, and every open page polls: above this number the sums are kept.
KEPT_ABOVE_RUNS = 200_000
KEPT_FOR = timedelta(seconds=15)
_MOST_KEPT = 200

# Whose sums they are.
_Key = tuple[permissions.Places, permissions.Places]


@dataclass(frozen=True, kw_only=True)
class Sums:
    """By root: all runs (`by_reason`), those that may go within a day, the safe ones that the user may clear (`mine`),
    and how many safe ones need no proof of their bytes (`unproven`).
    """

    at: datetime
    by_reason: Mapping[int, Mapping[tuple[Status, str], RunSum]] = field(default_factory=dict)
    soon: Mapping[int, RunSum] = field(default_factory=dict)
    mine: Mapping[int, RunSum] = field(default_factory=dict)
    unproven: Mapping[int, int] = field(default_factory=dict)

    @property
    def runs(self) -> int:
        return sum(found.runs for reasons in self.by_reason.values() for found in reasons.values())

    def to_prove(self, root: int) -> int:
        """The safe runs of a root that need a proof of their bytes."""
        safe = self.by_reason.get(root, {}).items()
        return sum(found.runs for (tone, _), found in safe if tone is Status.GO) - self.unproven.get(root, 0)


@dataclass(frozen=True)
class _KeptTotals:
    """Sums, and the last clear before them."""

    sums: Sums
    last_clear: tuple[int, int]


_kept: dict[_Key, _KeptTotals] = {}


def add_up(user: User, now: datetime, policies: Sequence[ScopedPolicy]) -> Sums:
    """The sums in one query for all roots, two where a policy asks for less than every byte.

    Those of very many runs may be older, but never older than the last clear.
    """
    seen = permissions.places(user, permissions.VIEW)
    mine = (
        permissions.places(user, permissions.CLEAR)
        if user.has_perm(permissions.CLEAR)
        else permissions.Places(everywhere=False)
    )
    place = seen, mine
    # Before the sums, and only for a person who was seen to have so many runs.
    last_clear = _last_clear() if place in _kept else None
    kept = _kept.get(place)
    if kept is not None and kept.last_clear == last_clear and now - KEPT_FOR < kept.sums.at <= now:
        return kept.sums
    sums = _add_up(user, seen, mine, now, policies)
    if sums.runs > KEPT_ABOVE_RUNS:
        if last_clear is None:  # the first time: it must be from before the sums
            last_clear, sums = _last_clear(), _add_up(user, seen, mine, now, policies)
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        _kept[place] = _KeptTotals(sums, last_clear)
    return sums


def _last_clear() -> tuple[int, int]:
    """Each clear changes one of the two numbers."""
    newest = LedgerEntry.objects.order_by("-pk").values_list("pk", flat=True).first()
    return ClearAttempt.objects.filter(phase__in=ClearAttempt.ACTIVE).count(), newest or 0


def _add_up(
    user: User,
    seen: permissions.Places,
    mine: permissions.Places,
    now: datetime,
    policies: Sequence[ScopedPolicy],
) -> Sums:
    by_reason: dict[int, dict[tuple[Status, str], RunSum]] = {}
    soon: dict[int, RunSum] = {}
    opens = opening_within_a_day(now)
    extra = {"soon_runs": Count("pk", filter=opens), "soon_bytes": bytes_sum("bytes", filter=opens)}
    for row in _grouped(permissions.runs(user).here(), "root", "tone", "reason", **extra):
        found = by_reason.setdefault(row["root"], {})
        found[Status(row["tone"]), row["reason"]] = _amount(row)
        opening = RunSum(runs=row["soon_runs"], bytes=int(row["soon_bytes"] or 0))
        soon[row["root"]] = soon.get(row["root"], RunSum()) + opening
    return Sums(
        at=now,
        by_reason=by_reason,
        soon=soon,
        mine=_mine(user, seen, mine, by_reason),
        unproven=proving_counts.without_need(permissions.runs(user).here(), policies),
    )


def _mine(
    user: User,
    seen: permissions.Places,
    mine: permissions.Places,
    by_reason: Mapping[int, Mapping[tuple[Status, str], RunSum]],
) -> dict[int, RunSum]:
    if mine.nowhere:
        return {}
    if mine == seen:
        return {root: found[Status.GO, ""] for root, found in by_reason.items() if (Status.GO, "") in found}
    safe = permissions.runs(user, permissions.CLEAR).here().filter(tone=Status.GO)
    return {row["root"]: _amount(row) for row in _grouped(safe, "root")}


def _grouped(runs: RunQuerySet, *columns: str, **extra: Any) -> Any:  # noqa: ANN401
    return (
        runs.order_by()
        .values(*columns)
        .annotate(
            runs=Count("pk"),
            logical=bytes_sum("bytes"),
            allocated=bytes_sum(Coalesce("allocated_bytes", "bytes")),
            unknown=Count("pk", filter=Q(bytes=None)),
            **extra,
        )
    )


def _amount(row: Mapping[str, Any]) -> RunSum:
    return RunSum(
        runs=row["runs"],
        bytes=int(row["logical"] or 0),
        allocated_bytes=int(row["allocated"] or 0),
        unknown=row["unknown"],
    )
