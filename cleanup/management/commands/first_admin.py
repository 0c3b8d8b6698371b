"""Print a one-time token that makes the first admin, as `up` does: for containers, and when the hour is over."""

from typing import Any

from cleanup.lab.people import first_admin
from cleanup.management.base import LabCommand, now
from cleanup.management.token_words import HAS_ADMIN, say_token


class Command(LabCommand):
    help = "Print a new one-time token for the first admin, while there is none; it voids the one before."

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        issued = first_admin.issue(now())
        answer = {
            "needed": issued is not None,
            "token": issued.token if issued else None,
            "until": issued.until if issued else None,
            "file": issued.path or None if issued else None,
        }
        self.report(options["json"], answer, say_token(issued) if issued else HAS_ADMIN)
