"""The process that reads one NAS root: `python -m cleanup.storage.nas.server PATH TOKEN [STAGING_TOKEN]`.

It must start fast, so it imports only the standard library, `rules` and `storage`.
"""

import base64
import contextlib
import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from cleanup.rules.findings import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage import anchor_file, errors, handles, hashing, linux, run_paths
from cleanup.storage.mounts import places
from cleanup.storage.mounts.mountinfo import UnknownMount
from cleanup.storage.nas import challenge, clock, extras, laid_receipts, protocol, twin_files, wanted_files, way_to_twin
from cleanup.storage.nas import record as nas_record
from cleanup.storage.nas.protocol import NasError
from cleanup.storage.root_files import markers, tokens
from cleanup.storage.run_paths import show
from cleanup.storage.staging import beyond_bytes, records, run_tree
from cleanup.storage.staging.records import ingest_json as ingest

# While it reads, the server sends a sign of life at least this often.
BEAT_SECONDS = 0.3

Answer = dict[str, Any]


def open_nas(path: str, token: str) -> int:
    """Opens a NAS root that carries this token. Raises NasError, OSError."""
    try:
        root = handles.open_root(path)
    except FileNotFoundError:
        raise NasError(Finding(Reason.NAS_NOT_MOUNTED, "its directory is missing")) from None
    try:
        tokens.check_token(root, token)
    except errors.WrongToken as error:
        os.close(root)
        if error.found is None or not token:
            raise NasError(Finding(Reason.NAS_NOT_MOUNTED, "no token file at its top")) from None
        raise NasError(Finding(Reason.NAS_IDENTITY_MISMATCH, f"it carries {error.found}")) from None
    except OSError:
        os.close(root)
        raise
    return root


def answers(way: way_to_twin.Ways, token: str, request: Answer, beat: Callable[[int], None]) -> Iterator[Answer]:
    """Yields the answers to one request; the last is a problem if there is one."""
    try:
        with handles.opened(open_nas(way.path, token)) as root:
            yield from _answers(root, way, request, beat)
    except (NasError, nas_record.NotTold, markers.IsStaging, challenge.TwinChanged) as error:
        yield {"problem": [error.problem.reason, error.problem.detail], "ill": error.ill}
    except OSError as error:
        name = f"{show(os.fsencode(error.filename))}: " if isinstance(error.filename, str) else ""
        detail = f"{name}{os.strerror(error.errno or 0)}"
        yield {"problem": ["nas_io_error", detail], "ill": error.errno in nas_record.ILL}


def _answers(root: int, way: way_to_twin.Ways, request: Answer, beat: Callable[[int], None]) -> Iterator[Answer]:
    if "unheard_of" in request:
        yield {"unheard_of": _is_answering(root, os.fsencode(request["unheard_of"]))}
    elif "clock" in request:
        yield {"clock": _clock(root)}
    elif "anchor" in request:
        way.ask(root, b".", recent=False)
        anchor_file.append(root, anchor_file.name_of(request["installation"]), request["anchor"].encode("ascii"))
        yield {"anchored": True}
    elif "anchor_files" in request:
        yield {"numbers": anchor_file.numbers(root, anchor_file.name_of(request["anchor_files"]))}
    elif "anchors" in request:
        part = anchor_file.read_part(root, anchor_file.name_of(request["anchors"]), request["number"], request["at"])
        yield {"part": part.decode("latin-1")}
    elif "present" in request:
        yield {"present": present(root, request["present"])}
    elif "record" in request:
        yield _record_named(root, request["twin"], request["record"])
    elif "lay" in request:
        yield {"laid": _lay(root, request)}
    elif "history" in request:
        where, how = (request["twin"], request["run_path"]), (request["history"], request["attempt"])
        yield {"told": nas_record.tell(root, *where, *how, form=request["form"])}
    elif "beyond" in request:
        with handles.opened(_open_twin(root, request["twin"])) as run:
            asked = beyond_bytes.from_json(request["beyond"])
            yield {"lacking": beyond_bytes.as_json(beyond_bytes.lacking(run, asked))}
    elif "ends" in request:
        ends = protocol.ends_from_json(request["ends"])
        challenge.reopen(root, os.fsencode(request["twin"]), ends, beat)
        yield {"reopened": len(ends)}
    elif "beside" in request:
        way.ask(root, os.fsencode(request["twin"]), recent=False)
        yield {"plain_local": _challenge(root, request)}
    else:
        malformed = way.ask(root, os.fsencode(request["twin"]), recent=request.get("recent", False))
        yield from _listing(root, request, list(malformed), beat)


def _listing(root: int, request: Answer, malformed: list[str], beat: Callable[[int], None]) -> Iterator[Answer]:
    with handles.opened(_open_twin(root, request["twin"])) as run:
        device = linux.status(run).device
        malformed += _expect_no_marker(run, run_paths.METADATA)
        yield from twin_files.answers(run, _walk(run, malformed, beat), request, beat)
        record, origin = _record(run), _origin(run)
    try:
        place = places.describe(root).as_json()
    except UnknownMount as error:
        raise NasError(Finding(Reason.NAS_IO_ERROR, f"its mount cannot be told: {error.strerror}")) from None
    yield protocol.last_line(device, place, record, malformed, origin)


