"""The policy form overwrites no version that its user has not seen."""

import html
import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.db import IntegrityError
from django.test import Client

from cleanup.lab import policy_versions
from cleanup.models import Access, RetentionPolicy, StagingRoot
from cleanup.rules import anomalies
from cleanup.rules.policies.fields import ROOT_FIELDS, SWEEP_FIELDS
from cleanup.runs.holds import holds
from tests.tools.pages import SAFE

ADDRESS = "/policies/change/"
LAB = f"{ADDRESS}?root=&equipment=&project=&run_kind="
ROOT = f"{ADDRESS}?root=lab&equipment=&project=&run_kind="

EVERYTHING = {
    "mode": ("scheduled", "scheduled"),
    "retain_hours": ("30d", 720),
    "proof": ("size", "size"),
    "min_retain_hours": ("36h", 36),
    "stalled_after_hours": ("90m", 1.5),
    "max_bytes": ("1.5TB", 1_500_000_000_000),
    "max_runs": ("500", 500),
    "free_start_bytes": ("100GB", 100 * 10**9),
    "free_stop_bytes": ("200GiB", 200 * 2**30),
    "budget_runs": ("50", 50),
    "budget_bytes": ("250000000", 250_000_000),
    "budget_minutes": ("2h", 120),
    "max_share": ("40%", 0.4),
    "rehearsal_nights": ("5", 5),
}
pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]


def page(client, address):
    response = client.get(address)
    assert response.status_code == 200, address
    return response.content.decode()


def filled(client, address, **typed):
    form = client.get(address).context["form"]
    where = client.get(address).context["where"]
    sent = {field.name: field.value() or "" for field in [*where, form["made_from"]]}
    for group in form.groups():
        sent |= {field.name: field.value() or "" for field in group.fields}
    return {**sent, "made_from": form["made_from"].value(), **typed}


def save(client, address, **typed):
    return send(client, filled(client, address, **typed))


def send(client, sent, **extra):
    response = client.post(ADDRESS, sent, **extra)
    shown = response.context["preview"] if response.context else None
    return client.post(ADDRESS, {**sent, "seen": shown.digest}, **extra) if shown else response


def error_at(response, name):
    text = response.content.decode()
    found = re.search(rf'id="(?:policy|scope)-{name}_error">(.*?)</div>', text, re.DOTALL)
    return html.unescape(found[1]) if found else ""


def alert(response):
    return html.unescape(response.content.decode().split('role="alert">', 1)[1].split("</div>")[0])


# Who may


def test_only_an_admin_is_offered_and_may_write(people, policy):
    policy(mode="manual")
    assert page(people.admin, "/policies/").count(ADDRESS) == 2  # a new one, and a change of the one in force
    assert ADDRESS in page(people.admin, "/policies/1/")
    for client in (people.operator, people.viewer):
        assert ADDRESS not in page(client, "/policies/")
        assert ADDRESS not in page(client, "/policies/1/")
        assert client.get(LAB).status_code == 403
        assert client.post(ADDRESS, {"made_from": 1, "retain_hours": "1"}).status_code == 403
    assert people.stranger.get(LAB).status_code == 403
    assert people.nobody.post(ADDRESS, {"made_from": 1, "retain_hours": "1"}).status_code == 302
    assert people.admin.put(ADDRESS).status_code == 405
    assert RetentionPolicy.objects.count() == 1


def test_a_form_from_elsewhere_is_refused(people, policy):
    policy(mode="manual")
    client = Client(enforce_csrf_checks=True)
    client.cookies = people.admin.cookies
    assert client.post(ADDRESS, filled(people.admin, LAB, retain_hours="1")).status_code == 403
    assert RetentionPolicy.objects.count() == 1


# The scope


def test_asks_first_where_the_policy_shall_apply(people, runs):
    text = page(people.admin, ADDRESS)
    assert "Where shall the policy apply?" in text
    for name in ("Every staging root", ">lab<", "CONFOCAL_01", "PROJ-0042", "experimental"):
        assert name in text
    assert 'method="post" action="/policies/' not in text


