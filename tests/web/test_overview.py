import re
from datetime import datetime, timedelta

import pytest
import time_machine
from django.contrib.auth.models import Group, User
from django.test import Client
from django_q.models import Schedule

from cleanup.clears import queue
from cleanup.lab.roots.disk_usage import Outlook
from cleanup.ledger import book
from cleanup.models import (
    Access,
    ClearAttempt,
    ClearBatch,
    DiskUsage,
    Heartbeat,
    LedgerEntry,
    Phase,
    Run,
    StagingRoot,
    Status,
    Sweep,
    SweepBreaker,
    SweepKind,
)
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.web.overview.disk_bar import WIDTH, RunSum, draw
from tests.tools.pages import EXTRA, QUEUED, SAFE, TEST_RUN, TOUCHED

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

TB, GB = 10**12, 10**9
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def text_of(answer) -> str:
    text = re.sub(r"<[^>]+>", " ", re.sub(r"(?s)<head>.*?</head>", "", answer.content.decode()))
    return " ".join(text.split())


def card_of(client: Client):
    (card,) = client.get("/").context["cards"]
    return card


@pytest.fixture
def operator_of_one(db) -> Client:
    user = User.objects.create_user("somebody")
    operator = Group.objects.get(name="operator")
    user.user_permissions.add(*operator.permissions.all())
    Access.objects.create(user=user, equipment="FLOW_01")
    client = Client()
    client.force_login(user)
    return client


def add_freed(run: Run, attempt: ClearAttempt, at: datetime, *, size: int = GB) -> None:
    book.write(LedgerEntry(
        at=at, kind="completed", run=run, attempt=attempt, root_name=run.root.name, run_path=run.run_path,
        equipment=run.equipment, project=run.project, run_kind=run.run_kind, requester=attempt.requester, actor="a",
        host="h", policy_version=1, bytes=size,
    ))  # fmt: skip


# Who, and nothing at all


def test_a_long_look_at_the_disk_says_how_far_it_is(people, root, now):
    far = {"looking_done": 4200, "looking_total": 20_000}
    with time_machine.travel(now, tick=False):
        StagingRoot.objects.update(**far, looking_seen_at=now - timedelta(seconds=5))
        assert "looking at the disk: 4,200 of about 20,000 runs" in text_of(people.viewer.get("/"))
        StagingRoot.objects.update(**far, looking_seen_at=now - HOUR)  # that pass has died
        assert "looking at the disk" not in text_of(people.viewer.get("/"))


def test_only_who_may_look_sees_it(people):
    assert people.nobody.get("/").url == "/login/?next=/"
    assert people.stranger.get("/").status_code == 403
    assert people.viewer.get("/").status_code == 200
    assert people.operator.post("/").status_code == 405


def test_without_a_root_it_says_what_to_do(people):
    assert "No staging root is registered" in text_of(people.operator.get("/"))


def test_without_a_place_it_says_whom_to_ask(people, root):
    user = User.objects.create_user("new")
    user.user_permissions.add(*Group.objects.get(name="viewer").permissions.all())
    client = Client()
    client.force_login(user)
    answer = client.get("/")
    assert answer.context["cards"] == []
    assert "No staging root is yours to see" in text_of(answer)
    assert root.path not in answer.content.decode()
    assert "new · viewer · no place yet" in text_of(answer)
    assert "no place yet" not in text_of(people.viewer.get("/"))


def test_a_root_without_runs_says_so(people, root, now):
    assert "Not looked at yet" in text_of(people.operator.get("/"))
    StagingRoot.objects.update(discovered_at=now)
    text = text_of(people.operator.get("/"))
    assert "No runs" in text
    assert "Why the rest stays" not in text


# The sums


def test_the_sums_are_those_of_the_list(people, runs):
    card = card_of(people.operator)
    totals = people.operator.get("/runs/").context["totals"]
    of_list = {one["total"].tone: (one["total"].runs, one["total"].bytes) for one in totals}
    for tone in (Status.GO, Status.WAIT, Status.BLOCK):
        amount = card.sums.get(tone, RunSum())
        assert (amount.runs, amount.bytes) == of_list[tone]
    assert card.go.runs == 2
    assert card.go.bytes == sum(runs[path].bytes for path in (SAFE, TEST_RUN))
    assert "Clear 2 verified runs" in text_of(people.operator.get("/"))


