"""Promote a rehearsed policy, or rehearse it again."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError, CommandParser

from cleanup.lab.people import os_account
from cleanup.lab.policy_versions import Superseded
from cleanup.lab.roots import first_nights
from cleanup.management.base import FAILED, LabCommand, UsageError, expect_one_line, now, reason_text
from cleanup.management.scopes import add_scope_arguments, find_root, meaning_of, scope_of, version_as_json
from cleanup.models import RetentionPolicy, StagingRoot
from cleanup.monitoring import evening_mail
from cleanup.rules.policies.policy import Stage
from cleanup.rules.policies.sentences import name_scope
from cleanup.sweeps import rehearsal, rehearsed_runs
from cleanup.text.values import count, in_units, runs, visible


class Command(LabCommand):
    help = "Let the rehearsed policy of one scope clear runs from now on; --back rehearses it again."

    def add_arguments(self, parser: CommandParser) -> None:
        add_scope_arguments(parser)
        parser.add_argument(
            "--first-nights",
            metavar="NAME",
            help="End the first nights of a staging root: what is in force goes there.",
        )
        parser.add_argument("--back", action="store_true", help="Rehearse it again, from the next pass on.")
        parser.add_argument("--note", type=reason_text, default="", metavar="TEXT", help="Kept with the version.")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        at = now()
        expect_one_line(options["note"])
        if options["first_nights"] is not None:
            self._end_first_nights(options, at)
            return
        scope = scope_of(options, new=True)
        version = RetentionPolicy.objects.newest_of(**scope)
        if version is None:
            where = RetentionPolicy(**scope).scope
            raise UsageError(f"No policy is set for {visible(name_scope(where))}.")
        wanted = Stage.REHEARSING if options["back"] else Stage.PROMOTED
        if version.rehearsal == wanted or (version.rehearsal == Stage.OFF and not options["back"]):
            text = f"nothing to do: policy version {version.version} is {_stage_in_words(version)}"
            self.report(options["json"], version_as_json(version), text)
            return
        compared = rehearsed_runs.comparison(version, at)
        try:
            if options["back"]:
                written = rehearsal.send_back(version, os_account.name(), options["note"], at)
            else:
                written = rehearsal.promote(version, os_account.name(), at, note=options["note"])
        except Superseded as error:
            raise CommandError(f"Nothing was changed: {error}.", returncode=FAILED) from None
        text = f"policy version {written.version}: {meaning_of(written)}"
        if not options["back"]:
            text += f"\n{_what_it_showed(compared)}"
            roots = [written.root] if written.root else StagingRoot.objects.active().order_by("name")
            text += _next_sweep(roots, at)
        self.report(options["json"], version_as_json(written), text)

    def _end_first_nights(self, options: dict[str, Any], at: datetime) -> None:
        if options["back"] or any(options[name] for name in ("root", "equipment", "project", "run_kind")):
            raise UsageError("--first-nights: for a staging root as a whole, so without a scope or --back.")
        root = find_root(options["first_nights"])
        found = first_nights.waiting(at, root)
        answer = {"root": root.name, "promoted": bool(found), "was": found[0].as_json() if found else None}
        if not found:
            text = f"nothing to do: {visible(root.name)} is not in its first nights"
            self.report(options["json"], answer, text)
            return
        try:
            rehearsal.promote_root(root, os_account.name(), at, note=options["note"])
        except Superseded as error:
            raise CommandError(f"Nothing was changed: {error}.", returncode=FAILED) from None
        numbers = ", ".join(map(str, found[0].versions))
        text = f"{visible(root.name)}: its first nights are over, and policy version {numbers} is in force there"
        text += _next_sweep([root], at)
        self.report(options["json"], answer, text)


def _next_sweep(roots: Iterable[StagingRoot], at: datetime) -> str:
    return f"\nnext sweep: {visible(evening_mail.say_next(roots, at) or 'nothing goes')}"


def _stage_in_words(version: RetentionPolicy) -> str:
    words = {Stage.OFF: "in force and was never rehearsed", Stage.PROMOTED: "promoted already"}
    return words.get(Stage(version.rehearsal), "being rehearsed already")


def _what_it_showed(compared: list[rehearsed_runs.RehearsedRun]) -> str:
    size, bad = sum(one.bytes for one in compared), sum(one.became.surprising for one in compared)
    return f"its rehearsal would have cleared {runs(len(compared))}, {in_units(size)}; {count(bad)} of them a surprise"
