"""The NAS side: is it the right one, what does it hold of a run, and with which bytes; and the one word told to it.

A network mount can hang in a way that no signal and no timeout of ours ends. So everything that touches it runs in a
child process, `python -m cleanup.storage.nas.client`, which answers one JSON line a request; a child that stays silent
is killed and abandoned, never waited for. It gets no descriptor of ours, not even for what it says of its errors: a
process that reads our standard error would wait with it.

One silent child says nothing of the NAS: the one file that it reads may lie on tape. So a second child is asked whether
the NAS itself answers; if it does, the silence is the run's affair alone.
"""

import base64
import contextlib
import errno
import json
import logging
import os
import re
import select
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, Self

import cleanup
from cleanup.storage import errors, handles, hashing, linux, markers, places, run_paths, tokens
from cleanup.storage.errors import Problem
from cleanup.storage.mounts import UnknownMount
from cleanup.storage.nas import challenge, clock, extras, processes, ways
from cleanup.storage.nas import record as nas_record
from cleanup.storage.nas.challenge import Ends
from cleanup.storage.nas.processes import Process
from cleanup.storage.nas.record import ILL
from cleanup.storage.places import Place
from cleanup.storage.run_paths import show
from cleanup.storage.staging import beyond_bytes, ingest, records, run_tree
from cleanup.storage.staging.beyond_bytes import BeyondBytes

if __name__ != "__main__":
    import subprocess  # the child starts nobody, and is sooner ready without

# The child says that it is alive at least this often while it reads.
_BEAT_SECONDS = 1.0
DEFAULT_TIMEOUT = 60.0
# How long a second child may take to say that the NAS itself answers: a disk that slept has started by then.
_SECOND_TIMEOUT = 15.0
# How long a child that was killed may take to die; one that takes longer hangs in the kernel.
_DEATH_SECONDS = 0.3
# What the detail of a silence says: what hangs on it asks `is_silence`.
_SILENT = "silent for"
_SILENCE = re.compile(rf"{_SILENT} \S+ s")

logger = logging.getLogger(__name__)


class NasError(Exception):
    """Why the NAS proves nothing, or takes nothing: the code of a reason and what was seen.

    `ill`: the NAS as a whole hangs or fails, and not only what was asked for.
    """

    def __init__(self, problem: Problem, *, ill: bool = False) -> None:
        super().__init__(f"{problem.reason}: {problem.detail}")
        self.problem = problem
        self.ill = ill


def is_silence(problem: Problem) -> bool:
    """Whether something was asked of the NAS and it kept silent; not where it was not asked again after that."""
    silent = problem.reason == "nas_timeout" and _SILENCE.fullmatch(problem.detail)
    return problem.reason == "nas_slow" or bool(silent)


class Abandoned(Protocol):
    """The children that read one NAS, were given up and killed, and may live on."""

    def note(self, process: Process) -> None:
        """Remember one more."""
        ...

    def may_ask_again(self) -> bool:
        """Whether another child may be risked on this NAS."""
        ...


class _Forgotten:
    """For a reader whose abandoned children are not counted by its owner."""

    def note(self, process: Process) -> None:
        """Remember nothing."""

    def may_ask_again(self) -> bool:
        """Always."""
        return True


