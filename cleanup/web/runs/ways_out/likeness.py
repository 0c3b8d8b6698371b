"""“It is not the held run”: another run's hold no longer keeps this one."""

import hashlib
from collections.abc import Mapping
from typing import Any

from cleanup.lab.people import permissions
from cleanup.models import Hold, HoldSource, Likeness
from cleanup.runs.holds import keeping_holds, likenesses
from cleanup.web.runs.ways_out.way_base import NotDone, Scene, Way


def _held_as(scene: Scene) -> list[Likeness]:
    if scene.decision is None:
        return []
    holds = Hold.objects.in_force(scene.now).filter(source=HoldSource.PERSON)
    others = set(
        holds.filter(run__in=[each.other_id for each in keeping_holds.alike_runs(scene.run)]).values_list(
            "run", flat=True
        )
    )
    found = [each for each in keeping_holds.alike_runs(scene.run) if each.other_id in others]
    return [each for each in found if permissions.may(scene.user, permissions.HOLD, each.other)]


def _is_held_as_another(scene: Scene) -> bool:
    return bool(_held_as(scene))


def _asks(scene: Scene) -> dict[str, Any]:
    found = _held_as(scene)
    there = {each.pk for each in found if keeping_holds.is_there(each.other)}
    return {"found": [(each, each.pk in there) for each in found]}


def _say_not_the_same(scene: Scene, data: Mapping[str, Any]) -> str:
    others = [each.other_id for each in _held_as(scene)]
    actor = scene.user.get_username()
    if not likenesses.deny(scene.run, others, actor=actor, note=data["note"], now=scene.now):
        raise NotDone("This was said already.")
    return "It is a run of its own from now on. The hold of the other one stays, and keeps this one no more."


def _seen(scene: Scene) -> str:
    return hashlib.sha256(repr([each.pk for each in _held_as(scene)]).encode()).hexdigest()


NOT_THE_SAME = Way(
    name="not-the-same",
    label="It is not the held run…",
    title="Is it not the held run?",
    confirm="It is not the held run",
    permission=permissions.HOLD,
    offered=_is_held_as_another,
    asks=_asks,
    act=_say_not_the_same,
    seen=_seen,
    template="cleanup/runs/ways/not_the_same.html",
)
