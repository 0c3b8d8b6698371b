import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from cleanup.clears import protocol
from cleanup.models import Access, AccountName, ClearAttempt, Phase, Requester, Run, StagingRoot, Status
from cleanup.rules.gates import MAX_FAILURES
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery, run_people, run_status
from cleanup.runs.holds import holds
from cleanup.web import paging
from cleanup.web.runs import run_list as run_views
from cleanup.web.runs import run_rows
from tests.tools.lab import touch
from tests.tools.pages import BROKEN, EXTRA, QUEUED, SAFE, TEST_RUN, TOUCHED

pytestmark = pytest.mark.one_engine


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
    found = next(part for part in re.findall(r"<tr id=.*?</tr>", text, re.S) if leaf(run_path) in part)
    return " ".join(re.sub(r"<[^>]+>", " ", found).split())


def test_all_must_sign_in_and_have_a_role(people):
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
    assert "No run is known yet." in text
    assert "No staging root is registered yet" in text


def test_a_lab_without_runs_says_so(people, root, now):
    StagingRoot.objects.update(discovered_at=now)
    assert "No run is staged." in page(people.operator)


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


@pytest.mark.both_engines
def test_the_sums_above_the_list(people, runs):
    Run.objects.filter(pk=runs[SAFE].pk).update(bytes=3_000_000_000)
    Run.objects.filter(pk=runs[TEST_RUN].pk).update(bytes=1_000_000_000)
    totals = [one["total"] for one in people.operator.get("/runs/").context["totals"]]
    assert [(total.tone.code, total.runs) for total in totals] == [("go", 2), ("wait", 1), ("block", 3), ("work", 0)]
    assert totals[0].bytes == 4_000_000_000


def test_viewers_get_no_button(people, runs):
    assert f"/runs/{runs[SAFE].pk}/clear/" in page(people.operator)
    assert "/clear/" not in page(people.viewer)


FILTERS = [
    ("?state=sync_queued", {QUEUED}),
    ("?state=unreadable", {BROKEN}),
    ("?equipment=FLOW_01", {EXTRA, TOUCHED}),
    ("?project=PROJ-0042", {SAFE, TEST_RUN}),
    ("?equipment=CONFOCAL_01&project=PROJ-0051", {QUEUED}),
    ("?verdict=go", {SAFE, TEST_RUN}),
    ("?verdict=wait", {QUEUED}),
    ("?verdict=block", {EXTRA, TOUCHED, BROKEN}),
    ("?verdict=work", set()),
    ("?root=lab", {SAFE, TEST_RUN, QUEUED, EXTRA, TOUCHED, BROKEN}),
    ("?kind=test", {TEST_RUN}),
    ("?reason=not_in_manifest", {EXTRA}),
    ("?reason=not_in_manifest&verdict=go", set()),
    ("?opens=day", set()),
    ("?q=flow", {EXTRA, TOUCHED}),
    ("?q=immune+05-28", {EXTRA}),
    ("?q=SECOND", {QUEUED}),
    ("?q=100%25", set()),
    ("?q=_2026-03", {BROKEN}),
    ("?state=cleared", set()),
    ("?equipment=FLOW_01&project=PROJ-0042", set()),
]
ABSURD = [
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
    "?sort=sideways",
    "?root=elsewhere",
    "?reason=weather",
    "?opens=never",
    "?q=%00",
    "?kind=melted&root=%ff",
    "?after=x",
    "?after=1.2",
    "?after=1.2.3.4",
    "?after=.1",
    f"?after=1.{'9' * 30}.1",
    f"?after={'9' * 5000}",
    "?before=0.0.0",
    "?after=9.0.0",
    "?sort=oldest&after=n.1",
    f"?sort=oldest&after={2**62}.1",
    "?sort=oldest&after=.99999999",
    "?sort=newest&before=.0",
    "?sort=name&after=999999999",
    "?sort=name&before=-1",
    "?sort=files&after=-5.-5",
    "?sort=size&before=%D9%A1.1",
]


@pytest.mark.both_engines
def test_filters(people, runs):
    for query, expected in FILTERS:
        text = page(people.operator, query)
        assert set(leaves(text)) == {leaf(path) for path in expected}, query
        assert ("No run matches these filters." in text) == (not expected), query


def test_an_absurd_address_leads_to_the_nearest_page(people, runs):
    for query in ABSURD:
        assert len(leaves(page(people.operator, query))) == 6, query


