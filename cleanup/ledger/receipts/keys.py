"""The Ed25519 key of a data directory, which signs its receipts, and the public halves in the ledger."""

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from django.conf import settings

from cleanup.lab.people import os_account
from cleanup.lab.roots import opening
from cleanup.ledger import book, entries
from cleanup.ledger.receipts import checking
from cleanup.models import LedgerEntry, LedgerKind, Requester
from cleanup.storage import errors
from cleanup.storage.data_directory import kept_receipts
from cleanup.storage.data_directory.datadir import DataDir

# `cryptography` is imported where it is used: a clear of many files needs the room.
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FILE = "receipt-key"
# The next key, until its row is written: a crash then leaves the old one in force.
_NEXT = "receipt-key.next"
FORMAT = "exlab-receipt-key 1"
MADE, RENEWED, LOST = "key_made", "key_renewed", "key_lost"


class NoKey(Exception):
    """Nothing can be signed; the text says why."""


@dataclass(frozen=True)
class SigningKey:
    """A private half."""

    private: "Ed25519PrivateKey"

    @property
    def public(self) -> bytes:
        """The public half in DER (SubjectPublicKeyInfo)."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.public)

    def sign(self, data: bytes) -> bytes:
        return self.private.sign(data)


@dataclass(frozen=True)
class KnownKey:
    """A public half as a row of the ledger has it; `vouched`: its host's first one, or signed by a vouched one."""

    public: bytes
    fingerprint: str
    host: str
    at: datetime
    reason: str
    vouched: bool


def fingerprint(public: bytes) -> str:
    """Return SHA-256 of a public half in DER, in hex."""
    return hashlib.sha256(public).hexdigest()


def as_pem(public: bytes) -> str:
    body = base64.b64encode(public).decode("ascii")
    return f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"


def current(*, now: datetime) -> SigningKey:
    """Return this data directory's key, made where there is none, with its row in the ledger. Raises NoKey.

    The caller holds the data directory's lock `receipts`.
    """
    data = opening.data_dir()
    try:
        _finish_renewal(data)
        key = _read(data, FILE) or _make(data, FILE)
    except OSError as error:
        raise NoKey(f"{FILE} in the data directory: {errors.words_of(error)}") from None
    before = list(known(host=settings.EXLAB_HOST))
    if key.fingerprint not in {one.fingerprint for one in before}:
        _write_row(key, before[-1] if before else None, LOST if before else MADE, now)
    try:
        _keep_public(data, key)
    except OSError as error:
        raise NoKey(f"its public half cannot be kept in the data directory: {errors.words_of(error)}") from None
    return key


def own() -> SigningKey | None:
    """Return this data directory's key without making one; None where there is none that can be read."""
    try:
        return _read(opening.data_dir(), FILE)
    except (NoKey, OSError):
        return None


def renew(*, now: datetime) -> SigningKey:
    """Make another key, signed by the one so far, and use it from now on. Raises NoKey, OSError.

    The caller holds the data directory's lock `receipts`. An OSError may come when the key is in use already; then the
    next `current` keeps its public half.
    """
    data, old = opening.data_dir(), current(now=now)
    key = _make(data, _NEXT)
    before = KnownKey(old.public, old.fingerprint, settings.EXLAB_HOST, now, "", vouched=True)
    _write_row(key, before, RENEWED, now, signed=old.sign(_statement(key.public)))
    data.put_in_place(_NEXT, FILE)
    _keep_public(data, key)
    return key


def known(*, host: str = "") -> Iterator[KnownKey]:
    """Yield the public halves in the ledger, oldest first; of one host or of all."""
    rows = LedgerEntry.objects.of_itself(LedgerKind.KEY)
    vouching: dict[str, bytes] = {}
    hosts: set[str] = set()
    for row in rows.filter(host=host) if host else rows:
        try:
            said = json.loads(row.detail)
            public = base64.b64decode(said["public"])
            before, signed = str(said["before"]), base64.b64decode(said["signed"])
        except (ValueError, KeyError, TypeError):
            continue  # verify_ledger tells of a row that was changed
        above = vouching.get(before)
        first = row.reason == MADE and row.host not in hosts
        vouched = first or (above is not None and checking.is_signed(above, _statement(public), signed))
        found = KnownKey(public, fingerprint(public), row.host, row.at, row.reason, vouched)
        hosts.add(row.host)
        if vouched:
            vouching[found.fingerprint] = public
        yield found


def _statement(public: bytes) -> bytes:
    return f"{FORMAT}\n{base64.b64encode(public).decode('ascii')}\n".encode("ascii")


def _write_row(key: SigningKey, before: KnownKey | None, reason: str, now: datetime, *, signed: bytes = b"") -> None:
    said = {
        "format": FORMAT,
        "public": base64.b64encode(key.public).decode("ascii"),
        "fingerprint": key.fingerprint,
        "before": before.fingerprint if before else "",
        "signed": base64.b64encode(signed).decode("ascii"),
    }
    requester = Requester.OPERATOR if os_account.current() else Requester.SCHEDULE
    told = json.dumps(said, sort_keys=True)
    book.write(entries.entry_of_itself(LedgerKind.KEY, now, requester=requester, reason=reason, detail=told))


def _read(data: DataDir, name: str) -> SigningKey | None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        with open(os.path.join(data.path, name), "rb") as file:
            key = load_pem_private_key(file.read(), password=None)
    except FileNotFoundError:
        return None
    except ValueError:
        raise NoKey(f"{name} in the data directory holds no key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise NoKey(f"{name} in the data directory holds no Ed25519 key")
    return SigningKey(key)


def _make(data: DataDir, name: str) -> SigningKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    data.keep("", name, lambda file: file.write(pem))
    return SigningKey(key)


def _finish_renewal(data: DataDir) -> None:
    following = _read(data, _NEXT)
    # One without a row is made anew by the next renewal.
    if following and following.fingerprint in {one.fingerprint for one in known(host=settings.EXLAB_HOST)}:
        data.put_in_place(_NEXT, FILE)


def _keep_public(data: DataDir, key: SigningKey) -> None:
    name = kept_receipts.key_name(key.fingerprint)
    if not os.path.exists(kept_receipts.path_of(data, name)):
        kept_receipts.write(data, name, [as_pem(key.public).encode("ascii")])
