"""The first admin: a token that is typed, once, within an hour, while there is no active superuser."""

import stat
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from cleanup.lab.people import first_admin, sign_ins
from cleanup.lab.people.first_admin import IssuedToken, TokenRefused
from cleanup.models import AccountEvent, AccountNote, FirstAdminToken
from cleanup.storage.data_directory import token_file

pytestmark = pytest.mark.django_db

GOOD = "correct-horse-battery"
NAMED = {"username": "ada", "password1": GOOD, "password2": GOOD}


@pytest.fixture
def data_dir(settings: Any, tmp_path: Path) -> Path:
    settings.EXLAB_DATA_DIR = tmp_path / "data"
    settings.EXLAB_DATA_DIR.mkdir(mode=0o700)
    return tmp_path / "data"


@pytest.fixture
def issued(data_dir: Path, now: datetime) -> IssuedToken:
    with time_machine.travel(now, tick=False):
        found = first_admin.issue(now)
    assert found
    return found


def send(token: str, at: datetime, client: Client | None = None, **form: str) -> Any:
    with time_machine.travel(at, tick=False):
        return (client or Client()).post("/first-admin/", {"token": token, **NAMED, **form})


def test_the_token_makes_the_first_admin_and_signs_in(issued: IssuedToken, data_dir: Path, now: datetime) -> None:
    kept = data_dir / token_file.NAME
    assert (kept.read_text(), stat.S_IMODE(kept.stat().st_mode)) == (f"{issued.token}\n", 0o600)
    assert issued.token.replace("-", "") not in str(FirstAdminToken.objects.values().get())
    client = Client()
    typed = f" {issued.token.lower().replace('-', ' ').replace('0', 'o').replace('1', 'l')} "
    answer = send(typed, now + timedelta(minutes=59), client)
    assert (answer.status_code, answer.url) == (302, "/setup/")
    user = User.objects.get()
    assert (user.username, user.is_superuser, user.is_staff, user.check_password(GOOD)) == ("ada", True, True, True)
    with time_machine.travel(now + timedelta(minutes=59), tick=False):
        assert client.get("/setup/").status_code == 200
    assert not kept.exists()
    note = AccountNote.objects.get()
    assert (note.account, note.event, note.actor) == ("ada", AccountEvent.FIRST_ADMIN, "ada")
    assert "127.0.0.1" in note.detail


def test_a_token_used_twice_is_refused(issued: IssuedToken, now: datetime) -> None:
    send(issued.token, now)
    again = send(issued.token, now, username="eve")
    assert (again.status_code, again.url) == (302, "/login/")
    assert [user.username for user in User.objects.all()] == ["ada"]
    User.objects.update(is_active=False)  # no admin any more: the used token makes none
    assert send(issued.token, now, username="eve").status_code == 422


def test_a_token_is_valid_for_an_hour_and_a_newer_one_voids_it(issued: IssuedToken, now: datetime) -> None:
    late = send(issued.token, now + timedelta(hours=1))
    assert (late.status_code, "over an hour old" in late.content.decode()) == (422, True)
    assert send(issued.token, now - timedelta(hours=1)).status_code == 422  # by a clock that went back
    newer = first_admin.issue(now)
    assert newer
    assert send(issued.token, now).status_code == 422
    assert send(newer.token, now).status_code == 302


def test_wrong_tokens_are_counted_as_sign_ins(issued: IssuedToken, now: datetime) -> None:
    answers = [send("wrong", now) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [422] * 4 + [429]
    assert "first_admin" in answers[-1].content.decode()
    assert send(issued.token, now).status_code == 429
    assert not User.objects.exists()
    kept = str(list(AccessAttempt.objects.values()))
    assert not [typed for typed in (GOOD, "wrong") if typed in kept]
    newer = first_admin.issue(now)  # the person at the host can go on at once
    assert newer
    assert send(newer.token, now).status_code == 302


def test_names_and_passwords_are_judged_only_with_the_token(issued: IssuedToken, now: datetime) -> None:
    User.objects.create_user("viewer")
    refused = send("wrong", now, username="Viewer", password1="12345678", password2="12345678").content.decode()
    assert "already exists" not in refused
    assert "too common" not in refused
    shown = send(issued.token, now, username="Viewer", password1="12345678", password2="12345678")
    assert shown.status_code == 422
    assert "already exists" in shown.content.decode()
    assert "too common" in shown.content.decode()
    assert send(issued.token, now).status_code == 302, "a form that was not valid has not used the token up"


def test_with_an_admin_nothing_is_printed_or_offered(data_dir: Path, now: datetime, people: Any, capsys: Any) -> None:
    (data_dir / token_file.NAME).write_text("old")
    call_command("first_admin", "--json")
    assert capsys.readouterr().out.strip() == '{"needed": false, "token": null, "until": null, "file": null}'
    assert not FirstAdminToken.objects.exists()
    assert not (data_dir / token_file.NAME).exists()
    assert "first-admin" not in people.nobody.get("/login/").content.decode()
    assert people.nobody.get("/first-admin/").url == "/login/"
    assert people.operator.get("/first-admin/").url == "/"
    User.objects.filter(is_superuser=True).update(is_active=False)
    assert "/first-admin/" in people.nobody.get("/login/").content.decode()


def test_it_is_asked_again_in_the_transaction(issued: IssuedToken, now: datetime) -> None:
    """The page was answered while there was no admin; by now another host has made one."""
    assert first_admin.refusal_of(issued.token, now) == ""
    User.objects.create_superuser("grace", password=GOOD)
    with pytest.raises(TokenRefused, match="There is an admin already"):
        first_admin.make(User(username="ada"), issued.token, now=now, address="10.0.0.7")
    assert [user.username for user in User.objects.all()] == ["grace"]
    assert not AccountNote.objects.exists()
    assert sign_ins.lock_on(sign_ins.key_of(first_admin.ACCOUNT), "10.0.0.7", now) is None
