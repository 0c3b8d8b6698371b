"""Who is kept out after too many wrong passwords, and for how long."""

import json
import logging
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from io import StringIO
from typing import Any
from urllib.parse import urlencode

import pytest
import time_machine
from axes.models import AccessAttempt, AccessLog
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from cleanup.lab.people import sign_ins

pytestmark = pytest.mark.one_engine


SignIn = Callable[..., HttpResponse]
PC, OTHER_PC = "10.0.0.7", "10.0.0.8"


@pytest.fixture(autouse=True)
def _sessions_last() -> None:
    """Overrides the fixture that keeps sessions alive."""


@pytest.fixture
def sign_in(people: Any) -> SignIn:
    def sign_in(
        name: str = "operator", password: str = "wrong", *, at: str = PC, to: str = "/login/", **headers: str
    ) -> HttpResponse:
        form = {"username": name, "password": password}
        return Client(raise_request_exception=False).post(to, form, REMOTE_ADDR=at, headers=headers)

    return sign_in


def fail_for_many(now: datetime, *, people: int = 34, name: str = "guess") -> None:
    for number in range(people):
        AccessAttempt.objects.create(
            username=sign_ins.key_of(f"{name}-{number}"), ip_address=PC, failures_since_start=3, attempt_time=now
        )


def refused(answer: HttpResponse) -> bool:
    assert answer.status_code in (200, 302, 429), answer.status_code
    return answer.status_code == 429


def test_five_failures_lock_the_account_at_that_address_alone(sign_in: SignIn) -> None:
    assert not any(refused(sign_in()) for _ in range(4))
    assert refused(sign_in())
    assert refused(sign_in(password="operator"))
    assert sign_in(password="operator", at=OTHER_PC).status_code == 302
    assert sign_in("viewer", "viewer").status_code == 302


def test_the_page_says_how_long_and_what_an_admin_can_do(sign_in: SignIn) -> None:
    answers = [sign_in() for _ in range(5)]
    text = answers[-1].content.decode()
    assert "<strong>15 minutes</strong>" in text
    assert "manage.py unlock_login USER-NAME" in text
    assert answers[-1]["Retry-After"] == "900"
    assert "no-store" in answers[-1]["Cache-Control"]


def test_it_is_over_after_a_quarter_of_an_hour_despite_new_tries(sign_in: SignIn, now: Any) -> None:
    for _ in range(5):
        sign_in()
    with time_machine.travel(now + timedelta(minutes=14, seconds=50), tick=False):
        answer = sign_in(password="operator")
        assert (answer.status_code, "<strong>1 minute</strong>" in answer.content.decode()) == (429, True)
    with time_machine.travel(now + timedelta(minutes=15, seconds=1), tick=False):
        assert sign_in(password="operator").status_code == 302


def test_what_failed_while_the_clock_was_ahead_locks_no_longer(sign_in: SignIn, now: Any) -> None:
    with time_machine.travel(now + timedelta(days=20), tick=False):
        assert [refused(sign_in()) for _ in range(5)] == [False] * 4 + [True]
    assert sign_in(password="operator").status_code == 302


def test_a_right_password_forgets_the_wrong_ones(sign_in: SignIn) -> None:
    for _ in range(3):
        assert not any(refused(sign_in()) for _ in range(4))
        assert sign_in(password="operator").status_code == 302


def test_a_right_password_of_another_account_forgets_nothing(sign_in: SignIn) -> None:
    for _ in range(4):
        sign_in()
    assert sign_in("viewer", "viewer").status_code == 302
    assert refused(sign_in())


def test_many_addresses_are_slowed_and_known_ones_still_let_in(sign_in: SignIn) -> None:
    assert sign_in(password="operator", at=OTHER_PC).status_code == 302
    for number in range(5):
        for _ in range(4):
            sign_in(at=f"203.0.113.{number}")
    assert refused(sign_in(password="operator", at="203.0.113.99"))
    assert refused(sign_in(password="operator", at=PC))
    assert sign_in(password="operator", at=OTHER_PC).status_code == 302


