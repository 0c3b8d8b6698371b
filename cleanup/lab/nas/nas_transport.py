"""What every way to a NAS offers: a new transport has these methods."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from cleanup.models import Run
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage.data_directory.kept_receipts import KeptFile
from cleanup.storage.nas import client, clock
from cleanup.storage.nas.challenge import Ends
from cleanup.storage.staging.beyond_bytes import BeyondBytes


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
        how: client.HowToRead = ...,
    ) -> client.Listing: ...

    def present(self, twins: list[str]) -> list[str]: ...

    def read_record(self, twin: str, name: str) -> bytes: ...

    def challenge(self, twin: str, *, folder: bytes, beside: Sequence[bytes], within: bytes) -> bool: ...

    def reopen(self, twin: str, files: Sequence[Ends]) -> None: ...

    def lacking(self, twin: str, asked: BeyondBytes) -> BeyondBytes: ...

    def tell(
        self, twin: str, run_path: str, history: list[dict[str, Any]], attempt: str, *, form: str = "ingest"
    ) -> bool: ...

    def lay(
        self, twin: str, run_path: str, history: list[dict[str, Any]], kept: KeptFile, *, form: str = "ingest"
    ) -> None: ...

    def clock(self) -> clock.Reading: ...


class Readers(Protocol):
    """The readers of a staging root's NAS roots."""

    def of(self, run: Run) -> Reader: ...


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

    def lay(
        self, twin: str, run_path: str, history: list[dict[str, Any]], kept: KeptFile, *, form: str = "ingest"
    ) -> None:
        self.read(twin)

    def clock(self) -> clock.Reading:
        self.read("")
        raise AssertionError("unreachable")
