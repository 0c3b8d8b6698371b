"""The sessions of people who are signed in: when a person last did something in one, where they are, and their end."""

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

# When a person last did something in a session, in seconds since 1970.
SEEN = "seen"
# It is written down no oftener than this: each time is a write to the database.
NOTED_EVERY = timedelta(minutes=5)


def idle(session: SessionBase) -> timedelta:
    """How long nothing was done; a time in the future, from a wrong clock, counts as long ago."""
    now = timezone.now().timestamp()
    return timedelta(seconds=abs(now - session.get(SEEN, now)))


def note(session: SessionBase) -> bool:
    """Write down that a person does something; False if a later request, or the session's own save, does it."""
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
    """Sign a user out everywhere but in the session with the key `but`; returns the number of sessions."""
    keys = [session.session_key for session in _of(user) if session.session_key != but]
    Session.objects.filter(session_key__in=keys).delete()
    logger.info("%s is signed out in %d browsers, as %s has asked", user.get_username(), len(keys), by)
    return len(keys)


def _of(user: User) -> Iterator[Session]:
    # What a session holds is one encoded text, so all that are open are looked into; a lab has few.
    for session in Session.objects.filter(expire_date__gt=timezone.now()).iterator():
        if session.get_decoded().get(SESSION_KEY) == str(user.pk):
            yield session
