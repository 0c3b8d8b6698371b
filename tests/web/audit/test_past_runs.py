"""Runs of the past: how they are found, by whom, and what the NAS says of them now."""

import hashlib
import html
import re
import shutil
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils.http import urlencode

from cleanup.clears import protocol
from cleanup.lab.nas import nas_breaker
from cleanup.lab.roots import opening
from cleanup.models import Access, ClearAttempt, Project, Requester, Run, StagingRoot
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.storage.nas import client as nas_client
from cleanup.storage.staging import plan
from cleanup.storage.staging.run_tree import Entry
from cleanup.web import paging
from cleanup.web.audit import past_runs
from tests.tools.lab import Lab
from tests.tools.rows import clear_rows, run_row

NAME = "FLOW_01/PROJ-0060/Runs/Run_2026-04-10T14-32"


def signed_in(client: Client, group: str = "auditor") -> Client:
    user = User.objects.create_user(f"one-{group}")
    user.groups.add(Group.objects.get(name=group))
    client.force_login(user)
    return client


def found(client: Client, **asked: str) -> list[int]:
    page = client.get(f"/audit/runs/?{urlencode(asked)}")
    assert page.status_code == 200
    return [int(key) for key in re.findall(r'<tr role="row" id="past-(\d+)">', page.content.decode())]


@pytest.fixture
def past(db: None, now: datetime) -> list[Run]:
    """Five cleared runs, a day apart, the latest first; the last was cleared by the wizard. One run is staged."""
    lab, other = (
        StagingRoot.objects.create(name=name, host="lab-pc", path=f"/srv/{name}", token=name, nas_path="/mnt/nas")
        for name in ("lab", "other")
    )
    Project.objects.create(code="PROJ-1", title="Dose response")
    made = []
    for number in range(5):
        path = f"{('FLOW_01', 'CONFOCAL_01')[number % 2]}/PROJ-{number % 3}/Runs/Run_2026-04-1{number}T14-32"
        at = now - number * timedelta(days=1)
        run = run_row(
            other if number == 3 else lab,
            path,
            first_seen_at=now,
            state="cleared",
            here=False,
            cleared_at=at,
            cleared_for=("ada", "bob", "", "ada", "")[number],
            cleared_by="wizard" if number == 4 else "",
        )
        if number != 4:
            clear_rows(run, at, files=10, size=1000, actor=run.cleared_for, twin_path=f"/mnt/nas/then/{number}")
        made.append(run)
    run_row(lab, "FLOW_01/PROJ-0/Runs/Run_2026-05-01T14-32", first_seen_at=now, state="sync_verified")
    return made


def test_runs_are_found_by_what_is_known_of_them(past: list[Run], client: Client) -> None:
    keys = [run.pk for run in past]
    auditor = signed_in(client)
    assert found(auditor) == keys
    assert found(auditor, equipment="CONFOCAL_01") == [keys[1], keys[3]]
    assert found(auditor, project="PROJ-0", person="ada") == [keys[0], keys[3]]
    assert found(auditor, since="2026-06-13", until="2026-06-14") == [keys[1], keys[2]]
    assert found(auditor, q="flow 04-12") == [keys[2]]
    assert found(auditor, q="dose response") == [keys[1], keys[4]]
    assert found(auditor, q="nothing") == found(auditor, person="eve") == []
    assert found(auditor, since="2026-07-01", until="2026-01-01") == []
    # What is no day is said and not looked for.
    page = auditor.get("/audit/runs/?since=yesterday&until=9999-12-31&equipment=" + "x" * 300)
    assert page.content.decode().count("this is not understood") == 3 and found(auditor, since="0001-01-01") == keys
    text = auditor.get("/audit/runs/").content.decode()
    assert "/mnt/nas/then/0" in text and f'href="/runs/{keys[0]}/receipt/"' in text
    assert "by the wizard" in text and "/mnt/nas/FLOW_01/PROJ-1/Runs/Run_2026-04-14T14-32" in text
    assert 'href="/runs/' + f'{keys[0]}/"' not in text  # an auditor may not open the run itself


