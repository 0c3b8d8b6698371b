"""The page of what was freed: who sees it, which periods it takes, and where its numbers lead."""

import html
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from cleanup.models import DaySum, LedgerEntry
from cleanup.runs.holds import holds
from tests.tools import cleared
from tests.tools.rows import clear_rows, run_row

pytestmark = pytest.mark.django_db

MAY = datetime(2026, 5, 3, 12, tzinfo=UTC)


@pytest.fixture
def auditor(people: Any) -> Client:
    user = User.objects.create_user("auditor")
    user.groups.add(Group.objects.get(name="auditor"))
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


@pytest.fixture
def freed(root: Any, now: datetime) -> None:
    """Three clears: two by ada in May on FLOW_01, one by the schedule in March on another instrument."""
    for number, (equipment, at, fields) in enumerate(
        [
            ("FLOW_01", MAY, {"actor": "ada"}),
            ("FLOW_01", MAY + timedelta(days=2), {"actor": "ada"}),
            ("SEQ_02", MAY - timedelta(days=50), {"requester": "schedule", "cause": "free_space"}),
        ]
    ):
        path = f"{equipment}/PROJ-1/Runs/Run_2026-01-0{number + 1}T00-00"
        run = run_row(root, path, first_seen_at=at, verified_at=at - timedelta(hours=31), state="cleared", here=False)
        clear_rows(run, at, files=2, size=1_000_000 * (number + 1), **fields)


def text_of(response: Any) -> str:
    found = html.unescape(re.sub(r"<[^>]*>", " ", response.content.decode()))
    return re.sub(r"\s+", " ", found)


def addresses(response: Any, part: str) -> list[str]:
    return [html.unescape(found) for found in re.findall(r'href="([^"]*)"', response.content.decode()) if part in found]


def test_an_auditor_lands_here_and_sees_nothing_else(auditor: Client, freed: None) -> None:
    landed = auditor.get("/", follow=True)
    assert landed.redirect_chain == [("/audit/", 302)]
    text = text_of(landed)
    assert "Freed in 2026" in text and "auditor · auditor" in text
    places = re.findall(r"<li><a href=\"([^\"]*)\"", landed.content.decode().split("</nav>")[0])
    assert places == ["/audit/"]
    for address in ("/runs/", "/sweeps/", "/holds/", "/policies/", "/problems/", "/instruments/", "/clear/"):
        assert auditor.get(address).status_code == 403, address
    assert auditor.get("/admin/").status_code == 302


def test_the_page_says_what_was_freed(auditor: Client, freed: None) -> None:
    text = text_of(auditor.get("/audit/?year=2026"))
    assert "3 runs , 6 files, 6.00 MB" in text
    assert "0 at checksum, 0 at size, 0 at record, 3 without a proof that is kept" in text
    assert "half of the runs at most 1 day 12 h, nine of ten at most 1 day 12 h" in text
    assert "2026-03 3,000 kB 3,000 kB" in text and "2026-05 3,000 kB 3,000 kB" in text
    for words in ("a click on a page", "the disk was too full", "not recorded", "automatic clearing, no person"):
        assert words in text, words


def test_other_people_are_refused(people: Any, freed: None) -> None:
    for client in (people.operator, people.viewer, people.stranger):
        assert client.get("/audit/").status_code == client.get("/audit/entries/").status_code == 403
    assert people.nobody.get("/audit/").url.startswith("/login/")
    assert people.admin.get("/audit/").status_code == 200


@pytest.mark.parametrize("query", ["since=2026-05-02&until=2026-05-01", "year=1", "year=9998", "month=2011-02"])
def test_an_empty_or_absurd_range_is_an_empty_page(auditor: Client, freed: None, query: str) -> None:
    page, listed = auditor.get(f"/audit/?{query}"), auditor.get(f"/audit/entries/?{query}")
    assert (page.status_code, listed.status_code) == (200, 200)
    assert "Nothing was freed in this period." in text_of(page)
    assert "Nothing was cleared in this period." in text_of(listed)


@pytest.mark.parametrize(
    "query",
    [
        "year=x",
        "year=0",
        "year=99999",
        "since=yesterday",
        "until=2026-13-01",
        "month=2026-00",
        "year=%00",
        "since=0001-01-01",
    ],
)
def test_an_unreadable_range_is_said(auditor: Client, freed: None, query: str) -> None:
    for address in ("/audit/", "/audit/entries/"):
        response = auditor.get(f"{address}?{query}")
        assert response.status_code == 400, query
        assert 'role="alert"' in response.content.decode()


def test_values_that_cannot_be_give_an_empty_list(auditor: Client, freed: None) -> None:
    wrong = ["%00", "x" * 5_000, "%F0%9F%92%A9", "'; drop", "0+0+0+0", "?%C2%B2", "9" * 30, "9" * 4_400]
    for name in ("equipment", "project", "person", "trigger", "policy", "root", "proof", "refusal", "duration"):
        for value in wrong:
            response = auditor.get(f"/audit/entries/?year=2026&{name}={value}")
            assert response.status_code == 200, (name, value)
            assert "in this period." in text_of(response)
    for place in ("x", "1.x", "9" * 39 + ".1", "1." + "9" * 30, "-1.-1", "."):
        assert auditor.get(f"/audit/entries/?after={place}&before={place}").status_code == 200, place


