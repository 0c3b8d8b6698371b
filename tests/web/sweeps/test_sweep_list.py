import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django_q.models import OrmQ
from django_q.tasks import async_task

from cleanup import tasks
from cleanup.lab import task_queues
from cleanup.models import Access, Hold, Outcome, StagingRoot, Surprise, Sweep, SweepBreaker, SweepKind, SweptRun
from cleanup.rules.reasons import Reason
from cleanup.sweeps import all_roots, dry_runs
from cleanup.text.values import in_units
from cleanup.web.sweeps.sweep_list import PAGE_SIZE
from tests.tools.pages import EXTRA, SAFE

pytestmark = pytest.mark.one_engine


HOUR = timedelta(hours=1)
GATES = [
    {"gate": "state", "verdict": "pass", "reason": None, "detail": "", "opens_at": None},
    {
        "gate": "retention",
        "verdict": "wait",
        "reason": "retention_not_elapsed",
        "detail": "kept 168 h after the verification",
        "opens_at": "2026-06-20T16:15:43+00:00",
    },
]


@pytest.fixture
def swept(root, now):
    def add(hours=1, kind=SweepKind.TIMED, **fields):
        at = now - hours * HOUR
        values = {"root": root, "host": "lab-pc", "outcome": Outcome.DONE, "now": at, "started_at": at, "ended_at": at}
        return Sweep.objects.create(kind=kind, **{**values, **fields})

    return add


@pytest.fixture
def said():
    def add(run, first, last=None, **fields):
        values = {"action": "skipped", "reason": Reason.RETENTION_NOT_ELAPSED, "gates": GATES, **fields}
        return SweptRun.objects.create(
            run=run, root=first.root, kind=first.kind, first=first, last=last or first, **values
        )

    return add


@pytest.fixture
def breaker(swept, root, now):
    stopped = swept(outcome=Outcome.STOPPED, reason=Reason.BREAKER_OPEN, detail="It would clear 41 runs.")
    sight = {"kind": "share", "detail": "It would clear 41 runs.", "runs": 41, "bytes": 10, "version": 0}
    return SweepBreaker.objects.create(
        root=root, sweep=stopped, kind="share", detail=sight["detail"], saw={"sights": [sight]}, opened_at=now - HOUR
    )


def answer(client, breaker, note="", **options):
    asked = client.get(f"/breakers/{breaker.pk}/go-on/").content.decode()
    found = re.search(r'name="code" value="([^"]*)"', asked)
    posted = {"note": note, "code": found[1] if found else ""}
    return client.post(f"/breakers/{breaker.pk}/go-on/", posted, **options)


def page(client, address):
    response = client.get(address)
    assert response.status_code == 200, address
    return response.content.decode()


# All passes


@pytest.mark.parametrize("address", ["/sweeps/", "/sweeps/{sweep}/", "/runs/{run}/answers/"])
def test_only_people_with_a_role_may_look(people, runs, swept, address):
    address = address.format(sweep=swept().pk, run=runs[SAFE].pk)
    assert people.nobody.get(address).status_code == 302
    assert people.stranger.get(address).status_code == 403
    assert people.viewer.get(address).status_code == 200
    assert people.viewer.post(address).status_code == 405


def test_no_sweep_so_far(people):
    assert "There was no pass so far." in page(people.viewer, "/sweeps/")
    assert 'href="/sweeps/"' in page(people.viewer, "/runs/")


def test_every_pass_with_its_counts_and_what_stopped_it(people, swept):
    swept(
        2, scanned=1_234, candidates=56, cleared=31, skipped=1_200, failed=3, files=4_321, bytes=9_100_000, seconds=7.5
    )
    swept(1, outcome=Outcome.STOPPED, reason=Reason.BREAKER_OPEN, detail="<b>41 runs\u202e</b>")
    text = page(people.viewer, "/sweeps/")
    said = ("1,234", ">56<", "Cleared 31 runs, 9.10 MB. 3 runs failed.", "1,200", ">3<", "4,321 files", "7.5 s")
    for words in (*said, "Stopped", "breaker_open"):
        assert words in text, words
    assert "&lt;b&gt;41 runs\\u202e&lt;/b&gt;" in text
    assert text.index("Stopped") < text.index("1,234")


