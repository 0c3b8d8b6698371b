"""The rows of the ledger behind a number."""

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from cleanup.lab.people import permissions
from cleanup.ledger import dimensions, lists
from cleanup.ledger.lists import EntryPage
from cleanup.ledger.period import NoPeriod
from cleanup.models import Dimension, LedgerEntry
from cleanup.text import audit
from cleanup.web.audit import questions
from cleanup.web.caching import reload_page, wants_fragment
from cleanup.web.decorators import may_audit
from cleanup.web.requests import SignedIn


@require_safe
@may_audit
def entry_list(request: SignedIn) -> HttpResponse:
    if wants_fragment(request):
        return reload_page()
    now = timezone.now()
    trouble, page = "", EntryPage([])
    try:
        question = questions.read(request.GET, timezone.localdate(now))
    except NoPeriod as error:
        question, trouble = questions.this_year(timezone.localdate(now)), str(error)
    else:
        after, before = (questions.read_place(request.GET.get(name)) for name in ("after", "before"))
        page = lists.page(question.period, question.values, after=after, before=before)
    context = {
        "question": question,
        "query": question.address(),
        "page": page,
        "lines": [(row, _began(row)) for row in page.rows],
        "open_runs": permissions.open_to(request.user, {row.run_id for row in page.rows if row.run_id is not None}),
        "refusals": Dimension.REFUSAL in question.values,
        "newer": questions.write_place(page.newer),
        "older": questions.write_place(page.older),
        "trouble": trouble,
        "now": now,
    }
    return render(request, "cleanup/audit/entries.html", context, status=400 if trouble else 200)


def _began(row: LedgerEntry) -> str:
    return audit.TRIGGERS[dimensions.trigger_of(row.requester, row.typed_by, row.cause)]
