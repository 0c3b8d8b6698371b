"""What was freed in a month: the page of the summary that goes out by mail."""

from datetime import date, timedelta

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from cleanup.ledger import period
from cleanup.ledger.freed_groups import KEYS, SCHEDULE, FreedGroup
from cleanup.ledger.period import NoPeriod
from cleanup.models import Dimension, MonthlyMail
from cleanup.monitoring import monthly_mail
from cleanup.monitoring.monthly_mail import MonthAccount
from cleanup.text import audit
from cleanup.web.decorators import may_audit
from cleanup.web.requests import SignedIn

# What the groups of an account are called on the other pages of the audit.
_DIMENSIONS = {name: Dimension.PERSON if name == "operator" else Dimension(name) for name in monthly_mail.BY}


@require_safe
@may_audit
def audit_month(request: SignedIn, month: str) -> HttpResponse:
    """A month such as 2026-05."""
    try:
        wanted = period.of_month(month)
    except NoPeriod:
        raise Http404 from None
    if f"{wanted.first:%Y-%m}" != month or not date(1970, 1, 1) <= wanted.first <= date(9998, 1, 1):
        raise Http404
    told = monthly_mail.account(wanted)
    following = wanted.last + timedelta(days=1)
    context = {
        "told": told,
        "tables": [(KEYS[name].title, _rows(name, told)) for name in monthly_mail.BY],
        "list": _list(told),
        "mail": MonthlyMail.objects.filter(month=month).first(),
        "before": _address(wanted.first - timedelta(days=1)),
        "after": _address(following) if following <= timezone.localdate() else "",
        "under_way": wanted.last >= timezone.localdate(),
    }
    return render(request, "cleanup/audit/month.html", context)


def _rows(by: str, told: MonthAccount) -> list[tuple[str, FreedGroup, str]]:
    """Words, sums and the address of the list behind them."""
    rows, dimension = [], _DIMENSIONS[by]
    for group in told.by[by]:
        key = "" if by == "operator" and group.keys[0] == SCHEDULE else group.keys[0]
        rows.append((audit.said(str(dimension), key), group, _list(told, **{str(dimension): key})))
    return rows


def _list(told: MonthAccount, **values: str) -> str:
    return f"{reverse('audit-entries')}?{urlencode({'month': told.name, **values})}"


def _address(day: date) -> str:
    return reverse("audit-month", args=[f"{day:%Y-%m}"])
