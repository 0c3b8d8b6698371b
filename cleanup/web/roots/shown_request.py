"""One request to a host as its page shows it, and as the pages that wait for it do."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from cleanup.lab.people import permissions
from cleanup.models import RootRequest, RootRequestKind, RootRequestPhase
from cleanup.runs.root_requests import asking
from cleanup.web.caching import wants_fragment
from cleanup.web.decorators import may_manage_roots
from cleanup.web.requests import SignedIn

# The lines of a look, in the words of a page.
LABELS = {
    "exists": "There",
    "folder": "Folder",
    "system": "System",
    "rights": "Rights",
    "filesystem": "Filesystem",
    "others": "Other roots",
    "data": "Data directory",
    "marker": "Marker",
    "space": "Free space",
    "runs": "Runs",
    "second": "Second place",
    "copies": "Copies",
}
MARKS = {"pass": "✓", "wait": "!", "block": "✕"}


@dataclass(frozen=True)
class ShownLine:
    label: str
    verdict: str
    mark: str
    said: str


@dataclass(frozen=True)
class ShownRequest:
    """A request with its answer; `open` while a worker may still answer."""

    row: RootRequest
    lines: list[ShownLine]
    problem: str
    open: bool

    @property
    def answer(self) -> dict[str, Any]:
        found: dict[str, Any] = self.row.answer
        return found

    @property
    def is_look(self) -> bool:
        return self.row.only_looks

    @property
    def is_config(self) -> bool:
        return self.row.kind == RootRequestKind.LOOK_CONFIG

    @property
    def is_running(self) -> bool:
        return self.row.phase == RootRequestPhase.RUNNING

    @property
    def fits(self) -> bool:
        return not self.open and not self.problem and bool(self.row.answer.get("fits"))

    @property
    def tone(self) -> str:
        return "block" if self.problem or self.row.answer.get("problems") else "go"


def shown(row: RootRequest, now: datetime) -> ShownRequest:
    problem = str(row.answer.get("problem", ""))
    if asking.is_untaken(row, now):
        problem = asking.UNTAKEN
    elif asking.is_lost(row, now):
        problem = "The worker that took it gives no answer. Look at the staging root before you try again."
    elif row.phase == RootRequestPhase.DROPPED:
        problem = "A newer look has taken its place."
    lines = [
        ShownLine(LABELS.get(line["name"], line["name"]), line["verdict"], MARKS.get(line["verdict"], ""), line["said"])
        for line in row.answer.get("lines", ())
    ]
    return ShownRequest(row, lines, problem, open=row.is_open and not problem)


def own_look(request: SignedIn) -> RootRequest | None:
    """The look of this user that the address names as `request`."""
    try:
        key = uuid.UUID(request.GET.get("request", ""))
    except ValueError:
        return None
    found = RootRequest.objects.select_related("root")
    return found.filter(pk=key, actor=request.user.get_username(), kind__in=RootRequest.LOOKS).first()


@require_safe
@may_manage_roots
def root_request(request: SignedIn, key: uuid.UUID) -> HttpResponse:
    """The page of a request; a fragment for pages that wait for its answer."""
    row = get_object_or_404(RootRequest.objects.select_related("root"), pk=key)
    now = timezone.now()
    context = {"asked": shown(row, now), "now": now, "may_look": request.user.has_perm(permissions.VIEW)}
    if wants_fragment(request):
        part = "_answer.html" if row.only_looks else "_done.html"
        return render(request, f"cleanup/roots/{part}", context)
    return render(request, "cleanup/roots/request.html", context)