def test_many_accounts_at_one_address_are_slowed_and_those_known_there_still_let_in(sign_in: SignIn, now: Any) -> None:
    assert sign_in("viewer", "viewer").status_code == 302
    fail_for_many(now, people=33)
    assert [refused(sign_in("ghost")) for _ in range(2)] == [True, True]
    answer = sign_in(password="operator")
    assert (answer.status_code, f"unlock_login --address {PC}" in answer.content.decode()) == (429, True)
    assert sign_in("viewer", "viewer").status_code == 302
    assert sign_in(password="operator", at=OTHER_PC).status_code == 302


def test_thirty_people_with_typos_behind_one_address_come_in(sign_in: SignIn, now: Any) -> None:
    """Takes 2 s: thirty sign-ins."""
    for number in range(30):
        User.objects.create_user(f"person-{number}", password="right")
    fail_for_many(now, people=30, name="person")
    assert not refused(sign_in("person-0"))
    assert all(sign_in(f"person-{number}", "right").status_code == 302 for number in range(30))


@pytest.mark.parametrize(
    "names",
    [
        ["operator", "Operator", "OPERATOR", " operator ", "\uff4f\uff50\uff45\uff52\uff41\uff54\uff4f\uff52"],
        ["operator", "\toperator", "operator\u00a0", "oPERATOR", "operator\u2003"],
        ["straße", "STRASSE", "Strasse", "STRAßE", " straße"],
    ],
)
def test_one_account_however_its_name_is_written(sign_in: SignIn, names: list[str]) -> None:
    assert [refused(sign_in(name)) for name in names] == [False] * 4 + [True]


@pytest.mark.parametrize("name", ["", "a" * 151, "a" * 5_000, "\0", "op\0erator", "\ud800x", "ﷺ" * 150, "'; --"])
def test_names_that_make_no_sense_are_no_fault(sign_in: SignIn, name: str) -> None:
    form = urlencode({"username": name, "password": "a\0b"}, errors="surrogatepass")
    for to in ("/login/", "/admin/login/"):
        for _ in range(3):
            answer = Client().post(to, form, "application/x-www-form-urlencoded", REMOTE_ADDR=PC)
            assert answer.status_code in (200, 429)


@pytest.mark.parametrize("address", ["", "::1", "fe80::1%eth0", "::ffff:10.0.0.7", "nonsense"])
def test_addresses_of_every_kind(sign_in: SignIn, address: str) -> None:
    assert [refused(sign_in(at=address)) for _ in range(5)] == [False] * 4 + [True]


def test_an_address_that_the_client_makes_up_does_not_help(sign_in: SignIn) -> None:
    made_up = [f"198.51.100.{number}" for number in range(5)]
    answers = [sign_in(**{"X-Forwarded-For": address, "X-Real-IP": address}) for address in made_up]
    assert refused(answers[-1])


def test_behind_a_trusted_proxy_the_nearest_other_address_counts(sign_in: SignIn, settings: Any) -> None:
    from exlab.addresses import networks

    settings.EXLAB_TRUSTED_PROXIES = networks(["192.0.2.1"], setting="EXLAB_TRUSTED_PROXIES")
    for number in range(5):
        answer = sign_in(at="192.0.2.1", **{"X-Forwarded-For": f"198.51.100.{number}, {PC}"})
    assert refused(answer)
    assert refused(sign_in(password="operator", at=PC))
    assert not refused(sign_in(at="192.0.2.1", **{"X-Forwarded-For": f"{PC}, {OTHER_PC}"}))


def test_the_admin_pages_have_the_same_door(sign_in: SignIn) -> None:
    assert not any(refused(sign_in("admin", to="/admin/login/")) for _ in range(4))
    assert "Too many failed sign-ins" in sign_in("admin", to="/admin/login/").content.decode()
    assert refused(sign_in("admin", "admin", to="/login/"))
    assert sign_in("admin", "admin", to="/admin/login/", at=OTHER_PC).status_code == 302


