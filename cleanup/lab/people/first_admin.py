"""The first admin: made with a one-time token, as long as there is no active superuser."""

import hashlib
import hmac
import logging
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from cleanup.lab.people import sign_ins
from cleanup.models import AccountEvent, AccountNote, FirstAdminToken
from cleanup.storage.data_directory import token_file

logger = logging.getLogger(__name__)

VALID_FOR = timedelta(hours=1)
# Tries at the token are counted as sign-ins of this name, which no user can have.
ACCOUNT = "one-time token"
EXISTS = "There is an admin already, so the one-time token is not valid any more. Sign in."
WRONG = "This is not the one-time token that was printed last. Each new start prints another one."
OLD = "This one-time token is over an hour old."
_ONLY = 1
# A hundred bits in letters that look like no other one; a person types them once.
_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_GROUPS, _IN_A_GROUP = 4, 5
_READ_AS = str.maketrans({"O": "0", "I": "1", "L": "1"})


class TokenRefused(Exception):
    """No admin was made; its text says why."""


@dataclass(frozen=True)
class IssuedToken:
    """A token as it is printed. `path`: the file that holds it, empty if there is none."""

    token: str
    until: datetime
    path: str


def is_needed() -> bool:
    """Whether there is no active superuser."""
    return not User.objects.filter(is_superuser=True, is_active=True).exists()


def issue(now: datetime) -> IssuedToken | None:
    """Make a new token, which voids the one before; None, and none is left, if there is an active superuser."""
    token = "-".join(_draw() for _ in range(_GROUPS))
    kept = {"digest": _digest(token), "host": settings.EXLAB_HOST, "issued_at": now}
    if is_needed() and _store(kept):
        sign_ins.unlock(name=ACCOUNT)
        until = now + VALID_FOR
        logger.info(
            "a one-time token for the first admin was made, valid until %s", until.isoformat(timespec="seconds")
        )
        return IssuedToken(token, until, _write(token))
    FirstAdminToken.objects.all().delete()
    _take_file_away()
    return None


def _store(kept: dict[str, Any]) -> bool:
    with transaction.atomic():
        # One row for all hosts: the second of two waits here, and asks again.
        row, _new = FirstAdminToken.objects.select_for_update().get_or_create(pk=_ONLY, defaults=kept)
        FirstAdminToken.objects.filter(pk=row.pk).update(**kept)
        return is_needed()


def refusal_of(typed: str, now: datetime) -> str:
    """Why a typed token is not taken; empty if it is."""
    return _refusal(FirstAdminToken.objects.filter(pk=_ONLY).first(), typed, now)


def make(user: User, typed: str, *, now: datetime, address: str | None) -> User:
    """Store an unsaved user as the first admin; the token is used up. Raises TokenRefused: nothing is stored."""
    with transaction.atomic():
        row = FirstAdminToken.objects.select_for_update().filter(pk=_ONLY).first()
        if not is_needed():  # asked under the lock: of two browsers or hosts one comes second
            raise TokenRefused(EXISTS)
        refusal = _refusal(row, typed, now)
        if row is None or refusal:
            raise TokenRefused(refusal)
        user.is_superuser = user.is_staff = user.is_active = True
        user.save()
        row.delete()
        AccountNote.objects.create(
            account=user.get_username(),
            event=AccountEvent.FIRST_ADMIN,
            detail=f"with the one-time token of {row.host}, from {address or sign_ins.NO_ADDRESS}",
            actor=user.get_username(),
            at=now,
        )
    _take_file_away()
    logger.info("%s was made as the first admin, from %s", user.get_username(), address or sign_ins.NO_ADDRESS)
    return user


def _refusal(row: FirstAdminToken | None, typed: str, now: datetime) -> str:
    if row is None or not hmac.compare_digest(row.digest, _digest(typed)):
        return WRONG
    # A clock that went back makes no token last longer.
    return "" if abs(now - row.issued_at) < VALID_FOR else OLD


def _draw() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(_IN_A_GROUP))


def _digest(typed: str) -> str:
    """A plain digest is enough: a hundred bits cannot be guessed. It is the same on hosts with other secret keys."""
    letters = "".join(each for each in typed.upper() if each.isalnum()).translate(_READ_AS)
    return hashlib.sha256(letters.encode("utf-8", "surrogatepass")).hexdigest()


def _write(token: str) -> str:
    """The file is a help, not the way: on a full disk the printed token must do."""
    try:
        return token_file.write(str(settings.EXLAB_DATA_DIR), token)
    except OSError as error:
        logger.warning("the one-time token could not be written to a file: %s", error)
        return ""


def _take_file_away() -> None:
    try:
        token_file.take_away(str(settings.EXLAB_DATA_DIR))
    except OSError as error:  # what it holds is void
        logger.warning("the file of the one-time token could not be removed: %s", error)
