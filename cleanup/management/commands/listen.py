"""`manage.py listen`: hears what changes on the staging disks of this host."""

import logging
import signal
import sys
import time
from types import FrameType
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections, connection
from django_q.tasks import async_task

from cleanup.lab import task_queues
from cleanup.management.base import LabCommand
from cleanup.runs.listening.disk_listener import DiskListener
from cleanup.storage import inotify

logger = logging.getLogger(__name__)

# After a failure, and where the kernel gives no watches at all.
_REST_SECONDS = 10.0


class Command(LabCommand):
    acts = False
    help = "Listen to the staging disks of this host, so that a new run is shown within seconds."
    requires_migrations_checks = False  # it must start even if the database is away

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end)
        while True:
            try:
                with inotify.FolderWatches() as watches:
                    listener = DiskListener(_ask_for_pass, watches)
                    while True:
                        close_old_connections()
                        listener.step()
            except (OperationalError, InterfaceError) as error:
                logger.error("the listener cannot ask the database: %s", str(error).strip())
                connection.close()
            except Exception:  # without it runs show later; it must not end `up`
                logger.exception("listening to the staging disks failed")
            time.sleep(_REST_SECONDS)


def _ask_for_pass() -> None:
    async_task("cleanup.tasks.discover", cluster=task_queues.queue_for(settings.EXLAB_HOST), task_name="discovery")


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(0)
