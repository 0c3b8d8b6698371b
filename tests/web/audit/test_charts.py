"""Pictures show what their tables say, to those who may see it, and hold nothing but shapes and text."""

import re
from datetime import timedelta
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db.models import Q
from django.test import Client
from django.urls import reverse

from cleanup.lab import policy_versions
from cleanup.models import Access, DiskUsage, Instrument, StagingRoot, Status
from cleanup.monitoring import forecasts
from cleanup.monitoring.forecasts import Coming, Foreseen
from cleanup.rules.announcements import AnnouncedAmount
from cleanup.web.audit.charts import CHARTS
from tests.tools.rows import clear_rows, run_row

pytestmark = pytest.mark.one_engine

GB = 1_000_000_000
NASTY = 'A\u202e<b>"&\x07'
RUN = "{}/PROJ-0042/Runs/Run_2026-0{}-0{}T10-00"


@pytest.fixture
def scene(db, now) -> SimpleNamespace:
    """Two roots; clears of eight instruments in spring, staged and blocked runs, and a disk with 80 days."""
    east, west = (
        StagingRoot.objects.create(name=name, host="lab-pc", path=f"/srv/{name}", token=name, discovered_at=now)
        for name in ("east", "west")
    )
    for number in range(1, 10):
        Instrument.objects.create(root=east, equipment=f"FLOW_0{number}")
        at = now - timedelta(days=10 * number)
        run = run_row(east, RUN.format(f"FLOW_0{number}", 1, number), first_seen_at=at, state="cleared", here=False)
        clear_rows(run, at, files=1, size=number * GB)
    DiskUsage.objects.bulk_create(
        DiskUsage(root=east, at=now - timedelta(days=day), total_bytes=1000 * GB, free_bytes=(400 + 5 * day) * GB)
        for day in range(80)
    )
    for number, (root, days, state, tone, reason) in enumerate(
        [
            (east, 0.5, "staging", Status.WAIT, "not_sync_verified"),
            (east, 3, "sync_verified", Status.BLOCK, "not_in_manifest"),
            (east, 40, "sync_verified", Status.GO, ""),
            (west, 100, "sync_verified", Status.BLOCK, "nas_checksum_mismatch"),
        ],
        start=1,
    ):
        seen = {"first_seen_at": now - timedelta(days=days), "verified_at": now - timedelta(hours=1)}
        where = RUN.format("CRYO_01", 2, number)
        run_row(root, where, state=state, tone=tone, reason=reason, bytes=10**number * GB, here=True, **seen)
    return SimpleNamespace(east=east, west=west)


def signed_in(group: str, **places) -> Client:
    user = User.objects.create_user(f"user-{User.objects.count()}")
    if places:
        user.user_permissions.set(Permission.objects.filter(Q(group__name=group)))
        Access.objects.create(user=user, **places)
    else:
        user.groups.add(Group.objects.get(name=group))
    client = Client()
    client.force_login(user)
    return client


def rows_of(client: Client, name: str, **query) -> list[list[str]]:
    answer = client.get(reverse("audit-chart-page", args=[name]), query)
    assert answer.status_code == 200
    return [[text for text, _ in row] for picture in answer.context["shown"] for row in picture.cells]


def picture_of(client: Client, name: str, **query) -> ET.Element:
    answer = client.get(reverse("audit-chart", args=[name]), query)
    assert answer.status_code == 200, (name, query)
    assert answer["Content-Type"] == "image/svg+xml"
    return ET.fromstring(answer.content)


def texts_of(picture: ET.Element) -> str:
    return " ".join(node.text or "" for node in picture.iter() if node.tag.endswith("text"))


def bars_in(picture: ET.Element) -> int:
    return sum("rect" in node.get("class", "").split() for node in picture.iter())


