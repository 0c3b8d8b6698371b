"""An admin moves unlisted files out of a run, and back."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings

from cleanup.lab.people import permissions
from cleanup.lab.roots.opening import Unreachable
from cleanup.models import Run, SetAside
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs.set_aside import set_aside
from cleanup.runs.set_aside.set_aside import MAX_FILES, Extra, NotSetAside
from cleanup.text.values import files
from cleanup.web.runs.ways_out.way_base import NotDone, Scene, Way, look_at_once

# The question names at most 20 files and is about all.
_SHOWN = 20
# Reasons that an unlisted file may cause.
_BY_EXTRAS = frozenset({Reason.NOT_IN_MANIFEST, Reason.UNEXPECTED_METADATA})
# What the facts of a run without a history say of unlisted files.
_UNLISTED = "not listed"


def _is_here(run: Run) -> bool:
    return run.root.host == settings.EXLAB_HOST and run.active_attempt is None


def _may_set_aside(scene: Scene) -> bool:
    if scene.decision is None or not _is_here(scene.run):
        return False
    return bool(_BY_EXTRAS & scene.reasons) or _UNLISTED in scene.facts.unverified


def _extras(scene: Scene) -> tuple[list[Extra], str]:
    try:
        return set_aside.extras(scene.run), ""
    except NotSetAside as refused:
        return [], str(refused)
    except Unreachable as error:
        return [], error.finding.said


def _ask_to_set_aside(scene: Scene) -> dict[str, Any]:
    found, why_not = _extras(scene)
    chosen = found[:MAX_FILES]
    return {
        "found": chosen[:_SHOWN],
        "more": max(len(chosen) - _SHOWN, 0),
        "left": len(found) - len(chosen),
        "files": len(chosen),
        "bytes": sum(extra.size for extra in chosen),
        "why_not": why_not,
    }


def _seen_to_set_aside(scene: Scene) -> str:
    return set_aside.digest(_extras(scene)[0])


def _set_aside(scene: Scene, data: Mapping[str, Any]) -> str:
    actor = scene.user.get_username()
    try:
        rows = set_aside.set_aside(scene.run, None, actor=actor, reason=data["note"], now=scene.now, seen=scene.seen)
    except NotSetAside as refused:
        raise NotDone(str(refused)) from None
    except Unreachable as error:
        raise NotDone(error.finding.said) from None
    finally:
        look_at_once(scene)
    return f"{files(len(rows))} set aside. They stay listed here until they are taken away."


def _may_put_back(scene: Scene) -> bool:
    run = scene.run
    return run.state != State.CLEARED and run.gone_at is None and _is_here(run) and bool(_there(run))


def _there(run: Run) -> list[SetAside]:
    return list(SetAside.objects.there().filter(run=run).order_by("path", "pk"))


def _seen_to_put_back(scene: Scene) -> str:
    return _digest(_there(scene.run))


def _digest(rows: Iterable[SetAside]) -> str:
    return hashlib.sha256(repr([row.pk for row in rows]).encode()).hexdigest()


def _ask_to_put_back(scene: Scene) -> dict[str, Any]:
    rows = _there(scene.run)
    return {"found": rows[:_SHOWN], "more": max(len(rows) - _SHOWN, 0)}


def _put_back(scene: Scene, data: Mapping[str, Any]) -> str:
    rows = _there(scene.run)
    if _digest(rows) != scene.seen:
        raise NotDone("The files have changed since they were shown.")
    try:
        for row in rows:
            set_aside.put_back(row, actor=scene.user.get_username(), reason=data["note"])
    except NotSetAside as refused:
        raise NotDone(str(refused)) from None
    except Unreachable as error:
        raise NotDone(error.finding.said) from None
    finally:
        look_at_once(scene)
    return f"{files(len(rows))} put back."


SET_ASIDE = Way(
    name="set-aside",
    label="Set files aside…",
    title="Set these files aside?",
    confirm="Set aside",
    permission=permissions.CHANGE,
    offered=_may_set_aside,
    act=_set_aside,
    template="cleanup/runs/ways/set_aside.html",
    asks=_ask_to_set_aside,
    seen=_seen_to_set_aside,
)
PUT_BACK = Way(
    name="put-back",
    label="Put files back…",
    title="Put these files back?",
    confirm="Put back",
    permission=permissions.CHANGE,
    offered=_may_put_back,
    act=_put_back,
    template="cleanup/runs/ways/put_back.html",
    asks=_ask_to_put_back,
    seen=_seen_to_put_back,
)
