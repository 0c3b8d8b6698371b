"""A database for one measurement, of either engine; import this before anything else of the project."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
for name in [name for name in os.environ if name.startswith("PYTEST_")]:
    del os.environ[name]
# Millions of rows belong on the disk, and what is measured there lies there.
os.environ["EXLAB_TESTS_IN_MEMORY"] = "0"

from tests.tools import engines

ENGINES, HERE = engines.BOTH, engines.HERE


@contextmanager
def database(engine: str) -> Iterator[None]:
    """Django on a new, migrated database; it is removed at the end, also after Ctrl-C."""
    engines.ENGINE = engine
    engines.prepare()
    try:
        import django
        from django.conf import settings
        from django.core.management import call_command

        django.setup()
        settings.STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
        settings.ALLOWED_HOSTS.append("testserver")
        call_command("migrate", verbosity=0)
        yield
    finally:
        from django.db import connections

        connections.close_all()
        engines.finish()
