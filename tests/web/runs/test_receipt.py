import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from cleanup.clears import protocol
from cleanup.ledger import book
from cleanup.models import Access, ClearAttempt, ClearBatch, LedgerEntry, Phase, Proof, Run, StagingRoot
from cleanup.rules.reasons import Reason
from tests.tools.pages import QUEUED, SAFE
from tests.tools.rows import clear_rows, run_row

pytestmark = pytest.mark.one_engine


NASTY = "bidi \u202e control \x07 <script>alert(1)</script> " + "w" * 200


def words(text):
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def receipt(client, run):
    response = client.get(f"/runs/{run.pk}/receipt/")
    assert response.status_code == 200
    return response.content.decode()


@pytest.fixture
def row(db: None, now: Any) -> Run:
    root = StagingRoot.objects.create(name="lab", host="labpc-04", path="/data/staging", nas_path="/mnt/nas")
    run = run_row(
        root,
        SAFE,
        first_seen_at=now - timedelta(days=10),
        identity="1:-:-",
        project_name="Cortex Q3 Pilot",
        state="cleared",
        verified_at=now - timedelta(days=9),
        cleared_at=now - timedelta(hours=1),
    )
    proof = Proof.objects.create(
        run=run,
        level="checksum",
        at=now - timedelta(hours=2),
        host="labpc-04",
        files=5,
        bytes=9_000,
        manifest_sha256="a" * 64,
    )
    clear_rows(
        run,
        now - timedelta(hours=1),
        files=7,
        size=9_500,
        requester="schedule",
        cause="retention+max_bytes",
        policy_version=7,
        proof=proof,
        created_at=now - timedelta(hours=2),
        phase_at=now - timedelta(minutes=50),
        plan_sha256="b" * 64,
        freed_allocated_bytes=16_384,
    )
    return run


@pytest.mark.django_db(transaction=True)
def test_a_real_clear_is_told_from_end_to_end(people, runs, lab, now):
    run = runs[SAFE]
    assert people.viewer.get(f"/runs/{run.pk}/receipt/").status_code == 404
    protocol.clear_run(run, now=now, actor="mkhan", note="disk is full")
    attempt = ClearAttempt.objects.select_related("proof").get(run=run)
    text = words(receipt(people.viewer, run))
    for part in (
        SAFE,
        "Instrument CONFOCAL_01",
        "Project PROJ-0042 · Cortex Q3 Pilot",
        "Kind experimental",
        str(lab.staging),
        "Verified 2026-04-17 16:15:43 UTC",
        "By mkhan, by hand",
        "Reason given disk is full",
        "Cleared 2026-06-15 08:00:00 UTC",
        f"Freed {attempt.freed_files} files",
        f"({attempt.freed_bytes:,} bytes, logical)",
        f"({attempt.freed_allocated_bytes:,} bytes, allocated)",
        "Left nothing",
        "checksum: every byte was read again on both sides",
        attempt.plan_sha256,
        attempt.proof.manifest_sha256,
        f"The data is now at {lab.nas}/{SAFE}",
        "Printed 2026-06-15 08:00:00 UTC for viewer",
        str(attempt.pk),
        *(f"no. {entry.pk} ({entry.get_kind_display()})" for entry in LedgerEntry.objects.filter(run=run)),
    ):
        assert part in text, part
    assert f'href="/runs/{run.pk}/receipt/"' in people.viewer.get(f"/runs/{run.pk}/").content.decode()


def test_what_the_schedule_cleared_names_policy_and_cause(people, row):
    text = words(receipt(people.viewer, row))
    assert "By the schedule" in text
    assert "version 7" in text
    assert "The staging root held more bytes than it may. retention+max_bytes" in text
    assert "after the NAS was found to hold the data" in text


def test_a_partial_clear_says_what_was_left(people, row):
    left = {
        "freed_files": 5,
        "freed_bytes": 8_000,
        "reason": Reason.REMOVAL_INCOMPLETE,
        "detail": "2 of 7 files left (a: EACCES)",
    }
    ClearAttempt.objects.filter(run=row).update(**left)
    text = words(receipt(people.viewer, row))
    assert (
        "Removal incomplete: 2 files, 1.50 kB (1,500 bytes, logical) were left. 2 of 7 files left (a: EACCES)" in text
    )
    assert "Left 2 files, 1.50 kB" in text
    assert "was found to hold the data" not in text


