"""Brings the history of lost clears back into the database. It touches neither disk nor NAS."""

import json
from datetime import datetime
from typing import Any

from django.db.models import F, Q

from cleanup.lab.nas import shared_twins
from cleanup.ledger import book, entries
from cleanup.models import ClearAttempt, IngestEvent, LedgerKind, Phase, Run
from cleanup.monitoring.reconciliation import tombstones
from cleanup.monitoring.reconciliation.evidence import DoubtedClear, one_document
from cleanup.monitoring.reconciliation.tombstones import LostClear
from cleanup.rules.states import State
from cleanup.runs import rows, run_status
from cleanup.storage.staging.records import Record
from cleanup.storage.staging.records import ingest_json as ingest


def recover(lost: LostClear, *, now: datetime) -> Run:
    """Call the run cleared, with its history and a ledger row of kind `recovered`.

    Disk and rows are asked once more before. Raises DoubtedClear, with nothing written.
    """
    lost, actor = tombstones.judge(lost.evidence), _text(lost, "actor", 150)
    with one_document(lost.evidence.name), book.writing():
        run = _locked(lost, now)
        if run.state != State.CLEARED:
            _end_history(run, lost, now)
        changes = {"state": State.CLEARED, "cleared_by": "", "problem": "", "cleared_at": lost.cleared_at or now}
        Run.objects.filter(pk=run.pk).update(**changes, cleared_for=actor, doubts=F("doubts") + 1)
        entries.write_recovered(run, now, actor=actor, detail=_detail(lost), **_told(lost))
    run_status.judge_runs([run.pk], now)
    run.refresh_from_db()
    return run


def _locked(lost: LostClear, now: datetime) -> Run:
    if lost.run is None:
        return _new_row(lost, now)
    busy = Q(phase__in=[*ClearAttempt.ACTIVE, Phase.CONFLICT])
    run = Run.objects.select_for_update(no_key=True, of=("self",)).select_related("root").filter(pk=lost.run.pk).first()
    if run is not None and run.ledger.filter(kind=LedgerKind.RECOVERED, plan_sha256=lost.evidence.plan_sha256).exists():
        raise DoubtedClear("the ledger tells of it already", root=lost.root.name, run_path=str(lost.path))
    as_judged = run is not None and (run.state, run.cleared_by) == (lost.run.state, lost.run.cleared_by)
    if run is None or not as_judged or run.gone_at is not None or run.attempts.filter(busy).exists():
        raise DoubtedClear("the run was changed meanwhile", root=lost.root.name, run_path=str(lost.path))
    return run


def _new_row(lost: LostClear, now: datetime) -> Run:
    # The backup is older than the first look at the run.
    run = Run(
        root=lost.root,
        run_path=str(lost.path),
        identity=lost.identity,
        equipment=lost.path.equipment,
        project=lost.path.project,
        run_kind=lost.path.run_kind,
        leaf=lost.path.leaf,
        first_seen_at=now,
        files=_number(lost, "files"),
        bytes=_number(lost, "bytes"),
        here=False,
    )
    shared_twins.set_place(run)
    run.save(force_insert=True)
    rows.Names().write(run)
    return run


def _end_history(run: Run, lost: LostClear, now: datetime) -> None:
    if lost.record.history:
        if not rows.append(run, lost.record, now):
            raise DoubtedClear("its record does not continue the run's history", run=run.pk)
        return
    # A record without a history: the entry that the clear had written.
    entry = _entry(lost.record, str(lost.story.get("host") or ""))
    IngestEvent.objects.create(
        run=run,
        position=run.events.count(),
        state=State.CLEARED,
        at=lost.cleared_at,
        at_text=entry["at"],
        host=entry["host"],
        digest=ingest.digest(entry),
        first_seen_at=now,
    )


def _entry(record: Record, host: str) -> dict[str, Any]:
    return {"state": State.CLEARED.value, "at": str(json.loads(record.data)["cleared_at"]), "host": host}


def _told(lost: LostClear) -> dict[str, Any]:
    return {
        "files": _number(lost, "files"),
        "bytes": _number(lost, "bytes"),
        "plan_sha256": _text(lost, "plan_sha256", 64),
        "proof_level": _text(lost, "proof", 8),
        "nas_flags": _text(lost, "nas_flags", 200),
        **_decided(lost),
    }


def _decided(lost: LostClear) -> dict[str, Any]:
    # Only a receipt tells these.
    if lost.evidence.receipt is None:
        return {}
    return {
        "allocated_bytes": _number(lost, "allocated_bytes"),
        "requester": _text(lost, "requester", 8),
        "policy_version": _number(lost, "policy_version"),
        "decided_by": lost.story["decided_by"],
        "cause": _text(lost, "cause", 60),
    }


def _detail(lost: LostClear) -> str:
    at = lost.cleared_at.isoformat() if lost.cleared_at else "an unknown time"
    twin = f" Its copy lay at {lost.story['twin']}." if lost.story.get("twin") else ""
    evidence = lost.evidence
    number = evidence.receipt.name.rpartition("-")[2].partition(".")[0] if evidence.receipt else ""
    sources = [*(["tombstone"] if evidence.archive else []), *([f"signed receipt {number}"] if number else [])]
    counted = "what the receipt says was freed" if number else "those of its plan"
    return (
        f"recovered from the {' and the '.join(sources)} of {lost.attempt}: cleared at {at} on "
        f"{lost.story.get('host')}; files and bytes are {counted}.{twin}"
    )


def _number(lost: LostClear, name: str) -> int:
    value = lost.story.get(name)
    return value if isinstance(value, int) and 0 <= value < 1 << 63 else 0


def _text(lost: LostClear, name: str, length: int) -> str:
    return str(lost.story.get(name) or "")[:length]