def test_passes_are_filtered_by_root_and_kind(people, swept, now):
    other = StagingRoot.objects.create(name="other", host="h", path="/other")
    mine, typed, theirs = swept(), swept(kind=SweepKind.TYPED), swept(root=other)

    def listed(query):
        text = page(people.viewer, f"/sweeps/{query}")
        return {sweep.pk for sweep in (mine, typed, theirs) if f'href="/sweeps/{sweep.pk}/"' in text}

    assert listed("") == listed("?root=nowhere&kind=strange") == {mine.pk, typed.pk, theirs.pk}
    assert listed("?root=lab") == {mine.pk, typed.pk}
    assert listed("?root=lab&kind=typed") == {typed.pk}
    assert listed("?root=other&kind=typed") == set()


def test_history_is_paged_by_key_both_ways(people, swept):
    keys = [swept(hours=hours).pk for hours in range(2 * PAGE_SIZE + 5, 0, -1)][::-1]

    def listed(query):
        stretch = people.viewer.get(f"/sweeps/{query}").context["stretch"]
        return [sweep.pk for sweep in stretch.sweeps], stretch.newer, stretch.older

    first, second, third = keys[:PAGE_SIZE], keys[PAGE_SIZE : 2 * PAGE_SIZE], keys[2 * PAGE_SIZE :]
    assert listed("") == (first, None, first[-1])
    assert listed(f"?before={first[-1]}") == (second, second[0], second[-1])
    assert listed(f"?before={second[-1]}") == (third, third[0], None)
    assert listed(f"?after={third[0]}") == (second, second[0], second[-1])
    assert listed(f"?after={keys[0]}") == listed("")
    assert listed("?before=1")[0] == keys[-PAGE_SIZE:]


def test_an_absurd_key_leads_to_the_latest(people, swept):
    sweep = swept()
    for query in ("before=x", "before=-1", "before=²", "before=" + "9" * 5000, "after=" + "9" * 30):
        assert f'href="/sweeps/{sweep.pk}/"' in page(people.viewer, f"/sweeps/?{query}"), query


def test_few_queries_however_many_passes(people, swept, breaker, django_assert_max_num_queries):
    for _ in range(PAGE_SIZE):
        swept()
    with django_assert_max_num_queries(26):
        page(people.operator, "/sweeps/")


# One pass


def test_one_pass_with_every_run_action_reason_and_gates(people, runs, swept, said):
    first, second = swept(2), swept(1)
    said(runs[SAFE], first, second)
    said(runs[EXTRA], second, action="cleared", reason="retention+max_bytes", files=7, bytes=1_000)
    text = page(people.viewer, f"/sweeps/{second.pk}/")
    assert SAFE in text
    assert Reason.RETENTION_NOT_ELAPSED.sentence in text
    assert "retention_not_elapsed</code>" in text
    assert "Every check (1 not passed)" in text
    assert re.search(r'Opens <time [^>]* title="2026-06-20 16:15:43 UTC">2026-06-20 16:15</time>', text)
    assert "The time that the policy keeps it was over. The staging root held more bytes than it may." in text
    assert "1.00 kB" in text
    assert EXTRA not in page(people.viewer, f"/sweeps/{first.pk}/")


def test_runs_of_a_pass_are_filtered_by_action_and_reason(people, runs, swept, said):
    sweep = swept()
    said(runs[SAFE], sweep)
    said(runs[EXTRA], sweep, action="cleared", reason="retention")
    assert EXTRA not in page(people.viewer, f"/sweeps/{sweep.pk}/?action=skipped")
    assert SAFE not in page(people.viewer, f"/sweeps/{sweep.pk}/?reason=retention")
    assert "left alone (1)" in page(people.viewer, f"/sweeps/{sweep.pk}/?action=cleared")
    both = page(people.viewer, f"/sweeps/{sweep.pk}/?action=nonsense&reason=")
    assert SAFE in both
    assert EXTRA in both
    assert "No run of this pass" in page(people.viewer, f"/sweeps/{sweep.pk}/?action=skipped&reason=retention")


def test_people_choose_a_reason_by_its_sentence_and_addresses_keep_its_code(people, runs, swept, said):
    sweep = swept()
    said(runs[SAFE], sweep, action="cleared", reason="retention+max_bytes")
    said(runs[EXTRA], sweep, reason=Reason.HELD)
    text = page(people.viewer, f"/sweeps/{sweep.pk}/?reason=held")
    offered = re.findall(r'<option value="([^"]*)"( selected)?>([^<]*)</option>', text)
    assert ("held", " selected", f"{Reason.HELD.sentence} (1)") in offered
    by_time = "The time that the policy keeps it was over. The staging root held more bytes than it may. (1)"
    assert ("retention+max_bytes", "", by_time) in offered
    assert all(words.endswith(" (1)") or words.startswith("Every ") for _code, _chosen, words in offered)


