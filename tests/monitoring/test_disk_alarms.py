"""A disk that fills up: its alarm, its mail, its end."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core import mail

from cleanup import tasks
from cleanup.lab.roots import disk_pace, disk_usage
from cleanup.ledger import book
from cleanup.models import (
    Access,
    Alert,
    AlertKind,
    ClearAttempt,
    DiskForecast,
    DiskUsage,
    LedgerEntry,
    Run,
    StagingRoot,
)
from cleanup.monitoring import disk_alarms, links
from cleanup.runs import discovery
from tests.tools.lab import RUN_PATH, Lab
from tests.tools.rows import run_row

pytestmark = pytest.mark.one_engine

TB, GB, MB = 10**12, 10**9, 10**6
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def samples(root: StagingRoot, now: datetime, free: Callable[[float], float], *, hours: float = 4) -> None:
    """Measurements each ten minutes until now; `free` by hours before now."""
    DiskUsage.objects.filter(root=root).delete()
    number = round(hours * 6)
    DiskUsage.objects.bulk_create(
        DiskUsage(root=root, at=now - index * 10 * MINUTE, total_bytes=8 * TB, free_bytes=round(free(index / 6)))
        for index in range(number + 1)
    )


def steadily(hour: float) -> float:
    """1 TB free now, and 100 GB fewer each hour."""
    return TB + 100 * GB * hour


def look(root: StagingRoot, now: datetime) -> DiskForecast:
    found = disk_alarms.look_at(root, now)
    assert found is not None
    return found


def open_alerts() -> list[Alert]:
    return list(Alert.objects.filter(kind=AlertKind.DISK, ended_at=None))


@pytest.fixture
def mailing(settings: Any, db: None) -> None:
    settings.EXLAB_EMAIL = "smtp://mail.example"
    settings.EXLAB_BASE_URL = "https://staging.lab.example"
    User.objects.create_superuser("admin", email="admin@lab.example")


@pytest.mark.both_engines
def test_an_episode_from_its_first_look_to_its_end(lab: Lab, root: StagingRoot, mailing: None, now: datetime) -> None:
    lab.run()
    discovery.discover(root, now=now)
    samples(root, now, steadily)
    forecast = look(root, now)
    assert (forecast.bytes_an_hour, forecast.full_at, forecast.alarm_since) == (100 * GB, now + 10 * HOUR, now)
    (alert,) = open_alerts()
    assert alert.detail == "Full at about 18:00: 87 % used, 1.00 TB of 8.00 TB free, about 100.0 GB arrive an hour."
    (letter,) = mail.outbox
    assert (letter.subject, letter.to) == ("lab: full at about 18:00", ["admin@lab.example"])
    assert "Safe to clear now, and yours to clear: 1 run, " in letter.body
    assert f"https://staging.lab.example{links.make_room(root)}" in letter.body

    later = now + 5 * MINUTE
    samples(root, later, steadily)
    look(root, later)
    assert len(mail.outbox) == 1, "once for each episode"
    assert [one.since for one in open_alerts()] == [now]

    samples(root, later, lambda _hour: 8 * TB * 0.169)  # 83.1 %: within two points of the mark
    assert look(root, later).alarm_since == now
    samples(root, later, lambda _hour: 8 * TB * 0.171)
    assert look(root, later).alarm_since is None
    assert open_alerts() == []

    samples(root, later, steadily)
    look(root, later)
    assert [one.since for one in open_alerts()] == [later]
    assert len(mail.outbox) == 2, "a new episode is told anew"


@pytest.mark.both_engines
def test_what_was_cleared_meanwhile_is_no_inflow_and_what_arrived_is(root: StagingRoot, now: datetime) -> None:
    """A clear of 80 minutes gave 2 TB back little by little; 100 GB arrived each hour all the while."""
    run = run_row(root, RUN_PATH, first_seen_at=now)
    began, ended = now - 130 * MINUTE, now - 50 * MINUTE
    told = {"run": run, "root_name": root.name, "run_path": run.run_path, "requester": "operator", "policy_version": 0}
    attempt = ClearAttempt.objects.create(
        run=run, phase="done", host=root.host, requester="operator", created_at=began, phase_at=ended
    )
    for kind, at in (("authorised", began), ("completed", ended)):
        book.write(LedgerEntry(at=at, kind=kind, attempt=attempt, allocated_bytes=2 * TB, bytes=2 * TB, **told))

    def free(hour: float) -> float:
        cleared = min(max((now - hour * HOUR - began) / (ended - began), 0), 1)
        return 3 * TB + 100 * GB * hour - 2 * TB * (1 - cleared)

    samples(root, now, free)
    found = disk_pace.fill_of_root(root, now)
    assert found is not None
    assert found.bytes_an_hour == pytest.approx(100 * GB, rel=0.001)
    assert look(root, now).full_at == pytest.approx(now + 30 * HOUR, abs=MINUTE)


def test_an_old_measurement_changes_nothing(root: StagingRoot, now: datetime) -> None:
    samples(root, now, steadily)
    look(root, now)
    assert disk_alarms.look_at(root, now + HOUR) is None
    assert len(open_alerts()) == 1


def test_who_gets_the_mail_and_what_each_may_clear(
    lab: Lab, root: StagingRoot, mailing: None, now: datetime, settings: Any
) -> None:
    settings.EXLAB_BASE_URL = ""
    lab.run()
    discovery.discover(root, now=now)
    other = StagingRoot.objects.create(name="other", host=root.host, path="/other")
    for name, group, place in (("ada", "operator", root), ("bo", "operator", other), ("cy", "viewer", root)):
        user = User.objects.create_user(name, email=f"{name}@lab.example")
        user.user_permissions.set(Group.objects.get(name=group).permissions.all())
        Access.objects.create(user=user, root=place)
    elsewhere = User.objects.create_user("di", email="di@lab.example")
    elsewhere.user_permissions.set(Group.objects.get(name="operator").permissions.all())
    Access.objects.create(user=elsewhere, root=root, equipment="ANOTHER_02")
    samples(root, now, steadily)
    look(root, now)
    bodies = {letter.to[0]: letter.body for letter in mail.outbox}
    assert set(bodies) == {"admin@lab.example", "ada@lab.example", "di@lab.example"}
    assert "yours to clear: 1 run, " in bodies["ada@lab.example"]
    assert "No run there is safe to clear just now." in bodies["di@lab.example"], "none of di's instrument"
    assert f": {links.make_room(root)}\n" in bodies["ada@lab.example"], "the path alone, and no link"


def test_a_mail_server_that_fails_is_asked_again(
    root: StagingRoot, mailing: None, now: datetime, settings: Any
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9  # nothing listens there
    samples(root, now, steadily)
    look(root, now)
    assert "Error" in DiskForecast.objects.get().mail_problem
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    samples(root, now + 5 * MINUTE, steadily)
    look(root, now + 5 * MINUTE)
    assert len(mail.outbox) == 1
    assert DiskForecast.objects.get().mail_problem == ""


def test_a_real_disk_that_fills_up(
    tmp_path_factory: Any, now: datetime, db: None, enter: Any, time_machine: Any
) -> None:
    """Four hours of a filesystem of 64 MB, each ten minutes a file of 1 MB: measured, foreseen, told. Needs root."""
    from cleanup.lab.roots import registration
    from tests.faults import means

    place = tmp_path_factory.mktemp("disk")
    enter(means.tiny_disk(place, "64m"))
    (place / "staging").mkdir()
    (place / "nas").mkdir()
    root = registration.register(
        "small",
        str(place / "staging"),
        nas_path=str(place / "nas"),
        allow_same_filesystem=True,
        accept_empty=True,
        now=now,
    )
    for step in range(25):
        at = now + step * 10 * MINUTE
        (place / "staging" / f"{step}.bin").write_bytes(bytes(MB))
        assert disk_usage.measure(root, at) is not None
    at = now + 4 * HOUR
    time_machine.move_to(at, tick=False)
    assert tasks.watch_disks() == "1 disks nearly full"
    forecast = DiskForecast.objects.get()
    assert forecast.bytes_an_hour == pytest.approx(6 * MB, rel=0.05)
    assert forecast.full_at is not None and forecast.full_at - at == pytest.approx(6 * HOUR, abs=HOUR)
    for file in (place / "staging").glob("*.bin"):
        file.unlink()
    for step in range(1, 25):
        time_machine.move_to(at + step * 10 * MINUTE, tick=False)
        tasks.watch_disks()
    assert DiskForecast.objects.get().alarm_since is None
    assert open_alerts() == []
    assert Run.objects.count() == 0
