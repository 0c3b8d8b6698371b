"""What applies, and which version decides it."""

from datetime import datetime
from typing import Any

from django.core.management.base import CommandParser

from cleanup.lab.roots import first_nights
from cleanup.management.base import LabCommand, add_root_argument, find_roots, find_run, now
from cleanup.management.scopes import meaning_of, version_as_json
from cleanup.models import RetentionPolicy, Run
from cleanup.rules.policies.effective import decided_by, effective_policy, sources_as_json
from cleanup.rules.policies.fields import RUN_FIELDS
from cleanup.rules.policies.policy import Mode, Policy, ScopedPolicy, Stage
from cleanup.rules.policies.rehearsal import nights_wanted
from cleanup.rules.policies.sentences import name_scope, say_field
from cleanup.rules.quantities import AT_ONCE, say_hours
from cleanup.sweeps import rehearsal
from cleanup.text.values import visible


class Command(LabCommand):
    help = "Show the policies in force; with a run's path what applies to it, and which version decided each field."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run_path", nargs="?", metavar="RUN_PATH")
        add_root_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        if options["run_path"]:
            run = find_run(options["run_path"], find_roots(options["root"]))
            self.report(options["json"], *_applied(run))
            return
        at = now()
        versions = RetentionPolicy.objects.in_force()
        if options["root"]:
            (root,) = find_roots(options["root"])
            versions = [version for version in versions if version.root_id in (None, root.pk)]
        answer = {"policies": [{**version_as_json(version), "nights": _nights(version, at)} for version in versions]}
        lines = [f"version {version.version}: {meaning_of(version)}{_so_far(version, at)}" for version in versions]
        found = first_nights.waiting(at, *([root] if options["root"] else []))
        answer["first_nights"] = [waiting.as_json() for waiting in found]
        lines += [waiting.sentence for waiting in found]
        self.report(options["json"], answer, "\n".join(lines) or "No policy has been set: every run is kept.")


def _applied(run: Run) -> tuple[dict[str, Any], str]:
    scoped = RetentionPolicy.objects.scoped()
    policy, by = effective_policy(scoped, run.scope), decided_by(scoped, run.scope)
    answer = {
        "root": run.root.name,
        "run_path": run.run_path,
        "fields": {name: {"value": getattr(policy, name), "version": _number(by.get(name))} for name in RUN_FIELDS},
        "rehearsing": list(policy.rehearsing),
        "meanwhile": sources_as_json(policy.meanwhile) if policy.meanwhile else None,
    }
    lines = [f"{run.run_path}  {_rehearsed(policy)}".rstrip()]
    for name in RUN_FIELDS:
        said = say_field(name, getattr(policy, name))
        version = by.get(name)
        source = f"version {version.version}, {name_scope(version.scope)}" if version else "default"
        lines.append(f"  {name.replace('_', ' '):20} {said:12} {visible(source)}")
    return answer, "\n".join(lines)


def _number(version: ScopedPolicy | None) -> int | None:
    return version.version if version else None


def _rehearsed(policy: Policy) -> str:
    if not policy.rehearsing:
        return ""
    said = f"rehearsed with version {', '.join(map(str, policy.rehearsing))}"
    if policy.unasked.mode is not Mode.SCHEDULED:
        return f"{said}: the schedule takes nothing yet"
    hours = policy.unasked.retain_hours
    kept = f"is kept {say_hours(hours)}" if hours else f"goes {AT_ONCE}"
    return f"{said}: until it is promoted the run {kept}"


def _nights(version: RetentionPolicy, at: datetime) -> int | None:
    return rehearsal.nights_of(version, at) if version.rehearsal == Stage.REHEARSING else None


def _so_far(version: RetentionPolicy, at: datetime) -> str:
    nights = _nights(version, at)
    if nights is None:
        return ""
    wanted = nights_wanted(version.rehearsal_nights)
    return f" ({nights} of {wanted} so far)" if wanted else f" ({nights} clean so far)"
