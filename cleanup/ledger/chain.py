"""The digests by which each row of the ledger vouches for all rows before it.

A link's digest is SHA-256 of the link before and of its row's content; the first one takes up the chain's beginning.
One later digest shows any change of an earlier row.
"""

import hashlib
import json
import uuid
from datetime import UTC
from typing import Any

from cleanup.models import LedgerEntry

# The columns of a row's content by the form that its link names. A form never changes: a new column is a new form.
FIELDS: dict[int, tuple[str, ...]] = {
    1: (
        "id",
        "at",
        "kind",
        "run_id",
        "attempt_id",
        "root_name",
        "run_path",
        "equipment",
        "project",
        "run_kind",
        "requester",
        "actor",
        "typed_by",
        "host",
        "policy_version",
        "decided_by",
        "cause",
        "proof_level",
        "files",
        "bytes",
        "allocated_bytes",
        "measured_bytes",
        "unmeasured",
        "reason",
        "detail",
        "plan_sha256",
        "nas_flags",
    ),
}
FORM = max(FIELDS)


def beginning(installation: uuid.UUID, *, began_after: int, unvouched: int) -> str:
    """Return the digest before the first link: of the installation and of how many rows lie before the chain."""
    return digest(f"exlab-ledger 1\n{installation}\n{began_after}\n{unvouched}\n".encode())


def content(entry: LedgerEntry, form: int = FORM) -> dict[str, Any]:
    """Return a row's content as JSON knows it: instants as text in UTC with microseconds, keys of attempts in hex.

    Raises KeyError for an unknown form.
    """
    values = {name: getattr(entry, name) for name in FIELDS[form]}
    values["at"] = entry.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    values["attempt_id"] = entry.attempt_id.hex if entry.attempt_id else None
    return values


def canonical(values: dict[str, Any]) -> bytes:
    """Return a content as bytes: JSON with sorted keys, without blanks, in ASCII."""
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode("ascii")


def content_digest(entry: LedgerEntry, form: int = FORM) -> str:
    """Return SHA-256 of a row's canonical content, in hex."""
    return digest(canonical(content(entry, form)))


def link_digest(before: str, content_sha256: str) -> str:
    """Return a link's digest from the digest before it and its row's, all in hex."""
    return digest(f"{before}\n{content_sha256}\n".encode("ascii"))


def digest(data: bytes) -> str:
    """Return SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()
