"""`manage.py up`: web server, task clusters and watchdog, from one command."""

import contextlib
import json
import socket
import sys
import time
from argparse import ArgumentParser
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from cleanup import checks, demo
from cleanup.lab import task_queues
from cleanup.lab.people import first_admin
from cleanup.lab.roots.registration import RegistrationError
from cleanup.management import data_places
from cleanup.management.supervisor import (
    BAD_USAGE,
    Child,
    Supervisor,
    check_system,
    children,
    expect_data_directory,
    expect_database,
    lay_markers,
    settle_interrupted,
    sole_holder,
)
from cleanup.management.takeover import add_replace_argument
from cleanup.management.token_words import say_token

_READY_SECONDS = 60.0


class Command(BaseCommand):
    help = "Run the web server, the task clusters and the watchdog until interrupted."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--bind", default="127.0.0.1:8000", metavar="HOST:PORT", help="where the pages are served")
        parser.add_argument("--demo", action="store_true", help="first make a demonstration lab, once")
        parser.add_argument(
            "--new-passwords", action="store_true", help="with --demo: give the demo's accounts new passwords"
        )
        add_replace_argument(parser)
        parser.add_argument("--json", action="store_true", help="tell address and users as one object on stdout")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        host, port = _parse_bind(options["bind"])
        if options["new_passwords"] and not options["demo"]:
            raise CommandError("--new-passwords is for the demo's accounts only: add --demo.", returncode=BAD_USAGE)
        expect_data_directory()
        holder = sole_holder(settings.EXLAB_DATA_DIR, "up", replace=options["replace"], say=self.stderr.write)
        with holder as lock:
            _expect_free(host, port)
            made = self._prepare(demo_wanted=options["demo"], new_passwords=options["new_passwords"])
            supervisor = Supervisor(lock, [*children(), _web_server(options["bind"])], place=data_places.place_of(lock))
            supervisor.stop_on_signals()
            try:
                supervisor.start()
                if _wait_until_served(host, port, supervisor):
                    self._tell(_address(host, port), made, as_json=options["json"])
                supervisor.tend(self.stderr.write)
            finally:
                self.stderr.write("Stopping.")
                supervisor.stop()

    def _prepare(self, *, demo_wanted: bool, new_passwords: bool) -> demo.Demo | None:
        expect_database(migrated=False)
        self.stderr.write(f"Preparing {settings.EXLAB_DATA_DIR}.")
        call_command("migrate", interactive=False, verbosity=0)
        task_queues.serve_in_common(settings.EXLAB_HOST)
        # The demonstration brings a staging root.
        check_system(self.stderr.write, apart_from=checks.NO_STAGING_ROOT if demo_wanted else "")
        call_command("collectstatic", interactive=False, verbosity=0)
        settle_interrupted(self.stderr.write)
        lay_markers(self.stderr.write)
        if not demo_wanted:
            return None
        self.stderr.write("Making the demonstration lab.")
        try:
            made = demo.make(timezone.now())
            return replace(made, passwords=made.passwords | demo.new_passwords()) if new_passwords else made
        except RegistrationError as error:
            raise CommandError(str(error), returncode=BAD_USAGE) from None

    def _tell(self, address: str, made: demo.Demo | None, *, as_json: bool) -> None:
        issued = first_admin.issue(timezone.now())
        if as_json:
            users = made.passwords if made else {}
            token = issued.token if issued else None
            told = {"address": address, "demo": made is not None, "users": users, "first_admin_token": token}
            self.stdout.write(json.dumps(told))
        else:
            if made:
                self._tell_of_demo(made)
            self.stdout.write(f"ExLab staging is at {address} (Ctrl-C stops it)")
            if issued:
                self.stdout.write(say_token(issued, address))
        self.stdout.flush()

    def _tell_of_demo(self, made: demo.Demo) -> None:
        self.stdout.write(f"The demonstration lab lies in {made.base}.")
        if made.share < 1:
            self.stdout.write("There is little room on this disk, so the demo's files are smaller than usual.")
        if made.passwords:
            self.stdout.write("Sign in as one of these. The passwords are shown only this once:")
            for user, password in made.passwords.items():
                self.stdout.write(f"  {user:<10}{password}")
        elif made.accounts:
            names = ", ".join(made.accounts)
            self.stdout.write(f"Its accounts are {names}. Their passwords were shown once, at the first start;")
            self.stdout.write("start with --demo --new-passwords to get new ones.")
        else:
            self.stdout.write("It has made no accounts: those of its names were there before.")


def _web_server(bind: str) -> Child:
    command = [sys.executable, "-m", "gunicorn", "--config", "python:exlab.serving", "--bind", bind, "exlab.wsgi"]
    return Child("The web server", command)


def _parse_bind(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 65536):
        raise CommandError(f"--bind needs HOST:PORT, as in 127.0.0.1:8000, not {text}", returncode=BAD_USAGE)
    return host.strip("[]"), int(port)


def _expect_free(host: str, port: int) -> None:
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        problem = f"Nothing can be served at {host}:{port}: {error.strerror}. Choose another place with --bind."
        raise CommandError(problem, returncode=BAD_USAGE) from None


def _wait_until_served(host: str, port: int, supervisor: Supervisor) -> bool:
    deadline = time.monotonic() + _READY_SECONDS
    while not supervisor.interrupted and not supervisor.dead() and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((_reachable(host), port), timeout=1):
            return True
        time.sleep(0.1)
    return False


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def _address(host: str, port: int) -> str:
    name = settings.EXLAB_HOST if host in ("0.0.0.0", "::") else host  # noqa: S104
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/"
