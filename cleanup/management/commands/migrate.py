"""`manage.py migrate`: only it makes a missing SQLite database; it refuses a newer one."""

from typing import Any

from django.conf import settings
from django.core.management.commands import migrate
from django.db import connections

from cleanup.lab import sqlite_file
from cleanup.management import data_places
from cleanup.management.base import UsageError
from exlab import databases, places


class Command(migrate.Command):
    help = "Bring the database up to date."

    def execute(self, *args: Any, **options: Any) -> str | None:  # noqa: ANN401
        # Before the system checks, which ask the database.
        database = connections[options["database"]]
        if (path := sqlite_file.path_of(database)) and not path.exists():
            data_places.prepare(settings.EXLAB_DATA_DIR)
        places.make(settings.EXLAB_DATA_DIR)
        unready = databases.trouble(database)
        if unready and not unready.can_be_migrated:
            raise UsageError(unready.said)
        try:
            sqlite_file.lay(database)
        except sqlite_file.NoDatabaseMade as error:
            raise UsageError(str(error)) from None
        return super().execute(*args, **options)
