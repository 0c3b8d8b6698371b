"""Accounts on the page: role and places, passwords, and the last admin."""

import re
from datetime import datetime
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth import authenticate
from django.contrib.auth.models import Group, Permission, User

from cleanup.lab.people import permissions, roles, sessions
from cleanup.lab.people.roles import Role
from cleanup.models import AccountNote, Instrument, StagingRoot
from tests.tools.pages import EXTRA, SAFE

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

OWN = {"own_password": "admin"}


def add(people: Any, **form: Any) -> Any:
    sent = {"username": "ada", "role": "viewer", "where": "everywhere", **OWN, **form}
    return people.admin.post("/people/add/", sent)


def change(people: Any, name: str, form: str, **sent: Any) -> Any:
    return people.admin.post(f"/people/{User.objects.get(username=name).pk}/", {"form": form, **OWN, **sent})


def text_of(answer: Any) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())


def test_an_operator_of_one_instrument_clears_there_and_nowhere_else(people: Any, runs: Any, root: StagingRoot) -> None:
    place = f"{root.pk}:CONFOCAL_01"
    assert f"CONFOCAL_01 on {root.name}" in text_of(people.admin.get("/people/add/"))
    answer = add(people, role="operator", where="places", places=[place], new_password="a-first-password-42")
    assert answer.status_code == 302
    ada = User.objects.get(username="ada")
    assert permissions.may(ada, permissions.CLEAR, runs[SAFE])
    assert not permissions.may(ada, permissions.CLEAR, runs[EXTRA])
    assert not permissions.may(ada, permissions.VIEW, runs[EXTRA])
    assert authenticate(None, username="ada", password="a-first-password-42") == ada
    shown = text_of(people.admin.get("/people/"))
    assert "operator at CONFOCAL_01 on lab" in shown
    assert "ada : made by admin" in shown
    change(people, "ada", "role", role="viewer", where="everywhere", audits="on")
    ada = User.objects.get(username="ada")
    assert permissions.may(ada, permissions.VIEW, runs[EXTRA])
    assert not permissions.may(ada, permissions.CLEAR, runs[SAFE])
    assert ada.has_perm(permissions.AUDIT)


def test_the_groups_of_own_places_keep_the_rights_of_their_roles(people: Any, root: StagingRoot) -> None:
    Instrument.objects.create(root=root, equipment="NEW_01")
    add(people, role="operator", where="places", places=[f"{root.pk}:"])
    Group.objects.get(name="operator").permissions.add(Permission.objects.get(codename="accept_bytes"))
    assert not User.objects.get(username="ada").has_perm(permissions.ACCEPT)
    roles.keep_alike()
    assert User.objects.get(username="ada").has_perm(permissions.ACCEPT)


def test_where_a_lab_has_narrowed_its_groups_everywhere_still_is_everywhere(people: Any, runs: Any) -> None:
    Group.objects.get(name="operator").staging_access.all().delete()
    add(people, role="operator")
    assert permissions.may(User.objects.get(username="ada"), permissions.CLEAR, runs[SAFE])


def test_a_password_that_is_made_is_shown_once_and_ends_sessions(people: Any) -> None:
    shown = add(people)
    found = re.search(r'<code id="password">([\w-]{19})</code>', shown.content.decode())
    assert shown.status_code == 200
    assert found
    assert authenticate(None, username="ada", password=found[1]) == User.objects.get(username="ada")
    assert sessions.count(User.objects.get(username="operator")) == 1
    again = change(people, "operator", "password", new_password="")
    assert "It is shown only here" in text_of(again)
    assert sessions.count(User.objects.get(username="operator")) == 0
    assert found[1] not in str(list(AccountNote.objects.values()))


def test_an_admin_who_changes_the_own_password_stays_signed_in(people: Any) -> None:
    assert change(people, "admin", "password", new_password="another-one-42").status_code == 302
    assert people.admin.get("/people/").status_code == 200


def test_a_deactivated_account_is_out_at_once_and_comes_back(people: Any) -> None:
    assert change(people, "operator", "active", to="inactive").status_code == 302
    assert people.operator.get("/").status_code == 302
    assert not User.objects.get(username="operator").is_active
    change(people, "operator", "active", to="inactive")  # from another tab: it does not come back by that
    assert not User.objects.get(username="operator").is_active
    change(people, "operator", "active", to="active")
    assert User.objects.get(username="operator").is_active
    events = list(AccountNote.objects.order_by("pk").values_list("account", "event", "actor"))
    assert events[0] == ("operator", "deactivated", "admin")
    assert events[-1] == ("operator", "activated", "admin")


