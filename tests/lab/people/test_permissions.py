"""Nothing without a place, and never more than both permission and place allow."""

import pytest
from django.contrib.auth.models import AnonymousUser, Group, Permission, User

from cleanup.lab.people import permissions as lab_permissions
from cleanup.lab.people.permissions import CLEAR, VIEW, Places
from cleanup.models import Access, Instrument, Run, StagingRoot

CONFOCAL, FLOW, PLATE = "CONFOCAL_01", "FLOW_01", "PLATE_READER_02"


@pytest.fixture
def places(db, now):
    made = {}
    for name in ("east", "west"):
        root = StagingRoot.objects.create(name=name, host="lab-pc", path=f"/srv/{name}")
        for equipment in (CONFOCAL, FLOW):
            Instrument.objects.create(root=root, equipment=equipment)
            made[name, equipment] = Run.objects.create(
                root=root,
                run_path=f"{equipment}/PROJ-0042/Runs/Run_2026-04-17T14-32",
                equipment=equipment,
                project="PROJ-0042",
                run_kind="experimental",
                leaf="Run_2026-04-17T14-32",
                first_seen_at=now,
            )
    return made


@pytest.fixture
def person(db):
    return User.objects.create_user("mkhan")


def permit(whom, *names):
    found = Permission.objects.filter(content_type__app_label="cleanup", codename__in=names)
    assert found.count() == len(names)
    (whom.user_permissions if isinstance(whom, User) else whom.permissions).add(*found)


def give(whom, root=None, equipment=""):
    whose = {"user": whom} if isinstance(whom, User) else {"group": whom}
    where = StagingRoot.objects.get(name=root) if root else None
    Access.objects.create(**whose, root=where, equipment=equipment)


def team(person, *permissions):
    group = Group.objects.create(name=f"team {Group.objects.count()}")
    permit(group, *permissions)
    group.user_set.add(person)
    return group


def seen(person, permission=VIEW):
    person = User.objects.get(pk=person.pk)  # what was asked before is remembered with the object
    found = {(run.root.name, run.equipment) for run in lab_permissions.runs(person, permission).select_related("root")}
    for run in Run.objects.select_related("root"):
        assert lab_permissions.may(person, permission, run) == ((run.root.name, run.equipment) in found)
    there = {(item.root.name, item.equipment) for item in lab_permissions.instruments(person, permission)}
    assert there == found
    assert {root.name for root in lab_permissions.roots(person, permission)} == {root for root, _ in found}
    return found


EVERYTHING = {(root, equipment) for root in ("east", "west") for equipment in (CONFOCAL, FLOW)}


def test_without_a_place_permissions_are_worth_nothing(places, person):
    permit(person, "view_run", "clear_run")
    assert seen(person) == seen(person, CLEAR) == set()


def test_without_a_permission_a_place_is_worth_nothing(places, person):
    give(person)
    assert seen(person) == seen(person, CLEAR) == set()


def test_a_place_everywhere(places, person):
    permit(person, "view_run", "clear_run")
    give(person)
    assert seen(person) == seen(person, CLEAR) == EVERYTHING


@pytest.mark.parametrize(
    ("root", "equipment", "expected"),
    [
        ("east", "", {("east", CONFOCAL), ("east", FLOW)}),
        ("east", FLOW, {("east", FLOW)}),
        (None, FLOW, {("east", FLOW), ("west", FLOW)}),
        ("east", PLATE, set()),
        (None, PLATE, set()),
    ],
)
def test_a_narrower_place(places, person, root, equipment, expected):
    permit(person, "view_run", "clear_run")
    give(person, root, equipment)
    permission_there = {"east"} if root else set()
    if expected:
        assert seen(person) == seen(person, CLEAR) == expected
    else:
        assert set(lab_permissions.runs(person)) == set()
        assert {root.name for root in lab_permissions.roots(person)} == permission_there


def test_several_places_add_up(places, person):
    permit(person, "view_run")
    give(person, "east", CONFOCAL)
    give(person, "east", FLOW)
    give(person, None, FLOW)
    assert seen(person) == {("east", CONFOCAL), ("east", FLOW), ("west", FLOW)}


def test_a_group_has_its_place_for_its_own_permissions_alone(places, person):
    give(team(person, "view_run"))
    give(team(person, "view_run", "clear_run"), "west")
    assert seen(person) == EVERYTHING
    assert seen(person, CLEAR) == {("west", CONFOCAL), ("west", FLOW)}


def test_a_permission_from_one_group_finds_no_place_in_another(places, person):
    give(team(person, "view_run"))
    team(person, "clear_run")
    assert seen(person, CLEAR) == set()


def test_another_group_gives_nothing(places, person):
    other = User.objects.create_user("jlee")
    give(team(other, "view_run", "clear_run"))
    permit(person, "view_run")
    assert seen(person) == set()
    assert seen(other) == EVERYTHING


