"""What an empty page says of staging disks that nobody has looked at yet: what comes, and when."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import F

from cleanup.lab.people import permissions
from cleanup.models import StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.text.values import count, runs, visible

# A pass that gives no sign for so long is over: it may ask a silent NAS for so long.
STILL_LOOKS = timedelta(minutes=3)
# The listener sees a new root within a minute. What has not begun after this waits for something.
BEGINS_WITHIN = timedelta(minutes=3)
# More disks than these are not named one by one.
MOST_NAMED = 5


@dataclass(frozen=True)
class Awaited:
    """The first looks that are to come, in sentences. `no_root`: no staging root is registered at all."""

    no_root: bool
    sentences: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.no_root or bool(self.sentences)


def awaited(user: User | AnonymousUser, now: datetime, roots: Sequence[StagingRoot] | None = None) -> Awaited:
    """What is still to be looked at of a user's staging roots; one question at most, two where there is no root.

    `roots`: those of the user, where the page has read them.
    """
    if roots is None:
        first_new = F("discovered_at").asc(nulls_first=True)
        roots = list(permissions.roots(user).order_by(first_new, "name")[: MOST_NAMED + 1])
    if not roots:
        return Awaited(no_root=not StagingRoot.objects.exists())
    waiting = [root for root in roots if root.discovered_at is None]
    sentences = [say_first_look(root, now) for root in waiting[:MOST_NAMED]]
    if len(waiting) > MOST_NAMED:
        sentences.append("More staging disks wait for their first look.")
    return Awaited(no_root=False, sentences=tuple(sentences))


def is_looked_at(root: StagingRoot, now: datetime) -> bool:
    """Whether a pass over a root is under way."""
    return root.looking_seen_at is not None and now - root.looking_seen_at < STILL_LOOKS


def say_first_look(root: StagingRoot, now: datetime) -> str:
    """`The first look at /lab begins within a minute.`, of a root that was not looked at yet."""
    path = visible(root.path)
    if is_looked_at(root, now):
        done, total = count(root.looking_done), runs(root.looking_total)
        return f"The first look at {path} is under way: {done} of about {total} so far."
    if problem := root.problem or ("" if root.token else Reason.ROOT_NOT_MOUNTED):  # it was empty when it came
        reason = Reason(problem).sentence if problem in set(Reason) else problem
        return f"The first look at {path} could not be made. {reason}"
    if now - root.created_at > BEGINS_WITHIN:
        return (
            f"There is no sign of the first look at {path} yet. The worker on {visible(root.host)} makes it, as soon "
            "as it runs (manage.py up, or worker)."
        )
    return f"The first look at {path} begins within a minute."