@pytest.mark.parametrize(
    ("name", "typed", "near"),
    [("root", "lap", "lab"), ("equipment", "CONFOKAL_01", "CONFOCAL_01"), ("project", "PROJ-0024", "PROJ-0042")],
)
def test_an_unknown_name_is_answered_with_the_nearest(people, runs, name, typed, near):
    response = people.admin.get(ADDRESS, {name: typed})
    assert response.status_code == 422
    assert f"{typed} is not known here; nearest: " in error_at(response, name)
    assert near in error_at(response, name)

    response = people.admin.post(ADDRESS, filled(people.admin, LAB, retain_hours="77h", **{name: typed}))
    assert response.status_code == 422
    assert near in error_at(response, name)
    text = response.content.decode()
    assert f'<option value="{typed}" selected>' in text
    assert 'value="77h"' in text
    assert not RetentionPolicy.objects.exists()


@pytest.mark.parametrize("typed", ["a\x00b", "\u202eX", "x" * 5000, "<script>"])
def test_a_name_that_is_none_is_shown_for_what_it_is(people, runs, typed):
    response = people.admin.get(ADDRESS, {"equipment": typed})
    assert response.status_code == 422
    assert "is not known here" in error_at(response, "equipment")
    for raw in ("\x00", "\u202e", "<script>X", "x" * 256):
        assert raw not in response.content.decode()


def test_an_unknown_kind_of_run_is_refused(people):
    assert "nearest: test" in error_at(people.admin.get(ADDRESS, {"run_kind": "tests"}), "run_kind")


def test_a_name_of_a_policy_is_known_without_runs(people, policy):
    policy(equipment="FLOW & <b>02</b>", mode="manual")
    address = re.search(r'href="(/policies/change/\?[^"]+)"', page(people.admin, "/policies/"))[1]
    response = save(people.admin, html.unescape(address), retain_hours="12h")
    assert response.status_code == 302
    assert RetentionPolicy.objects.get(version=2).equipment == "FLOW & <b>02</b>"


# What is written


def test_every_field_is_written_and_comes_back_as_it_was_typed(people, root):
    typed = {name: text for name, (text, _value) in EVERYTHING.items()}
    response = save(people.admin, ROOT, **typed, note="as agreed on Monday")
    assert response.status_code == 302, response.content.decode()
    version = RetentionPolicy.objects.get()
    assert {name: getattr(version, name) for name in EVERYTHING} == {
        name: value for name, (_text, value) in EVERYTHING.items()
    }
    assert (version.root, version.author, version.note) == (root, "admin", "as agreed on Monday")
    assert version.rehearsal == "rehearsing"

    shown = people.admin.get(ROOT).context["form"]
    said = {name: shown[name].value() for name in EVERYTHING}
    assert said["retain_hours"] == "30 days"
    assert said["max_bytes"] == "1.5 TB"
    assert said["max_share"] == "40 %"
    assert said["budget_minutes"] == "2 h"
    # What the page says means the same when it is typed.
    policy_versions.add_version(
        root=root, author="ada", now=version.created_at, **{**dict.fromkeys(EVERYTHING), "mode": "", "proof": ""}
    )
    save(people.admin, ROOT, **said)
    newest = RetentionPolicy.objects.get(version=3)
    assert {name: getattr(newest, name) for name in EVERYTHING} == {name: getattr(version, name) for name in EVERYTHING}


def test_an_empty_field_leaves_it_to_wider_scopes(people, root, policy):
    policy(root=root, **{name: value for name, (_text, value) in EVERYTHING.items()})
    response = save(people.admin, ROOT, **dict.fromkeys(EVERYTHING, ""))
    assert response.status_code == 302, response.content.decode()
    version = RetentionPolicy.objects.get(version=2)
    assert {getattr(version, name) for name in EVERYTHING} == {None, ""}


def test_a_duration_of_nothing_is_a_value(people, policy):
    save(people.admin, LAB, retain_hours="0")
    assert RetentionPolicy.objects.get().retain_hours == 0
    assert people.admin.get(LAB).context["form"]["retain_hours"].value() == "0 h"


