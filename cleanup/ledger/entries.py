"""Rows of the ledger. Each copies what must be readable when its subjects are gone."""

from datetime import datetime
from typing import Any

from django.conf import settings

from cleanup.lab.people import os_account
from cleanup.ledger import book
from cleanup.models import ClearAttempt, LedgerEntry, LedgerKind, Requester, Run


def write_entry(run: Run, *, kind: LedgerKind, actor: str, now: datetime, reason: str, detail: str) -> None:
    """Write down an operator's statement about a run, in the `book.writing` that changes the row."""
    book.write(
        _row(
            run,
            kind,
            now,
            requester=Requester.OPERATOR,
            actor=actor,
            typed_by=os_account.current(),
            policy_version=0,
            reason=reason,
            detail=detail,
        )
    )


def write_recovered(run: Run, now: datetime, *, actor: str, detail: str, **told: Any) -> None:  # noqa: ANN401
    """Write down a clear of which only its tombstone or its receipt tells, in the `book.writing` that changes the row.

    `actor`: who asked for the clear, empty for the schedule. The row frees nothing: it only says what was freed then.
    """
    known = {"requester": Requester.OPERATOR if actor else Requester.SCHEDULE, "policy_version": 0, **told}
    book.write(_row(run, LedgerKind.RECOVERED, now, actor=actor, typed_by=os_account.current(), detail=detail, **known))


def write_ledger(attempt: ClearAttempt, kind: LedgerKind, now: datetime, **counts: Any) -> None:  # noqa: ANN401
    """Write down one step of an attempt, in the `book.writing` that changes the attempt.

    Among the counts: `is_first_freed` where the attempt is known to have freed nothing before.
    """
    is_first_freed = bool(counts.pop("is_first_freed", False))
    entry = ledger_entry(attempt, kind, now, **counts)
    entry.is_first_freed = is_first_freed
    book.write(entry)


def ledger_entry(attempt: ClearAttempt, kind: LedgerKind, now: datetime, **counts: Any) -> LedgerEntry:  # noqa: ANN401
    """Return the row of `write_ledger` unsaved; load the attempt's run and root with it."""
    return _row(
        attempt.run,
        kind,
        now,
        attempt=attempt,
        requester=attempt.requester,
        actor=attempt.actor,
        typed_by=attempt.typed_by,
        policy_version=attempt.policy_version,
        decided_by=attempt.decided_by,
        cause=attempt.cause,
        proof_level=attempt.proof.kind if attempt.proof else "",
        plan_sha256=attempt.plan_sha256,
        nas_flags=attempt.nas_flags,
        **counts,
    )


def entry_of_itself(
    kind: LedgerKind, now: datetime, *, requester: Requester, actor: str = "", reason: str = "", detail: str
) -> LedgerEntry:
    """Return an unsaved row that is about no run, but about the ledger and its keys."""
    return LedgerEntry(
        at=now,
        kind=kind,
        requester=requester,
        actor=actor,
        typed_by=os_account.current(),
        host=settings.EXLAB_HOST,
        policy_version=0,
        reason=reason,
        detail=detail,
    )


def _row(run: Run, kind: LedgerKind, now: datetime, **fields: Any) -> LedgerEntry:  # noqa: ANN401
    return LedgerEntry(
        at=now,
        kind=kind,
        run=run,
        root_name=run.root.name,
        run_path=run.run_path,
        equipment=run.equipment,
        project=run.project,
        run_kind=run.run_kind,
        host=settings.EXLAB_HOST,
        **fields,
    )
