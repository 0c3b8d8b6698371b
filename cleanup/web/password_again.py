"""The password asked again before what concerns a host's disks; it counts for ten minutes."""

import functools
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.contrib.auth import authenticate
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods
from django_htmx.http import HttpResponseClientRedirect

from cleanup.web.requests import SignedIn

GOOD_FOR = timedelta(minutes=10)
# In the session: when it was typed last, in seconds since 1970.
TYPED_AT = "password_typed_at"

View = Callable[..., HttpResponse]


def is_own(request: HttpRequest, password: str) -> bool:
    """Whether it is the password of who asks. A wrong one counts as a failed sign-in."""
    return authenticate(request, username=request.user.get_username(), password=password) == request.user


class PasswordAgain(forms.Form):
    """A wrong one counts as a failed sign-in."""

    password = forms.CharField(
        label="Your password",
        strip=False,
        max_length=4096,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password", "autofocus": True}),
    )

    def __init__(self, *args: Any, request: SignedIn, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **{"label_suffix": "", **kwargs})
        self.request = request

    def clean_password(self) -> str:
        given: str = self.cleaned_data["password"]
        if not is_own(self.request, given):
            raise ValidationError("This is not your password.")
        return given


def was_typed(request: SignedIn) -> bool:
    """Whether the password was asked for within the last ten minutes; never by an instant in the future."""
    typed_at = request.session.get(TYPED_AT)
    return typed_at is not None and 0 <= timezone.now().timestamp() - typed_at < GOOD_FOR.total_seconds()


def asks_password(back: Callable[..., str] | None = None) -> Callable[[View], View]:
    """Decorate a view: the password comes first, then its page; `back` gives the page of one without a page."""

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def asked(request: SignedIn, *args: Any, **kwargs: Any) -> HttpResponse:  # noqa: ANN401
            if was_typed(request):
                return view(request, *args, **kwargs)
            if request.method == "POST":
                messages.info(request, "Nothing was done: type your password first, then do it again.")
            page = back(*args, **kwargs) if back else request.get_full_path()
            address = f"{reverse('password-again')}?{urlencode({'next': page})}"
            return HttpResponseClientRedirect(address) if request.htmx else HttpResponseRedirect(address)

        return asked

    return decorate


@require_http_methods(["GET", "HEAD", "POST"])
def password_again(request: SignedIn) -> HttpResponse:
    wanted = request.POST.get("next") or request.GET.get("next", "")
    if not url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure()):
        wanted = reverse("overview")
    form = PasswordAgain(request.POST if request.method == "POST" else None, request=request)
    if form.is_bound and form.is_valid():
        request.session[TYPED_AT] = timezone.now().timestamp()
        return HttpResponseRedirect(wanted)
    context = {"form": form, "next": wanted}
    return render(request, "cleanup/account/password_again.html", context, status=422 if form.errors else 200)