def test_a_policy_that_lets_runs_go_at_once_asks_first(people, runs):
    """Shown, saved, asked with the number of runs that go, and only then written."""
    sent = filled(people.admin, LAB, mode="scheduled", retain_hours="0", rehearse="no")
    shown = people.admin.post(ADDRESS, sent)
    assert "0 h: a run goes at once, as soon as verified." in shown.content.decode()
    digest = shown.context["preview"].digest
    number = len(shown.context["preview"].then.wanted)
    asked = people.admin.post(ADDRESS, {**sent, "seen": digest})
    assert asked.status_code == 200
    assert "Is 0 h meant?" in asked.content.decode()
    assert number > 0
    assert f"as soon as verified: {number} runs, " in asked.content.decode()
    assert not RetentionPolicy.objects.exists()
    assert people.admin.post(ADDRESS, {**sent, "seen": digest, "at_once": "something else"}).status_code == 200
    assert not RetentionPolicy.objects.exists()
    assert people.admin.post(ADDRESS, {**sent, "at_once": digest}).status_code == 302
    assert RetentionPolicy.objects.get().retain_hours == 0
    text = html.unescape(page(people.admin, "/policies/"))
    assert "cleared at once, as soon as verified" in text
    assert "0 h" not in text
    assert people.admin.get(LAB).context["form"]["retain_hours"].value() == "0 h"  # which can be typed again


def test_what_is_left_as_it_stands_keeps_its_very_value(people, policy):
    policy(mode="scheduled", retain_hours=100.123456789, min_retain_hours=1e-7, max_share=1 / 3)
    response = save(people.admin, LAB, stalled_after_hours="2d")
    assert response.status_code == 302, response.content.decode()
    version = RetentionPolicy.objects.get(version=2)
    assert (version.retain_hours, version.min_retain_hours, version.max_share) == (100.123456789, 1e-7, 1 / 3)
    assert version.stalled_after_hours == 48


def test_a_field_that_is_not_sent_is_carried_over(people, root, policy):
    policy(root=root, mode="scheduled", retain_hours=48, max_bytes=10**12, rehearsal_nights=0, rehearse=False)
    response = send(people.admin, {"root": "lab", "made_from": 1, "retain_hours": "3d"})
    assert response.status_code == 302, response.content.decode()
    version = RetentionPolicy.objects.get(version=2)
    assert (version.mode, version.max_bytes, version.rehearsal_nights) == ("scheduled", 10**12, 0)
    assert (version.retain_hours, version.rehearsal) == (72, "off")


def test_the_page_says_what_the_policy_now_means(people):
    address = save(people.admin, LAB, mode="scheduled", retain_hours="2d")["Location"]
    assert address == "/policies/1/"
    text = page(people.admin, address)
    assert "Version 1 was written. the whole lab: scheduled, kept 2 days after verification" in text
    assert "It is rehearsed first" in text


def test_other_scopes_stay_as_they_are(people, runs, policy):
    policy(mode="scheduled", retain_hours=24)
    save(people.admin, f"{ADDRESS}?equipment=FLOW_01&project=PROJ-0060&run_kind=test", mode="manual")
    lab, flow = sorted(RetentionPolicy.objects.in_force(), key=lambda version: version.version)
    assert (lab.version, lab.mode) == (1, "scheduled")
    assert (flow.equipment, flow.project, flow.run_kind, flow.mode) == ("FLOW_01", "PROJ-0060", "test", "manual")
    assert flow.retain_hours is None


def test_says_what_an_empty_field_comes_to(people, runs, policy):
    policy(mode="scheduled", retain_hours=36, budget_runs=7)
    text = page(people.admin, f"{ADDRESS}?equipment=FLOW_01")
    assert "Not set here: scheduled" in text
    assert "Empty: 36 h." in text
    assert "Not set here: manual" in page(people.admin, LAB)


# Rehearsal