def test_they_are_sorted_by_their_clear_or_by_whom(past: list[Run], client: Client, monkeypatch: Any) -> None:
    auditor, keys = signed_in(client), [run.pk for run in past]
    assert found(auditor, sort="first") == keys[::-1]
    by_person = [keys[2], keys[4], keys[0], keys[3], keys[1]]
    assert found(auditor, sort="person") == by_person
    assert found(auditor, sort="person", since="2026-06-12", equipment="FLOW_01") == [keys[2], keys[0]]
    assert found(auditor, person="ADA") == [], "no account has this name in another spelling"
    User.objects.create_user("ada")
    assert found(auditor, person="ADA") == found(auditor, person="ada") == [keys[0], keys[3]]
    monkeypatch.setattr(paging.page_of, "__kwdefaults__", {**(paging.page_of.__kwdefaults__ or {}), "size": 2})
    for sort, order in (("first", keys[::-1]), ("person", by_person)):
        address, seen = f"/audit/runs/?sort={sort}", []
        while address:
            text = auditor.get(address).content.decode()
            seen += [int(key) for key in re.findall(r'<tr role="row" id="past-(\d+)">', text)]
            following = re.search(r'href="([^"]+)"[^>]*rel="next"|rel="next"[^>]*href="([^"]+)"', text)
            address = html.unescape(following[1] or following[2]) if following else ""
        assert seen == order


def test_pages_go_on_where_the_last_one_ended(past: list[Run], client: Client, monkeypatch: Any) -> None:
    monkeypatch.setattr(paging.page_of, "__kwdefaults__", {**(paging.page_of.__kwdefaults__ or {}), "size": 2})
    auditor, keys = signed_in(client), [run.pk for run in past]
    page = auditor.get("/audit/runs/")
    seen = []
    while True:
        seen.append([row.run.pk for row in page.context["rows"]])
        if not (following := page.context["links"]["next"]):
            break
        page = auditor.get(following)
    assert seen == [keys[:2], keys[2:4], keys[4:]]
    assert [row.run.pk for row in auditor.get(page.context["links"]["previous"]).context["rows"]] == keys[2:4]


def test_others_see_their_places_alone(past: list[Run], client: Client) -> None:
    operator = signed_in(client, "operator")
    assert found(operator) == [run.pk for run in past]
    user = User.objects.get(username="one-operator")
    user.groups.clear()
    user.user_permissions.set(Group.objects.get(name="viewer").permissions.all())
    Access.objects.create(user=user, root=StagingRoot.objects.get(name="other"))
    assert found(client) == [past[3].pk] == found(client, equipment="CONFOCAL_01")
    assert client.post(f"/audit/runs/{past[0].pk}/nas/").status_code == 404
    user.user_permissions.clear()
    assert client.get("/audit/runs/").status_code == 403


def test_a_page_asks_the_database_a_few_times(
    past: list[Run], client: Client, django_assert_max_num_queries: Any
) -> None:
    auditor = signed_in(client)
    with django_assert_max_num_queries(12):
        assert len(found(auditor)) == 5


# By file name


def write_list(run: Run, *names: str) -> None:
    """The plan of a run's clear on this host, with these files."""
    attempt = run.attempts.get()
    entries = tuple(Entry(name.encode(), True, 5, 1, 10, 10, 1, 1) for name in names)
    content = plan.encode(plan.Plan(attempt.pk.hex, run.run_path, 4, entries))
    opening.data_dir().write_plan(attempt.pk.hex, content)
    digest = hashlib.sha256(content).hexdigest()
    ClearAttempt.objects.filter(pk=attempt.pk).update(plan_sha256=digest, host=settings.EXLAB_HOST)


def seen_in(page: Any) -> str:
    return " ".join(re.sub("<[^>]*>", " ", page.content.decode().split("<main")[1]).split())