def test_every_sum_leads_to_its_list(people, runs, now):
    for path, hours in ((TEST_RUN, 23), (TOUCHED, 25)):
        Run.objects.filter(pk=runs[path].pk).update(tone=Status.WAIT, opens_at=now + hours * HOUR)
    card = card_of(people.operator)
    assert (card.go.runs, card.wait.runs, card.soon.runs, card.block.runs) == (1, 3, 1, 2)
    page = people.operator.get("/").content.decode()
    addresses = {address.replace("&amp;", "&") for address in re.findall(r'href="(/runs/\?[^"]+)"', page)}
    assert {"/runs/?root=lab", "/runs/?root=lab&verdict=go", "/runs/?root=lab&verdict=block"} <= addresses
    for name, amount in (("go", card.go), ("wait", card.wait), ("block", card.block), ("soon", card.soon)):
        assert card.links[name] in addresses
        found = people.operator.get(card.links[name]).context
        listed = [row.run for row in found["rows"]]
        assert (len(listed), sum(run.bytes or 0 for run in listed)) == (amount.runs, amount.bytes), name
    reasons = card.reasons
    assert Reason.NOT_IN_MANIFEST in [blocked.reason for blocked in reasons]
    for blocked in reasons:
        assert blocked.address in addresses
        listed = people.operator.get(blocked.address).context["rows"]
        assert len(listed) == blocked.sum.runs
        assert {row.run.reason for row in listed} == {blocked.reason}


def test_only_the_three_commonest_reasons_are_named(people, runs):
    for number, reason in enumerate(["nas_missing_file", "missing_file", "nas_size_mismatch", "special_file"], start=2):
        for index in range(number):
            Run.objects.create(
                root=runs[SAFE].root, run_path=f"X/P/Runs/{reason}{index}", identity="1:-:-", equipment="X",
                project="P", run_kind="test", leaf="l", first_seen_at=runs[SAFE].first_seen_at, tone=Status.BLOCK,
                reason=reason, bytes=1, doubts=1, judged=1,
            )  # fmt: skip
    named = [(blocked.reason, blocked.sum.runs) for blocked in card_of(people.operator).reasons]
    assert named == [("special_file", 5), ("nas_size_mismatch", 4), ("missing_file", 3)]


def test_what_opens_within_a_day_is_told_apart(people, runs, now):
    for path, hours in ((SAFE, 23), (TEST_RUN, 25)):
        Run.objects.filter(pk=runs[path].pk).update(tone=Status.WAIT, opens_at=now + hours * HOUR)
    card = card_of(people.operator)
    assert (card.soon.runs, card.soon.bytes) == (1, runs[SAFE].bytes)
    assert card.wait.runs == 3


def test_runs_of_unknown_size_are_counted(people, runs):
    Run.objects.filter(pk=runs[SAFE].pk).update(bytes=None)
    assert card_of(people.operator).unknown == 1
    assert "1 run of unknown size counts as nothing" in text_of(people.operator.get("/"))


def test_a_backlog_of_judgements_is_told_to_whom_it_concerns(people, operator_of_one, runs, monkeypatch):
    monkeypatch.setattr("cleanup.web.overview.overview.JUDGED_AT_ONCE", 1)
    Run.objects.filter(equipment="CONFOCAL_01").update(tone=Status.WAIT, reason="")
    Run.objects.filter(equipment="CONFOCAL_01").doubt()
    text = text_of(people.operator.get("/"))
    assert "2 runs are being looked at again" in text
    monkeypatch.setattr("cleanup.web.overview.overview.JUDGED_AT_ONCE", 0)
    assert "looked at again" not in text_of(operator_of_one.get("/"))
    Run.objects.filter(equipment="CONFOCAL_01").update(tone=Status.WAIT)
    text = text_of(people.operator.get("/"))
    assert "Nothing is known to be safe yet" in text
    assert "Nothing is safe" not in text


# Who may clear


def test_the_button_leads_to_the_preview_for_those_who_may_clear(people, runs):
    assert '/clear/?root=lab"' in people.operator.get("/").content.decode()
    assert "/clear/?root=" not in people.viewer.get("/").content.decode()