def test_whether_it_is_rehearsed_first(people, policy):
    assert "It is in force from the next pass on, and never rehearsed." in page(
        people.admin, save(people.admin, LAB, mode="scheduled", retain_hours="2d", rehearse="no")["Location"]
    )
    assert RetentionPolicy.objects.get(version=1).rehearsal == "off"
    assert people.admin.get(LAB).context["form"]["rehearse"].value() == "no"
    save(people.admin, LAB, retain_hours="1d")
    assert RetentionPolicy.objects.get(version=2).rehearsal == "off"
    save(people.admin, LAB, rehearse="yes", rehearsal_nights="0")
    version = RetentionPolicy.objects.get(version=3)
    assert (version.rehearsal, version.rehearsal_nights) == ("rehearsing", 0)


def test_a_promoted_policy_that_can_only_keep_more_needs_no_new_rehearsal(people, policy):
    policy(mode="scheduled", retain_hours=24, stage="promoted")
    response = save(people.admin, LAB, retain_hours="2d")
    assert RetentionPolicy.objects.get(version=2).rehearsal == "promoted"
    assert "It is in force from the next pass on." in page(people.admin, response["Location"])
    save(people.admin, LAB, retain_hours="1h")
    assert RetentionPolicy.objects.get(version=3).rehearsal == "rehearsing"


# Mistakes


@pytest.mark.parametrize(
    ("typed", "at", "sentence"),
    [
        ({"retain_hours": "-1"}, "retain_hours", "-1 is no duration between 0 and 87660 hours"),
        ({"retain_hours": "nan"}, "retain_hours", "between 0 and 87660 hours"),
        ({"retain_hours": "inf"}, "retain_hours", "between 0 and 87660 hours"),
        ({"retain_hours": "1e400"}, "retain_hours", "between 0 and 87660 hours"),
        ({"retain_hours": "99999d"}, "retain_hours", "between 0 and 87660 hours"),
        ({"retain_hours": "a\x00b"}, "retain_hours", "Null characters"),
        ({"retain_hours": "9" * 70}, "retain_hours", "at most 60 characters"),
        ({"retain_hours": "\u202e7d"}, "retain_hours", "\\u202e7d is no duration"),
        ({"retain_hours": "24", "min_retain_hours": "48"}, "min_retain_hours", "cannot be longer than the retention"),
        ({"stalled_after_hours": "soon"}, "stalled_after_hours", "soon is no duration"),
        ({"budget_minutes": "0"}, "budget_minutes", "0 is no duration above 0"),
        ({"budget_runs": "0"}, "budget_runs", "greater than or equal to 1"),
        ({"budget_bytes": "0"}, "budget_bytes", "greater than or equal to 1"),
        ({"max_share": "0"}, "max_share", "is no share"),
        ({"max_share": "120%"}, "max_share", "120% is no share"),
        ({"max_share": "NaN"}, "max_share", "is no share"),
        ({"rehearsal_nights": "-1"}, "rehearsal_nights", "is no whole number"),
        ({"rehearsal_nights": "1000"}, "rehearsal_nights", "less than or equal to 365"),
        ({"max_bytes": "5G"}, "max_bytes", "5G is no size such as"),
        ({"max_bytes": "2000PB"}, "max_bytes", "is no size such as"),
        ({"max_runs": "1.5"}, "max_runs", "is no whole number"),
        ({"free_start_bytes": "200GB", "free_stop_bytes": "100GB"}, "free_stop_bytes", "must stop at more free space"),
        ({"free_start_bytes": "200GB", "free_stop_bytes": "200GB"}, "free_stop_bytes", "must stop at more free space"),
        ({"free_start_bytes": "200GB"}, "free_start_bytes", "Free space needs both"),
        ({"mode": "automatic"}, "mode", "automatic is not one of the available choices"),
        ({"proof": "trust"}, "proof", "trust is not one of the available choices"),
        ({"rehearse": "perhaps"}, "rehearse", "perhaps is not one of the available choices"),
        ({"retain_hours": "1", "note": "x" * 501}, "note", "at most 500 characters"),
        ({"retain_hours": "1", "note": "a\x1b[2Jb"}, "note", "Write one line of text."),
    ],
)
def test_a_mistake_is_said_at_its_field_and_nothing_is_stored(people, root, typed, at, sentence):
    response = save(people.admin, ROOT, **typed)
    assert response.status_code == 422
    assert sentence in error_at(response, at)
    text = response.content.decode()
    assert re.search(rf'id="policy-{at}"[^>]*aria-describedby="[^"]*policy-{at}_error"', text) or re.search(
        rf'aria-describedby="[^"]*policy-{at}_error"[^>]*id="policy-{at}"', text
    )
    assert "Nothing was written" in alert(response)
    if at not in ("mode", "proof", "rehearse"):
        assert response.context["form"][at].value() == typed[at]
    assert not RetentionPolicy.objects.exists()


