"""Sends mails; a mail server may fail in any way, and the caller's pages tell it."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from django.core.mail import EmailMessage, get_connection

from cleanup.rules import short_texts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SentMails:
    """How many mails the server took, and what it said when it failed; empty if it did not."""

    number: int = 0
    problem: str = ""


def send_all(messages: Iterable[EmailMessage], *, about: str) -> SentMails:
    """Send messages over one connection until one fails; raises nothing. `about` names them in the log."""
    sent, problem = 0, ""
    try:
        with get_connection() as connection:
            for message in messages:
                message.connection = connection
                sent += message.send()
    except Exception as error:  # a mail server may fail in any way; the pages still tell it
        logger.exception("%s could not be sent", about)
        problem = short_texts.shorten(f"{type(error).__name__}: {error}")
    return SentMails(sent, problem)
