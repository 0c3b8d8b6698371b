"""What the commands share: `--json`, the exit status, and how a run is named on the command line."""

import argparse
import getpass
import json
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from cleanup.models import Hold, Run, StagingRoot
from cleanup.policy.reasons import Reason
from cleanup.staging.datadir import DataDir
from cleanup.staging.ingest import parse_instant
from cleanup.sweeping import Swept
from cleanup.taking import FREEING, Action
from cleanup.templatetags import words

USAGE = 2
FAILED = 1


class UsageError(CommandError):
    """Bad usage or configuration: one sentence on stderr, exit status 2."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, returncode=USAGE)


class LabCommand(BaseCommand):
    """A command with `--json`: then stdout holds one object and nothing else, and logs go to stderr."""

    requires_migrations_checks = True

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:  # noqa: ANN401
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")
        return parser

    def execute(self, *args: Any, **options: Any) -> str | None:  # noqa: ANN401
        # On a full disk even the first look into a database that lies there fails.
        data = DataDir(str(settings.EXLAB_DATA_DIR))
        relieved = data.relieve()
        try:
            return super().execute(*args, **options)
        finally:
            if relieved:
                data.lay_reserve()

    def report(self, as_json: bool, answer: dict[str, Any], text: str) -> None:
        """Print the answer in the one form or the other."""
        self.stdout.write(json.dumps(answer, default=_jsonable) if as_json else text)


def _jsonable(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)


def add_root_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", metavar="NAME", help="Only this staging root.")


def add_user_argument(parser: argparse.ArgumentParser, words: str) -> None:
    parser.add_argument("--user", metavar="NAME", help=words)


def user_named(name: str | None) -> str:
    """Whose act a command is: the user that is named, else the account that runs it. Raises UsageError if unknown."""
    if name and not get_user_model().objects.filter(username=name).exists():
        raise UsageError(f"No user {name} is known.")
    return name or getpass.getuser()


def find_roots(name: str | None) -> list[StagingRoot]:
    """The staging roots of this host, or the one that is named. Raises UsageError for an unknown name."""
    roots = StagingRoot.objects.filter(host=settings.EXLAB_HOST)
    if name is None:
        return list(roots)
    if not (named := list(roots.filter(name=name))):
        known = ", ".join(roots.values_list("name", flat=True)) or "none"
        raise UsageError(f"No staging root {name} is registered on this host; known: {known}.")
    return named


def find_run(run_path: str, roots: list[StagingRoot], *, gone: bool = False) -> Run:
    """The run of this path: the staged one, else the one cleared last, else, with `gone`, the one declared gone last.

    Raises UsageError if unknown or ambiguous.
    """
    runs = Run.objects.with_root().filter(run_path=run_path.rstrip("/"), root__in=roots)
    found = list(runs.staged()) or list(runs.filter(gone_at=None).order_by("-cleared_at"))
    if gone and not found:
        found = list(runs.exclude(gone_at=None).order_by("-gone_at"))
    if not found:
        raise UsageError(f"No run {run_path} is known; a run is named by its path below the staging root.")
    if len({run.root_id for run in found}) > 1:
        names = ", ".join(sorted({run.root.name for run in found}))
        raise UsageError(f"{run_path} is known in {names}: say which with --root.")
    return found[0]


def parse_iso(text: str) -> datetime:
    """An instant from the command line; without a zone it is UTC."""
    instant = parse_instant(text if "T" in text else f"{text}T00:00:00")
    if instant is None:
        raise argparse.ArgumentTypeError(f"{text} is no instant such as 2026-04-17T08:00:00Z")
    return instant


def sweep_as_json(swept: Swept) -> dict[str, Any]:
    """A sweep, or a clear, in the shape that scripts depend on."""
    return {
        "dry_run": swept.dry_run,
        "now": swept.now,
        "scanned": swept.scanned,
        "candidates": swept.candidates,
        "cleared": swept.count(Action.CLEARED),
        "skipped": swept.count(Action.SKIPPED, Action.REFUSED),
        "failed": swept.failed,
        "files": swept.files,
        "bytes_freed": swept.bytes_freed,
        "runs": [
            {
                "root": run.root,
                "run_path": run.run_path,
                "action": run.action,
                "reason": run.reason or None,
                "detail": run.detail,
                "files": run.files,
                "bytes": run.bytes,
            }
            for run in swept.runs
        ],
        "problems": [
            {"root": problem.root, "reason": problem.reason, "detail": problem.detail} for problem in swept.problems
        ],
    }


def sweep_as_text(swept: Swept) -> str:
    """A sweep, or a clear, in lines for a person."""
    lines = []
    for run in swept.runs:
        rehearsed = run.reason == Reason.REHEARSAL
        why = Reason(run.reason).sentence if run.reason in set(Reason) and not rehearsed else run.reason
        size = f"{words.files(run.files)}, {words.exact_bytes(run.bytes)}" if run.action in FREEING else ""
        parts = [part for part in (size, why, run.detail) if part]
        lines.append(f"{run.action.replace('_', ' '):12} {run.run_path}  {'; '.join(parts)}")
    cleared, freed = ("would be cleared", "would free") if swept.dry_run else ("cleared", "freed")
    lines.append(
        f"{words.runs(swept.scanned)} scanned, {swept.candidates} candidates, {len(swept.freeing)} {cleared}, "
        f"{swept.failed} failed; {freed} {words.files(swept.files)}, {words.exact_bytes(swept.bytes_freed)}"
    )
    if only_rehearsed := [run for run in swept.runs if run.reason == Reason.REHEARSAL]:
        total = sum(run.bytes for run in only_rehearsed)
        lines.append(f"{words.runs(len(only_rehearsed))}, {words.exact_bytes(total)} rehearsed: promote the policy")
    for problem in swept.problems:
        lines.append(f"{problem.root}: {' '.join(part for part in (problem.reason.sentence, problem.detail) if part)}")
    return "\n".join(lines)


def hold_as_json(hold: Hold) -> dict[str, Any]:
    """One hold in the shape that scripts depend on."""
    return {
        "by": hold.source,
        "owner": hold.owner,
        "reason": hold.reason,
        "since": hold.created_at,
        "until": hold.until,
        "released_at": hold.released_at,
        "released_by": hold.released_by or None,
    }


def now() -> datetime:
    """The one look at the clock that a command takes."""
    return timezone.now()