def test_every_mistake_is_said_at_once(people, root):
    response = save(people.admin, ROOT, retain_hours="-1", max_bytes="much", note="a\nb\x07")
    assert all(error_at(response, name) for name in ("retain_hours", "max_bytes", "note"))


@pytest.mark.parametrize(
    ("scope", "names", "sentence"),
    [
        ("root=", ROOT_FIELDS, "A limit of this kind is set for one staging root as a whole."),
        ("root=lab&run_kind=test", ROOT_FIELDS, "A limit of this kind is set for one staging root as a whole."),
        ("equipment=FLOW_01", SWEEP_FIELDS, "The limits of a pass are set for a staging root, or for the whole lab."),
    ],
)
def test_what_needs_a_staging_root_is_not_offered_elsewhere_and_refused(people, runs, scope, names, sentence):
    address = f"{ADDRESS}?{scope}"
    text = page(people.admin, address)
    assert "These limits are set for one staging root as a whole." in text
    for name in names:
        assert f'name="{name}"' not in text
    response = save(people.admin, address, **{next(name for name in names if name.endswith("_runs")): "5"})
    assert response.status_code == 422
    assert any(sentence in error_at(response, name) for name in names)
    assert not RetentionPolicy.objects.exists()


def test_a_form_that_says_nothing_new_writes_nothing(people, policy):
    for sent in ({}, {"note": "because"}):
        response = save(people.admin, LAB, **sent)
        assert response.status_code == 422
        assert "There is nothing to write" in alert(response)
    assert not RetentionPolicy.objects.exists()
    policy(mode="scheduled", retain_hours=24)
    for sent in ({}, {"note": "because"}, {"retain_hours": "1d"}, {"retain_hours": " 24 h "}):
        assert "There is nothing to write" in alert(save(people.admin, LAB, **sent))
    assert RetentionPolicy.objects.count() == 1


@pytest.mark.parametrize("made_from", [None, "", "x", "-1", "9" * 5000])
def test_an_empty_or_broken_form_writes_nothing(people, made_from):
    sent = {} if made_from is None else {"made_from": made_from, "retain_hours": "1"}
    response = people.admin.post(ADDRESS, sent)
    assert response.status_code == 422
    assert "The form was incomplete: open it anew." in alert(response)
    assert not RetentionPolicy.objects.exists()


# Two at once


def test_a_form_made_from_an_older_version_writes_nothing_and_says_by_whom(people, policy):
    policy(mode="scheduled", retain_hours=24)
    sent = filled(people.admin, LAB, retain_hours="1h")
    policy(retain_hours=240, note="the disk is new")
    for also in ({}, {"max_share": "nonsense"}):
        response = people.admin.post(ADDRESS, {**sent, **also})
        assert response.status_code == 422
        assert "Nothing was written: admin has written version 2 meanwhile." in alert(response)
        assert '<a href="/policies/2/">' in alert(response)
        assert f'<a href="{LAB}">' in alert(response)
        assert response.context["form"]["retain_hours"].value() == "1h"
        assert response.context["form"]["made_from"].value() == "1"  # sent again it is still refused
    assert RetentionPolicy.objects.get(version=2).retain_hours == 240
    assert RetentionPolicy.objects.count() == 2


def test_a_first_version_is_not_written_over_another_first_one(people, policy):
    sent = filled(people.admin, LAB, retain_hours="1h")
    policy(retain_hours=240)
    assert "has written version 1 meanwhile" in alert(people.admin.post(ADDRESS, sent))
    assert RetentionPolicy.objects.count() == 1


