import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tests.faults import children, lying, report
from tests.faults.explorer import Explored, new_attempt
from tests.faults.lying import (
    DIRECT,
    REMEMBERED,
    REMOTE_UNION,
    SERVED,
    SETTINGS,
    Place,
    ReaderHere,
    Setting,
    apart,
)
from tests.faults.means import Unavailable, skip_or_fail
from tests.faults.mutants import SIGNS, Sign
from tests.faults.stage import Stage, look, same

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_engine]

FENCED = "cleanup.storage.staging.fences:fence:after:1"


@contextlib.contextmanager
def mounting(base: Path, now: datetime, setting: Setting, **how: Any) -> Iterator[tuple[Place, Stage]]:
    try:
        with apart(base / "lab", now, setting, **how) as found:
            yield found
    except Unavailable as missing:
        skip_or_fail(missing)


def explore(base: Path, now: datetime, setting: Setting, **how: int) -> list[Explored]:
    with mounting(base, now, setting) as (place, stage):
        found = lying.one_place(place, stage, setting, **how)
    for explored in found:
        report.explored(f"NAS becomes {explored.kind}", explored.points, len(explored.violations))
    violations = [violation for explored in found for violation in explored.violations]
    assert not violations, "\n".join(map(str, violations[:20]))
    return found


@pytest.mark.parametrize(("setting", "late"), [(DIRECT, 1), (SERVED, 2), (REMEMBERED, 4)], ids=str)
def test_a_nas_that_becomes_one_with_staging(setting: Setting, late: int, tmp_path: Path, now: datetime) -> None:
    """A sample of the points; takes 5 s for all settings."""
    for explored in explore(tmp_path, now, setting, late=late):
        assert explored.points > late, explored.kind


@pytest.mark.both_engines
@pytest.mark.exhaustive
@pytest.mark.timeout(600)
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_everywhere(setting: Setting, tmp_path: Path, now: datetime) -> None:
    """All points: each engine takes every other operation."""
    skip = 0 if connection.vendor == "sqlite" else 1
    for explored in explore(tmp_path, now, setting, every=2, skip=skip):
        assert explored.points >= 12, explored.kind


@pytest.mark.parametrize("sign", SIGNS, ids=str)
def test_a_sign_that_is_left_out_is_missed(sign: Sign, tmp_path: Path, now: datetime) -> None:
    """For each sign there is an arrangement of mounts that only it detects; takes 2 s each."""
    found = where_it_is_missed(sign, tmp_path, now, leave_out=True)
    report.planted(noticed=1 in found)
    assert 1 in found


@pytest.mark.exhaustive
@pytest.mark.parametrize("sign", SIGNS, ids=str)
def test_a_sign_that_stands_is_enough(sign: Sign, tmp_path: Path, now: datetime) -> None:
    assert not where_it_is_missed(sign, tmp_path, now, leave_out=False)


def where_it_is_missed(sign: Sign, base: Path, now: datetime, *, leave_out: bool) -> set[int]:
    left_out = sign.leave_out() if leave_out else contextlib.nullcontext()
    with mounting(base, now, sign.setting, read_by=ReaderHere) as (place, stage), left_out:
        found = lying.one_place(place, stage, sign.setting, after=sign.after, limit=1)
    return {violation.promise for explored in found for violation in explored.violations}


@pytest.mark.exhaustive
def test_a_worker_whose_nas_forgets_the_copy_but_not_its_name(
    tmp_path: Path, now: datetime, subprocess_env: dict[str, str]
) -> None:
    """A separate process has proven and fenced the run when the copy goes; takes 2 s."""
    with mounting(tmp_path, now, REMEMBERED) as (place, stage):
        attempt = new_attempt(stage)
        env = {**subprocess_env, "EXLAB_DATA_DIR": str(stage.data)}
        worker = children.pause_at(FENCED, env, "clear", stage.now, str(attempt.pk))
        (place.far / stage.subject.run.run_path).rename(place.disk / "away")
        phase, *_counts = children.resume(worker)
        assert phase == "refused"
        assert same(stage.subject.before, look(stage.subject.path))


def test_a_worker_whose_nas_is_a_union_with_staging(
    tmp_path: Path, now: datetime, subprocess_env: dict[str, str]
) -> None:
    """A separate process is shown the staged run as its own copy; takes 2 s."""
    with mounting(tmp_path, now, DIRECT) as (place, stage):
        attempt = new_attempt(stage)
        env = {**subprocess_env, "EXLAB_DATA_DIR": str(stage.data)}
        (place.far / stage.subject.run.run_path).rename(place.disk / "away")
        with REMOTE_UNION.begins(place, stage):
            phase, *_counts = children.run(env, "clear", stage.now, str(attempt.pk))
        assert phase == "refused"
        assert same(stage.subject.before, look(stage.subject.path))
