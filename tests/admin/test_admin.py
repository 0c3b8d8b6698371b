"""Records of the past are read-only in the admin, and the ledger adds up."""

import re
import uuid

import pytest
from django.contrib import admin
from django.urls import reverse
from django_q.models import Failure, OrmQ, Schedule
from django_q.tasks import async_task

from cleanup.clears import protocol
from cleanup.ledger import book
from cleanup.models import ClearAttempt, LedgerEntry, LedgerKind, StagingRoot
from cleanup.runs import discovery
from cleanup.templatetags.tables import PAGES
from tests.tools.checkout import CHECKOUT
from tests.tools.lab import census
from tests.tools.pages import EXTRA, SAFE, TEST_RUN

pytestmark = pytest.mark.one_engine


READ_ONLY = ["run", "ingestevent", "retentionpolicy", "clearattempt", "proof", "ledgerentry", "heartbeat"]
READ_ONLY += ["rootnote", "hostclock", "likeness", "announcement"]


@pytest.fixture
def ledger(runs, now):
    for path, actor, sizes in (
        (SAFE, "mkhan", [("partial", 10, 1_000, 2_048), ("completed", 2, 500, 512)]),
        (TEST_RUN, "jlee", [("completed", 5, 70_000, 71_680)]),
        (EXTRA, "jlee", [("refused", 0, 0, 0)]),
    ):
        run = runs[path]
        attempt = ClearAttempt.objects.create(
            pk=uuid.uuid4(),
            run=run,
            phase="done",
            host="h",
            requester="operator",
            actor=actor,
            created_at=now,
            phase_at=now,
        )
        for kind, files, size, allocated in [("authorised", 99, 99, 0), *sizes]:
            book.write(
                LedgerEntry(
                    at=now,
                    kind=kind,
                    run=run,
                    attempt=attempt,
                    root_name=run.root.name,
                    run_path=run.run_path,
                    equipment=run.equipment,
                    project=run.project,
                    run_kind=run.run_kind,
                    requester="operator",
                    actor=actor,
                    host="h",
                    policy_version=0,
                    files=files,
                    bytes=size,
                    allocated_bytes=allocated,
                )
            )


@pytest.mark.parametrize("model", READ_ONLY)
def test_every_table_can_be_looked_at(people, runs, ledger, model):
    assert people.admin.get(reverse(f"admin:cleanup_{model}_changelist")).status_code == 200


@pytest.mark.parametrize("model", READ_ONLY)
def test_nothing_is_added_by_hand(people, runs, model):
    address = reverse(f"admin:cleanup_{model}_add")
    assert people.admin.get(address).status_code == 403
    assert people.admin.post(address, {}).status_code == 403


@pytest.mark.both_engines
def test_the_ledger_is_never_changed_or_removed(people, ledger):
    entry = LedgerEntry.objects.first()
    change = reverse("admin:cleanup_ledgerentry_change", args=[entry.pk])
    delete = reverse("admin:cleanup_ledgerentry_delete", args=[entry.pk])
    assert people.admin.get(change).status_code == 200  # to look at
    assert people.admin.post(change, {"actor": "somebody else", "files": "1"}).status_code == 403
    assert people.admin.get(delete).status_code == 403
    assert people.admin.post(delete, {"post": "yes"}).status_code == 403
    changelist = reverse("admin:cleanup_ledgerentry_changelist")
    people.admin.post(
        changelist, {"action": "delete_selected", "_selected_action": [str(entry.pk)], "post": "yes"}, follow=True
    )
    assert LedgerEntry.objects.filter(pk=entry.pk, actor=entry.actor, files=entry.files).exists()
    assert "delete_selected" not in people.admin.get(changelist).content.decode()


@pytest.mark.both_engines
def test_the_ledger_totals_what_was_freed(people, ledger):
    answer = people.admin.get(reverse("admin:cleanup_ledgerentry_changelist"))
    assert answer.context["totals"] == {"runs": 2, "files": 17, "bytes": 71_500, "allocated_bytes": 74_240}
    text = answer.content.decode()
    assert "71,500 bytes" in text
    assert "74,240 bytes" in text


