"""Runs and their clears as rows alone, for tests without a disk."""

from datetime import datetime
from typing import Any

from cleanup.ledger import book
from cleanup.models import ClearAttempt, LedgerEntry, Phase, Run, StagingRoot
from cleanup.storage.run_paths import parse_run_path

_OF_THE_RUN = ("run_path", "equipment", "project", "run_kind")
_OF_THE_ATTEMPT = ("actor", "typed_by", "requester", "host", "policy_version", "decided_by", "cause")


def run_row(root: StagingRoot, run_path: str, *, first_seen_at: datetime, **fields: Any) -> Run:
    path = parse_run_path(run_path)
    return Run.objects.create(
        root=root,
        run_path=run_path,
        equipment=path.equipment,
        project=path.project,
        run_kind=path.run_kind,
        leaf=path.leaf,
        first_seen_at=first_seen_at,
        **fields,
    )


def clear_rows(run: Run, at: datetime, *, files: int, size: int, **fields: Any) -> ClearAttempt:
    """A completed clear, `size` in logical bytes, and its two ledger rows."""
    done = {"phase": Phase.DONE, "host": run.root.host, "requester": "operator", "created_at": at, "phase_at": at}
    done |= {"planned_files": files, "planned_bytes": size, "freed_files": files, "freed_bytes": size}
    attempt = ClearAttempt.objects.create(run=run, **{**done, **fields})
    told = {name: getattr(run, name) for name in _OF_THE_RUN}
    told |= {name: getattr(attempt, name) for name in _OF_THE_ATTEMPT}
    told |= {"attempt": attempt, "root_name": run.root.name, "files": files, "bytes": size}
    told["proof_level"] = attempt.proof.kind if attempt.proof else ""
    for kind in ("authorised", "completed"):
        book.write(LedgerEntry(at=at, kind=kind, run=run, **told))
    return attempt