@pytest.mark.both_engines
def test_what_was_freed_by_month_and_instrument(scene):
    auditor = signed_in("auditor")
    rows = rows_of(auditor, "freed", year="2026")
    assert [row[0] for row in rows] == [f"2026-{month:02}" for month in range(1, 13)]
    # The six largest of nine, the others as one, and all of the month.
    assert rows[2] == ["2026-03", "9.00 GB", "8.00 GB", *["0 GB"] * 5, "17.00 GB"]
    assert rows[5] == ["2026-06", *["0 GB"] * 6, "1.00 GB", "1.00 GB"]
    picture = picture_of(auditor, "freed", year="2026")
    assert "all others" in texts_of(picture)
    assert bars_in(picture) == 7 * 12
    assert rows_of(auditor, "freed", since="2026-05-20", until="2026-06-30")[-1][-1] == "1,000 MB"


@pytest.mark.parametrize(
    "asked", [{"year": "0"}, {"year": "20x6"}, {"since": "tomorrow", "until": ""}, {"year": "1999"}]
)
def test_a_time_without_numbers_is_an_empty_table(scene, asked):
    auditor = signed_in("auditor")
    answer = auditor.get(reverse("audit-chart-page", args=["freed"]), asked)
    assert "Nothing was freed, " in answer.content.decode()
    assert ('<p class="note wait" role="alert">' in answer.content.decode()) is (asked != {"year": "1999"})
    assert "Nothing yet" in texts_of(picture_of(auditor, "freed", **asked))
    assert len(rows_of(auditor, "freed", since="0002-01-01", until="9998-12-31")) == 4


@pytest.mark.both_engines
def test_age_and_reasons(scene):
    auditor = signed_in("auditor")
    assert rows_of(auditor, "age") == [
        ["<1", "1", "0 B", "10.0 GB"],
        ["1-7", "1", "100.0 GB", "0 B"],
        ["7-30", "0", "0 B", "0 B"],
        ["30-90", "1", "1.00 TB", "0 B"],
        ["≥90", "1", "10.0 TB", "0 B"],
    ]
    rows = rows_of(auditor, "reasons")
    assert [tuple(row[:3]) for row in rows] == [
        ("nas_checksum_mismatch", "1", "10.0 TB"),
        ("not_in_manifest", "1", "100.0 GB"),
    ]
    assert "other bytes than verified" in texts_of(picture_of(auditor, "reasons"))


@pytest.mark.both_engines
def test_a_disk_with_its_clears_limit_and_forecast(scene, now):
    policy_versions.add_version(
        author="admin", now=now, rehearse=False, root=scene.east, free_start_bytes=300 * GB, free_stop_bytes=350 * GB
    )
    viewer = signed_in("viewer")
    rows = rows_of(viewer, "disks", root=scene.east.pk)
    assert rows[0] == ["2026-06-15", "600.0 GB", "60.0 %", "0 B"]
    assert rows[10] == ["2026-06-05", "550.0 GB", "55.0 %", "1.00 GB"]
    page = viewer.get(reverse("audit-chart-page", args=["disks"])).content.decode()
    assert "less than 300.0 GB is free, until 350.0 GB is free." in page
    assert "Forecast: full on 2026-0" in page
    assert "The disk of west was not measured yet." in page
    picture = picture_of(viewer, "disks", root=scene.east.pk)
    for words in ("fullest moment of each day", "days with clears", "limit", "forecast"):
        assert words in texts_of(picture)
    # The ninth clear is older than the first measurement.
    assert sum("dot" in node.get("class", "").split() for node in picture.iter()) == 7
    assert "Nothing yet" in texts_of(picture_of(viewer, "disks", root=scene.west.pk))


