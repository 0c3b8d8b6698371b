"""“Verify again here” and “Accept these bytes” on a run's page."""

import os
from datetime import timedelta

import pytest
from django.utils import timezone

from cleanup import tasks
from cleanup.clears import protocol
from cleanup.clears.queue import ClearRequest
from cleanup.lab.roots.registration import register
from cleanup.models import AcceptedBytes, ByteCheck, ClearAttempt, LedgerEntry, Requester, Run
from cleanup.runs import discovery
from tests.faults import means
from tests.tools.lab import METADATA
from tests.tools.pages import SAFE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_engine]
TILE = "tiles/t_0001.tif"


@pytest.fixture
def damaged(lab, now, enter):
    """A run whose copy on a separate disk has the same wrong bytes in one file."""
    enter(means.mounted("-t", "tmpfs", "-o", "size=16m", "tmpfs", lab.nas))
    path = lab.run(SAFE)
    for side in (path, lab.twin(SAFE)):
        times = (side / TILE).stat().st_mtime_ns
        (side / TILE).write_bytes(b"x" * 4096)
        os.utime(side / TILE, ns=(times, times))
    root = register("lab", str(lab.staging), nas_path=str(lab.nas), now=now)
    discovery.discover(root, now=now)
    run = Run.objects.with_root().get()
    attempt = protocol.attempt_now(run, ClearRequest(requester=Requester.OPERATOR, actor="operator"), now=now)
    assert attempt.reason == "nas_checksum_mismatch"
    return run


def text(answer):
    return answer.content.decode()


def verify(client, run):
    told = client.post(f"/runs/{run.pk}/verify-again/", {"seen": ""}, follow=True)
    assert "Every byte of both sides is compared now" in text(told)
    assert "waits for a worker" in text(told) and f'hx-get="/runs/{run.pk}/verified/"' in text(told)
    check = ByteCheck.objects.first()
    tasks.verify_again(str(check.pk))
    check.refresh_from_db()
    return check


def test_an_operator_verifies_an_admin_accepts_an_operator_clears(people, damaged, now):
    """Takes 2 s: a real clear on two disks and three full comparisons."""
    page, address = f"/runs/{damaged.pk}/", f"/runs/{damaged.pk}/accept-bytes/"
    assert "Verify again here…" in text(people.operator.get(page))
    assert "Verify again here…" not in text(people.viewer.get(page))
    check = verify(people.operator, damaged)
    shown = text(people.operator.get(page))
    assert "They are not as the wizard's manifest says" in shown
    assert TILE in shown and "an admin may accept it as it is" in shown and address not in shown
    denied = people.operator.post(address, {"seen": str(check.pk), "note": "I am sure"})
    assert denied.status_code == 403 and "an admin&#x27;s right (accept_bytes)" in text(denied)
    assert address in text(people.admin.get(page))
    assert "Only you can know" in text(people.admin.get(address))
    assert people.admin.post(address, {"seen": str(check.pk), "note": ""}).status_code == 422
    told = people.admin.post(address, {"seen": str(check.pk), "note": "the camera wrote it so"}, follow=True)
    assert "These bytes are accepted" in text(told)
    again = people.admin.post(address, {"seen": str(check.pk), "note": "the camera wrote it so"}, follow=True)
    assert "not needed any more" in text(again) and AcceptedBytes.objects.count() == 1
    assert "Safe to clear" in text(people.operator.get(page)) and 'id="accepted"' in text(people.operator.get(page))
    asked = text(people.operator.get(f"{page}clear/"))
    assert "compared with those that admin has accepted" in asked and "(accepted)" in asked
    assert "verified checksums" not in asked
    attempt = protocol.attempt_now(damaged, ClearRequest(requester=Requester.OPERATOR, actor="operator"), now=now)
    assert attempt.phase == "done"
    receipt = text(people.viewer.get(f"/runs/{damaged.pk}/receipt/"))
    assert "accepted: every byte was read again on both sides" in receipt and "the camera wrote it so" in receipt
    assert "Proven by <strong>accepted</strong>" in text(people.viewer.get(page))
    assert set(LedgerEntry.objects.filter(attempt=attempt).values_list("proof_level", flat=True)) == {"accepted"}


def test_a_damaged_copy_stays_and_the_page_says_what_helps(people, damaged, lab):
    (lab.twin(SAFE) / TILE).write_bytes(b"y" * 4096)
    verify(people.operator, damaged)
    shown = text(people.admin.get(f"/runs/{damaged.pk}/"))
    assert "Not the same here and on the NAS: 1 file of 7" in shown and "Find out which side is right" in shown
    assert "accept-bytes" not in shown
    told = people.admin.post(f"/runs/{damaged.pk}/accept-bytes/", {"seen": "", "note": "sure"}, follow=True)
    assert "not needed any more" in text(told) and not AcceptedBytes.objects.exists()
    assert "Verify again here…" in shown


