"""What the commands share."""

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, connection
from django.utils import timezone

from cleanup.clears.report import ClearReport
from cleanup.clears.run_action import FREEING, Action
from cleanup.lab import lock_waits
from cleanup.lab.people import os_account
from cleanup.models import Hold, Run, StagingRoot
from cleanup.rules import short_texts
from cleanup.rules.freed import say_freed
from cleanup.rules.reasons import Reason
from cleanup.storage.data_directory.datadir import DataDir
from cleanup.storage.staging.records.ingest_json import parse_instant
from cleanup.sweeps import history
from cleanup.text import values
from exlab import databases

USAGE = 2
FAILED = 1


class UsageError(CommandError):
    """One sentence on stderr, exit status 2."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, returncode=USAGE)


class LabCommand(BaseCommand):
    """With `--json` stdout holds one object, and logs go to stderr."""

    requires_migrations_checks = True
    # Whether its records name the account that types it.
    acts = True

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:  # noqa: ANN401
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")
        return parser

    def execute(self, *args: Any, **options: Any) -> str | None:  # noqa: ANN401
        # On a full disk even the first query of a database on it fails.
        data = DataDir(str(settings.EXLAB_DATA_DIR))
        relieved = data.relieve()
        try:
            with os_account.typing(os_account.account() if self.acts else ""):
                return super().execute(*args, **options)
        except OperationalError as error:
            if not (busy := lock_waits.say(error)):
                raise
            raise CommandError(busy, returncode=FAILED) from None
        finally:
            if relieved:
                data.lay_reserve()

    def check_migrations(self) -> None:
        if unready := databases.trouble(connection):
            raise UsageError(unready.said)

    def report(self, as_json: bool, answer: dict[str, Any], text: str) -> None:
        self.stdout.write(json.dumps(answer, default=_jsonable) if as_json else text)


def _jsonable(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)


def add_root_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", metavar="NAME", help="Only this staging root.")


def add_user_argument(parser: argparse.ArgumentParser, words: str) -> None:
    parser.add_argument("--user", metavar="NAME", help=words)


def reason_text(text: str) -> str:
    try:
        return short_texts.not_too_long(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def expect_one_line(note: str) -> None:
    """Raises UsageError."""
    if not note.isprintable():
        raise UsageError("--note: write one line of text.")


def user_named(name: str | None) -> str:
    """The named user, else the account that runs the command. Raises UsageError if unknown."""
    if name and not get_user_model().objects.filter(username=name).exists():
        raise UsageError(f"No user {name} is known.")
    return name or os_account.name()


def find_roots(name: str | None, *, at_work: bool = False) -> list[StagingRoot]:
    """The active roots of this host, or the named one; `at_work`: not a retired one. Raises UsageError."""
    roots = StagingRoot.objects.filter(host=settings.EXLAB_HOST)
    if name is None:
        return list(roots.active())
    if not (named := list(roots.filter(name=name))):
        known = ", ".join(roots.values_list("name", flat=True)) or "none"
        raise UsageError(f"No staging root {name} is registered on this host; known: {known}.")
    if at_work and named[0].retired_at is not None:
        raise UsageError(f"{name} is retired; `reregister --root {name} --all` takes it up again.")
    return named


def find_run(run_path: str, roots: list[StagingRoot], *, gone: bool = False) -> Run:
    """The run staged, else cleared last, else, with `gone`, declared gone last at this path. Raises UsageError."""
    runs = Run.objects.with_root().filter(run_path=run_path.rstrip("/"), root__in=roots)
    found = list(runs.staged()) or list(runs.filter(gone_at=None).order_by("-cleared_at"))
    if gone and not found:
        found = list(runs.exclude(gone_at=None).order_by("-gone_at"))
    if not found:
        raise UsageError(f"No run {run_path} is known; a run is named by its path below the staging root.")
    if len({run.root_id for run in found}) > 1:
        raise known_in_several(run_path, (run.root for run in found))
    return found[0]


def known_in_several(path: str, roots: Iterable[StagingRoot]) -> UsageError:
    names = ", ".join(sorted({root.name for root in roots}))
    return UsageError(f"{path} is known in {names}: say which with --root.")


def find_runs(run_paths: Iterable[str], roots: list[StagingRoot]) -> list[Run]:
    """Each run that is named, once. Raises UsageError as `find_run`."""
    return list({run.pk: run for run in (find_run(path, roots) for path in run_paths)}.values())


def parse_iso(text: str) -> datetime:
    """An instant; without a zone in UTC."""
    instant = parse_instant(text if "T" in text else f"{text}T00:00:00")
    if instant is None:
        raise argparse.ArgumentTypeError(f"{text} is no instant such as 2026-04-17T08:00:00Z")
    return instant


def gone_as_json(run: Run) -> dict[str, Any] | None:
    """Scripts depend on this shape."""
    gone = history.gone(run)
    return None if gone is None else asdict(gone)


def gone_as_text(run: Run) -> str:
    gone = history.gone(run)
    if gone is None:
        return ""
    when = values.exact_instant(gone.at) if gone.at else "at an unknown time"
    was = f"{values.files(gone.files)}, {values.in_units(gone.bytes or 0)}" if gone.files is not None else "unknown"
    freed = ""
    if gone.freed_files is not None and gone.freed_files != gone.files:
        freed = (
            f"; {values.files(gone.freed_files)}, {values.in_units(gone.freed_bytes or 0)} of that are removed so far"
        )
    return f"It was cleared {when} by {values.visible(gone.by)}. On staging it was: {was}{freed}."


def sweep_as_json(swept: ClearReport) -> dict[str, Any]:
    """Scripts depend on this shape."""
    return {
        "dry_run": swept.dry_run,
        "now": swept.now,
        "scanned": swept.scanned,
        "candidates": swept.candidates,
        "cleared": swept.count(Action.CLEARED),
        "skipped": swept.count(Action.SKIPPED, Action.REFUSED),
        "failed": swept.failed,
        "not_verified": swept.not_verified,
        "files": swept.files,
        "bytes_freed": swept.bytes_freed,
        "allocated_bytes": swept.allocated_bytes,
        "measured_bytes": swept.measured.measured if swept.measured else None,
        "measured_of_bytes": swept.measured.allocated if swept.measured else None,
        "runs": [
            {
                "root": run.root,
                "run_path": run.run_path,
                "action": run.action,
                "reason": run.reason or None,
                "detail": run.detail,
                "files": run.files,
                "bytes": run.bytes,
                "policy": run.decided_by or None,
                "allocated_bytes": run.allocated,
                "measured_bytes": run.measured,
                "unmeasured": run.unmeasured or None,
            }
            for run in swept.runs
        ],
        "problems": [
            {"root": problem.root, "reason": problem.reason, "detail": problem.detail} for problem in swept.problems
        ],
    }


def sweep_as_text(swept: ClearReport) -> str:
    lines = []
    for run in swept.runs:
        rehearsed = run.reason == Reason.REHEARSAL
        why = Reason(run.reason).sentence if run.reason in set(Reason) and not rehearsed else run.reason
        size = f"{values.files(run.files)}, {values.exact_bytes(run.bytes)}" if run.action in FREEING else ""
        given_back = say_freed(run.allocated, run.measured, run.unmeasured)
        parts = [part for part in (size, given_back, why, run.detail) if part]
        lines.append(f"{run.action.replace('_', ' '):12} {run.run_path}  {'; '.join(parts)}")
    cleared, freed = ("would be cleared", "would free") if swept.dry_run else ("cleared", "freed")
    lines.append(
        f"{values.runs(swept.scanned)} scanned, {swept.candidates} candidates, {len(swept.freeing)} {cleared}, "
        f"{swept.failed} failed; {freed} {values.files(swept.files)}, {values.exact_bytes(swept.bytes_freed)}"
    )
    if only_rehearsed := swept.only_rehearsed:
        total = values.exact_bytes(sum(run.bytes for run in only_rehearsed))
        lines.append(
            f"rehearsed only: {len(only_rehearsed):,} would have gone by the schedule, {total}; "
            "they go once the policy is promoted"
        )
    for problem in swept.problems:
        lines.append(f"{problem.root}: {' '.join(part for part in (problem.reason.sentence, problem.detail) if part)}")
    return "\n".join(lines)


def hold_as_json(hold: Hold) -> dict[str, Any]:
    """Scripts depend on this shape."""
    return {
        "by": hold.source,
        "owner": hold.owner,
        "reason": hold.reason,
        "since": hold.created_at,
        "until": hold.until and timezone.localtime(hold.until),
        "released_at": hold.released_at,
        "released_by": hold.released_by or None,
    }


def now() -> datetime:
    return timezone.now()


def add_registration_flags(parser: CommandParser) -> None:
    parser.add_argument(
        "--allow-same-filesystem",
        action="store_true",
        help="Accept a NAS root on the same filesystem. That is no second copy: for trials only.",
    )
    parser.add_argument(
        "--allow-union-nas",
        action="store_true",
        help="Accept a NAS root on a union of directories, such as mergerfs or overlay. May be given later.",
    )
    parser.add_argument(
        "--nas-writes-through",
        action="store_true",
        help="Accept a NAS root on a mount that may hold writes back, such as rclone, s3fs or davfs2, with its cache "
        "off. May be given later.",
    )
    parser.add_argument(
        "--accept-empty",
        action="store_true",
        help="Lay tokens even in empty directories, which may be mount points without their disks.",
    )


def registration_flags(options: dict[str, Any]) -> dict[str, Any]:
    """What `add_registration_flags` has added, as `register` takes it."""
    names = ("allow_same_filesystem", "allow_union_nas", "nas_writes_through", "accept_empty")
    return {name: options[name] for name in names}


def nas_roots_given(given: list[str]) -> tuple[str, dict[str, str]]:
    """The root's own NAS root (may be empty), and those of instruments."""
    plain: list[str] = []
    own: dict[str, str] = {}
    for text in given:
        equipment, equals, path = text.partition("=")
        if not text or (equals and not path):
            raise UsageError(f"--nas-root {text}: there is no path in it.")
        if text.startswith("/") or not equals:
            plain.append(text)
        elif own.setdefault(equipment, path) != path:
            raise UsageError(f"Two NAS roots are named for {equipment}.")
    if len(plain) > 1:
        raise UsageError("Name one NAS root for the staging root, and others as EQUIPMENT=PATH.")
    return (plain[0] if plain else ""), own
