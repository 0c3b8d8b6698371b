"""What was freed in a month, for a page, and by mail in the first days of the next one.

A mail that cannot be sent is not sent again: the page tells the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.mail import EmailMessage
from django.db import IntegrityError, transaction
from django.utils import timezone

from cleanup.lab import mails
from cleanup.lab.people import permissions
from cleanup.ledger import report
from cleanup.ledger.freed_groups import KEYS, SCHEDULE, SUMS, FreedGroup
from cleanup.ledger.period import Period
from cleanup.models import LedgerEntry, MonthlyMail
from cleanup.monitoring import links
from cleanup.rules.quantities import say_about, say_count
from cleanup.rules.visible_names import visible

# By what a month is added up, and the tables of the report that have it.
_TABLES = {
    "equipment": "months",
    "project": "projects",
    "operator": "people",
    "trigger": "triggers",
    "policy": "policies",
    "root": "roots",
    "proof": "proofs",
}
BY = tuple(_TABLES)
_AMOUNTS = len(report.AMOUNTS)
# A mail names at most this many of a kind.
_NAMED = 20
# After a longer pause of this program no mail tells of the month before.
_LATEST_DAY = 7


@dataclass(frozen=True)
class MonthAccount:
    """What was freed in a month: all sums, the sums by each of `BY`, and how often clears were refused for a reason."""

    period: Period
    total: dict[str, int]
    by: dict[str, list[FreedGroup]]
    refused: list[tuple[str, int]]

    @property
    def name(self) -> str:
        """`2026-05`."""
        return f"{self.period.first:%Y-%m}"

    @property
    def title(self) -> str:
        """`May 2026`."""
        return f"{self.period.first:%B %Y}"


def account(period: Period) -> MonthAccount:
    """Add a month up, from the sums by day and month."""
    (total,) = report.table("totals", period).rows
    return MonthAccount(
        period,
        total=_sums(total),
        by={name: _groups(name, period) for name in BY},
        refused=[(reason, number) for reason, number in report.table("refusals", period).rows],
    )


def send_last_month(now: datetime) -> int:
    """Send the summary of the month before, once of all hosts, to those who may see the audit; returns 0 or 1."""
    today = timezone.localtime(now).date()
    last = today.replace(day=1) - timedelta(days=1)
    if not settings.EXLAB_EMAIL or today.day > _LATEST_DAY:
        return 0
    period = Period(last.replace(day=1), last)
    month = f"{last:%Y-%m}"
    if MonthlyMail.objects.filter(month=month).exists() or not _is_of_use(period):
        return 0
    try:
        with transaction.atomic():
            sent = MonthlyMail.objects.create(month=month, at=now)
    except IntegrityError:
        return 0  # another host sends it
    _send(sent, account(period))
    return 1


def text(told: MonthAccount) -> str:
    """The summary in words."""
    total = told.total
    lines = [f"Removed from the staging disks in {told.title}: {_amount(total)}.", ""]
    lines.append(f"Allocated on disks: {say_about(total['allocated_bytes'])}; measured there: {_measured(total)}.")
    for name in BY:
        lines += [
            "",
            f"By {KEYS[name].title}:",
            *_some(f"  {said_key(name, one)}: {_amount(one.sums)}" for one in told.by[name]),
        ]
    if told.refused:
        lines += ["", "Not cleared, because:"]
        lines += _some(
            f"  {reason or 'no reason given'}: {say_count(number, 'time')}" for reason, number in told.refused
        )
    footer = f"Times are those of {timezone.get_default_timezone_name()}; sizes are logical unless named otherwise."
    page = links.in_mail(f"/audit/months/{told.name}/")
    return "\n".join([*lines, "", f"The same, with files to take along: {page}", footer, ""])


def said_key(by: str, group: FreedGroup) -> str:
    """The key of a group of one of `BY`, for people."""
    (key,) = group.keys
    if by != "policy":
        return visible(key) or "(none)"
    if key.startswith("?"):
        return f"version {key[1:]} or older"
    numbers = key.split("+")
    versions = ", ".join(number for number in numbers if number != "0")
    if not versions:
        return "the defaults"
    return f"version {versions}" + (" and defaults" if "0" in numbers else "")


def _is_of_use(period: Period) -> bool:
    """Whether this program was at work in the month, or before."""
    return LedgerEntry.objects.filter(at__lt=period.ends_at).exists()


def _send(sent: MonthlyMail, told: MonthAccount) -> None:
    users = [
        user
        for user in get_user_model().objects.filter(is_active=True).exclude(email="").order_by("pk")
        if user.has_perm(permissions.AUDIT)
    ]
    subject = f"Freed in {told.title}: {_amount(told.total)}"
    letters = (EmailMessage(subject, text(told), to=[user.email]) for user in users)
    taken = mails.send_all(letters, about=f"the summary of {sent.month}")
    problem = taken.problem or ("" if users else "no user who may see the audit has an address")
    MonthlyMail.objects.filter(pk=sent.pk).update(mails=taken.number, mail_problem=problem)


def _amount(sums: dict[str, int]) -> str:
    return f"{say_count(sums['runs'], 'run')}, {say_about(sums['bytes_freed'])}"


def _measured(sums: dict[str, int]) -> str:
    if not sums["measured_of_bytes"]:
        return "nothing"
    return f"{say_about(sums['measured_bytes'])} for {say_about(sums['measured_of_bytes'])} allocated"


def _some(lines: Iterable[str]) -> list[str]:
    all_lines = list(lines)
    more = len(all_lines) - _NAMED
    return [*all_lines[:_NAMED], *([f"  and {more} more"] if more > 0 else [])] or ["  nothing"]


def _groups(by: str, period: Period) -> list[FreedGroup]:
    """The rows of a table of the report, the largest first; those of months have the month before their key."""
    rows = report.table(_TABLES[by], period).rows
    place = 1 if by == "equipment" else 0
    groups = [
        FreedGroup((row[place] or (SCHEDULE if by == "operator" else ""),), _sums(row[-_AMOUNTS:])) for row in rows
    ]
    return sorted(groups, key=lambda group: (-group.sums["bytes_freed"], group.keys))


def _sums(amounts: Sequence[int]) -> dict[str, int]:
    # Both have the same amounts in the same order.
    return dict(zip((column.name for column in SUMS), amounts, strict=False))
