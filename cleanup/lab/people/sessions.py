"""The sessions of signed-in users: their last activity, number and end."""

import logging
from collections.abc import Iterator
from datetime import timedelta

from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.contrib.sessions.models import Session
from django.utils import timezone

from cleanup.lab import lock_waits

logger = logging.getLogger(__name__)

# Time of the last activity, in seconds since 1970.
SEEN = "seen"
# Not more often: each note writes to the database.
NOTED_EVERY = timedelta(minutes=5)


def idle(session: SessionBase) -> timedelta:
    """How long the user did nothing.

    A future time, from a wrong clock, counts as long ago.
    """
    now = timezone.now().timestamp()
    return timedelta(seconds=abs(now - session.get(SEEN, now)))


def note(session: SessionBase) -> bool:
    """Store activity; False if a later save does it."""
    to_be_saved = session.modified
    session[SEEN] = timezone.now().timestamp()
    if to_be_saved:
        return False
    try:
        # A page that only reads waits for no writer.
        with lock_waits.not_waiting():
            session.save()
    except UpdateError:
        return False
    finally:
        session.modified = False
    return True


def count(user: User) -> int:
    """In how many browsers a user is signed in."""
    return sum(1 for _session in _of(user))


def end(user: User, *, by: str, but: str | None = None) -> int:
    """End a user's sessions except the one with key `but`; returns how many."""
    keys = [session.session_key for session in _of(user) if session.session_key != but]
    Session.objects.filter(session_key__in=keys).delete()
    logger.info("%s is signed out in %d browsers, as %s has asked", user.get_username(), len(keys), by)
    return len(keys)


def _of(user: User) -> Iterator[Session]:
    # Session data is encoded, so all open sessions are decoded; a lab has few.
    for session in Session.objects.filter(expire_date__gt=timezone.now()).iterator():
        if session.get_decoded().get(SESSION_KEY) == str(user.pk):
            yield session
