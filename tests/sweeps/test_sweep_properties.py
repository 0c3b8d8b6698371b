"""What no sweep clears, and how much goes under pressure, with any policy.

A few examples run plainly, many in the exhaustive run.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cleanup.clears.report import ClearReport
from cleanup.lab import policy_versions
from cleanup.lab.roots import registration
from cleanup.models import Hold, LedgerEntry, RetentionPolicy, Run, StagingRoot
from cleanup.rules.policies.effective import effective_policy
from cleanup.rules.policies.policy import Mode
from cleanup.runs import discovery
from cleanup.sweeps.all_roots import sweep
from tests.faults.scene import everything
from tests.tools.database import sandbox
from tests.tools.lab import Lab

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

NOW = datetime.fromisoformat("2026-06-15T08:00:00+00:00")
EQUIPMENT = ("CONFOCAL_01", "FLOW_01")
DAMAGE = ("extra", "no_twin", "other_size", "just_written", "no_manifest")


@dataclass(frozen=True)
class Built:
    equipment: str
    hours: float
    hold: str
    damage: str
    size: int


@dataclass(frozen=True)
class Example:
    runs: tuple[Built, ...]
    policies: tuple[dict[str, Any], ...]
    limits: dict[str, Any]
    timed: bool


_built = st.builds(
    Built,
    equipment=st.sampled_from(EQUIPMENT),
    hours=st.sampled_from([500, 48, 25, 24, 23.99, 1, 0.5]),
    hold=st.sampled_from(["", "", "", "", "over", "person"]),
    damage=st.sampled_from(["", "", "", "", "", "", *DAMAGE]),
    size=st.sampled_from([0, 100, 5000]),
)
_hours = st.sampled_from([24, 24.01, 48, 1, 0])
_policies = st.fixed_dictionaries(
    {"mode": st.sampled_from(["scheduled", "scheduled", "manual", ""]), "rehearse": st.booleans()},
    optional={"retain_hours": _hours, "equipment": st.sampled_from(EQUIPMENT)},
)
_lab_wide = st.fixed_dictionaries(
    {"mode": st.just("scheduled"), "rehearse": st.sampled_from([False, False, True]), "retain_hours": _hours}
)
_limits = st.fixed_dictionaries(
    {},
    optional={
        "max_bytes": st.sampled_from([0, 3000, 10_000, 10**6]),
        "max_runs": st.sampled_from([0, 1, 2, 5]),
        "min_retain_hours": st.sampled_from([0, 1, 24]),
        "budget_runs": st.sampled_from([1, 2]),
    },
)
_examples = st.builds(
    Example,
    runs=st.lists(_built, min_size=2, max_size=5).map(tuple),
    policies=st.tuples(_lab_wide, _policies),
    limits=_limits,
    timed=st.booleans(),
)


class Undo(Exception):
    """Rolls back an example's rows."""


def build(example: Example, base: Path) -> tuple[Lab, StagingRoot]:
    lab = Lab(base)
    root = registration.register(
        "lab", str(lab.staging), nas_path=str(lab.nas), allow_same_filesystem=True, accept_empty=True, now=NOW
    )
    for number, built in enumerate(example.runs):
        _build_run(lab, number, built)
    discovery.discover(root, now=NOW)
    for number, built in enumerate(example.runs):
        if built.hold:
            until = NOW + timedelta(hours=1 if built.hold == "person" else -1)
            run = Run.objects.get(run_path=path_of(number, built))
            Hold.objects.create(run=run, owner="ada", reason="needed", created_at=NOW - timedelta(days=2), until=until)
    add = policy_versions.add_version
    add(root=root, author="admin", now=NOW, proof="size", rehearse=False, **example.limits)
    for fields in example.policies:
        add(author="admin", now=NOW, **fields)
    return lab, root


def path_of(number: int, built: Built) -> str:
    return f"{built.equipment}/PROJ-0001/Runs/Run_2026-01-0{number + 1}T10-00"


def _build_run(lab: Lab, number: int, built: Built) -> None:
    path = lab.run(
        path_of(number, built),
        files={"a.bin": b"x" * built.size},
        verified_at=NOW - timedelta(hours=built.hours),
        twin=built.damage != "no_twin",
    )
    if built.damage == "extra":
        (path / "extra").write_bytes(b"x")
    elif built.damage == "other_size":
        (lab.twin(path_of(number, built)) / "README.md").write_bytes(b"other")
    elif built.damage == "just_written":
        written = NOW - timedelta(minutes=1)
        os.utime(path / "README.md", (written.timestamp(),) * 2)
    elif built.damage == "no_manifest":
        (path / ".exlab-wizard" / "checksums.sha256").unlink()


def went(swept: ClearReport) -> list[str]:
    return [run.run_path for run in swept.freeing]