def test_another_users_place_gives_nothing(places, person):
    other = User.objects.create_user("jlee")
    for one in (person, other):
        permit(one, "view_run")
    give(other, "east")
    assert seen(person) == set()


def test_a_place_of_ones_own_counts_for_what_ones_groups_may(places, person):
    team(person, "view_run", "clear_run")
    give(person, "east", FLOW)
    assert seen(person) == seen(person, CLEAR) == {("east", FLOW)}


def test_looking_everywhere_and_clearing_on_one_instrument(places, person):
    give(team(person, "view_run"))
    permit(person, "clear_run")
    give(person, "east", FLOW)
    assert seen(person) == EVERYTHING
    assert seen(person, CLEAR) == {("east", FLOW)}


def test_what_cannot_be_seen_cannot_be_cleared(places, person):
    give(team(person, "view_run"), None, FLOW)
    give(team(person, "clear_run"), "east")
    assert seen(person, CLEAR) == {("east", FLOW)}
    give(team(person, "clear_run"))
    assert seen(person, CLEAR) == {("east", FLOW), ("west", FLOW)}


def test_clearing_without_looking_is_nothing(places, person):
    permit(person, "clear_run")
    give(person)
    assert seen(person, CLEAR) == set()


def test_a_permission_of_another_app_with_the_same_name_is_another(places, person):
    from django.contrib.contenttypes.models import ContentType

    other = ContentType.objects.get(app_label="auth", model="user")
    group = Group.objects.create(name="strangers")
    group.permissions.add(Permission.objects.create(content_type=other, codename="view_run", name="Can look"))
    group.user_set.add(person)
    give(group)
    assert seen(person) == set()


def test_a_superuser_needs_no_place(places):
    boss = User.objects.create_superuser("boss")
    assert seen(boss) == seen(boss, CLEAR) == EVERYTHING


def test_an_inactive_user_may_do_nothing(places, person):
    permit(person, "view_run")
    give(person)
    boss = User.objects.create_superuser("boss")
    User.objects.update(is_active=False)
    assert seen(person) == seen(boss) == set()


def test_an_anonymous_user_may_do_nothing(places):
    assert list(lab_permissions.runs(AnonymousUser())) == list(lab_permissions.roots(AnonymousUser())) == []
    assert lab_permissions.places(AnonymousUser(), VIEW).nowhere


def test_the_groups_of_the_product_may_everywhere(places, person):
    person.groups.add(Group.objects.get(name="viewer"))
    assert (seen(person), seen(person, CLEAR)) == (EVERYTHING, set())
    person.groups.add(Group.objects.get(name="operator"))
    assert seen(person, CLEAR) == EVERYTHING


def test_places_are_asked_for_once(places, person, django_assert_num_queries):
    permit(person, "view_run", "clear_run")
    give(person, "east")
    person = User.objects.get(pk=person.pk)
    assert lab_permissions.may(person, CLEAR, places["east", FLOW])
    with django_assert_num_queries(0):
        assert lab_permissions.may(person, CLEAR, places["east", CONFOCAL])
        assert not lab_permissions.may(person, CLEAR, places["west", CONFOCAL])
        assert not lab_permissions.may(person, VIEW, places["west", CONFOCAL])
    with django_assert_num_queries(1):
        assert len(lab_permissions.runs(person, CLEAR)) == 2


def test_thousands_of_places_are_one_condition(places, person, django_assert_num_queries):
    permit(person, "view_run")
    east = StagingRoot.objects.get(name="east")
    names = [f"{FLOW}_{number}" for number in range(1500)]
    Access.objects.bulk_create([Access(user=person, equipment=name) for name in names])
    Access.objects.bulk_create([Access(user=person, root=east, equipment=name) for name in [*names, FLOW]])
    assert not lab_permissions.places(person, VIEW).everywhere
    with django_assert_num_queries(1):
        assert [run.equipment for run in lab_permissions.runs(person)] == [FLOW]
    with django_assert_num_queries(1):
        assert list(lab_permissions.roots(person)) == [east]


def test_what_has_no_instrument_is_seen_with_one_of_its_root(places, person):
    """Passes and breakers belong to a whole staging root."""
    permit(person, "view_run")
    east = StagingRoot.objects.get(name="east")
    Instrument.objects.filter(equipment=FLOW).exclude(root=east).delete()
    give(person, None, FLOW)
    condition = lab_permissions.places(person, VIEW).q(root="pk", equipment="")
    assert list(StagingRoot.objects.filter(condition)) == [east]


def test_everywhere_and_nowhere():
    nowhere = Places(everywhere=False)
    assert nowhere.nowhere
    assert not nowhere.include(1, FLOW)
    everywhere = Places(everywhere=True)
    assert everywhere.include(1, FLOW)
    assert everywhere.include(None, "")
    one = Places(everywhere=False, pairs=frozenset({(1, FLOW)}))
    assert one.include(1, FLOW)
    assert not one.include(1, "")  # every instrument of the root
    assert not one.include(None, FLOW)  # that instrument on every root
    assert not one.include(2, FLOW)
