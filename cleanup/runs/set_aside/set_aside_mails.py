"""Mails of files set aside, once to each person whom the run's record names; not to the person who did it."""

import logging
from datetime import datetime

from django.conf import settings
from django.contrib.auth.models import User
from django.core.mail import EmailMessage, get_connection

from cleanup.lab.people import permissions, record_names
from cleanup.models import AsideState, SetAside

logger = logging.getLogger(__name__)

_AT_ONCE = 1_000
_TOLD_IN_A_MAIL = 100


def tell(now: datetime) -> int:
    """Mail what is not told yet; returns the number of mails."""
    if not settings.EXLAB_EMAIL:
        return 0
    fresh = SetAside.objects.filter(told_at=None, state=AsideState.DONE).select_related("run__root")
    rows = [row for row in fresh.defer("run__facts").order_by("pk")[:_AT_ONCE] if _claim(row, now)]
    sent, reached = 0, set[tuple[str, int]]()
    for person, runs in record_names.accounts_of_runs([row.run for row in rows]):
        mine = [row for row in rows if row.run_id in runs and _concerns(person, row)]
        fresh_rows = [row for row in mine if (person.email.casefold(), row.pk) not in reached]
        reached |= {(person.email.casefold(), row.pk) for row in fresh_rows}
        if not fresh_rows:
            continue
        try:
            _mail(person, fresh_rows)
        except Exception:  # a mail server may fail in any way; the run's page shows the files
            logger.exception("%d files set aside could not be told by mail", len(fresh_rows))
            break
        sent += 1
    return sent


def _claim(row: SetAside, now: datetime) -> bool:
    # Written before the mail, so that nobody gets it twice.
    return bool(SetAside.objects.filter(pk=row.pk, told_at=None).update(told_at=now))


def _concerns(person: User, row: SetAside) -> bool:
    return row.actor != person.get_username() and permissions.may(person, permissions.VIEW, row.run)


def _mail(person: User, rows: list[SetAside]) -> None:
    lines = [f"{row.run_path}\n{row.path}\nBy {row.actor}: {row.note}" for row in rows[:_TOLD_IN_A_MAIL]]
    if len(rows) > _TOLD_IN_A_MAIL:
        lines.append(f"And {len(rows) - _TOLD_IN_A_MAIL} more: see the pages of the runs.")
    told = rows[0].leaf if len({row.run_id for row in rows}) == 1 else f"({len({row.run_id for row in rows})} runs)"
    head = "Files that the manifest does not list were moved beside these runs. They can be put back on the run's page."
    text = "\n\n".join([head, *lines, "You get this because the records of these runs name you."])
    with get_connection() as connection:
        EmailMessage(f"Files set aside {told}", f"{text}\n", to=[person.email], connection=connection).send()
