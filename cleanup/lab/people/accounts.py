"""Who sends a request: the account with its permissions and places, in one question to the database."""

import functools
from collections.abc import Iterator
from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Model, OuterRef, QuerySet, Subquery
from django.db.models.functions import JSONObject

from cleanup.models import Access
from cleanup.models.aggregates import JsonList

# Annotations of a user. Each request asks anew, as a person may lose what they say.
_OWN, _OF_GROUPS, _OWN_PLACES, _GROUP_PLACES = "asked_own", "asked_of_groups", "asked_places", "asked_group_places"
# Where Django's backend looks first.
_DJANGO_KEEPS = (("_user_perm_cache", _OWN), ("_group_perm_cache", _OF_GROUPS))

# (the user if it is the user's own, app, permission, root key, instrument)
PlaceRow = tuple[int | None, str | None, str | None, int | None, str]


class WholeAccount(ModelBackend):
    """Django's accounts; a request asks once for all that a page wants to know of its user."""

    def get_user(self, user_id: int) -> User | None:
        """The active user with this key, or None."""
        user = User.objects.annotate(**_asked()).filter(pk=user_id).first()
        return user if user is not None and self.user_can_authenticate(user) else None

    def _get_permissions(self, user_obj: User | AnonymousUser, obj: Model | None, from_name: str) -> set[str]:
        if user_obj.is_active and not user_obj.is_superuser:
            for kept, asked in _DJANGO_KEEPS:
                if kept not in vars(user_obj) and asked in vars(user_obj):
                    vars(user_obj)[kept] = {f"{row['app']}.{row['name']}" for row in _rows(user_obj, asked)}
        found: set[str] = super()._get_permissions(user_obj, obj, from_name)  # type: ignore[misc]  # not in the stubs
        return found


def places_of(user: User) -> list[PlaceRow] | None:
    """A user's places, those of a group once for each of its permissions; None if the request did not ask."""
    if not hasattr(user, _OWN_PLACES):  # a request wraps its user: only attributes lead through
        return None
    own: list[PlaceRow] = [(user.pk, None, None, row["root"], row["of"]) for row in _rows(user, _OWN_PLACES)]
    by_group: dict[int, list[tuple[int | None, str]]] = {}
    for row in _rows(user, _GROUP_PLACES):
        by_group.setdefault(row["group"], []).append((row["root"], row["of"]))
    return own + [
        (None, row["app"], row["name"], *place)
        for row in _rows(user, _OF_GROUPS)
        for place in by_group.get(row["group"], ())
    ]


def forget_places(user: User | AnonymousUser) -> None:
    """Forget what the request has asked of the user's places."""
    for name in (_OWN_PLACES, _GROUP_PLACES):
        if hasattr(user, name):
            delattr(user, name)


def _rows(user: User | AnonymousUser, asked: str) -> Iterator[dict[str, Any]]:
    """A group without permissions or places has a row of nothing."""
    name = "name" if asked in (_OWN, _OF_GROUPS) else "of"
    return (row for row in getattr(user, asked) or () if row[name] is not None)


@functools.cache
def _asked() -> dict[str, Subquery]:
    # Built once: building takes longer than the query.
    right = "permissions__content_type__app_label", "permissions__codename"
    of_groups = User.groups.through.objects.filter(user=OuterRef("pk")).order_by().values("user")
    own = User.user_permissions.through.objects.filter(user=OuterRef("pk")).order_by().values("user")
    places = Access.objects.filter(user=OuterRef("pk")).order_by().values("user")
    return {
        _OWN: _listed(own, app="permission__content_type__app_label", name="permission__codename"),
        _OF_GROUPS: _listed(of_groups, group="group", app=f"group__{right[0]}", name=f"group__{right[1]}"),
        _OWN_PLACES: _listed(places, root="root", of="equipment"),
        _GROUP_PLACES: _listed(
            of_groups, group="group", root="group__staging_access__root", of="group__staging_access__equipment"
        ),
    }


def _listed(rows: QuerySet[Any, Any], **columns: str) -> Subquery:
    return Subquery(rows.annotate(listed=JsonList(JSONObject(**columns))).values("listed"))
