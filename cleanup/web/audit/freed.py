"""What was freed in a year or any range, by whom, by which policy, and how safe it was."""

from datetime import date

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from cleanup.lab.people import permissions
from cleanup.ledger import report
from cleanup.ledger.period import NoPeriod
from cleanup.ledger.receipts import keys
from cleanup.models import DaySum
from cleanup.text import audit
from cleanup.web.audit import questions
from cleanup.web.audit.shown_tables import matrix, shown
from cleanup.web.caching import reload_page, wants_fragment
from cleanup.web.decorators import may_audit
from cleanup.web.requests import SignedIn

# In the order of the page; the months and totals stand above them.
BESIDE = ("projects", "people", "triggers", "policies", "roots", "proofs", "durations", "refusals")
NOW = ("staged", "holds")


@require_safe
@may_audit
def freed(request: SignedIn) -> HttpResponse:
    if wants_fragment(request):
        return reload_page()
    now = timezone.now()
    today, trouble = timezone.localdate(now), ""
    try:
        question = questions.read(request.GET, today)
    except NoPeriod as error:
        question, trouble = questions.this_year(today), str(error)
    found = report.report(question.period, now=now)
    looks = permissions.places(request.user, permissions.VIEW).everywhere
    lists = {"staged_runs": looks, "held_runs": looks and request.user.has_perm("cleanup.view_hold")}
    tables = {name: shown(found.tables[name], question, **lists) for name in (*BESIDE, *NOW)}
    context = {
        "question": question,
        "query": question.address(),
        "report": found,
        "months": matrix(found.tables["months"], question),
        "lengths": audit.lengths(found.median_seconds, found.p90_seconds, known=found.knows_durations),
        "proofs": report.proof_words(found.tables["proofs"]),
        "tables": [tables[name] for name in BESIDE if tables[name].rows],
        "now_tables": [tables[name] for name in NOW],
        "years": _years(today),
        "zone": settings.TIME_ZONE,
        "keys": list(keys.known()),
        "trouble": trouble,
        "now": now,
    }
    return render(request, "cleanup/audit/freed.html", context, status=400 if trouble else 200)


def _years(today: date) -> list[int]:
    """From the first year with a clear to this one, the latest first; at most thirty."""
    # As a comparison, so that SQLite takes the first entry of the index.
    first = DaySum.objects.filter(of_month__in=[True]).order_by("day").values_list("day", flat=True).first()
    since = max(first.year, today.year - 29) if first else today.year
    return list(range(today.year, since - 1, -1))