def test_a_large_pass_is_paged_in_few_queries(people, runs, many, root, swept, django_assert_max_num_queries):
    many(120)
    sweep = swept()
    SweptRun.objects.bulk_create(
        SweptRun(run=run, root=root, kind=sweep.kind, first=sweep, last=sweep, action="skipped", gates=GATES)
        for run in root.runs.all()
    )
    with django_assert_max_num_queries(26):
        text = page(people.viewer, f"/sweeps/{sweep.pk}/")
    assert "1 to 50 of 126 runs" in text
    for number, words in (("3", "101 to 126"), ("99", "101 to 126"), ("-1", "101 to 126"), ("x", "1 to 50")):
        assert words in page(people.viewer, f"/sweeps/{sweep.pk}/?page={number}")


def test_an_unknown_pass(people, swept):
    assert people.viewer.get(f"/sweeps/{swept().pk + 1}/").status_code == 404
    assert people.viewer.get(f"/sweeps/{'9' * 40}/").status_code == 404


def test_texts_of_instruments_are_spelled_out(people, runs, swept, said):
    said(runs[SAFE], swept(), detail="<script>alert(1)</script>\u202e", action="failed", reason="a_code_of_tomorrow")
    text = page(people.viewer, f"/sweeps/{Sweep.objects.get().pk}/")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202e" in text
    assert "a_code_of_tomorrow" in text


def test_the_pressure_of_a_pass_is_told_with_units(people, swept):
    wanted = {"bytes_over": 1_500_000_000, "runs_over": 3, "free_wanted": 2_000_000}
    left = {"bytes_over": 0, "runs_over": 1, "free_wanted": 0}
    text = page(people.viewer, f"/sweeps/{swept(pressure={'wanted': wanted, 'left': left}).pk}/")
    for words in (
        "1.50 GB (logical) more than the limit, 3 runs more than the limit, 2.00 MB of free space missing",
        "at its end: 1 run more than the limit",
    ):
        assert words in text
    relieved = {"wanted": wanted, "left": dict.fromkeys(wanted, 0)}
    assert "at its end: nothing any more" in page(people.viewer, f"/sweeps/{swept(pressure=relieved).pk}/")
    none = page(people.viewer, f"/sweeps/{swept(pressure={'wanted': left | {'runs_over': 0}, 'left': {}}).pk}/")
    assert re.search(r"<dt>Too full by</dt>\s*<dd>nothing</dd>", none)
    assert "not recorded" in page(people.viewer, f"/sweeps/{swept(outcome=Outcome.INTERRUPTED).pk}/")


def test_a_real_rehearsal_and_a_real_dry_run_are_told(people, runs, policy, now):
    policy(mode="scheduled", retain_hours=1, rehearse=True)
    all_roots.sweep(now=now, timed=True)
    all_roots.sweep(now=now, dry_run=True)
    timed, dry = Sweep.objects.order_by("pk")
    text = page(people.viewer, f"/sweeps/{timed.pk}/?reason=rehearsal")
    assert SAFE in text
    assert EXTRA not in text
    assert Reason.REHEARSAL.sentence in text
    text = page(people.viewer, f"/sweeps/{dry.pk}/")
    assert "would be cleared (" in text
    assert "The time that the policy keeps it was over." in text
    text = page(people.viewer, f"/runs/{runs[EXTRA].pk}/answers/")
    assert text.count(Reason.NOT_IN_MANIFEST.sentence) >= 4  # both passes, above and in the table
    assert "notes after.txt" in text
    assert ">unchanged</code>" in text


# One run's answers


