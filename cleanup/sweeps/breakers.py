"""Breakers of the sweep: opened by what is abnormal, closed by a person who says "go on".

The question shows the runs that would go. A go-on is for these, as they were shown, and for one sweep.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from cleanup.lab import typist
from cleanup.lab.clocks import read_clock as read_clock
from cleanup.models import StagingRoot, Sweep, SweepBreaker, SweepKind
from cleanup.rules.anomalies import Anomaly, AnomalyKind, allows
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.rules.shown import Shown, ShownRun, say_shown
from cleanup.sweeps import outlook
from cleanup.sweeps.day import clock_of as clock_of

# A go-on that no sweep has made use of for so long says nothing about today.
GO_ON_LASTS = timedelta(days=1)
# How a breaker's words go on about what it has seen after it was opened.
_SINCE = " Since then:"


class GoOnAnswer(enum.Enum):
    """What became of a person's "go on"."""

    GONE_ON = "gone on"
    ALREADY = "a person has said so already"
    SEEN_MORE = "it has seen more than was shown"


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a person is asked: `shown` are the runs that a go-on would let go, `more` those not shown before.

    `code` stands for all of it, and comes back with the answer.
    """

    shown: Shown
    code: str
    more: int = 0


def standing(root: StagingRoot) -> SweepBreaker | None:
    """The breaker that stops the sweeps of a root; None if they may go."""
    return SweepBreaker.objects.filter(root=root, closed_at=None).first()


def stops(breaker: SweepBreaker, kind: SweepKind) -> bool:
    """Whether an open breaker stops a sweep of this kind: one that a person typed stops for failures alone."""
    return kind != SweepKind.TYPED or any(sight.kind is AnomalyKind.FAILURES for sight in sights_of(breaker))


def finding_of(breaker: SweepBreaker) -> Finding:
    """An open breaker as the gate of every run on its root says it."""
    return Finding(Reason.BREAKER_OPEN, breaker.detail)


def open_breaker(sweep: Sweep, sights: Sequence[Anomaly], *, now: datetime, shown: Shown | None = None) -> SweepBreaker:
    """Open the breaker of a sweep's root, with everything that was seen; to one that is open already it is added.

    `shown` are the runs that the sweep would have taken.
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
    """Let an open breaker say what else was seen, so that a go-on is said to all of it."""
    known = {sight.kind for sight in sights_of(breaker)}
    if new := [sight for sight in sights if sight.kind not in known]:
        breaker.saw = {"sights": [*breaker.saw.get("sights", []), *(sight.as_json() for sight in new)]}
        breaker.detail = " ".join([breaker.detail, *(sight.detail for sight in new)])
        breaker.save(update_fields=["saw", "detail"])
    return breaker


def question(breaker: SweepBreaker, *, now: datetime) -> Question:
    """What a breaker asks now: the runs that it has shown, or if by now others would go as well, those of now."""
    known, seen_now = breaker.lets_go, _would_go(breaker, now)
    more = known.lacks(seen_now)
    shown = seen_now if more else known
    return Question(shown=shown, code=breaker.code_of(shown), more=len(more))


def go_on(breaker: SweepBreaker, *, actor: str, note: str, now: datetime, code: str | None = None) -> bool:
    """Whether a person's "go on" was taken: see `answer`."""
    return answer(breaker, actor=actor, note=note, now=now, code=code) is GoOnAnswer.GONE_ON


def answer(breaker: SweepBreaker, *, actor: str, note: str, now: datetime, code: str | None = None) -> GoOnAnswer:
    """A person's "go on": the next sweep may take the runs that were shown, as they were then.

    `code` is that of the question that the person saw, by default the breaker's own. Where others would go by now as
    well nothing goes on, and the breaker shows them.
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
    # It is as it was looked at, or nothing is written: a sweep may add to it at any time.
    unclosed = unclosed.filter(detail=now_open.detail)
    if seen not in answers:
        if known.lacks(seen_now):
            unclosed.update(shown=seen_now.as_json(), detail=_with_more(now_open, seen_now))
        return GoOnAnswer.SEEN_MORE
    said = {
        "closed_at": now,
        "closed_by": actor,
        "typed_by": typist.current(),
        "note": note,
        "shown": answers[seen].as_json(),
    }
    if unclosed.update(**said):
        return GoOnAnswer.GONE_ON
    closed = SweepBreaker.objects.filter(pk=now_open.pk).exclude(closed_at=None)
    return GoOnAnswer.ALREADY if closed.exists() else GoOnAnswer.SEEN_MORE


def let_go(root: StagingRoot, runs: Mapping[int, ShownRun], *, now: datetime) -> dict[int, SweepBreaker]:
    """By the keys of those runs that people have let go, as they are now: the breaker after which they did."""
    return let_go_by(gone_on(root, now=now), runs)


def gone_on(root: StagingRoot, *, now: datetime) -> list[SweepBreaker]:
    """The breakers of a root after which people have said "go on", for the next sweep; the latest first."""
    return list(_gone_on(root, now).order_by("-pk"))


def let_go_by(breakers: Iterable[SweepBreaker], runs: Mapping[int, ShownRun]) -> dict[int, SweepBreaker]:
    """The same as `let_go` by breakers that are known already."""
    found: dict[int, SweepBreaker] = {}
    for breaker in breakers:
        covers = breaker.lets_go.covers
        found |= {key: breaker for key, run in runs.items() if covers(key, run)}
    return found


def not_allowed(root: StagingRoot, sights: Iterable[Anomaly], *, now: datetime) -> list[Anomaly]:
    """Those of the sights that no go-on covers; such as count runs count none that a person has let go."""
    approved = [sight for breaker in _gone_on(root, now) for sight in sights_of(breaker)]
    return [sight for sight in sights if not allows(approved, sight)]


def use_up(sweep: Sweep, *, now: datetime) -> None:
    """A sweep has made use of what people let go on: the next one asks again."""
    _gone_on(sweep.root, now).update(used=sweep)


def sights_of(breaker: SweepBreaker) -> list[Anomaly]:
    """What a breaker saw, as values."""
    return [Anomaly(**{**sight, "kind": AnomalyKind(sight["kind"])}) for sight in breaker.saw.get("sights", [])]


def _would_go(breaker: SweepBreaker, now: datetime) -> Shown:
    """What would go now; where nothing but failing clears has stopped the sweeps, no run is asked about."""
    kinds = {sight.kind for sight in sights_of(breaker)} or {AnomalyKind(breaker.kind)}
    return Shown() if kinds == {AnomalyKind.FAILURES} else outlook.would_take(breaker.root, now)


def _with_more(breaker: SweepBreaker, shown: Shown) -> str:
    before = breaker.detail.partition(_SINCE)[0]
    return f"{before}{_SINCE} a pass would take {say_shown(shown)}."


def _gone_on(root: StagingRoot, now: datetime) -> QuerySet[SweepBreaker]:
    return SweepBreaker.objects.filter(root=root, used=None, closed_at__gt=now - GO_ON_LASTS)
