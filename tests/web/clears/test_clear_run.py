import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django_q.models import OrmQ

from cleanup.clears import protocol, queue
from cleanup.models import ClearAttempt, Phase, Run, StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from tests.tools.lab import snapshot
from tests.tools.pages import BROKEN, EXTRA, SAFE, TOUCHED

pytestmark = pytest.mark.one_engine


HTMX = {"HX-Request": "true"}


def address(run):
    return f"/runs/{run.pk}/clear/"


def digest_of(text):
    found = re.search(r'name="digest" value="([0-9a-f]{64})"', text)
    return found[1] if found else ""


def ask(client, run, *, htmx=False, follow=False, **more):
    digest = digest_of(client.get(address(run)).content.decode())
    headers = HTMX if htmx else {}
    return client.post(address(run), {"digest": digest, **more}, headers=headers, follow=follow)


def text_of(response, status=200):
    assert response.status_code == status
    return response.content.decode()


def test_only_operators_are_asked(people, runs):
    run = runs[SAFE]
    assert people.nobody.get(address(run)).status_code == 302
    assert people.nobody.post(address(run)).status_code == 302
    for client in (people.viewer, people.stranger):
        assert client.get(address(run)).status_code == 403
        assert client.post(address(run)).status_code == 403
    assert not ClearAttempt.objects.exists()


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_other_methods_are_refused(people, runs, method):
    assert getattr(people.operator, method)(address(runs[SAFE])).status_code == 405


def test_without_its_token_a_post_does_nothing(people, runs):
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get(username="operator"))
    answer = client.post(address(runs[SAFE]))
    assert "This page was too old" in text_of(answer, 403)
    assert not ClearAttempt.objects.exists()


@pytest.mark.parametrize("number", ["999999", str(2**63), "9" * 40])
def test_an_unknown_run_is_not_found(people, db, number):
    assert people.operator.get(f"/runs/{number}/clear/").status_code == 404
    assert people.operator.post(f"/runs/{number}/clear/").status_code == 404
    assert people.operator.get(f"/runs/{number}/").status_code == 404
    assert people.operator.get(f"/runs/{number}/row/").status_code == 404


def test_the_question_names_run_files_bytes_twin_and_proof(people, runs, lab):
    Run.objects.filter(pk=runs[SAFE].pk).update(files=142, bytes=3_100_000_000)
    text = text_of(people.operator.get(address(runs[SAFE])))
    for words in (SAFE, "142 files", "3.10 GB", "3,100,000,000 bytes", f"{lab.nas}/{SAFE}", "(checksum)"):
        assert words in text
    assert "<html" in text
    assert not ClearAttempt.objects.exists()


def test_the_question_names_the_flags_in_force(people, runs):
    assert "--allow-union-nas" not in text_of(people.operator.get(address(runs[SAFE])))
    StagingRoot.objects.update(allow_union_nas=True)
    assert "union of several directories (--allow-union-nas)" in text_of(people.operator.get(address(runs[SAFE])))
    assert "--nas-writes-through" not in text_of(people.operator.get(address(runs[SAFE])))
    StagingRoot.objects.update(nas_writes_through=True)
    assert "(--nas-writes-through)" in text_of(people.operator.get(address(runs[SAFE])))
    several = people.operator.get(f"/clear/?root={StagingRoot.objects.get().name}")
    assert "(--nas-writes-through)" in text_of(several)
    assert "(--nas-writes-through)" in text_of(people.operator.get(f"/runs/{runs[SAFE].pk}/"))
    assert "(--nas-writes-through)" in text_of(people.operator.get("/"))


def test_the_question_in_a_dialog_for_htmx(people, runs):
    text = text_of(people.operator.get(address(runs[SAFE]), headers=HTMX))
    assert text.lstrip().startswith("<dialog")


@pytest.mark.parametrize(("level", "words"), [("record", "the NAS is not asked"), ("size", "bytes are not read")])
def test_the_question_tells_the_truth_about_weaker_proof(people, runs, policy, level, words):
    policy(proof=level)
    assert words in text_of(people.operator.get(address(runs[SAFE])))


def test_the_question_about_a_blocked_run_has_no_button(people, runs):
    text = text_of(people.operator.get(address(runs[EXTRA])))
    assert "may not be cleared now" in text
    assert Reason.NOT_IN_MANIFEST.sentence in text
    assert 'name="note"' not in text


def test_a_request_is_an_attempt_with_its_task(people, runs, lab):
    before = snapshot(lab.staging)
    answer = ask(people.operator, runs[SAFE], note="disk is full")
    assert (answer.status_code, answer.url) == (302, f"/runs/{runs[SAFE].pk}/")
    attempt = ClearAttempt.objects.get()
    assert (attempt.phase, attempt.actor, attempt.note) == (Phase.QUEUED, "operator", "disk is full")
    assert [queued.task_id() for queued in OrmQ.objects.all()] == [attempt.task_id]
    assert snapshot(lab.staging) == before
    assert "Waiting in the queue" in text_of(people.operator.get(answer.url))


def test_with_htmx_the_row_comes_back_alive(people, runs):
    text = text_of(ask(people.operator, runs[SAFE], htmx=True))
    assert f'id="run-{runs[SAFE].pk}"' in text
    assert f'hx-get="/runs/{runs[SAFE].pk}/row/"' in text
    assert "every 1s" in text
    assert "Clear&nbsp;now" not in text


