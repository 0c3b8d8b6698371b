"""The NAS roots of a staging root: where twins lie, and which process reads them."""

import contextlib
import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from django.conf import settings
from django.utils import timezone

from cleanup.lab.nas.abandoned_readers import MOST, AbandonedReaders
from cleanup.models import NasBreaker, Run, StagingRoot
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage import errors, run_paths
from cleanup.storage.nas import client, clock
from cleanup.storage.nas.challenge import Ends
from cleanup.storage.nas.extras import mount_below
from cleanup.storage.run_paths import RunPath
from cleanup.storage.staging.beyond_bytes import BeyondBytes
from cleanup.storage.twin_paths import as_one_name, twin_path

T = TypeVar("T")

# After a hang, or three errors in a row.
BREAKER_PAUSE = timedelta(minutes=5)
_BREAKER_FAILURES = 3
NOT_ASKED = "it is not asked again for five minutes"


@dataclass(frozen=True)
class NasRoot:
    """One NAS root; `path` is empty if none is registered."""

    path: str
    token: str


@dataclass(frozen=True)
class Twin:
    """Where a run's twin lies: NAS root and relative path."""

    root: NasRoot
    path: str

    @property
    def full_path(self) -> str:
        return f"{self.root.path}/{self.path}" if self.root.path else ""

    @property
    def key(self) -> str:
        """Equal, on any host, for what may be one twin."""
        return _digest(self.root.token, self.path) if self.root.token else ""

    def place(self, host: str) -> str:
        """Equal also where NAS roots lie in one another."""
        return _digest(host, self.full_path) if self.root.path else ""


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(map(as_one_name, parts)).encode()).hexdigest()


def nas_root_of(root: StagingRoot, equipment: str) -> NasRoot:
    """The NAS root that holds the twins of an instrument's runs."""
    own = root.instrument_nas.get(equipment)
    return NasRoot(own["path"], own["token"]) if own else NasRoot(root.nas_path, root.nas_token)


def nas_roots(root: StagingRoot) -> list[NasRoot]:
    """All NAS roots of a staging root, its own first, without duplicates."""
    found = [NasRoot(root.nas_path, root.nas_token)] if root.nas_path else []
    found += [NasRoot(own["path"], own["token"]) for own in root.instrument_nas.values()]
    return list(dict.fromkeys(found))


def twin_of(run: Run, *, nas_layout: str | None = None) -> Twin:
    """Where a run's twin lies, by its root's layout or `nas_layout`.

    Asks neither database nor disk. An instrument's share on the way holds the twin at the same path.
    """
    root = nas_root_of(run.root, run.equipment)
    try:
        path = run_paths.parse_run_path(run.run_path)
    except errors.UnsafePath:  # a damaged row takes no page down; no such path is ever opened
        return Twin(root, run.run_path)
    place = twin_path(nas_layout or run.root.nas_layout, path)
    return Twin(
        root, f"{run.root.nas_path}/{place}".removeprefix(f"{root.path}/") if _is_on_the_way(run, place) else place
    )


def _is_on_the_way(run: Run, place: str) -> bool:
    above, own = run.root.nas_path, nas_root_of(run.root, run.equipment).path
    return bool(above) and own.startswith(f"{above}/") and f"{above}/{place}".startswith(f"{own}/")


def with_way_out(run: Run, problem: Finding) -> Finding:
    """The problem; for a share on the way with the command to register it."""
    if problem.reason != Reason.NAS_MOUNT_BELOW:
        return problem
    if problem.detail != mount_below(run.equipment.encode()).detail:
        return replace(problem, detail=f"{problem.detail}; only the share of a whole instrument can be registered")
    share = f"{run.equipment}={twin_of(run).root.path}/{run.equipment}"
    command = f"add_staging_root {run.root.name} {run.root.path} --nas-root {share}"
    return replace(problem, detail=f"{problem.detail}: register it ({command})")


def record_places(run: Run) -> tuple[RunPath, ...]:
    """The paths that a run's record may name."""
    paths = dict.fromkeys(path for path in (run.run_path, run.record_path) if path)
    return tuple(run_paths.parse_run_path(path) for path in paths)


def nas_flags(root: StagingRoot) -> str:
    """The flags in force, as `allow_union_nas`."""
    names = ("allow_same_filesystem", "allow_union_nas", "nas_writes_through")
    return ", ".join(name for name in names if getattr(root, name))


