"""Rows of runs that were never met, many in one transaction: a disk that is looked at first may have 20,000."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from cleanup.models import IngestEvent, RecordSight, Run, search_words
from cleanup.rules.states import State
from cleanup.runs import at_path, rows, run_people
from cleanup.runs.looks.begun import BegunLook
from cleanup.runs.looks.discovered import Discovered
from cleanup.runs.rows import Told


@dataclass(frozen=True)
class _NewRow:
    run: Run
    events: list[IngestEvent]
    sights: list[RecordSight]


def may_be_made(begun: BegunLook) -> bool:
    """Whether a run was never met at its path, and its record does not call it cleared."""
    return not begun.found.rows and (begun.told is None or begun.told.state != State.CLEARED)


def make(result: Discovered, begun: Iterable[BegunLook]) -> list[tuple[BegunLook, Run]]:
    """Write the rows of runs that `may_be_made`; those at whose paths a row came meanwhile, or that went, are left out.

    All or none: raises DatabaseError.
    """
    with transaction.atomic():
        wanted = {str(each.path): each for each in begun}
        met = at_path.read_all(result.root, wanted)
        made = [
            (each, _row_of(result, each, each.told, result.sighted_at))
            for path, each in wanted.items()
            if not met[path].rows and each.lies_there()
        ]
        runs = [row.run for _each, row in made]
        for run in {(run.equipment, run.project): run for run in runs}.values():
            result.names.write(run)
        Run.objects.bulk_create(runs)
        search_words.keep(runs)
        run_people.add(runs)
        IngestEvent.objects.bulk_create([event for _each, row in made for event in row.events])
        RecordSight.objects.bulk_create([sight for _each, row in made for sight in row.sights])
        _entitle(runs)
    for _each, row in made:
        result.names.remember(row.run)
        row.run.note_is_new(row.events)
    return [(each, row.run) for each, row in made]


def _row_of(result: Discovered, begun: BegunLook, told: Told | None, now: datetime) -> _NewRow:
    run = rows.run_of(result.root, begun.path, begun.identity, now)
    if told is None:
        return _NewRow(run, [], [])
    run.people = list(told.record.people or ()) or None
    main = told.record.main
    if main.history:
        rows.take_state(run, main)
        return _NewRow(run, rows.events_of(run, main, now), [])
    verified = told.record.verified_at
    run.state, run.record_format = told.state, main.format.name
    run.verified_at = verified if told.state == State.SYNC_VERIFIED else None
    return _NewRow(run, [], [RecordSight(run=run, digest=main.digest, verified_at=verified, first_seen_at=now)])


def _entitle(runs: Sequence[Run]) -> None:
    # As one after the other: the last title counts.
    for code, title in {run.project: run.project_name for run in runs if run.project_name}.items():
        rows.entitle(code, title)
