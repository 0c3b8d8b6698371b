"""Let a policy loose that was rehearsed, or rehearse it again."""

import getpass
from typing import Any

from django.core.management.base import CommandError, CommandParser

from cleanup import rehearsing
from cleanup.management.base import FAILED, LabCommand, UsageError, now
from cleanup.management.scopes import add_scope_arguments, meaning_of, scope_of, version_as_json
from cleanup.models import RetentionPolicy
from cleanup.policy.retention import Stage
from cleanup.policy.wording import name_scope
from cleanup.templatetags.words import count, in_units, runs, visible


class Command(LabCommand):
    help = "Let the policy of one scope loose that the schedule has rehearsed so far; --back rehearses it again."

    def add_arguments(self, parser: CommandParser) -> None:
        add_scope_arguments(parser)
        parser.add_argument("--back", action="store_true", help="Rehearse it again, from the next pass on.")
        parser.add_argument("--note", default="", metavar="TEXT", help="Kept with the version.")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        at = now()
        if not options["note"].isprintable():
            raise UsageError("--note: write one line of text.")
        scope = scope_of(options, new=True)
        version = RetentionPolicy.objects.filter(**scope).order_by("-version").first()
        if version is None:
            where = RetentionPolicy(**scope).scope
            raise UsageError(f"No policy is set for {visible(name_scope(where))}.")
        wanted = Stage.REHEARSING if options["back"] else Stage.PROMOTED
        if version.rehearsal == wanted or (version.rehearsal == Stage.OFF and not options["back"]):
            text = f"nothing to do: policy version {version.version} is {_stage_in_words(version)}"
            self.report(options["json"], version_as_json(version), text)
            return
        compared = rehearsing.comparison(version, at)
        try:
            if options["back"]:
                written = rehearsing.send_back(version, getpass.getuser(), options["note"], at)
            else:
                written = rehearsing.promote(version, getpass.getuser(), at, note=options["note"])
        except rehearsing.Superseded as error:
            raise CommandError(f"Nothing was changed: {error}.", returncode=FAILED) from None
        text = f"policy version {written.version}: {meaning_of(written)}"
        if not options["back"]:
            text += f"\n{_what_it_showed(compared)}"
        self.report(options["json"], version_as_json(written), text)


def _stage_in_words(version: RetentionPolicy) -> str:
    words = {Stage.OFF: "in force and was never rehearsed", Stage.PROMOTED: "promoted already"}
    return words.get(Stage(version.rehearsal), "being rehearsed already")


def _what_it_showed(compared: list[rehearsing.Compared]) -> str:
    """What the rehearsal would have cleared, for the log of whoever promotes."""
    size, bad = sum(one.bytes for one in compared), sum(one.became.surprising for one in compared)
    return f"its rehearsal would have cleared {runs(len(compared))}, {in_units(size)}; {count(bad)} of them a surprise"