def test_the_button_counts_what_this_person_may_clear(people, runs, root):
    user = User.objects.create_user("half")
    user.groups.add(Group.objects.get(name="viewer"))
    user.user_permissions.add(*Group.objects.get(name="operator").permissions.all())
    Access.objects.create(user=user, equipment="FLOW_01")
    client = Client()
    client.force_login(user)
    assert card_of(client).go.runs == 2
    assert not card_of(client).mine.runs
    Access.objects.create(user=user, equipment="CONFOCAL_01", root=root)
    assert card_of(client).mine.runs == 2


def test_a_user_of_one_instrument_sees_only_its_sums(operator_of_one, people, runs, now):
    DiskUsage.objects.create(root=runs[SAFE].root, at=now, total_bytes=8 * TB, free_bytes=TB)
    card = card_of(operator_of_one)
    flow = [run for run in runs.values() if run.equipment == "FLOW_01"]
    assert card.runs == len(flow) < card_of(people.viewer).runs
    assert not card.go.runs
    assert card.outlook.total_bytes == 8 * TB
    assert "CONFOCAL" not in operator_of_one.get("/").content.decode()


# Trouble


def test_on_a_root_in_trouble_nothing_is_offered(people, runs, root):
    StagingRoot.objects.update(problem=Reason.ROOT_NOT_MOUNTED)
    card = card_of(people.operator)
    assert not card.go.runs
    assert not card.mine.runs
    assert Reason.ROOT_NOT_MOUNTED in [blocked.reason for blocked in card.reasons]
    answer = people.operator.get("/")
    assert "Nothing is done here." in text_of(answer)
    assert "/clear/?root=" not in answer.content.decode()


def test_on_a_host_that_cannot_clear_nothing_is_offered(people, runs, monkeypatch):
    from cleanup.rules.facts import Finding

    found = (Finding(Reason.DATABASE_NOT_DURABLE, "synchronous is 1"),)
    monkeypatch.setattr("cleanup.lab.readiness.hindrances", lambda: found)
    answer = people.operator.get("/")
    assert "Nothing can be cleared here." in text_of(answer)
    assert "/clear/?root=" not in answer.content.decode()


def test_says_what_is_wrong_with_a_root(people, runs, root, now):
    text = text_of(people.operator.get("/"))
    assert "The copy on the NAS lies on the same disk: for trials only." in text
    assert f"{root.host} gives no sign of life" in text
    for cluster in ("exlab-clear", "watch"):
        Heartbeat.objects.create(cluster=cluster, host=root.host, at=now)
    StagingRoot.objects.update(nas_path="")
    text = text_of(people.operator.get("/"))
    assert "No NAS root is registered." in text
    assert "sign of life" not in text
    assert "No task cluster" not in text


def test_an_open_breaker_is_told(people, runs, root, now):
    sweep = Sweep.objects.create(root=root, kind=SweepKind.TIMED, host="h", now=now, started_at=now)
    SweepBreaker.objects.create(root=root, sweep=sweep, kind="size", detail="ten times as much", opened_at=now)
    text = text_of(people.operator.get("/"))
    assert "Automatic clearing has stopped" in text
    assert "ten times as much" in text


# The disk


def test_a_disk_that_was_never_measured_says_so(people, runs):
    text = text_of(people.operator.get("/"))
    assert "has not been measured yet" in text
    assert "free" not in [area.code for area in card_of(people.operator).bar.areas]


@pytest.mark.parametrize(
    ("before", "free", "words"),
    [
        (None, TB, "how fast it fills is known after some hours"),
        (2 * TB, TB, "full in about 1 day at the pace of the last 1 day"),
        (TB, 2 * TB, "not filling up at the pace of the last 1 day"),
        (TB + 10**6, TB, "not full within a year at the pace of the last 1 day"),
        (2 * TB, 0, "The disk is full"),
    ],
)
def test_says_when_the_disk_will_be_full(people, runs, root, now, before, free, words):
    if before is not None:
        DiskUsage.objects.create(root=root, at=now - DAY, total_bytes=8 * TB, free_bytes=before)
    DiskUsage.objects.create(root=root, at=now, total_bytes=8 * TB, free_bytes=free)
    assert words in text_of(people.operator.get("/"))


def test_after_a_week_it_is_this_weeks_pace(people, runs, root, now):
    DiskUsage.objects.create(root=root, at=now - 7 * DAY, total_bytes=8 * TB, free_bytes=8 * TB)
    DiskUsage.objects.create(root=root, at=now, total_bytes=8 * TB, free_bytes=TB)
    assert "full in about 1 day at this week's pace" in text_of(people.operator.get("/"))


