"""Carries out requests that change what is registered, with the rules of the commands."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django_q.tasks import async_task

from cleanup.lab import policy_versions, task_queues
from cleanup.lab.policy_versions import Superseded
from cleanup.lab.roots import disk_usage, registration, root_checks
from cleanup.lab.roots.opening import Unreachable
from cleanup.lab.roots.registration import RegistrationError, register
from cleanup.lab.wizard import wizard_import
from cleanup.lab.wizard.wizard_yaml import WizardConfigError
from cleanup.models import RootRequest, RootRequestKind, StagingRoot
from cleanup.rules.quantities import say_count
from cleanup.runs.moved_or_gone import reregistration, retirement
from cleanup.runs.moved_or_gone.reregistration import RegisterAction, RegisterOrder
from cleanup.runs.root_requests import config_look, nas_lines

Answer = dict[str, Any]


def perform(request: RootRequest, now: datetime) -> Answer:
    """Do what is asked; returns `done`, or `problem` where nothing, or not all, was done.

    Touches staging disks and NAS in this process, which may hang with them.
    """
    try:
        return _DEEDS[RootRequestKind(request.kind)](request, now)
    except (RegistrationError, WizardConfigError, Superseded) as error:
        return {"problem": str(error)}
    except ValidationError as error:
        return {"problem": " ".join(error.messages)}
    except Unreachable as error:
        return {"problem": error.finding.said}


def _add_staging(request: RootRequest, now: datetime) -> Answer:
    name, path = request.asked["name"], request.asked["path"]
    _refuse_links(path)
    accept_empty = bool(request.asked.get("accept_empty"))
    root = register(name, path, accept_empty=accept_empty, author=request.actor, now=now)
    return _registered(root, now, f"{root.name} is registered.")


def _add_nas(request: RootRequest, now: datetime) -> Answer:
    root, asked = _root_of(request), request.asked
    path, equipment = asked["path"], asked.get("equipment", "")
    _refuse_links(path)
    flags: dict[str, Any] = {
        name: bool(asked.get("flags", {}).get(name)) for name in (*nas_lines.MOUNT_FLAGS, "accept_empty")
    }
    root = register(
        root.name,
        root.path,
        nas_path="" if equipment else path,
        instrument_nas={equipment: path} if equipment else None,
        nas_layout=asked.get("layout") or None,
        author=request.actor,
        now=now,
        **flags,
    )
    whose = equipment or root.name
    return _registered(root, now, f"{path} is the NAS root of {whose}, with the layout {root.nas_layout}.")


def _registered(root: StagingRoot, now: datetime, done: str) -> Answer:
    disk_usage.measure(root, now)
    remarks = registration.remarks(root)
    queue = task_queues.common_queue_for(root.host)
    async_task("cleanup.tasks.discover", cluster=queue, task_name=f"first look at {root.name}"[:100])
    return {"done": done, "root": root.pk, "problems": list(remarks.problems), "warnings": list(remarks.warnings)}


def _move(request: RootRequest, now: datetime) -> Answer:
    root, asked = _root_of(request), request.asked
    if root.retired_at is not None and asked.get("active"):
        raise RegistrationError(f"{root.name} was retired since this was asked. Nothing was done.")
    path = asked.get("path", "")
    if path:
        _refuse_links(path)
    order = RegisterOrder(now=now, actor=request.actor, note=asked.get("note", ""), dry_run=bool(asked.get("dry_run")))
    nas_path, equipment = asked.get("nas_path", ""), asked.get("equipment", "")
    if equipment and equipment not in root.instrument_nas:
        raise RegistrationError(f"{equipment} has no NAS root of its own on {root.name}.")
    own = {equipment: nas_path} if equipment and nas_path else None
    shared = "" if equipment else nas_path
    moved = reregistration.reregister_root(root, order, path=path, nas_path=shared, instrument_nas=own)
    done = _say_moved(root, moved, would=order.dry_run)
    refused = [outcome for outcome in moved.runs if outcome.action is RegisterAction.REFUSED]
    warnings = [*moved.warnings, *(_why(outcome) for outcome in refused[:20])]
    if not order.dry_run:
        queue = task_queues.common_queue_for(root.host)
        async_task("cleanup.tasks.discover", cluster=queue, task_name=f"look at {root.name}"[:100])
    return {"done": done, "root": root.pk, "problems": [], "warnings": warnings, "dry_run": order.dry_run}


def _say_moved(root: StagingRoot, moved: reregistration.Moved, *, would: bool) -> str:
    counted = Counter(outcome.action for outcome in moved.runs)
    again = counted[RegisterAction.WOULD_REREGISTER if would else RegisterAction.REREGISTERED]
    verb = "would be" if would else "was" if again == 1 else "were"
    return (
        f"{root.name} {'would lie' if would else 'lies'} in {moved.root.path}: "
        f"{say_count(again, 'run')} {verb} registered again, {counted[RegisterAction.UNCHANGED]} as before, "
        f"{counted[RegisterAction.REFUSED]} refused."
    )


def _why(outcome: reregistration.Reregistration) -> str:
    return f"{outcome.run.run_path}: {outcome.finding.said if outcome.finding else outcome.said}"


def _retire(request: RootRequest, now: datetime) -> Answer:
    root = _root_of(request)
    left = retirement.retire(root, RegisterOrder(now=now, actor=request.actor, note=request.asked.get("note", "")))
    done = f"{root.name} is retired. {say_count(left, 'run')} lay there when it was last looked at."
    return {"done": done, "root": root.pk, "problems": [], "warnings": []}


def _look_for_config(request: RootRequest, now: datetime) -> Answer:
    return config_look.look(request.asked)


def _import_config(request: RootRequest, now: datetime) -> Answer:
    """Only the plan that the admin has seen is carried out."""
    found = config_look.places()
    if not found:
        raise RegistrationError("The configuration is not there any more. Nothing was done.")
    config, plan, known = config_look.plan_in(found[0], request.asked)
    shown = config_look.as_json(found[0], config, plan, known)
    if shown["digest"] != request.asked.get("digest"):
        raise RegistrationError("The configuration, or what is registered, has changed since. Nothing was done.")
    if shown["obstacles"]:
        raise RegistrationError(" ".join(shown["obstacles"]))
    root = register(
        plan.name,
        plan.path,
        nas_path=plan.nas_path,
        nas_layout=plan.nas_layout,
        instrument_nas=dict(plan.instrument_nas) or None,
        author=request.actor,
        now=now,
    )
    done = f"{root.name} is registered as in ExLab-Wizard's configuration."
    if (policy := shown["policy"]) is not None:
        how: dict[str, Any] = {"author": request.actor, "now": now, "rehearse": True, "note": wizard_import.NOTE}
        version = policy_versions.replace_version(expected=None, root=root, **how, **policy)
        done += f" Policy version {version.version} was written."
    return _registered(root, now, done)


def _root_of(request: RootRequest) -> StagingRoot:
    assert request.root is not None  # noqa: S101
    return StagingRoot.objects.get(pk=request.root.pk)


def _refuse_links(path: str) -> None:
    # A page shows what will be registered: the very path.
    real = root_checks.real_directory(path, "folder")
    if real != path:
        raise RegistrationError(f"A link leads from {path} to {real}: give that path.")


_DEEDS: dict[RootRequestKind, Callable[[RootRequest, datetime], Answer]] = {
    RootRequestKind.ADD_STAGING: _add_staging,
    RootRequestKind.ADD_NAS: _add_nas,
    RootRequestKind.MOVE: _move,
    RootRequestKind.RETIRE: _retire,
    RootRequestKind.LOOK_CONFIG: _look_for_config,
    RootRequestKind.IMPORT_CONFIG: _import_config,
}