def test_why_was_it_not_cleared_last_tuesday(people, runs, swept, said):
    tuesday, today = swept(6 * 24), swept(1)  # 2026-06-09 and 2026-06-15, 07:00
    said(runs[SAFE], tuesday, reason=Reason.NAS_TIMEOUT, detail="60 s of silence")
    said(runs[SAFE], today, action="cleared", reason="retention")
    address = f"/runs/{runs[SAFE].pk}/answers/"
    assert f'href="{address}"' in page(people.viewer, f"/runs/{runs[SAFE].pk}/")
    text = page(people.viewer, f"{address}?at=2026-06-09")
    assert Reason.NAS_TIMEOUT.sentence in text
    assert "60 s of silence" in text
    assert "left alone" in text
    assert f'href="/sweeps/{tuesday.pk}/"' in text
    assert f'href="/sweeps/{today.pk}/"' not in text
    assert 'value="2026-06-09"' in text
    assert re.search(r'As of <time [^>]* title="2026-06-09 23:59:59 UTC">2026-06-09 23:59</time>', text)


def test_a_day_without_a_pass_says_so(people, runs, swept, said):
    said(runs[SAFE], swept(6 * 24))
    address = f"/runs/{runs[SAFE].pk}/answers/"
    assert "No timed pass had begun on that day" in page(people.viewer, f"{address}?at=2026-06-11")
    assert "No timed pass had begun on that day" not in page(people.viewer, f"{address}?at=2026-06-09&time=10:00")
    assert "No timed pass had looked at lab by then." in page(people.viewer, f"{address}?at=2026-06-09&time=07:00")


def test_a_pass_without_a_word_on_the_run_says_why(people, runs, swept):
    swept(0, outcome=Outcome.INTERRUPTED)
    assert "interrupted before it came to this run" in page(people.viewer, f"/runs/{runs[EXTRA].pk}/answers/")


def test_what_a_person_typed_is_told_apart(people, runs, swept, said):
    said(runs[SAFE], swept(3, SweepKind.TYPED, actor="mkhan"), action="refused", reason=Reason.HELD)
    text = page(people.viewer, f"/runs/{runs[SAFE].pk}/answers/")
    assert "No timed pass had looked at lab by then." in text
    assert "The pass that a person typed" in text
    assert Reason.HELD.sentence in text


def test_an_absurd_date_leads_to_an_answer(people, runs, swept, said):
    said(runs[SAFE], swept())
    for at in ("", "yesterday", "2026-13-99", "0001-01-01", "9999-12-31", "\x00", "9" * 3000):
        for time in ("", "25:61", "23:59"):
            response = people.viewer.get(f"/runs/{runs[SAFE].pk}/answers/", {"at": at, "time": time})
            assert response.status_code == 200, (at, time)


def test_no_date_at_all_is_said(people, runs):
    assert "That is no date" in page(people.viewer, f"/runs/{runs[SAFE].pk}/answers/?at=Tuesday")
    assert "still to come" in page(people.viewer, f"/runs/{runs[SAFE].pk}/answers/?at=2031-01-01")
    assert "still to come" not in page(people.viewer, f"/runs/{runs[SAFE].pk}/answers/?at=2026-06-15")


def test_answers_are_in_the_time_zone_of_the_pages(people, runs, swept, said, settings):
    settings.TIME_ZONE = "Europe/Zurich"
    said(runs[SAFE], swept(10), reason=Reason.NAS_TIMEOUT)  # 22:00 UTC, which is midnight of the 15th
    address = f"/runs/{runs[SAFE].pk}/answers/"
    assert "No timed pass had looked" in page(people.viewer, f"{address}?at=2026-06-14")
    assert Reason.NAS_TIMEOUT.sentence in page(people.viewer, f"{address}?at=2026-06-15")


# Breakers


def test_an_open_breaker_is_shown_and_operators_have_the_button(people, breaker):
    for address in ("/sweeps/", f"/sweeps/{breaker.sweep_id}/"):
        text = page(people.operator, address)
        assert "It would clear 41 runs." in text
        assert f'action="/breakers/{breaker.pk}/go-on/"' in text
        assert "go-on/" not in page(people.viewer, address)


def test_go_on_closes_the_breaker_with_name_and_note(people, breaker, now):
    response = answer(people.operator, breaker, "the new microscope", follow=True)
    assert response.redirect_chain == [("/sweeps/", 302)]
    text = response.content.decode()
    assert "Automatic clearing of lab goes on with the next pass." in text
    assert "“the new microscope”" in text
    breaker.refresh_from_db()
    assert (breaker.closed_by, breaker.note, breaker.closed_at) == ("operator", "the new microscope", now)


