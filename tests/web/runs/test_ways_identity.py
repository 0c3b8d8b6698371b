"""“It is the same run”, “It is another run”: the record must agree."""

import json
import shutil

import pytest

from cleanup.models import LedgerEntry, Run
from cleanup.runs import discovery
from tests.tools.lab import METADATA, read_ingest
from tests.tools.pages import SAFE, TEST_RUN

NEW = SAFE.replace("PROJ-0042", "PROJ-0042-cortex")
pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]


def take_for_another(lab, root, now, *, record=None):
    path = lab.staging / SAFE
    shutil.copytree(path, path.with_name("restored"))
    path.rename(lab.base / "away")
    path.with_name("restored").rename(path)
    if record is not None:
        (path / METADATA / "ingest.json").write_text(json.dumps(record))
    discovery.discover(root, now=now)
    return Run.objects.get(run_path=SAFE, gone_at=None)


def text(answer):
    return answer.content.decode()


def test_a_restored_run_is_the_same_run_at_a_click(people, runs, lab, root, now):
    run = take_for_another(lab, root, now)
    page, address = f"/runs/{run.pk}/", f"/runs/{run.pk}/same-run/"
    assert "identity_mismatch" in text(people.admin.get(page)) and address in text(people.admin.get(page))
    assert address not in text(people.operator.get(page))
    assert people.operator.get(address).status_code == people.operator.post(address).status_code == 403
    assert "must continue the history" in text(people.admin.get(address))
    assert people.admin.post(address, {"seen": run.identity, "note": " "}).status_code == 422
    told = people.admin.post(address, {"seen": run.identity, "note": "restored from tape"}, follow=True)
    assert "taken for the same run" in text(told) and "Safe to clear" in text(told)
    entry = LedgerEntry.objects.get()
    assert (entry.kind, entry.actor, entry.run) == ("reregistered", "admin", run)
    assert "restored from tape" in entry.detail
    again = people.admin.post(address, {"seen": run.identity, "note": "once more"}, follow=True)
    assert "not needed any more" in text(again) and LedgerEntry.objects.count() == 1


def test_with_a_record_of_its_own_it_is_not(people, runs, lab, root, now):
    """The refusal says why; "another run" is another button."""
    other = read_ingest(lab.staging / SAFE)
    other["history"][0]["host"] = "elsewhere"
    run = take_for_another(lab, root, now, record=other)
    told = people.admin.post(f"/runs/{run.pk}/same-run/", {"seen": run.identity, "note": "sure"}, follow=True)
    assert "its history begins otherwise" in text(told) and not LedgerEntry.objects.exists()
    told = people.admin.post(f"/runs/{run.pk}/another-run/", {"seen": run.identity, "note": "new"}, follow=True)
    assert "declared gone" in text(told)
    run.refresh_from_db()
    assert run.gone_at is not None and LedgerEntry.objects.get().reason == "identity_mismatch"
    assert Run.objects.staged().get(run_path=SAFE).state == "sync_verified"


def test_the_same_run_is_never_called_another(people, runs, lab, root, now):
    run = take_for_another(lab, root, now)
    told = people.admin.post(f"/runs/{run.pk}/another-run/", {"seen": run.identity, "note": "sure"}, follow=True)
    assert "so it is this run" in text(told) and not LedgerEntry.objects.exists()
    run.refresh_from_db()
    assert run.gone_at is None


def test_a_renamed_project_is_the_same_run_at_a_click(people, runs, lab, root, now):
    for side in (lab.staging, lab.nas):
        (side / "CONFOCAL_01/PROJ-0042").rename(side / "CONFOCAL_01/PROJ-0042-cortex")
    discovery.discover(root, now=now)
    found, known = Run.objects.get(run_path=NEW), runs[SAFE]
    address = f"/runs/{found.pk}/same-run/"
    assert address in text(people.admin.get(f"/runs/{found.pk}/"))
    assert f"Its record names <code>{SAFE}</code>" in text(people.admin.get(address))
    told = people.admin.post(address, {"seen": found.identity, "note": "a new code"}, follow=True)
    assert f"the run that was at {SAFE}" in text(told)
    assert told.redirect_chain[-1][0] == f"/runs/{known.pk}/"  # the page of the run that has the path now
    known.refresh_from_db()
    assert (known.run_path, known.record_path, known.problem) == (NEW, SAFE, "")
    assert "Safe to clear" in text(people.admin.get(f"/runs/{known.pk}/"))
    assert Run.objects.get(run_path=TEST_RUN).problem == "missing_directory"  # each run for itself
