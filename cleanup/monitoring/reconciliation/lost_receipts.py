"""Signed receipts of clears that the database does not know.

A receipt is written after its clear has ended, so an intact one proves that the clear was done. It counts if a key that
the ledger knows, or the data directory's own, has signed it.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from cleanup.lab.roots import opening
from cleanup.ledger import book
from cleanup.ledger.receipts import checking, keys
from cleanup.monitoring.reconciliation.evidence import DoubtedClear, SignedClear, Story, expect_storable, one_document
from cleanup.storage.data_directory import kept_receipts

_NAME = re.compile(r"receipt-([0-9a-f]{32})-(\d{1,6})\.json")


def by_attempt(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the receipts of each attempt (hex), the newest first."""
    found: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        if match := _NAME.fullmatch(name):
            found.setdefault(match[1], []).append((int(match[2]), name))
    return {attempt: [name for _number, name in sorted(several, reverse=True)] for attempt, several in found.items()}


@dataclass(frozen=True)
class ReceiptReader:
    """Reads receipts of this installation that one of `publics` (DER) has signed."""

    installation: str
    publics: frozenset[bytes]

    @classmethod
    def of_this_installation(cls) -> "ReceiptReader":
        known = {key.public for key in keys.known()}
        own = keys.own()
        return cls(str(book.head().installation), frozenset(known | ({own.public} if own else set())))

    def read(self, name: str) -> SignedClear:
        """Return what an intact receipt says. Raises DoubtedClear."""
        with one_document(name):
            try:
                opened = checking.read(kept_receipts.path_of(opening.data_dir(), name))
                document = opened.document
                self._expect_ours(opened, name)
                return _signed(name, document)
            except checking.NoReceipt as error:
                raise DoubtedClear(str(error)) from None
            except (KeyError, TypeError, AttributeError) as error:
                raise DoubtedClear(f"it has not the shape of a receipt ({type(error).__name__}: {error})") from None

    def _expect_ours(self, opened: checking.Opened, name: str) -> None:
        document = opened.document
        if not checking.is_signed(opened.public, checking.signed_bytes(document), opened.value):
            raise DoubtedClear("its signature does not fit its content: one of them was changed")
        if document["installation"] != self.installation:
            raise DoubtedClear(f"it is of another installation ({document['installation']})")
        if opened.public not in self.publics:
            fingerprint = hashlib.sha256(opened.public).hexdigest()
            raise DoubtedClear(f"no key of this installation has signed it, but the key {fingerprint}")
        if name != kept_receipts.receipt_name(document["clear"]["attempt"], document["number"]):
            raise DoubtedClear("it has the name of another receipt")
        if document["host"] != settings.EXLAB_HOST:
            raise DoubtedClear(f"it is of the host {document['host']}")
        if wrong := next(checking.content_differs(document), ""):
            raise DoubtedClear(wrong)


def _signed(name: str, document: dict[str, Any]) -> SignedClear:
    run, clear = document["run"], document["clear"]
    story = _story(document)
    history = [{key: each[key] for key in ("state", "said", "host", "more")} for each in run["history"]]
    found = SignedClear(
        name, story, history, run["identity"], run["record_format"], run["project_name"], bool(clear["complete"])
    )
    expect_storable([story, history, found.identity, found.project_name])
    if found.identity.count(":") != 2:
        raise DoubtedClear("it does not tell which folder was cleared")
    if not history or history[-1]["state"] != "cleared":
        raise DoubtedClear("its history does not end with the clear")
    return found


def _story(document: dict[str, Any]) -> Story:
    run, clear, freed = document["run"], document["clear"], document["freed"]
    authorised = next(row["content"] for row in document["ledger"]["rows"] if row["content"]["kind"] == "authorised")
    return {
        "attempt": clear["attempt"],
        "run_path": run["run_path"],
        "staging_root": run["root"],
        "root_token": run["root_token"],
        "host": document["host"],
        "actor": clear["actor"],
        "requester": clear["requester"],
        "plan_sha256": clear["plan_sha256"],
        "files": freed["files"],
        "bytes": freed["bytes"],
        "allocated_bytes": freed["allocated_bytes"],
        "proof": authorised["proof_level"],
        "policy_version": authorised["policy_version"],
        "decided_by": authorised["decided_by"],
        "cause": authorised["cause"],
        "twin": document["twin"]["path"],
        "nas_flags": document["twin"]["flags"],
        "ended_at": clear["ended_at"],
    }


def read_all(
    receipts: Mapping[str, list[str]], attempts: Iterable[str]
) -> tuple[dict[str, SignedClear], dict[str, DoubtedClear]]:
    """Return the newest intact receipt of each attempt, and by name the receipts that count for nothing."""
    wanted = [attempt for attempt in attempts if attempt in receipts]
    found: dict[str, SignedClear] = {}
    doubts: dict[str, DoubtedClear] = {}
    reader = ReceiptReader.of_this_installation() if wanted else None
    for attempt in wanted:
        for name in receipts[attempt]:
            try:
                signed = reader.read(name) if reader else None
            except DoubtedClear as doubt:
                doubts[name] = doubt
                continue
            if signed:
                found.setdefault(attempt, signed)
    return found, doubts
