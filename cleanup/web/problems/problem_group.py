"""One group of alike problems: all its members, who has it, what was noted; and the groups that have ended."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from cleanup.lab import readiness
from cleanup.lab.people import permissions
from cleanup.models import ProblemCase
from cleanup.monitoring import problems, surroundings
from cleanup.monitoring.problems import Counted, ProblemGroup, ProblemKey, case_rows, cases, listing
from cleanup.monitoring.surroundings import Surroundings
from cleanup.web.decorators import may_look
from cleanup.web.problems import group_lines
from cleanup.web.problems.group_forms import AssignForm, CaseNoteForm, GroupAction, PutOffForm
from cleanup.web.requests import SignedIn
from cleanup.web.sweeps.sweep_list import roots_to_go_on

PAGE_SIZE = 50
# So many accounts are proposed; others can be typed.
PROPOSED = 100
_VIEW = permissions.VIEW.partition(".")[2]


@dataclass(frozen=True)
class EndedLine:
    case: ProblemCase
    name: str


@require_http_methods(["GET", "HEAD", "POST"])
@may_look
def problem_group(request: SignedIn, slug: str) -> HttpResponse:
    """A POST does one of `GroupAction`; who sees the group may do all but put it off, which needs the right to hold."""
    now, user = timezone.now(), request.user
    hindrances = readiness.hindrances()
    found = problems.counted(user, now, hindrances=hindrances)
    key = _find(found, slug)
    if key is None:
        return _not_there(request, slug)
    asked = _forms(request, key, now)
    if request.method == "POST" and _act(request, key, asked, now):
        return redirect("problem-list" if request.POST.get("back") == "list" else request.path)
    around = surroundings.look(user, now)
    group, page = _whole_group(user, now, key, found, around, request.GET.get("page", "1"))
    (view,) = group_lines.views(user, [group], around.mine, now)
    context = {
        "view": view,
        "page": page,
        "may_go_on": roots_to_go_on(user, around.mine),
        "notes": list(case_rows.notes(group.case)) if group.case else [],
        "accounts": _proposed(key),
        "open_problems": found.nobodys,
        "hindrances": hindrances,
        "now": now,
        **asked,
    }
    return render(request, "cleanup/problems/group.html", context, status=422 if request.method == "POST" else 200)


@require_safe
@may_look
def ended_problems(request: SignedIn) -> HttpResponse:
    now = timezone.now()
    found = list(case_rows.ended(request.user, now)[: case_rows.LISTED])
    page = Paginator(found, PAGE_SIZE).get_page(request.GET.get("page", "1"))
    lines = [EndedLine(case, _name_of(case)) for case in page.object_list]
    context = {"page": page, "lines": lines, "kept": case_rows.KEPT, "now": now}
    return render(request, "cleanup/problems/ended.html", context)


def _find(found: Counted, slug: str) -> ProblemKey | None:
    return next((key for key in found.numbers if key.slug == slug), None)


def _not_there(request: SignedIn, slug: str) -> HttpResponse:
    """A group that ended while its page was open, or one that this user never saw."""
    ended = case_rows.ended(request.user, timezone.now()).filter(slug=slug).exists()
    if not ended:
        raise Http404
    messages.info(request, "This problem is over. It stands among the ended ones.")
    return redirect("ended-problems")


def _whole_group(
    user: User, now: datetime, key: ProblemKey, found: Counted, around: Surroundings, number: str
) -> tuple[ProblemGroup, Any]:
    """The group with the members of one page of it; groups of which there are few members have one page."""
    alone = Counted({key: found.numbers[key]}, found.cared)
    members = listing.members_of(user, key)
    if members is None:
        groups = problems.listed(user, now, hindrances=readiness.hindrances(), around=around, found=alone)
        return next(group for group in groups if group.key == key), None
    page = Paginator(members, PAGE_SIZE).get_page(number)
    shown = [listing.problem_of(row) for row in page.object_list]
    case = case_rows.open_cases([key]).get(key)
    return ProblemGroup(key=key, number=found.numbers[key], problems=shown, case=case), page


def _forms(request: SignedIn, key: ProblemKey, now: datetime) -> dict[str, Any]:
    """All forms, the one that was sent with what was typed."""
    action = request.POST.get("action", "")
    data = {each: request.POST if action == each else None for each in GroupAction}

    def sees(user: User) -> bool:
        if not user.has_perm(permissions.VIEW):
            return False
        return key in problems.counted(user, now, hindrances=readiness.hindrances()).numbers

    return {
        "assign_form": AssignForm(data[GroupAction.ASSIGN], may_see=sees),
        "put_off_form": PutOffForm(data[GroupAction.PUT_OFF]),
        "note_form": CaseNoteForm(data[GroupAction.NOTE]),
    }


def _act(request: SignedIn, key: ProblemKey, asked: dict[str, Any], now: datetime) -> bool:
    """Do what was asked for; False, and nothing is done, where the form is wrong."""
    action = request.POST.get("action", "")
    form: forms.Form | None = asked.get(f"{action}_form")
    if action == GroupAction.PUT_OFF and not request.user.has_perm(permissions.HOLD):
        raise PermissionDenied  # it takes the problem out of the sight of all
    if action not in set(GroupAction) or (form is not None and not form.is_valid()):
        return False
    case = cases.case_of(key, now)
    if case is None:
        messages.info(request, "This problem is over.")
        return True
    messages.success(request, _do(GroupAction(action), case, asked, request.user.get_username(), now))
    return True


def _do(action: GroupAction, case: ProblemCase, asked: dict[str, Any], me: str, now: datetime) -> str:
    match action:
        case GroupAction.TAKE:
            cases.assign(case, to=me, actor=me, now=now)
            return "This problem is yours now."
        case GroupAction.ACKNOWLEDGE:
            cases.acknowledge(case, actor=me, now=now)
            return "Noted that you have seen it."
        case GroupAction.GIVE_BACK:
            cases.give_back(case, actor=me, now=now)
            return "This problem is nobody's again."
        case GroupAction.ASSIGN:
            to = asked["assign_form"].cleaned_data["to"]
            cases.assign(case, to=to, actor=me, now=now)
            return f"This problem is given to {to}."
        case GroupAction.PUT_OFF:
            form: PutOffForm = asked["put_off_form"]
            cases.put_off(case, until=form.until, said=form.said, actor=me, now=now)
            return f"Put off until {form.said}. It comes back earlier if it grows."
        case GroupAction.NOTE:
            cases.add_note(case, text=asked["note_form"].cleaned_data["text"], actor=me, now=now)
            return "Your note is kept."


def _proposed(key: ProblemKey) -> list[str]:
    """Accounts that may look at the group's staging root, or anywhere."""
    view = Q(user_permissions__codename=_VIEW) | Q(groups__permissions__codename=_VIEW)
    own = Q(staging_access__isnull=False) & Q(staging_access__root=None)
    of_group = Q(groups__staging_access__isnull=False) & Q(groups__staging_access__root=None)
    there = own | of_group
    if key.root:
        there |= Q(staging_access__root=key.root) | Q(groups__staging_access__root=key.root)
    users: QuerySet[User] = User.objects.filter(Q(is_superuser=True) | (view & there), is_active=True)
    return list(users.order_by("username").values_list("username", flat=True).distinct()[:PROPOSED])


def _name_of(case: ProblemCase) -> str:
    return group_lines.name_of(case_rows.key_of(case))
