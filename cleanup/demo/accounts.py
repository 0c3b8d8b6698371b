"""The demo's accounts: made once, their passwords told once."""

import secrets
from collections.abc import Iterable
from pathlib import Path

from django.contrib.auth.models import Group, User
from django.db import transaction

NAMES = ("admin", "operator", "viewer", "auditor")
# The last name of an account that the demo has made; no other one is changed.
MARK = "(demo)"
# An earlier version kept the passwords here.
_KEPT_BEFORE = "passwords.txt"


def make(base: Path) -> dict[str, str]:
    """Make the accounts that are missing; return the passwords of these by name. They are kept nowhere."""
    with transaction.atomic():
        kept = _mark_former(base)
        missing = [name for name in NAMES if not User.objects.filter(username=name).exists()]
        made = {name: _new_password() for name in missing}
        for name, password in made.items():
            user = User(username=name, last_name=MARK, is_staff=name == "admin", is_superuser=name == "admin")
            user.set_password(password)
            user.save()
            if name != "admin":
                user.groups.add(Group.objects.get(name=name))
    if kept is not None:
        kept.write_text("")  # passwords that may be old ones are of no use
    return made


def new_passwords() -> dict[str, str]:
    """Give the demo's accounts new passwords, and return them by name. All their sessions end."""
    with transaction.atomic():
        made = {}
        for user in _ours():
            made[user.get_username()] = password = _new_password()
            user.set_password(password)
            user.save(update_fields=["password"])
    return made


def existing() -> list[str]:
    """The names of the demo's accounts."""
    return list(
        User.objects.filter(username__in=NAMES, last_name=MARK).order_by("pk").values_list("username", flat=True)
    )


def _ours() -> Iterable[User]:
    return User.objects.filter(username__in=NAMES, last_name=MARK).order_by("pk")


def _mark_former(base: Path) -> Path | None:
    kept = base / _KEPT_BEFORE
    if not kept.exists():
        return None
    names = [line.partition(":")[0] for line in kept.read_text().splitlines()]
    User.objects.filter(username__in=[name for name in names if name in NAMES], last_name="").update(last_name=MARK)
    return kept


def _new_password() -> str:
    return secrets.token_urlsafe(9)