def test_twice_is_one_attempt(people, runs):
    digest = digest_of(text_of(people.admin.get(address(runs[SAFE]))))
    ask(people.operator, runs[SAFE])
    again = people.admin.post(address(runs[SAFE]), {"digest": digest}, follow=True)
    assert "is being cleared already" in text_of(again)
    row = text_of(people.admin.post(address(runs[SAFE]), {"digest": digest}, headers=HTMX))
    assert "Asked for by operator." in row
    assert ClearAttempt.objects.count() == 1
    assert OrmQ.objects.count() == 1


@pytest.mark.parametrize("path", [EXTRA, BROKEN])
def test_a_blocked_run_is_refused_with_its_reason(people, runs, path):
    text = text_of(people.operator.post(address(runs[path]), headers=HTMX))
    assert "Blocked" in text
    assert "every 1s" not in text
    plain = people.operator.post(address(runs[path]), follow=True)
    assert "Not cleared" in text_of(plain)
    assert not ClearAttempt.objects.exists()


def test_a_wrong_note_does_nothing(people, runs):
    answer = ask(people.operator, runs[SAFE], note="x" * 501)
    assert "at most 500 characters" in text_of(answer, 422)
    assert not ClearAttempt.objects.exists()


def test_a_touched_run_may_be_asked_for_only_where_bytes_are_read(people, runs, policy):
    assert "Compare every byte and clear" in text_of(people.operator.get(address(runs[TOUCHED])))
    policy(proof="size")
    assert "may not be cleared now" in text_of(people.operator.get(address(runs[TOUCHED])))
    ask(people.operator, runs[TOUCHED])
    assert not ClearAttempt.objects.exists()


@pytest.mark.django_db(transaction=True)
class TestOutcomes:
    """What the row says after the task; these tests commit, because a clear does."""

    def ask_and_perform(self, client, run, now):
        text_of(ask(client, run, htmx=True))
        protocol.perform(ClearAttempt.objects.get(phase=Phase.QUEUED), now=now)
        return text_of(client.get(f"/runs/{run.pk}/row/", headers=HTMX))

    def test_cleared_with_what_was_freed(self, people, runs, lab, now):
        row = self.ask_and_perform(people.operator, runs[SAFE], now)
        attempt = ClearAttempt.objects.get()
        assert f"Cleared, {attempt.freed_files} files" in row
        assert attempt.freed_files > 0
        assert "every 1s" not in row
        assert not (lab.staging / SAFE).exists()

    def test_touched_but_equal(self, people, runs, lab, now):
        assert "Cleared, " in self.ask_and_perform(people.operator, runs[TOUCHED], now)
        assert not (lab.staging / TOUCHED).exists()

    def test_refused_with_the_reason(self, people, runs, lab, now):
        twin = lab.twin(SAFE) / "stack.ome.xml"
        twin.write_bytes(twin.read_bytes()[::-1])
        row = self.ask_and_perform(people.operator, runs[SAFE], now)
        assert "Refused" in row
        assert Reason.NAS_CHECKSUM_MISMATCH.sentence in row
        assert "every 1s" not in row
        assert (lab.staging / SAFE).exists()

    def test_a_later_look_at_names_does_not_take_back_what_bytes_told(self, people, root, runs, lab, now):
        twin = lab.twin(SAFE) / "stack.ome.xml"
        twin.write_bytes(twin.read_bytes()[::-1])
        self.ask_and_perform(people.operator, runs[SAFE], now)
        Run.objects.update(looked_at=now + timedelta(minutes=5))
        row = text_of(people.operator.get(f"/runs/{runs[SAFE].pk}/row/"))
        assert "Refused" in row
        assert "Safe to clear" not in row

    def test_after_a_passing_trouble_a_newer_look_decides(self, people, root, runs, lab, now):
        away = lab.nas.rename(lab.nas.with_name("away"))
        row = self.ask_and_perform(people.operator, runs[SAFE], now)
        assert "Refused" in row
        away.rename(lab.nas)
        discovery.discover(root, now=now + timedelta(minutes=5))
        Run.objects.update(looked_at=now + timedelta(minutes=5))
        row = text_of(people.operator.get(f"/runs/{runs[SAFE].pk}/row/"))
        assert "Safe to clear" in row
        assert "Last try" in row


def test_incomplete_removal_says_so(people, runs, now):
    attempt = queue.request_clear(runs[SAFE], actor="mkhan", now=now)
    attempt.advance(
        [Phase.QUEUED],
        Phase.DONE,
        now=now,
        reason=Reason.REMOVAL_INCOMPLETE,
        detail="3 of 142 files left (a.tif: EPERM)",
        freed_files=139,
        freed_bytes=3_000_000_000,
    )
    Run.objects.filter(pk=runs[SAFE].pk).update(state="cleared", cleared_at=now)
    row = text_of(people.operator.get(f"/runs/{runs[SAFE].pk}/row/"))
    assert "Cleared, removal incomplete" in row
    assert "3 of 142 files left (a.tif: EPERM)" in row
    assert "139 files, 3.00 GB freed" in row


def test_nothing_in_a_request_names_a_path(people, runs, lab, tmp_path):
    """Only the number in the address counts."""
    other = tmp_path / "other"
    other.mkdir()
    ask(people.operator, runs[SAFE], run_path=str(other), path="/", nas_path=str(other), runs=str(runs[TOUCHED].pk))
    assert ClearAttempt.objects.get().run_id == runs[SAFE].pk
    assert other.exists()
