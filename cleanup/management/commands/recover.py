"""Settle interrupted attempts."""

import sys
from typing import Any

from django.conf import settings

from cleanup import queueing, recovery
from cleanup.management.base import FAILED, LabCommand, now


class Command(LabCommand):
    help = "Undo interrupted attempts that had not been committed, and complete those that had."

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        at = now()
        settled = recovery.recover(now=at)
        answer = {
            "rolled_back": [attempt.run.run_path for attempt in settled.rolled_back],
            "rolled_forward": [attempt.run.run_path for attempt in settled.rolled_forward],
            "unsettled": [
                {"run_path": attempt.run.run_path, "reason": finding.reason, "detail": finding.detail}
                for attempt, finding in settled.unsettled
            ],
            "queued_again": queueing.enqueue_lost(host=settings.EXLAB_HOST, now=at),
        }
        text = (
            f"rolled back {len(settled.rolled_back)}, rolled forward {len(settled.rolled_forward)}, "
            f"unsettled {len(settled.unsettled)}, queued again {answer['queued_again']}"
        )
        self.report(options["json"], answer, text)
        if settled.unsettled:
            sys.exit(FAILED)
