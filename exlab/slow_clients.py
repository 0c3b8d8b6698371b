"""Slow clients keep a waiting thread, and no page.

A gunicorn thread belongs to one connection while a request is read: many threads wait, few work, and a request or
answer that does not move is ended.
"""

import contextlib
import fcntl
import io
import socket
import struct
import termios
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import close_old_connections
from gunicorn.workers.gthread import TConn, ThreadWorker

# Seconds within which a request must be complete: enough for a large form on a bad line.
READ_WITHIN = 20
# The same while the server stops.
READ_WITHIN_AT_THE_END = 2
# Seconds for which a client may take nothing of its answer.
TAKE_WITHIN = 20
# Bytes of a request: our forms have a few KiB, and Django reads at most 2.5 MiB.
LARGEST_BODY = 4 * 1024 * 1024
# Requests of one worker at a time; each holds a connection to the database.
AT_A_TIME = 8
_TOO_LARGE = "413 Content Too Large", b"This is more than any form here sends, so it was not read.\n"
_TOO_SLOW = "408 Request Timeout", b"The request did not come in whole, so nothing was done.\n"


@dataclass
class Untaken:
    """The bytes that a client has not taken, unchanged since `since`."""

    left: int
    since: float


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Ends requests that do not arrive and answers that are not taken."""

    def init_process(self) -> None:
        self.reading: dict[TConn, float] = {}
        self.answering: dict[TConn, Untaken] = {}
        super().init_process()

    def handle(self, conn: TConn) -> object:
        now = time.monotonic()
        self.reading[conn], self.answering[conn] = now, Untaken(0, now)
        try:
            keep = super().handle(conn)
        finally:
            self.reading.pop(conn, None)
            self.answering.pop(conn, None)
        if not keep:
            _close(conn)
        return keep

    def murder_pending(self) -> None:
        """gunicorn calls it every second; only reading ends, so that answers under way go on."""
        super().murder_pending()
        within = READ_WITHIN if self.alive else READ_WITHIN_AT_THE_END
        late = time.monotonic() - within
        for conn in [conn for conn, since in self.reading.copy().items() if since < late]:
            self.reading.pop(conn, None)
            _end_reading(conn)
        self.end_what_is_not_taken()

    def end_what_is_not_taken(self) -> None:
        """Slow clients that take a little go on."""
        now = time.monotonic()
        late = now - (TAKE_WITHIN if self.alive else READ_WITHIN_AT_THE_END)
        for conn, untaken in self.answering.copy().items():
            left = _left_in(conn)
            if not left or left != untaken.left:
                untaken.left, untaken.since = left, now
            elif untaken.since < late:
                _cut(conn)


class WholeRequests:
    """Calls the application only for complete requests, few at a time."""

    def __init__(self, application: Any) -> None:  # noqa: ANN401
        self.application = application
        self.turns = threading.BoundedSemaphore(AT_A_TIME)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:  # noqa: ANN401
        length = _announced(environ)
        if length > LARGEST_BODY:
            return _refuse(_TOO_LARGE, start_response)
        body = _read(environ, length)
        if len(body) > LARGEST_BODY:
            return _refuse(_TOO_LARGE, start_response)
        if len(body) < length:  # a form without its end has another meaning
            return _refuse(_TOO_SLOW, start_response)
        environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(body), str(len(body))
        with self.turns:
            answer: Iterable[bytes] = self.application(environ, start_response)
        if not getattr(answer, "streaming", False):
            close_old_connections()  # the page is complete: a slow client needs no database connection
        return answer


def _announced(environ: dict[str, Any]) -> int:
    text = environ.get("CONTENT_LENGTH") or ""
    return int(text) if text.isdecimal() else 0


def _read(environ: dict[str, Any], length: int) -> bytes:
    """At most one byte more than allowed."""
    if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
        length = LARGEST_BODY + 1
    body: bytes = environ["wsgi.input"].read(length) if length else b""
    return body


def _refuse(answer: tuple[str, bytes], start_response: Any) -> list[bytes]:  # noqa: ANN401
    status, words = answer
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(words)))])
    return [words]


def _close(conn: TConn) -> None:
    """Close it here: a client that does not hang up would stop gunicorn's only loop for two seconds."""
    with contextlib.suppress(OSError):
        conn.close(graceful=True)
    conn.close = _closed_already


def _closed_already(*, graceful: bool = False) -> None:
    pass


def _end_reading(conn: TConn) -> None:
    with contextlib.suppress(OSError):  # it has gone by itself
        conn.sock.shutdown(socket.SHUT_RD)


def _left_in(conn: TConn) -> int:
    with contextlib.suppress(OSError, ValueError):  # it is closed
        told = fcntl.ioctl(conn.sock.fileno(), termios.TIOCOUTQ, b"\0" * 4)
        return int(struct.unpack("i", told)[0])
    return 0


def _cut(conn: TConn) -> None:
    with contextlib.suppress(OSError):
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        conn.sock.shutdown(socket.SHUT_RDWR)