def test_a_breaker_is_closed_once(people, breaker):
    answer(people.operator, breaker, "first")
    again = people.admin.post(f"/breakers/{breaker.pk}/go-on/", {"note": "second"}, follow=True)
    assert "Automatic clearing of lab was let go on already." in again.content.decode()
    breaker.refresh_from_db()
    assert (breaker.closed_by, breaker.note) == ("operator", "first")
    assert "Gone on already" in page(people.operator, f"/breakers/{breaker.pk}/go-on/")


def test_an_answer_to_what_was_not_shown_is_no_answer(people, runs, breaker, policy):
    """From a tab that is older than what the breaker has seen."""
    policy(mode="scheduled", retain_hours=1, rehearse=False)
    address = f"/breakers/{breaker.pk}/go-on/"
    for code in ({}, {"code": breaker.code}, {"code": "1--nonsense"}):
        response = people.operator.post(address, {"note": "the new microscope", **code})
        assert response.status_code == 409
        text = response.content.decode()
        assert "Nothing goes on yet:" in text
        assert "the new microscope" in text
        assert runs[SAFE].run_path in text
        assert "by policy version 1" in text
        assert "version 1: the whole lab" in text
        assert SweepBreaker.objects.get().closed_at is None
    assert "Since then: a pass would take" in page(people.operator, "/sweeps/")
    assert "“Go on” is for" in page(people.operator, "/sweeps/")
    assert answer(people.operator, breaker).status_code == 302
    assert "That was for" in page(people.operator, address)


def test_a_look_at_the_question_closes_nothing(people, breaker):
    assert "Let automatic clearing of lab go on?" in page(people.operator, f"/breakers/{breaker.pk}/go-on/")
    assert SweepBreaker.objects.get().closed_at is None


def test_only_who_may_lets_sweeps_go_on(people, breaker):
    for client, status in ((people.nobody, 302), (people.stranger, 403), (people.viewer, 403)):
        assert client.post(f"/breakers/{breaker.pk}/go-on/").status_code == status
    assert people.operator.put(f"/breakers/{breaker.pk}/go-on/").status_code == 405
    assert people.operator.post(f"/breakers/{breaker.pk + 1}/go-on/").status_code == 404
    assert SweepBreaker.objects.get().closed_at is None


def test_a_note_that_is_too_long_is_asked_for_again(people, breaker):
    response = people.operator.post(f"/breakers/{breaker.pk}/go-on/", {"note": "x" * 501})
    assert response.status_code == 422
    assert SweepBreaker.objects.get().closed_at is None


def test_the_list_and_the_run_say_that_the_schedule_has_stopped(people, runs, breaker, policy):
    policy(mode="scheduled", retain_hours=1, rehearse=False)
    words = "would go with the next pass, but something abnormal has stopped automatic clearing."
    assert words in page(people.viewer, "/runs/")
    text = page(people.viewer, f"/runs/{runs[SAFE].pk}/")
    assert words in text
    assert "It would clear 41 runs." in text
    assert "Safe to clear" in text
    answer(people.operator, breaker)
    assert "Scheduled: goes with the next pass." in page(people.viewer, f"/runs/{runs[SAFE].pk}/")


def test_the_question_says_so_too(people, runs, breaker, policy):
    policy(mode="scheduled", retain_hours=1, rehearse=False)
    response = people.operator.get(f"/runs/{runs[SAFE].pk}/clear/")
    assert "something abnormal has stopped automatic clearing" in response.context["standing"].schedule


def test_a_run_that_may_go_sooner_under_pressure_says_so(people, runs, policy):
    policy(mode="scheduled", retain_hours=9_000, rehearse=False)
    assert "after the verification)." in page(people.viewer, f"/runs/{runs[SAFE].pk}/")
    policy(mode="scheduled", retain_hours=9_000, min_retain_hours=8_000, rehearse=False)
    words = "after the verification, or sooner where the disk is too full)."
    assert words in page(people.viewer, f"/runs/{runs[SAFE].pk}/")


def test_another_roots_breaker_stops_nothing_here(people, runs, breaker, policy):
    policy(mode="scheduled", retain_hours=1, rehearse=False)
    SweepBreaker.objects.update(root=StagingRoot.objects.create(name="other", host="h", path="/other"))
    assert "Scheduled: goes with the next pass." in page(people.viewer, f"/runs/{runs[SAFE].pk}/")


