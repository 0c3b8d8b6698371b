"""Two browsers with one token at the same moment, and two admins who end each other's account."""

import threading
from datetime import datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from cleanup.lab.people import first_admin, managing
from cleanup.lab.people.first_admin import TokenRefused
from cleanup.lab.people.managing import LastAdmin

pytestmark = pytest.mark.django_db(transaction=True)


def both_at_once(*acts: Any) -> list[str]:
    """Run both in threads that begin together; returns what was refused."""
    begin, refused = threading.Barrier(len(acts)), []

    def run(act: Any) -> None:
        try:
            begin.wait(30)
            act()
        except (TokenRefused, LastAdmin) as error:
            refused.append(type(error).__name__)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return refused


def test_of_two_browsers_one_makes_the_admin(now: datetime, tmp_path: Any, settings: Any) -> None:
    settings.EXLAB_DATA_DIR = tmp_path
    issued = first_admin.issue(now)
    assert issued

    def make(name: str) -> None:
        first_admin.make(User(username=name), issued.token, now=now, address=None)

    assert both_at_once(lambda: make("ada"), lambda: make("grace")) == ["TokenRefused"]
    assert User.objects.filter(is_superuser=True).count() == 1


def test_of_two_admins_who_end_each_other_one_stays(now: datetime) -> None:
    ada, grace = (User.objects.create_superuser(name) for name in ("ada", "grace"))
    refused = both_at_once(
        lambda: managing.deactivate(ada, actor="grace", now=now),
        lambda: managing.deactivate(grace, actor="ada", now=now),
    )
    assert refused == ["LastAdmin"]
    assert User.objects.filter(is_superuser=True, is_active=True).count() == 1
