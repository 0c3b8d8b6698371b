"""The wizard's configuration on this host, and what would come of its import."""

import glob
import hashlib
import json
import os
from typing import Any

from cleanup.lab.wizard import wizard_import
from cleanup.lab.wizard.wizard_config import WizardConfig, default_path, read_config
from cleanup.lab.wizard.wizard_plan import Answers, WizardPlan
from cleanup.lab.wizard.wizard_yaml import WizardConfigError
from cleanup.models import RetentionPolicy, StagingRoot
from cleanup.rules.policies.policy import Mode

# Where other accounts of this host keep theirs.
_OF_OTHERS = "/home/*/.config/exlab-wizard/config.yaml"


def places() -> list[str]:
    """The files in which a configuration may stand, those that are there."""
    found = [default_path(os.environ), *sorted(glob.glob(_OF_OTHERS))]
    return [path for path in dict.fromkeys(found) if os.path.isfile(path)]


def look(asked: dict[str, Any]) -> dict[str, Any]:
    """Return the plan of the first configuration that is found, as JSON; `problem` if there is none, or no plan."""
    found = places()
    if not found:
        return {"problem": "No configuration of ExLab-Wizard is found on this host.", "none": True}
    try:
        config, plan, known = plan_in(found[0], asked)
    except WizardConfigError as error:
        return {"problem": str(error)}
    return as_json(found[0], config, plan, known)


def plan_in(path: str, asked: dict[str, Any]) -> tuple[WizardConfig, WizardPlan, StagingRoot | None]:
    """The plan that follows from a file and an admin's answers. Raises WizardConfigError."""
    config = read_config(path)
    answers = Answers(name=str(asked.get("name", "")), nas_path=str(asked.get("nas_path", "")))
    known = wizard_import.known_root(config, answers)
    return config, wizard_import.plan_of(config, answers, known), known


def as_json(path: str, config: WizardConfig, plan: WizardPlan, known: StagingRoot | None) -> dict[str, Any]:
    """What the page shows; `digest` tells whether the plan is still the same when it is to be done."""
    own = wizard_import.own_policy(known)
    policy = None if own else plan.policy
    obstacles = list(plan.obstacles)
    if known is not None and known.retired_at is not None:
        obstacles.append(f"{known.name} is retired: take it up again on its page first.")
    if policy and policy.mode is Mode.SCHEDULED and not policy.retain_hours:
        obstacles.append("The wizard keeps runs for 0 h, so one would go as soon as it is verified: use the command.")
    shown = {
        "config": path,
        "name": plan.name,
        "path": plan.path,
        "nas_root": plan.nas_path,
        "nas_layout": plan.nas_layout or "",
        "instrument_nas": [list(each) for each in plan.instrument_nas],
        "policy": {"mode": policy.mode.value, "retain_hours": policy.retain_hours} if policy else None,
        "own_policy": _version(own),
        "copies": [{"equipment": one.equipment, "remote": one.remote, "here": one.here} for one in plan.copies],
        "obstacles": obstacles,
        "questions": [f"{question.partition('?')[0]}?" for question in plan.questions],  # the rest is about options
        "warnings": list(plan.warnings),
    }
    digest = hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()
    return {**shown, "digest": digest, "fits": not obstacles}


def _version(own: RetentionPolicy | None) -> int | None:
    return own.version if own else None
