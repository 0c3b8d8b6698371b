"""Ways out: offered where they help, asked before they act, done once."""

from datetime import timedelta

import pytest
from django.utils import timezone

from cleanup.models import Run, StagingRoot
from cleanup.runs import discovery
from tests.tools.lab import touch
from tests.tools.pages import SAFE

pytestmark = pytest.mark.one_engine


@pytest.fixture
def blocked(lab, root, now):
    path = lab.run(SAFE)
    (path / "more.tif").write_bytes(b"more")
    discovery.discover(root, now=now - timedelta(minutes=20))
    return Run.objects.with_root().get(), path


def page(client, run):
    return client.get(f"/runs/{run.pk}/").content.decode()


def test_after_mending_a_run_is_looked_at_again_at_a_click(people, blocked):
    run, path = blocked
    assert "not_in_manifest" in page(people.operator, run)
    address = f"/runs/{run.pk}/look-again/"
    assert address in page(people.operator, run) and address not in page(people.viewer, run)
    assert "as discovery does" in people.operator.get(address).content.decode()
    (path / "more.tif").unlink()
    answer = people.operator.post(address, follow=True)
    assert "Looked at just now." in answer.content.decode()
    run.refresh_from_db()
    assert not run.facts["tree_findings"]


def test_a_button_of_an_old_page_says_that_it_is_not_needed_any_more(people, blocked, root, now):
    run, path = blocked
    (path / "more.tif").unlink()
    discovery.discover(root, now=now + timedelta(hours=1))
    for answer in (
        people.operator.get(f"/runs/{run.pk}/look-again/", follow=True),
        people.operator.post(f"/runs/{run.pk}/look-again/", follow=True),
    ):
        assert "“Look again” is not needed any more" in answer.content.decode()


def test_a_run_that_stays_as_it_was_is_told_so(people, blocked):
    run, _ = blocked
    answer = people.operator.post(f"/runs/{run.pk}/look-again/", follow=True)
    assert "it stands as before" in answer.content.decode()


def test_a_button_that_a_problem_of_the_disk_offers_is_there_when_it_is_clicked(people, lab, root, now):
    lab.run(SAFE)
    discovery.discover(root, now=now)
    StagingRoot.objects.update(problem="root_not_mounted")
    address = f"/runs/{Run.objects.get().pk}/look-again/"
    assert address in page(people.operator, Run.objects.get())
    assert people.operator.get(address).status_code == 200


def test_a_run_that_waits_to_be_at_rest_is_looked_at_as_well(people, lab, root):
    path = lab.run(SAFE) / "tiles" / "t_0000.tif"
    at = timezone.now()
    for written, reason in ((at, "not_quiet"), (at + timedelta(days=2), "future_dated")):
        touch(path, written)
        discovery.discover(root, now=at)
        shown = page(people.operator, Run.objects.get())
        assert reason in shown and f"/runs/{Run.objects.get().pk}/look-again/" in shown
