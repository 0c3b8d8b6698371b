"""Alerts: opened when something is wrong, refreshed while it lasts, ended when it is right.

Several processes may report one trouble: one open row results, and no process fails.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from cleanup.models import Alert, AlertKind, Run, StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.rules.short_texts import shorten

logger = logging.getLogger(__name__)

_MAX_SUBJECT = 255
# Each try may lose to another process that opens or ends the row.
_TRIES = 3
# Below SQLite's limit of variables in one statement.
_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class AlertState:
    """One thing that is wrong now; `subject` is its lasting key."""

    subject: str
    reason: Reason
    detail: str = ""
    root: StagingRoot | None = None
    run: Run | None = None


def open_alert(
    kind: AlertKind,
    subject: str,
    *,
    reason: Reason,
    now: datetime,
    detail: str = "",
    root: StagingRoot | None = None,
    run: Run | None = None,
) -> Alert:
    """Open the alert of this kind and subject, or refresh the open one.

    A refresh keeps `since`. Raises IntegrityError if no row can be written.
    """
    subject = _key(subject)
    root = root or (run.root if run else None)
    seen = {"reason": reason, "detail": detail, "seen_at": now, "root": root, "run": run}
    for tries_left in reversed(range(_TRIES)):
        if _opened(kind).filter(subject=subject).update(**seen):
            if alert := _opened(kind).filter(subject=subject).first():
                return alert
            continue  # ended by another process in between
        try:
            with transaction.atomic():
                alert = Alert.objects.create(kind=kind, subject=subject, since=now, **seen)
        except IntegrityError:
            if not tries_left:
                raise
            continue  # opened by another process in between
        logger.warning("alert: %s %s: %s %s", kind, _name(subject, run), reason, _plain(detail))
        return alert
    return Alert.objects.create(kind=kind, subject=subject, since=now, **seen)


def end_alert(kind: AlertKind, subject: str, *, now: datetime) -> bool:
    """End the open alert; False if there is none any more."""
    ended = bool(_opened(kind).filter(subject=_key(subject)).update(ended_at=now))
    if ended:
        logger.info("alert ended: %s %s", kind, _plain(subject))
    return ended


def settle(
    kind: AlertKind,
    troubles: Collection[AlertState],
    *,
    now: datetime,
    root: StagingRoot | None = None,
    prefix: str = "",
    doubtful: Collection[str] = (),
) -> None:
    """Make the open alerts of a kind exactly these.

    Only those of `root` and `prefix`, if given. `doubtful` subjects stay as they are.
    """
    known = {alert.subject: alert for alert in _within(kind, root, prefix)}
    same = []
    for trouble in troubles:
        alert = known.get(_key(trouble.subject))
        if alert is not None and (alert.reason, alert.detail) == (trouble.reason, trouble.detail):
            same.append(alert.pk)
        else:
            open_alert(
                kind,
                trouble.subject,
                reason=trouble.reason,
                now=now,
                detail=trouble.detail,
                root=trouble.root,
                run=trouble.run,
            )
    for start in range(0, len(same), _AT_ONCE):
        Alert.objects.filter(pk__in=same[start : start + _AT_ONCE], ended_at=None).update(seen_at=now)
    kept = {_key(subject) for subject in (*(trouble.subject for trouble in troubles), *doubtful)}
    for alert in known.values():
        if alert.subject not in kept:
            end_alert(kind, alert.subject, now=now)


def _opened(kind: AlertKind) -> QuerySet[Alert]:
    return Alert.objects.filter(kind=kind, ended_at=None)


def _within(kind: AlertKind, root: StagingRoot | None, prefix: str) -> list[Alert]:
    alerts = _opened(kind).filter(subject__startswith=prefix) if prefix else _opened(kind)
    # SQLite's "starts with" ignores case.
    return [alert for alert in (alerts.filter(root=root) if root else alerts) if alert.subject.startswith(prefix)]


def _key(subject: str) -> str:
    return shorten(subject, _MAX_SUBJECT, mark=" ")


def _name(subject: str, run: Run | None) -> str:
    return _plain(f"{subject} ({run.run_path})" if run else subject)


def _plain(text: str) -> str:
    """Names from instruments may hold line ends."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
