from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from cleanup.clears import protocol, refusal
from cleanup.models import Access, Hold, Run
from cleanup.runs import discovery
from cleanup.runs.holds import holds
from tests.tools.pages import EXTRA, SAFE

pytestmark = pytest.mark.one_engine


DAY = timedelta(days=1)
FORM = {"last_day": "2026-07-31", "reason": "the referees ask"}


def text_of(response, status=200):
    assert response.status_code == status
    return response.content.decode()


def lay(run, now, **more):
    return holds.hold(run, **{"owner": "operator", "reason": "referees", "until": now + 10 * DAY, "now": now, **more})


def address(run):
    return f"/runs/{run.pk}/hold/"


# Who may


def test_only_operators_hold_and_release(people, runs, now):
    hold = lay(runs[SAFE], now)
    for where in (address(runs[SAFE]), f"/holds/{hold.pk}/release/"):
        assert people.nobody.post(where, FORM).status_code == 302
        for client in (people.viewer, people.stranger):
            assert client.post(where, FORM).status_code == 403
    assert people.viewer.get(address(runs[SAFE])).status_code == 403
    assert Hold.objects.get().released_at is None


def test_viewers_see_holds_and_no_buttons(people, runs, now):
    lay(runs[SAFE], now)
    assert people.nobody.get("/holds/").status_code == 302
    assert people.stranger.get("/holds/").status_code == 403
    for where in ("/holds/", f"/runs/{runs[SAFE].pk}/"):
        seen = text_of(people.viewer.get(where))
        assert "referees" in seen
        assert "/release/" not in seen
        assert "/hold/" not in seen
        assert "/release/" in text_of(people.operator.get(where))
    assert address(runs[SAFE]) in text_of(people.operator.get(f"/runs/{runs[SAFE].pk}/"))


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_other_methods_are_refused(people, runs, now, method):
    hold = lay(runs[SAFE], now)
    act = getattr(people.operator, method)
    assert act(address(runs[SAFE])).status_code == 405
    assert act("/holds/").status_code == 405
    assert act(f"/holds/{hold.pk}/release/").status_code == 405
    assert people.operator.get(f"/holds/{hold.pk}/release/").status_code == 405


def test_without_its_token_a_post_does_nothing(people, runs, now):
    hold = lay(runs[SAFE], now)
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get(username="operator"))
    assert client.post(address(runs[SAFE]), FORM).status_code == 403
    assert client.post(f"/holds/{hold.pk}/release/").status_code == 403
    assert [row.released_at for row in Hold.objects.all()] == [None]


@pytest.mark.parametrize("number", ["999999", str(2**63), "9" * 40])
def test_what_is_unknown_is_not_found(people, db, number):
    assert people.operator.post(f"/runs/{number}/hold/", FORM).status_code == 404
    assert people.operator.post(f"/holds/{number}/release/").status_code == 404


# Laying and releasing


def test_holds_to_the_end_of_the_day_in_the_zone_of_the_pages(people, runs, settings):
    settings.TIME_ZONE = "Europe/Zurich"
    answer = people.operator.post(address(runs[SAFE]), FORM, follow=True)
    assert answer.redirect_chain == [(f"/runs/{runs[SAFE].pk}/", 302)]
    hold = Hold.objects.get()
    assert (hold.run_id, hold.owner, hold.reason) == (runs[SAFE].pk, "operator", "the referees ask")
    assert hold.until.isoformat() == "2026-07-31T22:00:00+00:00"
    text = text_of(answer)
    assert "Held until the end of 31 July, by operator." in text
    assert "On hold until the end of 31 July" in text
    assert "By operator: the referees ask" in text
    assert 'id="clear"' not in text


def test_the_form_has_a_page_of_its_own(people, runs):
    text = text_of(people.operator.get(address(runs[SAFE])))
    assert 'type="date"' in text
    assert "csrfmiddlewaretoken" in text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"last_day": ""}, "This field is required"),
        ({"last_day": "soon"}, "Enter a valid date"),
        ({"last_day": "2026-06-14"}, "must lie in the future"),
        ({"last_day": "2036-06-20"}, "ten years"),
        ({"last_day": "9999-12-31"}, "ten years"),
        ({"reason": ""}, "This field is required"),
        ({"reason": "  "}, "This field is required"),
        ({"reason": "x" * 501}, "at most 500"),
        ({"reason": "a\0b"}, "Null characters"),
    ],
)
def test_what_is_no_hold_is_asked_again(people, runs, fields, words):
    text = text_of(people.operator.post(address(runs[SAFE]), {**FORM, **fields}), 422)
    assert words in text
    assert not Hold.objects.exists()


