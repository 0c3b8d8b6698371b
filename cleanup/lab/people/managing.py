"""What admins do to accounts; each act is noted, and one active admin always stays."""

import logging
import secrets
from collections.abc import Mapping
from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction

from cleanup.lab.people import roles, sessions
from cleanup.lab.people.roles import Role, Standing
from cleanup.models import AccountEvent, AccountNote, StagingRoot

logger = logging.getLogger(__name__)

LAST_ADMIN = "This is the last active admin. Make another one first."
_MOST_NAMED = 5


class WouldWiden(Exception):
    """Nothing was done: rights that the account has from elsewhere would hold at its new places, too."""


class LastAdmin(Exception):
    """Nothing was done: without this account there would be no active admin."""


def draw_password() -> str:
    """A password that is hard to guess and easy to type."""
    letters = "abcdefghjkmnpqrstvwxyz23456789"
    return "-".join("".join(secrets.choice(letters) for _ in range(4)) for _ in range(4))


def make(user: User, standing: Standing, *, actor: str, now: datetime) -> User:
    """Store an unsaved user, with its password set, and give it role and places."""
    with transaction.atomic():
        user.save()
        roles.lay(user, standing)
        _note(user, AccountEvent.MADE, actor, now, say_standing(standing, root_names()))
    return user


def change_role(user: User, standing: Standing, *, actor: str, now: datetime) -> None:
    """Give an account another role or other places. Raises LastAdmin, WouldWiden."""
    with transaction.atomic():
        if others := roles.widened(user, standing):
            raise WouldWiden(
                f"This account has {' and '.join(others)} besides, given in the admin pages. What that allows would "
                "hold at the new places, too, so nothing was changed. Take it away there first."
            )
        if standing.role is not Role.ADMIN:
            _expect_another_admin(user)
        roles.lay(user, standing)
        _note(user, AccountEvent.ROLE, actor, now, say_standing(standing, root_names()))


def set_password(user: User, password: str, *, actor: str, now: datetime, but: str | None = None) -> None:
    """Set a password and end the account's sessions, except the one with key `but`."""
    with transaction.atomic():
        user.set_password(password)
        user.save(update_fields=["password"])
        _note(user, AccountEvent.PASSWORD, actor, now)
    sessions.end(user, by=actor, but=but)


def deactivate(user: User, *, actor: str, now: datetime) -> None:
    """Keep an account from signing in, and end its sessions. Raises LastAdmin."""
    with transaction.atomic():
        _expect_another_admin(user)
        User.objects.filter(pk=user.pk).update(is_active=False)
        _note(user, AccountEvent.DEACTIVATED, actor, now)
    sessions.end(user, by=actor)


def activate(user: User, *, actor: str, now: datetime) -> None:
    """Let an account sign in again."""
    with transaction.atomic():
        User.objects.filter(pk=user.pk).update(is_active=True)
        _note(user, AccountEvent.ACTIVATED, actor, now)


def is_last_admin(user: User) -> bool:
    """Whether an account is the only active superuser, as it is now."""
    admins = User.objects.filter(is_superuser=True, is_active=True)
    return user.is_superuser and user.is_active and not admins.exclude(pk=user.pk).exists()


def root_names() -> dict[int, str]:
    """The names of all staging roots by key."""
    return dict(StagingRoot.objects.order_by("name").values_list("pk", "name"))


def say_standing(standing: Standing, names: Mapping[int, str]) -> str:
    """`operator at lab; FLOW_01 on east, also auditor`: role and places in words; `names`: of roots by key."""
    said = "no role" if standing.role is Role.NONE else standing.role.value
    if standing.is_placed:
        places = sorted(_say_place(names.get(key or 0), of) for key, of in standing.places)
        more = f" and {len(places) - _MOST_NAMED} more" if len(places) > _MOST_NAMED else ""
        said += f" at {'; '.join(places[:_MOST_NAMED])}{more}" if places else " at no place"
    elif standing.role in (Role.VIEWER, Role.OPERATOR):
        said += " everywhere"
    return f"{said}, also auditor" if standing.audits and standing.role is not Role.ADMIN else said


def _say_place(root: str | None, equipment: str) -> str:
    where = root or "every staging root"
    return f"{equipment} on {where}" if equipment else where


def _expect_another_admin(user: User) -> None:
    """All active admins are locked in one order: two that put each other out of use come one after the other."""
    admins = User.objects.select_for_update(no_key=True).filter(is_superuser=True, is_active=True).order_by("pk")
    keys = set(admins.values_list("pk", flat=True))
    if user.pk in keys and len(keys) == 1:
        raise LastAdmin(LAST_ADMIN)


def _note(user: User, event: AccountEvent, actor: str, now: datetime, detail: str = "") -> None:
    AccountNote.objects.create(account=user.get_username(), event=event, detail=detail[:1000], actor=actor, at=now)
    logger.info("%s: %s by %s%s", user.get_username(), event.label, actor, f" ({detail})" if detail else "")
