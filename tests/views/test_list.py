"""The list of runs: what it shows, what it filters, and what it costs."""

import re
from datetime import timedelta

import pytest

from cleanup import clearing, discovery
from cleanup.models import ClearAttempt, Phase, Requester, Run, StagingRoot
from cleanup.policy.reasons import Reason
from tests.views.conftest import BROKEN, EXTRA, QUEUED, SAFE, TEST_RUN, TOUCHED

LEAF = re.compile(r'class="leaf"[^>]*>([^<]+)<')


def page(client, query="", **headers):
    response = client.get(f"/runs/{query}", headers=headers)
    assert response.status_code == 200
    return response.content.decode()


def leaves(text):
    return LEAF.findall(text)


def leaf(run_path):
    return run_path.rpartition("/")[2]


def row(text, run_path):
    """The text of one row, without its tags."""
    found = next(part for part in re.findall(r"<tr id=.*?</tr>", text, re.S) if leaf(run_path) in part)
    return " ".join(re.sub(r"<[^>]+>", " ", found).split())


def test_everybody_must_sign_in_and_have_a_role(people):
    assert people.nobody.get("/runs/").status_code == 302
    assert people.nobody.get("/runs/").url == "/login/?next=/runs/"
    refused = people.stranger.get("/runs/")
    assert refused.status_code == 403
    assert "ask your lab's admin" in refused.content.decode()
    assert people.viewer.get("/runs/").status_code == 200


def test_looking_is_get_only(people, runs):
    assert people.operator.post("/runs/").status_code == 405
    assert people.operator.post(f"/runs/{runs[SAFE].pk}/row/").status_code == 405
    assert people.operator.delete(f"/runs/{runs[SAFE].pk}/").status_code == 405


def test_an_empty_lab_says_so(people):
    text = page(people.operator)
    assert "No run is staged." in text


def test_every_run_with_its_verdict_and_reason(people, runs, beating):
    text = page(people.operator)
    assert sorted(leaves(text)) == sorted(leaf(path) for path in runs)
    assert "Safe to clear" in row(text, SAFE)
    assert "58 days ago" in row(text, SAFE)
    assert "test" in row(text, TEST_RUN)
    assert "Not verified yet" in row(text, QUEUED)
    assert "Blocked" in row(text, EXTRA)
    assert Reason.NOT_IN_MANIFEST.sentence in row(text, EXTRA)
    assert "notes after.txt" in row(text, EXTRA)
    assert "1 file is newer than the verification: stack.ome.xml" in row(text, TOUCHED)
    assert "Compare every byte and clear" in row(text, TOUCHED)
    assert Reason.INGEST_UNREADABLE.sentence.replace("'", "&#x27;") in row(text, BROKEN)
    assert "no record" in row(text, BROKEN)


def test_sizes_are_decimal_with_the_exact_bytes_at_hand(people, runs):
    Run.objects.filter(pk=runs[SAFE].pk).update(bytes=412_800_000_000, files=1204)
    text = page(people.operator)
    assert "412.8 GB" in row(text, SAFE)
    assert "1,204 files" in row(text, SAFE)
    assert 'title="412,800,000,000 bytes; ' in text
    assert f"{runs[SAFE].allocated_bytes:,} bytes allocated on the disk" in text
    assert 'title="2026-04-17 16:15:43 UTC"' in text


def test_the_sums_above_the_list(people, runs):
    Run.objects.filter(pk=runs[SAFE].pk).update(bytes=3_000_000_000)
    Run.objects.filter(pk=runs[TEST_RUN].pk).update(bytes=1_000_000_000)
    totals = [one["total"] for one in people.operator.get("/runs/").context["totals"]]
    assert [(total.tone.code, total.runs) for total in totals] == [("go", 2), ("wait", 1), ("block", 3), ("work", 0)]
    assert totals[0].bytes == 4_000_000_000


def test_viewers_get_no_button(people, runs):
    assert f"/runs/{runs[SAFE].pk}/clear/" in page(people.operator)
    assert "/clear/" not in page(people.viewer)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?state=sync_queued", {QUEUED}),
        ("?state=unreadable", {BROKEN}),
        ("?equipment=FLOW_01", {EXTRA, TOUCHED}),
        ("?project=PROJ-0042", {SAFE, TEST_RUN}),
        ("?equipment=CONFOCAL_01&project=PROJ-0051", {QUEUED}),
        ("?verdict=go", {SAFE, TEST_RUN}),
        ("?verdict=wait", {QUEUED}),
        ("?verdict=block", {EXTRA, TOUCHED, BROKEN}),
        ("?state=cleared", set()),
        ("?equipment=FLOW_01&project=PROJ-0042", set()),
    ],
)
def test_filters(people, runs, query, expected):
    text = page(people.operator, query)
    assert set(leaves(text)) == {leaf(path) for path in expected}
    assert ("No run matches these filters." in text) == (not expected)


@pytest.mark.parametrize(
    "query",
    [
        "?state=melted",
        "?equipment=%00",
        "?project=%ff%fe",
        "?page=0",
        "?page=-7",
        "?page=999999",
        f"?page={'9' * 5000}",
        "?page=two",
        "?verdict=%3Cscript%3E",
        "?nonsense=1",
    ],
)
def test_an_absurd_address_leads_to_the_nearest_page(people, runs, query):
    assert len(leaves(page(people.operator, query))) == 6


def test_a_filter_is_remembered_in_the_form(people, runs):
    assert '<option value="FLOW_01" selected>' in page(people.operator, "?equipment=FLOW_01")