def test_runs_are_found_by_the_names_of_their_files(past: list[Run], client: Client) -> None:
    """Of five runs one was cleared by the wizard, one on another host, and the list of one is gone."""
    auditor = signed_in(client)
    write_list(past[0], "raw/Movie_01.tif", "raw/movie_02.tif", "raw/movie_03.tif", "raw/movie_04.tif", "notes.txt")
    write_list(past[1], "movies/\u202egpj.exe")
    ClearAttempt.objects.filter(run=past[2]).update(host=settings.EXLAB_HOST)
    page = auditor.get("/audit/runs/?file=MOVIE")
    text = seen_in(page)
    assert [row.run.pk for row in page.context["rows"]] == [past[0].pk, past[1].pk]
    assert "raw/Movie_01.tif raw/movie_02.tif raw/movie_03.tif and more" in text and "notes.txt" not in text
    assert "movies/\\u202egpj.exe" in text
    assert "Looked through the files of 2 runs , back to 11 June 2026. There are no older ones." in text
    assert "1 run, whose lists of files are on the host lab-pc: type manage.py audit --runs --file" in text
    assert "1 run that another program cleared" in text
    assert "1 run, whose lists of files are gone from the data directory" in text
    for run in past[2:]:
        assert f'href="/runs/{run.pk}/receipt/"' in page.content.decode() and run.run_path in text
    # Together with what else is known of them.
    assert found(auditor, file="movie", equipment="CONFOCAL_01") == [past[1].pk]
    assert found(auditor, file="notes.TXT") == [past[0].pk] and found(auditor, file="Run_2026") == []
    ClearAttempt.objects.filter(run=past[0]).update(plan_sha256="0" * 64)
    assert "1 run, whose lists of files cannot be read or were changed" in seen_in(auditor.get("/audit/runs/?file=x"))
    nothing = seen_in(auditor.get("/audit/runs/?file=nothing"))
    assert "Nothing found in the lists that were looked through." in nothing and "No cleared run" not in nothing
    assert "not understood" in seen_in(auditor.get("/audit/runs/?file=" + "x" * 300))


def test_a_search_by_file_name_goes_on_where_its_time_ended(past: list[Run], client: Client, monkeypatch: Any) -> None:
    auditor = signed_in(client)
    for run in past[:4]:
        write_list(run, *(f"{number}.tif" for number in range(4_100)), f"of-{run.pk}.txt")
    monkeypatch.setattr(past_runs, "_SECONDS", 0.0)
    seen, address = [], "/audit/runs/?file=of-"
    while address:
        page = auditor.get(address)
        seen.append([row.run.pk for row in page.context["rows"]])
        assert page.context["search"].looked == (len(seen) < 5)
        address = page.context["links"]["further"]
        assert ("look further" in page.content.decode()) is bool(address)
    assert seen == [*([run.pk] for run in past[:4]), []]
    page = auditor.get("/audit/runs/?file=nothing")
    assert "Nothing found so far." in seen_in(page) and page.context["search"].looked == 1
    # A full page ends there as well.
    monkeypatch.setattr(past_runs, "_SECONDS", 60.0)
    monkeypatch.setattr(past_runs, "PAGE_SIZE", 3)
    page = auditor.get("/audit/runs/?file=of-")
    assert len(page.context["rows"]) == 3
    assert [row.run.pk for row in auditor.get(page.context["links"]["further"]).context["rows"]] == [past[3].pk]
    # Few search at one time; the others are told.
    with past_runs._turns, past_runs._turns:
        page = auditor.get("/audit/runs/?file=of-")
        assert page.status_code == 503 and "Try again" in seen_in(page)
    assert found(auditor, file="of-") != []


def test_file_names_are_for_those_who_see_the_run(past: list[Run], client: Client) -> None:
    for run in past[:4]:
        write_list(run, "a.tif")
    signed_in(client, "operator")
    user = User.objects.get(username="one-operator")
    user.groups.clear()
    user.user_permissions.set(Group.objects.get(name="viewer").permissions.all())
    Access.objects.create(user=user, root=StagingRoot.objects.get(name="other"))
    page = client.get("/audit/runs/?file=a.tif")
    assert [row.run.pk for row in page.context["rows"]] == [past[3].pk] and page.context["search"].looked == 1


