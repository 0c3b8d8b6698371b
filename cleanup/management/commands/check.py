"""`manage.py check`: Django's checks, and whether data directory and database can be used."""

from typing import Any

from django.conf import settings
from django.core.management.commands import check
from django.db import connection

from cleanup.management.base import UsageError
from exlab import databases, places


class Command(check.Command):
    help = "Say what of this machine, of the settings or of the database keeps the program from its promises."

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        if found := places.trouble(settings.EXLAB_DATA_DIR, deep=True):
            raise UsageError(found)
        unready = databases.trouble(connection)
        if unready and (options["databases"] or unready.kind is not databases.Kind.EMPTY):
            raise UsageError(unready.said)
        super().handle(*args, **options)
        if unready:  # nothing is wrong before the first start
            self.stdout.write(unready.said)
