"""Ledger rows that no attempt writes: what a person has said of a run whose directory is another one, or gone."""

from datetime import datetime

from django.conf import settings

from cleanup.lab import typist
from cleanup.models import LedgerEntry, LedgerKind, Requester, Run


def write_entry(run: Run, *, kind: LedgerKind, actor: str, now: datetime, reason: str, detail: str) -> None:
    """Write down what a person said of a run. It frees nothing. Call it in the transaction that changes the row."""
    LedgerEntry.objects.create(
        at=now,
        kind=kind,
        run=run,
        root_name=run.root.name,
        run_path=run.run_path,
        equipment=run.equipment,
        project=run.project,
        run_kind=run.run_kind,
        requester=Requester.OPERATOR,
        actor=actor,
        typed_by=typist.current(),
        host=settings.EXLAB_HOST,
        policy_version=0,
        reason=reason,
        detail=detail,
    )
