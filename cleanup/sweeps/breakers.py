"""Breakers of the sweep: an abnormal sight opens one, the operator closes it with "go on".

The question shows the runs that would go. A go-on is for these runs, as they were shown, and for one sweep.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from cleanup.lab.clocks import read_clock as read_clock
from cleanup.lab.people import os_account
from cleanup.models import StagingRoot, Sweep, SweepBreaker, SweepKind
from cleanup.rules.anomalies import Anomaly, AnomalyKind, allows
from cleanup.rules.breaker_question import Shown, ShownRun, say_shown
from cleanup.sweeps import outlook
from cleanup.sweeps.day import clock_of as clock_of

# A go-on that no sweep has used for this long is void.
GO_ON_LASTS = timedelta(days=1)
# Stands in a breaker's detail before what it saw after it was opened.
_SINCE = " Since then:"


class GoOnAnswer(enum.Enum):
    """What became of a "go on"."""

    GONE_ON = "gone on"
    ALREADY = "a person has said so already"
    SEEN_MORE = "it has seen more than was shown"


@dataclass(frozen=True, kw_only=True)
class Question:
    """A go-on lets the runs `shown` go; `more` of them were not shown before.

    `code` stands for the breaker and these runs and comes back with the answer.
    """

    shown: Shown
    code: str
    more: int = 0


def standing(root: StagingRoot) -> SweepBreaker | None:
    """Returns the open breaker of a root; None if its sweeps may go."""
    return SweepBreaker.objects.filter(root=root, closed_at=None).first()


def stops(breaker: SweepBreaker, kind: SweepKind) -> bool:
    """Returns whether an open breaker stops a sweep of this kind; only failed clears stop a typed one."""
    return kind != SweepKind.TYPED or any(sight.kind is AnomalyKind.FAILURES for sight in sights_of(breaker))


def open_breaker(sweep: Sweep, sights: Sequence[Anomaly], *, now: datetime, shown: Shown | None = None) -> SweepBreaker:
    """Opens the breaker of a sweep's root, or adds the sights to the open one.

    `shown`: the runs that the sweep would have taken.
    """
    saw = {"sights": [sight.as_json() for sight in sights]}
    detail = " ".join(sight.detail for sight in sights)
    fields = {"sweep": sweep, "kind": sights[0].kind, "detail": detail, "saw": saw, "opened_at": now}
    fields["shown"] = (shown or Shown()).as_json()
    try:
        with transaction.atomic():
            return SweepBreaker.objects.create(root=sweep.root, **fields)
    except IntegrityError:
        return _add(SweepBreaker.objects.get(root=sweep.root, closed_at=None), sights)


def _add(breaker: SweepBreaker, sights: Sequence[Anomaly]) -> SweepBreaker:
    """Add new sights to an open breaker, so that a go-on answers all of them."""
    known = {sight.kind for sight in sights_of(breaker)}
    if new := [sight for sight in sights if sight.kind not in known]:
        breaker.saw = {"sights": [*breaker.saw.get("sights", []), *(sight.as_json() for sight in new)]}
        breaker.detail = " ".join([breaker.detail, *(sight.detail for sight in new)])
        breaker.save(update_fields=["saw", "detail"])
    return breaker


def question(breaker: SweepBreaker, *, now: datetime) -> Question:
    """Returns what a breaker asks now: the runs that it has shown, or those of now if others would go too."""
    known, seen_now = breaker.lets_go, _would_go(breaker, now)
    more = known.lacks(seen_now)
    shown = seen_now if more else known
    return Question(shown=shown, code=breaker.code_of(shown), more=len(more))


def go_on(breaker: SweepBreaker, *, actor: str, note: str, now: datetime, code: str | None = None) -> bool:
    """Returns whether the operator's "go on" was taken: see `answer`."""
    return answer(breaker, actor=actor, note=note, now=now, code=code) is GoOnAnswer.GONE_ON


