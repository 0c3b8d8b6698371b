"""Register a staging root."""

import sys
from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandParser

from cleanup.lab.roots import disk_usage, first_nights, registration
from cleanup.lab.roots.first_nights import Waiting
from cleanup.lab.roots.registration import RegistrationError, register
from cleanup.management.base import (
    FAILED,
    LabCommand,
    UsageError,
    add_registration_flags,
    nas_roots_given,
    now,
    registration_flags,
)
from cleanup.models import StagingRoot


class Command(LabCommand):
    help = "Register a staging root and the NAS root that mirrors it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="A short name, such as lab.")
        parser.add_argument("path", help="The directory that holds EQUIPMENT/PROJECT/Runs/Run_DATE.")
        parser.add_argument(
            "--nas-root",
            action="append",
            default=[],
            metavar="[EQUIPMENT=]PATH",
            help="The mounted directory that holds the copies; with EQUIPMENT= that of one instrument. More than once.",
        )
        parser.add_argument(
            "--nas-layout",
            metavar="LAYOUT",
            help="Where the copy of a run lies below a NAS root: run-path (default), equipment/leaf, leaf, or a "
            "template of {equipment} {project} {kind} {leaf}. Can be given later.",
        )
        add_registration_flags(parser)

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        nas_path, instrument_nas = nas_roots_given(options["nas_root"])
        at = now()
        try:
            root = register(
                options["name"],
                options["path"],
                nas_path=nas_path,
                nas_layout=options["nas_layout"],
                instrument_nas=instrument_nas,
                now=at,
                **registration_flags(options),
            )
        except RegistrationError as error:
            raise UsageError(str(error)) from None
        disk_usage.measure(root, at)
        remarks = registration.remarks(root)
        found = first_nights.waiting(at, root)
        warnings = [*remarks.problems, *remarks.warnings]
        for warning in warnings:
            self.stderr.write(warning)
        lines = [f"{root.name}: {root.path} on {root.host}, NAS root {root.nas_path or '-'}"]
        lines += [waiting.sentence for waiting in found]
        self.report(options["json"], _as_json(root, warnings, found), "\n".join(lines))
        if remarks.problems:
            sys.exit(FAILED)  # registered, but this NAS proves nothing


def _as_json(root: StagingRoot, warnings: list[str], found: Sequence[Waiting]) -> dict[str, Any]:
    return {
        "name": root.name,
        "host": root.host,
        "path": root.path,
        "token": root.token or None,
        "nas_root": root.nas_path or None,
        "nas_token": root.nas_token or None,
        "nas_layout": root.nas_layout,
        "instrument_nas_roots": {equipment: own["path"] for equipment, own in root.instrument_nas.items()},
        "allow_same_filesystem": root.allow_same_filesystem,
        "allow_union_nas": root.allow_union_nas,
        "nas_writes_through": root.nas_writes_through,
        "warnings": warnings,
        "first_nights": found[0].as_json() if found else None,
    }
