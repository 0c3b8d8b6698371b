"""Let an account sign in again after failed sign-ins."""

import ipaddress
import logging
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandParser

from cleanup.lab.people import sign_ins
from cleanup.management.base import LabCommand, UsageError, add_user_argument, user_named

logger = logging.getLogger(__name__)


class Command(LabCommand):
    help = "Forget the failed sign-ins of a user, or those at an address, so that the next one is looked at."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", nargs="?", default="")
        parser.add_argument("--address", default="", help="All accounts at this address.")
        add_user_argument(parser, "Who unlocks; by default the account that runs this command.")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        actor = user_named(options["user"])
        name, address = _user(options["name"]), _address(options["address"])
        if not (name or address):
            raise UsageError("Say whose sign-ins: a user's NAME, or --address ADDRESS.")
        forgotten = sign_ins.unlock(name=name, address=address)
        what = " and ".join(filter(None, [name, address]))
        logger.info("%s unlocked %s: %d failed sign-ins forgotten", actor, what, forgotten)
        said = f"{what}: failed sign-ins forgotten: {forgotten}" if forgotten else f"{what} was not locked"
        self.report(options["json"], {"user": name, "address": address, "forgotten": forgotten}, said)


def _user(name: str) -> str:
    if not name:
        return ""
    users = User.objects.filter(username=name) or User.objects.filter(username__iexact=name.strip())
    if not users:
        raise UsageError(f"No user {name} is known.")
    return users[0].username


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip())) if text else ""
    except ValueError:
        raise UsageError(f"--address {text}: this is no address. Write one as in 10.0.0.7.") from None
