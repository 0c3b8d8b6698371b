"""The database of a test process, and the way back after a transactional test."""

import os
from typing import Any

import pytest
from django.conf import settings
from django.db import transaction

from tests.tools import engines


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """SQLite's test database is a file, so that other processes can open it."""
    from django.db import connection

    if connection.vendor == "sqlite":
        settings.DATABASES["default"].setdefault("TEST", {})["NAME"] = str(engines.HERE / "test.sqlite3")


def sandbox() -> transaction.Atomic:
    """A transaction for a test to undo. The product's durable ones run inside it, as inside a test case's own."""
    atomic = transaction.atomic()
    atomic._from_testcase = True  # type: ignore[attr-defined]
    return atomic


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    from django.test import TransactionTestCase

    from tests.tools.baseline import Baseline

    with django_db_blocker.unblock():
        baseline = Baseline()
    TransactionTestCase._fixture_teardown = lambda test_case: baseline.restore()


@pytest.fixture
def subprocess_env(transactional_db: None) -> dict[str, str]:
    """The environment for `manage.py …` on this test's database and data directory.

    The test is transactional, because another process sees only what is committed.
    """
    from django.db import connection

    return {**os.environ, "DATABASE_URL": engines.url_of(connection.settings_dict)}