def test_on_the_wizards_word_alone_nothing_else_is_claimed(people, row):
    proof = Proof.objects.create(run=row, level="record", at=row.cleared_at, host="labpc-04", files=5, bytes=9_000)
    ClearAttempt.objects.filter(run=row).update(proof=proof)
    text = words(receipt(people.viewer, row))
    assert "the NAS was not asked" in text
    assert "was found to hold the data" not in text
    assert f"The data should be at /mnt/nas/{SAFE} (not looked at)" in text
    run_page = words(people.viewer.get(f"/runs/{row.pk}/").content.decode())
    assert "Where the data should be" in run_page
    assert "The NAS was not looked at" in run_page
    ClearAttempt.objects.filter(run=row).update(proof=None)
    text = words(receipt(people.viewer, row))
    assert "no proof is kept with this clear" in text
    assert "The data is now at" not in text
    assert "was found to hold the data" not in text


def test_a_clear_of_a_batch_leads_to_it(people, row, now):
    batch = ClearBatch.objects.create(actor="mkhan", digest="0" * 64, created_at=now - timedelta(hours=2))
    ClearAttempt.objects.filter(run=row).update(batch=batch, requester="operator", actor="mkhan")
    assert f'href="/batches/{batch.pk}/"' in receipt(people.viewer, row)


@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.COMMITTED, Phase.REFUSED, Phase.ABORTED, Phase.CONFLICT])
def test_there_is_none_before_the_end_of_a_clear(people, row, phase):
    ClearAttempt.objects.filter(run=row).update(phase=phase)
    assert people.viewer.get(f"/runs/{row.pk}/receipt/").status_code == 404


def test_all_who_see_the_run_see_its_receipt(people, row):
    address = f"/runs/{row.pk}/receipt/"
    assert people.nobody.get(address).status_code == 302
    assert people.stranger.get(address).status_code == 403
    assert people.viewer.get("/runs/99999/receipt/").status_code == 404
    assert people.viewer.post(address).status_code == 405
    user = User.objects.create_user("somebody")
    user.user_permissions.add(Permission.objects.get(codename="view_run"))
    Access.objects.create(user=user, equipment="FLOW_01")
    client = Client()
    client.force_login(user)
    assert client.get(address).status_code == 404
    Access.objects.create(user=user, equipment="CONFOCAL_01")
    client.force_login(user)
    assert client.get(address).status_code == 200


def test_another_programs_clear_has_no_receipt(people, runs):
    Run.objects.filter(pk=runs[QUEUED].pk).update(state="cleared")
    assert people.viewer.get(f"/runs/{runs[QUEUED].pk}/receipt/").status_code == 404
    assert "receipt" not in people.viewer.get(f"/runs/{runs[QUEUED].pk}/").content.decode()


def test_names_and_words_of_others_are_made_visible(people, row):
    Run.objects.filter(pk=row.pk).update(project_name=NASTY)
    ClearAttempt.objects.filter(run=row).update(
        actor=NASTY[:150], requester="operator", note=NASTY, detail=NASTY, cause=NASTY[:60], reason="removal_incomplete"
    )
    text = receipt(people.viewer, row)
    assert "\u202e" not in text
    assert "\x07" not in text
    assert "<script>alert" not in text
    assert "bidi \\u202e control \\x07 &lt;script&gt;" in text


def test_many_entries_cost_no_more(people, row, django_assert_max_num_queries):
    attempt = ClearAttempt.objects.get(run=row)
    book.write(
        *(
            LedgerEntry(run=row, attempt=attempt, kind="partial", at=row.cleared_at, policy_version=7)
            for _ in range(200)
        )
    )
    with django_assert_max_num_queries(22):
        text = receipt(people.viewer, row)
    assert "and 151 more" in text
    assert len(text) < 50_000


def test_the_flags_in_force_are_named(people, row):
    assert "Flags in force" not in words(receipt(people.viewer, row))
    ClearAttempt.objects.filter(run=row).update(nas_flags="allow_union_nas, nas_writes_through")
    text = words(receipt(people.viewer, row))
    assert "Flags in force The NAS may be a union of several directories (--allow-union-nas)." in text
    assert "(--nas-writes-through)" in text
    assert "(--allow-same-filesystem)" not in text