def test_runs_of_a_person_and_mine(people, runs):
    """The records of all runs name `operator`; one is of Anna."""
    anna = runs[SAFE]
    run_people.keep([(anna, ("Anna Weiß", "=x"))])
    for query in ("?whose=of:anna%20weiss", "?q=weiss", "?q=ANNA+weiß"):
        assert leaves(page(people.operator, query)) == [leaf(SAFE)], query
    text = page(people.operator, "?whose=mine")
    assert len(leaves(text)) == 5 - (not runs[BROKEN].people) and leaf(SAFE) not in leaves(text)
    assert "Anna Weiß +1" in page(people.operator) and '<option value="of:anna weiss">Anna Weiß</option>' in text
    assert leaves(page(people.admin, "?whose=mine")) == []
    AccountName.objects.create(user=User.objects.get(username="admin"), name="ANNA WEISS")
    assert leaves(page(people.admin, "?whose=mine")) == [leaf(SAFE)]
    text = people.operator.get(f"/runs/{anna.pk}/").content.decode()
    assert 'href="/runs/?whose=of%3Aanna%20weiss"' in text


def test_names_of_people_elsewhere_are_not_offered(people, runs, keeper):
    run_people.keep([(runs[SAFE], ("Anna",))])
    client = keeper(equipment="FLOW_01")
    assert "Anna" not in page(client) and ">operator<" in page(client)


def test_a_filter_is_remembered_in_the_form(people, runs):
    assert '<option value="FLOW_01" selected>' in page(people.operator, "?equipment=FLOW_01")


@pytest.mark.both_engines
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


@pytest.mark.both_engines
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
    Run.objects.update(failures=MAX_FAILURES)
    assert run_status.judge_stale(now) == 0
    with django_assert_max_num_queries(38):
        page(people.operator)
    Run.objects.doubt()
    with django_assert_max_num_queries(24):
        run_status.judge_stale(now)
    Run.objects.update(state="cleared", cleared_at=now)
    with django_assert_max_num_queries(38):
        page(people.operator, "?state=cleared")


SORTS = {
    "": lambda run: (run.tone, -(run.bytes or 0), -run.pk),
    "size": lambda run: (-(run.bytes or 0), -run.pk),
    "files": lambda run: (-(run.files or 0), -run.pk),
    "oldest": lambda run: (run.verified_at is None, run.verified_at and run.verified_at.timestamp(), run.pk),
    "newest": lambda run: (run.verified_at is None, run.verified_at and -run.verified_at.timestamp(), -run.pk),
}


def in_pages(client, address, way="next"):
    pages = [client.get(address)]
    while following := pages[-1].context["links"][way]:
        pages.append(client.get(following))
        assert len(pages) < 20
    keys = [[row.run.pk for row in one.context["rows"]] for one in pages]
    return [key for keys in (keys if way == "next" else reversed(keys)) for key in keys], pages[-1]


@pytest.mark.both_engines
@pytest.mark.parametrize(
    "sort",
    ["", "newest", *(pytest.param(by, marks=pytest.mark.exhaustive) for by in ("name", "size", "files", "oldest"))],
)
def test_orders_hold_over_pages_in_both_directions(people, runs, many, now, monkeypatch, sort):
    monkeypatch.setattr(paging, "PAGE_SIZE", 7)
    monkeypatch.setattr(paging.page_of, "__kwdefaults__", {**paging.page_of.__kwdefaults__, "size": 7})
    many(24)
    for index, run in enumerate(Run.objects.order_by("pk")):
        run.bytes = (None, 5000, 5000, 10**15, 0)[index % 5]
        run.files = (3, None, 0, 3)[index % 4]
        run.verified_at = (None, now, now - timedelta(days=index), None)[index % 4]
        run.doubts, run.judged, run.tone = 1, 1, (1, 3, 2)[index % 3]
        run.save()
    there, last = in_pages(people.operator, f"/runs/?sort={sort}" if sort else "/runs/")
    assert sorted(there) == sorted(Run.objects.values_list("pk", flat=True))
    if sort in SORTS:
        assert there == [run.pk for run in sorted(Run.objects.all(), key=SORTS[sort])]
    else:
        paths = [Run.objects.get(pk=key).run_path for key in there]
        assert paths == list(Run.objects.order_by("run_path").values_list("run_path", flat=True))
    back, first = in_pages(people.operator, last.wsgi_request.get_full_path(), "previous")
    assert back == there
    assert first.context["links"]["previous"] == ""


