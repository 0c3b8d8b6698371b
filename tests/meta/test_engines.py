"""Both engines, triggers, groups, and separate processes."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from cleanup.models import RetentionPolicy, triggers
from tests.tools import distribution, engines
from tests.tools.checkout import CHECKOUT

pytestmark = pytest.mark.one_worker


def run_pytest(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "DJANGO_SETTINGS", "DATABASE_URL", "XDG_RUNTIME"))
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    more["TMPDIR"] = os.environ["PYTEST_DEBUG_TEMPROOT"]  # the tests' directory is closed to the server's user
    return subprocess.run(command, cwd=CHECKOUT, env=environment | more, capture_output=True, text=True, check=False)


@pytest.mark.django_db
def test_this_worker_speaks_to_its_engine() -> None:
    assert connection.vendor == (engines.ENGINE or connection.vendor)
    with connection.cursor() as cursor:
        cursor.execute("SELECT sqlite_version()" if connection.vendor == "sqlite" else "SELECT version()")
        (version,) = cursor.fetchone()
    assert version.startswith("PostgreSQL" if connection.vendor == "postgresql" else "3.")


@pytest.mark.django_db
@pytest.mark.skipif(not engines.can_kill_server(), reason="there is no server of the tests' own")
def test_no_session_comes_by_itself() -> None:
    """Autovacuum would, and the database could not be dropped while it is there."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW autovacuum")
        assert cursor.fetchone() == ("off",)


@pytest.mark.exhaustive
@pytest.mark.skipif(engines.ENGINE == "postgresql", reason="once is enough")
def test_a_session_without_both_engines_fails() -> None:
    one = f"{__file__}::test_this_worker_speaks_to_its_engine"
    lame = run_pytest("-n", "1", one)
    assert lame.returncode == 1, lame.stdout
    assert "No worker ran the tests on postgresql." in lame.stdout
    assert "1 passed" in lame.stdout


@pytest.mark.exhaustive
@pytest.mark.skipif(engines.ENGINE == "postgresql", reason="once is enough")
@pytest.mark.parametrize("without_workers", [["-n", "0"], ["-p", "no:xdist"]])
def test_without_workers_the_tests_run_once(without_workers: list[str]) -> None:
    one = f"{__file__}::test_this_worker_speaks_to_its_engine"
    single = run_pytest(*without_workers, one)
    assert single.returncode == 0, single.stdout + single.stderr
    assert "1 passed" in single.stdout


@pytest.mark.exhaustive
@pytest.mark.skipif(engines.ENGINE == "postgresql", reason="once is enough")
@pytest.mark.parametrize("workers", ["2", "3", "4"])
def test_however_many_workers_each_engine_runs_every_test_once(workers: str) -> None:
    names = "test_adds_up or test_triggers_stand or test_an_engine"
    shared = run_pytest("-n", workers, "-k", names, f"{CHECKOUT}/tests/faults/test_report.py", __file__)
    assert shared.returncode == 0, shared.stdout + shared.stderr
    assert "24 passed" in shared.stdout


@pytest.mark.exhaustive
@pytest.mark.skipif(engines.ENGINE == "postgresql", reason="once is enough")
def test_a_session_in_which_no_worker_took_a_test_fails(tmp_path: Path) -> None:
    (tmp_path / "forgetful.py").write_text(
        "import pytest\n"
        "@pytest.hookimpl(trylast=True)\n"
        "def pytest_collection_finish(session):\n"
        "    session.config.__dict__.get('workeroutput', {})['taken'] = []\n"
    )
    one = f"{__file__}::test_this_worker_speaks_to_its_engine"
    lame = run_pytest("-p", "forgetful", one, PYTHONPATH=str(tmp_path))
    assert lame.returncode == 1, lame.stdout + lame.stderr
    assert "No worker ran meta/test_engines.py on sqlite." in lame.stdout


@pytest.mark.parametrize("number", range(10))
def test_an_engine_has_its_workers_do_about_equally_much(number: int) -> None:
    names = [f"test_{number}.py::test[{case}]" for case in range(400)]
    for engine in engines.BOTH:
        mine = [name for name in names if engines.engine_for(name) == engine]
        for workers in (1, 2, 3):
            parts = [sum(engines.worker_for(name, workers) == part for name in mine) for part in range(workers)]
            assert sum(parts) == len(mine)
            assert max(parts) - min(parts) < 60


class Dealt:
    """A test that may take some seconds, or one without a limit of its own."""

    def __init__(self, name: str, seconds: int) -> None:
        self.nodeid = f"tests/{name}"
        self.seconds = seconds

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return pytest.mark.timeout(self.seconds).mark if name == "timeout" and self.seconds else None


def test_those_that_take_long_are_dealt_out_the_longest_first() -> None:
    given = [Dealt("b.py::test", 600), Dealt("a.py::test", 0), Dealt("c.py::test[x]", 900), Dealt("a.py::test_b", 600)]
    turns = distribution.turns_of(given)  # type: ignore[arg-type]
    assert turns == {"c.py::test[x]": 0, "a.py::test_b": 1, "b.py::test": 2}
    assert turns == distribution.turns_of(reversed(given)), "every worker deals alike"  # type: ignore[call-overload]


@pytest.mark.django_db
def test_triggers_stand_in_tests(policy: Any) -> None:
    assert triggers.missing(connection) == []
    policy(mode="manual")
    with pytest.raises(DatabaseError, match="never changed or removed"), transaction.atomic():
        RetentionPolicy.objects.update(author="somebody else")


# The order of the next three matters: each checks what was restored after the one before.


@pytest.mark.django_db(transaction=True)
def test_a_transactional_test_may_leave_append_only_rows(policy: Any) -> None:
    policy(mode="manual")
    assert triggers.missing(connection) == []
    with pytest.raises(DatabaseError, match="never changed or removed"):
        RetentionPolicy.objects.all()._raw_delete("default")


@pytest.mark.django_db(transaction=True)
def test_it_may_take_away_what_was_there(policy: Any) -> None:
    from django_q.models import Schedule

    assert triggers.missing(connection) == []
    assert not RetentionPolicy.objects.exists()
    policy(mode="manual")
    Group.objects.all().delete()
    Schedule.objects.filter(name="cleanup heartbeat").delete()
    Schedule.objects.update(next_run=timezone.now() + timedelta(days=1))
    triggers.remove(connection)


@pytest.mark.django_db(transaction=True)
def test_after_it_everything_stands_again() -> None:
    from django_q.models import Schedule

    assert triggers.missing(connection) == []
    assert not RetentionPolicy.objects.exists()
    assert Schedule.objects.filter(name="cleanup heartbeat").exists()
    assert not Schedule.objects.filter(next_run__gt=timezone.now() + timedelta(minutes=1)).exists()
    operators = Group.objects.get(name="operator").permissions
    assert operators.filter(codename="clear_run").exists()
    assert not Group.objects.get(name="viewer").permissions.filter(codename="clear_run").exists()


def test_another_process_reaches_the_test_database(subprocess_env: dict[str, str], policy: Any) -> None:
    policy(mode="scheduled", retain_hours=0.5)
    script = (
        "import django; django.setup()\n"
        "from django.conf import settings\n"
        "from cleanup.models import RetentionPolicy as policies\n"
        "print(policies.objects.get().retain_hours, settings.EXLAB_DATA_DIR)"
    )
    command = [sys.executable, "-c", script]
    shown = subprocess.run(command, env=subprocess_env, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["0.5", str(engines.DATA_DIR)]
