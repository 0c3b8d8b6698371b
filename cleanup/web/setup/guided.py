"""The guided page: from the first admin to a lab that works, one step after the other."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from cleanup.lab import policy_versions
from cleanup.lab.policy_versions import Superseded
from cleanup.models import RetentionPolicy
from cleanup.monitoring import surroundings
from cleanup.rules.policies.policy import Mode
from cleanup.web.caching import wants_fragment
from cleanup.web.decorators import admins_only
from cleanup.web.requests import SignedIn
from cleanup.web.setup import steps as guide


@require_safe
@admins_only
def setup(request: SignedIn) -> HttpResponse:
    return _show(request, "cleanup/setup/guided.html")


@require_safe
@admins_only
def setup_now(request: SignedIn) -> HttpResponse:
    """The page polls its steps while the first look is to come or under way."""
    if not wants_fragment(request):
        return redirect("setup")
    return _show(request, "cleanup/setup/guided.html#steps")


@require_POST
@admins_only
def keep_manual(request: SignedIn) -> HttpResponse:
    """Write down that the lab is cleared by hand, unless there is a policy already."""
    if RetentionPolicy.objects.exists():
        messages.info(request, "The lab has a policy already: nothing was written.")
        return redirect("setup")
    author, now = request.user.get_username(), timezone.now()
    try:
        policy_versions.replace_version(
            expected=0, author=author, now=now, mode=Mode.MANUAL, note="chosen at the setup"
        )
    except Superseded as error:
        messages.error(request, f"Nothing was written: {error}.")
    else:
        messages.success(request, "The lab stays manual: nothing is removed without a click.")
    return redirect("setup")


def _show(request: SignedIn, template: str) -> HttpResponse:
    now = timezone.now()
    around = surroundings.look(request.user, now)
    found = guide.steps(request.user, around, now)
    context = {
        "steps": found,
        "done": sum(step.is_done for step in found),
        "all_done": all(step.is_done for step in found),
        "looking": guide.is_looking(around.roots),
        "now": now,
    }
    return render(request, template, context)