def test_each_number_leads_to_its_rows(auditor: Client, root: Any) -> None:
    """Every link of the page, and the sums of the rows behind it; a second or two."""
    cleared.write(root, cleared.random_clears(60, 8, "UTC"))
    page = auditor.get("/audit/?since=2026-01-01&until=2026-10-25")
    body = page.content.decode()
    cell = (
        r'(?:<span class="unit">([^<]*): </span>)?<a href="(/audit/entries/[^"]*)"(?: title="([\d,]+) bytes?[^"]*")?>'
    )
    links = re.findall(cell + "([^<]+)</a>", body)
    assert len(links) > 150
    known: dict[str, list[Any]] = {}
    for column, address, exact, said in links:
        rows = known[address] = known.get(address) or _rows(auditor, html.unescape(address))
        assert SUMS[column or "Logical bytes"](rows) == int((exact or said).replace(",", "")), (column, address)
    assert {column for column, *_rest in links} == {*SUMS, ""}
    lead = re.search(r'<p class="lead"><a href="([^"]*)">(.*?)</a>', body)
    assert lead and html.unescape(lead[1]) == "/audit/entries/?since=2026-01-01&until=2026-10-25"
    rows = _rows(auditor, html.unescape(lead[1]))
    assert re.sub("<[^>]*>", "", lead[2]).startswith(f"{SUMS['Runs'](rows)} runs, {SUMS['Files'](rows):,} files, ")


SUMS: dict[str, Any] = {
    "Runs": lambda rows: sum(not row.had_earlier for row in rows),
    "Refusals": len,
    "Files": lambda rows: sum(row.files for row in rows),
    "Logical bytes": lambda rows: sum(row.bytes for row in rows),
    "Allocated bytes": lambda rows: sum(row.allocated_bytes for row in rows),
    "Measured bytes": lambda rows: sum(row.measured_bytes or 0 for row in rows),
}


def _rows(client: Client, address: str) -> list[Any]:
    response = client.get(address)
    assert response.status_code == 200, address
    rows = list(response.context["page"].rows)
    for link in addresses(response, "after="):
        rows += _rows(client, "/audit/entries/" + link[link.index("?") :])
    return rows


def test_a_list_leads_to_receipts(auditor: Client, freed: None) -> None:
    response = auditor.get("/audit/entries/?month=2026-05&equipment=FLOW_01")
    text = text_of(response)
    assert "Cleared in May 2026" in text and "instrument: FLOW_01" in text
    runs = LedgerEntry.objects.filter(equipment="FLOW_01", kind="completed").order_by("-at")
    assert addresses(response, "receipt") == [f"/runs/{run.run_id}/receipt/" for run in runs]
    assert "SEQ_02" not in text
    assert addresses(response, "/runs/") == addresses(response, "receipt")  # no page that an auditor may not open


def test_files_and_pictures_that_are_not_there_are_not_linked(auditor: Client, freed: None) -> None:
    from django.urls import NoReverseMatch, reverse

    body = auditor.get("/audit/").content.decode()
    for name, arguments, part in (
        ("audit-table", ["months", "csv"], "tables/months.csv"),
        ("audit-chart", ["freed"], "<img"),
    ):
        try:
            reverse(name, args=arguments)
        except NoReverseMatch:
            assert part not in body
        else:
            assert part in body


def test_an_older_zone_is_said(auditor: Client, freed: None) -> None:
    assert "counted in" not in text_of(auditor.get("/audit/"))
    DaySum.objects.filter(day="2026-03-14").update(zone="Asia/Tokyo")
    DaySum.objects.filter(day="2026-03-01", of_month=True).update(zone="Asia/Tokyo")
    assert "Older days of this period were counted in Asia/Tokyo" in text_of(auditor.get("/audit/"))


def test_names_are_spelled_out(auditor: Client, root: Any) -> None:
    run = run_row(root, "FLOW_01/PROJ-1/Runs/Run_2026-01-01T00-00", first_seen_at=MAY)
    run.equipment, run.project = "a\u202eb", "<script>"
    clear_rows(run, MAY, files=1, size=1, actor="<b>&")
    for address in ("/audit/", "/audit/entries/"):
        body = auditor.get(address).content.decode()
        assert "\u202e" not in re.sub(r'href="[^"]*"', "", body) and "<script>" not in body.split("<main")[1]
        assert "&lt;b&gt;&amp;" in body


def test_what_is_still_staged_leads_to_the_list_for_those_who_may_open_it(
    auditor: Client, people: Any, root: Any, now: datetime
) -> None:
    run_row(root, "FLOW_01/PROJ-1/Runs/Run_2026-01-01T00-00", first_seen_at=now)
    run = run_row(root, "FLOW_01/PROJ-1/Runs/Run_2026-01-02T00-00", first_seen_at=now, bytes=7_000)
    holds.hold(run, owner="ada & co", reason="referees", until=now + timedelta(days=9), now=now)
    page = people.admin.get("/audit/")
    # Runs, logical and allocated bytes; of the holds runs and bytes.
    assert addresses(page, "verdict=") == ["/runs/?root=lab&verdict=wait"] * 3
    (address,) = set(addresses(page, "owner="))
    assert addresses(page, "owner=") == [address] * 2
    listed = text_of(people.admin.get(address))
    assert "held by ada & co on runs that are on a staging disk now" in listed and "1 run held, 7.00 kB" in listed
    assert not addresses(auditor.get("/audit/"), "verdict=") and not addresses(auditor.get("/audit/"), "owner=")


def test_tables_are_offered_for_excel_too(auditor: Client, freed: None) -> None:
    for page in ("/audit/?year=2026", "/audit/months/2026-05/"):
        offered = addresses(auditor.get(page), "bom=1")
        assert offered and all(f"{address}&bom=1" in offered for address in addresses(auditor.get(page), ".csv?")[::2])
        content = b"".join(auditor.get(offered[0]).streaming_content)  # type: ignore[attr-defined]
        assert content.startswith(b"\xef\xbb\xbf"), page