def test_a_rehearsed_policy_says_what_it_waits_for(people, runs, policy):
    policy(mode="scheduled", retain_hours=1, rehearse=True)
    words = "Scheduled, rehearsed: would go with the next pass, once the policy is promoted."
    assert words in page(people.viewer, "/runs/")
    assert words in page(people.viewer, f"/runs/{runs[SAFE].pk}/")


# The admin's tables


def test_the_admin_spells_out_what_people_and_instruments_wrote(people, runs, breaker, policy, now):
    foul = "now\u202e\x07"
    SweepBreaker.objects.update(detail=foul, closed_at=now, closed_by=foul, note=foul)
    Surprise.objects.create(policy_version=1, run=runs[SAFE], at=now, reason=Reason.HELD, detail=foul)
    Hold.objects.create(run=runs[SAFE], source="file", owner=foul, reason=foul, created_at=now)
    policy(mode="manual", note=foul)
    for model in ("sweepbreaker", "surprise", "hold", "retentionpolicy"):
        table = people.admin.get(f"/admin/cleanup/{model}/").content.decode()
        table = table[table.index('id="result_list"') : table.index("</table>")]
        assert "now\\u202e" in table, model
        assert "\u202e" not in table, model


@pytest.mark.parametrize("model", ["sweep", "sweptrun", "sweepbreaker", "surprise"])
def test_the_admin_shows_the_record_and_changes_nothing(people, runs, breaker, said, now, model):
    said(runs[SAFE], breaker.sweep)
    Surprise.objects.create(policy_version=1, run=runs[SAFE], at=now, reason=Reason.HELD)
    row = {"sweep": Sweep, "sweptrun": SweptRun, "sweepbreaker": SweepBreaker, "surprise": Surprise}[
        model
    ].objects.get()
    assert "1 " in page(people.admin, f"/admin/cleanup/{model}/")
    page(people.admin, f"/admin/cleanup/{model}/{row.pk}/change/")
    for address in (f"{row.pk}/change/", f"{row.pk}/delete/", "add/"):
        assert people.admin.post(f"/admin/cleanup/{model}/{address}", {"post": "yes"}).status_code == 403


# Dry run now


def queued():
    return [one.args() for one in OrmQ.objects.order_by("pk") if one.func().endswith("dry_run")]


def ask(client, root="lab"):
    return client.post("/sweeps/dry-run/", {"root": root}, follow=True)


def test_who_may_ask_for_a_dry_run(people, root, keeper):
    assert people.nobody.post("/sweeps/dry-run/", {"root": "lab"}).status_code == 302
    for client in (people.stranger, people.viewer):
        assert client.post("/sweeps/dry-run/", {"root": "lab"}).status_code == 403
    assert people.operator.get("/sweeps/dry-run/").status_code == 405
    for name in ("nowhere", "", "a\x00b"):
        assert people.operator.post("/sweeps/dry-run/", {"root": name}).status_code == 404
    assert keeper(equipment="FLOW_01").post("/sweeps/dry-run/", {"root": "lab"}).status_code == 404
    client = Client(enforce_csrf_checks=True)
    client.cookies = people.operator.cookies
    assert client.post("/sweeps/dry-run/", {"root": "lab"}).status_code == 403
    assert queued() == []
    assert "Dry run now" in page(people.operator, "/sweeps/")
    assert "Dry run now" not in page(people.viewer, "/sweeps/")


def test_a_viewer_of_a_root_may_not_ask_for_a_dry_run(people, root):
    user = User.objects.get(username="viewer")
    user.user_permissions.add(Permission.objects.get(codename="clear_run"))
    Access.objects.create(user=user, root=StagingRoot.objects.create(name="other", host="h", path="/other"))
    assert people.viewer.post("/sweeps/dry-run/", {"root": "lab"}).status_code == 403
    assert ask(people.viewer, "other").status_code == 200
    assert len(queued()) == 1


def test_twice_in_a_row_is_one_dry_run(people, root):
    assert "A dry run of lab is queued. Its result will appear here." in ask(people.operator).content.decode()
    text = ask(people.admin).content.decode()
    assert "A dry run of lab is queued or running already." in text
    assert "asked for by operator" in text
    assert queued() == [(root.pk, "operator")]


