"""The pages of accounts: list, add, and change one. For admins alone."""

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from cleanup.lab.people import managing, roles
from cleanup.lab.people.managing import LastAdmin, WouldWiden
from cleanup.lab.people.roles import Role, Standing
from cleanup.models import AccountNote
from cleanup.text.values import visible
from cleanup.web.decorators import admins_only
from cleanup.web.people.forms import AccountActForm, AddPersonForm, NewPasswordForm, RoleForm
from cleanup.web.requests import SignedIn

PAGE_SIZE = 50
# So many acts are told below the list, and on the page of one account.
NOTES = 20
_FORMS = ("role", "password", "active")
hide_passwords = sensitive_post_parameters("own_password", "new_password")


@require_safe
@admins_only
def people_list(request: SignedIn) -> HttpResponse:
    page = Paginator(roles.people(), PAGE_SIZE).get_page(request.GET.get("page"))
    names = managing.root_names()
    lines = [(user, managing.say_standing(roles.standing_of(user), names)) for user in page]
    context = {"page": page, "lines": lines, "notes": AccountNote.objects.all()[:NOTES], "now": timezone.now()}
    return render(request, "cleanup/people/list.html", context)


@hide_passwords
@require_http_methods(["GET", "HEAD", "POST"])
@admins_only
def add_person(request: SignedIn) -> HttpResponse:
    data = request.POST if request.method == "POST" else None
    form = AddPersonForm(data, request=request, standing=Standing(Role.VIEWER), names=managing.root_names())
    if not form.is_valid():
        return render(request, "cleanup/people/add.html", {"form": form}, status=422 if form.is_bound else 200)
    given = form.cleaned_data
    user = User(username=given["username"], email=given["email"])
    password = given["new_password"] or managing.draw_password()
    user.set_password(password)
    managing.make(user, form.standing, actor=request.user.get_username(), now=timezone.now())
    if not given["new_password"]:
        return _show_password(request, user, password, is_new=True)
    messages.success(request, f"The account {visible(user.get_username())} was made.")
    return redirect("people")


@hide_passwords
@require_http_methods(["GET", "HEAD", "POST"])
@admins_only
def person(request: SignedIn, pk: int) -> HttpResponse:
    """Three forms: role and places, password, and whether the account may sign in."""
    user = get_object_or_404(roles.people(), pk=pk)
    standing, names = roles.standing_of(user), managing.root_names()
    forms = _forms(request, user, standing, names)
    bound = next((name for name, form in forms.items() if form.is_bound), "")
    if bound and forms[bound].is_valid():
        try:
            if answer := _act(request, user, bound, forms[bound]):
                return answer
        except (LastAdmin, WouldWiden) as error:
            forms[bound].add_error(None, visible(error))
        else:
            return redirect("person", pk=pk)
    context = {
        "person": user,
        "standing": standing,
        "said": managing.say_standing(standing, names),
        "is_last_admin": managing.is_last_admin(user),
        "notes": AccountNote.objects.filter(account=user.get_username())[:NOTES],
        "forms": forms,
        "now": timezone.now(),
    }
    return render(request, "cleanup/people/person.html", context, status=422 if bound else 200)


def _forms(request: SignedIn, user: User, standing: Standing, names: Mapping[int, str]) -> dict[str, AccountActForm]:
    """By name; the one that was sent is bound."""
    sent = request.POST.get("form", "") if request.method == "POST" else ""
    data: dict[str, Any] = {name: request.POST if sent == name else None for name in _FORMS}
    return {
        "role": RoleForm(
            data["role"], standing=standing, names=names, email=user.email, request=request, auto_id="role-%s"
        ),
        "password": NewPasswordForm(data["password"], person=user, request=request, auto_id="password-%s"),
        "active": AccountActForm(data["active"], request=request, auto_id="active-%s"),
    }


def _act(request: SignedIn, user: User, name: str, form: AccountActForm) -> HttpResponse | None:
    """Returns a page only where a password has to be shown. Raises LastAdmin, WouldWiden."""
    by: dict[str, Any] = {"actor": request.user.get_username(), "now": timezone.now()}
    said = visible(user.get_username())
    if isinstance(form, RoleForm):
        managing.change_role(user, form.standing, **by)
        User.objects.filter(pk=user.pk).update(email=form.cleaned_data["email"])
        messages.success(request, f"{said}: {managing.say_standing(form.standing, managing.root_names())}.")
    elif isinstance(form, NewPasswordForm):
        return _set_password(request, user, form.cleaned_data["new_password"], by)
    elif request.POST.get("to") == "inactive":  # said by name: another tab may have done it already
        managing.deactivate(user, **by)
        messages.success(request, f"{said} cannot sign in any more, and is signed out everywhere.")
    else:
        managing.activate(user, **by)
        messages.success(request, f"{said} can sign in again.")
    return None


def _set_password(request: SignedIn, user: User, typed: str, by: dict[str, Any]) -> HttpResponse | None:
    password = typed or managing.draw_password()
    managing.set_password(user, password, but=request.session.session_key, **by)
    if user.pk == request.user.pk:
        update_session_auth_hash(request, user)
    if not typed:
        return _show_password(request, user, password, is_new=False)
    messages.success(request, f"{visible(user.get_username())} has a new password, and is signed out everywhere.")
    return None


def _show_password(request: SignedIn, user: User, password: str, *, is_new: bool) -> HttpResponse:
    """Once, in this answer; it is stored nowhere."""
    context = {"person": user, "password": password, "is_new": is_new}
    return render(request, "cleanup/people/password.html", context)
