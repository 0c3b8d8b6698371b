"""The whole fault matrix: it produces every reason, and a case that declares a wrong one fails."""

import importlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cleanup.rules.reasons import Reason
from tests.faults import cases
from tests.faults.cases import REGISTRY, TILE, Case, run_case, set_stage
from tests.tools.lab import Lab

pytestmark = pytest.mark.one_engine


MODULES = sorted(
    path.stem for path in Path(__file__).parent.glob("test_matrix_*.py") if path.stem != Path(__file__).stem
)
# What only the telling of the NAS says, long after the clear: tests/clears/test_nas_history.py.
TOLD = {Reason.NAS_NOT_WRITABLE, Reason.TOMBSTONE_MISSING}
# What the watchdog says of runs, clusters, clocks and holds, and discovery of copies; no clear is refused for it:
# tests/monitoring/test_watchdog.py, tests/lab/test_clocks.py, tests/lab/nas/test_shared_twins.py. A disk that fills up:
# tests/monitoring/test_disk_alarms.py.
WATCHED = {
    Reason.DISK_NEARLY_FULL,
    Reason.STALLED,
    Reason.NO_PROGRESS,
    Reason.SCHEDULE_MISSED,
    Reason.CLUSTER_SILENT,
    Reason.HOST_UNSERVED,
    Reason.CLOCK_IN_DOUBT,
    Reason.CLOCK_WENT_BACK,
    Reason.HOLD_ENDING,
    Reason.HOLD_OLD,
    Reason.REMINDER_DUE,
    Reason.TWIN_OVERWRITTEN,
}
# Things on a staging disk that are no known run, and never cleared: tests/runs/orphans/test_orphans.py.
ORPHANED = {Reason.UNKNOWN_DIRECTORY, Reason.MISPLACED_RUN, Reason.STRAY_FILE, Reason.ORPHANS_ESCALATED}
ORPHANED |= {Reason.PASSED_OVER}  # tests/storage/staging/test_passed_over.py
# The folders that a waiting wizard makes where a run lay: tests/clears/test_shell_removal.py.
ORPHANED |= {Reason.SHELL_LEFT, Reason.NOT_A_SHELL}
# A sweep's limits, which the clear does not know: test_budgets.py, test_pressure.py,
# test_breakers.py and test_record.py in tests/sweeps, tests/lab/roots/test_root_lock.py, tests/clears/test_freed.py.
SWEPT = {
    Reason.CLEARING_FREES_NOTHING,
    Reason.BUDGET_EXHAUSTED,
    Reason.LIMIT_EXCEEDED,
    Reason.BREAKER_OPEN,
    Reason.SWEEP_FAILED,
    Reason.SWEEP_RUNNING,
    Reason.REHEARSAL,
}
# An operator's changes to a clear that has not begun: tests/clears/test_batches.py.
STOPPED = {Reason.WITHDRAWN}
GROUPS = {
    "accounting",
    "freshness",
    "ingest",
    "names",
    "nas",
    "paths",
    "processes",
    "storage",
    "time",
}


@pytest.fixture(scope="module", autouse=True)
def _every_table() -> None:
    for module in MODULES:
        importlib.import_module(f"tests.faults.{module}")


def test_every_reason_has_a_case() -> None:
    """The runner asserts each case's reason, so the declared reasons are what the product says."""
    declared = {case.reason for table in REGISTRY.values() for case in table.values()}
    assert (declared - {None}) | TOLD | SWEPT | WATCHED | ORPHANED | STOPPED == set(Reason)


def test_every_group_is_there_and_the_plain_run_has_most_of_it() -> None:
    assert set(REGISTRY) == GROUPS
    assert len(MODULES) == len(GROUPS)
    plain = sum(len(table) - len(cases.RARE[group]) for group, table in REGISTRY.items())
    assert plain >= 200


@pytest.mark.django_db
@pytest.mark.parametrize(
    "wrong",
    [
        Case(Reason.NOT_QUIET, lambda stage: (stage.path / TILE).unlink()),
        Case(None, lambda stage: (stage.path / TILE).unlink(), "cleared", cases.cleared),
        Case(Reason.MISSING_FILE),
        cases.puts_back(Reason.CHANGED_SINCE_VERIFICATION, lambda stage: None),
    ],
    ids=["another reason", "no reason", "no fault", "no fault in time"],
)
def test_a_case_that_declares_what_does_not_happen_fails(
    lab: Lab,
    root: Any,
    now: datetime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    policy: Callable[..., Any],
    wrong: Case,
) -> None:
    with pytest.raises(AssertionError):
        run_case(wrong, "operator", set_stage(wrong, lab, root, now, tmp_path, monkeypatch), policy)


@pytest.mark.django_db
@pytest.mark.parametrize("place", ["run", "twin", "sibling", "outside", "row"])
def test_any_other_change_is_noticed(
    lab: Lab,
    root: Any,
    now: datetime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    policy: Callable[..., Any],
    place: str,
) -> None:
    case = Case(Reason.MISSING_FILE, lambda stage: (stage.path / TILE).unlink())
    stage = set_stage(case, lab, root, now, tmp_path, monkeypatch)

    def click_and_meddle(stage: cases.Stage) -> cases.Answer:
        answer = cases.click(stage)
        if place == "row":
            type(stage.run).objects.filter(run_path=cases.SIBLING).update(project_name="another")
        else:
            touched = {
                "run": stage.path / "README.md",
                "twin": stage.twin / TILE,
                "sibling": stage.lab.staging / cases.SIBLING,
                "outside": stage.outside / "folder/canary",
            }
            touched[place].touch()
        return answer

    with pytest.raises(AssertionError, match=r"changed|->"):
        run_case(cases.but(case, act=click_and_meddle, action="refused"), "operator", stage, policy)
