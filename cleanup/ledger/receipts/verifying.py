"""A receipt against this installation's ledger: its key, its rows and its place in the chain."""

from collections.abc import Iterator
from typing import Any

from cleanup.ledger import book, chain
from cleanup.ledger.receipts import keys
from cleanup.ledger.receipts.checking import Opened, ReceiptCheck
from cleanup.models import LedgerEntry, LedgerLink


def against_ledger(opened: Opened, found: ReceiptCheck) -> None:
    """Add to `found` what the ledger says of a receipt that was checked by itself. Raises DatabaseError."""
    document = opened.document
    ours = str(book.head().installation)
    if document["installation"] != ours:
        theirs = document["installation"]
        found.differs.append(f"it is of another installation ({theirs}); this ledger is of {ours}")
        return
    known = {key.public: key for key in keys.known()}
    key = known.get(opened.public)
    if key is None:
        found.differs.append(f"the ledger knows no key with this fingerprint ({found.fingerprint})")
    else:
        found.proven = True
        if not key.vouched:
            found.notes.append(
                f"no chain of keys from the first one has signed this one ({key.reason}): the ledger alone knows it"
            )
    found.differs += _rows_differ(document)
    head = document["ledger"]["head"]
    there = LedgerLink.objects.filter(position=head["position"]).first()
    if head["position"] and (there is None or there.sha256 != head["sha256"]):
        found.differs.append(f"the chain of the ledger has another link {head['position']} than when it was written")


def _rows_differ(document: dict[str, Any]) -> Iterator[str]:
    for row in document["ledger"]["rows"]:
        content, link = row["content"], row["link"]
        name = f"row {content['id']} of the ledger ({content['kind']})"
        entry = LedgerEntry.objects.select_related("link").filter(pk=content["id"]).first()
        if entry is None:
            yield f"{name} is not in the ledger"
        elif chain.content(entry, row["form"]) != content:
            yield f"{name} stands otherwise in the ledger"
        elif link is not None and LedgerLink.objects.filter(entry=entry, sha256=link["sha256"]).count() != 1:
            yield f"{name} has another place in the chain of the ledger"
