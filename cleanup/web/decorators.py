"""The permissions of pages."""

from django.contrib.auth.decorators import permission_required, user_passes_test
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied

from cleanup.lab.people import permissions

may_look = permission_required(permissions.VIEW, raise_exception=True)
may_clear = permission_required(permissions.CLEAR, raise_exception=True)
may_hold = permission_required(permissions.HOLD, raise_exception=True)
may_audit = permission_required(permissions.AUDIT, raise_exception=True)


def _sees_receipts(user: User | AnonymousUser) -> bool:
    if not (user.has_perm(permissions.VIEW) or user.has_perm(permissions.AUDIT)):
        raise PermissionDenied
    return True


def _manages_roots(user: User | AnonymousUser) -> bool:
    if not permissions.manages_roots(user):
        raise PermissionDenied
    return True


may_manage_roots = user_passes_test(_manages_roots)


def _is_admin(user: User | AnonymousUser) -> bool:
    if user.is_authenticated and not user.is_superuser:
        raise PermissionDenied
    return user.is_authenticated


# Who makes accounts and gives rights could give them to anyone: superusers alone.
admins_only = user_passes_test(_is_admin)
may_see_receipts = user_passes_test(_sees_receipts)

# At most this many runs are judged before a page is shown; the page says that the rest follows.
JUDGED_AT_ONCE = 300
