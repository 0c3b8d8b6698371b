"""`manage.py worker`: `up` without the web server, for several hosts on one PostgreSQL."""

import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from cleanup.lab import task_queues
from cleanup.management import data_places
from cleanup.management.supervisor import (
    Supervisor,
    check_system,
    children,
    expect_data_directory,
    expect_database,
    lay_markers,
    settle_interrupted,
    sole_holder,
)
from cleanup.management.takeover import add_replace_argument
from cleanup.models import StagingRoot


class Command(BaseCommand):
    help = "Run this host's task clusters and watchdog until interrupted; the pages are served elsewhere."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_replace_argument(parser)
        parser.add_argument("--json", action="store_true", help="tell what is served as one object on stdout")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        expect_data_directory()
        holder = sole_holder(settings.EXLAB_DATA_DIR, "worker", replace=options["replace"], say=self.stderr.write)
        with holder as lock:
            expect_database(migrated=True)
            check_system(self.stderr.write)
            task_queues.serve_apart(settings.EXLAB_HOST)
            settle_interrupted(self.stderr.write)
            lay_markers(self.stderr.write)
            supervisor = Supervisor(lock, children(), place=data_places.place_of(lock))
            supervisor.stop_on_signals()
            try:
                supervisor.start()
                self._tell(as_json=options["json"])
                supervisor.tend(self.stderr.write)
            finally:
                self.stderr.write("Stopping.")
                supervisor.stop()

    def _tell(self, *, as_json: bool) -> None:
        host = settings.EXLAB_HOST
        roots = list(StagingRoot.objects.active().filter(host=host).values_list("name", flat=True))
        if as_json:
            self.stdout.write(json.dumps({"host": host, "roots": roots}))
        else:
            self.stdout.write(f"Serving {', '.join(roots) or 'no staging root yet'} on {host} (Ctrl-C stops it)")
        self.stdout.flush()
