"""The roles of people: groups that say what they may do, and the places where."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from django.contrib.auth.models import Group, Permission, User
from django.db import connections
from django.db.models import QuerySet

from cleanup.models import Access


class Role(enum.StrEnum):
    """What an account may do; each but the first and the last is a group of this name."""

    NONE = "none"
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


AUDITOR = "auditor"
_OUR_APP = Access._meta.app_label
# Who acts at some places only is in a group of the same rights that has no places of its own: those of the group
# would count as well.
_PLACED = {Role.VIEWER: "viewer at own places", Role.OPERATOR: "operator at own places"}
_OURS = frozenset({*Role, AUDITOR, *_PLACED.values()})
# (root key or None for every root, instrument or empty for every instrument)
Place = tuple[int | None, str]
EVERYWHERE: Place = (None, "")


@dataclass(frozen=True)
class Standing:
    """What an account may do where. `audits`: it sees what was freed; `other_groups`, `own_rights`: given elsewhere."""

    role: Role
    audits: bool = False
    everywhere: bool = True
    places: frozenset[Place] = frozenset()
    other_groups: tuple[str, ...] = ()
    own_rights: int = 0

    @property
    def is_placed(self) -> bool:
        return self.role in _PLACED and not self.everywhere


def people() -> QuerySet[User]:
    """All accounts by name, with what `standing_of` asks for: three questions more."""
    return User.objects.order_by("username").prefetch_related("groups", "user_permissions", "staging_access")


def standing_of(user: User) -> Standing:
    """How an account of `people` stands."""
    names = {group.name for group in user.groups.all()}
    own = frozenset((row.root_id, row.equipment) for row in user.staging_access.all())
    role = _role_among(names) if not user.is_superuser else Role.ADMIN
    return Standing(
        role=role,
        audits=user.is_superuser or AUDITOR in names,
        everywhere=role not in _PLACED or role in names or EVERYWHERE in own,
        places=own - {EVERYWHERE},
        other_groups=tuple(sorted(names - _OURS)),
        own_rights=len(user.user_permissions.all()),
    )


def lay(user: User, wanted: Standing) -> None:
    """Give an account a role with its places. Groups and rights that were given elsewhere stay. In a transaction."""
    was_admin, user.is_superuser = user.is_superuser, wanted.role is Role.ADMIN
    if user.is_superuser or was_admin:
        user.is_staff = user.is_superuser
    user.save(update_fields=["is_superuser", "is_staff"])
    user.groups.remove(*user.groups.filter(name__in=_OURS))
    for group in _groups(wanted):
        user.groups.add(group)
    if wanted.is_placed or not (user.user_permissions.exists() or user.groups.exclude(name__in=_OURS).exists()):
        user.staging_access.all().delete()  # else they may belong to what was given elsewhere
    rows = [Access(user=user, root_id=root, equipment=equipment) for root, equipment in sorted(_own(wanted), key=str)]
    Access.objects.bulk_create(rows, ignore_conflicts=True)


def widened(user: User, wanted: Standing) -> list[str]:
    """Where rights that were given elsewhere come from, if they would hold at places that `lay` gives anew.

    An account's own places count for all of its rights, so a viewer might clear there.
    """
    known = set(user.staging_access.values_list("root", "equipment")) if user.pk else set()
    if _own(wanted) <= known:
        return []
    of_role = Permission.objects.filter(group__name=wanted.role.value, content_type__app_label=_OUR_APP)
    beyond = Permission.objects.filter(content_type__app_label=_OUR_APP).exclude(pk__in=of_role.values("pk"))
    groups = user.groups.exclude(name__in=_OURS).filter(permissions__in=beyond).order_by("name").distinct()
    found = [f"the group {name}" for name in groups.values_list("name", flat=True)]
    return [*found, "rights of its own"] if user.user_permissions.filter(pk__in=beyond).exists() else found


def keep_alike(*, using: str = "default", **kwargs: object) -> None:
    """Let the groups of people with own places have the rights of their roles; handles `post_migrate`, repeatable."""
    if Group._meta.db_table not in connections[using].introspection.table_names():
        return  # only one app was migrated
    found = {group.name: group for group in Group.objects.using(using).filter(name__in=_OURS)}
    for role, name in _PLACED.items():
        if role in found and name in found:
            found[name].permissions.set(found[role].permissions.all())


def _role_among(names: Iterable[str]) -> Role:
    found = set(names)
    for role in (Role.OPERATOR, Role.VIEWER):
        if {role.value, _PLACED[role]} & found:
            return role
    return Role.NONE


def _groups(wanted: Standing) -> list[Group]:
    groups = []
    if wanted.role in _PLACED:
        group, _new = Group.objects.get_or_create(name=wanted.role.value)
        if wanted.is_placed:
            placed, _new = Group.objects.get_or_create(name=_PLACED[wanted.role])
            placed.permissions.set(group.permissions.all())
            group = placed
        groups.append(group)
    if wanted.audits and wanted.role is not Role.ADMIN:
        groups.append(Group.objects.get_or_create(name=AUDITOR)[0])
    return groups


def _own(wanted: Standing) -> set[Place]:
    """The lines that an account needs of its own: a lab may have narrowed those of the groups."""
    if wanted.role not in _PLACED:
        return set()
    if wanted.is_placed:
        return set(wanted.places)
    return (
        set()
        if Access.objects.filter(group__name=wanted.role.value, root=None, equipment="").exists()
        else {EVERYWHERE}
    )