def test_a_version_of_another_scope_does_not_conflict(people, runs, policy):
    policy(mode="scheduled", retain_hours=24)
    sent = filled(people.admin, LAB, retain_hours="1h")
    policy(equipment="FLOW_01", mode="manual")
    assert send(people.admin, sent).status_code == 302
    assert RetentionPolicy.objects.get(version=3).retain_hours == 1


def test_a_form_made_for_another_scope_writes_nothing(people, runs, policy):
    policy(equipment="FLOW_01", mode="manual")
    sent = filled(people.admin, f"{ADDRESS}?equipment=FLOW_01", retain_hours="1h")
    response = people.admin.post(ADDRESS, {**sent, "equipment": "CONFOCAL_01"})
    assert "Nothing was written: version 1 is none of this scope." in alert(response)
    assert RetentionPolicy.objects.count() == 1


def test_nothing_is_written_where_a_version_slips_in_between_check_and_write(people, policy, now, monkeypatch):
    policy(mode="scheduled", retain_hours=24)
    sent = filled(people.admin, LAB, retain_hours="1h")
    add_version = policy_versions.add_version

    def after_another(**fields):
        add_version(author="bob", now=now - timedelta(seconds=1), retain_hours=240)
        return add_version(**fields)

    monkeypatch.setattr(policy_versions, "add_version", after_another)
    response = send(people.admin, sent)
    assert "Nothing was written: another version was written at the same moment." in alert(response)
    assert RetentionPolicy.objects.get().retain_hours == 24

    def taken(**fields):
        raise IntegrityError("version")

    monkeypatch.setattr(policy_versions, "add_version", taken)
    assert "at the same moment" in alert(send(people.admin, sent))


# The page


def test_every_field_has_its_label_and_its_hint(people, root):
    text = page(people.admin, ROOT)
    for name in EVERYTHING:
        assert f'<label for="policy-{name}">' in text
        control = re.search(rf'<(?:input|select)[^>]*id="policy-{name}"[^>]*>', text)[0]
        if name != "mode":
            assert f'aria-describedby="policy-{name}_helptext"' in control
            assert f'id="policy-{name}_helptext"' in text
    assert "Beware of record: nothing on the NAS is looked at" in text
    assert "style=" not in text


# The preview


def test_what_would_go_is_shown_first_and_nothing_is_written(people, runs, policy):
    policy(mode="scheduled", retain_hours=1000, rehearse=False)
    response = people.admin.post(ADDRESS, filled(people.admin, LAB, retain_hours="1h"))
    assert response.status_code == 200
    text = " ".join(response.content.decode().split())
    then, today = response.context["preview"].then, response.context["preview"].today
    assert (len(then.going), len(today.going)) == (3, 2)
    assert re.search(r"With the next pass <strong>3 runs, <span [^>]*>[\d.]+ kB</span></strong> would go", text)
    assert "(now: 2 runs, " in text
    assert SAFE in text
    assert 'value="1h"' in text  # what was typed stays
    assert "Save as a new version" in text
    assert RetentionPolicy.objects.count() == 1


def test_a_rehearsal_is_said_in_words(people, runs):
    text = people.admin.post(ADDRESS, filled(people.admin, LAB, mode="scheduled")).content.decode()
    assert "nothing goes for 3 clean nights" in text
    sent = filled(people.admin, LAB, mode="scheduled", rehearsal_nights="0")
    assert "nothing goes until an admin promotes it" in people.admin.post(ADDRESS, sent).content.decode()
    response = people.admin.post(ADDRESS, filled(people.admin, LAB, mode="manual"))
    assert "Nothing goes by itself" in response.content.decode()


