"""`manage.py worker`: all of `up` but the web server, for one of several hosts that share a PostgreSQL."""

import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from cleanup import schedules
from cleanup.management.household import (
    BAD_USAGE,
    Household,
    check_system,
    servants,
    settle_interrupted,
    sole_holder,
)
from cleanup.models import StagingRoot


class Command(BaseCommand):
    help = "Run this host's task clusters and watchdog until interrupted; the pages are served elsewhere."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="tell what is served as one object on stdout")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        with sole_holder(settings.EXLAB_DATA_DIR, "worker") as lock:
            _expect_migrated()
            check_system(self.stderr.write)
            schedules.serve_apart(settings.EXLAB_HOST)
            settle_interrupted(self.stderr.write)
            household = Household(lock, servants())
            household.stop_on_signals()
            try:
                household.start()
                self._tell(as_json=options["json"])
                household.tend(self.stderr.write)
            finally:
                self.stderr.write("Stopping.")
                household.stop()

    def _tell(self, *, as_json: bool) -> None:
        host = settings.EXLAB_HOST
        roots = list(StagingRoot.objects.filter(host=host).values_list("name", flat=True))
        if as_json:
            self.stdout.write(json.dumps({"host": host, "roots": roots}))
        else:
            self.stdout.write(f"Serving {', '.join(roots) or 'no staging root yet'} on {host} (Ctrl-C stops it)")
        self.stdout.flush()


def _expect_migrated() -> None:
    """Only one host brings the database up to date, and it is not a worker. Raises CommandError."""
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        problem = "The database is not of this version: run `manage.py migrate` (or `up`) on one host first."
        raise CommandError(problem, returncode=BAD_USAGE)
