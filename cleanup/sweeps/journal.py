"""What a sweep of one root tells while it goes: to its record, and to the report of the caller."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from cleanup.clears.report import ClearReport
from cleanup.clears.run_action import RunAction
from cleanup.lab import clocks
from cleanup.models import Outcome, Run, StagingRoot, Sweep
from cleanup.rules.anomalies import Clock
from cleanup.rules.facts import Finding
from cleanup.rules.policies.policy import ScopedPolicy
from cleanup.sweeps import record
from cleanup.sweeps.record import Recorder, Said
from cleanup.sweeps.request import SweepRequest


class Journal:
    """Notes what a sweep says of each run. `decided_by`: what its policy came from, by run, until it is noted."""

    def __init__(self, recorder: Recorder, report: ClearReport, *, dry_run: bool) -> None:
        self.recorder, self.report, self.dry_run = recorder, report, dry_run
        self.candidates = 0
        self.decided_by: dict[int, dict[str, Any]] = {}

    @property
    def sweep(self) -> Sweep:
        return self.recorder.sweep

    def note(self, run: Run, action: RunAction, *, listed: bool = True) -> None:
        """One that is not `listed` only counts in the report."""
        action = replace(action, decided_by=self.decided_by.pop(run.pk, {}))
        if listed:
            self.report.runs.append(action)
        else:
            self.report.not_verified += 1
        self.recorder.note(
            run,
            Said(
                action=action.action,
                reason=action.reason,
                detail=action.detail,
                gates=action.gates or [],
                policy_version=self.sweep.policy_version,
                decided_by=action.decided_by,
                files=action.files,
                bytes=action.bytes,
            ),
        )

    def remember(self, cursor: tuple[datetime, int] | None) -> None:
        """Write where the next sweep begins if this one does not end: after the run that is taken now.

        Before it is taken: a run that kills every sweep must not keep the others from their turn.
        """
        if not self.dry_run:
            at, key = cursor or (None, None)
            place = {"cursor_verified_at": at, "cursor_run": key, "candidates": self.candidates}
            Sweep.objects.filter(pk=self.sweep.pk).update(**place)

    def count(self, *, scanned: int, staged_bytes: int) -> None:
        """Write what was decided so far: if the sweep dies, the record tells how many runs it did not reach."""
        self.recorder.flush()
        Sweep.objects.filter(pk=self.sweep.pk).update(scanned=scanned, staged_bytes=staged_bytes)

    def finish(
        self, finding: Finding | None, *, stopped: bool, scanned: int, pressure: dict[str, Any], sound: bool
    ) -> None:
        self.report.scanned += scanned
        self.report.candidates += self.candidates
        mine = replace(self.report, runs=[one for one in self.report.runs if one.root == self.sweep.root.name])
        self.recorder.finish(
            Outcome.STOPPED if stopped else Outcome.DONE,
            scanned=scanned,
            candidates=self.candidates,
            reason=finding.reason if finding else "",
            detail=finding.detail if finding else "",
            pressure={**pressure, "freed": mine.freed_as_json(), "rehearsed": mine.rehearsed_as_json()},
            clock={**self.sweep.clock, "sound": sound},
        )


def begin(root: StagingRoot, request: SweepRequest, policies: list[ScopedPolicy], report: ClearReport) -> Journal:
    """Begins the record of a sweep and returns its journal."""
    recorder = record.begin(
        root,
        request.kind,
        now=request.now,
        actor=request.actor,
        policy_version=max((policy.version for policy in policies), default=0),
        clock=clocks.as_json(request.clock or Clock(wall=request.now)) if not request.dry_run else {},
    )
    return Journal(recorder, report, dry_run=request.dry_run)
