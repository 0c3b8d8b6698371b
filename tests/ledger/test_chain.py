"""The canonical content and the digests: the same on every engine, in every program, for ever."""

import hashlib
import json
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from cleanup.ledger import book, chain, linked_rows
from cleanup.models import LedgerEntry, LedgerLink
from tests.ledger.book_rows import key_row

pytestmark = pytest.mark.django_db

AT = datetime(2026, 6, 15, 8, 0, 0, 123456, tzinfo=UTC)
# A row of form 1 as docs/ledger.md describes it: who writes another program begins with this one.
SAMPLE = (
    '{"actor":"ada","allocated_bytes":4096,"at":"2026-06-15T08:00:00.123456Z","attempt_id":null,"bytes":12,'
    '"cause":"","decided_by":{"mode":{"scope":"\\u00b5","version":3}},"detail":"two\\nlines","equipment":"","files":1,'
    '"host":"labpc","id":7,"kind":"key","measured_bytes":null,"nas_flags":"","plan_sha256":"","policy_version":0,'
    '"project":"","proof_level":"","reason":"","requester":"operator","root_name":"","run_id":null,"run_kind":"",'
    '"run_path":"","typed_by":"","unmeasured":""}'
)
SAMPLE_SHA256 = "660c96f8e723875576fa9a35de23be5d26ae8b6f3745fb4e0048c4da37369b88"


def sample() -> LedgerEntry:
    decided = {"mode": {"version": 3, "scope": "µ"}}
    row = key_row(AT, actor="ada", detail="two\nlines", files=1, bytes=12, allocated_bytes=4096, decided_by=decided)
    row.pk = 7
    return row


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_content_of_form_1() -> None:
    assert chain.canonical(chain.content(sample(), 1)).decode() == SAMPLE
    assert json.loads(SAMPLE) == chain.content(sample(), 1)
    assert chain.content_digest(sample(), 1) == sha256(SAMPLE) == SAMPLE_SHA256


def test_the_digests_of_beginning_and_link() -> None:
    installation = uuid.UUID("0b4b2a3e-6c0f-4b0e-9f3c-123456789abc")
    begun = chain.beginning(installation, began_after=41, unvouched=40)
    assert begun == sha256("exlab-ledger 1\n0b4b2a3e-6c0f-4b0e-9f3c-123456789abc\n41\n40\n")
    assert chain.link_digest(begun, "ab" * 32) == sha256(f"{begun}\n{'ab' * 32}\n")


def test_an_unknown_form_is_an_error() -> None:
    with pytest.raises(KeyError):
        chain.content(sample(), 99)


@pytest.mark.parametrize("zone", [timezone(timedelta(hours=5, minutes=45)), ZoneInfo("Europe/Zurich"), UTC], ids=str)
def test_an_instant_is_the_same_in_every_zone(zone: Any) -> None:
    row = sample()
    row.at = AT.astimezone(zone)
    assert chain.content_digest(row) == chain.content_digest(sample())


UNUSUAL: list[dict[str, Any]] = [
    {"detail": "µ, 試料, 🧪, \u202e, \u0085, \x7f, \\, \", ', </script>, \t\r\n"},
    {"actor": " ", "typed_by": "uid 1000", "run_path": "A/B/Runs/Run_\\x2d\\n"},
    {"files": 2**63 - 1, "bytes": -(2**63), "allocated_bytes": 0, "measured_bytes": None},
    {"measured_bytes": 2**53 + 1, "policy_version": 2**31 - 1},
    {"at": AT.replace(microsecond=0)},
    {"at": AT.replace(microsecond=1)},
    {"at": AT.replace(microsecond=500_000)},
    {"at": datetime(1970, 1, 1, tzinfo=UTC)},
    {"at": datetime(9998, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)},
    {"at": datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Zurich"))},
    {"decided_by": {}},
    {"decided_by": {"z": 1, "a": [True, False, None, -5, 2**70, "µ"], "": {"b": {}, "a": []}, "ü": "\u2028"}},
    {"decided_by": {"id": 5, '"id":5': '"id":5,'}},
]


@pytest.mark.parametrize("unusual", UNUSUAL, ids=lambda one: ",".join(one))
def test_what_is_read_again_has_the_digest_that_was_written(unusual: dict[str, Any]) -> None:
    fields = {"at": AT, **unusual}
    book.write(key_row(**fields))
    link = LedgerLink.objects.get()
    again = LedgerEntry.objects.get()
    assert chain.content_digest(again) == link.content_sha256
    (fast,) = linked_rows.linked_rows(0, 1)
    assert fast.content is not None and chain.digest(fast.content) == link.content_sha256


def test_the_content_is_the_same_on_both_engines() -> None:
    """Both engines are held to one digest."""
    contents = []
    for unusual in UNUSUAL:
        row = key_row(**{"at": AT, **unusual})
        row.pk = None
        book.write(row)
        again = chain.content(LedgerEntry.objects.get(pk=row.pk))
        contents.append(json.dumps({**again, "id": 0}, sort_keys=True))
    assert sha256("\n".join(contents)) == "4ee5a2e7e5c3c74968120348cc924344d56b749958b6f5662299f3193d36017d"
