"""An upgrade of existing rows; migrating back and up again gives the same."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor

from cleanup import clear_run
from cleanup.models import Access, ClearAttempt, Instrument, Project, Run, Status
from cleanup.runs import discovery
from tests.tools.baseline import Baseline
from tests.tools.lab import RUN_PATH, Lab, census

BEFORE, COLUMNS = "0005_groups", "0006_pages"

pytestmark = pytest.mark.django_db(transaction=True)


class Tables:
    def __init__(self) -> None:
        self.are_new = True

    def migrate(self, name: str) -> Any:
        self.are_new = False
        call_command("migrate", "cleanup", name, verbosity=0)
        return MigrationExecutor(connection).loader.project_state([("cleanup", name)]).apps.get_model

    def upgrade(self) -> None:
        """Migrate to the end; it takes 1 s even with nothing to do."""
        if not self.are_new:
            call_command("migrate", verbosity=0)
        self.are_new = True


@pytest.fixture
def tables(transactional_db: None) -> Iterator[Tables]:
    tables = Tables()
    yield tables
    tables.upgrade()


@pytest.fixture
def upgraded(tables: Tables, now: Any) -> None:
    """An old database with a run of each kind, upgraded.

    Migrating takes seconds: the second time the upgraded rows are laid directly.
    """
    if _upgraded:
        _upgraded[0].restore()
        return
    _fill(tables.migrate(BEFORE), now)
    tables.upgrade()
    _upgraded.append(Baseline())


_upgraded: list[Baseline] = []


def _fill(model: Any, now: Any) -> None:
    root = model("cleanup", "StagingRoot").objects.create(name="lab", host="lab-pc", path="/srv/lab", token="t")

    def run(leaf: str, **fields: Any) -> Any:
        place = {"run_path": f"FLOW_01/PROJ-0060/Runs/{leaf}", "equipment": "FLOW_01", "project": "PROJ-0060"}
        place |= {"run_kind": "experimental", "leaf": leaf, "first_seen_at": now}
        return model("cleanup", "Run").objects.create(root=root, **{**place, **fields})

    run("verified", state="sync_verified", verified_at=now, project_name="Dose response")
    run("incomplete", problem="ingest_missing")
    run("cleared", state="cleared", cleared_at=now)
    run("odd", state="cleared", cleared_at=now, problem="ingest_missing")
    run("gone", gone_at=now, equipment="CONFOCAL_01", project="PROJ-0042")
    for leaf, phase, reason in (("going", "committed", ""), ("left over", "done", "io_error"), ("settled", "done", "")):
        cleared = run(leaf, state="cleared", cleared_at=now)
        attempt = {"host": "lab-pc", "requester": "operator", "actor": "mkhan", "phase": phase, "reason": reason}
        model("cleanup", "ClearAttempt").objects.create(run=cleared, **attempt, created_at=now, phase_at=now)
    User.objects.create_user("mkhan").user_permissions.add(Permission.objects.get(codename="clear_run"))
    User.objects.create_user("guest")


def judged() -> dict[str, tuple[bool, int, bool]]:
    return {run.leaf: (run.here, run.tone, run.judged < run.doubts) for run in Run.objects.all()}


def places() -> list[str]:
    return sorted(str(place.group or place.user) for place in Access.objects.filter(root=None, equipment=""))


def test_an_upgrade_fills_the_new_tables(upgraded: None) -> None:
    gone, to_be_judged = (False, Status.DONE, False), (True, Status.WAIT, True)
    assert judged() == {
        "verified": to_be_judged,
        "incomplete": to_be_judged,
        "cleared": gone,
        "odd": to_be_judged,
        "gone": gone,
        "going": to_be_judged,
        "left over": to_be_judged,
        "settled": gone,
    }
    assert set(Instrument.objects.values_list("equipment", flat=True)) == {"FLOW_01", "CONFOCAL_01"}
    assert dict(Project.objects.values_list("code", "title")) == {"PROJ-0060": "Dose response", "PROJ-0042": ""}
    assert places() == ["mkhan", "operator", "viewer"]
    assert Group.objects.get(name="viewer").permissions.filter(codename="view_clearbatch").exists()


@pytest.mark.exhaustive
def test_back_to_the_columns_and_up_again(upgraded: None, tables: Tables) -> None:
    Run.objects.filter(leaf="verified").update(tone=Status.GO, judged=1)
    Run.objects.filter(leaf="cleared").update(doubts=3, judged=3)
    Instrument.objects.filter(equipment="FLOW_01").update(public=True)
    Project.objects.filter(code="PROJ-0060").update(title="Dose and response")
    Access.objects.filter(group__name="viewer").delete()
    Access.objects.filter(user__username="mkhan").update(equipment="FLOW_01")
    rows = judged()
    tokens = set(Instrument.objects.values_list("equipment", "token", "public"))
    tables.migrate(COLUMNS)
    tables.upgrade()
    assert judged() == rows
    assert set(Instrument.objects.values_list("equipment", "token", "public")) == tokens
    assert Project.objects.get(code="PROJ-0060").title == "Dose and response"
    assert places() == ["operator"]
    assert Access.objects.get(user__username="mkhan").equipment == "FLOW_01"
    assert Access.objects.count() == 2


@pytest.mark.exhaustive
def test_all_the_way_back_and_up_again(upgraded: None, tables: Tables) -> None:
    rows, runs, attempts = judged(), Run.objects.count(), ClearAttempt.objects.count()
    Access.objects.filter(group__name="viewer").delete()
    model = tables.migrate(BEFORE)
    assert model("cleanup", "Run").objects.count() == runs
    tables.upgrade()
    assert judged() == rows
    assert ClearAttempt.objects.count() == attempts
    assert Instrument.objects.count() == Project.objects.count() == 2
    assert places() == ["mkhan", "operator", "viewer"]


def test_a_lab_of_the_version_before_goes_on_without_a_command(tables: Tables, lab: Lab, root: Any, now: Any) -> None:
    """Its run is proven and cleared, and the missing marker is made. Takes some seconds."""
    lab.run()
    discovery.discover(root, now=now)
    (marker,) = lab.staging.glob(".exlab-staging-*")
    marker.unlink()
    tables.migrate("0008_indexes")
    tables.upgrade()
    (run,) = Run.objects.with_root()
    assert (run.root.nas_layout, run.twin_key, run.record_format) == ("run-path", "", "ingest")
    files, size = census(lab.staging / RUN_PATH)
    assert clear_run(run, now=now) == (files, size)
    assert marker.exists()
    discovery.discover(run.root, now=now)
    assert Run.objects.get().twin_key


def test_cleared_runs_learn_from_the_ledger_who_had_them_cleared(tables: Tables, now: Any) -> None:
    """Takes some seconds: two migrations."""
    model = tables.migrate("0023_audit")
    root = model("cleanup", "StagingRoot").objects.create(name="lab", host="lab-pc", path="/srv/lab", token="t")
    place = {"equipment": "FLOW_01", "project": "PROJ-0060", "run_kind": "experimental"}
    by = {"requester": "operator", "host": "lab-pc"}
    for number, actor in enumerate(("mkhan", "", "jlee"), 1):
        path = f"FLOW_01/PROJ-0060/Runs/{number}"
        state = {"state": "cleared", "cleared_at": now} if actor != "jlee" else {"state": "sync_verified"}
        run = model("cleanup", "Run").objects.create(
            root=root, run_path=path, leaf=f"{number}", first_seen_at=now, **place, **state
        )
        attempt = model("cleanup", "ClearAttempt").objects.create(
            run=run, phase="done", actor=actor, created_at=now, phase_at=now, **by
        )
        with transaction.atomic():
            model("cleanup", "LedgerLink").objects.create(
                position=number, entry_id=number, content_sha256="0" * 64, sha256="0" * 64
            )
            told = {"id": number, "at": now, "kind": "authorised", "policy_version": 0, "root_name": "lab"}
            model("cleanup", "LedgerEntry").objects.create(
                run=run, attempt=attempt, actor=actor, run_path=path, **told, **place, **by
            )
    tables.upgrade()
    assert list(Run.objects.order_by("pk").values_list("cleared_for", flat=True)) == ["mkhan", "", ""]
