"""The accounts of the demo, and their passwords."""

from pathlib import Path

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import User

from cleanup.demo import accounts

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]


def test_a_user_who_was_there_keeps_his_own_password(tmp_path: Path) -> None:
    User.objects.create_user("admin", password="before")
    made = accounts.make(tmp_path)
    assert set(made) == {"operator", "viewer", "auditor"}
    assert set(accounts.new_passwords()) == {"operator", "viewer", "auditor"}
    assert authenticate(username="admin", password="before")
    assert not authenticate(username="operator", password=made["operator"])


def test_passwords_are_random_and_told_once(tmp_path: Path) -> None:
    made = accounts.make(tmp_path)
    assert set(made) == set(accounts.existing()) == {"admin", "operator", "viewer", "auditor"}
    assert accounts.make(tmp_path) == {}
    anew = accounts.new_passwords()
    assert len({*made.values(), *anew.values()}) == 8
    assert all(authenticate(username=name, password=password) for name, password in anew.items())
    assert list(tmp_path.iterdir()) == []


def test_accounts_of_an_earlier_version_are_known_and_their_kept_passwords_go(tmp_path: Path) -> None:
    User.objects.create_user("operator", password="kept")
    User.objects.create_user("viewer", password="a real person")
    (tmp_path / "passwords.txt").write_text("operator: kept\n")
    assert set(accounts.make(tmp_path)) == {"admin", "auditor"}
    assert (tmp_path / "passwords.txt").read_text() == ""
    assert set(accounts.new_passwords()) == {"admin", "operator", "auditor"}
    assert authenticate(username="viewer", password="a real person")
