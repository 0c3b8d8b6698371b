"""Holds, hold files, reminders, and their cost."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core import mail

from cleanup.clears import last_checks, preparation, protocol
from cleanup.clears.queue import ClearRequest
from cleanup.clears.refusal import Refused
from cleanup.lab.roots import opening
from cleanup.models import AccountName, ClearAttempt, Hold, HoldSource, HostClock, LedgerEntry, Phase, Requester, Run
from cleanup.rules.decisions import Gate, Verdict
from cleanup.rules.policies.policy import Policy
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.facts import inspection, stored_facts
from cleanup.runs.holds import holds, in_force, reminders
from cleanup.runs.holds.holds import HoldRefused
from cleanup.storage.staging.hold_file import HoldFile
from cleanup.sweeps import all_roots
from tests.tools.lab import RUN_PATH, Lab, snapshot, touch

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]
DAY = timedelta(days=1)


@pytest.fixture
def path(lab: Lab, root: Any) -> Path:
    return lab.run()


@pytest.fixture
def run(path: Path, root: Any, now: datetime) -> Run:
    discovery.discover(root, now=now)
    return Run.objects.with_root().get(run_path=RUN_PATH)


def lay(run: Run, now: datetime, **more: Any) -> Hold:
    return holds.hold(run, **{"owner": "ada", "reason": "referees", "until": now + 10 * DAY, "now": now, **more})


def decided(run: Run, now: datetime) -> tuple[str, Reason | None, str]:
    run = Run.objects.with_root().get(pk=run.pk)
    stored = stored_facts.decision(run, [], now).gate(Gate.HOLD)
    fresh = inspection.quick_decision(run, Policy(), now).gate(Gate.HOLD)
    assert stored == fresh
    return stored.verdict, stored.reason, stored.detail


# Holds of people


def test_holds_until_its_end_and_not_a_moment_longer(run: Run, now: datetime) -> None:
    until = now + 10 * DAY
    lay(run, now)
    assert decided(run, now) == (Verdict.WAIT, Reason.HELD, "by ada: referees")
    assert decided(run, until - timedelta(microseconds=1))[0] == Verdict.WAIT
    assert decided(run, until) == (Verdict.PASS, None, "")


def test_a_hold_that_only_a_clock_in_doubt_calls_over_has_not_ended(run: Run, now: datetime) -> None:
    hold = lay(run, now)
    assert hold.until is not None
    late = hold.until + timedelta(days=20)
    assert in_force.ended_at(hold, late) == hold.until
    HostClock.objects.create(host=run.root.host, seen_at=now, sure_at=now + timedelta(hours=1))
    assert in_force.ended_at(hold, late) is None
    assert in_force.cost(hold, late).days > in_force.cost(hold, hold.until).days
    assert holds.release(hold, actor="ada", now=now + timedelta(hours=2))
    hold.refresh_from_db()
    assert in_force.ended_at(hold, late) == hold.released_at


def test_the_gate_opens_with_the_last_of_several_holds(run: Run, now: datetime) -> None:
    lay(run, now)
    lay(run, now, owner="bob", until=now + 20 * DAY)
    gate = stored_facts.decision(Run.objects.with_root().get(pk=run.pk), [], now).gate(Gate.HOLD)
    assert (gate.detail, gate.opens_at) == ("by ada: referees; by bob: referees", now + 20 * DAY)


def test_the_same_hold_twice_is_one(run: Run, now: datetime) -> None:
    until = now + 10 * DAY
    assert lay(run, now, until=until) == lay(run, now + timedelta(hours=1), until=until) == Hold.objects.get()
    lay(run, now, until=now + 11 * DAY)
    assert Hold.objects.count() == 2


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"until": timedelta()}, "must lie in the future"),
        ({"until": timedelta(days=-1)}, "must lie in the future"),
        ({"until": timedelta(days=3654)}, "ten years"),
        ({"reason": ""}, "needs a reason"),
        ({"reason": " \n"}, "needs a reason"),
        ({"reason": "x" * 501}, "longer than 500"),
    ],
)
def test_refuses_what_is_no_hold(run: Run, now: datetime, fields: dict[str, Any], words: str) -> None:
    if "until" in fields:
        fields = {"until": now + fields["until"]}
    with pytest.raises(HoldRefused, match=words):
        lay(run, now, **fields)
    assert not Hold.objects.exists()


def test_ten_years_and_500_characters_are_allowed(run: Run, now: datetime) -> None:
    lay(run, now, until=now.replace(year=now.year + 10), reason="x" * 500)
    assert decided(run, now + 3650 * DAY)[0] == Verdict.WAIT


@pytest.mark.parametrize("fields", [{"state": "cleared"}, {"gone_at": datetime.fromisoformat("2026-06-01T00:00Z")}])
def test_refuses_a_run_that_is_not_there_any_more(run: Run, now: datetime, fields: dict[str, Any]) -> None:
    Run.objects.filter(pk=run.pk).update(**fields)
    with pytest.raises(HoldRefused, match="nothing left to hold"):
        lay(run, now)  # although the caller's row says otherwise
    assert not Hold.objects.exists()


def test_a_released_hold_holds_no_more_and_says_who_released_it(run: Run, now: datetime) -> None:
    laid = lay(run, now)
    assert holds.release(laid, actor="bob", now=now + DAY)
    assert decided(run, now + DAY)[0] == Verdict.PASS
    row = Hold.objects.get()
    assert (row.owner, row.released_by, row.released_at) == ("ada", "bob", now + DAY)
    assert not holds.release(laid, actor="eve", now=now + 2 * DAY)
    row.refresh_from_db()
    assert (row.released_by, row.released_at) == ("bob", now + DAY)


def test_releasing_a_run_releases_all_that_people_laid_and_no_file(run: Run, path: Path, now: datetime) -> None:
    laid = [lay(run, now), lay(run, now, owner="bob")]
    over = lay(run, now, owner="eve", until=now + timedelta(hours=1))
    holds.note_file(run, HoldFile("mine", "lab"), now=now)
    assert holds.release_run(run, actor="cy", now=now + DAY) == laid
    assert holds.release_run(run, actor="cy", now=now + DAY) == []
    over.refresh_from_db()
    assert (over.released_at, over.released_by) == (None, "")
    assert Hold.objects.get(source=HoldSource.FILE).released_at is None
    assert not holds.release(Hold.objects.get(source=HoldSource.FILE), actor="cy", now=now + DAY)


# The file


def test_a_file_holds_and_discovery_writes_it_down(run: Run, path: Path, root: Any, now: datetime) -> None:
    (path / ".exlab-hold").write_text("for Ada")
    discovery.discover(root, now=now + DAY)
    assert decided(run, now) == (Verdict.BLOCK, Reason.HELD, 'by the file .exlab-hold in the run: "for Ada"')
    row = Hold.objects.get()
    assert (row.source, row.reason, row.until, row.created_at) == (HoldSource.FILE, "for Ada", None, now + DAY)
    assert row.owner == (path / ".exlab-hold").owner()

    (path / ".exlab-hold").write_text("for Bob")
    discovery.discover(root, now=now + 2 * DAY)
    assert (Hold.objects.get().reason, Hold.objects.get().created_at) == ("for Bob", now + DAY)

    (path / ".exlab-hold").unlink()
    discovery.discover(root, now=now + 3 * DAY)
    assert decided(run, now) == (Verdict.PASS, None, "")
    assert Hold.objects.get().released_at == now + 3 * DAY

    (path / ".exlab-hold").mkdir()
    discovery.discover(root, now=now + 4 * DAY)
    assert decided(run, now) == (Verdict.BLOCK, Reason.HELD, "by the file .exlab-hold in the run")
    assert Hold.objects.count() == 2


def test_nothing_is_known_of_a_file_while_the_run_cannot_be_opened(
    run: Run, path: Path, root: Any, now: datetime
) -> None:
    (path / ".exlab-hold").touch()
    discovery.discover(root, now=now)
    path.rename(path.with_name("away"))
    discovery.discover(root, now=now + DAY)
    assert Hold.objects.get().released_at is None
    assert reminders.reminders(now + 60 * DAY) == []
    path.with_name("away").rename(path)
    discovery.discover(root, now=now + 2 * DAY)
    assert Hold.objects.get().released_at is None
    assert len(reminders.reminders(now + 60 * DAY)) == 1


def test_the_file_is_exempt_from_unchanged(run: Run, path: Path, now: datetime) -> None:
    (path / ".exlab-hold").write_text("mine")
    touch(path / ".exlab-hold", now)
    decision = inspection.quick_decision(run, Policy(), now)
    assert [result.gate for result in decision.refusals(operator=True)] == [Gate.HOLD]


def test_what_was_held_when_it_was_verified_can_go_afterwards(lab: Lab, root: Any, now: datetime) -> None:
    path = lab.run(files={"data.bin": b"data", ".exlab-hold": b"mine"})
    assert b".exlab-hold" in (path / ".exlab-wizard/checksums.sha256").read_bytes()
    discovery.discover(root, now=now)
    run = Run.objects.with_root().get()
    with pytest.raises(Refused) as refused:
        protocol.clear_run(run, now=now, actor="ada")
    assert refused.value.finding.reason is Reason.HELD
    (path / ".exlab-hold").unlink()
    assert protocol.clear_run(run, now=now, actor="ada")[0] > 0  # before discovery has seen that it is gone
    assert not path.exists()
    assert not in_force.in_force(now).exists()


def test_twins_of_hold_files_are_not_compared(lab: Lab, root: Any, now: datetime) -> None:
    """A hold file only on the NAS has no effect, and one only in a manifest is no data."""
    path = lab.run(files={"data.bin": b"data", ".exlab-hold": b"mine"}, twin=False)
    lab.run("FLOW_01/PROJ-0001/Runs/Run_2026-04-17T14-32", files={".exlab-hold": b"alone"})
    discovery.discover(root, now=now)
    run = Run.objects.with_root().get(run_path=RUN_PATH)
    finding = inspection.quick_decision(run, Policy(), now).gate(Gate.PROOF)
    assert finding.reason is Reason.NAS_MISSING_FILE
    (path / ".exlab-hold").unlink()
    assert ".exlab-hold" not in inspection.quick_decision(run, Policy(), now).gate(Gate.PROOF).detail


def test_a_proof_is_still_good_when_a_hold_came_and_went(run: Run, path: Path, now: datetime) -> None:
    """The file does not change what was proven, so the bytes are not read again."""
    for made in path.parents[3].parent.glob("nas/**/*"):
        touch(made, now - DAY)
    with opening.reached(run) as (opened, reader):
        looks = []
        for step in ("before", "held", "after"):
            if step == "held":
                (path / ".exlab-hold").touch()
            if step == "after":
                (path / ".exlab-hold").unlink()
            looks.append(inspection.look(run, opened, reader, Policy(), now, operator=True)[0])
    assert (looks[0].evidence != "", looks[1].evidence) == (True, "")
    assert looks[2].evidence == looks[0].evidence


def test_facts_that_were_stored_before_there_were_hold_files_thaw(run: Run, now: datetime) -> None:
    old = {name: value for name, value in run.facts.items() if name != "hold_file"}
    assert old != run.facts
    Run.objects.filter(pk=run.pk).update(facts=old)
    found = stored_facts.facts_of(Run.objects.with_root().get(pk=run.pk))
    assert (found.hold_file, found.files) == (None, run.files)


# The clear


def test_a_hold_laid_while_it_is_queued_stops_the_clear(run: Run, path: Path, now: datetime) -> None:
    from cleanup.clears import queue

    attempt = queue.new_attempt(run, ClearRequest(requester=Requester.OPERATOR, actor="ada"), now=now)
    lay(run, now, until=now + 3650 * DAY)
    before = snapshot(path)
    assert protocol.perform(attempt, now=now).reason == Reason.HELD
    assert snapshot(path) == before


@pytest.mark.parametrize("step", ["expect_twin", "expect_planned"])
def test_a_hold_laid_up_to_the_commit_stops_the_clear(
    run: Run, path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The gates are passed and the run is fenced: the hold still counts, and all is put back."""
    original = getattr(last_checks, step)

    def and_hold(*args: Any) -> None:
        original(*args)
        lay(run, now, until=now + 3650 * DAY)

    monkeypatch.setattr(last_checks, step, and_hold)
    with pytest.raises(Refused) as refused:
        protocol.clear_run(run, now=now, actor="ada")
    assert (refused.value.finding.reason, refused.value.finding.detail) == (Reason.HELD, "by ada: referees")
    assert path.is_dir()
    assert [entry.kind for entry in LedgerEntry.objects.all()] == ["refused"]
    assert Run.objects.get(pk=run.pk).state == "sync_verified"


