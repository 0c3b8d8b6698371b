"""How the scope of a policy is named on the command line."""

import argparse
from collections.abc import Callable, Iterable
from typing import Any

from django.core.exceptions import ValidationError

from cleanup.management.base import UsageError
from cleanup.models import RetentionPolicy, Run, RunKind, StagingRoot
from cleanup.policy.retention import effective_policy
from cleanup.policy.typed import names_near
from cleanup.policy.wording import describe
from cleanup.staging.layout import is_folder_name
from cleanup.templatetags.words import visible

# Longer names fit no column.
MAX_NAME = 255


def add_scope_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", metavar="NAME", help="For this staging root.")
    parser.add_argument("--equipment", metavar="E", help="For the runs of this instrument.")
    parser.add_argument("--project", metavar="P", help="For the runs of this project.")
    parser.add_argument("--run-kind", choices=RunKind.values, help="For runs of this kind.")


def scope_of(options: dict[str, Any], *, new: bool = False) -> dict[str, Any]:
    """The scope that the options name, as `add_version` takes it. Raises UsageError for a name that nobody knows.

    A policy for an instrument that no run has is a slip of the finger, unless it is said to be `new`.
    """
    scope: dict[str, Any] = {name: options[name] or "" for name in ("equipment", "project", "run_kind")}
    for name in ("equipment", "project"):
        if scope[name]:
            _refuse_unknown(name, scope[name], new=new)
    return {"root": find_root(options["root"]) if options["root"] else None, **scope}


def find_root(name: str) -> StagingRoot:
    """A staging root by its name, on whatever host: policies know no hosts. Raises UsageError with those near it."""
    if (root := StagingRoot.objects.filter(name=name).first()) is None:
        known = StagingRoot.objects.values_list("name", flat=True)
        raise UsageError(f"No staging root {visible(name)} is registered; nearest: {_nearest(name, known)}.")
    return root


def version_as_json(version: RetentionPolicy) -> dict[str, Any]:
    """A policy version in the shape that scripts depend on; null is what the version leaves to wider scopes."""
    value = version.as_value()
    fields = (
        "mode",
        "retain_hours",
        "proof",
        "min_retain_hours",
        "stalled_after_hours",
        "max_bytes",
        "max_runs",
        "free_start_bytes",
        "free_stop_bytes",
        "budget_runs",
        "budget_bytes",
        "budget_minutes",
        "max_share",
    )
    return {
        "version": version.version,
        "root": value.scope.root,
        "equipment": value.scope.equipment,
        "project": value.scope.project,
        "run_kind": value.scope.run_kind,
        **{name: getattr(value, name) for name in fields},
        "rehearsal": version.rehearsal,
        "rehearsal_nights": version.rehearsal_nights,
        "note": version.note,
        "author": version.author,
        "created_at": version.created_at,
        "means": meaning_of(version),
    }


def meaning_of(version: RetentionPolicy) -> str:
    """What a version that is in force means, in a sentence."""
    value = version.as_value()
    policy = effective_policy(RetentionPolicy.objects.scoped(), value.scope)
    return visible(describe(value, policy, nights=version.rehearsal_nights))


def sentences(error: ValidationError, option_of: Callable[[str], str]) -> str:
    """What is wrong with a version, one sentence for each field, with the option that sets it."""
    if not hasattr(error, "error_dict"):
        return " ".join(error.messages)
    told = []
    for name, messages in error.message_dict.items():
        option = "" if name == "__all__" else f"{option_of(name)}: "
        told += [f"{option}{message}" for message in messages]
    return " ".join(told)


def _refuse_unknown(name: str, value: str, *, new: bool) -> None:
    if len(value) > MAX_NAME or not is_folder_name(value):
        raise UsageError(f"--{name}: {visible(value[:MAX_NAME])} is a name that no {name} can have.")
    if new or Run.objects.filter(**{name: value}).exists():
        return
    if RetentionPolicy.objects.filter(**{name: value}).exists():
        return
    known = Run.objects.order_by(name).values_list(name, flat=True).distinct()
    near = _nearest(value, known)
    raise UsageError(
        f"No run of {name} {visible(value)} is known; nearest: {near}. Add --new if its first run is still to come."
    )


def _nearest(name: str, known: Iterable[str]) -> str:
    return ", ".join(map(visible, names_near(name, known))) or "none"
