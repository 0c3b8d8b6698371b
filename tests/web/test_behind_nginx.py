"""The pages behind a real nginx, with the configuration in docs/proxy.md."""

import contextlib
import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import User

from tests.faults.means import Unavailable, skip_or_fail
from tests.tools.checkout import CHECKOUT

pytestmark = pytest.mark.one_engine(by="function")


NGINX = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
OPENSSL = shutil.which("openssl")
NAME = "lab.example"
PASSWORD = "a password for a test"


@dataclass(frozen=True)
class Ports:
    pages: int
    plain: int
    secure: int


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def cookies(self) -> dict[str, str]:
        jar: SimpleCookie = SimpleCookie()
        for line in self.headers.get_all("Set-Cookie", []):
            jar.load(line)
        return {name: morsel.value for name, morsel in jar.items()}


def configuration(folder: Path, ports: Ports, *, host: str = "$http_host") -> str:
    (block,) = re.findall(r"```nginx\n(.*?)```", (CHECKOUT / "docs/proxy.md").read_text(), re.DOTALL)
    for theirs, ours in {
        "listen 80;": f"listen 127.0.0.1:{ports.plain};",
        "listen 443 ssl;": f"listen 127.0.0.1:{ports.secure} ssl;",
        "/etc/ssl/certs/lab.example.pem": str(folder / "certificate.pem"),
        "/etc/ssl/private/lab.example.key": str(folder / "key.pem"),
        "http://127.0.0.1:8000;": f"http://127.0.0.1:{ports.pages};",
        "return 301 https://$http_host$": f"return 301 https://{NAME}:{ports.secure}$",
    }.items():
        assert block.count(theirs) == 1, theirs
        block = block.replace(theirs, ours)
    block = block.replace("Host $http_host;", f"Host {host};")
    own_user = "user root;\n" if os.geteuid() == 0 else ""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    return (
        f"{own_user}daemon off;\npid {folder}/pid;\nerror_log {folder}/errors;\nworker_processes 1;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{block}}}\n"
    )


def ask(
    port: int, method: str, path: str, *, secure: bool, form: dict[str, str] | None = None, **headers: str
) -> Answer:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    connection: http.client.HTTPConnection
    if secure:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=trusting)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        headers = {"Host": f"{NAME}:{port}", **headers}
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request(method, path, urlencode(form) if form is not None else None, headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read().decode())


def sign_in(ports: Ports, **headers: str) -> Answer:
    first = ask(ports.secure, "GET", "/login/", secure=True, **headers)
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', first.text)
    assert token, first.text
    form = {"username": "ada", "password": PASSWORD, "csrfmiddlewaretoken": token[1]}
    said = {"Cookie": f"csrftoken={first.cookies['csrftoken']}", "Origin": f"https://{NAME}:{ports.secure}"}
    return ask(ports.secure, "POST", "/login/", secure=True, form=form, **said, **headers)


def free_ports() -> Ports:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        return Ports(*(probe.getsockname()[1] for probe in probes))


@contextlib.contextmanager
def running(command: list[str], port: int, env: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(command, cwd=CHECKOUT, env=env, stdin=subprocess.DEVNULL)
    try:
        for _ in range(1500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, command
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def proxied(subprocess_env: dict[str, str], tmp_path: Path):
    """The pages on one port, and nginx before them: `proxied(**settings)` runs both during the block."""
    if not (NGINX and OPENSSL):
        skip_or_fail(Unavailable("there is no nginx or no openssl: `apt-get install nginx-light openssl`"))
    certificate = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    place = ["-subj", f"/CN={NAME}", "-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "certificate.pem")]
    subprocess.run([str(OPENSSL), "req", *certificate, *place], check=True, capture_output=True)
    # The tests' own hasher is quick, and unknown to the server.
    hashed = PBKDF2PasswordHasher().encode(PASSWORD, "a-salt-for-a-test-only", iterations=1_000)
    User.objects.create(username="ada", password=hashed, is_superuser=True)
    env = {**subprocess_env, "EXLAB_DATA_DIR": str(tmp_path / "data")}
    env.pop("DJANGO_ALLOW_ASYNC_UNSAFE", None)
    command = [sys.executable, "manage.py", "collectstatic", "--no-input", "-v", "0"]
    subprocess.run(command, cwd=CHECKOUT, env=env, check=True)

    @contextlib.contextmanager
    def start(ports: Ports | None = None, *, host: str = "$http_host", **settings: str) -> Iterator[Ports]:
        ports = ports or free_ports()
        (tmp_path / "nginx.conf").write_text(configuration(tmp_path, ports, host=host))
        bind = ["--config", "python:exlab.serving", "--bind", f"127.0.0.1:{ports.pages}", "--workers", "1"]
        pages = [sys.executable, "-m", "gunicorn", *bind, "exlab.wsgi"]
        said = {"EXLAB_ALLOWED_HOSTS": NAME, "EXLAB_HTTPS": "1", **settings}
        proxy = [str(NGINX), "-e", str(tmp_path / "errors"), "-c", str(tmp_path / "nginx.conf")]
        with running(pages, ports.pages, {**env, **said}), running(proxy, ports.secure, env):
            yield ports

    return start


def test_as_the_guide_has_it(proxied) -> None:
    """Takes 6 s: two servers and the static files."""
    with proxied() as ports:
        plain = ask(ports.plain, "GET", "/runs/", secure=False)
        assert (plain.status, plain.headers["Location"]) == (301, f"https://{NAME}:{ports.secure}/runs/")
        answer = sign_in(ports)
        assert answer.status == 302, answer.text
        assert {"sessionid", "csrftoken"} <= set(answer.cookies)
        assert all("Secure" in line for line in answer.headers.get_all("Set-Cookie", []))
        session = "; ".join(f"{name}={value}" for name, value in answer.cookies.items())
        page = ask(ports.secure, "GET", "/", secure=True, Cookie=session)
        assert (page.status, "Overview" in page.text) == (200, True)
        forged = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http", "X-Forwarded-For": "1.2.3.4"}
        assert sign_in(ports, **forged).status == 302
        unknown = ask(ports.secure, "GET", "/", secure=True, Host="evil.example")
        assert (unknown.status, "EXLAB_ALLOWED_HOSTS" in unknown.text) == (400, True)
        # Directly on the server's port the headers are not believed.
        aside = ask(ports.pages, "GET", "/login/", secure=False, Host=NAME)
        assert aside.status == 301


@pytest.mark.exhaustive
def test_a_proxy_that_is_not_set_up_completely_is_told_which_setting_helps(proxied) -> None:
    """A proxy that is not named; and nginx's usual `Host $host`, which loses the port. Takes 10 s: three
    times two servers.
    """
    ports = free_ports()
    origin = f"https://{NAME}:{ports.secure}"
    with proxied(ports, EXLAB_TRUSTED_PROXIES="10.0.0.5"):
        answer = ask(ports.secure, "GET", "/login/", secure=True)
        assert (answer.status, "EXLAB_TRUSTED_PROXIES=127.0.0.1" in answer.text) == (400, True)
    with proxied(ports, host="$host"):
        answer = sign_in(ports)
        assert answer.status == 403
        assert f"EXLAB_TRUSTED_ORIGINS={origin}" in answer.text
    with proxied(ports, host="$host", EXLAB_TRUSTED_ORIGINS=origin):
        assert sign_in(ports).status == 302
