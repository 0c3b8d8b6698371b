"""A pass's numbers equal those of its rows, wherever it stopped or died.

A few examples run plainly, many in the exhaustive run.
"""

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cleanup.clears import settlement
from cleanup.lab import policy_versions
from cleanup.models import Outcome, StagingRoot, Sweep, SweepBreaker, SweptRun
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.storage.data_directory.datadir import DataDir
from cleanup.sweeps import record
from cleanup.sweeps.all_roots import sweep
from cleanup.sweeps.taking import Taking
from tests.sweeps.test_sweep_properties import NOW, Built, Undo, labs  # noqa: F401
from tests.sweeps.test_sweep_properties import Example as Runs
from tests.sweeps.test_sweep_properties import build as build_runs
from tests.tools.database import sandbox
from tests.tools.lab import Lab

pytestmark = pytest.mark.django_db

UNVERIFIED = ("staging", "complete", "sync_queued")
FREEING = ("cleared", "partial", "would_clear")
_HOUR = timedelta(hours=1)


class Killed(BaseException):
    """The process ends here and writes nothing more."""


@dataclass(frozen=True)
class Example:
    """Runs, some not verified; limits; and the fault of the second pass at its run number `at`."""

    runs: Runs
    unverified: int
    fault: str
    at: int
    kinds: tuple[dict[str, Any], ...]


_runs = st.builds(
    Runs,
    runs=st.lists(
        st.builds(
            Built,
            equipment=st.sampled_from(["CONFOCAL_01", "FLOW_01"]),
            hours=st.sampled_from([500, 48, 25, 1]),
            hold=st.sampled_from(["", "", "", "person"]),
            damage=st.sampled_from(["", "", "", "", "extra", "no_twin"]),
            size=st.sampled_from([100, 5000]),
        ),
        min_size=2,
        max_size=5,
    ).map(tuple),
    policies=st.tuples(
        st.fixed_dictionaries(
            {
                "mode": st.just("scheduled"),
                "rehearse": st.sampled_from([False, False, True]),
                "retain_hours": st.just(24),
            }
        )
    ),
    limits=st.fixed_dictionaries(
        {},
        optional={
            "max_runs": st.sampled_from([0, 1]),
            "min_retain_hours": st.just(1),
            "budget_runs": st.sampled_from([1, 2]),
        },
    ),
    timed=st.just(True),
)
_kinds = st.sampled_from([{"timed": True}, {"timed": True}, {}, {"dry_run": True}, {"dry_run": True, "timed": True}])
_examples = st.builds(
    Example,
    runs=_runs,
    unverified=st.integers(0, 3),
    fault=st.sampled_from(["", "left", "fails", "dies", "killed", "stopped"]),
    at=st.integers(0, 2),
    kinds=st.tuples(_kinds, _kinds, _kinds),
)


def build(example: Example, base: Path) -> StagingRoot:
    lab, root = build_runs(example.runs, base)
    for number in range(example.unverified):
        lab.run(f"CONFOCAL_01/PROJ-0002/Runs/Run_2026-02-0{number + 1}T10-00", state=UNVERIFIED[number])
    discovery.discover(root, now=NOW)
    # Nothing of the above may be a policy's affair alone: a run in rehearsal is listed, and goes under no other.
    policy_versions.add_version(author="admin", now=NOW, equipment="FLOW_01", mode="manual", rehearse=False)
    assert isinstance(lab, Lab)
    return root


def befall(example: Example, root: StagingRoot, patch: pytest.MonkeyPatch) -> None:
    taken = iter(range(1_000))
    take_one, roll_forward = Taking._take_one, settlement.roll_forward

    def take(self: Taking, *args: Any, **how: Any) -> Any:
        mine = next(taken) >= example.at
        if mine and example.fault == "dies":
            raise RuntimeError("the database went away")
        action = take_one(self, *args, **how)
        if mine and example.fault == "killed":
            raise Killed
        return action

    def leave_a_file(attempt: Any, opened: Any, *args: Any, **how: Any) -> None:
        """A program with the folder open writes another file after the commit: it stays."""
        os.close(os.open("late.bin", os.O_CREAT | os.O_WRONLY, dir_fd=opened.run))
        roll_forward(attempt, opened, *args, **how)

    def fail(*args: Any, **how: Any) -> None:
        raise OSError(28, "no space")

    patch.setattr(Taking, "_take_one", take)
    if example.fault == "stopped":
        saw = {
            "root": root,
            "sweep": Sweep.objects.latest("pk"),
            "kind": "share",
            "detail": "Too much.",
            "opened_at": NOW,
        }
        SweepBreaker.objects.create(**saw)
    if example.fault == "left":
        patch.setattr(settlement, "roll_forward", leave_a_file)
    if example.fault == "fails":
        patch.setattr(DataDir, "write_plan", fail)