def test_today_can_be_the_last_day(people, runs, now):
    assert people.operator.post(address(runs[SAFE]), {**FORM, "last_day": "2026-06-15"}).status_code == 302
    assert Hold.objects.get().until.isoformat() == "2026-06-16T00:00:00+00:00"


def test_a_cleared_run_cannot_be_held(people, runs, now):
    protocol.clear_run(runs[SAFE], now=now, actor="ada")
    assert "nothing left to hold" in text_of(people.operator.get(address(runs[SAFE])))
    assert "nothing left to hold" in text_of(people.operator.post(address(runs[SAFE]), FORM), 422)
    assert 'id="holds"' not in text_of(people.operator.get(f"/runs/{runs[SAFE].pk}/"))
    assert not Hold.objects.exists()


def test_all_who_may_hold_release_all_holds(people, runs, now):
    hold = lay(runs[SAFE], now, owner="ada")
    text = text_of(people.operator.post(f"/holds/{hold.pk}/release/", follow=True))
    assert "Released: the hold of ada on Run_2026-04-17T14-32." in text
    assert "released by operator" in text
    assert "Safe to clear" in text
    hold.refresh_from_db()
    assert (hold.released_by, hold.released_at) == ("operator", now)
    assert "This hold is over already." in text_of(people.admin.post(f"/holds/{hold.pk}/release/", follow=True))
    hold.refresh_from_db()
    assert hold.released_by == "operator"


def test_a_file_is_not_released_by_a_click(people, runs, now):
    holds.note_file(runs[SAFE], holds.HoldFile("mine", "lab"), now=now)
    hold = Hold.objects.get()
    page = text_of(people.operator.get(f"/runs/{runs[SAFE].pk}/"))
    assert f"/holds/{hold.pk}/release/" not in page
    answer = text_of(people.operator.post(f"/holds/{hold.pk}/release/", follow=True))
    assert "ends when the file .exlab-hold is taken away" in answer
    assert Hold.objects.get().released_at is None


def test_in_a_dialog_before_the_list(people, runs, now):
    htmx = {"HTTP_HX_REQUEST": "true"}
    dialog = people.operator.get(address(runs[SAFE]), **htmx)
    assert dialog["HX-Retarget"] == "#slot"
    text = text_of(dialog)
    assert text.startswith("<dialog")
    assert 'value="2026-06-22"' in text  # a week from today
    bad = people.operator.post(address(runs[SAFE]), {**FORM, "last_day": "2020-01-01"}, **htmx)
    assert bad["HX-Retarget"] == "#slot"
    assert "must lie in the future" in text_of(bad)
    answer = people.operator.post(address(runs[SAFE]), FORM, **htmx)
    assert (answer.status_code, answer["Location"]) == (302, f"/runs/{runs[SAFE].pk}/row/")
    assert Hold.objects.get().owner == "operator"


# Extending


def test_a_hold_is_extended_by_all_who_may_hold(people, runs, now):
    hold = lay(runs[SAFE], now, owner="ada")
    Hold.objects.update(reminded_at=now)
    where = f"/holds/{hold.pk}/extend/"
    assert 'value="2026-07-02"' in text_of(people.operator.get(where))  # a week after its last day
    answer = people.operator.post(where, {"last_day": "2026-07-31"}, follow=True)
    assert answer.redirect_chain == [("/holds/", 302)]
    assert "The hold of ada lasts until the end of 31 July." in text_of(answer)
    hold.refresh_from_db()
    assert (hold.until.isoformat(), hold.owner, hold.reminded_at) == ("2026-08-01T00:00:00+00:00", "ada", None)
    assert text_of(people.operator.get(where, HTTP_HX_REQUEST="true")).startswith("<dialog")


@pytest.mark.parametrize("day", ["2026-06-20", "2026-06-24", "2046-01-01", "", "soon", "9999-12-31"])
def test_a_hold_never_gets_shorter_by_extending(people, runs, now, day):
    hold = lay(runs[SAFE], now)
    text_of(people.operator.post(f"/holds/{hold.pk}/extend/", {"last_day": day}), 422)
    assert Hold.objects.get().until == hold.until


