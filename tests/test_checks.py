import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.db import connection

from cleanup import checks
from cleanup.models import StagingRoot, triggers
from cleanup.storage import linux
from tests.storage.children import NOBODY
from tests.tools.checkout import CHECKOUT


def ids(messages: list[Any]) -> list[str]:
    return [message.id for message in messages]


def test_this_machine_passes() -> None:
    assert [message for message in run_checks() if message.id.startswith("cleanup.E")] == []


def test_e001_names_what_the_kernel_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "missing_calls", lambda: ["openat2"])
    (message,) = checks.check_kernel(None)
    assert message.id == "cleanup.E001"
    assert "openat2" in message.msg
    assert message.hint


def test_e004_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert ids(checks.check_kernel(None)) == ["cleanup.E004"]


def test_w001_wants_the_data_directory_private(tmp_path: Path, settings: Any) -> None:
    settings.EXLAB_DATA_DIR = tmp_path / "data"
    assert checks.check_data_directory(None) == []
    settings.EXLAB_DATA_DIR.mkdir(mode=0o700)
    assert checks.check_data_directory(None) == []
    settings.EXLAB_DATA_DIR.chmod(0o750)
    assert ids(checks.check_data_directory(None)) == ["cleanup.W001"]


def test_e005_wants_the_data_directory_usable(tmp_path: Path, settings: Any) -> None:
    (tmp_path / "in-the-way").touch()
    settings.EXLAB_DATA_DIR = tmp_path / "in-the-way" / "data"
    (message,) = checks.check_data_directory(None)
    assert message.id == "cleanup.E005"
    assert "EXLAB_DATA_DIR" in message.msg
    assert "is no directory" in message.msg


def test_w005_warns_root_of_files_that_keep_the_owner_out(tmp_path: Path, settings: Any) -> None:
    if os.geteuid():
        pytest.skip("only root makes files in another user's folder")
    (tmp_path / "data").mkdir(mode=0o700)
    settings.EXLAB_DATA_DIR = tmp_path / "data"
    assert checks.check_data_directory(None) == []
    os.chown(tmp_path / "data", NOBODY, NOBODY)
    assert ids(checks.check_data_directory(None)) == ["cleanup.W005"]


def test_w004_names_what_no_setting_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.check_names_of_settings(None) == []
    monkeypatch.setattr(checks.read, "strangers", ("EXLAB_COLOUR",))
    (message,) = checks.check_names_of_settings(None)
    assert (message.id, "EXLAB_COLOUR" in message.msg) == ("cleanup.W004", True)


@pytest.mark.django_db
def test_e002_misses_a_trigger() -> None:
    assert checks.check_append_only(None, databases=["default"]) == []
    table, name = triggers.standing(connection)[0]
    on = f' ON "{table}"' if connection.vendor == "postgresql" else ""
    with connection.cursor() as cursor:
        cursor.execute(f'DROP TRIGGER "{name}"{on}')
    (message,) = checks.check_append_only(None, databases=["default"])
    assert message.id == "cleanup.E002"
    assert table in message.msg


@pytest.mark.django_db
def test_e003_reads_the_promises_of_the_database() -> None:
    assert checks.check_durability(None, databases=["default"]) == []


@pytest.mark.django_db(transaction=True)
def test_e003_sees_a_lapse() -> None:
    statement = "PRAGMA synchronous=NORMAL" if connection.vendor == "sqlite" else "SET synchronous_commit = off"
    with connection.cursor() as cursor:
        cursor.execute(statement)
    try:
        (message,) = checks.check_durability(None, databases=["default"])
    finally:
        connection.close()  # the next connection has its own settings again
    assert message.id == "cleanup.E003"
    assert "synchronous" in message.msg


@pytest.mark.django_db
def test_w002_until_there_is_a_staging_root() -> None:
    assert ids(checks.check_staging_roots(None, databases=["default"])) == ["cleanup.W002"]
    root = StagingRoot.objects.create(name="lab", host=settings.EXLAB_HOST, path="/data/lab")
    assert ids(checks.check_staging_roots(None, databases=["default"])) == ["cleanup.W002"]
    StagingRoot.objects.filter(pk=root.pk).update(token="1" * 36)
    assert checks.check_staging_roots(None, databases=["default"]) == []


def test_database_checks_ask_no_database_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    # pytest-django refuses any query in a test without a database.
    assert checks.check_append_only(None, databases=None) == []
    assert checks.check_durability(None, databases=None) == []
    assert checks.check_staging_roots(None, databases=None) == []


def test_the_command_runs_them_all(subprocess_env: dict[str, str]) -> None:
    command = [sys.executable, "manage.py", "check", "--database", "default"]
    done = subprocess.run(command, cwd=CHECKOUT, env=subprocess_env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cleanup.W002" in done.stderr


def test_migrate_repairs_before_the_tables_are_complete(subprocess_env: dict[str, str]) -> None:
    """The hint of E002, `--skip-checks`, works: otherwise migrate's own check refuses."""
    triggers.remove(connection)
    command = [sys.executable, "manage.py", "migrate", "--skip-checks", "-v", "0"]
    subprocess.run(command, cwd=CHECKOUT, env=subprocess_env, check=True)
    assert triggers.missing(connection) == []


def test_deployment_settings_pass(tmp_path: Path) -> None:
    environment = {**os.environ, "EXLAB_HTTPS": "1", "EXLAB_DATA_DIR": str(tmp_path / "data")}
    environment.pop("EXLAB_SECRET_KEY")
    environment.pop("DJANGO_ALLOW_ASYNC_UNSAFE", None)  # set by the tests that drive a browser
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.django_db
def test_a_renamed_host_is_told_why_nothing_happens(root: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.check_staging_roots(None, databases=["default"]) == []
    before = settings.EXLAB_HOST
    monkeypatch.setattr(settings, "EXLAB_HOST", "another-name")
    (message,) = checks.check_staging_roots(None, databases=["default"])
    assert message.id == "cleanup.W003"
    assert f"EXLAB_HOST={before}" in str(message.hint)