def check(example: Example, base: Path) -> list[str]:
    lab, root = build(example, base)
    by_path = {path_of(number, built): built for number, built in enumerate(example.runs)}
    policies = RetentionPolicy.objects.scoped()
    sizes = dict(Run.objects.values_list("run_path", "bytes"))
    # A timed pass takes runs by what is approved: while a version rehearses, by the versions in force without it.
    effective = {run.run_path: effective_policy(policies, run.scope) for run in Run.objects.with_root()}
    if example.timed:
        effective = {run_path: policy.unasked for run_path, policy in effective.items()}
    before = everything(lab)

    shown = sweep(now=NOW, dry_run=True, timed=example.timed, roots=[root])
    assert everything(lab) == before
    assert not LedgerEntry.objects.exists()
    taken = sweep(now=NOW, timed=example.timed, roots=[root])

    assert went(shown) == went(taken)
    assert [(run.run_path, run.reason) for run in shown.runs] == [(run.run_path, run.reason) for run in taken.runs]
    gone = [run_path for run_path in by_path if not (lab.staging / run_path).exists()]
    assert sorted(gone) == sorted(went(taken))
    for run_path in gone:
        built, policy = by_path[run_path], effective[run_path]
        assert built.hold != "person"
        assert not built.damage
        assert policy.mode is Mode.SCHEDULED
        assert built.hours >= policy.min_retain_hours
        if not example.limits.keys() & {"max_bytes", "max_runs"}:
            assert built.hours >= policy.retain_hours
    _check_pressure(example, by_path, effective, sizes, taken)
    return gone


def _check_pressure(
    example: Example, by_path: dict[str, Built], effective: dict[str, Any], sizes: dict[str, Any], taken: ClearReport
) -> None:
    """The target is met while runs may go, and with no run more than needed."""
    limits = example.limits
    left_runs, left_bytes = len(by_path), sum(sizes.values())

    def over(runs: int, size: int) -> bool:
        too_many = "max_runs" in limits and runs > limits["max_runs"]
        return too_many or ("max_bytes" in limits and size > limits["max_bytes"])

    for run_path in went(taken):
        cause = next(run.reason for run in taken.runs if run.run_path == run_path)
        if not cause.startswith("retention"):
            assert over(left_runs, left_bytes), f"{run_path} went for {cause}, and that was met already"
        left_runs, left_bytes = left_runs - 1, left_bytes - sizes[run_path]
    live = {path: built for path, built in by_path.items() if path not in went(taken)}
    may_go = [
        run_path
        for run_path, built in live.items()
        if not built.damage
        and built.hold != "person"
        and effective[run_path].mode is Mode.SCHEDULED
        and built.hours >= effective[run_path].min_retain_hours
    ]
    budget = limits.get("budget_runs", 99)
    if over(left_runs, left_bytes) and len(went(taken)) < budget and not example.timed:
        assert may_go == []


@pytest.fixture
def labs(tmp_path: Path) -> Iterator[Any]:
    count = iter(range(100_000))

    def place() -> Path:
        return tmp_path / str(next(count))

    yield place


def run_example(example: Example, base: Path) -> list[str]:
    gone: list[str] = []
    try:
        with sandbox():
            gone = check(example, base)
            raise Undo
    except Undo:
        shutil.rmtree(base)
    return gone


_settings = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "derandomize": True,
    "database": None,
    "phases": [Phase.generate],
}


@given(example=_examples)
@settings(max_examples=10, **_settings)  # type: ignore[arg-type]
def test_no_sweep_clears_what_is_held_unproven_or_too_recent(example: Example, labs: Any) -> None:
    run_example(example, labs())


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@given(example=_examples)
@settings(max_examples=250, **{**_settings, "derandomize": False, "phases": list(Phase)})  # type: ignore[arg-type]
def test_no_sweep_ever_does(example: Example, labs: Any) -> None:
    run_example(example, labs())


def test_the_check_notices_one_run_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = Example(
        runs=(Built("FLOW_01", 500, "", "", 100), Built("FLOW_01", 48, "", "", 100)),
        policies=({"mode": "scheduled", "rehearse": False, "retain_hours": 100.0},),
        limits={"max_runs": 1, "min_retain_hours": 1},
        timed=False,
    )
    assert run_example(example, tmp_path / "good") == [path_of(0, example.runs[0])]
    monkeypatch.setattr("cleanup.rules.pressure.Picker.gone", lambda *args, **sizes: None)
    with pytest.raises(AssertionError, match="was met already"):
        run_example(example, tmp_path / "bad")


def test_the_check_notices_a_held_run_that_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = Example(
        runs=(Built("FLOW_01", 500, "person", "", 100),),
        policies=({"mode": "scheduled", "rehearse": False, "retain_hours": 1.0},),
        limits={},
        timed=False,
    )
    assert run_example(example, tmp_path / "good") == []
    monkeypatch.setattr("cleanup.models.HoldQuerySet.in_force", lambda self, now: self.none())
    monkeypatch.setattr("cleanup.runs.holds.keeping_holds.holds_of", lambda run: ())
    with pytest.raises(AssertionError, match="person"):
        run_example(example, tmp_path / "bad")
