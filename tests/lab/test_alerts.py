"""One open row for each kind and subject."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection

from cleanup.lab import alerts
from cleanup.lab.alerts import AlertState
from cleanup.models import Alert, AlertKind, Run
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from tests.tools.lab import Lab

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


def opened(kind: AlertKind = AlertKind.CLUSTER) -> dict[str, Alert]:
    return {alert.subject: alert for alert in Alert.objects.filter(kind=kind, ended_at=None)}


def test_opens_once_and_refreshes(now: datetime, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cleanup.lab.alerts")
    first = alerts.open_alert(AlertKind.CLUSTER, "a", reason=Reason.CLUSTER_SILENT, now=now, detail="for 3 minutes")
    later = alerts.open_alert(
        AlertKind.CLUSTER, "a", reason=Reason.CLUSTER_SILENT, now=now + MINUTE, detail="for 4 minutes"
    )
    assert later.pk == first.pk
    assert (later.since, later.seen_at, later.detail) == (now, now + MINUTE, "for 4 minutes")
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_what_an_instrument_wrote_makes_no_second_line_in_the_log(
    now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    detail = "kept\n2026-06-15 INFO cleanup: all is well\x1b[2K"
    alert = alerts.open_alert(AlertKind.HOLD, "a", reason=Reason.HOLD_OLD, now=now, detail=detail)
    (record,) = caplog.records
    assert record.getMessage().isprintable()
    assert alert.detail == detail


def test_ends_once_and_may_open_again(now: datetime, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cleanup.lab.alerts")
    alerts.open_alert(AlertKind.CLUSTER, "a", reason=Reason.CLUSTER_SILENT, now=now)
    assert alerts.end_alert(AlertKind.CLUSTER, "a", now=now + MINUTE)
    assert not alerts.end_alert(AlertKind.CLUSTER, "a", now=now + 2 * MINUTE)
    assert Alert.objects.get().ended_at == now + MINUTE
    alerts.open_alert(AlertKind.CLUSTER, "a", reason=Reason.CLUSTER_SILENT, now=now + 3 * MINUTE)
    assert opened()["a"].since == now + 3 * MINUTE
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING"]


def test_the_same_subject_of_another_kind_is_another_alert(now: datetime) -> None:
    alerts.open_alert(AlertKind.CLUSTER, "a", reason=Reason.CLUSTER_SILENT, now=now)
    alerts.open_alert(AlertKind.HOST, "a", reason=Reason.HOST_UNSERVED, now=now)
    assert not alerts.end_alert(AlertKind.SCHEDULE, "a", now=now)
    assert alerts.end_alert(AlertKind.HOST, "a", now=now)
    assert set(opened()) == {"a"}


def test_a_runs_root_is_its_alerts_too(lab: Lab, root: Any, now: datetime) -> None:
    lab.run()
    discovery.discover(root, now=now)
    run = Run.objects.select_related("root").get()
    alerts.open_alert(AlertKind.STALLED_RUN, "r", reason=Reason.STALLED, now=now, run=run)
    assert opened(AlertKind.STALLED_RUN)["r"].root == root


def seen(*subjects: str, detail: str = "") -> list[AlertState]:
    return [AlertState(subject=subject, reason=Reason.CLUSTER_SILENT, detail=detail) for subject in subjects]


def test_keeps_only_what_is_named_and_only_within_its_part(root: Any, now: datetime) -> None:
    for subject in ("a:1", "a:2", "A:3", "b:1"):
        alerts.open_alert(AlertKind.CLUSTER, subject, reason=Reason.CLUSTER_SILENT, now=now)
    alerts.open_alert(AlertKind.CLUSTER, "a:4", reason=Reason.CLUSTER_SILENT, now=now, root=root)
    alerts.settle(AlertKind.CLUSTER, seen("a:1", "a:4"), now=now, prefix="a:")
    assert set(opened()) == {"a:1", "a:4", "A:3", "b:1"}
    alerts.settle(AlertKind.CLUSTER, [], now=now, root=root)
    assert set(opened()) == {"a:1", "A:3", "b:1"}
    alerts.settle(AlertKind.CLUSTER, seen("A:3"), now=now)
    assert set(opened()) == {"A:3"}


def test_settles_on_exactly_what_is_wrong(now: datetime) -> None:
    alerts.settle(AlertKind.CLUSTER, seen("a", "b"), now=now)
    alerts.settle(AlertKind.CLUSTER, seen("b", "c"), now=now + MINUTE)
    assert {subject: (alert.since, alert.seen_at) for subject, alert in opened().items()} == {
        "b": (now, now + MINUTE),
        "c": (now + MINUTE, now + MINUTE),
    }
    alerts.settle(AlertKind.CLUSTER, seen("b", "c", detail="worse"), now=now + 2 * MINUTE)
    assert [alert.detail for alert in opened().values()] == ["worse", "worse"]
    assert Alert.objects.count() == 3


def test_many_that_stay_the_same_cost_few_queries(
    now: datetime, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    troubles = [AlertState(subject=f"run:{number}", reason=Reason.STALLED) for number in range(1500)]
    Alert.objects.bulk_create(
        Alert(kind=AlertKind.STALLED_RUN, subject=one.subject, reason=one.reason, since=now, seen_at=now)
        for one in troubles
    )
    with django_assert_max_num_queries(6):
        alerts.settle(AlertKind.STALLED_RUN, troubles, now=now + MINUTE)
    assert Alert.objects.filter(seen_at=now + MINUTE).count() == 1500


def test_long_subjects_are_told_apart(now: datetime) -> None:
    for end in "ab":
        alerts.open_alert(AlertKind.ORPHAN, "x" * 300 + end, reason=Reason.STRAY_FILE, now=now)
    assert len(opened(AlertKind.ORPHAN)) == 2
    assert alerts.end_alert(AlertKind.ORPHAN, "x" * 300 + "a", now=now)
    assert len(opened(AlertKind.ORPHAN)) == 1


def test_what_cannot_be_written_at_all_is_no_race(now: datetime) -> None:
    with pytest.raises(IntegrityError):
        alerts.open_alert("weather", "a", reason=Reason.STALLED, now=now)  # type: ignore[arg-type]
    assert not Alert.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_many_at_once_make_one_row_and_none_fails(now: datetime) -> None:
    faults: list[BaseException] = []
    barrier = threading.Barrier(4)

    def act() -> None:
        try:
            for number in range(5):
                barrier.wait(20)
                alerts.open_alert(AlertKind.CLUSTER, f"a{number}", reason=Reason.CLUSTER_SILENT, now=now)
                barrier.wait(20)
                alerts.end_alert(AlertKind.CLUSTER, f"a{number - 1}", now=now + MINUTE)
        except BaseException as error:
            faults.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=act) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults == []
    assert Alert.objects.count() == 5
    assert set(opened()) == {"a4"}
