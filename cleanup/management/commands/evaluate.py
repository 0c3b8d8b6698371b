"""Every gate of every staged run."""

from typing import Any

from django.core.management.base import CommandParser

from cleanup.clears.decisions import decision_as_json
from cleanup.management.base import (
    LabCommand,
    add_root_argument,
    find_roots,
    find_run,
    gone_as_json,
    gone_as_text,
    now,
)
from cleanup.models import RetentionPolicy, Run
from cleanup.rules.decisions import Decision
from cleanup.rules.policies.effective import effective_policy, sources_as_json
from cleanup.runs.facts import inspection


class Command(LabCommand):
    help = "Look at every staged run, or at those named, and show every gate. Reads no data, changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run_paths", nargs="*", metavar="RUN_PATH")
        add_root_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        at = now()
        roots = find_roots(options["root"])
        if options["run_paths"]:
            runs = [find_run(path, roots) for path in options["run_paths"]]
        else:
            runs = list(Run.objects.staged().with_root().filter(root__in=roots))
        policies = RetentionPolicy.objects.scoped()
        decided = [(run, inspection.quick_decision(run, effective_policy(policies, run.scope), at)) for run in runs]
        answer = {
            "now": at,
            "runs": [
                {
                    "root": run.root.name,
                    "run_path": run.run_path,
                    "state": run.state or None,
                    "clearable": decision.clearable,
                    "gates": decision_as_json(decision),
                    "cleared": gone_as_json(run),
                    "policy": sources_as_json(decision.policy),
                }
                for run, decision in decided
            ],
        }
        self.report(options["json"], answer, "\n".join(_describe(run, decision) for run, decision in decided))


def _describe(run: Run, decision: Decision) -> str:
    lines = [f"{run.run_path}  {run.state or 'no state'}, {'clearable' if decision.clearable else 'not clearable'}"]
    if cleared := gone_as_text(run):
        return "\n".join([*lines, f"  {cleared}"])
    for result in decision.gates:
        said = [result.reason.sentence if result.reason else "", result.detail]
        if result.opens_at:
            said.append(f"opens {result.opens_at.isoformat(timespec='minutes')}")
        lines.append(f"  {result.gate:10} {result.verdict:5} {' '.join(part for part in said if part)}")
    return "\n".join(lines)