class Reader(Protocol):
    """Reads one NAS root; paths are relative to it."""

    @property
    def given_up(self) -> bool: ...

    def read(
        self,
        twin: str,
        *,
        with_bytes: bool,
        recent: bool = ...,
        wanted: Collection[bytes] | None = ...,
        progress: Callable[[int], None] = ...,
    ) -> client.Listing: ...

    def present(self, twins: list[str]) -> list[str]: ...

    def read_record(self, twin: str, name: str) -> bytes: ...

    def challenge(self, twin: str, *, folder: bytes, beside: Sequence[bytes], within: bytes) -> bool: ...

    def reopen(self, twin: str, files: Sequence[Ends]) -> None: ...

    def lacking(self, twin: str, asked: BeyondBytes) -> BeyondBytes: ...

    def tell(
        self, twin: str, run_path: str, history: list[dict[str, Any]], attempt: str, *, form: str = "ingest"
    ) -> bool: ...

    def clock(self) -> clock.Reading: ...


class Readers(Protocol):
    """The readers of a staging root's NAS roots."""

    def of(self, run: Run) -> Reader: ...


class GuardedReader:
    """A reader of one NAS root behind the breaker that all processes of this host share.

    After one hang or three errors in a row the NAS is not asked for five minutes: calls raise NasError at once, also
    while three abandoned readers hang.
    """

    def __init__(self, reader: Reader, token: str, abandoned: AbandonedReaders | None = None) -> None:
        self._reader = reader
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
    ) -> client.Listing:
        return self._guarded(
            lambda: self._reader.read(twin, with_bytes=with_bytes, recent=recent, wanted=wanted, progress=progress)
        )

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

    def clock(self) -> clock.Reading:
        return self._guarded(self._reader.clock)

    def _guarded(self, ask: Callable[[], T]) -> T:
        if self._reader.given_up:  # it would only repeat itself
            raise client.NasError(Finding(Reason.NAS_TIMEOUT, "it did not answer earlier in this pass"))
        breaker = self._state()
        if breaker.open_until is not None and timezone.now() < breaker.open_until:
            # No time in it: discovery stores this, and it must not change with every pass.
            raise client.NasError(Finding(Reason(breaker.reason), f"{breaker.detail}; {NOT_ASKED}"))
        if not self._abandoned.may_ask_again():
            problem = Finding(Reason.NAS_TIMEOUT, f"{MOST} reading processes still hang in it")
            self._note(problem)
            raise client.NasError(problem, ill=True)
        try:
            answer = ask()
        except client.NasError as error:
            self._note(error.problem if error.ill else None)
            raise
        self._note(None)
        return answer

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


class NotAsked:
    """Stands in where a policy trusts the record: every call raises NasError."""

    given_up = False

    def read(self, twin: str, **how: Any) -> client.Listing:  # noqa: ANN401
        raise client.NasError(Finding(Reason.NOT_COMPARED, "the policy trusts the record, so the NAS was not asked"))

    def present(self, twins: list[str]) -> list[str]:
        self.read("")
        return []

    def read_record(self, twin: str, name: str) -> bytes:
        self.read(twin)
        return b""

    def challenge(self, twin: str, **how: Any) -> bool:  # noqa: ANN401
        self.read(twin)
        return False

    def reopen(self, twin: str, files: Sequence[Ends]) -> None:
        self.read(twin)

    def lacking(self, twin: str, asked: BeyondBytes) -> BeyondBytes:
        self.read(twin)
        return asked

    def tell(
        self, twin: str, run_path: str, history: list[dict[str, Any]], attempt: str, *, form: str = "ingest"
    ) -> bool:
        self.read(twin)
        return False

    def clock(self) -> clock.Reading:
        self.read("")
        raise AssertionError("unreachable")


class OneReader:
    """The same reader for every run."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def of(self, run: Run) -> Reader:
        return self._reader


def reader_of(root: NasRoot, staging: str, stack: contextlib.ExitStack) -> GuardedReader:
    """A reader of a NAS root, ended by the stack; `staging` is a token."""
    how: dict[str, Any] = {"staging": staging, "timeout": settings.EXLAB_NAS_TIMEOUT}
    abandoned = AbandonedReaders(root.token)
    child = client.NasReader(root.path, root.token, **how, abandoned=abandoned)
    return GuardedReader(stack.enter_context(child), root.token, abandoned)


class RootReaders:
    """The readers of a root's NAS roots, each started when first asked for."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._readers: dict[NasRoot, Reader] = {}

    def of(self, run: Run) -> Reader:
        root = twin_of(run).root
        if root not in self._readers:
            self._readers[root] = reader_of(root, run.root.token, self._stack)
        return self._readers[root]


@contextlib.contextmanager
def readers_for(root: StagingRoot) -> Iterator[Readers]:
    """Reader processes of a root's NAS roots, behind their breakers."""
    with contextlib.ExitStack() as stack:
        yield RootReaders(stack)