@pytest.mark.both_engines
@pytest.mark.parametrize(
    ("query", "files"),
    [
        ({"actor": "mkhan"}, 12),
        ({"kind": "refused"}, 0),
        ({"kind": "completed"}, 7),
        ({"equipment": "FLOW_01"}, 0),
        ({"project": "PROJ-0042"}, 17),
        ({"requester": "schedule"}, 0),
        ({"at__year": "2026"}, 17),
        ({"q": "TestRun"}, 5),
    ],
)
def test_the_totals_follow_the_filters(people, ledger, query, files):
    answer = people.admin.get(reverse("admin:cleanup_ledgerentry_changelist"), query)
    assert answer.status_code == 200
    assert answer.context["totals"]["files"] == files


@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
def test_the_totals_are_what_was_counted_on_disk(people, runs, lab, now):
    files, size = census(lab.staging / SAFE)
    protocol.clear_run(runs[SAFE], now=now, actor="mkhan")
    totals = people.admin.get(reverse("admin:cleanup_ledgerentry_changelist")).context["totals"]
    assert (totals["runs"], totals["files"], totals["bytes"]) == (1, files, size)
    assert LedgerEntry.objects.filter(kind=LedgerKind.COMPLETED).count() == 1


def root_form(root, **changes):
    return {"name": root.name, "nas_path": root.nas_path, "allow_same_filesystem": "on", **changes}


def test_a_root_keeps_its_path_and_token(people, root):
    address = reverse("admin:cleanup_stagingroot_change", args=[root.pk])
    answer = people.admin.post(address, root_form(root, name="renamed", path="/elsewhere", token="x", host="other"))
    assert answer.status_code == 302
    changed = StagingRoot.objects.get()
    assert changed.name == "renamed"
    assert (changed.path, changed.token, changed.host) == (root.path, root.token, root.host)


def test_roots_come_by_the_command_alone(people, root):
    assert people.admin.get(reverse("admin:cleanup_stagingroot_add")).status_code == 403
    assert people.admin.get(reverse("admin:cleanup_stagingroot_delete", args=[root.pk])).status_code == 403
    assert "add_staging_root" in people.admin.get(reverse("admin:cleanup_stagingroot_changelist")).content.decode()


@pytest.mark.parametrize("path", ["/", "relative", "/nas/../etc", "//nas", "{staging}", "{staging}/inside", "{above}"])
def test_an_impossible_nas_root_is_refused(people, root, path):
    address = reverse("admin:cleanup_stagingroot_change", args=[root.pk])
    path = path.format(staging=root.path, above=root.path.rpartition("/")[0])
    assert people.admin.post(address, root_form(root, nas_path=path)).status_code == 200
    assert StagingRoot.objects.get().nas_path == root.nas_path


def test_a_proposed_layout_is_chosen(people, runs, root):
    StagingRoot.objects.update(layout_proposal={"layout": "equipment/leaf", "found": 12, "of": 14})
    address = reverse("admin:cleanup_stagingroot_change", args=[root.pk])
    said = "12 of 14 verified runs have a copy under <code>equipment/leaf</code>"
    overview = people.admin.get("/").content.decode()
    assert said in overview
    assert f'href="{address}"' in overview
    assert "An admin can choose the layout of the NAS." in people.operator.get("/").content.decode()
    form = people.admin.get(address).content.decode()
    assert "Under equipment/leaf, 12 of 14 verified runs have a copy." in form
    assert people.admin.post(address, root_form(root, nas_layout="equipment/leaf")).status_code == 302
    assert StagingRoot.objects.get().nas_layout == "equipment/leaf"
    assert said not in people.admin.get("/").content.decode()
    assert people.admin.post(address, root_form(root)).status_code == 302
    assert StagingRoot.objects.get().nas_layout == "equipment/leaf"  # what is left empty stays