@dataclass(frozen=True)
class _AskedOnce:
    """For the second child, whose silence is answer enough; it is counted with the others."""

    others: Abandoned

    def note(self, process: Process) -> None:
        self.others.note(process)

    def may_ask_again(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Twin:
    """One file of the NAS copy; `digest` is None unless its bytes were read."""

    size: int
    mtime_ns: int
    ino: int
    digest: bytes | None
    ctime_ns: int = 0


@dataclass(frozen=True)
class Listing:
    """The data files that the NAS holds of one run, by relative path, and the device they lie on.

    `place` is what the reading process saw of the NAS root's mount and of the storage beneath it. `record` holds the
    bytes of the twin's own `ingest.json`, None where there is none that can be read; `origin` is what its
    `creation.json` says it began as (`records.origin_of`), `-` where that cannot be told. `malformed` are names in the
    twin, or on the way to it, that begin like a staging marker and hold no UUID.
    """

    device: int
    files: dict[bytes, Twin]
    place: Place
    record: bytes | None = None
    malformed: tuple[str, ...] = ()
    origin: str = "-"


class NasReader:
    """A child process that reads one NAS root; use it as a context manager, for any number of runs."""

    def __init__(
        self,
        path: str,
        token: str,
        *,
        staging: str = "",
        timeout: float = DEFAULT_TIMEOUT,
        abandoned: Abandoned | None = None,
    ) -> None:
        """`staging`: the token of the staging root; `timeout`: seconds of silence after which the child is given up.

        `abandoned` is told of each child that was given up and does not die of it.
        """
        self._path = path
        self._token = token
        self._staging = staging
        self._timeout = timeout
        self._child: subprocess.Popen[bytes] | None = None
        self._abandoned = abandoned or _Forgotten()
        self._given_up = False
        self._answering = False
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if self._answering:
            _abandon(child)
            return
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()  # type: ignore[union-attr]
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=2)
        _abandon(child)

    @property
    def given_up(self) -> bool:
        """Whether the NAS hung: it is not asked again by this reader."""
        return self._given_up

    def read(
        self,
        twin: str,
        *,
        with_bytes: bool,
        recent: bool = False,
        wanted: Collection[bytes] | None = None,
        progress: Callable[[int], None] = lambda size: None,
    ) -> Listing:
        """What the NAS holds of a run; `twin` is the path of its copy relative to the NAS root.

        `with_bytes`: every file is read and hashed as well. `wanted` are the paths that a comparison asks for: what is
        more is listed by name at the most, never read, and no error if it cannot be listed. `recent`: what the folders
        on the way to the twin have shown in the last minute will do, as it does for discovery alone.

        `progress` is told, about once a second, how many bytes have been read since it was last told.
        Raises NasError with `nas_not_mounted`, `nas_identity_mismatch`, `nas_missing_file` (no such run at all),
        `nas_is_staging`, `nas_io_error`, `nas_timeout`, or `nas_slow` where the NAS itself answered meanwhile.
        """
        asked = {"wanted": [os.fsdecode(path) for path in wanted]} if with_bytes and wanted is not None else {}
        self._ask({"twin": twin, "with_bytes": with_bytes, "recent": recent, **asked})
        files: dict[bytes, Twin] = {}
        unread: list[extras.Unread] = []
        while True:
            answer = self._answer()
            if "beat" in answer:
                progress(answer["beat"])
            elif "problem" in answer:
                self._refuse(answer)
            elif "device" in answer:
                self._answering = False
                if in_the_way := extras.in_the_way(unread, wanted):
                    raise NasError(in_the_way.problem, ill=in_the_way.code in ILL and not self._answers_elsewhere())
                place, record = Place.from_json(answer["place"]), answer["record"]
                data = None if record is None else record.encode("latin-1")
                return Listing(answer["device"], files, place, data, tuple(answer["malformed"]), answer["origin"])
            elif "unread" in answer:
                path, code = answer["unread"]
                unread.append(extras.Unread(os.fsencode(path), code))
            else:
                name, size, mtime_ns, ino, digest, ctime_ns = answer["file"]
                read = bytes.fromhex(digest) if digest else None
                files[os.fsencode(name)] = Twin(size, mtime_ns, ino, read, ctime_ns)

    def present(self, twins: list[str]) -> list[str]:
        """Which of some paths relative to the NAS root are directories there. Raises NasError as `read`."""
        self._ask({"present": twins})
        present: list[str] = self._wait_for("present")
        return present

    def read_record(self, twin: str, name: str) -> bytes:
        """The bytes of a record in the metadata folder of the twin at `twin`, one more than it may have at the most.

        `name` is its file name, as `ingest.json`. Raises NasError with the reasons of `read`; `nas_missing_file` also
        where there is no such record.
        """
        self._ask({"twin": twin, "record": name})
        return base64.b64decode(self._wait_for("bytes"))

    def challenge(self, twin: str, *, folder: bytes, beside: Sequence[bytes], within: bytes) -> bool:
        """Look for what a clear has just made on staging, as `challenge.challenge`; whether the NAS is plain and local.

        Raises NasError with `nas_is_staging` where it is seen, and with the reasons of `read`.
        """
        names = [os.fsdecode(name) for name in beside]
        self._ask({"twin": twin, "folder": os.fsdecode(folder), "beside": names, "within": os.fsdecode(within)})
        plain_local: bool = self._wait_for("plain_local")
        return plain_local

    def reopen(self, twin: str, files: Sequence[Ends]) -> None:
        """Open files of a twin anew and compare their ends with those of the staged ones, as `challenge.reopen`.

        Raises NasError with `nas_checksum_mismatch`, and with the reasons of `read`.
        """
        ends = [(os.fsdecode(file.path), file.size, file.digest.hex(), file.pieces) for file in files]
        self._ask({"twin": twin, "ends": ends})
        self._wait_for("reopened")

    def lacking(self, twin: str, asked: BeyondBytes) -> BeyondBytes:
        """What of some attributes, access lists and empty folders the twin has not. Raises NasError as `read`."""
        self._ask({"twin": twin, "beyond": beyond_bytes.as_json(asked)})
        return beyond_bytes.from_json(self._wait_for("lacking"))

    def tell(
        self, twin: str, run_path: str, history: list[dict[str, Any]], attempt: str, *, form: str = "ingest"
    ) -> bool:
        """Let the record of the twin at `twin` have this history; False if it has it already. See `twin.tell`.

        Raises NasError with the reasons of `read` and of `twin.tell`.
        """
        self._ask({"twin": twin, "run_path": run_path, "history": history, "attempt": attempt, "form": form})
        told: bool = self._wait_for("told")
        return told

    def clock(self) -> clock.Reading:
        """What the NAS's own clock says, as `clock.read`. Raises clock.NoClock, and NasError as `read`."""
        self._ask({"clock": True})
        answer = self._wait_for("clock")
        if isinstance(answer, str):
            raise clock.NoClock(answer)
        return clock.Reading(*answer)

    def _wait_for(self, name: str) -> Any:  # noqa: ANN401
        """The value that ends an answer of beats and nothing else. Raises NasError."""
        while True:
            answer = self._answer()
            if "beat" in answer:
                continue
            if "problem" in answer:
                self._refuse(answer)
            self._answering = False
            return answer[name]

    def _refuse(self, answer: dict[str, Any]) -> NoReturn:
        """Hand on the child's problem; one that may concern the NAS as a whole does not where the NAS answers."""
        self._answering = False
        if "trace" in answer:
            logger.error("the process that reads the NAS failed:\n%s", answer["trace"])
            self._forget_child()
        raise NasError(Problem(*answer["problem"]), ill=answer.get("ill", False) and not self._answers_elsewhere())

    def _answers_elsewhere(self) -> bool:
        """Whether the NAS itself answers: to another process, and for a name that no cache can hold."""
        if not self._abandoned.may_ask_again():
            return False
        timeout, abandoned = min(self._timeout, _SECOND_TIMEOUT), _AskedOnce(self._abandoned)
        with NasReader(self._path, self._token, timeout=timeout, abandoned=abandoned) as second:
            try:
                second._ask({"unheard_of": markers.staging_marker(str(uuid.uuid4())).decode()})
                return bool(second._wait_for("unheard_of"))
            except NasError:
                return False

    def _ask(self, request: dict[str, Any]) -> None:
        if self._given_up:
            raise NasError(Problem("nas_timeout", "it did not answer earlier in this pass"))
        if self._answering:
            # Its last answer was not heard to the end, and the rest must not be taken for another run's.
            self._forget_child()
        if self._child is None:
            self._child = self._start()
        assert self._child.stdin is not None  # noqa: S101
        self._answering = True
        try:
            self._send(self._child.stdin.fileno(), json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            self._lose("the reading process ended")

    def _send(self, pipe: int, data: bytes) -> None:
        """Hand on a request. A long one fills the pipe, and a child that does not read would hold us for ever."""
        os.set_blocking(pipe, False)
        while data:
            _, ready, _ = select.select([], [pipe], [], self._timeout)
            if not ready:
                self._give_up()
            data = data[os.write(pipe, data) :]

    def _start(self) -> "subprocess.Popen[bytes]":
        try:
            return subprocess.Popen(
                # Without site (-S): it needs nothing but the standard library and ourselves, and is sooner ready.
                [sys.executable, "-S", "-m", "cleanup.storage.nas.client", self._path, self._token, self._staging],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=os.path.dirname(os.path.dirname(os.path.abspath(cleanup.__file__))),  # where it finds us
                start_new_session=True,
            )
        except OSError as error:
            detail = f"the reading process cannot be started: {os.strerror(error.errno or 0)}"
            raise NasError(Problem("nas_io_error", detail)) from None

    def _answer(self) -> dict[str, Any]:
        assert self._child is not None and self._child.stdout is not None  # noqa: S101
        descriptor = self._child.stdout.fileno()
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([descriptor], [], [], self._timeout)
            if not ready:
                self._give_up()
            part = os.read(descriptor, 1 << 16)
            if not part:
                self._lose("the reading process ended")
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _give_up(self) -> NoReturn:
        detail, at = f"{_SILENT} {self._timeout:g} s", self._kill()
        if self._answers_elsewhere():
            where = f" at {show(os.fsencode(at))}" if at else ""
            raise NasError(Problem("nas_slow", f"{detail}{where}, while the NAS itself answered"))
        self._given_up = True
        raise NasError(Problem("nas_timeout", detail), ill=True)

    def _kill(self) -> str:
        """Give up the child, and remember it if it does not die of that; returns what it was at, if that is known."""
        child = self._child
        if child is None:
            return ""
        process, at = processes.process_of(child.pid), processes.open_beneath(child.pid, self._path)
        self._forget_child()
        try:
            child.wait(timeout=_DEATH_SECONDS)
        except subprocess.TimeoutExpired:
            if process is not None:
                self._abandoned.note(process)
        return at

    def _lose(self, detail: str) -> NoReturn:
        self._forget_child()
        raise NasError(Problem("nas_io_error", detail), ill=not self._answers_elsewhere())

    def _forget_child(self) -> None:
        child, self._child = self._child, None
        self._answering = False
        self._buffer = b""
        if child is not None:
            _abandon(child)


def _abandon(child: "subprocess.Popen[bytes]") -> None:
    """Kill, and do not wait: a process that hangs in the kernel dies only when its mount comes back."""
    child.kill()
    child.poll()
    for pipe in (child.stdin, child.stdout):
        with contextlib.suppress(OSError):
            pipe.close()  # type: ignore[union-attr]


def open_nas(path: str, token: str) -> int:
    """Open a NAS root if it is the right one. Raises NasError, or OSError where the mount answers with an error."""
    try:
        root = handles.open_root(path)
    except FileNotFoundError:
        raise NasError(Problem("nas_not_mounted", "its directory is missing")) from None
    try:
        tokens.check_token(root, token)
    except errors.WrongToken as error:
        os.close(root)
        if error.found is None or not token:
            raise NasError(Problem("nas_not_mounted", "no token file at its top")) from None
        raise NasError(Problem("nas_identity_mismatch", f"it carries {error.found}")) from None
    except OSError:
        os.close(root)
        raise
    return root


def _listing(
    root: int,
    twin_path: str,
    malformed: list[str],
    *,
    with_bytes: bool,
    wanted: frozenset[bytes] | None,
    beat: Callable[[int], None],
) -> Iterator[dict[str, Any]]:
    """The child's answers to one request to read; `malformed` are those that were found on the way to the twin.

    With `wanted` only those files are read; without it all are.
    """
    with handles.opened(_open_twin(root, twin_path)) as run:
        device = linux.status(run).device
        malformed += _expect_no_marker(run, run_paths.METADATA)
        pending = [b""]
        while pending:
            directory = path = pending.pop()
            with contextlib.ExitStack() as stack:
                stack.enter_context(_named(lambda: path))  # noqa: B023
                try:
                    descriptor, names = stack.enter_context(_folder(run, directory))
                except OSError as error:
                    if not directory:
                        raise
                    yield _unread(directory, error)
                    continue
                malformed += _malformed(directory, names)
                for name in names:
                    path = directory + b"/" + name if directory else name
                    try:
                        status = linux.status(descriptor, name)
                    except FileNotFoundError:
                        continue  # gone since it was listed
                    except OSError as error:
                        yield _unread(path, error)
                        continue
                    beat(0)
                    if status.is_directory and path != run_paths.METADATA:
                        if path.count(b"/") >= run_tree.MAX_DEPTH or len(path) > run_tree.MAX_PATH:
                            yield _unread(path, OSError(errno.ENAMETOOLONG, ""))
                            continue
                        pending.append(path)
                    elif status.is_file:
                        digest = ""
                        if with_bytes and (wanted is None or path in wanted):
                            read, status = hashing.hash_file(descriptor, name, drop_cache=True, beat=beat)
                            digest = read.hex()
                        marks = [status.size, status.mtime_ns, status.ino]
                        yield {"file": [os.fsdecode(path), *marks, digest, status.ctime_ns]}
        record, origin = _record(run), _origin(run)
    try:
        described = places.describe(root).as_json()
    except UnknownMount as error:
        raise NasError(Problem("nas_io_error", f"its mount cannot be told: {error.strerror}")) from None
    yield {
        "device": device,
        "place": described,
        "record": None if record is None else record.decode("latin-1"),
        "malformed": malformed,
        "origin": origin,
    }


@contextlib.contextmanager
def _named(path: Callable[[], bytes]) -> Iterator[None]:
    """Let an error say which file or folder of the twin it met, by its whole path there, as `path` says by then."""
    try:
        yield
    except OSError as error:
        if named := path():
            error.filename = os.fsdecode(named)
        raise


@contextlib.contextmanager
def _folder(run: int, directory: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A folder of a twin, open, with the names in it. Raises OSError."""
    with handles.opened(handles.open_beneath(run, directory or b".")) as descriptor:
        yield descriptor, markers.names_in(descriptor)


def _unread(path: bytes, error: OSError) -> dict[str, Any]:
    return {"unread": [os.fsdecode(path), error.errno or errno.EIO]}


def _record(run: int) -> bytes | None:
    try:
        return handles.read_file(run, run_tree.INGEST_PATH, ingest.MAX_BYTES)
    except OSError:
        return None


def _origin(run: int) -> str:
    try:
        return records.origin_of(run)
    except ingest.IngestError:
        return "-"


def _mounted_below(root: int, twin_path: str) -> bytes | None:
    """The first folder on the way to a twin at which another filesystem is mounted; None if it is not on the way."""
    way = b""
    for step in os.fsencode(twin_path).split(b"/"):
        way = way + b"/" + step if way else step
        if linux.status(root, way).is_mount_root:
            return way
    return None


def _answers(root: int, name: bytes) -> bool:
    """Whether the NAS says of a name that nothing has ever had that it is not there, and gives its token anew."""
    hashing.hash_file(root, tokens.TOKEN, drop_cache=True)
    return not markers.exists(root, name)


def _present(root: int, paths: list[str]) -> list[str]:
    """Which of some paths beneath the open root are directories there."""
    found = []
    for path in paths:
        try:
            os.close(handles.open_beneath(root, os.fsencode(path)))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.ELOOP):
                raise
            continue
        found.append(path)
    return found


def _record_named(root: int, twin_path: str, name: str) -> dict[str, Any]:
    """The child's answer to a request for a record."""
    try:
        with handles.opened(handles.open_beneath(root, os.fsencode(twin_path))) as run:
            limit = {form.file: form.max_bytes for form in records.FORMATS}.get(os.fsencode(name), ingest.MAX_BYTES)
            data = handles.read_file(run, run_paths.METADATA + b"/" + os.fsencode(name), limit)
    except FileNotFoundError:
        raise NasError(Problem("nas_missing_file", f"no {name} in the run on the NAS")) from None
    return {"bytes": base64.b64encode(data).decode("ascii")}


def _open_twin(root: int, twin_path: str) -> int:
    try:
        return handles.open_beneath(root, os.fsencode(twin_path))
    except FileNotFoundError:
        raise NasError(Problem("nas_missing_file", "the NAS holds no such run")) from None
    except OSError as error:
        if error.errno == errno.EXDEV and (place := _mounted_below(root, twin_path)):
            raise NasError(extras.mount_below(place)) from None
        raise


def _malformed(directory: bytes, names: list[bytes]) -> list[str]:
    """What only looks like a staging marker among the names in a folder of a twin. Raises IsStaging for a real one."""
    found = markers.marks(names)
    ways.expect_none(b"the twin/" + directory if directory else b"the twin", found)
    return [show(name) for name in found.malformed]


def _expect_no_marker(run: int, folder: bytes) -> list[str]:
    """As `_malformed`, for a folder of a twin that is not compared, and need be neither there nor readable."""
    try:
        descriptor = handles.open_beneath(run, folder)
    except OSError:
        return []
    with handles.opened(descriptor):
        return _malformed(folder, markers.names_in(descriptor))


def _clock(root: int) -> clock.Reading | str:
    try:
        return clock.read(root)
    except clock.NoClock as error:
        return str(error)


def _challenge(root: int, request: dict[str, Any]) -> bool:
    twin_path, folder, within = (os.fsencode(request[name]) for name in ("twin", "folder", "within"))
    beside = [os.fsencode(name) for name in request["beside"]]
    return challenge.challenge(root, twin_path, folder=folder, beside=beside, within=within)


def answers(
    way: ways.Ways, token: str, request: dict[str, Any], beat: Callable[[int], None]
) -> Iterator[dict[str, Any]]:
    """The child's answers to one request, the last of them a problem where there is one."""
    try:
        with handles.opened(open_nas(way.path, token)) as root:
            if "unheard_of" in request:
                yield {"unheard_of": _answers(root, os.fsencode(request["unheard_of"]))}
            elif "clock" in request:
                yield {"clock": _clock(root)}
            elif "present" in request:
                yield {"present": _present(root, request["present"])}
            elif "record" in request:
                yield _record_named(root, request["twin"], request["record"])
            elif "history" in request:
                where = request["twin"], request["run_path"]
                how = request["history"], request["attempt"]
                yield {"told": nas_record.tell(root, *where, *how, form=request["form"])}
            elif "beyond" in request:
                with handles.opened(_open_twin(root, request["twin"])) as run:
                    asked = beyond_bytes.from_json(request["beyond"])
                    yield {"lacking": beyond_bytes.as_json(beyond_bytes.lacking(run, asked))}
            elif "ends" in request:
                ends = [
                    Ends(os.fsencode(path), size, bytes.fromhex(digest), tuple((at, length) for at, length in pieces))
                    for path, size, digest, pieces in request["ends"]
                ]
                challenge.reopen(root, os.fsencode(request["twin"]), ends, beat)
                yield {"reopened": len(ends)}
            elif "beside" in request:
                way.ask(root, os.fsencode(request["twin"]), recent=False)
                yield {"plain_local": _challenge(root, request)}
            else:
                malformed = way.ask(root, os.fsencode(request["twin"]), recent=request.get("recent", False))
                wanted = frozenset(map(os.fsencode, request["wanted"])) if "wanted" in request else None
                place, with_bytes = request["twin"], request["with_bytes"]
                yield from _listing(root, place, list(malformed), with_bytes=with_bytes, wanted=wanted, beat=beat)
    except (NasError, nas_record.NotTold, markers.IsStaging, challenge.Changed) as error:
        yield {"problem": list(error.problem), "ill": error.ill}
    except OSError as error:
        name = f"{show(os.fsencode(error.filename))}: " if isinstance(error.filename, str) else ""
        detail = f"{name}{os.strerror(error.errno or 0)}"
        yield {"problem": ["nas_io_error", detail], "ill": error.errno in nas_record.ILL}


def _serve(path: str, token: str, staging: str = "") -> None:
    """The child's loop: one request a line on standard input, answers on standard output."""
    way = ways.Ways(path, markers.staging_marker(staging) if staging else b"")

    def say(answer: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(answer) + "\n")

    unsaid = 0
    last = time.monotonic()

    def beat(size: int) -> None:
        nonlocal unsaid, last
        unsaid += size
        if time.monotonic() - last >= _BEAT_SECONDS:
            say({"beat": unsaid})
            sys.stdout.flush()
            unsaid, last = 0, time.monotonic()

    def fail(kind: type[BaseException], error: BaseException, trace: object) -> None:
        """Say of a fault of our own what would else go to standard error, which is nobody's."""
        from traceback import format_exception  # long to import

        problem = ["nas_io_error", f"the reading process failed: {kind.__name__}: {error}"]
        say({"problem": problem, "ill": True, "trace": "".join(format_exception(error))})
        sys.stdout.flush()

    sys.excepthook = fail
    for line in sys.stdin:
        for answer in answers(way, token, json.loads(line), beat):
            say(answer)
        sys.stdout.flush()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