def test_pages_of_fifty(people, runs, many):
    many(120)
    first = people.operator.get("/runs/")
    assert len(first.context["rows"]) == 50
    assert "126 runs" in first.content.decode()
    seen = [row.run.pk for row in first.context["rows"]]
    pages = [first]
    while following := pages[-1].context["links"]["next"]:
        pages.append(people.operator.get(following))
        seen += [row.run.pk for row in pages[-1].context["rows"]]
    assert len(pages) == 3
    assert sorted(seen) == sorted(Run.objects.values_list("pk", flat=True))
    back = people.operator.get(pages[-1].context["links"]["previous"])
    assert [row.run.pk for row in back.context["rows"]] == seen[50:100]
    assert people.operator.get(back.context["links"]["first"]).context["links"]["previous"] == ""


@pytest.mark.parametrize("number", [3, 120])
def test_one_query_plan_however_many_runs(people, runs, many, number, django_assert_max_num_queries, now):
    many(number)
    for run in Run.objects.all():
        ClearAttempt.objects.create(
            run=run,
            phase=Phase.REFUSED,
            host="h",
            requester=Requester.OPERATOR,
            actor="a",
            created_at=now,
            phase_at=now,
            reason=Reason.NAS_TIMEOUT,
        )
    with django_assert_max_num_queries(38):
        page(people.operator)
    Run.objects.update(state="cleared", cleared_at=now)
    with django_assert_max_num_queries(38):
        page(people.operator, "?state=cleared")


def test_hostile_names_are_harmless(people, runs, now):
    name = "\u202egnp.exe <script>alert(1)</script> \x07"
    Run.objects.filter(pk=runs[SAFE].pk).update(project_name=name, leaf="<b>\u2066run", equipment="'\"><img>")
    text = page(people.operator)
    assert "<script>alert" not in text
    assert "<b>" not in text
    assert "<img>" not in text
    assert not re.search("[\u202e\u2066\x07]", text)
    assert r"\u202egnp.exe &lt;script&gt;" in text
    detail = people.operator.get(f"/runs/{runs[SAFE].pk}/").content.decode()
    assert "<script>alert" not in detail
    assert r"\u202e" in detail


def test_a_scheduled_run_tells_when_the_schedule_takes_it(people, runs, policy, now):
    policy(mode="scheduled", retain_hours=24 * 60, rehearse=False)
    wait = runs[SAFE].verified_at + timedelta(days=60) - now
    assert wait > timedelta(0)
    assert "Scheduled: waits 1 day 9 h (kept 60 days after the verification)." in row(page(people.operator), SAFE)
    policy(mode="scheduled", retain_hours=24)
    assert "Scheduled: goes with the next sweep." in row(page(people.operator), SAFE)


def test_on_a_staging_root_in_trouble_nothing_is_offered(people, root, runs):
    StagingRoot.objects.update(problem=Reason.ROOT_NOT_MOUNTED)
    text = page(people.operator)
    assert "Nothing is done on lab." in text
    assert Reason.ROOT_NOT_MOUNTED.sentence in row(text, SAFE)
    assert "Clear now" not in text
    assert "Select all that are safe" not in text
    totals = [one["total"] for one in people.operator.get("/runs/").context["totals"]]
    assert [(total.tone.code, total.runs) for total in totals][:3] == [("go", 0), ("wait", 1), ("block", 5)]
    assert leaves(page(people.operator, "?verdict=go")) == []
    assert leaf(SAFE) in leaves(page(people.operator, "?verdict=block"))


def test_a_silent_cluster_is_told_about(people, runs):
    assert "No task cluster is answering" in page(people.operator)


def test_a_beating_cluster_is_not(people, runs, beating):
    assert "No task cluster is answering" not in page(people.operator)


def test_a_cleared_run_moves_to_the_cleared_ones(people, runs, now):
    files, size = clearing.clear_run(runs[SAFE], now=now, actor="mkhan")
    assert leaf(SAFE) not in leaves(page(people.operator))
    text = page(people.operator, "?state=cleared")
    assert leaves(text) == [leaf(SAFE)]
    assert f"Cleared, {files} files, {size / 1000:.1f} kB freed" in row(text, SAFE)
    assert "by mkhan." in row(text, SAFE)


def test_a_run_whose_files_are_going_stays_listed(people, runs, now):
    attempt = ClearAttempt.objects.create(
        run=runs[SAFE],
        phase=Phase.COMMITTED,
        host="h",
        requester=Requester.OPERATOR,
        actor="mkhan",
        created_at=now,
        phase_at=now,
        planned_files=142,
        done_files=12,
    )
    Run.objects.filter(pk=runs[SAFE].pk).update(state="cleared", cleared_at=now)
    text = page(people.operator)
    assert leaves(text)[0] == leaf(SAFE)
    assert "Clearing… 12 of 142 files" in row(text, SAFE)
    attempt.advance([Phase.COMMITTED], Phase.DONE, now=now)
    assert leaf(SAFE) not in leaves(page(people.operator))


def test_a_run_that_another_program_called_cleared_stays_listed_and_says_why(people, lab, root, runs, now):
    path = "FLOW_01/PROJ-0042/Runs/Run_2026-04-20T11-45"
    lab.run(path, state="cleared")
    discovery.discover(root, now=now)
    shown = row(page(people.operator), path)
    assert "Blocked" in shown
    assert "its files are still here" in shown
    assert "Clear now" not in shown
