"""No request or command waits long for a database lock, and it names the holder if known."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, transaction
from django.test import Client
from django.urls import reverse

from cleanup.clears import batches
from cleanup.lab import lock_waits
from cleanup.models import ClearBatch, Run
from tests.clears.test_batches import Room, room, run_tasks  # noqa: F401 (a fixture)
from tests.management.test_up import CHECKOUT

pytestmark = pytest.mark.django_db(transaction=True)

GIVEN_UP = "The database was busy with something else for 0.3 seconds, so this was given up."


@contextmanager
def held(table: str) -> Iterator[int]:
    """Another program locks a table or the whole database; its pid, 0 if unknown."""
    if connection.vendor == "sqlite":
        other = sqlite3.connect(connection.settings_dict["NAME"])
        other.execute("BEGIN IMMEDIATE")
        yield 0
        other.rollback()
        other.close()
        return
    import psycopg

    params = {**connection.get_connection_params(), "application_name": "a long report", "cursor_factory": None}
    params = {name: params[name] for name in ("dbname", "user", "host", "application_name") if name in params}
    with psycopg.connect(**params) as session:
        session.execute(f"SELECT 1 FROM {table} FOR UPDATE")
        yield session.info.backend_pid
        session.rollback()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(lock_waits, "LONGEST_SECONDS", 0.3)
    connection.close()
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout = 300")
    yield
    connection.close()


def said_of(pid: int, text: str) -> None:
    assert GIVEN_UP in text
    if pid:
        assert f"process {pid} (a long report, user " in text
        assert ", idle)" in text


def test_a_page_says_who_keeps_it_waiting(room: Room, impatient: None) -> None:  # noqa: F811
    batch = room.batch()
    client = Client()
    client.force_login(room.operator)
    for headers in ({}, {"HX-Request": "true"}):
        with held("cleanup_clearbatch") as pid:
            time.sleep(0.05)
            answer = client.post(reverse("pause-batch", args=[batch.pk]), headers=headers)
            assert answer.status_code == 503
            said_of(pid, answer.content.decode())
            said_of(pid, answer["Exlab-Said"])
            # What only reads does not wait.
            assert client.get(reverse("batch", args=[batch.pk])).status_code == 200
    batch.refresh_from_db()
    assert batch.paused_at is None
    assert client.post(reverse("pause-batch", args=[batch.pk])).status_code == 302


def test_a_command_says_it_in_one_sentence(room: Room, impatient: None) -> None:  # noqa: F811
    run = Run.objects.first()
    assert run is not None
    with held("cleanup_run") as pid:
        time.sleep(0.05)
        with pytest.raises(CommandError) as refused:
            call_command("hold", run.run_path, "--until", "2030-01-01", "--reason", "figure")
        assert refused.value.returncode == 1
        said_of(pid, str(refused.value))
        assert "\n" not in str(refused.value)


def test_a_run_that_cannot_be_claimed_is_told_and_stays(room: Room, impatient: None, capsys: Any) -> None:  # noqa: F811
    run = Run.objects.first()
    assert run is not None
    with held("cleanup_run"), pytest.raises((SystemExit, CommandError)) as ended:
        call_command("clear", run.run_path)
    said = capsys.readouterr().out + str(ended.value)
    assert GIVEN_UP in said
    assert len(room.paths()) == 3
    assert not run.attempts.filter(phase__in=["queued", "intent"]).exists()


def test_a_task_that_waited_in_vain_is_done_later(room: Room, impatient: None) -> None:  # noqa: F811
    batch = room.batch()
    with held("cleanup_clearbatch"), pytest.raises(OperationalError):
        run_tasks()
    run_tasks()
    assert set(batch.attempts.values_list("phase", flat=True)) == {"done"}


def test_a_fault_that_is_no_lock_is_no_busy_page(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    client = Client(raise_request_exception=False)
    client.force_login(room.operator)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("the disk is full")

    monkeypatch.setattr(batches, "pause", fail)
    answer = client.post(reverse("pause-batch", args=[room.batch().pk]))
    assert (answer.status_code, "Exlab-Said" in answer.headers) == (500, False)


def test_a_fault_outside_of_the_views_is_told_as_well(
    room: Room,  # noqa: F811
    impatient: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when the session is written, or the user read."""
    from django.contrib.sessions.middleware import SessionMiddleware

    client = Client(raise_request_exception=False)
    client.force_login(room.operator)

    def wait(*args: Any) -> None:
        with transaction.atomic():
            ClearBatch.objects.update(note="x")

    room.batch()
    monkeypatch.setattr(SessionMiddleware, "process_response", wait)
    with held("cleanup_clearbatch"):
        answer = client.get(reverse("overview"))
    assert answer.status_code == 503
    assert GIVEN_UP in answer.content.decode()


def test_connections_are_limited_and_a_migration_is_not(db: None) -> None:
    on_sqlite = connection.vendor == "sqlite"

    def limits() -> list[str]:
        asked = ["PRAGMA busy_timeout"]
        if not on_sqlite:
            asked = ["SHOW lock_timeout", "SHOW idle_in_transaction_session_timeout"]
        with connection.cursor() as cursor:
            return [str(cursor.execute(one).fetchone()[0]) for one in asked]

    connection.close()
    usual, long = (["10000"], ["120000"]) if on_sqlite else (["10s", "30s"], ["2min", "0"])
    assert limits() == usual
    lock_waits.lift(using="default")
    assert limits() == long
    call_command("migrate", verbosity=0)
    assert limits() == usual


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "arguments",
    [["hold", "RUN", "--until", "2030-01-01", "--reason", "x"], ["clear", "RUN"], ["set_policy", "--mode", "manual"]],
    ids=lambda arguments: arguments[0],
)
def test_no_command_waits_longer(
    room: Room,  # noqa: F811
    subprocess_env: dict[str, str],
    arguments: list[str],
) -> None:
    """Separate processes by the real clock: takes 10 s each."""
    run = Run.objects.first()
    assert run is not None
    typed = [run.run_path if word == "RUN" else word for word in arguments]
    room.discover()
    began = time.monotonic()
    with held("cleanup_run"):
        if arguments[0] == "set_policy" and connection.vendor == "postgresql":
            pytest.skip("a policy locks no run's row")
        done = subprocess.run(
            [sys.executable, "manage.py", *typed], cwd=CHECKOUT, env=subprocess_env, capture_output=True, text=True
        )
    assert time.monotonic() - began < 10 + 8, "starting takes some of it"
    assert done.returncode == 1
    assert "The database was busy with something else for 10 seconds" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("address", ["/login/", "/admin/login/"])
def test_a_sign_in_that_cannot_be_written_down_is_told_as_well(room: Room, impatient: None, address: str) -> None:  # noqa: F811
    client = Client(raise_request_exception=False)
    form = {"username": room.operator.get_username(), "password": "wrong"}
    assert client.post(address, form).status_code == 200
    with held("axes_accessattempt"):
        time.sleep(0.05)
        answer = client.post(address, form)
        assert (answer.status_code, GIVEN_UP in answer.content.decode()) == (503, True)
    assert client.post(address, form).status_code == 200
