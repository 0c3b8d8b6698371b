"""The questions to a NAS, and the writes there."""

import base64
import errno
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from cleanup.storage import anchor_file
from cleanup.storage.data_directory.kept_receipts import KeptFile
from cleanup.storage.nas import clock, extras, protocol, wanted_files
from cleanup.storage.nas.challenge import Ends
from cleanup.storage.nas.listed_twins import ListedTwins
from cleanup.storage.nas.protocol import Listing, NasError, TwinFile, is_silence
from cleanup.storage.nas.reader_process import ANOTHER_ANSWER, Abandoned, ReaderProcess
from cleanup.storage.nas.record import ILL
from cleanup.storage.staging import beyond_bytes
from cleanup.storage.staging.beyond_bytes import BeyondBytes

__all__ = ["Abandoned", "HowToRead", "Listing", "NasError", "NasReader", "TwinFile", "is_silence"]


# Of a receipt's file, in one message.
_PART = 1 << 20


@dataclass(frozen=True)
class HowToRead:
    """How the bytes of a twin are read.

    `known`: wanted files whose digests are known, so they are only listed. `pace`: bytes a second at most, 0: no limit.
    `threads`: large files at once. `note` gets each file that was read, with its digest, as soon as it is told.
    """

    known: Collection[bytes] = ()
    pace: int = 0
    threads: int = 1
    note: Callable[[bytes, TwinFile], None] | None = None


AT_ONCE = HowToRead()