def test_an_old_page_accepts_nothing_else_than_it_showed(people, damaged):
    first = verify(people.operator, damaged)
    later = timezone.now() + timedelta(seconds=1)
    ByteCheck.objects.create(
        run=damaged,
        host=first.host,
        actor="eve",
        phase="done",
        created_at=later,
        phase_at=later,
        outcome="alike",
        files=7,
        digest="1" * 64,
        evidence="1" * 64,
    )
    answer = people.admin.post(
        f"/runs/{damaged.pk}/accept-bytes/", {"seen": str(first.pk), "note": "sure"}, follow=True
    )
    assert "has changed since this page was shown" in text(answer) and not AcceptedBytes.objects.exists()


def test_while_the_nas_cannot_be_read_the_sentence_says_so(people, damaged, lab):
    check = verify(people.operator, damaged)
    lab.twin(SAFE).rename(lab.twin(SAFE).with_name("elsewhere"))
    told = people.admin.post(f"/runs/{damaged.pk}/accept-bytes/", {"seen": str(check.pk), "note": "sure"}, follow=True)
    assert "The NAS does not hold all files of the run." in text(told) and not AcceptedBytes.objects.exists()


def test_an_acceptance_is_withdrawn(people, damaged, now):
    check = verify(people.operator, damaged)
    people.admin.post(f"/runs/{damaged.pk}/accept-bytes/", {"seen": str(check.pk), "note": "sure"})
    standing = AcceptedBytes.objects.standing().get()
    address = f"/runs/{damaged.pk}/withdraw-acceptance/"
    assert people.operator.post(address, {"seen": str(standing.pk), "note": "no"}).status_code == 403
    told = people.admin.post(address, {"seen": str(standing.pk), "note": "I was wrong"}, follow=True)
    assert "The acceptance is withdrawn." in text(told)
    assert (
        list(LedgerEntry.objects.filter(kind="accepted").order_by("pk").values_list("actor", flat=True))
        == ["admin"] * 2
    )
    attempt = protocol.attempt_now(damaged, ClearRequest(requester=Requester.OPERATOR, actor="operator"), now=now)
    assert (attempt.phase, ClearAttempt.objects.filter(phase="done").count()) == ("refused", 0)


@pytest.mark.exhaustive
def test_an_acceptance_is_withdrawn_amid_a_clear(people, damaged, now, monkeypatch):
    """An admin who sees the mistake during a long comparison need not wait for the clear."""
    check = verify(people.operator, damaged)
    people.admin.post(f"/runs/{damaged.pk}/accept-bytes/", {"seen": str(check.pk), "note": "sure"})
    standing = AcceptedBytes.objects.standing().get()
    address, said = f"/runs/{damaged.pk}/withdraw-acceptance/", []

    def withdraw():
        assert address in text(people.admin.get(f"/runs/{damaged.pk}/"))
        said.append(text(people.admin.post(address, {"seen": str(standing.pk), "note": "I was wrong"}, follow=True)))

    with means.before(monkeypatch, protocol, "_commit", withdraw):
        attempt = protocol.attempt_now(damaged, ClearRequest(requester=Requester.OPERATOR, actor="operator"), now=now)
    assert "The acceptance is withdrawn." in said[0]
    assert (attempt.phase, attempt.reason) == ("refused", "acceptance_void")


def test_the_progress_is_a_fragment_of_its_own(people, damaged):
    """Its address alone leads to the page; when it is over the whole page is renewed."""
    address = f"/runs/{damaged.pk}/verified/"
    people.operator.post(f"/runs/{damaged.pk}/verify-again/", {"seen": ""})
    ByteCheck.objects.update(phase="running", planned_bytes=400, compared_bytes=100)
    part = people.viewer.get(address, headers={"hx-request": "true"})
    assert 'value="25"' in text(part) and "<html" not in text(part)
    assert people.viewer.get(address).headers["location"] == f"/runs/{damaged.pk}/"
    twice = people.operator.post(f"/runs/{damaged.pk}/verify-again/", {"seen": ""}, follow=True)
    assert "not needed any more" in text(twice) and ByteCheck.objects.count() == 1
    ByteCheck.objects.update(phase="done", outcome="as_manifest")
    assert people.viewer.get(address, headers={"hx-request": "true"}).headers["hx-refresh"] == "true"


def test_on_one_disk_nothing_is_offered_to_accept(people, runs, lab, root, now):
    (lab.staging / SAFE / METADATA / "checksums.sha256").unlink()
    discovery.discover(root, now=now)
    run = runs[SAFE]
    check = verify(people.operator, run)
    assert (check.outcome, check.manifest) == ("alike", "manifest_missing")
    shown = text(people.admin.get(f"/runs/{run.pk}/"))
    assert "That is no second copy, so bytes cannot be accepted." in shown and "accept-bytes" not in shown