def check(example: Example, base: Path, client: Client) -> Counter[str]:
    root = build(example, base)
    for number, kind in enumerate(example.kinds):
        with pytest.MonkeyPatch.context() as patch:
            if number == 1:
                befall(example, root, patch)
            try:
                sweep(now=NOW + number * _HOUR, roots=[root], **kind)
            except Killed:
                expect_equal(Sweep.objects.latest("pk"), client)
    for killed in Sweep.objects.filter(outcome=Outcome.RUNNING):
        record.interrupt(killed)
    seen: Counter[str] = Counter()
    for one in Sweep.objects.order_by("pk"):
        expect_equal(one, client)
        seen.update([one.outcome, *rows(one).values_list("action", flat=True)])
    return seen


def rows(one: Sweep) -> Any:
    return SweptRun.objects.filter(root=one.root_id, kind=one.kind, first_id__lte=one.pk, last_id__gte=one.pk)


def expect_equal(one: Sweep, client: Client) -> None:
    below = list(rows(one))
    actions = Counter(row.action for row in below)
    assert len({row.run_id for row in below}) == len(below), "each run is told once"
    freeing = [row for row in below if row.action in FREEING and row.reason != Reason.REHEARSAL]
    freed = sum(row.files for row in freeing), sum(row.bytes for row in freeing)
    shown = facts(client.get(f"/sweeps/{one.pk}/").content.decode())
    parts = [shown.get(name, 0) for name in ("Cleared", "Cleared, removal incomplete", "Would be cleared")]
    parts += [shown.get(name, 0) for name in ("Skipped", "Failed")]
    assert parts == [actions[name] for name in ("cleared", "partial", "would_clear", "skipped", "failed")]
    left = shown.get("Not come to", 0) + shown.get("Still to come", 0)
    assert shown["Looked at"] == sum(parts) + left
    assert shown["listed"] == len(below)
    if one.outcome == Outcome.RUNNING:
        return
    assert one.cleared == actions["cleared"] + actions["partial"]
    assert one.failed == actions["failed"] + actions["partial"]
    assert one.only_failed == actions["failed"]
    assert (one.would_clear, one.skipped) == (actions["would_clear"], actions["skipped"])
    assert (one.files, one.bytes) == freed
    if one.outcome in (Outcome.DONE, Outcome.STOPPED):
        assert one.scanned == len(below)


def facts(text: str) -> dict[str, int]:
    found = {name: int(number) for name, number in re.findall(r"<dt>([^<]+)</dt>\s*<dd>(\d+) runs?</dd>", text)}
    listed = re.search(r"of (\d+) runs?</p>", text)
    return {**found, "listed": int(listed[1]) if listed else 0}


def run_example(example: Example, base: Path) -> Counter[str]:
    seen: Counter[str] = Counter()
    client = Client()
    client.force_login(User.objects.get_or_create(username="root", is_superuser=True)[0])
    try:
        with sandbox():
            seen = check(example, base, client)
            raise Undo
    except Undo:
        shutil.rmtree(base)
    return seen


_settings = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "derandomize": True,
    "database": None,
    "phases": [Phase.generate],
}


@pytest.mark.exhaustive
@given(example=_examples)
@settings(max_examples=3, **_settings)  # type: ignore[arg-type]
def test_a_pass_counts_what_its_rows_say(example: Example, labs: Iterator[Path]) -> None:  # noqa: F811
    """Takes 2 s: three labs with three passes each."""
    run_example(example, labs())  # type: ignore[operator]


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@given(example=_examples)
@settings(max_examples=80, **{**_settings, "derandomize": False, "phases": list(Phase)})  # type: ignore[arg-type]
def test_every_pass_counts_what_its_rows_say(example: Example, labs: Iterator[Path]) -> None:  # noqa: F811
    run_example(example, labs())  # type: ignore[operator]


FAULTS = {
    "left": {"partial": 2, "skipped": 9, "done": 3},
    "fails": {"failed": 2, "cleared": 2, "skipped": 9},
    "dies": {"interrupted": 1, "cleared": 2},
    "killed": {"interrupted": 1, "cleared": 2},
    "stopped": {"stopped": 2, "skipped": 13, "would_clear": 2},
}


@pytest.mark.parametrize(
    "fault",
    ["left", "fails", "killed", *(pytest.param(one, marks=pytest.mark.exhaustive) for one in ("dies", "stopped"))],
)
def test_partial_failed_and_interrupted_passes_add_up(fault: str, tmp_path: Path) -> None:
    runs = tuple(Built("CONFOCAL_01", hours, "", "", 100) for hours in (500, 400, 1))
    wide = {"mode": "scheduled", "rehearse": False, "retain_hours": 24.0}
    plain = Runs(runs=runs, policies=(wide,), limits={"max_share": 1.0}, timed=True)
    timed = ({"dry_run": True}, {"timed": True}, {"timed": True})
    seen = run_example(Example(plain, 2, fault, 1 if fault in ("dies", "killed") else 0, timed), tmp_path / "lab")
    assert {name: seen[name] for name in FAULTS[fault]} == FAULTS[fault], seen