def test_an_unknown_name_gets_the_same_words(sign_in: SignIn) -> None:
    User.objects.filter(username="viewer").update(is_active=False)
    for _ in range(5):
        said = {
            name: (answer.status_code, answer.content.decode().replace(name, "").partition("<main")[2])
            for name, answer in ((name, sign_in(name)) for name in ("operator", "ghost", "viewer"))
        }
        said = {name: (status, _without_tokens(text)) for name, (status, text) in said.items()}
        assert len(set(said.values())) == 1


def _without_tokens(text: str) -> str:
    return re.sub(r'value="[A-Za-z0-9]{64}"', "", text)


def test_the_log_tells_of_it_and_not_what_was_typed(sign_in: SignIn, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(6):
        sign_in("Operator", "my-secret-1")
        sign_in("my-secret-2", "operator", at=OTHER_PC)
    sign_in("viewer", "viewer")
    lines = [record.getMessage() for record in caplog.records if record.name == sign_ins.__name__]
    assert lines[0] == f"a sign-in failed: operator from {PC}"
    assert lines[1] == f"a sign-in failed: an unknown user name from {OTHER_PC}"
    assert len([line for line in lines if line.startswith("a sign-in failed")]) == 8
    locked = [line for line in lines if "is locked until" in line]
    assert [line.partition(" is")[0] for line in locked] == [
        f"too many sign-ins failed: operator from {PC}",
        f"too many sign-ins failed: an unknown user name from {OTHER_PC}",
    ]
    assert lines[-1] == f"viewer signed in from {PC}"
    assert "my-secret" not in caplog.text
    rows = [str(row) for model in (AccessAttempt, AccessLog) for row in model.objects.values()]
    assert "my-secret" not in "".join(rows)


def test_old_counts_old_addresses_and_ended_sessions_go(sign_in: SignIn, now: Any) -> None:
    sign_in("ghost")
    sign_in(password="operator")
    sign_in(password="operator")
    assert (AccessAttempt.objects.count(), AccessLog.objects.filter(ip_address=PC).count()) == (1, 1)
    assert Session.objects.count() > 2
    with time_machine.travel(now + sign_ins.KNOWN_FOR, tick=False):
        sign_in("viewer", "viewer")
    assert AccessAttempt.objects.count() == 0
    assert (AccessLog.objects.count(), Session.objects.count()) == (1, 1)


# The command


def call(*arguments: str) -> str:
    out = StringIO()
    call_command("unlock_login", *arguments, stdout=out)
    return out.getvalue().strip()


def test_an_admin_unlocks_an_account(sign_in: SignIn, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(5):
        sign_in()
    assert json.loads(call("operator", "--user", "admin", "--json")) == {
        "user": "operator",
        "address": "",
        "forgotten": 5,
    }
    assert "admin unlocked operator: 5 failed sign-ins forgotten" in caplog.text
    assert sign_in(password="operator").status_code == 302
    assert call("Operator") == "operator was not locked"


def test_and_an_address(sign_in: SignIn, now: Any) -> None:
    fail_for_many(now)
    assert refused(sign_in(password="operator"))
    assert call("--address", PC) == f"{PC}: failed sign-ins forgotten: 102"
    assert sign_in(password="operator").status_code == 302


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ghost"], "No user ghost is known."),
        ([], "Say whose sign-ins"),
        (["--address", "10.0.0"], "this is no address"),
        (["operator", "--user", "ghost"], "No user ghost is known."),
    ],
)
def test_bad_usage(people: Any, arguments: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said) as caught:
        call(*arguments)
    assert caught.value.returncode == 2


# One's own password