class NasReader(ReaderProcess):
    """Reads one NAS root. Every question raises NasError as `read` does."""

    def read(
        self,
        twin: str,
        *,
        with_bytes: bool,
        recent: bool = False,
        wanted: Collection[bytes] | None = None,
        progress: Callable[[int], None] = lambda size: None,
        how: HowToRead = AT_ONCE,
    ) -> Listing:
        """Returns the files that the NAS holds of a run; `twin` is its path below the root.

        `with_bytes`: the `wanted` files, or all, are hashed; others only listed. `recent`: answers of the last minute
        about markers count. `progress` gets new bytes about once a second, and 0 while nothing comes; it may raise.

        Raises NasError with `nas_not_mounted`, `nas_identity_mismatch`, `nas_missing_file` (no such run),
        `nas_is_staging`, `nas_io_error`, `nas_timeout`, or `nas_slow` where the NAS answers another process.
        """
        asked: dict[str, Any] = {"twin": twin, "with_bytes": with_bytes, "recent": recent}
        more: Iterable[bytes] = ()
        if with_bytes:
            asked |= {"pace": how.pace, "threads": how.threads}
        if with_bytes and wanted is not None:
            asked["wanted"], more = True, wanted_files.lines(wanted, without=how.known)
        self._ask(asked, more)
        try:
            return self._listing(wanted, progress, how.note)
        except BaseException:  # of every kind, an interrupt too; it is raised again
            if self._answering:  # the caller stops it: nothing of this answer must be read later
                self._kill()
            raise

    def _listing(
        self,
        wanted: Collection[bytes] | None,
        progress: Callable[[int], None],
        note: Callable[[bytes, TwinFile], None] | None,
    ) -> Listing:
        files = ListedTwins()
        unread: list[extras.Unread] = []
        while True:
            answer = self._answer(lambda: progress(0))
            if "beat" in answer:
                progress(answer["beat"])
            elif "problem" in answer:
                self._refuse(answer)
            elif "device" in answer:
                self._answering = False
                if in_the_way := extras.in_the_way(unread, wanted):
                    raise NasError(in_the_way.problem, ill=in_the_way.code in ILL and not self._answers_elsewhere())
                return protocol.read_last_line(answer, files)
            elif "unread" in answer:
                path, code = answer["unread"]
                unread.append(extras.Unread(os.fsencode(path), code))
            elif "files" in answer:
                _take(answer["files"], files, note)
                progress(0)
            else:
                self._lose(ANOTHER_ANSWER)

    def present(self, twins: list[str]) -> list[str]:
        """Returns the paths below the NAS root that are directories."""
        self._ask({"present": twins})
        present: list[str] = self._wait_for("present")
        return present

    def read_record(self, twin: str, name: str) -> bytes:
        """Returns a record, at most one byte over its limit. Raises NasError with `nas_missing_file`."""
        self._ask({"twin": twin, "record": name})
        return base64.b64decode(self._wait_for("bytes"))

    def challenge(self, twin: str, *, folder: bytes, beside: Sequence[bytes], within: bytes) -> bool:
        """As `challenge.challenge`. Raises NasError with `nas_is_staging`."""
        names = [os.fsdecode(name) for name in beside]
        self._ask({"twin": twin, "folder": os.fsdecode(folder), "beside": names, "within": os.fsdecode(within)})
        plain_local: bool = self._wait_for("plain_local")
        return plain_local

    def reopen(self, twin: str, files: Sequence[Ends]) -> None:
        """As `challenge.reopen`. Raises NasError with `nas_checksum_mismatch`."""
        self._ask({"twin": twin, "ends": protocol.ends_as_json(files)})
        self._wait_for("reopened")

    def lacking(self, twin: str, asked: BeyondBytes) -> BeyondBytes:
        """As `beyond_bytes.lacking`."""
        self._ask({"twin": twin, "beyond": beyond_bytes.as_json(asked)})
        return beyond_bytes.from_json(self._wait_for("lacking"))

    def tell(
        self, twin: str, run_path: str, history: list[dict[str, Any]], attempt: str, *, form: str = "ingest"
    ) -> bool:
        """As `record.tell`."""
        self._ask({"twin": twin, "run_path": run_path, "history": history, "attempt": attempt, "form": form})
        told: bool = self._wait_for("told")
        return told

    def anchor(self, installation: str, line: str) -> None:
        """As `anchor_file.append`, at the top of the NAS root. Raises NasError with `nas_is_staging`."""
        self._ask({"anchor": line, "installation": installation})
        self._wait_for("anchored")

    def anchors(self, installation: str) -> Iterator[bytes]:
        """As `anchor_file.read`, at the top of the NAS root."""
        self._ask({"anchor_files": installation})
        found: list[int] = self._wait_for("numbers")
        yield from anchor_file.joined(found, partial(self._anchors_part, installation))

    def _anchors_part(self, installation: str, number: int, at: int) -> bytes:
        self._ask({"anchors": installation, "number": number, "at": at})
        part: str = self._wait_for("part")
        return part.encode("latin-1")

    def lay(
        self, twin: str, run_path: str, history: list[dict[str, Any]], kept: KeptFile, *, form: str = "ingest"
    ) -> None:
        """Lays a file beside the twin's record, in parts. Raises NasError as `laid_receipts.lay`, and OSError."""
        told = {"twin": twin, "run_path": run_path, "history": history, "form": form}
        with kept.open() as file:
            at = 0
            while at < kept.size:
                if not (part := file.read(_PART)):
                    raise OSError(errno.EIO, "it is shorter than it was", kept.path)
                data = base64.b64encode(part).decode("ascii")
                self._ask({**told, "lay": [kept.name, at, data, kept.size, kept.sha256]})
                at = self._wait_for("laid")

    def clock(self) -> clock.Reading:
        """As `clock.read`. Raises clock.NoClock and NasError."""
        self._ask({"clock": True})
        answer = self._wait_for("clock")
        if isinstance(answer, str):
            raise clock.NoClock(answer)
        return clock.Reading(*answer)


def _take(batch: protocol.FileBatch, into: ListedTwins, note: Callable[[bytes, TwinFile], None] | None) -> None:
    into.extend(batch.files())
    for path, file in batch.files() if note is not None else ():
        if note is not None and file.digest is not None:
            note(path, file)
