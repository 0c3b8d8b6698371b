"""Limits on failed sign-ins: per account and address, per account, per address.

Where an account is known, failures from elsewhere or of other accounts do not lock it.
"""

import ipaddress
import logging
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from axes.backends import AxesStandaloneBackend
from axes.handlers.database import AxesDatabaseHandler
from axes.models import AccessAttempt, AccessLog
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.crypto import salted_hmac

from cleanup.lab.people import sessions

logger = logging.getLogger(__name__)

# Older failures do not count.
COOL_OFF: timedelta = settings.AXES_COOLOFF_TIME
# A user who mistypes may soon try again.
AT_AN_ADDRESS: int = settings.AXES_FAILURE_LIMIT
# An attacker needs four addresses. Addresses where the account is known stay open.
OF_AN_ACCOUNT = 20
# Thirty users behind one address may mistype three times each.
OF_AN_ADDRESS = 100
# After a sign-in the account is known at that address.
KNOWN_FOR = timedelta(days=90)
UNKNOWN = "an unknown user name"
NO_ADDRESS = "an unknown address"


@dataclass(frozen=True)
class Lock:
    """Sign-ins are refused until then; `of_address`: for every account there."""

    until: datetime
    of_address: bool


class Throttle(AxesStandaloneBackend):  # type: ignore[misc]  # axes has no types
    """Checks the limits before the password; only browsers count."""

    def authenticate(self, request: HttpRequest | None, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        if request is not None:
            super().authenticate(request, *args, **kwargs)


class SignIns(AxesDatabaseHandler):  # type: ignore[misc]
    """Counts and logs sign-ins by our limits."""

    def user_login_failed(
        self,
        sender: object,
        credentials: dict[str, Any],
        request: Any = None,  # noqa: ANN401  # axes adds to it
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        if request is None:
            return
        was_locked = request.axes_locked_out
        super().user_login_failed(sender, credentials, request, **kwargs)
        if not was_locked:
            _tell_of_failure(request, str(credentials.get("username", "")))

    def user_logged_in(self, sender: object, request: Any, user: User, **kwargs: Any) -> None:  # noqa: ANN401
        sessions.note(request.session)
        at, account = request.axes_attempt_time, key_of(user.get_username())
        here = {"username": account, "ip_address": request.axes_ip_address}
        AccessAttempt.objects.filter(**here).delete()
        if not AccessLog.objects.filter(**here).update(attempt_time=at):
            AccessLog.objects.create(**here, user_agent="", http_accept="", path_info="")
        AccessAttempt.objects.filter(attempt_time__lte=at - COOL_OFF).delete()
        AccessLog.objects.filter(attempt_time__lte=at - KNOWN_FOR).delete()
        Session.objects.filter(expire_date__lte=at).delete()
        logger.info("%s signed in from %s", user.get_username(), request.axes_ip_address or NO_ADDRESS)

    def user_logged_out(self, sender: object, request: HttpRequest, user: User | None, **kwargs: Any) -> None:  # noqa: ANN401
        """Nothing is counted."""

    def get_failures(self, request: Any, credentials: dict[str, Any] | None = None) -> int:  # noqa: ANN401
        """Failures of the account here; if another limit is reached, as many as lock it."""
        account, address = account_of(request, credentials), request.axes_ip_address
        if lock_on(account, address, request.axes_attempt_time):
            return AT_AN_ADDRESS
        return sum(number for _at, number in _failures(request.axes_attempt_time, username=account, ip_address=address))


def key_of(name: str) -> str:
    """The key of an account in the counts, for all spellings.

    A digest: a password typed as the name must not be stored.
    """
    return salted_hmac("exlab.sign-ins", _plain(name)).hexdigest()


def account_of(request: HttpRequest, credentials: dict[str, Any] | None = None) -> str:
    """The key of the account in a request."""
    given = credentials if credentials is not None else request.POST
    return key_of(str(given.get("username") or ""))


def address_of(request: HttpRequest) -> str | None:
    """The client's address for a column, as trusted proxies set it."""
    try:
        found = ipaddress.ip_address(request.META.get("REMOTE_ADDR", "").partition("%")[0])
    except ValueError:
        return None
    return str(getattr(found, "ipv4_mapped", None) or found)


def lock_on(account: str, address: str | None, at: datetime) -> Lock | None:
    """The lock that keeps an account (key) from an address."""
    locks = []
    if until := _opens(_failures(at, username=account, ip_address=address), AT_AN_ADDRESS):
        locks.append(Lock(until, of_address=False))
    if not _is_known(account, address, at):
        if until := _opens(_failures(at, username=account), OF_AN_ACCOUNT):
            locks.append(Lock(until, of_address=False))
        if until := _opens(_failures(at, ip_address=address), OF_AN_ADDRESS):
            locks.append(Lock(until, of_address=True))
    return max(locks, key=lambda lock: lock.until, default=None)


def unlock(*, name: str = "", address: str = "") -> int:
    """Forget failed sign-ins of an account, an address or both; returns how many."""
    rows: QuerySet[Any] = AccessAttempt.objects.none()
    if name:
        rows = rows | AccessAttempt.objects.filter(username=key_of(name))
    if address:
        rows = rows | AccessAttempt.objects.filter(ip_address=address)
    forgotten: int = sum(rows.values_list("failures_since_start", flat=True))
    rows.delete()
    return forgotten


def _failures(at: datetime, **of: str | None) -> list[tuple[datetime, int]]:
    # A failure further ahead was counted by a wrong clock.
    rows = AccessAttempt.objects.filter(attempt_time__gt=at - COOL_OFF, attempt_time__lte=at + COOL_OFF, **of)
    return list(rows.values_list("attempt_time", "failures_since_start"))


def _opens(failures: Iterable[tuple[datetime, int]], limit: int) -> datetime | None:
    """When the failures fall below the limit; None if they are."""
    counted = sorted(failures)
    left, opens = sum(number for _at, number in counted), None
    for failed_at, number in counted:
        if left < limit:
            break
        left, opens = left - number, failed_at + COOL_OFF
    return opens


def _is_known(account: str, address: str | None, at: datetime) -> bool:
    rows: QuerySet[Any] = AccessLog.objects.filter(username=account, ip_address=address)
    return rows.filter(attempt_time__gt=at - KNOWN_FOR).exists()


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name.replace("\0", "")).strip().casefold()


def _tell_of_failure(request: Any, typed: str) -> None:  # noqa: ANN401
    """An unknown name is not logged: it may be a password."""
    known = User.objects.filter(username__iexact=_plain(typed)).values_list("username", flat=True).first()
    lock = lock_on(key_of(typed), request.axes_ip_address, request.axes_attempt_time)
    name, address = known or UNKNOWN, request.axes_ip_address or NO_ADDRESS
    if lock:
        who = f"every account from {address}" if lock.of_address else f"{name} from {address}"
        logger.warning("too many sign-ins failed: %s is locked until %s", who, lock.until.isoformat(timespec="seconds"))
    else:
        logger.warning("a sign-in failed: %s from %s", name, address)