def test_passes_to_come_are_told_by_place(scene, now):
    policy = policy_versions.add_version(author="admin", now=now, rehearse=False, mode="scheduled")
    amounts = {"FLOW_02": AnnouncedAmount(runs=3, bytes=5 * GB), "CRYO_01": AnnouncedAmount(runs=1, bytes=GB)}
    at = now + timedelta(hours=3)
    coming = Foreseen(at=now, until=now + timedelta(days=1), passes=[Coming(at=at, by_instrument=amounts)])
    forecasts.keep(scene.east, coming, policy.version)
    address, query = reverse("audit-chart-page", args=["disks"]), {"root": scene.east.pk}
    said = r"Automatic clearing to come, [^<]+: {}\."
    assert re.search(said.format("4 runs, 6.00 GB"), signed_in("auditor").get(address, query).content.decode())
    mine = signed_in("viewer", root=scene.east, equipment="FLOW_02")
    assert re.search(said.format("3 runs, 5.00 GB"), mine.get(address, query).content.decode())


def test_viewers_see_their_places_and_not_what_was_freed(scene):
    mine = signed_in("viewer", root=scene.east)
    assert mine.get(reverse("audit-chart", args=["freed"])).status_code == 403
    assert mine.get(reverse("audit-chart-page", args=["freed"])).status_code == 403
    index = mine.get(reverse("audit-charts")).content.decode()
    assert "freed.svg" not in index
    assert f"disks.svg?root={scene.east.pk}" in index
    assert f"root={scene.west.pk}" not in index
    assert [row[0] for row in rows_of(mine, "reasons")] == ["not_in_manifest"]
    assert rows_of(mine, "age")[-1][1] == "0"
    assert mine.get(reverse("audit-chart", args=["disks"]), {"root": scene.west.pk}).status_code == 404
    one = signed_in("viewer", root=scene.east, equipment="FLOW_02")
    freed = [row[-1] for row in rows_of(one, "disks", root=scene.east.pk)]
    assert [size for size in freed if size != "0 B"] == ["2.00 GB"]
    nobody = Client()
    stranger = User.objects.create_user("stranger")
    nobody.force_login(stranger)
    for address in (reverse("audit-charts"), *(reverse("audit-chart", args=[name]) for name in CHARTS)):
        assert nobody.get(address).status_code == 403
        assert Client().get(address).status_code == 302
        assert mine.post(address).status_code == 405


@pytest.mark.parametrize("query", [{"root": "x"}, {"root": "9" * 30}, {"root": "²"}, {}])
def test_an_address_of_no_picture(scene, query):
    auditor = signed_in("auditor")
    assert auditor.get(reverse("audit-chart", args=["disks"]), query).status_code == 404
    assert auditor.get("/audit/charts/other.svg").status_code == 404
    assert auditor.get("/audit/charts/other/").status_code == 404


def test_a_picture_is_a_document_without_scripts_addresses_or_unseen_characters(scene, now):
    run = run_row(scene.west, RUN.format("X", 3, 1), first_seen_at=now, state="cleared", here=False)
    type(run).objects.filter(pk=run.pk).update(equipment=NASTY)
    run.refresh_from_db()
    clear_rows(run, now, files=1, size=500 * GB)
    StagingRoot.objects.filter(pk=scene.east.pk).update(name=NASTY)
    auditor = signed_in("auditor")
    for name in CHARTS:
        for narrow in ({}, {"narrow": "1"}):
            query = {"root": scene.east.pk, **narrow} if name == "disks" else narrow
            answer = auditor.get(reverse("audit-chart", args=[name]), query)
            text = answer.content.decode()
            picture = ET.fromstring(text)
            assert {node.tag.rpartition("}")[2] for node in picture.iter()} <= {
                *("svg", "defs", "style", "title", "g", "rect", "path", "text", "circle", "line")
            }
            assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r'\s(on\w+|style|href|xlink:href)="', text)
            assert "\u202e" not in text
            policy = {part.strip() for part in answer["Content-Security-Policy"].split(";")}
            assert {"default-src 'none'", "style-src 'unsafe-inline'"} <= policy
            sizes = [int(size) for size in re.findall(r"font:(\d+)px", text)]
            # A phone shows the narrow picture in its own size, a small window the wide one at 0.75.
            assert sizes and all(size * (1 if narrow else 0.75) >= 11 for size in sizes)
    assert r"A\u202e<b>" in texts_of(picture_of(auditor, "freed"))
