"""The policy pages, and who may promote."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from cleanup.lab import policy_versions
from cleanup.lab.roots import first_nights
from cleanup.models import Access, Hold, Outcome, RetentionPolicy, StagingRoot, Sweep, SweepKind, SweptRun
from cleanup.rules.reasons import Reason
from cleanup.sweeps import rehearsal
from tests.tools.pages import SAFE, TEST_RUN

HOUR, NIGHT = timedelta(hours=1), timedelta(days=1)
pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]


@pytest.fixture
def rehearsed(policy, now):
    return policy_versions.add_version(
        author="ada", now=now - 2 * NIGHT - HOUR, mode="scheduled", retain_hours=24, note="from Monday on"
    )


@pytest.fixture
def passes(root, runs, rehearsed, now):
    made = []
    for hours in (48, 24, 1):
        at = now - hours * HOUR
        made.append(
            Sweep.objects.create(
                root=root,
                kind=SweepKind.TIMED,
                outcome=Outcome.DONE,
                host="h",
                now=at,
                started_at=at,
                policy_version=rehearsed.version,
            )
        )
    for path in (SAFE, TEST_RUN):
        SweptRun.objects.create(
            run=runs[path],
            root=root,
            kind=SweepKind.TIMED,
            first=made[0],
            last=made[1],
            action="would_clear",
            reason=Reason.REHEARSAL,
            policy_version=rehearsed.version,
            files=runs[path].files,
            bytes=runs[path].bytes,
        )
    return made


def page(client, address):
    response = client.get(address)
    assert response.status_code == 200, address
    return response.content.decode()


def test_only_people_with_a_role_may_look(people, rehearsed):
    for address in ("/policies/", "/policies/1/"):
        assert people.nobody.get(address).status_code == 302
        assert people.stranger.get(address).status_code == 403
        assert people.viewer.get(address).status_code == 200
        assert people.viewer.post(address).status_code == 405


@pytest.mark.parametrize("address", ["/policies/7/", "/policies/99999999999999999999999/"])
def test_an_unknown_version_is_not_found(people, rehearsed, address):
    assert people.viewer.get(address).status_code == 404


def test_without_any_policy_the_page_says_what_holds(people):
    assert "No policy has been set." in page(people.viewer, "/policies/")


def test_what_is_in_force_in_words_with_its_nights(people, passes):
    text = page(people.viewer, "/policies/")
    assert "the whole lab: scheduled, kept 24 h after verification, proven by checksum; rehearsed first for 3" in text
    assert "2 of 3 clean nights so far" in text
    assert "from Monday on" in text
    assert 'aria-current="page">Policies</a>' in text


def test_what_happens_to_each_instruments_runs_in_a_sentence(people, runs, policy):
    text = page(people.viewer, "/policies/")
    assert "FLOW_01 runs are kept until an operator clears them, proven by checksum." in text
    policy(mode="scheduled", retain_hours=48, rehearse=False)
    policy(equipment="FLOW_01", run_kind="test", mode="scheduled", retain_hours=6, rehearse=False)
    policy(project="PROJ-0051", mode="manual")
    text = page(people.viewer, "/policies/")
    for sentence in (
        "CONFOCAL_01 runs are cleared 2 days after verification, proven by checksum.",
        "CONFOCAL_01 runs of PROJ-0051 are kept until an operator clears them, proven by checksum.",
        "FLOW_01 experimental runs are cleared 2 days after verification, proven by checksum.",
        "FLOW_01 test runs are cleared 6 h after verification, proven by checksum.",
    ):
        assert sentence in text


def test_some_of_very_many_projects_with_a_policy_are_named(people, runs, policy, monkeypatch):
    monkeypatch.setattr("cleanup.web.policies.policy_list.SHOWN_PROJECTS", 1)
    for project in ("PROJ-0051", "PROJ-0060", "PROJ-0061"):
        policy(equipment="CONFOCAL_01", project=project, mode="scheduled", retain_hours=24)
    answer = people.viewer.get("/policies/")
    lines = {line.instrument.equipment: line for line in answer.context["lines"]}
    assert [len(line.sentences) for line in lines.values()] == [2, 1, 1]
    assert [line.left_out for line in lines.values()] == [2, 0, 0]
    assert "And 2 more projects with a policy of their own." in answer.content.decode()


def test_what_is_of_another_root_or_instrument_is_not_found(people, runs, root, policy):
    other = StagingRoot.objects.create(name="other", host="h", path="/other")
    policy(mode="scheduled", retain_hours=48)
    policy(root=other, mode="manual")
    policy(equipment="CONFOCAL_01", mode="manual")
    policy(root=root, equipment="FLOW_01", mode="manual")
    user = User.objects.create_user("keeper")
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="cleanup"))
    Access.objects.create(user=user, root=root, equipment="FLOW_01")
    client = Client()
    client.force_login(user)
    assert [client.get(f"/policies/{number}/").status_code for number in (1, 2, 3, 4)] == [200, 404, 404, 200]
    text = page(client, "/policies/")
    assert [f'href="/policies/{number}/"' in text for number in (1, 2, 3, 4)] == [True, False, False, True]
    assert "CONFOCAL_01 runs" not in text
    # A user with one instrument may not promote a lab-wide policy.
    assert "/promote/" not in page(client, "/policies/1/")
    assert client.post("/policies/1/promote/").status_code == 403
    assert client.post("/policies/3/promote/").status_code == 404
    assert client.post("/policies/4/rehearse/").status_code == 302


def test_a_rehearsal_is_told_of_visible_runs_alone(people, runs, root, passes, now):
    user = User.objects.create_user("keeper")
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="cleanup"))
    Access.objects.create(user=user, root=root, equipment="FLOW_01")
    rehearsal.note_surprise(runs[SAFE], [1], Reason.NAS_MISSING_FILE, "a.tif", now)
    client = Client()
    client.force_login(user)
    text = page(client, "/policies/1/")
    assert SAFE not in text
    assert "a.tif" not in text


def test_every_version_with_its_changes(people, rehearsed, policy):
    policy(retain_hours=48)
    policy(equipment="CONFOCAL_01", mode="manual")
    text = page(people.viewer, "/policies/")
    assert "Kept after the verification: <del>24 h</del> → <strong>2 days</strong>" in text
    assert text.count('<span class="chip">in force</span>') == 2
    text = text[text.index("Every version") :]
    assert text.index("Version 3") < text.index("Version 2") < text.index("Version 1")


def test_many_versions_are_paged(people, policy):
    for hours in range(60):
        policy(retain_hours=hours)
    assert page(people.viewer, "/policies/").count('rel="next"') == 1
    assert "Version 1</a>" in page(people.viewer, "/policies/?page=2")
    assert page(people.viewer, "/policies/?page=nonsense")


def test_names_that_instruments_wrote_are_shown_for_what_they_are(people, policy):
    policy(equipment="<b>CONF\u202e</b>", mode="manual", note="<script>alert(1)</script>")
    for address in ("/policies/", "/policies/1/"):
        text = page(people.viewer, address)
        assert "\u202e" not in text
        assert "&lt;b&gt;CONF\\u202e&lt;/b&gt;" in text
        assert "<script>alert" not in text


def test_the_comparison_with_what_people_did(people, runs, passes, now):
    Hold.objects.create(run=runs[SAFE], owner="bob", reason="still needed", created_at=now, until=now + NIGHT)
    text = page(people.viewer, "/policies/1/")
    run_by_run = text[text.index("Run by run") :]
    assert run_by_run.index("Held</span>") < run_by_run.index("Still there</span>")
    assert "by bob: still needed" in text
    assert SAFE in text
    assert TEST_RUN in text
    assert "1 run</td>" in text


def test_a_surprise_is_shown(people, runs, passes, now):
    rehearsal.note_surprise(runs[SAFE], [1], Reason.NAS_MISSING_FILE, "a.tif", now)
    assert "The NAS does not hold all files of the run." in page(people.viewer, "/policies/1/")
    assert "0 of 3 clean nights so far, 1 surprise." in page(people.viewer, "/policies/")


def test_only_an_admin_is_offered_and_may_promote(people, passes):
    assert "/promote/" in page(people.admin, "/policies/1/")
    for client in (people.operator, people.viewer):
        assert "/promote/" not in page(client, "/policies/1/")
        assert client.post("/policies/1/promote/").status_code == 403
        assert client.post("/policies/1/rehearse/").status_code == 403
    assert people.stranger.post("/policies/1/promote/").status_code == 403
    assert people.nobody.post("/policies/1/promote/").status_code == 302
    assert people.admin.get("/policies/1/promote/").status_code == 405
    assert RetentionPolicy.objects.count() == 1


def test_a_click_promotes_and_another_one_sends_back(people, passes, now):
    answer = people.admin.post("/policies/1/promote/", {"note": "looks right"}, follow=True)
    assert answer.redirect_chain == [("/policies/2/", 302)]
    promoted = RetentionPolicy.objects.get(version=2)
    assert (promoted.rehearsal, promoted.author, promoted.note) == ("promoted", "admin", "looks right")
    assert (promoted.created_at, promoted.retain_hours) == (now, 24)
    assert "Version 2 was written." in answer.content.decode()
    assert "/rehearse/" in answer.content.decode()
    assert '<a href="/policies/1/">version 1</a>' in answer.content.decode()

    answer = people.admin.post("/policies/2/rehearse/", {"note": ""}, follow=True)
    assert answer.redirect_chain == [("/policies/3/", 302)]
    assert RetentionPolicy.objects.get(version=3).rehearsal == "rehearsing"


def test_two_clicks_promote_once(people, passes):
    people.admin.post("/policies/1/promote/")
    answer = people.admin.post("/policies/1/promote/", follow=True)
    assert "Nothing was changed: version 1 was followed by version 2." in answer.content.decode()
    assert RetentionPolicy.objects.count() == 2


def test_a_version_that_was_superseded_offers_no_button(people, passes, policy):
    policy(retain_hours=48)
    text = page(people.admin, "/policies/1/")
    assert "/promote/" not in text
    assert "/rehearse/" not in text
    assert "another version has taken its place" in text


def test_a_note_that_is_too_long_changes_nothing(people, passes):
    answer = people.admin.post("/policies/1/promote/", {"note": "x" * 501}, follow=True)
    assert "Nothing was changed: " in answer.content.decode()
    assert RetentionPolicy.objects.count() == 1
    answer = people.admin.post("/policies/1/promote/", {"note": "a\x00b"}, follow=True)
    assert "Nothing was changed: " in answer.content.decode()


def test_a_click_from_elsewhere_is_refused(people, passes):
    client = Client(enforce_csrf_checks=True)
    client.cookies = people.admin.cookies
    assert client.post("/policies/1/promote/").status_code == 403
    assert RetentionPolicy.objects.count() == 1


def test_pages_ask_no_more_for_many_runs(people, runs, many, passes, root, django_assert_max_num_queries):
    from cleanup.models import Run

    many(40)
    for run in Run.objects.filter(leaf__startswith="Run_0"):
        SweptRun.objects.create(
            run=run,
            root=root,
            kind=SweepKind.TIMED,
            first=passes[0],
            last=passes[1],
            action="would_clear",
            reason=Reason.REHEARSAL,
            policy_version=1,
        )
    with django_assert_max_num_queries(40):
        page(people.viewer, "/policies/1/")


def test_the_page_asks_no_more_for_many_scopes(people, passes, policy, django_assert_max_num_queries):
    for number in range(20):
        policy(equipment=f"SCOPE_{number:02}", mode="scheduled", retain_hours=24)
    with django_assert_max_num_queries(26):
        text = page(people.viewer, "/policies/")
    assert text.count("clean nights so far") == 21


def test_a_root_in_its_first_nights_is_shown_and_promoted(people, root, policy, now):
    second = StagingRoot.objects.create(name="second <pc>", host="h", path="/second")
    version = policy(mode="scheduled", retain_hours=24, stage="promoted")
    assert "first nights" not in page(people.viewer, "/policies/")
    first_nights.came(second, now, note="it was registered")
    text = page(people.viewer, "/policies/")
    assert "Staging roots in their first nights" in text
    assert "second &lt;pc&gt;" in text
    assert "0 of 3 clean nights so far" in text
    assert "/promote/" not in text
    assert "Not on second &lt;pc&gt; yet" in page(people.viewer, f"/policies/{version.version}/")
    address = f"/policies/roots/{second.pk}/promote/"
    assert address in page(people.admin, "/policies/")
    assert people.operator.post(address).status_code == 403
    assert people.admin.post(address, {"note": "x" * 501}, follow=True).status_code == 200
    assert first_nights.waiting(now)
    answer = people.admin.post(address, {"note": "looks right"}, follow=True)
    assert "The first nights of second &lt;pc&gt; are over" in answer.content.decode()
    assert not first_nights.waiting(now)
    note = second.notes.latest("pk")
    assert (note.event, note.author, note.note) == ("over", "admin", "looks right")
    assert "is not in its first nights" in people.admin.post(address, follow=True).content.decode()


def test_the_button_says_that_a_new_root_is_covered_too(people, root, policy, now):
    second = StagingRoot.objects.create(name="second", host="h", path="/second")
    policy(mode="scheduled", retain_hours=48, stage="promoted")
    first_nights.came(second, now)
    policy(mode="scheduled", retain_hours=24)
    assert "second too, which is in its first nights" in page(people.admin, "/policies/2/")
    assert people.admin.post("/policies/2/promote/").status_code == 302
    assert not first_nights.waiting(now)
