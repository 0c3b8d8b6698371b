"""`go_on` and `why`."""

import io
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from cleanup.clears import clear_now
from cleanup.models import Outcome, Run, StagingRoot, Sweep, SweepBreaker, SweepKind, SweptRun
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from tests.tools.lab import RUN_PATH, Lab

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]


@pytest.fixture(autouse=True)
def _clock(now: datetime) -> Any:
    with time_machine.travel(now, tick=False):
        yield


@pytest.fixture
def swept(root: StagingRoot, now: datetime) -> Callable[..., Sweep]:
    def add(hours: float, kind: str = SweepKind.TIMED, **fields: Any) -> Sweep:
        at = now - timedelta(hours=hours)
        values = {"root": root, "host": "h", "outcome": Outcome.DONE, "now": at, "started_at": at, **fields}
        return Sweep.objects.create(kind=kind, **values)

    return add


@pytest.fixture
def breaker(root: StagingRoot, swept: Callable[..., Sweep], now: datetime) -> SweepBreaker:
    stopped = swept(2, outcome=Outcome.STOPPED)
    return SweepBreaker.objects.create(
        root=root, sweep=stopped, kind="clock", detail="The clock has jumped.", opened_at=now - timedelta(hours=2)
    )


@pytest.fixture
def run(lab: Lab, root: StagingRoot, now: datetime) -> Run:
    lab.run()
    discovery.discover(root, now=now - timedelta(days=20))
    return Run.objects.get()


