"""Settle interrupted attempts, retry, and tell the NAS what was cleared."""

import sys
from typing import Any

from django.conf import settings

from cleanup.clears import queue, receipt_delivery, recovery, retries
from cleanup.management.base import FAILED, LabCommand, now


class Command(LabCommand):
    acts = False
    help = (
        "Undo interrupted attempts that had not been committed, complete those that had, queue again what a fault "
        "interrupted or an answering NAS had refused in a batch, and let the records on the "
        "NAS say what was cleared."
    )

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
            "queued_again": queue.enqueue_lost(host=settings.EXLAB_HOST, now=at),
            "tried_again": retries.ask(now=now()),
            "told": receipt_delivery.tell_and_deliver(now=now()),
        }
        if settled.set_aside:
            answer["set_aside"] = [
                {"run_path": row.run_path, "file": row.path, "state": row.state} for row in settled.set_aside
            ]
        text = (
            f"rolled back {len(settled.rolled_back)}, rolled forward {len(settled.rolled_forward)}, "
            f"unsettled {len(settled.unsettled)}, queued again {answer['queued_again']}, "
            f"tried again {answer['tried_again']}, "
            f"told the NAS of {answer['told']}"
        )
        self.report(options["json"], answer, text)
        if settled.unsettled:
            sys.exit(FAILED)
