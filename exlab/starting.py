"""What keeps the program from starting, in one sentence."""

import contextlib
import os
import sys
from collections.abc import Iterator

import django
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from exlab import databases, places
from exlab.reading import WrongSettings

BAD_USAGE = 2


@contextlib.contextmanager
def guarded(*, status: int = BAD_USAGE) -> Iterator[None]:
    """If the block meets what an operator must mend, end the process with a sentence on stderr."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "exlab.settings")
    try:
        yield
    except WrongSettings as wrong:
        _end(str(wrong), status)
    except ModuleNotFoundError as error:
        if not error.name or not f"{os.environ['DJANGO_SETTINGS_MODULE']}.".startswith(f"{error.name}."):
            raise
        _end(f"DJANGO_SETTINGS_MODULE: there is no module {error.name!r} here; leave it unset.", status)
    except (DatabaseError, InterfaceError, OSError) as error:
        if not (said := _say(error)):
            raise
        _end(said, status)


def expect_settings() -> None:
    """Check settings and data directory. Raises WrongSettings."""
    if found := places.trouble(settings.EXLAB_DATA_DIR):
        raise WrongSettings(found)


def expect_all() -> None:
    """Check settings, data directory and database. Raises WrongSettings."""
    if found := places.trouble(settings.EXLAB_DATA_DIR, deep=True):
        raise WrongSettings(found)
    django.setup()
    if unready := databases.trouble(connection):
        raise WrongSettings(unready.said)
    connection.close()  # a server that forks must not share it


def _say(error: Exception) -> str:
    if not settings.configured:
        return ""
    if databases.is_busy(error):
        return "The database is kept busy by another program; try again in a moment."
    if isinstance(error, OSError):
        return places.trouble(settings.EXLAB_DATA_DIR, deep=True)
    connection.close()
    unready = databases.trouble(connection)
    return places.trouble(settings.EXLAB_DATA_DIR, deep=True) or (unready.said if unready else "")


def _end(said: str, status: int) -> None:
    sys.stderr.write(f"{said}\n")
    sys.exit(status)
