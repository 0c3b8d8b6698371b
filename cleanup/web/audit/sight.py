"""What a user may see in the pictures: an auditor everything, a viewer what lies in their places."""

from dataclasses import dataclass

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet

from cleanup.lab.people import permissions
from cleanup.lab.people.permissions import Places
from cleanup.models import Run, RunQuerySet, StagingRoot


@dataclass(frozen=True)
class Sight:
    """`audits`: also what was freed everywhere."""

    audits: bool
    places: Places
    runs: RunQuerySet
    roots: "QuerySet[StagingRoot]"


def sight_of(user: User) -> Sight:
    """Return what a user sees. Raises PermissionDenied for users who neither audit nor view."""
    if user.has_perm(permissions.AUDIT):
        return Sight(True, Places(everywhere=True), Run.objects.all(), StagingRoot.objects.all())
    if not user.has_perm(permissions.VIEW):
        raise PermissionDenied
    places = permissions.places(user, permissions.VIEW)
    return Sight(False, places, permissions.runs(user), permissions.roots(user))
