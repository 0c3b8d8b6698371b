"""What every test may rely on: both engines, a small lab, and a guard that keeps removals inside the tests."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.conf import settings

from tests import engines, warm
from tests.faults import report
from tests.guard import HOUSEKEEPING, Guard
from tests.lab import Lab

if settings.configured:
    raise pytest.UsageError(
        "unset DJANGO_SETTINGS_MODULE: the tests choose their own database before the settings load"
    )
engines.prepare()
hypothesis.settings.register_profile("busy", deadline=None)  # a slow machine is no failure
hypothesis.settings.load_profile("busy")

GUARD = Guard()
_EACH_VARIABLE = "EXLAB_TESTS_ON_EACH_ENGINE"
# Tests that know no database, or for which one engine is as good as the other: each on one of the engines.
_SHARED = (
    "staging/",
    "storage/",
    "policy/",
    "faults/test_scale.py",
    "test_architecture.py",
    "test_behind_nginx.py",
    "test_data_places.py",
    "test_demo.py",
    "test_packaging.py",
    "test_parity.py",
    "test_places.py",
    "test_promises.py",
    "test_settings.py",
    "test_slow_clients.py",
    "test_starting.py",
    "test_takeover.py",
    "test_up.py",
    "test_worker.py",
)
# Tests of the disk, of the NAS, of processes and of pages, for which an engine is only the place where rows lie: each
# case on one of the engines, so that both have about half of every table. The explorers lead every engine everywhere;
# those that take a sample, of what the exhaustive run explores on both in full, take it on one.
_SHARED_BY_CASE = (
    "browser/",
    "clears/test_again.py",
    "faults/test_adversary.py",
    "faults/test_blackbox.py::test_a_clear_refuses_when_its_nas_reader_is_killed",
    "faults/test_blackbox.py::test_failing_at_chosen_calls",
    "faults/test_blackbox.py::test_frozen_amid_the_removal_it_is_left_alone",
    "faults/test_blackbox.py::test_the_command_itself_killed_before_the_fence",
    "faults/test_dry_run.py",
    "faults/test_explorer.py::test_a_clear_that_stands_still",
    "faults/test_explorer.py::test_a_recovery_that_is_killed",
    "faults/test_explorer.py::test_a_run_that_is_changed",
    "faults/test_lying.py::test_a_",
    "faults/test_matrix_",
    "faults/test_mutants.py",
    "faults/test_reference_defects.py",
    "monitoring/",
    "runs/test_moving.py",
    "runs/test_set_aside.py",
    "runs/test_slow_twins.py",
    "runs/test_returned.py",
    "runs/test_verifying.py",
    "test_adversary_sweeps.py",
    "test_batching.py",
    "test_breakers.py",
    "test_budgets.py",
    "test_cleared_by_wizard.py",
    "test_clearing.py",
    "test_clocks.py",
    "test_commands.py",
    "test_desktop_files.py",
    "test_discovery.py",
    "test_freed.py",
    "test_gathering.py",
    "test_hold_commands.py",
    "test_holding.py",
    "test_judging.py",
    "test_measuring.py",
    "test_orphan_commands.py",
    "test_orphans.py",
    "test_parking.py",
    "test_pressure.py",
    "test_previewing.py",
    "test_promotion.py",
    "test_proving.py",
    "test_records.py",
    "test_rehearsed_only.py",
    "test_recovery.py",
    "test_registering.py",
    "test_rehearsing.py",
    "test_reregistering.py",
    "test_set_aside_command.py",
    "test_set_policy.py",
    "test_shapes.py",
    "test_sweep_commands.py",
    "test_sweep_properties.py",
    "test_sweep_record.py",
    "test_sweeping.py",
    "test_telling.py",
    "test_timed_pass.py",
    "test_two_places.py",
    "test_typed_by.py",
    "test_walking.py",
    "test_watching.py",
    "views/",
)
# Of those, what asks the database for more than a few rows, and one walk through everything.
_ON_BOTH = (
    "test_adversary_sweeps.py::test_a_record_that_cannot_be_written",
    "test_batching.py::test_a_batch_clears_its_runs",
    "test_batching.py::test_a_double_click_at_the_same_moment",
    "test_batching.py::test_a_stop_",
    "test_batching.py::test_nothing_of_a_paused_batch",
    "test_batching.py::test_progress_counts",
    "test_batching.py::test_two_operators_at_once",
    "clears/test_again.py::test_what_the_nas_refused",
    # The main journeys, in a real browser and before the real cluster.
    "browser/test_clear.py::test_a_refusal_is_told",
    "browser/test_clear.py::test_everything_works_without_scripts",
    "browser/test_clear.py::test_sign_in_filter_and_clear",
    "browser/test_clear_many.py::test_many_runs_with_a_pause",
    "browser/test_policies.py::test_an_admin_writes",
    "browser/test_policies.py::test_an_operator_extends",
    "browser/test_problems.py::test_an_admin_looks_again",
    "browser/test_set_aside.py::test_a_run_with_a_file_more",
    "browser/test_sweeps.py::test_an_operator_sees_what",
    "monitoring/test_announcements.py::test_it_is_told_once",
    "monitoring/test_announcements.py::test_the_evening_before",
    "runs/test_set_aside.py::test_put_back",
    "runs/test_set_aside.py::test_the_file_goes",
    "browser/test_ways_verify.py::test_a_",
    "runs/test_returned.py::test_it_is_cleared_again",
    "runs/test_verifying.py::test_accepted_bytes_clear",
    "runs/test_verifying.py::test_withdrawn",
    "test_breakers.py::test_a_go_on_lets_the_next_sweep",
    "test_budgets.py::test_what_is_left_over_says_so",
    "test_clearing.py::test_an_attempt_waits",
    "test_clearing.py::test_an_outer_transaction",
    "test_clearing.py::test_clears_a_verified_run",
    "test_clearing.py::test_everything_is_recorded_before",
    "test_clearing.py::test_one_run_has_one_attempt",
    "test_clocks.py::test_a_server_that",
    "test_clocks.py::test_a_start_with",
    "test_clocks.py::test_neither_a_click",
    "test_clocks.py::test_no_held_run_goes",
    "test_clocks.py::test_this_database",
    "test_clocks.py::test_what_",
    "test_commands.py::test_from_a_staging_tree_to_cleared_runs",
    "test_commands.py::test_the_same_on_a_sample",
    "test_discovery.py::test_a_new_run_at_the_path_of_a_cleared_one",
    "test_discovery.py::test_a_second_pass_finds_nothing_new",
    "test_discovery.py::test_finds_every_run_with_its_whole_history",
    "test_discovery.py::test_history_grows_step_by_step",
    "test_discovery.py::test_one_broken_folder_does_not_stop_the_pass",
    "test_discovery.py::test_only_one_pass_at_a_time",
    "test_judging.py::test_a_doubt_that_is_raised",
    "test_judging.py::test_two_judges_at_once",
    "test_pressure.py::test_as_many_runs_as_are_too_many",
    "test_promotion.py::test_a_second_pc",
    "test_promotion.py::test_an_archive",
    "test_promotion.py::test_what_is_approved",
    "test_records.py::TestClear::test_clears_and_keeps",
    "test_records.py::TestClear::test_with_both",
    "test_records.py::TestDiscovery::test_a_run_that_the_wizard_cleared",
    "test_records.py::TestDiscovery::test_files_that_come",
    "test_records.py::TestDiscovery::test_the_state_falls_back",
    "test_rehearsing.py::test_a_version_written_in_between",
    "test_rehearsing.py::test_from_the_first_night_to_the_first_clear",
    "test_sweep_record.py::test_a_pass_that_was_killed",
    "test_sweep_record.py::test_last_tuesday",
    "test_sweep_record.py::test_one_bad_row",
    "test_sweep_record.py::test_passes_that_say_the_same",
    "test_sweep_record.py::test_thousands_of_runs",
    "test_timed_pass.py::test_a_new_scheduled_policy_clears",
    "views/test_admin.py::test_the_ledger_",
    "views/test_admin.py::test_the_totals_",
    "views/test_list.py::test_filters",
    "views/test_list.py::test_every_order_walks_an_index",
    "views/test_list.py::test_one_query_plan",
    "views/test_list.py::test_orders_hold",
    "views/test_list.py::test_pages_of_fifty",
    "views/test_list.py::test_the_sums",
    "views/test_run_page.py::test_few_queries",
    "views/test_selection.py::test_a_page_that_was_left_open",
    "views/test_selection.py::test_a_selection_comes_back",
)
# Tests on one engine that take long, placed so that both engines come to their end at about the same time.
_PLACED = {
    "faults/test_explorer.py::test_a_run_that_is_changed": "postgresql",
    "test_sweep_properties.py::test_no_sweep_clears": "postgresql",
}
# Files that one worker runs as a whole, for the order of their tests.
_WHOLE = ("test_meta_engines.py",)
# By engine: the tests that are to run on it, and those that some worker has taken.
_SEEN = pytest.StashKey[dict[str, tuple[set[str], set[str]]]]()


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    if not pluginmanager.hasplugin("xdist"):  # `-p no:xdist`: the options in pyproject.toml must not be an error
        group = parser.getgroup("without pytest-xdist")
        group._addoption("-n", dest="numprocesses")
        group._addoption("--dist")


def pytest_configure(config: pytest.Config) -> None:
    from django.db import connection

    config.stash[_SEEN] = {}
    config.pluginmanager.register(report, "explored")
    if engines.WORKER:
        config.workeroutput["vendor"] = connection.vendor  # type: ignore[attr-defined]
    # The real one is slow on purpose; it still reads what other processes have written.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher", *settings.PASSWORD_HASHERS]
    settings.STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    if not engines.WORKER and config.getoption("dist", "no") == "each":
        os.environ[_EACH_VARIABLE] = "1"  # a worker is not told how the tests are distributed
    if config.getoption("tx", None):
        os.environ.pop("DJANGO_SETTINGS_MODULE")  # the workers inherit the rest and choose their own database


def pytest_unconfigure(config: pytest.Config) -> None:
    engines.finish()


@pytest.hookimpl(trylast=True)  # after what deselects by marks and words
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not engines.WORKER or _EACH_VARIABLE not in os.environ:
        return
    on_this_engine = [item for item in items if _engine_of(item) in (None, engines.ENGINE)]
    mine = [item for item in on_this_engine if engines.is_for_this_worker(_unit(item))]
    config.workeroutput["wanted"] = [_unit(item) for item in on_this_engine]  # type: ignore[attr-defined]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(mine)])
    items[:] = mine


def pytest_collection_finish(session: pytest.Session) -> None:
    if engines.WORKER:
        taken = [_unit(item) for item in session.items]
        session.config.workeroutput["taken"] = taken  # type: ignore[attr-defined]


def _engine_of(item: pytest.Item) -> str | None:
    """The engine that runs a shared test; None for a test that both must run."""
    name = _name(item)
    if name.startswith(_ON_BOTH) or not name.startswith(_SHARED + _SHARED_BY_CASE):
        return None
    placed = next((engine for start, engine in _PLACED.items() if name.startswith(start)), None)
    return placed or engines.engine_for(name)


def _name(item: pytest.Item) -> str:
    """The test's name in this folder, by which every worker finds who runs it."""
    name = item.nodeid.removeprefix("tests/")
    if name.startswith(_SHARED) and not name.startswith(_SHARED_BY_CASE):
        return name.partition("[")[0]  # parameters may be named otherwise in each worker
    return name


