"""Who may come to a page, and how much is judged before it is shown."""

from django.contrib.auth.decorators import permission_required

from cleanup.lab import permissions

may_look = permission_required(permissions.VIEW, raise_exception=True)
may_clear = permission_required(permissions.CLEAR, raise_exception=True)
may_hold = permission_required(permissions.HOLD, raise_exception=True)

# So many runs are judged before a page is shown; of what is left the page says that it is on its way.
JUDGED_AT_ONCE = 300
