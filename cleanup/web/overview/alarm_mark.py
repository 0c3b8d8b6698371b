"""From when on people are told that a staging disk fills up."""

import logging
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from cleanup.lab.people import permissions
from cleanup.models import StagingRoot
from cleanup.rules import disk_alarm as rules
from cleanup.text.values import visible
from cleanup.web.decorators import may_look
from cleanup.web.overview import alarm_line
from cleanup.web.requests import SignedIn

logger = logging.getLogger(__name__)

CHANGE_ROOT = "cleanup.change_stagingroot"
may_change_roots = permission_required(CHANGE_ROOT, raise_exception=True)


class AlarmMarkForm(forms.Form):
    """An empty field: not by that."""

    percent = forms.IntegerField(label="From so many percent used", min_value=1, max_value=100, required=False)
    hours = forms.IntegerField(
        label="Or so many hours before it is full", min_value=1, max_value=rules.MAX_HOURS, required=False
    )

    def __init__(self, data: Any = None, *, root: StagingRoot) -> None:  # noqa: ANN401
        initial = {"percent": root.alarm_percent, "hours": root.alarm_hours}
        super().__init__(data, initial=initial, auto_id="alarm-%s", label_suffix="")


@require_http_methods(["GET", "HEAD", "POST"])
@may_look
@may_change_roots
def disk_alarm(request: SignedIn, pk: int) -> HttpResponse:
    """A POST sets the mark of a staging root."""
    user = request.user
    root = get_object_or_404(permissions.roots(user).select_related("disk_forecast"), pk=pk)
    if not permissions.places(user, CHANGE_ROOT).include(root.pk, ""):
        raise PermissionDenied
    form = AlarmMarkForm(request.POST if request.method == "POST" else None, root=root)
    if request.method == "POST" and form.is_valid():
        percent, hours = form.cleaned_data["percent"], form.cleaned_data["hours"]
        StagingRoot.objects.filter(pk=root.pk).update(alarm_percent=percent, alarm_hours=hours)
        logger.info("alarm of %s: %s %%, %s h, set by %s", root.name, percent, hours, user.get_username())
        messages.success(
            request, f"{visible(root.name)}: the alarm is set. It counts from the next look, in five minutes."
        )
        return redirect("overview")
    now = timezone.now()
    context = {"root": root, "form": form, "alarm": alarm_line.of_root(root, now), "now": now, "rules": rules}
    return render(request, "cleanup/overview/alarm.html", context, status=422 if form.errors else 200)
