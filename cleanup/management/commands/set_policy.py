"""Write a new policy version."""

import argparse
from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandParser

from cleanup.management.base import LabCommand, UsageError, expect_one_line, reason_text
from cleanup.management.scopes import add_scope_arguments, meaning_of, scope_of, version_as_json, write_version
from cleanup.models import StagingRoot
from cleanup.rules.policies.fields import CHOSEN, READERS, ROOT_FIELDS
from cleanup.rules.policies.policy import DEFAULT_REHEARSAL_NIGHTS, Beyond, Mode, ProofLevel
from cleanup.text.values import visible

# Typed to leave a field to wider scopes again.
NONE = "none"


class Unset:
    """A field left to wider scopes; None: the option was not given."""


UNSET = Unset()

# Option, the field it sets, and what it says.
LIMITS: tuple[tuple[str, str, str, str], ...] = (
    (
        "--retain-hours",
        "retain_hours",
        "H",
        "Keep runs this long after the verification; also 30d, 60m; with 0 a run goes as soon as verified.",
    ),
    ("--min-retain-hours", "min_retain_hours", "H", "Keep runs at least this long where the disk is too full."),
    ("--stalled-after", "stalled_after_hours", "H", "Call a run stalled that stays longer in one state."),
    ("--max-bytes", "max_bytes", "SIZE", "Too full above this size of staged runs, as in 1.5TB (with --root)."),
    ("--max-runs", "max_runs", "N", "Too full above N staged runs (with --root)."),
    ("--free-start", "free_start_bytes", "SIZE", "Too full with less free space than this (with --root)."),
    ("--free-stop", "free_stop_bytes", "SIZE", "Clear until this size is free (with --root)."),
    ("--budget-runs", "budget_runs", "N", "One sweep takes at most N runs."),
    ("--budget-bytes", "budget_bytes", "SIZE", "One sweep takes at most this size."),
    ("--budget-minutes", "budget_minutes", "MIN", "One pass begins nothing more after this time."),
    ("--max-share", "max_share", "SHARE", "Sweeps stop and ask above this share of a root in a day."),
    ("--rehearsal-nights", "rehearsal_nights", "N", "Promote after N nights; 0: only a person promotes."),
)
OPTIONS = {field: option for option, field, *_rest in LIMITS}


class Command(LabCommand):
    help = (
        "Write a new policy version for the whole lab, or for the scope that is named. What is not named stays as it "
        "is; the word none leaves a field to wider scopes. A policy that is new to the schedule is rehearsed first, "
        f"for {DEFAULT_REHEARSAL_NIGHTS} nights: the timed pass only records what it would clear."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_scope_arguments(parser)
        parser.add_argument("--new", action="store_true", help="The instrument or project has no run yet.")
        parser.add_argument("--mode", choices=[*Mode, NONE])
        parser.add_argument("--proof", choices=[*ProofLevel, NONE])
        parser.add_argument(
            "--only-here",
            dest="only_here",
            choices=[*Beyond, NONE],
            help="Whether attributes, access lists and empty folders that the NAS lacks block a clear, or are told.",
        )
        for option, field, metavar, means in LIMITS:
            parser.add_argument(option, dest=field, type=_or_none(READERS[field]), metavar=metavar, help=means)
        parser.add_argument(
            "--rehearsal",
            dest="rehearse",
            action=argparse.BooleanOptionalAction,
            help="Whether the schedule rehearses it first, now and after later changes.",
        )
        parser.add_argument("--at-once", action="store_true", help="Say that runs may go as soon as they are verified.")
        parser.add_argument("--note", type=reason_text, default="", metavar="TEXT", help="Kept with the version.")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        fields = _fields(options)
        if not fields and options["rehearse"] is None:
            raise UsageError("Say what to change: --mode, --retain-hours, --proof, a limit or --rehearsal.")
        scope = scope_of(options, new=options["new"])
        _refuse_limits_without_a_root(fields, scope)
        expect_one_line(options["note"])
        version = write_version(
            scope,
            fields,
            rehearse=options["rehearse"],
            note=options["note"],
            option_of=_option_of,
            at_once=options["at_once"],
        )
        text = f"policy version {version.version}: {meaning_of(version)}"
        self.report(options["json"], version_as_json(version), text)


def _fields(options: dict[str, Any]) -> dict[str, Any]:
    fields = {name: "" if options[name] == NONE else options[name] for name in CHOSEN if options[name]}
    given = {field: options[field] for field in OPTIONS if options[field] is not None}
    return fields | {field: None if value is UNSET else value for field, value in given.items()}


def _or_none(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:  # noqa: ANN401
        if text == NONE:
            return UNSET
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(visible(error)) from None

    return read


def _refuse_limits_without_a_root(fields: dict[str, Any], scope: dict[str, Any]) -> None:
    limits = [_option_of(name) for name in ROOT_FIELDS if fields.get(name) is not None]
    narrow = [f"--{name.replace('_', '-')}" for name in ("equipment", "project", "run_kind") if scope[name]]
    if not limits or (scope["root"] and not narrow):
        return
    if narrow:
        raise UsageError(f"{', '.join(limits)}: for a staging root as a whole, so without {' and '.join(narrow)}.")
    known = ", ".join(StagingRoot.objects.values_list("name", flat=True)) or "none is registered"
    raise UsageError(f"{', '.join(limits)}: for one staging root, so say which with --root ({known}).")


def _option_of(field: str) -> str:
    return OPTIONS.get(field, f"--{field.replace('_', '-')}")
