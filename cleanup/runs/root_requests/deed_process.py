"""The process that carries out one request: `python -m cleanup.runs.root_requests.deed_process KEY`."""

import logging
import sys

import django

logger = logging.getLogger(__name__)


def main(key: str) -> None:
    """Do what the request asks, and write the answer; a fault is written, too, and raised."""
    django.setup()
    from django.utils import timezone

    from cleanup.models import RootRequestPhase
    from cleanup.runs.root_requests import answering, deeds

    request = answering.request_of(key)
    if request is None or request.phase != RootRequestPhase.RUNNING:
        return
    try:
        answer = deeds.perform(request, timezone.now())
    except Exception as error:
        logger.exception("%s failed", request)
        answer = {"problem": f"It failed: {type(error).__name__}. Look at the staging root before you try again."}
        request.advance(RootRequestPhase.RUNNING, RootRequestPhase.DONE, now=timezone.now(), answer=answer)
        raise
    request.advance(RootRequestPhase.RUNNING, RootRequestPhase.DONE, now=timezone.now(), answer=answer)


if __name__ == "__main__":
    main(sys.argv[1])
