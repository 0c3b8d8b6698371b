"""gunicorn, started as by `up`, with slow clients."""

import contextlib
import http.client
import io
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpResponse, StreamingHttpResponse

from cleanup.management.commands.up import _web_server
from exlab import slow_clients
from tests.management.test_up import CHECKOUT, free_port, wait_for

pytestmark = pytest.mark.one_engine(by="function")


HEADERS = b"Host: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
HALF_OPEN = b"GET /login/ HTTP/1.1\r\nHost: loc"
SLOW_FORM = b"POST /login/ HTTP/1.1\r\n" + HEADERS + b"Content-Length: 4000\r\n\r\n"


class Server:
    def __init__(self, env: dict[str, str]) -> None:
        self.port = free_port()
        child = _web_server(f"127.0.0.1:{self.port}")
        self.process = subprocess.Popen(child.command, cwd=CHECKOUT, env=env, stdin=subprocess.DEVNULL)
        self.clients: list[socket.socket] = []

    def connect(self, number: int, sends: bytes = b"") -> list[socket.socket]:
        came = []
        for _ in range(number):
            came.append(socket.create_connection(("127.0.0.1", self.port), timeout=10))
            came[-1].sendall(sends)
        self.clients += came
        return came

    def ask(self, path: str = "/login/") -> float:
        before = time.monotonic()
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            assert (answer.status, b"Sign in" in answer.read()) == (200, True)
        return time.monotonic() - before

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            self.ask()
            return True
        return False

    def end(self) -> None:
        for client in self.clients:
            client.close()
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture
def server(subprocess_env: dict[str, str], tmp_path: Path) -> Iterator[Server]:
    env = {**subprocess_env, "EXLAB_DATA_DIR": str(tmp_path / "data"), "EXLAB_DEBUG": "1"}
    server = Server(env)
    try:
        wait_for(server.answers, "the first page", 60)
        yield server
    finally:
        server.end()


@contextlib.contextmanager
def trickling(clients: list[socket.socket]) -> Iterator[None]:
    over = threading.Event()

    def send() -> None:
        while not over.wait(1):
            for client in clients:
                with contextlib.suppress(OSError):
                    client.send(b"a")

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def slowest(ask: Callable[[], float], seconds: float) -> float:
    until, took = time.monotonic() + seconds, 0.0
    while time.monotonic() < until:
        took = max(took, ask())
        time.sleep(0.05)
    return took