def test_a_rehearsal_says_what_its_first_pass_leaves_and_what_stops_it(people, runs, root, now, monkeypatch):
    asked = {"mode": "scheduled", "retain_hours": "1h", "budget_runs": "2", "budget_minutes": "30"}
    asked["max_share"] = "5%"
    text = " ".join(people.admin.post(ADDRESS, filled(people.admin, LAB, **asked)).content.decode().split())
    assert re.search(r"As things are, <strong>2 runs, .{1,80} would go with the first pass after that", text)
    assert re.search(r"<p>1 run, .{1,80}, more would be left to later passes", text)
    assert "One pass takes at most 30 minutes." in text
    monkeypatch.setattr(anomalies, "MIN_RUNS", 1)
    text = " ".join(people.admin.post(ADDRESS, filled(people.admin, LAB, **asked)).content.decode().split())
    assert re.search(r"As things are, <strong>0 runs, .{1,80} would go with the first pass after that", text)
    assert re.search(r"<strong>A safety stop keeps 2 runs, .{1,80} in that pass,</strong>", text)
    assert "more than 5% of the" in text


def test_what_has_changed_since_it_was_shown_is_shown_again(people, runs, policy, now):
    sent = filled(people.admin, LAB, mode="scheduled", retain_hours="1h", rehearse="no")
    seen = people.admin.post(ADDRESS, sent).context["preview"].digest
    holds.hold(runs[SAFE], owner="bob", reason="needed", until=now + timedelta(days=1), now=now)
    response = people.admin.post(ADDRESS, {**sent, "seen": seen})
    assert response.status_code == 200
    assert "what would go is not what you had seen" in response.content.decode()
    assert not RetentionPolicy.objects.exists()
    again = response.context["preview"].digest
    other = people.admin.post(ADDRESS, {**sent, "retain_hours": "2h", "seen": again})  # typed anew after the preview
    assert "what would go is not what you had seen" in other.content.decode()
    assert not RetentionPolicy.objects.exists()
    assert people.admin.post(ADDRESS, {**sent, "seen": again}).status_code == 302
    assert RetentionPolicy.objects.get().retain_hours == 1


def test_a_version_that_was_written_after_the_preview_is_not_overwritten(people, runs, policy):
    sent = filled(people.admin, LAB, mode="scheduled", retain_hours="1h")
    seen = people.admin.post(ADDRESS, sent).context["preview"].digest
    policy(retain_hours=240)
    response = people.admin.post(ADDRESS, {**sent, "seen": seen})
    assert "has written version 1 meanwhile" in alert(response)
    assert RetentionPolicy.objects.count() == 1


def test_in_place_with_htmx(people, runs):
    htmx = {"HTTP_HX_REQUEST": "true"}
    bad = people.admin.post(ADDRESS, filled(people.admin, LAB, retain_hours="soon"), **htmx)
    assert bad.status_code == 200  # htmx swaps no error
    assert "soon is no duration" in error_at(bad, "retain_hours")
    sent = filled(people.admin, LAB, mode="scheduled", retain_hours="1h")
    response = people.admin.post(ADDRESS, sent, **htmx)
    assert "<html" not in response.content.decode()
    assert 'id="preview-title" tabindex="-1" data-focus' in response.content.decode()
    response = people.admin.post(ADDRESS, {**sent, "seen": response.context["preview"].digest}, **htmx)
    assert response["HX-Redirect"] == "/policies/1/"
    assert RetentionPolicy.objects.count() == 1


def test_policies_are_written_only_for_visible_scopes(people, runs, root, policy):
    user = User.objects.create_user("keeper")
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="cleanup"))
    StagingRoot.objects.create(name="other", host="h", path="/other")
    Access.objects.create(user=user, root=root, equipment="FLOW_01")
    client = Client()
    client.force_login(user)
    text = page(client, ADDRESS)
    assert ("FLOW_01" in text, "CONFOCAL_01" in text, ">other<" in text) == (True, False, False)
    mine = f"{ADDRESS}?root=lab&equipment=FLOW_01&project=&run_kind="
    for address in (LAB, ROOT, f"{ADDRESS}?equipment=FLOW_01"):
        assert client.get(address).status_code == 403
        sent = {**filled(client, mine, mode="manual"), "equipment": ""}
        assert client.post(ADDRESS, sent).status_code == 403
    assert client.get(f"{ADDRESS}?root=other").status_code == 422
    assert save(client, mine, mode="scheduled", retain_hours="1h").status_code == 302
    assert RetentionPolicy.objects.get().equipment == "FLOW_01"