def outlook(now: datetime, *, total: int = 8 * TB, free: int = TB) -> Outlook:
    return Outlook(at=now, total_bytes=total, free_bytes=free)


def amount(size: int, *, allocated: int | None = None) -> RunSum:
    return RunSum(runs=1, bytes=size, allocated_bytes=size if allocated is None else allocated)


def test_the_bar_is_full_from_left_to_right(now):
    bar = draw(outlook(now), {Status.GO: amount(4 * TB), Status.WAIT: amount(2 * TB), Status.BLOCK: amount(1)})
    assert [area.code for area in bar.areas] == ["other", "wait", "block", "go", "free"]
    assert sum(area.width for area in bar.areas) == WIDTH
    ends = [area.x + area.width for area in bar.areas]
    assert [area.x for area in bar.areas][1:] == ends[:-1]
    assert all(area.width > 0 for area in bar.areas)
    assert bar.areas[0].bytes == 7 * TB - 6 * TB - 1
    assert not bar.crowded
    assert [area.said for area in bar.areas] == ["1,000 GB", "2,000 GB", "1 B", "4,000 GB", "1,000 GB"]
    assert (bar.used, bar.whole) == ("7,000 GB", "8,000 GB")


def test_a_bar_says_where_it_is_not_to_scale(now):
    assert draw(outlook(now), {Status.GO: amount(4 * TB), Status.WAIT: amount(1)}).widened
    assert not draw(outlook(now), {Status.GO: amount(4 * TB), Status.WAIT: amount(2 * TB)}).widened


def test_a_bar_of_runs_larger_than_the_disk_has_no_negative_part(now):
    bar = draw(outlook(now, total=2 * TB), {Status.GO: amount(40 * TB)})
    assert bar.areas[0].bytes == 0
    assert all(area.width >= 0 for area in bar.areas)
    assert sum(area.width for area in bar.areas) == WIDTH
    assert bar.crowded


def test_the_bar_is_drawn_by_what_is_taken_on_the_disk(now):
    bar = draw(outlook(now, total=2 * TB, free=TB), {Status.GO: amount(40 * TB, allocated=TB)})
    go = next(area for area in bar.areas if area.code == "go")
    assert go.bytes == 40 * TB
    assert go.width == WIDTH // 2
    assert not bar.crowded


def test_an_empty_disk_is_all_free(now):
    bar = draw(outlook(now, total=TB, free=TB), {})
    assert [(area.code, area.width) for area in bar.areas if area.width] == [("free", WIDTH)]
    nothing = draw(outlook(now, total=0, free=0), {})
    assert not any(area.width for area in nothing.areas)


# Lately


def test_what_was_freed_in_a_week(people, runs, root, now):
    def freed(days: float, requester: str, size: int) -> None:
        attempt = runs[SAFE].attempts.create(
            host="h", requester=requester, actor="a", created_at=now, phase="done", phase_at=now
        )
        add_freed(runs[SAFE], attempt, now - days * DAY, size=size)

    freed(8, "operator", TB)
    freed(6, "operator", GB)
    freed(1, "schedule", 2 * GB)
    found = card_of(people.operator).freed
    assert (found.bytes, found.by_schedule, found.by_hand) == (3 * GB, 1, 1)
    assert "Freed in 7 days 3.00 GB" in text_of(people.operator.get("/"))


def test_the_links_by_hand_and_by_schedule_show_the_counted_runs(people, runs, root, now):
    """Also to a run that both freed in part, and to one that is back since."""

    def freed(path: str, days: float, requester: str) -> None:
        fields = {"host": "h", "requester": requester, "actor": "a", "created_at": now, "phase_at": now}
        attempt = runs[path].attempts.create(phase="done", **fields)
        add_freed(runs[path], attempt, now - days * DAY)

    for path in (SAFE, EXTRA):
        Run.objects.filter(pk=runs[path].pk).update(state="cleared", cleared_at=now, here=False)
    for path, days, requester in (
        (SAFE, 1, "schedule"),
        (SAFE, 2, "operator"),
        (EXTRA, 3, "operator"),
        (TOUCHED, 4, "operator"),
        (QUEUED, 8, "operator"),
    ):
        freed(path, days, requester)
    card = card_of(people.operator)
    assert (card.freed.by_schedule, card.freed.by_hand) == (1, 3)
    for which, number in (("by_schedule", 1), ("by_hand", 3)):
        assert f'href="{card.links[which].replace("&", "&amp;")}"' in people.operator.get("/").content.decode()
        listed = people.operator.get(card.links[which])
        assert (listed.context["number"], len(listed.context["rows"])) == (number, number)
    assert "Freed in 7 days by hand" in people.operator.get(card.links["by_hand"]).content.decode()