def call(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue().strip()


def refused(*arguments: str) -> str:
    with pytest.raises(CommandError) as caught:
        call_command(*arguments)
    assert caught.value.returncode == 2
    return str(caught.value)


# go_on


def test_go_on_closes_what_is_open(breaker, now):
    User.objects.create_user("mkhan")
    said = json.loads(call("go_on", "--user", "mkhan", "--reason", "the clock was set", "--json"))
    assert said["breakers"] == [
        {
            "root": "lab",
            "kind": "clock",
            "detail": "The clock has jumped.",
            "opened_at": (now - timedelta(hours=2)).isoformat(),
            "sweep": breaker.sweep_id,
            "runs": [],
            "bytes": 0,
            "policy_versions": [],
        }
    ]
    breaker.refresh_from_db()
    assert (breaker.closed_by, breaker.note, breaker.closed_at) == ("mkhan", "the clock was set", now)


def test_go_on_says_what_it_lets_go_on_and_twice_is_harmless(breaker):
    assert call("go_on") == "lab: goes on after: The clock has jumped."
    closed = SweepBreaker.objects.values().get()
    assert call("go_on", "--reason", "again") == "No breaker is open."
    assert SweepBreaker.objects.values().get() == closed


def test_go_on_leaves_other_roots_alone(breaker, root):
    other = StagingRoot.objects.create(name="other", host=root.host, path="/other")
    assert call("go_on", "--root", other.name) == "No breaker is open."
    assert SweepBreaker.objects.get().closed_at is None


def test_go_on_with_bad_usage(breaker):
    assert refused("go_on", "--user", "nobody here") == "No user nobody here is known."
    assert "No staging root x" in refused("go_on", "--root", "x")
    assert SweepBreaker.objects.get().closed_at is None


# why


def test_why_tells_what_the_latest_passes_said(run, swept, root):
    first, second = swept(30), swept(3)
    gates = [{"gate": "proof", "verdict": "block", "reason": "nas_timeout", "detail": "60 s", "opens_at": None}]
    common = {"run": run, "root": root, "kind": SweepKind.TIMED, "action": "skipped", "gates": gates}
    SweptRun.objects.create(first=first, last=first, reason=Reason.HELD, detail="by mkhan", **common)
    SweptRun.objects.create(first=second, last=second, reason=Reason.NAS_TIMEOUT, detail="60 s", **common)
    said = call("why", RUN_PATH)
    assert f"Timed, 2026-06-15 05:00:00 UTC: left alone. {Reason.NAS_TIMEOUT.sentence} 60 s" in said
    assert f"  proof      block {Reason.NAS_TIMEOUT.sentence} 60 s" in said
    assert "Typed: no such pass by then" in said
    assert Reason.HELD.sentence in call("why", RUN_PATH, "--at", "2026-06-14")
    assert "Timed: no such pass by then" in call("why", RUN_PATH, "--at", "2026-06-14T01:00:00Z")
    Run.objects.update(gone_at=second.started_at)
    assert Reason.NAS_TIMEOUT.sentence in call("why", RUN_PATH), "a run that was marked as gone has its past"


def test_why_as_json(run, swept, root, now):
    first, last = swept(30), swept(3, reason=Reason.LIMIT_EXCEEDED)
    SweptRun.objects.create(
        run=run, root=root, kind=first.kind, first=first, last=last, action="skipped", reason=Reason.HELD
    )
    answer = json.loads(call("why", RUN_PATH, "--root", "lab", "--json"))
    assert {name: answer[name] for name in ("root", "run_path", "state", "cleared_at")} == {
        "root": "lab",
        "run_path": RUN_PATH,
        "state": "sync_verified",
        "cleared_at": None,
    }
    timed, typed, dry = answer["answers"]
    assert timed == {
        "kind": "timed",
        "sweep": {
            "id": last.pk,
            "at": (now - timedelta(hours=3)).isoformat(),
            "now": (now - timedelta(hours=3)).isoformat(),
            "outcome": "done",
            "reason": "limit_exceeded",
            "detail": "",
        },
        "action": "skipped",
        "reason": "held",
        "detail": "",
        "since": (now - timedelta(hours=30)).isoformat(),
        "policy_version": 0,
        "policy": None,
        "files": 0,
        "bytes": 0,
        "gates": [],
    }
    assert (typed["kind"], typed["sweep"], dry["kind"], dry["sweep"]) == ("typed", None, "dry_run", None)


def test_why_with_bad_usage(run):
    assert "no date" in refused("why", RUN_PATH, "--at", "Tuesday")
    assert "No run" in refused("why", "CONFOCAL_01/PROJ-0042/Runs/Run_2020-01-01T00-00")
    assert "No staging root x" in refused("why", RUN_PATH, "--root", "x")


def test_why_says_when_a_pass_said_nothing(run, swept):
    swept(1, outcome=Outcome.INTERRUPTED)
    assert "The pass was interrupted before it came to this run." in call("why", RUN_PATH)


def test_why_and_evaluate_say_of_a_cleared_run_that_it_was_cleared(run, policy, now):
    policy(mode="manual")
    call("sweep", "--as-scheduled")
    clear_now.clear([run], now=now, actor="mkhan")
    run.refresh_from_db()
    (attempt,) = run.attempts.all()
    said = "It was cleared 2026-06-15 08:00:00 UTC by mkhan. On staging it was: "
    for command in ("why", "evaluate"):
        assert said in call(command, RUN_PATH), command
    expected = {
        "at": run.cleared_at.isoformat(),
        "by": "mkhan",
        "files": attempt.planned_files,
        "bytes": attempt.planned_bytes,
        "freed_files": attempt.freed_files,
        "freed_bytes": attempt.freed_bytes,
        "attempt": str(attempt.pk),
    }
    assert json.loads(call("why", RUN_PATH, "--json"))["cleared"] == expected
    (evaluated,) = json.loads(call("evaluate", RUN_PATH, "--json"))["runs"]
    assert (evaluated["cleared"], evaluated["clearable"]) == (expected, False)


def test_why_says_of_a_staged_run_no_such_thing(run):
    assert "cleared" not in call("why", RUN_PATH)
    assert json.loads(call("why", RUN_PATH, "--json"))["cleared"] is None


def test_why_of_a_real_pass(run, policy, now):
    policy(mode="manual")
    call("sweep", "--as-scheduled")
    timed, _typed, _dry = json.loads(call("why", RUN_PATH, "--json"))["answers"]
    assert (timed["action"], timed["reason"], timed["sweep"]["at"]) == ("skipped", "policy_manual", now.isoformat())
    assert {gate["gate"]: gate["verdict"] for gate in timed["gates"]}["retention"] == "block"
    assert f"Timed, 2026-06-15 08:00:00 UTC: left alone. {Reason.POLICY_MANUAL.sentence}" in call("why", RUN_PATH)
