"""Reader processes given up on a NAS root that still live: at most three per host."""

from typing import Any

from django.conf import settings
from django.db import transaction

from cleanup.models import NasBreaker
from cleanup.storage.nas.processes import Process

# Each keeps memory and a place in the mount's queue until the mount answers. Containers that do not see each other's
# processes count apart.
MOST = 3


class AbandonedReaders:
    """The abandoned readers of one NAS root, by its token."""

    def __init__(self, token: str) -> None:
        self._key: dict[str, Any] = {"host": settings.EXLAB_HOST, "token": token}
        self._known: list[Process] | None = None

    def note(self, process: Process) -> None:
        with transaction.atomic():
            NasBreaker.objects.get_or_create(**self._key)
            breaker = NasBreaker.objects.select_for_update().get(**self._key)
            self._known = [known for known in (*_processes(breaker), process) if known.is_living()]
            breaker.abandoned = [[known.pid, known.started] for known in self._known]
            breaker.save(update_fields=["abandoned"])

    def learn(self, breaker: NasBreaker) -> None:
        """Take those of a row that was just read, unless they are known already."""
        if self._known is None:
            self._known = _processes(breaker)

    def may_ask_again(self) -> bool:
        """Reads the database only once."""
        return len(self._living()) < MOST

    def none_lives(self) -> bool:
        """Whether no reader hangs there. Reads the database only once."""
        return not self._living()

    def _living(self) -> list[Process]:
        if self._known is None:
            self.learn(NasBreaker.objects.filter(**self._key).first() or NasBreaker(**self._key))
        self._known = [known for known in self._known or () if known.is_living()]
        return self._known


def _processes(breaker: NasBreaker) -> list[Process]:
    return [Process(pid, started) for pid, started in breaker.abandoned]
