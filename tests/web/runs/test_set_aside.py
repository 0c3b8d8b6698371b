"""Set aside and put back by click."""

from datetime import timedelta

import pytest

from cleanup import clear_run
from cleanup.models import LedgerEntry, Run, SetAside
from cleanup.runs import discovery
from cleanup.runs.set_aside import set_aside, set_aside_recovery
from tests.tools.lab import touch
from tests.tools.pages import SAFE

pytestmark = pytest.mark.one_engine


FILE = "tiles/late <b>.tif"


@pytest.fixture
def blocked(lab, root, now):
    path = lab.run(SAFE)
    (path / FILE).write_bytes(b"more")
    touch(path / FILE, now - timedelta(days=1))
    discovery.discover(root, now=now - timedelta(minutes=20))
    return Run.objects.with_root().get(), path


def address(run, name="set-aside"):
    return f"/runs/{run.pk}/{name}/"


def take(client, run, name="set-aside", **more):
    asked = client.get(address(run, name))
    return client.post(address(run, name), {"seen": asked.context["seen"], "note": "a screenshot", **more}, follow=True)


def page(client, run):
    return client.get(f"/runs/{run.pk}/").content.decode()


def test_an_admin_sets_aside_and_the_run_is_clearable(people, blocked, now):
    run, path = blocked
    assert address(run) in page(people.admin, run) and address(run) not in page(people.operator, run)
    asked = people.admin.get(address(run)).content.decode()
    assert "tiles/late &lt;b&gt;.tif" in asked and "Nothing is removed" in asked
    answer = take(people.admin, run).content.decode()
    assert "1 file set aside" in answer and 'id="clear"' in answer
    assert f".exlab-set-aside/{path.name}/tiles/late &lt;b&gt;.tif" in answer and "a screenshot" in answer
    assert not (path / FILE).exists()
    assert FILE.replace("<b>", "&lt;b&gt;") in people.viewer.get("/problems/").content.decode()
    assert clear_run(Run.objects.with_root().get(), now=now)[0] > 0
    assert "Set aside" in page(people.viewer, run) and address(run, "put-back") not in page(people.admin, run)


def test_an_unknown_file_beside_the_record_is_set_aside_too(people, lab, root, now):
    path = lab.run(SAFE)
    (path / ".exlab-wizard/ingest.json~").write_bytes(b"{}")
    touch(path / ".exlab-wizard/ingest.json~", now - timedelta(days=1))
    discovery.discover(root, now=now - timedelta(minutes=20))
    run = Run.objects.with_root().get()
    assert ".exlab-wizard/ingest.json~" in people.admin.get(address(run)).content.decode()
    answer = take(people.admin, run).content.decode()
    assert "1 file set aside" in answer and 'id="clear"' in answer
    take(people.admin, run, "put-back")
    assert (path / ".exlab-wizard/ingest.json~").read_bytes() == b"{}"
    assert "unexpected_metadata" in page(people.admin, run)


def test_a_file_of_the_wizards_is_never_set_aside(lab, root, now):
    path = lab.run(SAFE)
    discovery.discover(root, now=now)
    run = Run.objects.with_root().get()
    for name in (".exlab-wizard/ingest.json", ".exlab-wizard/ingest.json.lock", ".exlab-wizard/checksums.sha256"):
        with pytest.raises(set_aside.NotSetAside):
            set_aside.set_aside(run, [name.encode()], actor="ann", reason="x", now=now)
        assert (path / name).exists()


def test_twice_or_by_two_it_is_done_once(people, blocked):
    run, _ = blocked
    seen = people.admin.get(address(run)).context["seen"]
    data = {"seen": seen, "note": "a screenshot"}
    people.admin.post(address(run), data)
    answer = people.admin.post(address(run), data, follow=True).content.decode()
    assert "is not needed any more" in answer
    assert SetAside.objects.count() == LedgerEntry.objects.count() == 1


def test_an_old_page_asks_anew(people, blocked, now):
    run, path = blocked
    seen = people.admin.get(address(run)).context["seen"]
    (path / "another.tif").write_bytes(b"1")
    touch(path / "another.tif", now - timedelta(days=1))
    answer = people.admin.post(address(run), {"seen": seen, "note": "x"}, follow=True).content.decode()
    assert "has changed since this page was shown" in answer and "another.tif" in answer
    assert (path / FILE).exists() and not SetAside.objects.exists()


def test_without_a_reason_or_the_right_nothing_is_done(people, blocked):
    run, path = blocked
    assert take(people.admin, run, note=" ").status_code == 422
    for client in (people.operator, people.viewer, people.nobody):
        client.post(address(run), {"note": "x"})
    assert (path / FILE).exists()


def test_a_refusal_is_told(people, blocked, now):
    run, path = blocked
    (path / ".exlab-hold").touch()
    assert "by the file .exlab-hold" in take(people.admin, run).content.decode()
    assert (path / FILE).exists()


def test_put_back_by_click(people, blocked):
    run, path = blocked
    take(people.admin, run)
    assert "1 file put back" in take(people.admin, run, "put-back").content.decode()
    assert (path / FILE).read_bytes() == b"more"
    assert address(run) in page(people.admin, run) and address(run, "put-back") not in page(people.admin, run)


def test_what_was_taken_away_is_told_so(people, blocked, root, now):
    run, path = blocked
    take(people.admin, run)
    (path.parent / ".exlab-set-aside" / path.name / FILE).unlink()
    assert set_aside_recovery.look(root, now=now) == 1
    assert "taken away" in page(people.viewer, run)
    assert "Set aside" not in people.viewer.get("/problems/").content.decode()


def test_the_question_says_why_not_for_a_run_without_a_manifest(people, blocked):
    run, path = blocked
    (path / ".exlab-wizard/checksums.sha256").unlink()
    assert "no manifest" in people.admin.get(address(run)).content.decode()
