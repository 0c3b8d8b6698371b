"""An admin says whether the directory at a run's path is that run; its record must agree."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.conf import settings

from cleanup.lab.people import permissions
from cleanup.rules.reasons import Reason
from cleanup.runs.moved_or_gone import moved_runs
from cleanup.runs.moved_or_gone.reregistration import RegisterAction, RegisterOrder, Reregistration
from cleanup.web.runs.ways_out.way_base import NotDone, Scene, Way, look_at_once


def _is_elsewhere(scene: Scene) -> bool:
    return scene.decision is not None and scene.run.root.host == settings.EXLAB_HOST


def _may_be_same(scene: Scene) -> bool:
    if not _is_elsewhere(scene):
        return False
    if Reason.IDENTITY_MISMATCH in scene.reasons:
        return True
    return Reason.INGEST_DISAGREES in scene.reasons and moved_runs.known_elsewhere(scene.run) is not None


def _may_be_another(scene: Scene) -> bool:
    return _is_elsewhere(scene) and Reason.IDENTITY_MISMATCH in scene.reasons


def _shown(scene: Scene) -> dict[str, Any]:
    return {"known": moved_runs.known_elsewhere(scene.run)}


def _say_same(scene: Scene, data: Mapping[str, Any]) -> str:
    outcome = _settled(scene, _order(scene, data))
    if outcome.action is RegisterAction.REREGISTERED and outcome.moved_to:
        look_at_once(scene, outcome.moved_to)
        return f"It is the run that was at {outcome.moved_from}: it has its new path now. A clear compares every byte."
    if outcome.action is RegisterAction.REREGISTERED:
        look_at_once(scene)
        return "It is taken for the same run from now on. A clear compares every byte, as always."
    return "It was the same run already; nothing had to be changed."


def _say_another(scene: Scene, data: Mapping[str, Any]) -> str:
    order = replace(_order(scene, data), replaced=True)
    if _settled(scene, replace(order, dry_run=True)).action is not RegisterAction.WOULD_DECLARE_GONE:
        raise NotDone("What lies there carries this run's own record, so it is this run, and nothing was done.")
    _settled(scene, order)
    look_at_once(scene)
    return "The run that was here is declared gone. What lies at its path now is a run of its own."


def _order(scene: Scene, data: Mapping[str, Any]) -> RegisterOrder:
    return RegisterOrder(now=scene.now, actor=scene.user.get_username(), note=data["note"])


def _settled(scene: Scene, order: RegisterOrder) -> Reregistration:
    (outcome,) = moved_runs.reregister_runs([scene.run], order)
    if outcome.action is RegisterAction.REFUSED:
        finding = outcome.finding
        raise NotDone(finding.said if finding else outcome.said)
    return outcome


def _seen(scene: Scene) -> str:
    return scene.run.identity


SAME_RUN = Way(
    name="same-run",
    label="It is the same run…",
    title="Is it the same run?",
    confirm="It is the same run",
    permission=permissions.CHANGE,
    offered=_may_be_same,
    asks=_shown,
    act=_say_same,
    seen=_seen,
    template="cleanup/runs/ways/same_run.html",
)
ANOTHER_RUN = Way(
    name="another-run",
    label="It is another run…",
    title="Is it another run?",
    confirm="It is another run",
    permission=permissions.CHANGE,
    offered=_may_be_another,
    act=_say_another,
    seen=_seen,
    template="cleanup/runs/ways/another_run.html",
)
