"""Signing in and out, sessions, passwords, and the names in records that mean an account."""

import logging
from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import urlencode, urlsplit

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import SESSION_KEY, authenticate, logout
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import PasswordChangeForm
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView, PasswordChangeView, redirect_to_login
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse, reverse_lazy
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import HttpResponseClientRedirect

from cleanup.lab.people import first_admin, record_names, sessions
from cleanup.models import AccountName, fold_name
from cleanup.text.values import visible
from cleanup.web.requests import SignedIn

logger = logging.getLogger(__name__)

# Addresses that open pages poll.
POLLS = {
    "batch-progress",
    "bench-now",
    "overview-now",
    "root-request",
    "run-changes",
    "run-live",
    "run-row",
    "run-verified",
    "setup-now",
    "sweep-changes",
}
# Pages that reload themselves without scripts; the browser then names the page itself as the referer.
RELOADING = {"batch", "bench", "run-detail", "setup"}
RELOADING |= {"add-root", "add-nas-root", "import-wizard-config", "root-request"}


class SignInFirst(LoginRequiredMiddleware):
    """After the sign-in it leads back; for a form, to the page of the form."""

    def handle_no_permission(self, request: HttpRequest, view_func: Callable[..., Any]) -> HttpResponseRedirect:
        if request.method != "POST":
            return super().handle_no_permission(request, view_func)
        messages.info(request, "You were not signed in any more, so nothing was done. Sign in, and do it again.")
        return redirect_to_login(_page_of(request) or reverse("overview"))


def _page_of(request: HttpRequest) -> str:
    page = request.META.get("HTTP_REFERER", "")
    if not url_has_allowed_host_and_scheme(page, {request.get_host()}, require_https=request.is_secure()):
        return ""
    parts = urlsplit(page)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


@method_decorator(login_not_required, name="dispatch")
class SignIn(LoginView):
    """A fragment that ends here makes the browser load the whole page."""

    template_name = "cleanup/account/sign_in.html"
    redirect_authenticated_user = True

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:  # noqa: ANN401
        htmx: Any = getattr(request, "htmx", None)
        if htmx:
            here = htmx.current_url_abs_path or "/"
            return HttpResponseClientRedirect(f"{reverse('login')}?{urlencode({'next': here})}")
        return super().dispatch(request, *args, **kwargs)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
        return super().get_context_data(**kwargs, first_admin_needed=first_admin.is_needed())

    def get_redirect_url(self, *args: Any, **kwargs: Any) -> str:  # noqa: ANN401
        wanted: str = super().get_redirect_url(*args, **kwargs)
        return "" if urlsplit(wanted).path == reverse("login") else wanted


class EndIdle:
    """Signs out idle users; polls of open pages do not count."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if SESSION_KEY in request.session and sessions.idle(request.session) >= settings.EXLAB_SESSION_IDLE:
            logout(request)
        response = self.get_response(request)
        if getattr(request, "noted_in", None) == request.session.session_key is not None:
            _renew_cookie(request, response)
        return response

    def process_view(self, request: HttpRequest, *_view: object) -> None:
        session = request.session
        if SESSION_KEY not in session:
            return
        by_a_person = not _asks_by_itself(request) and sessions.idle(session) >= sessions.NOTED_EVERY
        if (by_a_person or sessions.SEEN not in session) and sessions.note(session):
            request.noted_in = session.session_key  # type: ignore[attr-defined]


def _renew_cookie(request: HttpRequest, response: HttpResponseBase) -> None:
    """The browser must keep the session as long as the server."""
    response.set_cookie(
        settings.SESSION_COOKIE_NAME,
        request.session.session_key or "",
        max_age=settings.SESSION_COOKIE_AGE,
        domain=settings.SESSION_COOKIE_DOMAIN,
        path=settings.SESSION_COOKIE_PATH,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=settings.SESSION_COOKIE_HTTPONLY,
        samesite=settings.SESSION_COOKIE_SAMESITE,
    )


def _asks_by_itself(request: HttpRequest) -> bool:
    name = request.resolver_match.url_name if request.resolver_match else None
    return name in POLLS or (name in RELOADING and _page_of(request) == request.get_full_path())


class RecordNameForm(forms.ModelForm):  # type: ignore[type-arg]  # Django itself has no such brackets
    """One more name in records that means the account."""

    class Meta:
        model = AccountName
        fields = ("name",)
        widgets: ClassVar = {"name": forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"})}

    def __init__(self, data: Any = None, *, user: User) -> None:  # noqa: ANN401
        super().__init__(data, auto_id="record-%s", label_suffix="")
        self.user = user
        self.fields["name"].label = "A name in records"

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        mine = AccountName.objects.filter(user=self.user)
        if fold_name(name) == fold_name(self.user.get_username()) or mine.filter(folded=fold_name(name)).exists():
            raise ValidationError("This name means you already.")
        if mine.count() >= record_names.MOST:
            raise ValidationError(f"An account has at most {record_names.MOST} names in records.")
        return name


@require_safe
def account(request: SignedIn) -> HttpResponse:
    return _account(request, RecordNameForm(user=request.user))


def _account(request: SignedIn, form: RecordNameForm) -> HttpResponse:
    names = AccountName.objects.filter(user=request.user)
    context = {"signed_in": sessions.count(request.user), "names": names, "form": form}
    return render(request, "cleanup/account/account.html", context, status=422 if form.errors else 200)


@require_POST
def add_record_name(request: SignedIn) -> HttpResponse:
    """Note a name that the wizard's records have for the user."""
    form = RecordNameForm(request.POST, user=request.user)
    if not form.is_valid():
        return _account(request, form)
    form.instance.user = request.user
    name = form.save()
    logger.info("%s says that %s in records is this account", request.user.get_username(), name.folded)
    messages.success(request, f"{visible(name.name)} in a run's record means you now.")
    return redirect("account")


@require_POST
def remove_record_name(request: SignedIn, pk: int) -> HttpResponse:
    """Forget a name of the user; a second call is harmless."""
    AccountName.objects.filter(user=request.user, pk=pk).delete()
    return redirect("account")


@require_POST
def sign_out_everywhere(request: SignedIn) -> HttpResponse:
    ended = sessions.end(request.user, by=request.user.get_username())
    logout(request)
    said = "this browser" if ended == 1 else f"all {ended} browsers"
    messages.success(request, f"You are signed out in {said}.")
    return redirect("login")


class OwnPassword(PasswordChangeForm):
    """A wrong old password counts as a failed sign-in."""

    def __init__(self, *args: Any, request: HttpRequest, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.request = request

    def clean_old_password(self) -> str:
        given: str = self.cleaned_data["old_password"]
        if authenticate(self.request, username=self.user.get_username(), password=given) != self.user:
            raise ValidationError(self.error_messages["password_incorrect"], code="password_incorrect")
        return given


class ChangePassword(PasswordChangeView):
    form_class = OwnPassword
    template_name = "cleanup/account/change_password.html"
    success_url = reverse_lazy("account")

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "request": self.request}

    def form_valid(self, form: PasswordChangeForm) -> HttpResponse:
        answer = super().form_valid(form)
        user: Any = self.request.user
        sessions.end(user, by=user.get_username(), but=self.request.session.session_key)
        messages.success(self.request, "Your password is changed, and everywhere else you are signed out.")
        return answer