def _unit(item: pytest.Item) -> str:
    """What one worker of an engine runs in one piece: a test with its parameters, or a file."""
    name = _name(item)
    return next((whole for whole in _WHOLE if name.startswith(whole)), name)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    if error:
        return
    wanted, taken = node.config.stash[_SEEN].setdefault(node.workeroutput["vendor"], (set(), set()))
    wanted.update(node.workeroutput.get("wanted", ()))
    taken.update(node.workeroutput.get("taken", ()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _engines_missing(session.config) or _tests_missing(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if missing := _engines_missing(config):
        terminalreporter.write_line(f"No worker ran the tests on {' and '.join(sorted(missing))}.", red=True)
    for test in _tests_missing(config):
        terminalreporter.write_line(f"No worker ran {test}.", red=True)


def _engines_missing(config: pytest.Config) -> set[str]:
    """The engines that no worker reported, where the tests were to run on each."""
    if engines.WORKER or config.getoption("dist", "no") != "each" or config.getoption("collectonly"):
        return set()
    return set(engines.BOTH) - set(config.stash[_SEEN]) if config.getoption("tx", None) else set()


def _tests_missing(config: pytest.Config) -> list[str]:
    """The tests that one worker of an engine left to another, and that none has taken."""
    seen = config.stash[_SEEN].items()
    return [f"{name} on {engine}" for engine, (wanted, taken) in seen for name in sorted(wanted - taken)]


# The database


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """SQLite's test database is a file, so that other processes can open it."""
    from django.db import connection

    if connection.vendor == "sqlite":
        settings.DATABASES["default"].setdefault("TEST", {})["NAME"] = str(engines.DATABASE_DIR / "test.sqlite3")


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    from django.test import TransactionTestCase

    from tests.baseline import Baseline

    with django_db_blocker.unblock():
        baseline = Baseline()
    TransactionTestCase._fixture_teardown = lambda test_case: baseline.restore()


@pytest.fixture
def subprocess_env(transactional_db: None) -> dict[str, str]:
    """The environment in which `manage.py …` works on this test's database and data directory.

    The test is transactional, because another process sees only what is committed.
    """
    from django.db import connection

    return {**os.environ, "DATABASE_URL": engines.url_of(connection.settings_dict)}


# The guard


@pytest.fixture(scope="session", autouse=True)
def _removal_guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    from cleanup.storage import linux

    GUARD.allow(tmp_path_factory.getbasetemp(), engines.HERE, engines.DATABASE_DIR, *HOUSEKEEPING)
    sys.addaudithook(GUARD.hook)
    linux.rename_noreplace = GUARD.guarded(linux.rename_noreplace)
    GUARD.active = True
    yield
    GUARD.active = False


@pytest.fixture
def removal_guard() -> Guard:
    return GUARD


@pytest.fixture(autouse=True)
def _nothing_removed_outside() -> Iterator[None]:
    """Fail the test even where the guard's exception was lost on its way, as in a thread."""
    yield
    violations, GUARD.violations = GUARD.violations, []
    assert not violations, "removed or renamed outside the tests' own directories"


# Processes


@pytest.fixture(scope="session", autouse=True)
def _warm_processes() -> Iterator[None]:
    """The product's readers of the NAS, and what tests start by `tests.warm`, need not import anything first."""
    from cleanup.storage.nas import client

    client.subprocess = warm.instead_of_subprocess()  # type: ignore[misc]
    yield
    warm.end()


# A lab


@pytest.fixture
def now() -> datetime:
    """The instant at which tests take place: two months after the lab's first runs."""
    return datetime(2026, 6, 15, 8, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _sessions_last(settings: Any) -> None:
    """Tests set the clock by months, and a person who has signed in before stays so; what ends sessions undoes it."""
    settings.EXLAB_SESSION_IDLE = timedelta(days=3650)
    settings.SESSION_COOKIE_AGE = int(settings.EXLAB_SESSION_IDLE.total_seconds())


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """An empty lab: build runs with `lab.run(...)`."""
    return Lab(tmp_path / "lab")


@pytest.fixture
def root(lab: Lab, now: datetime, db: None) -> Any:
    """The lab's staging root, registered with its NAS root on the same filesystem."""
    from cleanup.lab import roots

    return roots.register(
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
    from cleanup.models import RetentionPolicy

    def add(**fields: Any) -> RetentionPolicy:
        return RetentionPolicy.objects.add_version(author="admin", now=now, **fields)

    return add


@pytest.fixture
def enter() -> Iterator[Callable[[AbstractContextManager[Any]], None]]:
    """Mount something for the rest of the test; skips it with a sentence where that cannot be."""
    from tests.faults.means import Unavailable, skip_or_fail  # which need Django, and that is not ready yet

    with ExitStack() as stack:

        def enter_context(context: AbstractContextManager[Any]) -> None:
            try:
                stack.enter_context(context)
            except Unavailable as missing:
                skip_or_fail(missing)

        yield enter_context
