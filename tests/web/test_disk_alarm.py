"""The alarm of a disk on the pages, and its mark."""

import re
from datetime import timedelta

import pytest

from cleanup.models import DiskUsage, StagingRoot
from cleanup.monitoring import disk_alarms, links

pytestmark = pytest.mark.one_engine

GB, TB = 10**9, 10**12


def fill(root, now, *, free, an_hour):
    DiskUsage.objects.bulk_create(
        DiskUsage(
            root=root,
            at=now - timedelta(minutes=10 * index),
            total_bytes=8 * TB,
            free_bytes=round(free + an_hour * index / 6),
        )
        for index in range(25)
    )
    return disk_alarms.look_at(root, now)


@pytest.mark.both_engines
def test_the_fullest_disk_comes_first_and_says_when_it_is_full(people, runs, root, now):
    soon, sooner = (
        StagingRoot.objects.create(name=name, host=root.host, path=f"/{name}", discovered_at=now)
        for name in ("mezzo", "zeta")
    )
    fill(soon, now, free=TB, an_hour=100 * GB)
    fill(sooner, now, free=TB, an_hour=500 * GB)
    fill(root, now, free=4 * TB, an_hour=0)
    text = people.operator.get("/").content.decode()
    names = re.findall(r'<a id="all-\d+"[^>]*>(\w+)</a>', text)
    assert names == ["zeta", "mezzo", "lab"]
    first = text.partition('<section class="card disk"')[2].partition("</section>")[0]
    assert ">Full at about 10:00</strong>" in first.partition("<header")[0]
    assert f'href="{links.make_room(sooner).replace("&", "&amp;")}"' in first
    text = people.operator.get("/problems/").content.decode()
    assert "Full at about 18:00: 87 % used" in text
    assert f'href="{links.make_room(soon).replace("&", "&amp;")}" aria-label="Make room: mezzo"' in text


def test_an_admin_sets_the_mark(people, root, now):
    address = f"/roots/{root.pk}/alarm/"
    assert address in people.admin.get("/").content.decode()
    assert address not in people.operator.get("/").content.decode()
    assert 'value="85"' in people.admin.get(address).content.decode()
    for wrong in ({"percent": 0}, {"percent": 101}, {"hours": 0}, {"hours": 73}, {"percent": "much"}):
        assert people.admin.post(address, wrong).status_code == 422
    assert people.operator.post(address, {"percent": 60}).status_code == 403
    assert people.admin.post(address, {"percent": 60, "hours": ""}).status_code == 302
    root.refresh_from_db()
    assert (root.alarm_percent, root.alarm_hours) == (60, None)
    assert "alarm at 60 %</a>" in people.admin.get("/").content.decode()
    found = fill(root, now, free=3 * TB, an_hour=TB)
    assert found is not None and found.alarm_since == now