def test_what_is_over_or_lies_in_a_file_is_not_extended(people, runs, now):
    hold = lay(runs[SAFE], now)
    holds.release(hold, actor="ada", now=now)
    file = Hold.objects.create(run=runs[EXTRA], source="file", owner="lab", reason="x", created_at=now)
    for pk in (hold.pk, file.pk):
        assert (
            "<form" not in text_of(people.operator.get(f"/holds/{pk}/extend/")).split("<main", 1)[1].split("</main")[0]
        )
    answer = people.operator.post(f"/holds/{hold.pk}/extend/", {"last_day": "2026-07-31"}, follow=True)
    assert "This hold is over, or was changed meanwhile." in text_of(answer)
    text_of(people.operator.post(f"/holds/{file.pk}/extend/", {"last_day": "2026-07-31"}), 422)
    assert [each.until for each in Hold.objects.order_by("pk")] == [hold.until, None]


def test_only_who_may_hold_extends(people, runs, now):
    where = f"/holds/{lay(runs[SAFE], now).pk}/extend/"
    assert people.nobody.post(where, {"last_day": "2026-07-31"}).status_code == 302
    for client in (people.viewer, people.stranger):
        assert client.get(where).status_code == 403
        assert client.post(where, {"last_day": "2026-07-31"}).status_code == 403
    assert people.operator.put(where).status_code == 405
    assert people.operator.get("/holds/999999/extend/").status_code == 404


# Who sees what


def test_nothing_is_found_of_another_instrument(people, runs, now):
    mine, theirs = lay(runs[EXTRA], now), lay(runs[SAFE], now, reason="not for you")
    user = User.objects.create_user("keeper")
    user.user_permissions.set(Permission.objects.filter(group__name="operator"))
    Access.objects.create(user=user, equipment="FLOW_01")
    client = Client()
    client.force_login(user)
    text = text_of(client.get("/holds/"))
    assert ("not for you" in text, "1 run held" in text) == (False, True)
    for what in ("release", "extend"):
        assert client.post(f"/holds/{theirs.pk}/{what}/", {"last_day": "2026-07-31"}).status_code == 404
        assert client.post(f"/holds/{mine.pk}/{what}/", {"last_day": "2026-07-31"}).status_code == 302
    assert client.post(address(runs[SAFE]), FORM).status_code == 404


def test_a_viewer_everywhere_who_may_hold_on_one_instrument(people, runs, now):
    mine, theirs = lay(runs[EXTRA], now), lay(runs[SAFE], now)
    user = User.objects.get(username="viewer")
    user.user_permissions.add(Permission.objects.get(codename="hold_run"))
    Access.objects.create(user=user, equipment="FLOW_01")
    text = text_of(people.viewer.get("/holds/"))
    assert f"/holds/{mine.pk}/release/" in text
    assert f"/holds/{theirs.pk}/release/" not in text
    assert people.viewer.post(f"/holds/{theirs.pk}/release/").status_code == 403
    assert people.viewer.post(f"/holds/{theirs.pk}/extend/", {"last_day": "2026-07-31"}).status_code == 403
    assert people.viewer.post(address(runs[SAFE]), FORM).status_code == 403


def test_releasing_in_the_list_leads_back_to_it(people, runs, now):
    hold = lay(runs[SAFE], now)
    answer = people.operator.post(f"/holds/{hold.pk}/release/", {"back": "list"}, follow=True)
    assert answer.redirect_chain == [("/holds/", 302)]
    assert "Released" in text_of(answer)


# How a held run stands


def test_a_file_holds_and_says_how_it_ends(people, runs, lab, root, now):
    (lab.staging / SAFE / ".exlab-hold").write_text("for \u202eAda")
    discovery.discover(root, now=now)
    text = text_of(people.operator.get(f"/runs/{runs[SAFE].pk}/"))
    assert "On hold" in text
    assert "It ends when the file .exlab-hold is taken out of the run." in text
    assert "\u202e" not in text
    assert 'id="clear"' not in text
    assert '<p class="verdict wait"><strong>On hold</strong></p>' in text_of(people.viewer.get("/runs/"))


def test_what_blocks_a_held_run_is_told_first(people, runs, now):
    lay(runs[EXTRA], now)
    assert "Blocked" in text_of(people.viewer.get(f"/runs/{runs[EXTRA].pk}/"))


def test_an_attempt_that_a_hold_stopped_is_no_failure_to_look_into(people, runs, now):
    hold = lay(runs[SAFE], now, until=now + 3650 * DAY)
    with pytest.raises(refusal.Refused):
        protocol.clear_run(runs[SAFE], now=now, actor="ada")
    assert "<strong>On hold until" in text_of(people.viewer.get(f"/runs/{runs[SAFE].pk}/"))
    holds.release(hold, actor="ada", now=now)
    assert "<strong>Safe to clear</strong>" in text_of(people.viewer.get(f"/runs/{runs[SAFE].pk}/"))


