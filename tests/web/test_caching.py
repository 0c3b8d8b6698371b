"""What browsers may keep of pages and their parts."""

import re

import pytest
from django.test import Client
from django.urls import reverse

from cleanup.clears import batches, preview
from cleanup.clears.preview import RequestedRuns
from cleanup.models import ClearBatch, Instrument
from tests.tools.pages import SAFE

pytestmark = pytest.mark.one_engine


HTMX = {"HX-Request": "true"}
RESTORING = {**HTMX, "HX-History-Restore-Request": "true"}


@pytest.fixture
def batch(people, runs, now) -> ClearBatch:
    from django.contrib.auth.models import User

    user = User.objects.get(username="operator")
    shown = preview.preview(user, RequestedRuns.of([runs[SAFE].pk]), now)
    return batches.place(
        user, RequestedRuns.of([runs[SAFE].pk]), digest=shown.digest, key=None, typed="", note="", now=now
    )


def pages_of(runs, batch) -> dict[str, str]:
    token = Instrument.objects.get(equipment="CONFOCAL_01").token
    return {
        "/": reverse("overview-now"),
        "/sweeps/": reverse("sweep-changes"),
        f"/runs/{runs[SAFE].pk}/": reverse("run-live", args=[runs[SAFE].pk]),
        f"/batches/{batch.pk}/": reverse("batch-progress", args=[batch.pk]),
        f"/bench/{token}/": reverse("bench-now", args=[token]),
    }


def is_page(answer) -> bool:
    return answer.status_code == 200 and answer.content.lstrip().startswith(b"<!doctype html>")


def test_nothing_is_kept_that_needs_a_sign_in(people, runs, batch):
    number = runs[SAFE].pk
    addresses = [*pages_of(runs, batch), *pages_of(runs, batch).values()]
    addresses += ["/runs/", "/runs/changes/", f"/runs/{number}/row/", f"/runs/{number}/clear/", "/nothing/", "/admin/"]
    addresses += [f"/runs/{number}/hold/", "/problems/", "/policies/", "/batches/", "/holds/", "/instruments/"]
    for headers in ({}, HTMX):
        for address in addresses:
            answer = people.admin.get(address, headers=headers)
            assert "no-store" in answer["Cache-Control"], address
            assert "HX-Request" in answer["Vary"], address


def test_neither_are_the_sign_in_and_what_is_refused(people, runs):
    for answer in (
        people.nobody.get("/login/"),
        people.nobody.get("/runs/"),
        people.stranger.get("/runs/"),
        people.operator.post(f"/runs/{runs[SAFE].pk}/row/"),
        Client(enforce_csrf_checks=True).post("/login/"),
        people.operator.get("/", headers={"host": "elsewhere.example"}),
    ):
        assert "no-store" in answer["Cache-Control"], answer.status_code


def test_a_picture_of_a_public_bench_is_kept_and_no_other(people, runs):
    instrument = Instrument.objects.get(equipment="CONFOCAL_01")
    address = reverse("bench-qr", args=[instrument.token])
    assert "no-store" in people.viewer.get(address)["Cache-Control"]
    assert (
        "no-store" in people.nobody.get(address)["Cache-Control"]
    )  # the way to the sign-in, or it would be taken again
    Instrument.objects.update(public=True)
    assert people.nobody.get(address)["Cache-Control"] == "private, max-age=3600"


def test_a_page_and_the_part_that_it_renews_have_each_an_address(people, runs, batch):
    """A page's address never gives a part, and a part's address leads to the page."""
    for page, part in pages_of(runs, batch).items():
        assert is_page(people.operator.get(page)), page
        assert is_page(people.operator.get(page, headers=RESTORING)), page
        answer = people.operator.get(part, headers=HTMX)
        assert answer.status_code == 200, part
        assert b"<html" not in answer.content, part
        for headers in ({}, RESTORING):
            opened = people.operator.get(part, headers=headers)
            assert (opened.status_code, opened["Location"]) == (302, page), part


def test_what_pages_ask_for_by_themselves_is_never_a_page(people, runs, batch):
    """A page that polls its own address would put its fragment in the page's place in a browser's store."""
    polled = set()
    for page in [*pages_of(runs, batch), "/runs/", "/problems/"]:
        text = people.operator.get(page).content.decode()
        for tag in re.findall(r"<[^>]+hx-get=[^>]+>", text):
            if re.search(r'hx-trigger="(every|load)', tag):
                polled.add(re.search(r'hx-get="([^"?]+)', tag)[1])
    assert len(polled) >= 5
    for address in polled:
        assert not is_page(people.operator.get(address)), address


def test_a_page_of_an_older_version_that_polls_its_own_address_loads_itself_anew(people, runs, batch):
    for page in pages_of(runs, batch):
        if page != "/":  # which picks its part out of the page
            assert people.operator.get(page, headers=HTMX)["HX-Refresh"] == "true", page


def test_a_dialog_is_a_page_where_its_address_is_opened(people, runs):
    for address in (f"/runs/{runs[SAFE].pk}/clear/", f"/runs/{runs[SAFE].pk}/hold/"):
        assert people.operator.get(address, headers=HTMX).content.lstrip().startswith(b"<dialog")
        assert is_page(people.operator.get(address))
        assert is_page(people.operator.get(address, headers=RESTORING))
