"""Signing in and out, and the error pages."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from cleanup.lab.people import record_names
from cleanup.models import AccountName
from cleanup.web.runs import run_list as run_views
from tests.tools.pages import SAFE

pytestmark = pytest.mark.one_engine


def test_signing_in_leads_to_where_one_wanted_to_go(people):
    client = Client()
    answer = client.post("/login/", {"username": "operator", "password": "operator", "next": "/?state=cleared"})
    assert (answer.status_code, answer.url) == (302, "/?state=cleared")
    assert client.get("/runs/").status_code == 200


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example", "javascript:alert(1)"])
def test_signing_in_leads_nowhere_else(people, elsewhere):
    answer = Client().post("/login/", {"username": "operator", "password": "operator", "next": elsewhere})
    assert answer.url == "/"


def test_a_wrong_password_says_so_and_no_more(people):
    answer = Client().post("/login/", {"username": "operator", "password": "wrong"})
    assert "do not belong together" in answer.content.decode()


def test_signing_out_is_by_post(people):
    assert people.operator.get("/logout/").status_code == 405
    assert people.operator.post("/logout/").url == "/login/"
    assert people.operator.get("/").status_code == 302


def test_a_fragment_of_an_ended_session_takes_its_page_to_the_sign_in(people, runs):
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/?equipment=FLOW_01"}
    answer = people.nobody.get(f"/runs/{runs[SAFE].pk}/row/", headers=headers, follow=True)
    assert answer.headers["HX-Redirect"] == "/login/?next=%2F%3Fequipment%3DFLOW_01"


@pytest.mark.parametrize("elsewhere", ["http://evil.example/", "http://testserver//evil.example/", "nonsense"])
def test_nor_does_a_fragment_of_an_ended_session(people, elsewhere):
    headers = {"HX-Request": "true", "HX-Current-URL": elsewhere}
    answer = people.nobody.get("/login/", headers=headers)
    assert answer.headers["HX-Redirect"].startswith("/login/?next=%2F")
    to = Client().get(answer.headers["HX-Redirect"]).context["next"]
    assert Client().post("/login/", {"username": "operator", "password": "operator", "next": to}).url == "/"


def test_nothing_at_an_address(people):
    answer = people.operator.get("/nothing/")
    assert answer.status_code == 404
    assert "There is nothing at this address" in answer.content.decode()
    assert people.nobody.get("/nothing/").status_code == 404


def test_a_fault_of_ours(people, runs, monkeypatch):
    def fall(*args, **kwargs):
        raise RuntimeError("a fault")

    monkeypatch.setattr(run_views.surroundings, "look", fall)
    answer = people.operator.get("/runs/")
    assert answer.status_code == 500
    assert "Something went wrong here" in answer.content.decode()


def test_every_page_carries_the_strict_policy(people, runs):
    for client, address in (
        (people.nobody, "/login/"),
        (people.operator, "/runs/"),
        (people.operator, f"/runs/{runs[SAFE].pk}/"),
        (people.admin, "/admin/"),
    ):
        answer = client.get(address)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        text = answer.content.decode()
        assert " style=" not in text
        assert "<style" not in text
        assert " on" + "click=" not in text
        assert "hx-on" not in text
        assert "<script>" not in text


def test_names_in_records_are_added_and_removed_by_the_account_itself(people):
    client = people.operator
    answer = client.post("/account/names/", {"name": " Anna  Weiß "}, follow=True)
    assert "Anna Weiß in a run&#x27;s record means you now." in answer.content.decode()
    for again in ("ANNA WEISS", "Operator", "", "x" * 129):
        answer = client.post("/account/names/", {"name": again})
        assert answer.status_code == 422 and 'role="alert"' in answer.content.decode(), again
    mine = AccountName.objects.get()
    people.viewer.post(f"/account/names/{mine.pk}/remove/")
    assert AccountName.objects.exists(), "of others"
    assert client.post(f"/account/names/{mine.pk}/remove/").url == "/account/"
    assert not AccountName.objects.exists()
    for number in range(record_names.MOST + 1):
        client.post("/account/names/", {"name": f"name {number}"})
    assert AccountName.objects.count() == record_names.MOST


def test_an_admin_enters_them_too_and_none_twice(people):
    user = User.objects.get(username="viewer")
    page = f"/admin/auth/user/{user.pk}/change/"
    form = people.admin.get(page).context["adminform"].form
    sent = {name: form.initial.get(name) or "" for name in ("username", "email", "first_name", "last_name")}
    sent |= {"date_joined_0": "2026-01-01", "date_joined_1": "10:00", "is_active": "on"}
    sent |= {f"record_names-{name}": value for name, value in {"TOTAL_FORMS": 2, "INITIAL_FORMS": 0}.items()}
    sent |= {"record_names-0-name": "Weiß", "record_names-0-user": user.pk, "record_names-1-user": user.pk}
    answer = people.admin.post(page, {**sent, "record_names-1-name": "WEISS"})
    assert "stands here twice" in answer.content.decode()
    assert people.admin.post(page, sent).status_code == 302
    assert AccountName.objects.get().folded == "weiss"