def test_names_and_reasons_are_text(people, runs, now):
    lay(runs[SAFE], now, owner="<b>eve</b>", reason="<script>alert(1)</script>\u202e")
    for where in ("/holds/", f"/runs/{runs[SAFE].pk}/", "/runs/"):
        text = text_of(people.operator.get(where))
        assert "<script>alert" not in text
        assert "<b>eve" not in text
        assert "\u202e" not in text


# The list


def test_lists_what_is_held_with_its_cost(people, runs, now):
    Run.objects.update(bytes=3_000_000_000)
    lay(runs[SAFE], now - 4 * DAY, until=now + 20 * DAY)
    lay(runs[SAFE], now - 2 * DAY, owner="ada", until=now + 2 * DAY)
    holds.note_file(runs[EXTRA], holds.HoldFile("please keep", "lab"), now=now - 40 * DAY)
    everything = text_of(people.viewer.get("/holds/"))
    assert "2 runs held" in everything
    assert "132.0 GB·days" in everything  # 4 days of the one and 40 of the other
    for cost in ("12.0 GB·days", "6.00 GB·days", "120.0 GB·days"):
        assert cost in everything
    assert everything.index("please keep") > everything.index("ada")  # what has no end comes last
    mine = text_of(people.operator.get("/holds/?show=mine"))
    assert ("1 run held" in mine, "12.0 GB·days" in mine, "please keep" in mine) == (True, True, False)
    assert "ada" not in text_of(people.viewer.get("/holds/?show=ending")), "another one keeps the run longer"
    of_ada = text_of(people.viewer.get("/holds/?owner=ada&source=person"))
    assert ("1 run held" in of_ada, "held by ada" in of_ada, "please keep" in of_ada) == (True, True, False)
    assert "held by lab, with a file" in text_of(people.viewer.get("/holds/?owner=lab&source=file"))
    for nobody in ("owner=ada&source=file", "owner=eve&source=person"):
        assert "No hold to show here." in text_of(people.viewer.get(f"/holds/?{nobody}"))
    assert "2 runs held" in text_of(people.viewer.get("/holds/?owner=%00&source=person&source=x"))
    Run.objects.filter(pk=runs[SAFE].pk).update(here=False)  # the audit counts what lies on a disk
    assert "No hold to show here." in text_of(people.viewer.get("/holds/?owner=ada&source=person"))
    Hold.objects.filter(owner="operator").update(released_at=now)
    ending = text_of(people.viewer.get("/holds/?show=ending"))
    assert ("ada" in ending, "please keep" in ending, "12.0 GB·days" in ending) == (True, True, False)
    assert "2 runs held" in text_of(people.viewer.get("/holds/?show=nonsense"))


def test_what_is_over_released_or_cleared_is_not_listed(people, runs, now):
    lay(runs[SAFE], now - 2 * DAY, until=now - DAY)
    holds.release(lay(runs[SAFE], now), actor="ada", now=now)
    lay(runs[EXTRA], now)
    Run.objects.filter(pk=runs[EXTRA].pk).update(state="cleared", cleared_at=now)
    assert "Nothing is held." in text_of(people.viewer.get("/holds/"))
    assert "No hold to show here." in text_of(people.viewer.get("/holds/?show=mine"))
    assert "Holds" in text_of(people.viewer.get(f"/runs/{runs[EXTRA].pk}/"))


def test_a_run_of_unknown_size(people, runs, now):
    lay(runs[SAFE], now)
    Run.objects.update(bytes=None)
    text_of(people.viewer.get("/holds/"))
    text_of(people.viewer.get(f"/runs/{runs[SAFE].pk}/"))


def test_many_holds_come_in_pages_and_with_few_queries(people, runs, now, django_assert_max_num_queries):
    Hold.objects.bulk_create(
        Hold(run=runs[SAFE], owner="ada", reason=str(number), created_at=now, until=now + DAY) for number in range(120)
    )
    people.viewer.get("/holds/")
    with django_assert_max_num_queries(16):
        text = text_of(people.viewer.get("/holds/?page=2"))
    assert "51 to 100 of 120" in text
    assert 'rel="prev"' in text
    assert 'rel="next"' in text


def test_the_admin_shows_holds_and_changes_none(people, runs, now):
    hold = lay(runs[SAFE], now)
    assert "referees" in text_of(people.admin.get("/admin/cleanup/hold/"))
    assert people.admin.get("/admin/cleanup/hold/add/").status_code == 403
    assert people.admin.post(f"/admin/cleanup/hold/{hold.pk}/delete/").status_code == 403
