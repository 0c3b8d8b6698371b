"""The page that makes the first admin: a one-time token is typed, no link carries it."""

import logging
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import UserCreationForm
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_login_failed
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from cleanup.lab.people import first_admin, sign_ins
from cleanup.lab.people.first_admin import TokenRefused
from cleanup.web import refusals

logger = logging.getLogger(__name__)

_PAGE = "cleanup/people/first_admin.html"
_BACKEND = "cleanup.lab.people.accounts.WholeAccount"


class FirstAdminForm(UserCreationForm):  # type: ignore[type-arg]  # Django itself has no such brackets
    """The first admin's name and password, by Django's validators."""

    token = forms.CharField(label="One-time token", max_length=100)

    class Meta(UserCreationForm.Meta):
        model = User
        fields = ("username",)


@login_not_required
@sensitive_post_parameters("token", "password1", "password2")
@require_http_methods(["GET", "HEAD", "POST"])
def make_first_admin(request: HttpRequest) -> HttpResponse:
    """Leads to the sign-in where there is an active superuser."""
    if not first_admin.is_needed():
        return _lead_to_sign_in(request)
    if request.method != "POST":
        return render(request, _PAGE, {"form": FirstAdminForm()})
    if _is_locked(request):
        return refusals.locked_out(request)
    return _make(request)


def _make(request: HttpRequest) -> HttpResponse:
    """The token is judged first: without it nothing is said of names and passwords."""
    now, typed = timezone.now(), request.POST.get("token", "")
    if refusal := first_admin.refusal_of(typed, now):
        _count_failure(request)
        name = request.POST.get("username", "")[:150]
        context = {"form": FirstAdminForm(initial={"username": name}), "refusal": refusal}
        return render(request, _PAGE, context, status=422)
    form = FirstAdminForm(request.POST)
    if not form.is_valid():
        return render(request, _PAGE, {"form": form, "typed": typed}, status=422)
    try:
        user = first_admin.make(form.save(commit=False), typed, now=now, address=sign_ins.address_of(request))
    except TokenRefused as error:
        messages.error(request, str(error))
        return redirect("login")
    login(request, user, backend=_BACKEND)
    messages.success(request, "You are the first admin, and signed in. Now the lab can be set up.")
    return redirect("setup")


def _lead_to_sign_in(request: HttpRequest) -> HttpResponse:
    if request.user.is_authenticated:
        return redirect("overview")
    if request.method == "POST":
        messages.error(request, first_admin.EXISTS)
    return redirect("login")


def _is_locked(request: HttpRequest) -> bool:
    marked: Any = request
    marked.axes_credentials = {"username": first_admin.ACCOUNT}
    account = sign_ins.key_of(first_admin.ACCOUNT)
    return sign_ins.lock_on(account, sign_ins.address_of(request), timezone.now()) is not None


def _count_failure(request: HttpRequest) -> None:
    """As a failed sign-in; the one that reaches a limit is answered with the page of the lock."""
    logger.warning("a one-time token was refused, from %s", sign_ins.address_of(request) or sign_ins.NO_ADDRESS)
    user_login_failed.send(sender=__name__, credentials={"username": first_admin.ACCOUNT}, request=request)
    marked: Any = request
    marked.axes_credentials = {"username": first_admin.ACCOUNT}
