"""The scope of a policy on the command line."""

import argparse
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from cleanup.lab import policy_versions
from cleanup.lab.people import os_account
from cleanup.lab.policy_versions import Superseded
from cleanup.management.base import FAILED, UsageError, now
from cleanup.models import RetentionPolicy, Run, RunKind, StagingRoot
from cleanup.rules.policies.effective import effective_policy
from cleanup.rules.policies.fields import NAMES, names_near
from cleanup.rules.policies.sentences import describe
from cleanup.rules.quantities import AT_ONCE
from cleanup.storage.run_paths import is_folder_name
from cleanup.sweeps import policy_preview
from cleanup.text.values import in_units, runs, visible

# The length of the columns.
MAX_NAME = 255


def add_scope_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", metavar="NAME", help="For this staging root.")
    parser.add_argument("--equipment", metavar="E", help="For the runs of this instrument.")
    parser.add_argument("--project", metavar="P", help="For the runs of this project.")
    parser.add_argument("--run-kind", choices=RunKind.values, help="For runs of this kind.")


def scope_of(options: dict[str, Any], *, new: bool = False) -> dict[str, Any]:
    """The scope of the options, as `add_version` takes it. Raises UsageError for an unknown name.

    Unless `new`, an instrument without a run is refused as a typing mistake.
    """
    scope: dict[str, Any] = {name: options[name] or "" for name in ("equipment", "project", "run_kind")}
    for name in ("equipment", "project"):
        if scope[name]:
            _refuse_unknown(name, scope[name], new=new)
    return {"root": find_root(options["root"]) if options["root"] else None, **scope}


def find_root(name: str) -> StagingRoot:
    """A staging root on any host: policies know no hosts. Raises UsageError."""
    if (root := StagingRoot.objects.filter(name=name).first()) is None:
        known = StagingRoot.objects.values_list("name", flat=True)
        raise UsageError(f"No staging root {visible(name)} is registered; nearest: {_nearest(name, known)}.")
    return root


def write_version(
    scope: dict[str, Any],
    fields: dict[str, Any],
    *,
    rehearse: bool | None,
    note: str,
    option_of: Callable[[str], str],
    at_once: bool = False,
) -> RetentionPolicy:
    """Write a version in the name of the account that runs the command.

    `option_of` names a field's option; `at_once` allows runs to go as soon as they are verified. Raises UsageError, or
    CommandError if another version was written at the same moment.
    """
    at = now()
    try:
        if not at_once:
            _expect_none_at_once(scope, fields, rehearse=rehearse, at=at)
        return policy_versions.replace_version(
            expected=None,
            author=os_account.name(),
            typed_by=os_account.current(),
            now=at,
            rehearse=rehearse,
            note=note,
            **scope,
            **fields,
        )
    except ValidationError as error:
        raise UsageError(sentences(error, option_of)) from None
    except Superseded:
        raise CommandError("Another version was written at the same moment: try again.", returncode=FAILED) from None


def _expect_none_at_once(scope: dict[str, Any], fields: dict[str, Any], *, rehearse: bool | None, at: datetime) -> None:
    """Raise UsageError if the version newly lets runs go at once."""
    before = RetentionPolicy.objects.newest_of(**scope)
    drafted = policy_versions.draft(before, author=os_account.name(), now=at, rehearse=rehearse, **scope, **fields)
    shown = policy_preview.preview(drafted, at)
    if shown.at_once:
        size = f"{runs(len(shown.then.wanted))}, {in_units(shown.then.wanted_bytes)}"
        raise UsageError(f"0 h: a run goes {AT_ONCE}; now that would be {size}. Add --at-once if that is meant.")


def version_as_json(version: RetentionPolicy) -> dict[str, Any]:
    """Scripts depend on this shape; null fields are left to wider scopes."""
    value = version.as_value()
    # `only_here` came after the others.
    fields = (*(name for name in NAMES if name != "only_here"), "only_here")
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
        "typed_by": version.typed_by or None,
        "created_at": version.created_at,
        "means": meaning_of(version),
    }


def meaning_of(version: RetentionPolicy) -> str:
    value = version.as_value()
    policy = effective_policy(RetentionPolicy.objects.scoped(), value.scope)
    return visible(describe(value, policy, nights=version.rehearsal_nights))


def sentences(error: ValidationError, option_of: Callable[[str], str]) -> str:
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
