"""What timed passes will take is announced once, before they take it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings as project
from django.contrib.auth.models import Group, User
from django.core import mail
from django.db import connection
from django.test import Client
from django_q.models import Schedule

from cleanup.clears.report import ClearReport
from cleanup.clears.run_action import Action
from cleanup.lab import policy_versions, task_queues
from cleanup.lab.roots import first_nights
from cleanup.models import Access, Announcement, Forecast, RetentionPolicy, Run, StagingRoot
from cleanup.monitoring import evening_mail, forecasts
from cleanup.runs import discovery
from cleanup.runs.holds import holds
from cleanup.sweeps import all_roots, rehearsal
from tests.tools.lab import Lab

pytestmark = pytest.mark.one_engine


HOUR, DAY = timedelta(hours=1), timedelta(days=1)
EVENING = datetime(2026, 6, 15, 18, 0, tzinfo=UTC)
TWO = datetime(2026, 6, 16, 2, 0, tzinfo=UTC)


@pytest.fixture
def mailing(settings: Any, db: None) -> None:
    settings.EXLAB_EMAIL = "smtp://mail.example"
    User.objects.create_superuser("admin", email="admin@lab.example")


@pytest.fixture
def stock(lab: Lab, root: StagingRoot) -> Callable[..., None]:
    def stock(number: int, *, ready_at: datetime = TWO - 30 * timedelta(minutes=1), equipment: str = "FLOW_01") -> None:
        for one in range(number):
            verified_at = ready_at - 7 * DAY - one * timedelta(seconds=1)
            run_path = f"{equipment}/PROJ-0060/Runs/Run_2026-05-{one % 28 + 1:02}T08-{one // 28:02}"
            lab.run(run_path, verified_at=verified_at)
        discovery.discover(root, now=EVENING - HOUR)

    return stock


@pytest.fixture(autouse=True)
def _hourly(db: None) -> None:
    at = EVENING + timedelta(minutes=60)
    Schedule.objects.filter(name=task_queues.SWEEP, cluster=project.EXLAB_CLEAR_CLUSTER).update(next_run=at)


def promoted(now: datetime = EVENING - 2 * DAY, **fields: Any) -> RetentionPolicy:
    fields = {"mode": "scheduled", "retain_hours": 168, "stage": "promoted", **fields}
    return policy_versions.add_version(author="admin", now=now, **fields)


def passed(root: StagingRoot, now: datetime) -> ClearReport:
    return all_roots.sweep(now=now, timed=True, roots=[root])


@pytest.mark.both_engines
def test_the_evening_before_says_what_the_pass_then_takes(
    stock: Any, root: StagingRoot, mailing: None, client: Client, time_machine: Any
) -> None:
    stock(12)
    promoted()
    passed(root, EVENING - 5 * HOUR)  # which took nothing: it is not the policy's first pass any more
    told = evening_mail.announce(root, EVENING)
    assert told is not None
    assert (told.runs, told.first_pass_at, told.versions, told.mails) == (12, TWO, [], 1)
    (letter,) = mail.outbox
    assert letter.subject.startswith("lab: tonight at 02:00: 12 runs, ")
    assert "FLOW_01: 12 runs" in letter.body
    time_machine.move_to(EVENING, tick=False)
    client.force_login(User.objects.get(username="admin"))
    page = client.get("/").content.decode()
    assert "Tonight at 02:00: 12 runs, " in page
    swept = passed(root, TWO)
    assert (swept.count(Action.CLEARED), swept.bytes_freed) == (12, told.bytes)


@pytest.mark.both_engines
def test_two_hosts_at_the_same_moment_announce_once(
    stock: Any, root: StagingRoot, mailing: None, monkeypatch: Any
) -> None:
    stock(12)
    promoted()
    amount_of, inner = evening_mail._amount_of, []

    def another_host_is_faster(keys: list[int]) -> Any:
        monkeypatch.setattr(evening_mail, "_amount_of", amount_of)
        inner.append(evening_mail.announce(root, EVENING))
        return amount_of(keys)

    monkeypatch.setattr(evening_mail, "_amount_of", another_host_is_faster)
    assert evening_mail.announce(root, EVENING) is None
    assert inner[0] is not None
    for minutes in (5, 10, 60, 6 * 60):
        assert evening_mail.announce(root, EVENING + timedelta(minutes=minutes)) is None
    assert (Announcement.objects.count(), len(mail.outbox)) == (1, 1)


@pytest.mark.both_engines
def test_it_is_told_once_where_another_host_tells_it_between_two_looks(
    stock: Any, root: StagingRoot, mailing: None
) -> None:
    stock(12)
    promoted()
    inner: list[Any] = []

    def tells_after_the_first_look(execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
        found = execute(sql, params, many, context)
        if not inner and sql.startswith("SELECT") and Announcement._meta.db_table in sql:
            inner.append(None)
            inner.append(evening_mail.announce(root, EVENING))
        return found

    with connection.execute_wrapper(tells_after_the_first_look):
        assert evening_mail.announce(root, EVENING) is None
    assert inner[1] is not None
    assert (Announcement.objects.count(), len(mail.outbox)) == (1, 1)


@pytest.mark.parametrize(("number", "told"), [(10, False), (11, True)])
def test_a_pass_of_few_runs_is_not_worth_a_mail(
    stock: Any, root: StagingRoot, mailing: None, lab: Lab, number: int, told: bool
) -> None:
    lab.run(
        "CONFOCAL_01/PROJ-0042/Runs/Run_2026-06-15T08-00", files={"large": bytes(8 * 10**6)}
    )  # so that few are not 5 %
    stock(number)
    promoted()
    passed(root, EVENING - 5 * HOUR)
    assert (evening_mail.announce(root, EVENING) is not None) is told
    assert len(mail.outbox) == told


def test_few_large_runs_are(stock: Any, root: StagingRoot, mailing: None) -> None:
    stock(1)
    stock(1, ready_at=EVENING + 30 * DAY, equipment="CONFOCAL_01")
    promoted()
    passed(root, EVENING - 5 * HOUR)
    told = evening_mail.announce(root, EVENING)  # one of two: half of all bytes
    assert told is not None
    assert told.runs == 1


def test_the_first_pass_in_earnest_is_told_even_of_one_run(
    stock: Any, root: StagingRoot, mailing: None, lab: Lab
) -> None:
    lab.run("CONFOCAL_01/PROJ-0042/Runs/Run_2026-06-15T08-00", files={"large": bytes(8 * 10**6)})
    stock(1)
    version = promoted()
    told = evening_mail.announce(root, EVENING)
    assert told is not None
    assert (told.runs, told.versions) == (1, [version.version])
    assert "first pass that clears anything" in mail.outbox[0].body
    passed(root, TWO)
    assert evening_mail.announce(root, EVENING + DAY) is None


def test_first_nights_that_end_in_the_night_are_reckoned_with(stock: Any, root: StagingRoot, mailing: None) -> None:
    """The version is old, but no pass has taken anything by it here: this counts as its first pass."""
    evening, two = EVENING + 4 * DAY, TWO + 4 * DAY
    stock(3, ready_at=two - HOUR / 2)
    begun = evening - 3 * DAY + 6 * HOUR
    promoted(now=begun - DAY)
    first_nights.came(root, begun, note="its NAS is another one")
    for hours in range(1, 67, 12):
        _at(passed, root, begun + hours * HOUR)
    told = evening_mail.announce(root, evening)
    assert told is not None
    assert (told.runs, told.first_pass_at, told.versions) == (3, two, [1])
    assert evening_mail.announce(root, evening + HOUR) is None
    _at(passed, root, begun + 72 * HOUR)
    assert not first_nights.waiting(begun + 72 * HOUR)
    assert _at(passed, root, two).count(Action.CLEARED) == 3


def test_a_person_who_ends_first_nights_is_told_what_goes(stock: Any, root: StagingRoot, mailing: None) -> None:
    stock(1, ready_at=EVENING - DAY)
    version = promoted()
    first_nights.came(root, EVENING - DAY, note="it was registered")
    _at(passed, root, EVENING - HOUR)
    assert evening_mail.announce(root, EVENING) is None
    assert evening_mail.say_next([root], EVENING) == ""
    rehearsal.promote_root(root, "ada", EVENING + timedelta(minutes=1))
    assert "1 run" in evening_mail.say_next([root], EVENING + timedelta(minutes=2))
    told = evening_mail.announce(root, EVENING + timedelta(minutes=2))
    assert told is not None
    assert told.versions == [version.version]


def test_nights_that_end_in_the_night_are_reckoned_with(stock: Any, root: StagingRoot, mailing: None) -> None:
    """The schedule promotes at midnight what it rehearsed; the next pass is announced the evening before."""
    stock(3)
    begun = EVENING - 3 * DAY + 6 * HOUR
    policy_versions.add_version(author="admin", now=begun, mode="scheduled", retain_hours=168)
    for hours in range(1, 67, 12):
        _at(passed, root, begun + hours * HOUR)
    told = evening_mail.announce(root, EVENING)
    assert told is not None
    assert (told.runs, told.first_pass_at, told.versions) == (3, TWO, [1])
    _at(passed, root, begun + 72 * HOUR)
    assert RetentionPolicy.objects.order_by("-version")[0].rehearsal == "promoted"
    assert evening_mail.announce(root, begun + 73 * HOUR) is None  # the very runs were told
    assert _at(passed, root, TWO).count(Action.CLEARED) == 3
    assert len(mail.outbox) == 1


def test_what_turns_up_after_the_evening_is_told_at_once(
    stock: Any, root: StagingRoot, mailing: None, lab: Lab
) -> None:
    lab.run("PLATE_READER_02/PROJ-0007/Runs/Run_2026-06-15T08-00", files={"large": bytes(8 * 10**6)})
    stock(12)
    written = promoted(stage="rehearsing")
    assert evening_mail.announce(root, EVENING) is None
    night = TWO - HOUR
    rehearsal.promote(written, "admin", night)
    told = evening_mail.announce(root, night)
    assert told is not None
    assert told.runs == 12
    stock(11, equipment="CONFOCAL_01")  # those that were told are not told again, these are
    assert evening_mail.announce(root, night + timedelta(minutes=5)) is not None
    assert evening_mail.announce(root, night + timedelta(minutes=10)) is None
    assert len(mail.outbox) == 2


def test_a_held_run_a_rehearsed_one_and_a_stopped_root_are_not_promised(
    stock: Any, root: StagingRoot, mailing: None
) -> None:
    stock(12)
    promoted()
    holds.hold(Run.objects.earliest("pk"), owner="ada", reason="x", until=EVENING + 9 * DAY, now=EVENING - HOUR)
    assert forecasts.foresee(root, EVENING).amount.runs == 11
    promoted(stage="rehearsing", equipment="FLOW_01", retain_hours=150)
    assert forecasts.foresee(root, EVENING).amount.runs == 11, "by what is approved they go all the same"
    promoted(mode="manual")
    foreseen = forecasts.foresee(root, EVENING)
    assert (foreseen.amount.runs, foreseen.rehearsed["FLOW_01"].runs) == (0, 11)
    assert evening_mail.announce(root, EVENING) is None


def test_what_an_approved_version_takes_is_told_while_a_freer_one_is_rehearsed(stock: Any, root: StagingRoot) -> None:
    stock(12)
    promoted()
    promoted(stage="rehearsing", retain_hours=96)
    stock(3, ready_at=EVENING + 3 * DAY, equipment="CONFOCAL_01")
    foreseen = forecasts.foresee(root, EVENING)
    assert (foreseen.amount.runs, foreseen.rehearsed["CONFOCAL_01"].runs) == (12, 3)


def test_a_mail_that_cannot_be_sent_is_said_on_the_page_and_stops_no_pass(
    stock: Any, root: StagingRoot, mailing: None, settings: Any, client: Client, time_machine: Any
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1  # no server listens there
    stock(12)
    promoted()
    assert evening_mail.announce_all([root], EVENING) == 1
    (told,) = Announcement.objects.all()
    assert (told.mails, "refused" in told.mail_problem) == (0, True)
    time_machine.move_to(EVENING + HOUR, tick=False)
    client.force_login(User.objects.get(username="admin"))
    page = client.get("/").content.decode()
    assert "The mail about it could not be sent:" in page
    assert "refused" in page
    assert passed(root, TWO).count(Action.CLEARED) == 12


def test_people_are_told_of_the_runs_that_they_may_keep(stock: Any, root: StagingRoot, mailing: None) -> None:
    stock(12)
    stock(2, equipment="CONFOCAL_01")
    keeper = User.objects.create_user("keeper", email="keeper@lab.example")
    keeper.user_permissions.set(Group.objects.get(name="operator").permissions.all())
    Access.objects.create(user=keeper, root=root, equipment="CONFOCAL_01")
    User.objects.create_user("viewer", email="viewer@lab.example").groups.add(Group.objects.get(name="viewer"))
    promoted()
    assert evening_mail.announce(root, EVENING) is not None
    by_address = {letter.to[0]: letter.body for letter in mail.outbox}
    assert set(by_address) == {"admin@lab.example", "keeper@lab.example"}
    assert "FLOW_01" in by_address["admin@lab.example"]
    assert "FLOW_01" not in by_address["keeper@lab.example"]
    assert "tonight at 02:00: 2 runs" in by_address["keeper@lab.example"].lower()


def test_the_evening_is_the_labs(stock: Any, root: StagingRoot, mailing: None, settings: Any) -> None:
    settings.TIME_ZONE = "Europe/Zurich"
    stock(12)
    promoted()
    told = evening_mail.announce(root, EVENING - 2 * HOUR)  # six in the evening there
    assert told is not None
    assert mail.outbox[0].subject.startswith("lab: tonight at 04:00: 12 runs")
    assert "Times are those of Europe/Zurich" in mail.outbox[0].body


def test_the_task_and_the_pass_itself_tell(stock: Any, root: StagingRoot, mailing: None, time_machine: Any) -> None:
    from cleanup import tasks

    StagingRoot.objects.update(host=project.EXLAB_HOST)
    stock(12)
    promoted()
    time_machine.move_to(EVENING, tick=False)
    assert tasks.announce() == "1 announcements"
    assert tasks.announce() == "0 announcements"
    assert Forecast.objects.get().policy_version == 1
    Announcement.objects.all().delete()
    time_machine.move_to(TWO, tick=False)
    assert "cleared 12" in tasks.sweep()
    assert Announcement.objects.get().runs == 12


def test_a_user_of_one_instrument_sees_its_part_on_the_overview(
    stock: Any, root: StagingRoot, client: Client, time_machine: Any
) -> None:
    stock(12)
    stock(2, equipment="CONFOCAL_01")
    promoted()
    keeper = User.objects.create_user("keeper")
    keeper.user_permissions.set(Group.objects.get(name="viewer").permissions.all())
    Access.objects.create(user=keeper, root=root, equipment="CONFOCAL_01")
    time_machine.move_to(EVENING, tick=False)
    client.force_login(keeper)
    page = client.get("/").content.decode()
    assert "Tonight at 02:00: 2 runs" in page
    assert "12 runs" not in page


def test_the_overview_is_looked_at_anew_when_policies_change_and_when_a_pass_has_begun(
    stock: Any, root: StagingRoot, client: Client, admin_user: User, time_machine: Any
) -> None:
    stock(12)
    promoted()
    time_machine.move_to(TWO - HOUR, tick=False)
    client.force_login(admin_user)
    assert "Today at 02:00: 12 runs" in client.get("/").content.decode()
    promoted(now=TWO - HOUR, mode="manual")
    promoted(now=TWO - HOUR, equipment="FLOW_01", stage="rehearsing", retain_hours=160)
    page = client.get("/").content.decode()
    assert "Rehearsed only: 12 runs, " in page
    assert "12 runs</strong>" not in page
    promoted(now=TWO - HOUR, equipment="FLOW_01", retain_hours=160)
    time_machine.move_to(TWO, tick=False)
    assert "At any moment: 12 runs" in client.get("/").content.decode()
    time_machine.move_to(TWO + timedelta(minutes=1), tick=False)
    passed(root, TWO + timedelta(minutes=1))
    time_machine.move_to(TWO + timedelta(minutes=2), tick=False)
    assert "12 runs, " not in client.get("/").content.decode().partition('class="capacity"')[0]


def test_moments_have_names_in_the_labs_zone() -> None:
    from cleanup.rules.announcements import name_moment

    zone = ZoneInfo("Europe/Zurich")
    six = datetime(2026, 6, 15, 16, 0, tzinfo=UTC)
    said = [name_moment(six + hours * HOUR, six, zone) for hours in (0, 2, 8, 13, 14, 40)]
    assert said == [
        "at any moment",
        "tonight at 20:00",
        "tonight at 02:00",
        "tomorrow at 07:00",
        "tomorrow at 08:00",
        "on 2026-06-17 at 10:00",
    ]


def _at(act: Callable[[StagingRoot, datetime], ClearReport], root: StagingRoot, now: datetime) -> ClearReport:
    import time_machine as clock

    with clock.travel(now, tick=False):
        return act(root, now)
