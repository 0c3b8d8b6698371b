"""The document of a receipt: everything that tells whether one clear was right, as JSON."""

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cleanup.lab.nas.nas_roots import twin_then
from cleanup.ledger import chain
from cleanup.ledger.receipts.files import FileList
from cleanup.models import AcceptedBytes, ClearAttempt, LedgerEntry, LedgerHead, LedgerKind, LedgerLink, Run, SetAside

FORMAT = "exlab-receipt 1"
PACKAGE = "exlab-cleanup"

Json = dict[str, Any]


def of_clear(attempt: ClearAttempt, files: FileList, head: LedgerHead, *, number: int, now: datetime) -> Json:
    """Return the document of a clear as it now stands; load the attempt's run, root, proof and batch with it.

    Bytes are told as `bytes` (logical), `allocated_bytes` and `measured_bytes`.
    """
    rows = list(attempt.ledger.select_related("link").order_by("pk"))
    return {
        "format": FORMAT,
        "number": number,
        "written_at": _instant(now),
        "installation": str(head.installation),
        "host": attempt.host,
        "program": {"name": PACKAGE, "version": _version()},
        "run": _run(attempt.run),
        "clear": _clear(attempt, rows),
        "policy": {"version": attempt.policy_version, "decided_by": attempt.decided_by},
        "checks": attempt.decision,
        "proof": _proof(attempt),
        "accepted": _accepted(attempt.proof.accepted if attempt.proof else None),
        "set_aside": [_aside(one) for one in attempt.run.set_aside.order_by("pk")],
        "only_here": attempt.only_here,
        "freed": _freed(attempt),
        "twin": {
            "path": attempt.twin_path,
            "relative": twin_then(attempt.run, attempt.twin_path).path,
            "flags": attempt.nas_flags,
        },
        "files": _files(files),
        "ledger": {
            "began": {"after": head.began_after, "unvouched": head.unvouched},
            "rows": [_row(row, head) for row in rows],
            "head": {"position": head.position, "sha256": head.sha256},
        },
    }


def _version() -> str:
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return ""


def _run(run: Run) -> Json:
    return {
        "id": run.pk,
        "run_path": run.run_path,
        "root": run.root.name,
        "root_token": run.root.token,
        "identity": run.identity,
        "equipment": run.equipment,
        "project": run.project,
        "project_name": run.project_name,
        "run_kind": run.run_kind,
        "record_format": run.record_format,
        "verified_at": _instant(run.verified_at),
        "first_seen_at": _instant(run.first_seen_at),
        "returned_at": _instant(run.returned_at),
        "history": [
            {
                "state": event.state,
                "at": _instant(event.at),
                "said": event.at_text,
                "host": event.host,
                "more": event.extra,
                "first_seen_at": _instant(event.first_seen_at),
            }
            for event in run.events.order_by("position")
        ],
    }


def _clear(attempt: ClearAttempt, rows: Iterable[LedgerEntry]) -> Json:
    authorised = next((row.at for row in rows if row.kind == LedgerKind.AUTHORISED), None)
    return {
        "attempt": attempt.pk.hex,
        "requester": attempt.requester,
        "actor": attempt.actor,
        "typed_by": attempt.typed_by,
        "note": attempt.note,
        "cause": attempt.cause,
        "batch": _hex(attempt.batch_id),
        "asked_at": _instant(attempt.created_at),
        "authorised_at": _instant(authorised),
        "ended_at": _instant(attempt.phase_at),
        "complete": not attempt.incomplete,
        "left": attempt.detail if attempt.incomplete else "",
        "plan_sha256": attempt.plan_sha256,
    }


def _proof(attempt: ClearAttempt) -> Json | None:
    proof = attempt.proof
    if proof is None:
        return None
    return {
        "kind": proof.kind,
        "level": proof.level,
        "at": _instant(proof.at),
        "host": proof.host,
        "files": proof.files,
        "bytes": proof.bytes,
        "manifest_sha256": proof.manifest_sha256,
        "evidence": proof.evidence,
    }


def _accepted(accepted: AcceptedBytes | None) -> Json | None:
    if accepted is None:
        return None
    return {
        "actor": accepted.actor,
        "note": accepted.note,
        "at": _instant(accepted.at),
        "digest": accepted.digest,
        "evidence": accepted.evidence,
    }


def _aside(aside: SetAside) -> Json:
    return {
        "path": aside.path,
        "size": aside.size,
        "state": aside.state,
        "actor": aside.actor,
        "note": aside.note,
        "at": _instant(aside.at),
    }


def _freed(attempt: ClearAttempt) -> Json:
    return {
        "planned_files": attempt.planned_files,
        "planned_bytes": attempt.planned_bytes,
        "files": attempt.freed_files,
        "bytes": attempt.freed_bytes,
        "allocated_bytes": attempt.freed_allocated_bytes,
        "measured_bytes": attempt.measured_bytes,
        "unmeasured": attempt.unmeasured,
    }


def _files(files: FileList) -> Json:
    kept = files.kept
    listed = {"names": files.names, "bytes": files.bytes, "digests": files.by}
    return {"name": kept.name, "size": kept.size, "sha256": kept.sha256, **listed}


def _row(row: LedgerEntry, head: LedgerHead) -> Json:
    link: LedgerLink | None = getattr(row, "link", None)  # rows from before the chain have none
    form = link.form if link else chain.FORM
    told: Json = {"content": chain.content(row, form), "form": form, "link": None}
    if link is not None:
        told["link"] = {
            "position": link.position,
            "content_sha256": link.content_sha256,
            "before": _before(link, head),
            "sha256": link.sha256,
        }
    return told


def _before(link: LedgerLink, head: LedgerHead) -> str:
    if link.position == 1:
        return chain.beginning(head.installation, began_after=head.began_after, unvouched=head.unvouched)
    return LedgerLink.objects.values_list("sha256", flat=True).get(position=link.position - 1)


def _instant(at: datetime | None) -> str | None:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if at else None


def _hex(key: uuid.UUID | None) -> str | None:
    return key.hex if key else None