def test_the_list_waits_for_it_and_shows_what_it_says(people, runs, root, policy, now):
    policy(mode="scheduled", retain_hours=1)
    assert "every 2s" not in page(people.viewer, "/sweeps/")
    ask(people.operator)
    text = page(people.viewer, "/sweeps/?root=lab")
    assert f'hx-get="/sweeps/changes/?root=lab&amp;seen={root.pk}q"' in text
    htmx = {"HTTP_HX_REQUEST": "true"}
    assert people.viewer.get(f"/sweeps/changes/?seen={root.pk}q", **htmx).status_code == 204
    OrmQ.objects.update(lock=now + HOUR)
    fragment = people.viewer.get(f"/sweeps/changes/?seen={root.pk}q", **htmx).content.decode()
    assert "is under way" in fragment
    assert "<html" not in fragment
    (args,) = queued()
    assert tasks.dry_run(*args) == "lab: would clear 3 of 6 runs"
    OrmQ.objects.all().delete()
    fragment = people.viewer.get(f"/sweeps/changes/?seen={root.pk}r", **htmx).content.decode()
    assert "every 2s" not in fragment
    assert 'hx-swap-oob="innerHTML">The dry run of lab is over. Would clear 3 runs, ' in fragment
    sweep = Sweep.objects.get()
    assert (sweep.kind, sweep.actor, sweep.would_clear) == ("dry_run", "operator", 3)
    text = page(people.viewer, f"/sweeps/{sweep.pk}/")
    assert f"Would clear 3 runs, {in_units(sweep.bytes)}." in text
    assert text.index("would be cleared</span>") < text.index("left alone</span>")


def test_another_queue_and_other_tasks_are_no_dry_runs_of_this_root(root, now):
    other = StagingRoot.objects.create(name="other", host="elsewhere", path="/other")
    task_queues.serve_apart("elsewhere")
    async_task("cleanup.tasks.clear", "an attempt", cluster="clear")
    assert dry_runs.ask_for(other, actor="ada", now=now)
    assert dry_runs.expected([root], now=now) == {}
    assert [*dry_runs.expected([root, other], now=now)] == [other.pk]
    assert OrmQ.objects.latest("pk").key.endswith("@elsewhere")


def test_a_task_that_waits_is_unpacked_once_however_often_a_page_asks(root, now, settings):
    for _ in range(5):
        async_task("cleanup.tasks.clear", "an attempt", cluster=settings.EXLAB_CLEAR_CLUSTER)
    dry_runs._read.cache_clear()
    assert dry_runs.ask_for(root, actor="ada", now=now)
    assert not dry_runs.ask_for(root, actor="bob", now=now)
    for running, lock in ((False, None), (True, now + HOUR), (False, now - HOUR)):
        OrmQ.objects.update(lock=lock)
        assert dry_runs.expected([root], now=now) == {root.pk: dry_runs.Expected(root.pk, "ada", running=running)}
    assert dry_runs._read.cache_info().misses == 6


# Who sees what


def test_what_lies_on_another_root_is_not_found(keeper, people, swept, breaker, root):
    other = StagingRoot.objects.create(name="other", host="h", path="/other")
    client = keeper(root=other)
    theirs = swept(root=other)
    text = page(client, "/sweeps/")
    assert f'href="/sweeps/{theirs.pk}/"' in text
    assert f'href="/sweeps/{breaker.sweep_id}/"' not in text
    assert "/go-on/" not in text
    assert ">lab<" not in text
    assert client.get(f"/sweeps/{breaker.sweep_id}/").status_code == 404
    assert client.post(f"/breakers/{breaker.pk}/go-on/", {"note": ""}).status_code == 404
    breaker.refresh_from_db()
    assert breaker.closed_at is None


def test_a_pass_hides_the_runs_of_other_instruments(keeper, runs, swept, said):
    sweep = swept(scanned=2)
    for path in (SAFE, EXTRA):
        said(runs[path], sweep)
    text = page(keeper(equipment="FLOW_01"), f"/sweeps/{sweep.pk}/")
    assert EXTRA in text
    assert SAFE not in text
    assert "2 runs" in text
    assert "Below stand the runs that you may see." in text


def test_a_user_of_one_instrument_lets_no_sweep_of_all_go_on(keeper, runs, breaker, root):
    client = keeper(root=root, equipment="FLOW_01")
    assert "It would clear 41 runs." in page(client, "/sweeps/")
    assert "/go-on/" not in page(client, "/sweeps/")
    assert client.post(f"/breakers/{breaker.pk}/go-on/", {"note": ""}).status_code == 403
    assert answer(keeper(root=root), breaker).status_code == 302