def test_the_last_sweep_and_the_next(people, runs, root, now, policy):
    def add(kind: str, **fields) -> Sweep:
        return Sweep.objects.create(root=root, kind=kind, host="h", now=now, started_at=now - HOUR, **fields)

    assert "Last pass none yet" in text_of(people.operator.get("/"))
    add("timed", cleared=3)
    last = add("timed", cleared=8, failed=2)
    add("dry_run", cleared=0)
    Schedule.objects.filter(name="cleanup sweep").update(next_run=now + 40 * timedelta(minutes=1))
    answer = people.operator.get("/")
    assert f'href="/sweeps/{last.pk}/"' in answer.content.decode()
    assert "Last pass 8 cleared, 2 failed , 1 h ago" in text_of(answer)
    assert "Next pass none: the policy is manual" in text_of(answer)
    policy(mode="scheduled", retain_hours=24)
    assert "Next pass in 40 min" in text_of(people.operator.get("/"))


def test_a_host_with_a_worker_has_its_own_next_sweep(people, runs, root, now, policy):
    policy(mode="scheduled", retain_hours=24)
    Schedule.objects.filter(name="cleanup sweep").update(next_run=now + HOUR)
    Schedule.objects.create(
        name="cleanup sweep", func="f", cluster=f"exlab-clear@{root.host}", next_run=now + 5 * timedelta(minutes=1)
    )
    assert card_of(people.operator).next_sweep == now + timedelta(minutes=5)


def test_batches_under_way_are_told(people, runs, operator_of_one, now):
    batch = ClearBatch.objects.create(actor="jlee", digest="d", created_at=now - timedelta(minutes=3))
    for path, phase, freed in ((SAFE, "done", 5 * GB), (TEST_RUN, "queued", 0)):
        runs[path].attempts.create(
            batch=batch, host="h", requester="operator", actor="jlee", created_at=now, phase=phase, phase_at=now,
            freed_bytes=freed,
        )  # fmt: skip
    answer = people.viewer.get("/")
    assert f'href="/batches/{batch.pk}/"' in answer.content.decode()
    text = text_of(answer)
    assert "Clearing 2 of 2 runs…" in text
    assert "5.00 GB freed so far" in text
    assert str(batch.pk) not in operator_of_one.get("/").content.decode()
    batch.attempts.filter(phase="queued").update(phase="refused")
    assert "Clearing" not in text_of(people.viewer.get("/"))


# Names, and many of everything


def test_hostile_names_are_shown_and_do_nothing(people, runs):
    StagingRoot.objects.update(name="<b>x</b>&root=\u202ey")
    page = people.operator.get("/").content.decode()
    assert "<b>x" not in page
    assert "\u202e" not in page
    address = next(a for a in re.findall(r'href="(/runs/\?[^"]+)"', page) if "verdict=go" in a)
    assert people.operator.get(address.replace("&amp;", "&")).context["chosen"]["verdict"] == "go"


def test_no_query_more_for_many_roots(people, runs, root, now, django_assert_num_queries):
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    people.operator.get("/")
    with CaptureQueriesContext(connection) as few:
        people.operator.get("/")
    for number in range(12):
        other = StagingRoot.objects.create(name=f"other {number}", host=f"host-{number}", path=f"/other/{number}")
        for at in (now - DAY, now):
            DiskUsage.objects.create(root=other, at=at, total_bytes=TB, free_bytes=GB)
        sweep = Sweep.objects.create(root=other, kind="timed", host="h", now=now, started_at=now)
        SweepBreaker.objects.create(root=other, sweep=sweep, kind="size", detail="much", opened_at=now)
        for tone in (Status.GO, Status.BLOCK, Status.WAIT):
            Run.objects.create(
                root=other, run_path=f"X/P/Runs/{tone}", identity="1:-:-", equipment="X", project="P", run_kind="test",
                leaf="l", first_seen_at=now, tone=tone, reason="" if tone == Status.GO else "not_quiet", bytes=1,
                doubts=1, judged=1,
            )  # fmt: skip
    with CaptureQueriesContext(connection) as many:
        answer = people.operator.get("/")
    assert len(answer.context["cards"]) == 13
    assert len(many) <= len(few) + 4  # for samples, passes and their roots; not one query for each
    assert len(many) < 40