def test_a_hold_file_laid_after_the_commit_is_left_and_told(
    run: Run, path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The committed clear is completed, but removes nothing outside the plan."""
    original = protocol._commit

    def and_hold(attempt: ClearAttempt, run: Run, opened: opening.OpenRun, prepared: preparation.Prepared) -> None:
        original(attempt, run, opened, prepared)
        descriptor = os.open(".exlab-hold", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=opened.run)
        os.write(descriptor, b"too late")
        os.close(descriptor)

    monkeypatch.setattr(protocol, "_commit", and_hold)
    protocol.clear_run(run, now=now, actor="ada")
    attempt = ClearAttempt.objects.get()
    assert (attempt.phase, attempt.reason) == (Phase.DONE, Reason.REMOVAL_INCOMPLETE)
    assert ".exlab-hold: not in the plan" in attempt.detail
    (fence,) = path.parent.glob(".exlab-clearing-*")
    assert (fence / ".exlab-hold").read_text() == "too late"


def test_the_schedule_passes_a_held_run_by(run: Run, path: Path, now: datetime, policy: Callable[..., Any]) -> None:
    policy(mode="scheduled", retain_hours=0, rehearse=False)
    lay(run, now)
    (action,) = all_roots.sweep(now=now).runs
    assert (action.action, action.reason) == ("skipped", "held")
    holds.release_run(run, actor="ada", now=now)
    (action,) = all_roots.sweep(now=now).runs
    assert action.action == "cleared"
    assert not path.exists()


# Costs


def test_a_hold_costs_bytes_times_days_so_far(run: Run, now: datetime) -> None:
    Run.objects.filter(pk=run.pk).update(bytes=4_000)
    hold = Hold.objects.select_related("run").get(pk=lay(run, now).pk)
    assert in_force.cost(hold, now).byte_days == 0
    assert in_force.cost(hold, now + 3 * DAY / 2) == in_force.Cost(4_000, 1.5)
    assert in_force.cost(hold, now + 3 * DAY / 2).byte_days == 6_000
    assert in_force.cost(hold, now + 90 * DAY).days == 10
    holds.release(hold, actor="bob", now=now + 2 * DAY)
    assert in_force.cost(hold, now + 90 * DAY).byte_days == 8_000


def test_it_costs_nothing_more_once_the_run_is_cleared(run: Run, now: datetime) -> None:
    lay(run, now)
    Run.objects.filter(pk=run.pk).update(bytes=1, state="cleared", cleared_at=now + DAY)
    assert in_force.cost(Hold.objects.get(), now + 5 * DAY).days == 1


def test_a_run_of_unknown_size_has_no_price(run: Run, now: datetime) -> None:
    lay(run, now)
    Run.objects.filter(pk=run.pk).update(bytes=None)
    assert in_force.cost(Hold.objects.get(), now + DAY).byte_days is None
    assert in_force.total_cost(Hold.objects.all(), now + DAY).byte_days == 0


def test_sums_count_a_run_once_however_many_hold_it(run: Run, lab: Lab, root: Any, now: datetime) -> None:
    lab.run("FLOW_01/PROJ-0001/Runs/Run_2026-04-17T14-32")
    discovery.discover(root, now=now)
    other = Run.objects.exclude(pk=run.pk).get()
    Run.objects.update(bytes=100)
    lay(run, now)
    lay(run, now + DAY, owner="bob", until=now + 2 * DAY)
    lay(run, now + 4 * DAY, owner="eve", until=now + 12 * DAY)
    lay(other, now, until=now + DAY)
    total = in_force.total_cost(Hold.objects.select_related("run"), now + 20 * DAY)
    assert (total.bytes, total.byte_days) == (200, pytest.approx(12 * 100 + 1 * 100))
    assert in_force.total_cost([], now) == in_force.Cost(0, 0.0)


# Reminders


def test_people_are_reminded_three_days_before_the_end(run: Run, now: datetime) -> None:
    hold = lay(run, now)
    assert reminders.reminders(now + 7 * DAY - timedelta(seconds=1)) == []
    (reminder,) = reminders.reminders(now + 7 * DAY)
    assert (reminder.subject, reminder.run, reminder.reason) == (f"hold:{hold.pk}", run, Reason.HOLD_ENDING)
    assert reminder.detail == "by ada, until 25 June, 08:00 UTC: referees"
    assert reminders.reminders(now + 10 * DAY) == []


def test_a_short_hold_has_its_first_half_in_peace(run: Run, now: datetime) -> None:
    hold = lay(run, now, until=now + 2 * DAY)
    assert reminders.reminders(now) == []
    assert reminders.reminders(now + DAY - timedelta(seconds=1)) == []
    assert [reminder.hold for reminder in reminders.reminders(now + DAY)] == [hold]


def test_no_reminder_while_another_hold_lasts_longer(run: Run, path: Path, now: datetime) -> None:
    hold = lay(run, now)
    longer = lay(run, now, owner="bob", until=now + 30 * DAY)
    assert reminders.reminders(now + 8 * DAY) == []
    holds.release(longer, actor="bob", now=now + 8 * DAY)
    assert [reminder.hold for reminder in reminders.reminders(now + 8 * DAY)] == [hold]
    holds.note_file(run, HoldFile("mine", "lab"), now=now + 8 * DAY)
    assert reminders.reminders(now + 8 * DAY) == []


def test_a_file_is_asked_after_when_it_has_held_for_thirty_days(run: Run, path: Path, now: datetime) -> None:
    holds.note_file(run, HoldFile("mine", "lab"), now=now)
    assert reminders.reminders(now + 30 * DAY - timedelta(seconds=1)) == []
    (reminder,) = reminders.reminders(now + 30 * DAY)
    assert reminder.reason is Reason.HOLD_OLD
    assert reminder.detail == "by the file .exlab-hold of lab, seen since 2026-06-15 08:00 UTC: mine"
    assert len(reminders.reminders(now + 400 * DAY)) == 1
    holds.note_file(run, None, now=now + 31 * DAY)
    assert reminders.reminders(now + 32 * DAY) == []


@pytest.mark.parametrize("fields", [{"state": "cleared"}, {"gone_at": datetime.fromisoformat("2026-06-01T00:00Z")}])
def test_no_reminder_for_a_run_that_is_gone(run: Run, now: datetime, fields: dict[str, Any]) -> None:
    lay(run, now)
    Run.objects.filter(pk=run.pk).update(**fields)
    assert reminders.reminders(now + 8 * DAY) == []


@pytest.fixture
def mailing(settings: Any, db: None) -> None:
    settings.EXLAB_EMAIL = "smtp://mail.example"
    User.objects.create_user("ada", email="ada@lab.example")
    User.objects.create_user("lab", email="lab@lab.example")


def test_a_reminder_stands_as_long_as_it_is_true_and_is_mailed_once(run: Run, now: datetime, mailing: None) -> None:
    lay(run, now)
    assert reminders.remind(now) == []
    assert mail.outbox == []
    for hours in range(3):
        (reminder,) = reminders.remind(now + 8 * DAY + timedelta(hours=hours))
        assert reminder.reason is Reason.HOLD_ENDING
    (letter,) = mail.outbox
    assert letter.to == ["ada@lab.example"]
    assert RUN_PATH in letter.body
    assert "until 25 June, 08:00 UTC: referees" in letter.body
    assert Hold.objects.get().reminded_at == now + 8 * DAY


def test_the_people_of_the_run_are_reminded_too_and_no_address_twice(
    lab: Lab, root: Any, run: Run, now: datetime, mailing: None
) -> None:
    """Its record names `operator`; an account says of itself that it is `operator`, and two have one address."""
    viewers = Group.objects.get(name="viewer")
    for name, address in (("operator", "Op@lab.example"), ("op2", "op@lab.example"), ("cy", "cy@lab.example")):
        User.objects.create_user(name, email=address).groups.add(viewers)
    User.objects.create_user("blind", email="blind@lab.example")
    for name in ("op2", "cy", "blind"):
        AccountName.objects.create(user=User.objects.get(username=name), name="OPERATOR")
    lay(run, now)
    for hours in range(3):
        reminders.remind(now + 8 * DAY + timedelta(hours=hours))
    assert sorted(letter.to[0] for letter in mail.outbox) == ["Op@lab.example", "ada@lab.example", "cy@lab.example"]
    told = {letter.to[0]: "records of these runs name you" in letter.body for letter in mail.outbox}
    assert told == {"Op@lab.example": True, "ada@lab.example": False, "cy@lab.example": True}


def test_an_owner_of_many_holds_gets_one_mail(lab: Lab, root: Any, now: datetime, mailing: None) -> None:
    paths = [f"FLOW_01/P/Runs/Run_2026-04-17T{number:02}-00" for number in range(12)]
    for path in paths:
        lab.run(path, files={})
    discovery.discover(root, now=now)
    runs = {run.run_path: run for run in Run.objects.with_root()}
    for number, path in enumerate(paths[:10]):
        lay(runs[path], now, until=now + 10 * DAY + number * timedelta(hours=2))
    lay(runs[paths[10]], now, until=now + 30 * DAY)
    lay(runs[paths[11]], now, owner="lab")
    for hours in range(48):
        reminders.remind(now + 7 * DAY + timedelta(hours=hours))
    ours, theirs = sorted(mail.outbox, key=lambda letter: letter.to)
    assert (ours.to, theirs.to) == (["ada@lab.example"], ["lab@lab.example"])
    assert ours.subject == "A hold ends soon. (10 holds)"
    assert all(path in ours.body for path in paths[:10])
    assert paths[10] not in ours.body
    assert ours.body.count(Reason.HOLD_ENDING.advice) == 1
    assert not Hold.objects.filter(run__run_path=paths[10]).exclude(reminded_at=None).exists()


def test_a_mail_of_very_many_names_the_first_hundred(
    lab: Lab, root: Any, run: Run, now: datetime, mailing: None
) -> None:
    for number in range(103):
        lay(run, now, reason=f"figure {number}")
    reminders.remind(now + 8 * DAY)
    (letter,) = mail.outbox
    assert letter.body.count("Held by ada") == 100
    assert "And 3 more: see the page Holds." in letter.body


def test_the_owner_of_a_run_that_was_renamed_is_reminded_and_told_where_it_lies(
    lab: Lab, root: Any, run: Run, now: datetime, mailing: None
) -> None:
    lay(run, now)
    new = RUN_PATH.replace("PROJ-0042", "PROJ-0077")
    (lab.staging / new).parent.mkdir(parents=True)
    (lab.staging / RUN_PATH).rename(lab.staging / new)
    discovery.discover(root, now=now)
    reminders.remind(now + 8 * DAY)
    (letter,) = mail.outbox
    assert f"It may lie at {new} now." in letter.body


def test_a_file_s_owner_is_reminded_every_thirty_days(run: Run, now: datetime, mailing: None) -> None:
    holds.note_file(run, HoldFile("", "lab"), now=now)
    for days in (29, 30, 31, 59, 60, 61):
        reminders.remind(now + days * DAY)
    assert len(mail.outbox) == 2


def test_nothing_is_mailed_without_a_server_an_address_or_a_user(run: Run, now: datetime, settings: Any) -> None:
    lay(run, now)
    User.objects.create_user("ada", email="ada@lab.example")
    User.objects.create_user("bob")
    settings.EXLAB_EMAIL = ""
    assert len(reminders.remind(now + 8 * DAY)) == 1
    settings.EXLAB_EMAIL = "smtp://mail.example"
    for owner in ("bob", "nobody known"):
        lay(run, now, owner=owner)
    assert len(reminders.remind(now + 8 * DAY)) == 3
    assert mail.outbox == []


def test_a_mail_server_that_fails_breaks_nothing_and_is_asked_once_a_pass(
    run: Run, now: datetime, mailing: None, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1  # no server listens there
    lay(run, now)
    lay(run, now, owner="lab")
    with caplog.at_level(logging.ERROR):
        assert len(reminders.remind(now + 8 * DAY)) == 2
        assert [bool(hold.reminded_at) for hold in Hold.objects.order_by("pk")] == [True, False]
        assert len(reminders.remind(now + 8 * DAY)) == 2
        assert len(reminders.remind(now + 8 * DAY)) == 2
    assert len([record for record in caplog.records if "could not be sent" in record.message]) == 2


def test_the_mail_server_is_a_setting_and_off_by_default(tmp_path: Path) -> None:
    code = "from exlab import settings as s; print(s.EXLAB_EMAIL, s.EMAIL_BACKEND, s.EMAIL_HOST, s.DEFAULT_FROM_EMAIL)"
    given = {"EXLAB_EMAIL_URL": "smtp+tls://lab:secret@mail.example:587", "EXLAB_EMAIL_FROM": "staging@lab.example"}
    for more, expected in (
        ({"EXLAB_EMAIL_URL": ""}, "dummy.EmailBackend None exlab-staging@labpc"),
        (given, "smtp.EmailBackend mail.example staging@lab.example"),
    ):
        environment = {**os.environ, "EXLAB_DATA_DIR": str(tmp_path), "EXLAB_HOST": "labpc", **more}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip().endswith(expected)