@pytest.mark.parametrize("sent", [{"form": "active", "to": "inactive"}, {"form": "role", "role": "viewer"}])
def test_the_last_active_admin_stays(people: Any, sent: dict[str, str]) -> None:
    other = User.objects.create_superuser("former", is_active=False)
    answer = change(people, "admin", sent["form"], where="everywhere", **{k: v for k, v in sent.items() if k != "form"})
    assert answer.status_code == 422
    assert "last active admin" in text_of(answer)
    admin = User.objects.get(username="admin")
    assert (admin.is_active, admin.is_superuser) == (True, True)
    assert not AccountNote.objects.exists()
    User.objects.filter(pk=other.pk).update(is_active=True)
    sent = {**sent, "where": "everywhere"}
    assert change(people, "admin", sent.pop("form"), **sent).status_code == 302


def test_each_change_asks_for_the_own_password(people: Any, now: datetime) -> None:
    for answer in (
        add(people, own_password="wrong"),
        change(people, "operator", "role", role="admin", where="everywhere", own_password="wrong"),
        change(people, "operator", "password", new_password="a-good-one-42", own_password=""),
        change(people, "operator", "active", to="inactive", own_password="wrong"),
    ):
        assert answer.status_code == 422
    assert not User.objects.filter(username="ada").exists()
    operator = User.objects.get(username="operator")
    assert (operator.is_superuser, operator.is_active, operator.check_password("operator")) == (False, True, True)
    assert AccessAttempt.objects.get().failures_since_start == 3
    assert not AccountNote.objects.exists()


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"username": "Operator"}, "There is an account with this name"),
        ({"username": "a b"}, "Enter a valid username"),
        ({"new_password": "12345678"}, "too common"),
        ({"where": "places"}, "Choose at least one place"),
        ({"where": "places", "places": ["99:"]}, "not one of the available choices"),
        ({"role": "root"}, "not one of the available choices"),
    ],
)
def test_bad_input_is_a_form_error(people: Any, form: dict[str, Any], said: str) -> None:
    answer = add(people, **form)
    assert (answer.status_code, said in text_of(answer)) == (422, True)
    assert not User.objects.filter(username="ada").exists()


def test_what_was_given_elsewhere_stays_and_is_said(people: Any, runs: Any, root: StagingRoot) -> None:
    keeper = User.objects.create_user("keeper")
    keeper.groups.add(Group.objects.get(name="viewer"))
    keeper.user_permissions.add(Permission.objects.get(codename="clear_run"))
    keeper.staging_access.create(root=root, equipment="CONFOCAL_01")
    assert "1 right of its own" in text_of(people.admin.get(f"/people/{keeper.pk}/"))
    change(people, "keeper", "role", role="viewer", where="everywhere", audits="on")
    keeper = User.objects.get(username="keeper")
    assert permissions.may(keeper, permissions.CLEAR, runs[SAFE])
    assert roles.standing_of(roles.people().get(username="keeper")).role is Role.VIEWER


def test_rights_from_elsewhere_get_no_new_places(people: Any, runs: Any, root: StagingRoot) -> None:
    """An account's own places count for all of its rights: a viewer here would clear, as the other group may."""
    east = StagingRoot.objects.create(name="east", host="east-pc", path="/srv/east", token="t")
    clearers = Group.objects.create(name="east clearers")
    clearers.permissions.set(Permission.objects.filter(codename__in=["view_run", "clear_run"]))
    clearers.staging_access.create(root=east)
    ada = User.objects.create_user("ada")
    ada.groups.add(clearers)
    for where in ({"where": "places", "places": [f"{root.pk}:"]}, {"where": "everywhere"}):
        Group.objects.get(name="viewer").staging_access.all().delete()
        answer = change(people, "ada", "role", role="viewer", **where)
        assert (answer.status_code, "the group east clearers besides" in text_of(answer)) == (422, True)
        assert not permissions.may(User.objects.get(pk=ada.pk), permissions.CLEAR, runs[SAFE])
    assert not AccountNote.objects.exists()
    assert change(people, "ada", "role", role="operator", where="places", places=[f"{root.pk}:"]).status_code == 302
    assert permissions.may(User.objects.get(pk=ada.pk), permissions.CLEAR, runs[SAFE])
