"""`manage.py watch`: the watchdog."""

import argparse
import logging
import signal
import sys
import time
from datetime import datetime
from types import FrameType
from typing import Any

from django.core.management.base import CommandParser
from django.db import InterfaceError, OperationalError, close_old_connections, connection
from django.utils import timezone

from cleanup.lab import clocks
from cleanup.management.base import FAILED, LabCommand, now
from cleanup.models import Alert
from cleanup.monitoring import watchdog
from cleanup.rules.liveness import listens_since
from cleanup.rules.reasons import Reason

logger = logging.getLogger(__name__)

_EVERY_SECONDS = 30.0


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 60:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds up to 60")
    return value


class Command(LabCommand):
    acts = False
    help = "Look every 30 seconds for what stands still, and open alerts."
    requires_migrations_checks = False  # it must start even if the database is away

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="Look once and say what is wrong.")
        parser.add_argument(
            "--every", type=seconds, default=_EVERY_SECONDS, metavar="SECONDS", help="Another pace than 30 seconds."
        )

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        if options["once"]:
            self.check_migrations()
            looked_at = now()
            clocks.tend(looked_at)
            watched = watchdog.watch(now=looked_at)
            self.report(options["json"], as_json(watched), as_text(watched))
            if watched.failed:
                sys.exit(FAILED)
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end)
        self._look_for_ever(options["every"], as_lines=options["json"])

    def _look_for_ever(self, every: float, *, as_lines: bool) -> None:
        next_look = time.monotonic()
        last: datetime | None = None
        listening_since = timezone.now()
        while True:
            looked_at = timezone.now()
            listening_since = listens_since(listening_since, last, looked_at)
            last = looked_at
            try:
                close_old_connections()
                clocks.tend(looked_at)  # first: what it mends is no alert
                watched = watchdog.watch(now=looked_at, listening_since=listening_since)
                if as_lines:
                    self.report(True, as_json(watched), "")
                    self.stdout.flush()
            except (OperationalError, InterfaceError) as error:
                logger.error("the watchdog cannot ask the database: %s", str(error).strip())
                connection.close()
                last = None  # no heartbeat could be written meanwhile
            except Exception:  # the watchdog must never die
                logger.exception("the watchdog's look failed")
            next_look = max(next_look + every, time.monotonic())
            time.sleep(max(0.0, next_look - time.monotonic()))


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def as_json(watched: watchdog.Watched) -> dict[str, Any]:
    return {
        "now": watched.now,
        "alerts": [
            {
                "kind": alert.kind,
                "subject": alert.subject,
                "root": alert.root.name if alert.root else None,
                "run_path": alert.run.run_path if alert.run else None,
                "reason": alert.reason,
                "detail": alert.detail,
                "since": alert.since,
                "seen_at": alert.seen_at,
            }
            for alert in watched.alerts
        ],
        "failed": watched.failed,
    }


def as_text(watched: watchdog.Watched) -> str:
    lines = [_line(alert) for alert in watched.alerts]
    lines += [f"could not look at the {rule}: see the log" for rule in watched.failed]
    return "\n".join(lines or ["Nothing is wrong."])


def _line(alert: Alert) -> str:
    place = alert.run.run_path if alert.run else alert.subject
    said = Reason(alert.reason).sentence if alert.reason in set(Reason) else alert.reason
    return f"{alert.since:%Y-%m-%d %H:%M} UTC  {alert.kind}  {place}  {said} {alert.detail}".rstrip()
