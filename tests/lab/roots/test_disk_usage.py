import os
from datetime import datetime, timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from cleanup import clear_run, tasks
from cleanup.lab.roots import disk_usage
from cleanup.models import DiskUsage, LedgerEntry, Run, StagingRoot
from cleanup.runs import discovery
from tests.tools.lab import Lab

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

TB, GB = 10**12, 10**9
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def sample(root: StagingRoot, at: datetime, free: int, total: int = 8 * TB) -> DiskUsage:
    return DiskUsage.objects.create(root=root, at=at, total_bytes=total, free_bytes=free)


def look(root: StagingRoot, now: datetime) -> disk_usage.Outlook:
    found = disk_usage.outlook(root, now)
    assert found is not None
    return found


def test_measures_what_an_ordinary_user_may_have(root: StagingRoot, lab: Lab, now: datetime) -> None:
    usage = disk_usage.measure(root, now)
    assert usage is not None
    disk = os.statvfs(lab.staging)
    assert usage.total_bytes == (disk.f_blocks - disk.f_bfree + disk.f_bavail) * disk.f_frsize
    assert 0 < usage.free_bytes <= usage.total_bytes
    assert list(DiskUsage.objects.all()) == [usage]


def test_keeps_two_samples_in_ten_minutes_at_most(root: StagingRoot, now: datetime) -> None:
    """Each sample is taken, since a clear may have changed the disk; it replaces one younger than ten minutes."""
    minutes = (0, 5, 9, 12, 13, 21, 40)
    for after in minutes:
        assert disk_usage.measure(root, now + timedelta(minutes=after)) is not None
    kept = [(sample.at - now) / timedelta(minutes=1) for sample in DiskUsage.objects.order_by("at")]
    assert kept == [0, 9, 13, 21, 40]


def test_a_sample_of_a_clock_that_was_ahead_does_not_stop_measuring(root: StagingRoot, now: datetime) -> None:
    sample(root, now + 3 * DAY, free=0)
    assert disk_usage.measure(root, now) is not None
    assert look(root, now).at == now


def test_forgets_after_ninety_days(root: StagingRoot, now: datetime) -> None:
    for days in (91, 90, 89):
        sample(root, now - days * DAY, free=TB)
    disk_usage.measure(root, now)
    assert list(DiskUsage.objects.order_by("at").values_list("at", flat=True)) == [now - 90 * DAY, now - 89 * DAY, now]


def test_measures_no_disk_but_the_right_one(root: StagingRoot, lab: Lab, now: datetime) -> None:
    token = root.token
    root.token = "11111111-1111-4111-8111-111111111111"
    assert disk_usage.measure(root, now) is None
    root.token, root.host = token, "another-host"
    assert disk_usage.measure(root, now) is None
    root.host = settings.EXLAB_HOST
    lab.staging.rename(lab.base / "away")
    assert disk_usage.measure(root, now) is None
    assert not DiskUsage.objects.exists()


def test_each_discovery_measures(root: StagingRoot) -> None:
    tasks.discover()
    assert DiskUsage.objects.filter(root=root).count() == 1


def test_a_disk_that_was_never_measured_has_no_outlook(root: StagingRoot, now: datetime) -> None:
    assert disk_usage.outlook(root, now) is None


def test_one_sample_tells_no_pace(root: StagingRoot, now: datetime) -> None:
    sample(root, now, free=TB)
    assert look(root, now) == disk_usage.Outlook(at=now, total_bytes=8 * TB, free_bytes=TB)


def test_some_hours_are_needed_for_a_pace(root: StagingRoot, now: datetime) -> None:
    sample(root, now - 6 * HOUR + timedelta(minutes=1), free=2 * TB)
    sample(root, now, free=TB)
    assert look(root, now).pace is None
    sample(root, now - 6 * HOUR, free=2 * TB)
    found = look(root, now)
    assert (found.pace, found.span) == (4 * TB, 6 * HOUR)
    assert found.full_at == now + 6 * HOUR


def test_the_pace_is_that_of_the_last_seven_days(root: StagingRoot, now: datetime) -> None:
    sample(root, now - 8 * DAY, free=8 * TB)
    sample(root, now - 7 * DAY, free=4 * TB)
    sample(root, now - 3 * DAY, free=TB)
    sample(root, now, free=TB // 2)
    found = look(root, now)
    assert (found.since, found.pace) == (now - 7 * DAY, TB // 2)
    assert found.full_at == now + DAY
    assert found.used_bytes == 7 * TB + TB // 2


def test_what_we_freed_in_the_meantime_had_arrived_as_well(root: StagingRoot, lab: Lab) -> None:
    now = timezone.now()  # a clear's last row carries the real time
    lab.run()
    discovery.discover(root, now=now)
    sample(root, now - DAY, free=TB)
    clear_run(Run.objects.get(), now=now, actor="operator")
    freed = LedgerEntry.objects.totals()["allocated_bytes"]
    assert freed > 0
    sample(root, now + HOUR, free=TB)
    found = look(root, now + HOUR)
    assert found.pace == pytest.approx(freed / (25 / 24))
    assert found.is_filling


def test_a_disk_that_empties_is_never_full(root: StagingRoot, now: datetime) -> None:
    sample(root, now - DAY, free=TB)
    sample(root, now, free=2 * TB)
    found = look(root, now)
    assert found.pace == -TB
    assert found.full_at is None
    assert not found.is_filling


def test_a_year_ahead_is_not_forecast(root: StagingRoot, now: datetime) -> None:
    sample(root, now - DAY, free=TB + GB)
    sample(root, now, free=TB)
    found = look(root, now)
    assert found.pace == GB
    assert found.full_at is None


def test_old_samples_alone_tell_how_full_it_was_and_no_pace(root: StagingRoot, now: datetime) -> None:
    sample(root, now - 20 * DAY, free=2 * TB)
    sample(root, now - 10 * DAY, free=TB)
    found = look(root, now)
    assert (found.at, found.free_bytes, found.pace) == (now - 10 * DAY, TB, None)


def test_each_root_by_itself_and_no_query_more_for_many(
    root: StagingRoot, now: datetime, django_assert_num_queries
) -> None:
    roots = [root]
    for number in range(5):
        other = StagingRoot.objects.create(name=f"other {number}", host="h", path=f"/other/{number}")
        sample(other, now - DAY, free=2 * TB)
        sample(other, now, free=TB - number)
        roots.append(other)
    with django_assert_num_queries(2):
        found = disk_usage.outlooks(roots, now)
    assert root.pk not in found
    assert [found[other.pk].free_bytes for other in roots[1:]] == [TB - number for number in range(5)]
    assert [found[other.pk].pace for other in roots[1:]] == [TB + number for number in range(5)]
