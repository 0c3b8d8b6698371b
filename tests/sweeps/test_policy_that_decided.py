"""The version and scope that decided, not only the newest policy."""

import io
import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from cleanup.clears import batches, preview, protocol
from cleanup.clears.clear_now import clear
from cleanup.clears.queue import ClearRequest, new_attempt
from cleanup.models import ClearAttempt, LedgerEntry, Phase, Requester, Run, SweptRun
from cleanup.rules.policies.policy import Policy
from cleanup.runs import discovery
from cleanup.runs.holds import holds
from cleanup.sweeps.all_roots import sweep
from tests.tools.lab import Lab

pytestmark = pytest.mark.django_db

LAB = {"root": None, "equipment": None, "project": None, "run_kind": None}
EXPERIMENTS = {**LAB, "run_kind": "experimental"}
SAID = (
    "mode by version 1 (experimental runs); hours by version 1 (experimental runs); proof by version 2 (the whole lab)"
)


@pytest.fixture
def run(lab: Lab, root: Any, now: Any, policy: Callable[..., Any]) -> Run:
    lab.run()
    discovery.discover(root, now=now)
    policy(run_kind="experimental", mode="scheduled", retain_hours=24, rehearse=False)
    policy(proof="size", rehearse=False)
    policy(equipment="FLOW_01", mode="scheduled", retain_hours=5, proof="record", rehearse=False)
    return Run.objects.with_root().get()


def expected(mode: str = "scheduled", *, hours: float = 24.0) -> dict[str, Any]:
    return {
        "mode": {"value": mode, "version": 1, "scope": EXPERIMENTS},
        "retain_hours": {"value": hours, "version": 1, "scope": EXPERIMENTS},
        "proof": {"value": "size", "version": 2, "scope": LAB},
    }


def words(response: Any) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def test_attempt_ledger_sweep_and_pages_name_what_decided(run: Run, now: Any, admin_client: Client) -> None:
    (action,) = sweep(now=now, timed=True).runs
    assert action.decided_by == expected()
    attempt = ClearAttempt.objects.get()
    assert (attempt.phase, attempt.decided_by, attempt.policy_version) == (Phase.DONE, expected(), 3)
    kept = [(entry.decided_by, entry.policy_version) for entry in LedgerEntry.objects.all()]
    assert kept == [(expected(), 3)] * 2
    said = SweptRun.objects.get()
    assert (said.decided_by, said.policy_version) == (expected(), 3)
    receipt = words(admin_client.get(f"/runs/{run.pk}/receipt/"))
    assert "Policy: mode scheduled by version 1 (experimental runs)" in receipt
    assert "Policy: hours 24 h by version 1 (experimental runs)" in receipt
    assert "Policy: proof size by version 2 (the whole lab)" in receipt
    page = words(admin_client.get(f"/runs/{run.pk}/"))
    assert page.count(f"Policy: {SAID}") == 3, "the attempt and two rows of the ledger"
    assert f"Policy: {SAID}" in words(admin_client.get(f"/sweeps/{said.last_id}/"))


def test_commands_name_it_as_well(run: Run, now: Any) -> None:
    out = io.StringIO()
    call_command("evaluate", run.run_path, json=True, stdout=out)
    assert json.loads(out.getvalue())["runs"][0]["policy"] == expected()
    sweep(now=now, timed=True)
    out = io.StringIO()
    call_command("why", run.run_path, json=True, stdout=out)
    (answer,) = (answer for answer in json.loads(out.getvalue())["answers"] if answer["action"])
    assert answer["policy"] == expected()


def test_what_was_written_before_is_shown_as_the_newest_at_the_time(run: Run, now: Any, admin_client: Client) -> None:
    """Older rows only name that; they are never rewritten."""
    sweep(now=now, timed=True)
    ClearAttempt.objects.update(decided_by={})
    SweptRun.objects.update(decided_by={})
    assert "Policy version 3, the newest at the time" in words(admin_client.get(f"/runs/{run.pk}/receipt/"))
    assert "Policy: version 3, the newest at the time" in words(admin_client.get(f"/runs/{run.pk}/"))
    sweep_page = words(admin_client.get(f"/sweeps/{SweptRun.objects.get().last_id}/"))
    assert "Policy: version 3, the newest at the time" in sweep_page


def test_a_refusal_names_it_as_well(run: Run, now: Any) -> None:
    holds.hold(run, owner="ada", reason="read", until=timezone.now() + timedelta(days=900), now=now)
    clear([run], now=now, actor="ada")
    (entry,) = LedgerEntry.objects.all()
    assert (entry.kind, entry.decided_by) == ("refused", expected())


def test_under_pressure_the_floor_decides_the_hours(run: Run, root: Any, now: Any, policy: Callable[..., Any]) -> None:
    policy(run_kind="experimental", retain_hours=10_000, min_retain_hours=1, rehearse=False)
    policy(root=root, max_runs=0, rehearse=False)
    (action,) = sweep(now=now, timed=True, limit=5).runs
    assert action.reason == "max_runs"
    assert action.decided_by["retain_hours"] == {"value": 1.0, "version": 4, "scope": EXPERIMENTS}
    assert ClearAttempt.objects.get().decided_by == action.decided_by


def test_a_proof_that_was_promised_is_named_with_the_version_that_promised_it(
    run: Run, now: Any, policy: Callable[..., Any]
) -> None:
    """The policy asks for less while the attempt waits: the promised proof still holds."""
    attempt = new_attempt(run, ClearRequest(requester=Requester.OPERATOR, actor="ada"), now=now)
    policy(proof="record", rehearse=False)
    protocol.perform(attempt, now=now)
    kept = ClearAttempt.objects.get()
    assert (kept.phase, kept.decided_by["proof"]["version"], kept.proof and kept.proof.level) == ("done", 2, "size")


def test_the_runs_of_a_batch_keep_it_from_the_request_on(run: Run, now: Any, admin_user: Any) -> None:
    shown = preview.preview(admin_user, preview.RequestedRuns.of([run.pk]), now)
    batches.place_one(admin_user, run, digest=shown.digest, typed="", note="", now=now)
    assert ClearAttempt.objects.get().decided_by == expected()


def test_another_version_in_the_run_s_scope_is_a_row_of_its_own(run: Run, now: Any, policy: Callable[..., Any]) -> None:
    policy(run_kind="experimental", retain_hours=87_000, rehearse=False)
    sweep(now=now, timed=True)
    policy(equipment="FLOW_01", retain_hours=6, rehearse=False)
    sweep(now=now + timedelta(hours=1), timed=True)
    assert SweptRun.objects.count() == 1
    policy(run_kind="experimental", stalled_after_hours=6, rehearse=False)
    sweep(now=now + timedelta(hours=2), timed=True)
    assert [row.decided_by["mode"]["version"] for row in SweptRun.objects.order_by("pk")] == [4, 6]


def test_defaults_have_no_version(lab: Lab, root: Any, now: Any, admin_client: Client) -> None:
    lab.run()
    discovery.discover(root, now=now)
    clear(Run.objects.with_root(), now=now, actor="ada")
    kept = ClearAttempt.objects.get()
    assert kept.decided_by["mode"] == {"value": "manual", "version": None, "scope": None}
    receipt = words(admin_client.get(f"/runs/{kept.run_id}/receipt/"))
    assert "Policy: proof checksum by the default" in receipt


def test_what_decided_does_not_tell_policies_apart() -> None:
    assert Policy() == Policy(decided_by={"mode": None})  # type: ignore[dict-item]
