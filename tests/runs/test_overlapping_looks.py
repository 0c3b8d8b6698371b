"""A look at a run while a clear, an operator or another process is at the same run."""

import shutil
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from cleanup import clear_run
from cleanup.clears import queue
from cleanup.clears.queue import ClearRequest
from cleanup.models import Requester, Run, StagingRoot
from cleanup.runs import at_path, discovery, rows
from cleanup.runs.holds import holds
from tests.faults import means
from tests.runs.moved_or_gone.test_returned import come_back, first_clear
from tests.tools.lab import METADATA, RUN_PATH, Lab

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


@pytest.mark.parametrize("seam", [(at_path, "read"), (rows, "row_for")], ids=["rows unread", "rows read"])
@pytest.mark.parametrize("kind", ["ingest", "sync_state", "returned"])
def test_a_run_that_is_cleared_during_a_look_is_not_called_one_that_came_back(
    lab: Lab, root: StagingRoot, now: datetime, monkeypatch: pytest.MonkeyPatch, kind: str, seam: tuple[Any, str]
) -> None:
    if kind == "returned":
        first_clear(lab, root, now)
        run = come_back(lab, root, now + DAY)
    else:
        lab.run(record=kind)
        discovery.discover(root, now=now)
        run = Run.objects.get()
    before = Run.objects.count()
    with means.before(monkeypatch, *seam, lambda: clear_run(Run.objects.get(pk=run.pk), now=now + DAY)):
        discovery.discover(root, now=now + DAY)
    assert not (lab.staging / RUN_PATH).exists()
    assert (Run.objects.count(), Run.objects.staged().count()) == (before, 0)
    found = discovery.discover(root, now=now + 2 * DAY)
    assert found is not None and (found.new, found.problems) == (0, [])


@pytest.fixture
def goes_on(lab: Lab, root: StagingRoot, now: datetime, tmp_path: Any) -> Run:
    """A known run whose record says more than its row."""
    path = lab.run(state="complete")
    discovery.discover(root, now=now)
    later = Lab(tmp_path / "later").run()
    for name in ("ingest.json", "checksums.sha256"):
        shutil.copy2(later / METADATA / name, path / METADATA / name)
    return Run.objects.with_root().get()


def ask_for_a_clear(run: Run, now: datetime) -> None:
    queue.new_attempt(run, ClearRequest(requester=Requester.OPERATOR, actor="ada"), now=now)


def lay_a_hold(run: Run, now: datetime) -> None:
    holds.hold(run, owner="ada", reason="not yet", until=now + 9 * DAY, now=now)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("act", "states"), [(ask_for_a_clear, {"complete"}), (lay_a_hold, {"sync_verified"})])
def test_what_another_process_commits_while_a_look_waits_for_its_row_is_seen(
    goes_on: Run,
    root: StagingRoot,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Run, datetime], None],
    states: set[str],
) -> None:
    """Takes a second: the other process keeps the row locked while the look waits."""
    locked, looks = threading.Event(), threading.Event()

    def other_process() -> None:
        with transaction.atomic():
            Run.objects.select_for_update().get(pk=goes_on.pk)
            locked.set()
            looks.wait(20)
            if connection.vendor == "postgresql":
                threading.Event().wait(0.5)  # until the look waits for the lock
            act(goes_on, now)
        connection.close()

    seen: list[Run | None] = []
    row_for = rows.row_for

    def noted(*args: Any) -> tuple[Run | None, str]:
        looks.set()
        if connection.vendor == "sqlite":
            thread.join()  # one writer at a time: the look comes second
        found = row_for(*args)
        seen.append(found[0])
        return found

    thread = threading.Thread(target=other_process)
    thread.start()
    assert locked.wait(20)
    monkeypatch.setattr(rows, "row_for", noted)
    discovery.discover(root, now=now + DAY)
    thread.join()
    assert Run.objects.get().state in states
    (run,) = seen
    if act is lay_a_hold:
        assert run is not None and run.has_more and [hold.owner for hold in run.holds.all()] == ["ada"]
    else:
        assert run is None  # a run with an active attempt is left alone
