"""Register what ExLab-Wizard's configuration says."""

import os
import sys
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from cleanup.lab.roots import disk_usage, registration
from cleanup.lab.roots.registration import RegistrationError, register
from cleanup.lab.roots.two_places import Remarks
from cleanup.lab.wizard import wizard_import
from cleanup.lab.wizard.wizard_config import WizardCleanup, default_path, read_config
from cleanup.lab.wizard.wizard_plan import Answers, WizardPlan
from cleanup.lab.wizard.wizard_yaml import WizardConfigError
from cleanup.management.base import (
    FAILED,
    LabCommand,
    UsageError,
    add_registration_flags,
    nas_roots_given,
    now,
    registration_flags,
)
from cleanup.management.scopes import meaning_of, write_version
from cleanup.models import RetentionPolicy, StagingRoot
from cleanup.rules.policies.policy import Mode
from cleanup.rules.quantities import AT_ONCE, say_hours
from cleanup.text.values import visible


@dataclass(frozen=True)
class Written:
    root: StagingRoot
    version: RetentionPolicy | None
    remarks: Remarks


class Command(LabCommand):
    help = (
        "Show which staging root, NAS roots and policy follow from ExLab-Wizard's config.yaml, and what of the wizard "
        "would clear beside this program. With --apply it is done; the file itself is only read."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", nargs="?", help="The wizard's config.yaml; without it, the one of this user.")
        parser.add_argument("--apply", action="store_true", help="Register the staging root and write the policy.")
        parser.add_argument("--name", default="", help="The staging root's name, instead of the wizard's label.")
        parser.add_argument(
            "--staging-root", default="", metavar="PATH", help="Where staging lies on this host, if not there."
        )
        parser.add_argument(
            "--nas-root",
            action="append",
            default=[],
            metavar="[EQUIPMENT=]PATH",
            help="Where the wizard's remote is mounted on this host, for all instruments or for one; may be repeated.",
        )
        parser.add_argument("--at-once", action="store_true", help="Say that runs may go as soon as they are verified.")
        add_registration_flags(parser)

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        path = options["path"] or default_path(os.environ)
        try:
            config = read_config(path)
            answers = _answers(options)
            known = wizard_import.known_root(config, answers)
            plan = wizard_import.plan_of(config, answers, known)
        except WizardConfigError as error:
            raise UsageError(visible(error)) from None
        own = wizard_import.own_policy(known)
        policy = plan.policy if own is None else None
        written = _apply(plan, policy, options) if options["apply"] else None
        answer = _as_json(path, plan, policy, own, written)
        for warning in answer["warnings"]:
            self.stderr.write(warning)
        self.report(options["json"], answer, "\n".join(_lines(path, plan, policy, written)))
        if written and written.remarks.problems:
            sys.exit(FAILED)  # registered, but this NAS proves nothing


# Answers, and what is registered


def _answers(options: dict[str, Any]) -> Answers:
    nas_path, own = nas_roots_given(options["nas_root"])
    staging = options["staging_root"]
    return Answers(
        name=options["name"],
        staging_root=os.path.abspath(staging) if staging else "",
        nas_path=os.path.abspath(nas_path) if nas_path else "",
        instrument_nas={equipment: os.path.abspath(path) for equipment, path in own.items()},
    )


# Registering and writing


def _apply(plan: WizardPlan, policy: WizardCleanup | None, options: dict[str, Any]) -> Written:
    """Register, then write the policy. Raises UsageError before it changes anything."""
    if plan.obstacles:
        raise UsageError(visible(" ".join(plan.obstacles)))
    if policy and policy.mode is Mode.SCHEDULED and not policy.retain_hours and not options["at_once"]:
        raise UsageError(f"The wizard keeps runs for 0 h: one goes {AT_ONCE}. Add --at-once if that is meant here.")
    at = now()
    try:
        root = register(
            plan.name,
            plan.path,
            nas_path=plan.nas_path,
            nas_layout=plan.nas_layout,
            instrument_nas=dict(plan.instrument_nas) or None,
            now=at,
            **registration_flags(options),
        )
    except RegistrationError as error:
        raise UsageError(visible(error)) from None
    disk_usage.measure(root, at)
    return Written(root, _write(root, policy) if policy else None, registration.remarks(root))


def _write(root: StagingRoot, policy: WizardCleanup) -> RetentionPolicy:
    return write_version(
        {"root": root},
        {"mode": policy.mode.value, "retain_hours": policy.retain_hours},
        rehearse=True,
        note=wizard_import.NOTE,
        option_of=lambda field: f"orchestrator.staging_cleanup.{field}",
        at_once=True,  # else `_apply` has refused it
    )


# Output


def _as_json(
    path: str, plan: WizardPlan, policy: WizardCleanup | None, own: RetentionPolicy | None, written: Written | None
) -> dict[str, Any]:
    version, remarks = (written.version, written.remarks) if written else (None, Remarks())
    said = (*plan.warnings, *_of_policy(plan, own), *remarks.problems, *remarks.warnings)
    return {
        "config": path,
        "applied": written is not None,
        "name": plan.name,
        "host": settings.EXLAB_HOST,
        "path": plan.path,
        "nas_root": plan.nas_path or None,
        "nas_layout": plan.nas_layout,
        "instrument_nas": dict(plan.instrument_nas),
        "policy": policy and {"mode": policy.mode, "retain_hours": policy.retain_hours},
        "policy_version": version and version.version,
        "copies": [
            {"equipment": one.equipment, "remote": one.remote or None, "here": one.here or None} for one in plan.copies
        ],
        "obstacles": [visible(obstacle) for obstacle in plan.obstacles],
        "questions": [visible(question) for question in plan.questions],
        "warnings": [visible(warning) for warning in said],
    }


def _of_policy(plan: WizardPlan, own: RetentionPolicy | None) -> list[str]:
    if plan.policy is None or own is None:
        return []
    if (own.mode, own.retain_hours) == (plan.policy.mode, plan.policy.retain_hours):
        return []
    return [
        f"{plan.name} has a policy of its own, version {own.version}, which stays. The wizard's says "
        f"{_words(plan.policy)}; set_policy writes it."
    ]


def _words(policy: WizardCleanup) -> str:
    if not policy.retain_hours:
        return f"{policy.mode}, a run goes {AT_ONCE}"
    return f"{policy.mode}, kept for {say_hours(policy.retain_hours)}"


def _lines(path: str, plan: WizardPlan, policy: WizardCleanup | None, written: Written | None) -> list[str]:
    lines = [
        f"{visible(path)} on {settings.EXLAB_HOST}:",
        _line("staging root", f"{plan.name}: {plan.path}"),
    ]
    if plan.nas_path:
        lines.append(_line("NAS root", plan.nas_path))
    lines += [_line("NAS root", f"{equipment}: {top}") for equipment, top in plan.instrument_nas]
    lines += [_line("layout", plan.nas_layout)] if plan.nas_layout else []
    for one in plan.copies:
        if one.remote:
            called = f" ({one.shown_as})" if one.shown_as else ""
            lines.append(_line("copies", f"{one.equipment}: {one.remote}{called}, here {one.here or 'unknown'}"))
    if written and written.version:
        lines.append(_line("policy", f"version {written.version.version}: {meaning_of(written.version)}"))
    elif policy:
        lines.append(_line("policy", f"{_words(policy)}; rehearsed first, unless it only keeps more"))
    lines += [_line("obstacle", obstacle) for obstacle in plan.obstacles]
    lines += [_line("to be said", question) for question in plan.questions]
    lines.append("Done." if written else "Nothing is written yet; --apply does it.")
    return lines


def _line(word: str, text: str) -> str:
    return f"  {word:12}  {visible(text)}"