def _walk(run: int, malformed: list[str], beat: Callable[[int], None]) -> Iterator[Answer | twin_files.Found]:
    pending, read = [b""], linux.status_reader()
    while pending:
        directory = pending.pop()
        with contextlib.ExitStack() as stack:
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
                    status = read(descriptor, name)
                except FileNotFoundError:
                    continue  # gone since it was listed
                except OSError as error:
                    yield _unread(path, error)
                    continue
                beat(0)
                if status.is_file:
                    yield twin_files.Found(path, status)
                elif status.is_directory and path != run_paths.METADATA:
                    if path.count(b"/") >= run_tree.MAX_DEPTH or len(path) > run_tree.MAX_PATH:
                        yield _unread(path, OSError(errno.ENAMETOOLONG, ""))
                    else:
                        pending.append(path)


@contextlib.contextmanager
def _folder(run: int, directory: bytes) -> Iterator[tuple[int, list[bytes]]]:
    with handles.opened(handles.open_beneath(run, directory or b".")) as descriptor:
        yield descriptor, sorted(markers.names_in(descriptor))  # as a scan, so that the listing can be packed


def _unread(path: bytes, error: OSError) -> Answer:
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
    way = b""
    for step in os.fsencode(twin_path).split(b"/"):
        way = way + b"/" + step if way else step
        if linux.status(root, way).is_mount_root:
            return way
    return None


def _is_answering(root: int, name: bytes) -> bool:
    # Nothing ever had this name, and the token is read anew: no cache can answer.
    hashing.hash_file(root, tokens.TOKEN, drop_cache=True)
    return not markers.exists(root, name)


def present(root: int, paths: list[str]) -> list[str]:
    """Returns those paths that are folders, not reached by a link or a mount. Raises OSError."""
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


def _record_named(root: int, twin_path: str, name: str) -> Answer:
    try:
        with handles.opened(handles.open_beneath(root, os.fsencode(twin_path))) as run:
            limit = {form.file: form.max_bytes for form in records.FORMATS}.get(os.fsencode(name), ingest.MAX_BYTES)
            data = handles.read_file(run, run_paths.METADATA + b"/" + os.fsencode(name), limit)
    except FileNotFoundError:
        raise NasError(Finding(Reason.NAS_MISSING_FILE, f"no {name} in the run on the NAS")) from None
    return {"bytes": base64.b64encode(data).decode("ascii")}


def _open_twin(root: int, twin_path: str) -> int:
    try:
        return handles.open_beneath(root, os.fsencode(twin_path))
    except FileNotFoundError:
        raise NasError(Finding(Reason.NAS_MISSING_FILE, "the NAS holds no such run")) from None
    except OSError as error:
        if error.errno == errno.EXDEV and (place := _mounted_below(root, twin_path)):
            raise NasError(extras.mount_below(place)) from None
        raise


def _malformed(directory: bytes, names: list[bytes]) -> list[str]:
    found = markers.marks(names)
    way_to_twin.expect_none(b"the twin/" + directory if directory else b"the twin", found)
    return [show(name) for name in found.malformed]


def _expect_no_marker(run: int, folder: bytes) -> list[str]:
    # This folder is not compared, so it may be missing or unreadable.
    try:
        descriptor = handles.open_beneath(run, folder)
    except OSError:
        return []
    with handles.opened(descriptor):
        return _malformed(folder, markers.names_in(descriptor))


def _lay(root: int, request: Answer) -> int:
    name, at, data, size, sha256 = request["lay"]
    part = laid_receipts.Part(os.fsencode(name), at, base64.b64decode(data), size, sha256)
    where, form = (request["twin"], request["run_path"]), request["form"]
    return laid_receipts.lay(root, *where, request["history"], part, form=form)


def _clock(root: int) -> clock.Reading | str:
    try:
        return clock.read(root)
    except clock.NoClock as error:
        return str(error)


def _challenge(root: int, request: Answer) -> bool:
    twin_path, folder, within = (os.fsencode(request[name]) for name in ("twin", "folder", "within"))
    beside = [os.fsencode(name) for name in request["beside"]]
    return challenge.challenge(root, twin_path, folder=folder, beside=beside, within=within)


class _Voice:
    def __init__(self) -> None:
        self._unsaid = 0
        self._last = time.monotonic()

    def say(self, answer: Answer) -> None:
        # What was read comes before what it says, so that the beats add up.
        said = protocol.frame(answer)
        if self._unsaid:
            said = protocol.frame({"beat": self._unsaid}) + said
        self._unsaid, self._last = 0, time.monotonic()
        handles.write_all(sys.stdout.fileno(), said)

    def beat(self, size: int) -> None:
        self._unsaid += size
        if time.monotonic() - self._last >= BEAT_SECONDS:
            unsaid, self._unsaid = self._unsaid, 0
            self.say({"beat": unsaid})

    def fail(self, kind: type[BaseException], error: BaseException, trace: object) -> None:
        # Standard error goes nowhere, so a fault of our own is an answer.
        from traceback import format_exception  # long to import

        problem = ["nas_io_error", f"the reading process failed: {kind.__name__}: {error}"]
        self.say({"problem": problem, "ill": True, "trace": "".join(format_exception(error))})


def serve(path: str, token: str, staging: str = "") -> None:
    """Answers the requests on standard input to its end; `staging` is the staging root's token."""
    way = way_to_twin.Ways(path, markers.staging_marker(staging) if staging else b"")
    voice = _Voice()
    sys.excepthook = voice.fail
    for line in sys.stdin:
        request = json.loads(line)
        if "wanted" in request:
            request["wanted"] = wanted_files.WantedFiles(sys.stdin)
        for answer in answers(way, token, request, voice.beat):
            voice.say(answer)


if __name__ == "__main__":
    serve(*sys.argv[1:])