@pytest.fixture
def kept(monkeypatch):
    from cleanup.web.overview import totals as disk_totals

    monkeypatch.setattr(disk_totals, "_kept", {})
    monkeypatch.setattr(disk_totals, "KEPT_ABOVE_RUNS", 3)


def test_the_sums_of_very_many_runs_are_kept_a_while_and_say_how_old_they_are(people, runs, kept, now):
    before = card_of(people.operator)
    Run.objects.filter(pk=runs[SAFE].pk).update(tone=Status.BLOCK, reason="not_in_manifest")
    with time_machine.travel(now + timedelta(seconds=10), tick=False):
        assert card_of(people.operator).go == before.go
        assert "Added up 10 s ago." in text_of(people.operator.get("/"))
        # users with other permissions have other sums
        assert card_of(people.viewer).go.runs == before.go.runs - 1
    with time_machine.travel(now + timedelta(seconds=20), tick=False):
        assert card_of(people.operator).go.runs == before.go.runs - 1
        assert "Added up" not in text_of(people.operator.get("/"))


def test_sums_are_not_kept_beyond_a_clear(people, runs, kept, now):
    assert card_of(people.operator).mine.runs == 2
    attempt = queue.request_clear(runs[SAFE], actor="jlee", now=now)
    card = card_of(people.operator)
    assert (card.mine.runs, card.sums[Status.WORK].runs) == (1, 1)
    # one ends while the next begins: the count is equal, and the sum still differs
    ClearAttempt.objects.filter(pk=attempt.pk).update(phase=Phase.DONE)
    add_freed(runs[SAFE], attempt, now)
    Run.objects.filter(pk=runs[SAFE].pk).update(state=State.CLEARED)
    Run.objects.filter(pk=runs[SAFE].pk).doubt()
    queue.request_clear(runs[TEST_RUN], actor="jlee", now=now)
    card = card_of(people.operator)
    assert (card.mine.runs, card.sums[Status.WORK].runs) == (0, 1)
    assert card.runs == len(runs) - 1


def test_says_what_the_disk_gets_back_where_files_are_sparse(people, runs):
    assert "The disk gets back" not in text_of(people.operator.get("/"))
    Run.objects.filter(pk__in=[runs[SAFE].pk, runs[TEST_RUN].pk]).update(bytes=TB, allocated_bytes=GB)
    assert "The disk gets back about 2.00 GB" in text_of(people.operator.get("/"))


@pytest.mark.parametrize(
    "address",
    ["/", "/problems/", *(pytest.param(page, marks=pytest.mark.exhaustive) for page in ("/runs/", "/instruments/"))],
)
def test_a_damaged_row_takes_no_page_with_it(people, runs, address):
    """Facts of unknown origin: that run is blocked, and all others are unchanged."""
    damaged = Run.objects.filter(pk=runs[SAFE].pk)
    for facts in (
        [],
        "torn",
        7,
        {"allocated_bytes": "much"},
        {**runs[SAFE].facts, "proof": {}, "allocated_bytes": "x"},
    ):
        damaged.update(facts=facts)
        damaged.doubt()
        assert people.viewer.get(address).status_code == 200
        assert damaged.get().tone == Status.BLOCK
        assert people.viewer.get(f"/runs/{runs[SAFE].pk}/").status_code == 200


@pytest.mark.parametrize("address", ["/", "/runs/", "/problems/", "/clear/?root=lab"])
def test_sparse_files_of_exabytes_break_no_sum(people, runs, address):
    Run.objects.update(bytes=2**62 + 5, tone=Status.GO)
    assert people.operator.get(address).status_code == 200


def test_an_address_that_no_database_takes_is_not_found(people, runs):
    assert people.operator.get("/clear/?root=%00").status_code == 404
    assert people.viewer.get("/runs/", {"q": " ".join("abcdefghijklmnopqrstuvwxyz0123456789")}).status_code == 200