def test_slow_clients_keep_no_page_waiting(server: Server) -> None:
    """Takes 10 s: the start, 5 s of asking (gunicorn waits as long for a silent client), and 2 s for clients
    at the end.
    """
    refuses_what_is_too_much(server)
    server.connect(60, HALF_OPEN)
    server.connect(60)
    slow = server.connect(40, SLOW_FORM)
    with trickling(slow):
        assert slowest(server.ask, 2) < 2
        server.connect(40, b"nonsense\r\n\r\n")
        server.connect(40, b"GET /login/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert slowest(server.ask, 3) < 2
    before = time.monotonic()
    os.kill(server.process.pid, signal.SIGTERM)
    assert server.process.wait(20) == 0
    assert time.monotonic() - before < 8


def refuses_what_is_too_much(server: Server) -> None:
    too_large = str(slow_clients.LARGEST_BODY + 1).encode()
    asked = {
        b"POST /login/ HTTP/1.1\r\n" + HEADERS + b"Content-Length: " + too_large + b"\r\n\r\na": 413,
        b"GET /login/ HTTP/1.1\r\n" + b"".join(b"X-%d: a\r\n" % number for number in range(200)) + b"\r\n": 431,
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n": 414,
    }
    for sent, status in asked.items():
        (client,) = server.connect(1, sent)
        assert int(client.recv(4096).split()[1]) == status


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [environ["CONTENT_LENGTH"].encode(), b" ", environ["wsgi.input"].read()]


@pytest.mark.parametrize(
    ("sent", "announced", "status", "said"),
    [
        (b"name=ada", {"CONTENT_LENGTH": "8"}, 200, b"8 name=ada"),
        (b"name=ada", {"CONTENT_LENGTH": "4"}, 200, b"4 name"),
        (b"name=ada", {"HTTP_TRANSFER_ENCODING": "chunked"}, 200, b"8 name=ada"),
        (b"name=ada", {}, 200, b"0 "),
        (b"name=ada", {"CONTENT_LENGTH": ""}, 200, b"0 "),
        (b"name=ada", {"CONTENT_LENGTH": "9"}, 408, b"nothing was done"),
        (b"", {"CONTENT_LENGTH": "9999999"}, 413, b"more than any form"),
        (b"a" * (slow_clients.LARGEST_BODY + 1), {"HTTP_TRANSFER_ENCODING": "chunked"}, 413, b"more than any form"),
    ],
)
def test_a_request_is_passed_on_whole_or_not_at_all(
    sent: bytes, announced: dict[str, str], status: int, said: bytes
) -> None:
    statuses: list[str] = []
    environ = {"wsgi.input": io.BytesIO(sent), **announced}
    answer = slow_clients.WholeRequests(application)(environ, lambda status, headers: statuses.append(status))
    assert said in b"".join(answer)
    assert statuses[0].startswith(str(status))


def test_few_requests_are_worked_on_at_a_time() -> None:
    at_work, most, go = [], [], threading.Event()

    def slow(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        at_work.append(1)
        most.append(len(at_work))
        go.wait(10)
        at_work.pop()
        return []

    served = slow_clients.WholeRequests(slow)
    threads = [threading.Thread(target=served, args=({}, None)) for _ in range(slow_clients.AT_A_TIME * 3)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(at_work) == slow_clients.AT_A_TIME, "the first ones", 10)
    go.set()
    for thread in threads:
        thread.join(10)
    assert (len(most), max(most)) == (len(threads), slow_clients.AT_A_TIME)


def test_a_client_that_takes_nothing_of_its_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that takes some of it, or whose answer is not ready, is left alone."""
    worker = object.__new__(slow_clients.Worker)
    worker.alive = True
    with contextlib.ExitStack() as stack:
        pairs = {name: answering(stack) for name in ("silent", "slow", "waiting")}
        worker.answering = {conn: slow_clients.Untaken(0, 0.0) for conn, _client in pairs.values()}
        for name in ("silent", "slow"):
            fill(pairs[name][0].sock)
        worker.end_what_is_not_taken()
        monkeypatch.setattr(slow_clients, "TAKE_WITHIN", -1)
        wait_for(
            lambda: pairs["slow"][1].recv(1 << 20) and left_has_changed(worker, pairs["slow"][0]), "the slow one", 10
        )
        worker.end_what_is_not_taken()
        ended = {name: is_cut(conn.sock) for name, (conn, _client) in pairs.items()}
    assert ended == {"silent": True, "slow": False, "waiting": False}


class Answering:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock


def answering(stack: contextlib.ExitStack) -> tuple[Answering, socket.socket]:
    listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    client = stack.enter_context(socket.create_connection(listening.getsockname()))
    return Answering(stack.enter_context(listening.accept()[0])), client


def fill(sock: socket.socket) -> None:
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(b"a" * 65536)


def left_has_changed(worker: slow_clients.Worker, conn: Answering) -> bool:
    return bool(slow_clients._left_in(conn) != worker.answering[conn].left)


def is_cut(sock: socket.socket) -> bool:
    try:
        sock.send(b"a")
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False


def test_a_page_that_is_there_needs_no_database_while_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    monkeypatch.setattr(slow_clients, "close_old_connections", lambda: closed.append(1))
    for streaming, then in ((True, 0), (False, 1)):
        answer = StreamingHttpResponse() if streaming else HttpResponse()
        slow_clients.WholeRequests(lambda *_given, answer=answer: answer)({}, None)
        assert len(closed) == then


@pytest.mark.exhaustive
def test_what_never_comes_is_not_waited_for(server: Server) -> None:
    """Takes 30 s: clients get twenty."""
    clients = server.connect(60, HALF_OPEN) + server.connect(40, SLOW_FORM)
    with trickling(clients):
        assert slowest(server.ask, slow_clients.READ_WITHIN + 4) < 2
    for client in clients:
        client.settimeout(5)
        with contextlib.suppress(ConnectionError):
            while client.recv(4096):
                pass


@pytest.mark.exhaustive
def test_what_is_never_taken_is_not_kept(server: Server) -> None:
    """More clients that read nothing than threads. Takes 60 s."""
    biggest = b"GET /static/admin/js/vendor/xregexp/xregexp.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20
    server.connect(540, biggest)
    time.sleep(slow_clients.TAKE_WITHIN + 25)
    assert slowest(server.ask, 2) < 2
