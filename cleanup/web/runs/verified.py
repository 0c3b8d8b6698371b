"""A comparison that a user asked for, on the run's page."""

from dataclasses import dataclass
from datetime import datetime

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from cleanup.models import AcceptedBytes, ByteCheck, Run
from cleanup.rules.facts import Facts
from cleanup.runs.facts import stored_facts
from cleanup.runs.proofs import accepted_bytes, verify_again
from cleanup.web.caching import wants_fragment
from cleanup.web.decorators import may_look
from cleanup.web.requests import SignedIn
from cleanup.web.runs import run_rows

# What is known of a named file, and what helps.
CASES = {
    "not_on_nas": (
        "It is not on the NAS.",
        "Copy it there from here, under the same name.",
    ),
    "nas_differs": (
        "Here it is as the manifest says. The copy on the NAS is another.",
        "Put the file from here in the place of the copy on the NAS.",
    ),
    "staging_differs": (
        "On the NAS it is as the manifest says. Here it is another.",
        "If it was damaged here, put the copy from the NAS in its place. If it was changed on purpose, keep it under "
        "another name first.",
    ),
    "both_differ": (
        "It differs, and no side is as a manifest says.",
        "Find out which side is right, and put it in the place of the other; keep both until then.",
    ),
    "changed": (
        "It is the same on both sides, and the manifest says otherwise.",
        "Find out whether it was changed before it was copied; an admin may accept it as it is.",
    ),
    "added": (
        "It is the same on both sides, and the manifest does not list it.",
        "An admin may accept it as it is.",
    ),
    "only_on_nas": (
        "The manifest lists it; it is on the NAS and not here.",
        "Copy it back from the NAS, or let an admin accept the run without it.",
    ),
    "nowhere": (
        "The manifest lists it; it is neither here nor on the NAS.",
        "Look for it in a backup. If it is rightly gone, an admin may accept the run without it.",
    ),
}


@dataclass(frozen=True)
class Named:
    path: str
    said: str
    helps: str


@dataclass(frozen=True)
class Verified:
    """The latest comparison, and the acceptance in force, even if that does not hold."""

    check: ByteCheck | None
    named: list[Named]
    more: int
    acceptance: AcceptedBytes | None
    holds: bool

    @property
    def percent(self) -> int:
        check = self.check
        if check is None or not check.planned_bytes:
            return 0
        return min(100 * check.compared_bytes // check.planned_bytes, 100)

    @property
    def is_accepted(self) -> bool:
        return self.acceptance is not None and self.check is not None and self.acceptance.check_here_id == self.check.pk


def panel(run: Run, facts: Facts, now: datetime) -> Verified | None:
    check = verify_again.latest(run)
    if check is None:
        return None
    named = [Named(each["path"], *CASES[each["case"]]) for each in check.named if each.get("case") in CASES]
    more = check.differing + check.against + check.missing - len(named)
    return Verified(check, named, max(more, 0), accepted_bytes.standing(run), facts.accepts)


@require_safe
@may_look
def run_verified(request: SignedIn, pk: int) -> HttpResponse:
    run = run_rows.shown_or_404(request.user, pk)
    if not wants_fragment(request):
        return redirect("run-detail", pk=pk)
    now = timezone.now()
    found = panel(run, stored_facts.facts_of(run), now)
    if found is None or found.check is None or not found.check.is_active:
        response = HttpResponse()
        response["HX-Refresh"] = "true"  # the result changes the whole page
        return response
    return render(request, "cleanup/runs/detail.html#verified", {"run": run, "verified": found, "now": now})