# The NAS


@pytest.fixture
def cleared(lab: Lab, root: StagingRoot, now: datetime) -> Run:
    """A run with four data files, two of them ours, cleared by ada."""
    lab.run(NAME, files={"a.tif": b"x" * 1000, "sub/b.tif": b"y" * 500})
    discovery.discover(root, now=now)
    protocol.clear_run(Run.objects.with_root().get(), requester=Requester.OPERATOR, actor="ada", note="", now=now)
    return Run.objects.get()


def answer(client: Client, run: Run) -> str:
    page = client.post(f"/audit/runs/{run.pk}/nas/", headers={"HX-Request": "true"})
    assert page.status_code == 200
    return " ".join(re.sub("<[^>]*>", "", page.content.decode()).split())


def test_the_nas_says_whether_it_has_the_run_still(cleared: Run, lab: Lab, client: Client) -> None:
    auditor = signed_in(client)
    assert cleared.cleared_for == "ada" and found(auditor, person="ada") == [cleared.pk]
    assert found(auditor, file="SUB/b.t") == [cleared.pk] and found(auditor, file="c.tif") == []
    there = answer(auditor, cleared)
    assert "Yes, the NAS still has it: 4 files, 1.56 kB. Each file has the name and the size" in there
    (lab.twin(NAME) / "sub/b.tif").write_bytes(b"y" * 499)
    assert "Missing, or of another size: sub/b.tif" in answer(auditor, cleared)
    (lab.twin(NAME) / "sub/b.tif").unlink()
    told = answer(auditor, cleared)
    assert "Not as it was: the NAS has 3 files, 1.06 kB; when the run was cleared it had 4 files, 1.56 kB" in told
    whole = auditor.post(f"/audit/runs/{cleared.pk}/nas/").content.decode()  # without scripts: a page
    assert "<h1>Is it still on the NAS?</h1>" in whole and "sub/b.tif" in whole
    shutil.rmtree(lab.twin(NAME))
    assert "No: there is no such run on the NAS now." in answer(auditor, cleared)


def test_without_the_plan_numbers_are_compared(cleared: Run, lab: Lab, client: Client) -> None:
    attempt = cleared.attempts.get()
    ClearAttempt.objects.update(plan_sha256="0" * 64)
    auditor = signed_in(client)
    assert "That is as much as when the run was cleared (4 files, 1.56 kB). Single files" in answer(auditor, cleared)
    (lab.twin(NAME) / "a.tif").unlink()
    assert "Not as it was: the NAS has 3 files, " in answer(auditor, cleared)
    ClearAttempt.objects.filter(pk=attempt.pk).update(proof=None)
    assert "The NAS has 3 files, " in answer(auditor, cleared)


def test_what_cannot_be_learnt_is_not_called_gone(
    cleared: Run, root: StagingRoot, lab: Lab, client: Client, monkeypatch: Any
) -> None:
    auditor = signed_in(client)
    assert "Yes" in answer(auditor, cleared)

    def silent(*_args: Any, **_named: Any) -> Any:
        raise nas_client.NasError(Finding(Reason.NAS_TIMEOUT, "silent for 60 s"), ill=True)

    with monkeypatch.context() as patch:
        patch.setattr(nas_client.NasReader, "read", silent)
        told = answer(auditor, cleared)
    assert "Not known:" in told and "silent for 60 s" in told and "does not say that the data is gone" in told
    # Then it is not asked for five minutes, as anywhere else.
    assert nas_breaker.NOT_ASKED in answer(auditor, cleared)
    StagingRoot.objects.update(host="elsewhere")
    assert "host elsewhere reads this NAS" in answer(auditor, cleared)
    StagingRoot.objects.update(host=root.host, nas_path=f"{lab.nas}/moved")
    assert "lies beneath no NAS root that the run has now" in answer(auditor, cleared)
    StagingRoot.objects.update(nas_path="")
    assert "Not known:" in answer(auditor, cleared)