def test_a_place_in_the_order_outlives_its_run(people, runs, many, now):
    many(60)
    first = people.operator.get("/runs/")
    last = first.context["rows"][-1].run
    Run.objects.filter(pk=last.pk).update(state="cleared", cleared_at=now, here=False, tone=4)
    following = people.operator.get(first.context["links"]["next"])
    assert len(following.context["rows"]) == 16


def test_beyond_the_end_is_the_last_page(people, runs, many):
    many(60)
    beyond = people.operator.get("/runs/?after=9.0.0").context
    assert len(beyond["rows"]) == 50
    assert beyond["links"]["next"] == ""
    assert beyond["links"]["previous"]


def test_a_form_without_scripts_leads_to_an_address_without_empty_filters(people, runs):
    answer = people.operator.get("/runs/?q=&state=sync_queued&verdict=&sort=")
    assert (answer.status_code, answer.url) == (302, "/runs/?state=sync_queued")
    assert people.operator.get("/runs/?q=&verdict=").url == "/runs/"


def test_a_reason_in_the_address_is_told_and_can_be_taken_out(people, runs):
    text = page(people.operator, "?reason=not_in_manifest&equipment=FLOW_01")
    assert Reason.NOT_IN_MANIFEST.sentence in text
    assert 'href="/runs/?equipment=FLOW_01"' in text
    assert '<input type="hidden" name="reason" value="not_in_manifest"' in text


def test_what_opens_within_a_day_is_told_and_can_be_taken_out(people, runs, now):
    for path, hours in ((SAFE, 24), (TEST_RUN, 25)):
        Run.objects.filter(pk=runs[path].pk).update(tone=Status.WAIT, opens_at=now + timedelta(hours=hours))
    assert len(people.operator.get("/runs/?verdict=wait").context["rows"]) == 3
    answer = people.operator.get("/runs/?verdict=wait&opens=day")
    assert [row.run.run_path for row in answer.context["rows"]] == [SAFE]
    text = answer.content.decode()
    assert "Opens within 24 h" in text
    assert 'href="/runs/?verdict=wait" aria-label="Show runs that open later, too"' in text
    assert '<input type="hidden" name="opens" value="day"' in text


def test_beyond_the_ceiling_is_not_counted(people, runs, many, monkeypatch):
    monkeypatch.setattr(run_rows, "COUNTED", 10)
    many(20)
    text = page(people.operator)
    assert "More than" in text
    totals = {one["total"].tone.code: one["total"] for one in people.operator.get("/runs/").context["totals"]}
    assert (totals["go"].runs, totals["go"].more) == (10, True)
    assert (totals["block"].runs, totals["block"].more) == (3, False)
    Run.objects.update(state="cleared", here=False)
    assert "More than 10 runs cleared" in page(people.operator, "?state=cleared")


def test_all_see_what_they_may_see(people, runs):
    user = User.objects.create_user("flow")
    user.user_permissions.add(*Permission.objects.filter(codename__in=["view_run", "clear_run", "hold_run"]))
    Access.objects.create(user=user, equipment="FLOW_01")
    client = Client()
    client.force_login(user)
    text = page(client)
    assert set(leaves(text)) == {leaf(EXTRA), leaf(TOUCHED)}
    assert "CONFOCAL_01" not in text
    assert "PROJ-0042" not in text
    assert client.get(f"/runs/{runs[SAFE].pk}/row/").status_code == 404
    assert client.get(f"/runs/{runs[EXTRA].pk}/row/").status_code == 200
    assert client.get(f"/runs/changes/?seen={runs[SAFE].pk}.0").status_code == 204
    assert leaves(page(client, "?equipment=CONFOCAL_01")) == leaves(text)
    Access.objects.filter(user=user).delete()
    assert "No run is staged." in page(client)


def test_a_viewer_of_two_places_clears_in_one(people, runs):
    user = User.objects.create_user("flow")
    user.user_permissions.add(Permission.objects.get(codename="clear_run"))
    user.groups.add(Group.objects.get(name="viewer"))
    Access.objects.create(user=user, equipment="FLOW_01")
    client = Client()
    client.force_login(user)
    text = page(client)
    assert len(leaves(text)) == 6
    assert "Clear now" not in row(text, SAFE)
    assert f"run-{runs[SAFE].pk}-pick" not in text
    assert "Compare every byte and clear" in row(text, TOUCHED)
    assert f"run-{runs[TOUCHED].pk}-pick" in text


