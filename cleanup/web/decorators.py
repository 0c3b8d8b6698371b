"""The permissions of pages."""

from django.contrib.auth.decorators import permission_required

from cleanup.lab.people import permissions

may_look = permission_required(permissions.VIEW, raise_exception=True)
may_clear = permission_required(permissions.CLEAR, raise_exception=True)
may_hold = permission_required(permissions.HOLD, raise_exception=True)
may_audit = permission_required(permissions.AUDIT, raise_exception=True)

# At most this many runs are judged before a page is shown; the page says that the rest follows.
JUDGED_AT_ONCE = 300
