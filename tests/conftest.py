"""Common fixtures: both engines, a small lab, and the removal guard."""

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.conf import settings

from cleanup.storage.nas import reader_process
from tests.faults import report
from tests.tools import distribution, engines, warm
from tests.tools.database import django_db_modify_db_settings as django_db_modify_db_settings
from tests.tools.database import django_db_setup as django_db_setup
from tests.tools.database import subprocess_env as subprocess_env
from tests.tools.guard import _nothing_removed_outside as _nothing_removed_outside
from tests.tools.guard import _removal_guard as _removal_guard
from tests.tools.guard import removal_guard as removal_guard
from tests.tools.lab import Lab

if settings.configured:
    raise pytest.UsageError(
        "unset DJANGO_SETTINGS_MODULE: the tests choose their own database before the settings load"
    )
engines.prepare()
hypothesis.settings.register_profile("busy", deadline=None)  # a slow machine is no failure
hypothesis.settings.load_profile("busy")


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    if not pluginmanager.hasplugin("xdist"):  # `-p no:xdist`: the options in pyproject.toml must not be an error
        group = parser.getgroup("without pytest-xdist")
        group._addoption("-n", dest="numprocesses")
        group._addoption("--dist")


def pytest_configure(config: pytest.Config) -> None:
    from django.db import connection

    config.pluginmanager.register(report, "explored")
    distribution.begin(config, connection.vendor)
    config.pluginmanager.register(distribution, "distribution")
    # The real hasher is slow on purpose; it still reads what other processes have written.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher", *settings.PASSWORD_HASHERS]
    settings.STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    if config.getoption("tx", None):
        os.environ.pop("DJANGO_SETTINGS_MODULE")  # the workers inherit the rest and choose their own database


def pytest_collection_finish() -> None:
    """What is imported and collected stays to the end: the garbage collector need not look at it over and over.

    What tests leave in cycles may wait longer than in a program that runs for weeks.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def pytest_unconfigure(config: pytest.Config) -> None:
    engines.finish()


# Processes


@pytest.fixture(scope="session", autouse=True)
def _warm_processes() -> Iterator[None]:
    """NAS readers and the processes of `tests.tools.warm` are forked with everything imported."""
    warm.start_waiting()
    reader_process.start = warm.start_reader
    yield
    warm.end()


# A lab


@pytest.fixture
def now() -> datetime:
    """The instant of all tests: two months after the lab's first runs."""
    return datetime(2026, 6, 15, 8, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _sessions_last(settings: Any) -> None:
    """Tests jump by months and stay signed in; tests of session ends undo this."""
    settings.EXLAB_SESSION_IDLE = timedelta(days=3650)
    settings.SESSION_COOKIE_AGE = int(settings.EXLAB_SESSION_IDLE.total_seconds())


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """An empty lab: build runs with `lab.run(...)`."""
    return Lab(tmp_path / "lab")


@pytest.fixture
def root(lab: Lab, now: datetime, db: None) -> Any:
    """The lab's staging root, registered with its NAS root on the same filesystem."""
    from cleanup.lab.roots import registration

    return registration.register(
        "lab",
        str(lab.staging),
        nas_path=str(lab.nas),
        allow_same_filesystem=True,
        accept_empty=True,
        now=now,
    )


@pytest.fixture
def policy(db: None, now: datetime) -> Callable[..., Any]:
    """Write a policy version: `policy(mode="scheduled", retain_hours=24, equipment="FLOW_01")`."""
    from cleanup.lab import policy_versions
    from cleanup.models import RetentionPolicy

    def add(**fields: Any) -> RetentionPolicy:
        return policy_versions.add_version(author="admin", now=now, **fields)

    return add


@pytest.fixture
def enter() -> Iterator[Callable[[AbstractContextManager[Any]], None]]:
    """Mount for the rest of the test, or skip it with a sentence."""
    from tests.faults.means import Unavailable, skip_or_fail  # which need Django, and that is not ready yet

    with ExitStack() as stack:

        def enter_context(context: AbstractContextManager[Any]) -> None:
            try:
                stack.enter_context(context)
            except Unavailable as missing:
                skip_or_fail(missing)

        yield enter_context