def test_what_has_changed_of_the_rows(people, runs, now):
    people.operator.get("/runs/")
    seen = ",".join(f"{run.pk}.{run.doubts}" for run in Run.objects.all())
    assert people.operator.get(f"/runs/changes/?seen={seen}").status_code == 204
    holds.hold(runs[SAFE], owner="ada", reason="a figure", until=now + timedelta(days=30), now=now)
    answer = people.operator.get(f"/runs/changes/?seen={seen}&equipment=CONFOCAL_01")
    text = answer.content.decode()
    assert leaves(text) == [leaf(SAFE)]
    assert "On hold until" in text
    assert 'hx-swap-oob="true"' in text
    assert 'id="totals"' in text
    assert 'href="/runs/?equipment=CONFOCAL_01&amp;verdict=go"' in text


def test_a_row_that_counts_the_minutes_is_always_told(people, lab, root, runs, now):
    path = "FLOW_01/PROJ-0060/Runs/Run_2026-06-01T10-00"
    touch(lab.run(path) / "stack.ome.xml", now - timedelta(minutes=4))
    discovery.discover(root, now=now)
    run = Run.objects.get(run_path=path)
    text = page(people.operator)
    assert "Waits 6 min" in row(text, path)
    assert f'hx-get="/runs/{run.pk}/row/" hx-trigger="load delay:361s"' in text
    answer = people.operator.get(f"/runs/changes/?seen={run.pk}.{run.doubts}").content.decode()
    assert leaves(answer) == [leaf(path)]
    assert 'id="totals"' not in answer


def test_absurd_rows_have_not_changed(people, runs):
    for seen in ("", "x", "1", "1.", ".1", "-1.2", "9" * 30, ",,,", "1.2," * 3000, "%00", "\u0661.\u0661"):
        assert people.operator.get("/runs/changes/", {"seen": seen}).status_code in (200, 204), seen


def test_a_large_backlog_of_judgements_is_told(people, runs, many, monkeypatch):
    monkeypatch.setattr(run_views, "JUDGED_AT_ONCE", 5)
    many(20)
    Run.objects.doubt()
    assert "runs are being looked at again" in page(people.operator)


@pytest.mark.both_engines
@pytest.mark.parametrize(
    "sort", ["", "newest", *(pytest.param(sort, marks=pytest.mark.exhaustive) for sort in ("size", "oldest", "name"))]
)
def test_every_order_walks_an_index(people, runs, many, sort):
    many(200)
    people.operator.get("/runs/")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute("SET LOCAL enable_sort = off")
        with CaptureQueriesContext(connection) as asked:
            place = paging.page_of(Run.objects.here(), paging.ORDERS[sort], among=Run.objects.all(), size=5).after
            paging.page_of(Run.objects.here(), paging.ORDERS[sort], among=Run.objects.all(), after=place, size=5)
        walks = [query["sql"] for query in asked.captured_queries if "ORDER BY" in query["sql"]]
        assert len(walks) >= 2
        for statement in walks:
            cursor.execute(f"EXPLAIN {'QUERY PLAN ' if connection.vendor == 'sqlite' else ''}{statement}")
            plan = " ".join(str(line) for line in cursor.fetchall())
            # A row that is named by its key may be reached by the index of its root as well: SQLite calls that rowid.
            by_key = ("PRIMARY KEY", "pkey", "rowid=?")
            assert any(words in plan for words in ("run_here_by_", *by_key)), (statement, plan)
            assert "TEMP B-TREE FOR ORDER BY" not in plan, (statement, plan)


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
    assert "Scheduled: goes with the next pass." in row(page(people.operator), SAFE)


def test_on_a_staging_root_in_trouble_nothing_is_offered(people, root, runs):
    StagingRoot.objects.update(problem=Reason.ROOT_NOT_MOUNTED)
    text = page(people.operator)
    assert "Nothing is done on lab." in text
    assert Reason.ROOT_NOT_MOUNTED.sentence in row(text, SAFE)
    assert "Clear now" not in text
    assert "Select all safe" not in text
    totals = [one["total"] for one in people.operator.get("/runs/").context["totals"]]
    assert [(total.tone.code, total.runs) for total in totals][:3] == [("go", 0), ("wait", 1), ("block", 5)]
    assert leaves(page(people.operator, "?verdict=go")) == []
    assert leaf(SAFE) in leaves(page(people.operator, "?verdict=block"))


def test_a_silent_cluster_is_told_about(people, runs):
    assert "No task cluster is answering" in page(people.operator)


def test_a_beating_cluster_is_not(people, runs, beating):
    assert "No task cluster is answering" not in page(people.operator)


def test_a_cleared_run_moves_to_the_cleared_ones(people, runs, now):
    files, size = protocol.clear_run(runs[SAFE], now=now, actor="mkhan")
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