def test_a_new_password_ends_the_other_sessions(people: Any, sign_in: SignIn) -> None:
    here, there = Client(), Client()
    for client in (here, there):
        client.post("/login/", {"username": "operator", "password": "operator"})
    new = "an-uncommon-password-42"
    form = {"old_password": "operator", "new_password1": new, "new_password2": new}
    answer = here.post("/account/password/", form, follow=True)
    assert "Your password is changed" in answer.content.decode()
    assert here.get("/runs/").status_code == 200
    assert [client.get("/runs/").status_code for client in (there, people.operator)] == [302, 302]
    assert Session.objects.filter(expire_date__gt=timezone.now()).count() == 4  # and those of the three others
    assert sign_in(password=new).status_code == 302


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (("wrong", "an-uncommon-password-42", "an-uncommon-password-42"), "Your old password was entered incorrectly"),
        (("operator", "an-uncommon-password-42", "another"), "The two password fields"),
        (("operator", "short", "short"), "too short"),
        (("operator", "operator1", "operator1"), "too similar to the username"),
    ],
)
def test_a_new_password_that_is_not_taken(people: Any, form: tuple[str, str, str], said: str) -> None:
    names = ("old_password", "new_password1", "new_password2")
    answer = people.operator.post("/account/password/", dict(zip(names, form, strict=True)))
    assert said in answer.content.decode()
    assert User.objects.get(username="operator").check_password("operator")


def test_the_old_password_is_not_guessed_there_either(people: Any, sign_in: SignIn) -> None:
    new = "an-uncommon-password-42"
    form = {"old_password": "wrong-secret", "new_password1": new, "new_password2": new}
    said = [people.operator.post("/account/password/", form).status_code for _ in range(5)]
    assert said == [200] * 4 + [429]
    assert people.operator.post("/account/password/", {**form, "old_password": "operator"}).status_code == 429
    assert "secret" not in str(list(AccessAttempt.objects.values()))
    assert people.operator.get("/runs/").status_code == 200


# Everywhere


def test_nor_by_the_admin_s_own_form(people: Any) -> None:
    for method in (people.admin.get, people.admin.post):
        answer = method("/admin/password_change/", {"old_password": "guess"})
        assert (answer.status_code, answer["Location"]) == (302, "/account/password/")


def test_a_sign_in_page_that_leads_to_itself(people: Any, sign_in: SignIn) -> None:
    assert people.admin.get("/login/?next=/login/")["Location"] == "/"
    assert people.admin.get("/login/?next=/login/%3Fnext=/runs/")["Location"] == "/"
    assert sign_in("admin", "admin", to="/login/?next=/login/")["Location"] == "/"
    assert sign_in("admin", "admin", to="/login/?next=/runs/")["Location"] == "/runs/"


def test_signing_out_everywhere(people: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    other = Client()
    other.post("/login/", {"username": "operator", "password": "operator"})
    assert "in 2 browsers" in people.operator.get("/account/").content.decode()
    assert people.operator.get("/account/sign-out/").status_code == 405
    answer = people.operator.post("/account/sign-out/", follow=True)
    assert "You are signed out in all 2 browsers." in answer.content.decode()
    assert [client.get("/runs/").status_code for client in (other, people.operator)] == [302, 302]
    assert people.viewer.get("/runs/").status_code == 200
    assert "operator is signed out in 2 browsers, as operator has asked" in caplog.text


def test_an_admin_signs_others_out(people: Any) -> None:
    users = User.objects.filter(username__in=["operator", "viewer"])
    form = {"action": "sign_out_everywhere", "_selected_action": [user.pk for user in users]}
    answer = people.admin.post("/admin/auth/user/", form, follow=True)
    assert "2 sessions have ended" in answer.content.decode()
    assert [people.operator.get("/runs/").status_code, people.viewer.get("/runs/").status_code] == [302, 302]
    assert people.admin.get("/runs/").status_code == 200


def test_pages_of_one_s_own_account_are_for_those_who_are_signed_in(people: Any) -> None:
    for address in ("/account/", "/account/password/", "/account/sign-out/"):
        assert people.nobody.get(address).url.startswith("/login/?next=")
        assert people.nobody.post(address).url.startswith("/login/?next=")
        assert people.stranger.get(address).status_code in (200, 405)
    assert people.operator.post("/account/").status_code == 405


def test_a_sign_in_that_comes_from_no_browser_is_not_counted(people: Any) -> None:
    for _ in range(6):
        assert authenticate(username="operator", password="wrong") is None
    assert authenticate(username="operator", password="operator")
    assert not AccessAttempt.objects.exists()
