"""Reading a NAS root behind its breaker: one that hangs or fails is given up, and asked again later."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from django.conf import settings
from django.utils import timezone

from cleanup.lab.nas import kept_readers, nas_roots
from cleanup.lab.nas.abandoned_readers import MOST, AbandonedReaders
from cleanup.lab.nas.kept_readers import ReadRoot
from cleanup.lab.nas.nas_roots import NasRoot
from cleanup.lab.nas.nas_transport import Reader, Readers
from cleanup.models import NasBreaker, Run, StagingRoot
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage.data_directory.kept_receipts import KeptFile
from cleanup.storage.nas import client, clock
from cleanup.storage.nas.challenge import Ends
from cleanup.storage.staging.beyond_bytes import BeyondBytes

T = TypeVar("T")

# After a hang, or three errors in a row.
BREAKER_PAUSE = timedelta(minutes=5)
_BREAKER_FAILURES = 3
NOT_ASKED = "it is not asked again for five minutes"


class GuardedReader:
    """A reader of one NAS root behind the breaker that all processes of this host share.

    After one hang or three errors in a row the NAS is not asked for five minutes: calls raise NasError at once, also
    while three abandoned readers hang. With `counts` off its own failures are not counted, and none adds to readers
    that hang: so proofs that are made ahead keep no clear from asking.
    """

    def __init__(
        self, reader: Reader, token: str, abandoned: AbandonedReaders | None = None, *, counts: bool = True
    ) -> None:
        self._reader = reader
        self._counts = counts
        self._abandoned = abandoned or AbandonedReaders(token)
        self._key: dict[str, Any] = {"host": settings.EXLAB_HOST, "token": token}
        self._breaker: NasBreaker | None = None

    @property
    def given_up(self) -> bool:
        return self._reader.given_up

    def read(
        self,
        twin: str,
        *,
        with_bytes: bool,
        recent: bool = False,
        wanted: Collection[bytes] | None = None,
        progress: Callable[[int], None] = lambda size: None,
        how: client.HowToRead = client.AT_ONCE,
    ) -> client.Listing:
        asked: dict[str, Any] = {"with_bytes": with_bytes, "recent": recent, "wanted": wanted}
        return self._guarded(lambda: self._reader.read(twin, **asked, progress=progress, how=how))

    def present(self, twins: list[str]) -> list[str]:
        return self._guarded(lambda: self._reader.present(twins))

    def read_record(self, twin: str, name: str) -> bytes:
        return self._guarded(lambda: self._reader.read_record(twin, name))

    def challenge(self, twin: str, *, folder: bytes, beside: Sequence[bytes], within: bytes) -> bool:
        return self._guarded(lambda: self._reader.challenge(twin, folder=folder, beside=beside, within=within))

    def reopen(self, twin: str, files: Sequence[Ends]) -> None:
        self._guarded(lambda: self._reader.reopen(twin, files))

    def lacking(self, twin: str, asked: BeyondBytes) -> BeyondBytes:
        return self._guarded(lambda: self._reader.lacking(twin, asked))

    def tell(
        self, twin: str, run_path: str, history: list[dict[str, Any]], attempt: str, *, form: str = "ingest"
    ) -> bool:
        return self._guarded(lambda: self._reader.tell(twin, run_path, history, attempt, form=form))

    def lay(
        self, twin: str, run_path: str, history: list[dict[str, Any]], kept: KeptFile, *, form: str = "ingest"
    ) -> None:
        """No clear needs a receipt on the NAS, so a failure is not counted, and none adds to readers that hang."""
        self._expect_none_hangs()
        self._reader.lay(twin, run_path, history, kept, form=form)

    def clock(self) -> clock.Reading:
        return self._guarded(self._reader.clock)

    def _guarded(self, ask: Callable[[], T]) -> T:
        if not self._counts:
            self._expect_none_hangs()
            return ask()
        self._expect_willing()
        try:
            answer = ask()
        except client.NasError as error:
            self._note(error.problem if error.ill else None)
            raise
        self._note(None)
        return answer

    def _expect_none_hangs(self) -> None:
        self._expect_willing(note=False)
        if not self._abandoned.none_lives():
            raise client.NasError(Finding(Reason.NAS_TIMEOUT, "a reading process still hangs in it"))

    def _expect_willing(self, *, note: bool = True) -> None:
        if self._reader.given_up:  # it would only repeat itself
            raise client.NasError(Finding(Reason.NAS_TIMEOUT, "it did not answer earlier in this pass"))
        breaker = self._state()
        if breaker.open_until is not None and timezone.now() < breaker.open_until:
            # No time in it: discovery stores this, and it must not change with every pass.
            raise client.NasError(Finding(Reason(breaker.reason), f"{breaker.detail}; {NOT_ASKED}"))
        if not self._abandoned.may_ask_again():
            problem = Finding(Reason.NAS_TIMEOUT, f"{MOST} reading processes still hang in it")
            if note:
                self._note(problem)
            raise client.NasError(problem, ill=True)

    def _state(self) -> NasBreaker:
        if self._breaker is None:
            self._breaker = NasBreaker.objects.filter(**self._key).first() or NasBreaker(**self._key)
            self._abandoned.learn(self._breaker)
        return self._breaker

    def _note(self, problem: Finding | None) -> None:
        breaker = self._state()
        if problem is None:
            if breaker.failures:
                breaker.failures, breaker.open_until, breaker.since = 0, None, None
                self._save(breaker)
            return
        breaker.failures += 1
        breaker.since = breaker.since or timezone.now()
        breaker.reason, breaker.detail = problem.reason, problem.detail[:400]
        if problem.reason == Reason.NAS_TIMEOUT or breaker.failures >= _BREAKER_FAILURES:
            breaker.open_until = timezone.now() + BREAKER_PAUSE
        self._save(breaker)

    def _save(self, breaker: NasBreaker) -> None:
        values = {name: getattr(breaker, name) for name in ("failures", "since", "open_until", "reason", "detail")}
        NasBreaker.objects.update_or_create(**self._key, defaults=values)


def reader_of(root: NasRoot, staging: str, stack: contextlib.ExitStack, *, counts: bool = True) -> GuardedReader:
    """A reader of a NAS root, ended by the stack; `staging` is a token."""
    abandoned = AbandonedReaders(root.token)
    lent = kept_readers.lent(ReadRoot(root.path, root.token, staging), abandoned, _start)
    return GuardedReader(stack.enter_context(lent), root.token, abandoned, counts=counts)


def _start(root: ReadRoot, abandoned: AbandonedReaders) -> client.NasReader:
    how: dict[str, Any] = {"staging": root.staging, "timeout": settings.EXLAB_NAS_TIMEOUT}
    return client.NasReader(root.path, root.token, **how, abandoned=abandoned)


class RootReaders:
    """The readers of a root's NAS roots, each started when first asked for."""

    def __init__(self, stack: contextlib.ExitStack, *, counts: bool = True) -> None:
        self._stack = stack
        self._counts = counts
        self._readers: dict[NasRoot, Reader] = {}

    def of(self, run: Run) -> Reader:
        root = nas_roots.twin_of(run).root
        if root not in self._readers:
            self._readers[root] = reader_of(root, run.root.token, self._stack, counts=self._counts)
        return self._readers[root]


@contextlib.contextmanager
def readers_for(root: StagingRoot, *, counts: bool = True) -> Iterator[Readers]:
    """Reader processes of a root's NAS roots, behind their breakers; `counts`: as for GuardedReader."""
    with contextlib.ExitStack() as stack:
        yield RootReaders(stack, counts=counts)