@pytest.mark.parametrize("nas_layout", ["{equipment}", "{leaf}/..", "{host}/{leaf}", "copies-of-{project}-{leaf}"])
def test_a_layout_that_gives_runs_one_twin_is_refused(people, root, lab, now, nas_layout):
    for equipment in ("FLOW_01", "FLOW_02"):
        lab.run(f"{equipment}/PROJ-0042/Runs/Run_2026-04-17T14-32")
    discovery.discover(root, now=now)
    address = reverse("admin:cleanup_stagingroot_change", args=[root.pk])
    assert people.admin.post(address, root_form(root, nas_layout=nas_layout)).status_code == 200
    assert StagingRoot.objects.get().nas_layout == "run-path"


def test_the_admin_is_for_staff(people, root):
    assert people.operator.get("/admin/").status_code == 302
    assert "/admin/" not in people.operator.get("/runs/").content.decode()
    assert "/admin/" in people.admin.get("/runs/").content.decode()


@pytest.mark.parametrize("model", ["schedule", "ormq", "success", "failure"])
def test_the_queue_is_shown_and_takes_no_orders(people, model):
    """A schedule made by hand could run any function, `os.system` for one."""
    assert people.admin.get(reverse(f"admin:django_q_{model}_changelist")).status_code == 200
    address = reverse(f"admin:django_q_{model}_add")
    assert people.admin.get(address).status_code == 403
    order = {"name": "x", "func": "os.system", "args": "'true'", "schedule_type": "O", "repeats": "1"}
    when = {"next_run_0": "2026-01-01", "next_run_1": "00:00:00"}
    assert people.admin.post(address, {**order, **when}).status_code == 403
    assert not Schedule.objects.filter(func="os.system").exists()


def test_a_failed_task_is_shown_and_not_submitted_again(people, db, now):
    failed = Failure.objects.create(
        id="f" * 32, name="clear", func="cleanup.tasks.clear", args=("1",), started=now, stopped=now, success=False
    )
    assert people.admin.get(reverse("admin:django_q_failure_change", args=[failed.pk])).status_code == 200
    people.admin.post(
        reverse("admin:django_q_failure_changelist"), {"action": "resubmit_task", "_selected_action": failed.pk}
    )
    async_task("cleanup.tasks.heartbeat")
    (waiting,) = OrmQ.objects.all()
    assert waiting.func() == "cleanup.tasks.heartbeat"
    assert people.admin.get(reverse("admin:django_q_ormq_change", args=[waiting.pk])).status_code == 200
    (schedule, *_rest) = Schedule.objects.all()
    assert people.admin.get(reverse("admin:django_q_schedule_change", args=[schedule.pk])).status_code == 200


def test_the_first_page_tells_what_has_no_page_of_its_own(people):
    text = people.admin.get(reverse("admin:index")).content.decode()
    here, elsewhere = (text.split(f'id="{part}"')[1].split("</section>")[0] for part in ("only-here", "on-pages"))
    assert reverse("admin:cleanup_heartbeat_changelist") in here
    assert reverse("admin:cleanup_hold_changelist") not in here
    for page in set(PAGES.values()):
        assert f'href="{reverse(page)}"' in elsewhere


def test_the_tables_without_a_page_stand_in_the_document():
    section = (CHECKOUT / "docs/admin.md").read_text().partition("## What is only in Django's admin\n")[2]
    rows = re.findall(r"^\| ([A-Z][^|]*) \|", section.partition("\n## ")[0], re.M)
    told = {name.strip().lower() for row in rows for name in row.split(",")}
    without = {
        str(model._meta.verbose_name_plural).lower()
        for model in admin.site._registry
        if model._meta.model_name not in PAGES
    }
    assert told <= without
    assert {"heartbeats", "ledger links", "queued tasks"} <= told


def test_the_admin_wears_the_frame_and_the_times_of_the_pages(people, ledger):
    text = people.admin.get(reverse("admin:cleanup_ledgerentry_changelist")).content.decode()
    assert f'<a class="brand" href="{reverse("overview")}">' in text
    assert 'cleanup/admin.css"' in text
    assert "admin/css/dark_mode.css" not in text
    assert "2026-06-15 08:00" in text
    assert "Times are those of UTC." in text
