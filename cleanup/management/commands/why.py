"""Why was this run not cleared?"""

from typing import Any

from django.core.management.base import CommandParser

from cleanup.management.base import (
    LabCommand,
    UsageError,
    add_root_argument,
    find_roots,
    find_run,
    gone_as_json,
    gone_as_text,
    now,
)
from cleanup.models import Run, Sweep
from cleanup.sweeps import history
from cleanup.sweeps.history import SweepAnswer
from cleanup.text import sweeps, values


class Command(LabCommand):
    help = "Say what the latest passes by some instant have said of a run, with every gate."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run_path", metavar="RUN_PATH")
        parser.add_argument(
            "--at", metavar="ISO", help="As of this instant, or the end of this day (in the pages' time zone)."
        )
        add_root_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        at = now()
        if options["at"] is not None:
            moment = history.moment_of(options["at"])
            if moment is None:
                raise UsageError(f"{options['at']} is no date such as 2026-04-17 and no instant.")
            at = min(at, moment)
        run = find_run(options["run_path"], find_roots(options["root"]), gone=True)
        answers = history.answer(run, at)
        answer = {
            "at": at,
            "root": run.root.name,
            "run_path": run.run_path,
            "state": run.state or None,
            "cleared_at": run.cleared_at,
            "cleared": gone_as_json(run),
            "answers": [_as_json(answer) for answer in answers],
        }
        first = [f"{run.run_path}  as of {values.exact_instant(at)}", gone_as_text(run)]
        lines = [*filter(None, first), *(_as_text(run, answer) for answer in answers)]
        self.report(options["json"], answer, "\n".join(lines))


def _as_json(answer: SweepAnswer) -> dict[str, Any]:
    sweep, said = answer.sweep, answer.said
    return {
        "kind": answer.kind.value,
        "sweep": _sweep_as_json(sweep) if sweep else None,
        "action": said.action if said else None,
        "reason": (said.reason or None) if said else None,
        "detail": said.detail if said else "",
        "since": said.first.started_at if said else None,
        "policy_version": sweep.policy_version if sweep and said else None,
        "policy": (said.decided_by or None) if said else None,
        "files": said.files if said else 0,
        "bytes": said.bytes if said else 0,
        "gates": said.gates if said else [],
    }


def _sweep_as_json(sweep: Sweep) -> dict[str, Any]:
    return {
        "id": sweep.pk,
        "at": sweep.started_at,
        "now": sweep.now,
        "outcome": sweep.outcome,
        "reason": sweep.reason or None,
        "detail": sweep.detail,
    }


def _as_text(run: Run, answer: SweepAnswer) -> str:
    sweep, said = answer.sweep, answer.said
    if sweep is None:
        return f"{answer.kind.label}: no such pass by then"
    began = f"{answer.kind.label}, {values.exact_instant(sweep.started_at)}"
    if said is None:
        return f"{began}: {history.silence(run, sweep)}"
    why = " ".join(part for part in (sweeps.because(said.reason), said.detail) if part)
    lines = [f"{began}: {sweeps.action(said.action)}. {why}".rstrip()]
    for gate in said.gates:
        told = " ".join(part for part in (sweeps.because(gate["reason"] or ""), gate["detail"]) if part)
        lines.append(f"  {gate['gate']:10} {gate['verdict']:5} {told}".rstrip())
    return "\n".join(lines)