def answer(breaker: SweepBreaker, *, actor: str, note: str, now: datetime, code: str | None = None) -> GoOnAnswer:
    """Takes the operator's "go on": the next sweep may take the runs as they were shown.

    `code`: of the question that the operator saw; None: the breaker's own. If other runs would go by now, nothing goes
    on and the breaker shows them.
    """
    seen = breaker.code if code is None else code
    now_open = SweepBreaker.objects.select_related("root").filter(pk=breaker.pk, closed_at=None).first()
    if now_open is None:
        return GoOnAnswer.ALREADY
    known, seen_now = now_open.lets_go, _would_go(now_open, now)
    answers = {now_open.code_of(seen_now): seen_now}
    if not known.lacks(seen_now):
        answers[now_open.code_of(known)] = known
    unclosed = SweepBreaker.objects.filter(pk=now_open.pk, closed_at=None)
    # A sweep may add to it at any time: write only if its detail is still what was read.
    unclosed = unclosed.filter(detail=now_open.detail)
    if seen not in answers:
        if known.lacks(seen_now):
            unclosed.update(shown=seen_now.as_json(), detail=_with_more(now_open, seen_now))
        return GoOnAnswer.SEEN_MORE
    said = {
        "closed_at": now,
        "closed_by": actor,
        "typed_by": os_account.current(),
        "note": note,
        "shown": answers[seen].as_json(),
    }
    if unclosed.update(**said):
        return GoOnAnswer.GONE_ON
    closed = SweepBreaker.objects.filter(pk=now_open.pk).exclude(closed_at=None)
    return GoOnAnswer.ALREADY if closed.exists() else GoOnAnswer.SEEN_MORE


def let_go(root: StagingRoot, runs: Mapping[int, ShownRun], *, now: datetime) -> dict[int, SweepBreaker]:
    """Maps each run that a go-on covers, as the run is now, to the breaker of the go-on."""
    return let_go_by(gone_on(root, now=now), runs)


def gone_on(root: StagingRoot, *, now: datetime) -> list[SweepBreaker]:
    """Returns the breakers whose go-on counts for the next sweep, the latest first."""
    return list(_gone_on(root, now).order_by("-pk"))


def let_go_by(breakers: Iterable[SweepBreaker], runs: Mapping[int, ShownRun]) -> dict[int, SweepBreaker]:
    """Returns the same as `let_go`, from breakers that are already read."""
    found: dict[int, SweepBreaker] = {}
    for breaker in breakers:
        covers = breaker.lets_go.covers
        found |= {key: breaker for key, run in runs.items() if covers(key, run)}
    return found


def not_allowed(root: StagingRoot, sights: Iterable[Anomaly], *, now: datetime) -> list[Anomaly]:
    """Returns the sights that no go-on covers; runs that the operator let go do not count."""
    approved = [sight for breaker in _gone_on(root, now) for sight in sights_of(breaker)]
    return [sight for sight in sights if not allows(approved, sight)]


def use_up(sweep: Sweep, *, now: datetime) -> None:
    """Marks the go-ons of the root as used: the next sweep asks again."""
    _gone_on(sweep.root, now).update(used=sweep)


def sights_of(breaker: SweepBreaker) -> list[Anomaly]:
    """Returns the sights of a breaker as values."""
    return [Anomaly(**{**sight, "kind": AnomalyKind(sight["kind"])}) for sight in breaker.saw.get("sights", [])]


def _would_go(breaker: SweepBreaker, now: datetime) -> Shown:
    kinds = {sight.kind for sight in sights_of(breaker)} or {AnomalyKind(breaker.kind)}
    return Shown() if kinds == {AnomalyKind.FAILURES} else outlook.would_take(breaker.root, now)


def _with_more(breaker: SweepBreaker, shown: Shown) -> str:
    before = breaker.detail.partition(_SINCE)[0]
    return f"{before}{_SINCE} a pass would take {say_shown(shown)}."


def _gone_on(root: StagingRoot, now: datetime) -> QuerySet[SweepBreaker]:
    return SweepBreaker.objects.filter(root=root, used=None, closed_at__gt=now - GO_ON_LASTS)
