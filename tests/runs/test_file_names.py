"""A search by file name stops where its time is over, and goes on there."""

import hashlib
from collections.abc import Callable
from datetime import datetime
from itertools import count

import pytest
from django.conf import settings

from cleanup.lab.roots import opening
from cleanup.models import ClearAttempt, StagingRoot
from cleanup.runs import file_names
from cleanup.runs.file_names import FileSearch, FoundNames
from cleanup.storage.staging import plan
from cleanup.storage.staging.run_tree import Entry
from tests.tools.rows import clear_rows, run_row

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]


@pytest.fixture
def runs(now: datetime) -> list[int]:
    """Three cleared runs with 6,000 files; the second has one `movie` at its beginning, the third at its end."""
    root = StagingRoot.objects.create(name="lab", host=settings.EXLAB_HOST, path="/srv/lab", token="t")
    keys = []
    for number, movie_at in enumerate((None, 10, 5_990)):
        path = f"FLOW_01/PROJ-0060/Runs/Run_2026-04-1{number}T14-32"
        run = run_row(root, path, first_seen_at=now, state="cleared", here=False)
        attempt = clear_rows(run, now, files=1, size=1)
        names = (f"{'movie' if file == movie_at else 'tile'}_{file}.tif".encode() for file in range(6_000))
        entries = tuple(Entry(name, True, 5, 1, 10, 10, 1, 1) for name in names)
        content = plan.encode(plan.Plan(attempt.pk.hex, path, 4, entries))
        opening.data_dir().write_plan(attempt.pk.hex, content)
        ClearAttempt.objects.filter(pk=attempt.pk).update(plan_sha256=hashlib.sha256(content).hexdigest())
        keys.append(run.pk)
    return keys


def search(keys: list[int], seconds: int) -> FileSearch:
    """Each look at the clock takes a second."""
    ticks = count()
    clock: Callable[[], float] = lambda: float(next(ticks))  # noqa: E731
    candidates = [[(key, key) for key in keys]]
    return file_names.search(candidates, "MOVIE", size=9, seconds=seconds, clock=clock)


def test_the_first_list_is_read_to_its_end_however_little_the_time(runs: list[int]) -> None:
    first = search(runs, 0)
    assert (first.found, first.last, first.looked, first.goes_on) == ({}, (runs[0], runs[0]), 1, True)
    last = search(runs[2:], 0)
    assert last.found == {runs[2]: FoundNames(("movie_5990.tif",))} and not last.goes_on


def test_a_list_that_the_time_cuts_counts_once_something_was_found_in_it(runs: list[int]) -> None:
    cut = search(runs, 2)  # one look before the second list, one at its first name
    assert cut.found == {runs[1]: FoundNames(("movie_10.tif",), more=True)} and cut.looked == 2 and cut.goes_on
    # The third list is left for the next search, for its name comes too late.
    left = search([runs[0], runs[2]], 3)
    assert (left.found, left.last, left.looked, left.goes_on) == ({}, (runs[0], runs[0]), 1, True)
    whole = search(runs, 100)
    assert [*whole.found] == runs[1:] and whole.looked == 3 and not whole.goes_on
    assert not any(names.more for names in whole.found.values())
