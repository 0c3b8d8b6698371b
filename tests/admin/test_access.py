"""The admin's pages for permissions, places and instruments."""

import uuid

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse

from cleanup.lab.people import permissions as lab_permissions
from cleanup.models import Access, ClearBatch, DiskUsage, Instrument, Project, StagingRoot

pytestmark = pytest.mark.one_engine


@pytest.fixture
def instrument(db, now):
    root = StagingRoot.objects.create(name="east", host="lab-pc", path="/srv/east", token="t", discovered_at=now)
    return Instrument.objects.create(root=root, equipment="FLOW_01")


def staff(*permissions):
    person = User.objects.create_user("clerk", is_staff=True)
    person.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    Access.objects.create(user=person)
    client = Client()
    client.force_login(person)
    return client


def test_an_operator_gets_one_instrument(people, instrument):
    """As docs/admin.md says: view everywhere, clear on one instrument."""
    mkhan = User.objects.create_user("mkhan")
    mkhan.groups.add(Group.objects.get(name="viewer"))
    mkhan.user_permissions.add(Permission.objects.get(codename="clear_run"))
    form = {"user": mkhan.pk, "group": "", "root": instrument.root.pk, "equipment": "FLOW_01"}
    answer = people.admin.post(reverse("admin:cleanup_access_add"), form)
    assert answer.status_code == 302
    mkhan = User.objects.get(pk=mkhan.pk)
    assert lab_permissions.places(mkhan, lab_permissions.VIEW).everywhere
    assert lab_permissions.places(mkhan, lab_permissions.CLEAR).pairs == {(instrument.root.pk, "FLOW_01")}
    (logged,) = LogEntry.objects.all()
    assert (logged.user.username, logged.object_repr) == ("admin", "mkhan: FLOW_01 on east")
    assert "FLOW_01 on east" in people.admin.get(reverse("admin:admin_logentry_changelist")).content.decode()


@pytest.mark.parametrize(
    ("form", "complaint"),
    [
        ({}, "Name either a user or a group."),
        ({"user": "admin", "group": "operator"}, "Name either a user or a group."),
        ({"group": "operator", "equipment": "FLOW_O1"}, "FLOW_O1 is not one of the available choices"),
        ({"group": "operator"}, "There is such a row already."),
    ],
)
def test_a_place_that_would_mean_nothing_is_refused(people, instrument, form, complaint):
    keys = {"user": User.objects.get, "group": Group.objects.get}
    before = Access.objects.count()
    sent = {
        "user": keys["user"](username=form["user"]).pk if "user" in form else "",
        "group": keys["group"](name=form["group"]).pk if "group" in form else "",
        "root": "",
        "equipment": form.get("equipment", ""),
    }
    answer = people.admin.post(reverse("admin:cleanup_access_add"), sent)
    assert answer.status_code == 200
    assert complaint in answer.content.decode()
    assert Access.objects.count() == before


def test_a_place_of_an_instrument_that_is_no_more_can_still_be_changed(people, instrument):
    place = Access.objects.create(group=Group.objects.get(name="viewer"), equipment="OLD_01")
    address = reverse("admin:cleanup_access_change", args=[place.pk])
    assert "OLD_01" in people.admin.get(address).content.decode()
    form = {"user": "", "group": place.group.pk, "root": instrument.root.pk, "equipment": "OLD_01"}
    assert people.admin.post(address, form).status_code == 302
    assert Access.objects.get(pk=place.pk).root == instrument.root


def test_places_are_for_those_who_may_give_them(instrument):
    client = staff("view_run", "clear_run")
    assert client.get(reverse("admin:cleanup_access_changelist")).status_code == 403
    assert client.post(reverse("admin:cleanup_access_add"), {}).status_code == 403


def test_a_bench_page_can_be_made_public(people, instrument):
    address = reverse("admin:cleanup_instrument_change", args=[instrument.pk])
    text = people.admin.get(address).content.decode()
    assert reverse("bench", args=[instrument.token]) in text
    assert people.nobody.get(reverse("bench", args=[instrument.token])).status_code == 302
    assert people.admin.post(address, {"public": "on", "equipment": "X", "token": str(uuid.uuid4())}).status_code == 302
    changed = Instrument.objects.get()
    assert (changed.public, changed.equipment, changed.token) == (True, "FLOW_01", instrument.token)
    assert people.nobody.get(reverse("bench", args=[instrument.token])).status_code == 200
    assert LogEntry.objects.get().object_repr == "FLOW_01 on east"


def test_a_new_address_ends_the_printed_codes(people, instrument):
    Instrument.objects.update(public=True)
    chosen = {"action": "give_new_address", "_selected_action": [str(instrument.pk)]}
    people.admin.post(reverse("admin:cleanup_instrument_changelist"), chosen)
    assert Instrument.objects.get().token != instrument.token
    assert people.nobody.get(reverse("bench", args=[instrument.token])).status_code == 404
    assert "new address" in LogEntry.objects.get().change_message


def test_an_instrument_is_changed_only_with_permission(instrument, now):
    client = staff("view_instrument")
    other = StagingRoot.objects.create(name="west", host="lab-pc", path="/srv/west", token="u")
    mine = Instrument.objects.create(root=other, equipment="FLOW_01")
    group = Group.objects.create(name="keepers")
    group.permissions.set(Permission.objects.filter(codename__in=["view_instrument", "change_instrument"]))
    group.user_set.add(User.objects.get(username="clerk"))
    Access.objects.filter(user__username="clerk").delete()
    Access.objects.create(group=group, root=other)
    change = "admin:cleanup_instrument_change"
    assert client.post(reverse(change, args=[mine.pk]), {"public": "on"}).status_code == 302
    client.post(reverse(change, args=[instrument.pk]), {"public": "on"})
    chosen = {"action": "give_new_address", "_selected_action": [str(instrument.pk)]}
    client.post(reverse("admin:cleanup_instrument_changelist"), chosen)
    assert Instrument.objects.get(pk=mine.pk).public
    untouched = Instrument.objects.get(pk=instrument.pk)
    assert (untouched.public, untouched.token) == (False, instrument.token)


def test_what_records_the_past_is_shown_and_never_changed(people, instrument, now):
    rows = [
        Project.objects.create(code="PROJ-0042", title="Cortex\u202e"),
        DiskUsage.objects.create(root=instrument.root, at=now, total_bytes=2_000_000_000, free_bytes=1_000_000_000),
        ClearBatch.objects.create(actor="mkhan", digest="0" * 64, created_at=now, note="disk is full"),
    ]
    for row in rows:
        name = f"admin:cleanup_{row._meta.model_name}"
        listed = people.admin.get(reverse(f"{name}_changelist"))
        assert listed.status_code == 200
        assert "\u202e" not in listed.content.decode()
        assert people.admin.post(reverse(f"{name}_add"), {}).status_code == 403
        assert people.admin.post(reverse(f"{name}_change", args=[row.pk]), {}).status_code == 403
        assert people.admin.post(reverse(f"{name}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
    assert people.admin.get(reverse("admin:admin_logentry_add")).status_code == 403
